"""Lesson 7: what is asked of a language model."""

import inspect

import torch

from toy.given.transformer import LayerCache


def answered(call):
    """What `call` returns, a dict, and that nothing was refused; or the words in which a ValueError refuses the input."""
    try:
        return {"refusal": None, **call()}
    except ValueError as error:
        return {"refusal": str(error)[:300]}


def hidden(module, time, past):
    return answered(lambda: {"hidden": module.causal_mask(time, past)})


def attention(module, heads, weights, x, upstream, mask=None, pieces=None):
    """The output, the gradients of sum(output * upstream), and, if nothing is padded, which later tokens an output depends on.

    pieces: the tokens are read in pieces of these lengths, with a cache.
    """
    layer = module.CausalSelfAttention(x.shape[-1], heads).double()
    layer.load_state_dict(weights, strict=False)
    x.requires_grad_(True)
    before = None if mask is None else mask.clone()
    output = in_pieces(layer, x, mask, pieces, LayerCache())
    answer = {"output": output, "dtype": str(output.dtype), "mask_unchanged": mask is None or bool(torch.equal(mask, before))}
    if mask is None and pieces is None:
        answer["depends_on_later"] = dependence(output[0], upstream[0], x)[:, 0].triu(1)
    return {**answer, "gradients": gradients((output * upstream).sum(), {"x": x, **dict(layer.named_parameters())})}


def block(module, dim, heads, weights, x, upstream, mask=None, pieces=None):
    """Names and shapes of the parameters; with these weights the output and the gradients of sum(output * upstream)."""
    layer = module.Block(dim, heads).double()
    if shapes(layer) != {name: list(value.shape) for name, value in weights.items()}:
        return {"parameters": shapes(layer)}
    layer.load_state_dict(weights, strict=False)
    x.requires_grad_(True)
    output = in_pieces(layer, x, mask, pieces, LayerCache())
    leaves = {"x": x, **dict(layer.named_parameters())}
    return {"parameters": shapes(layer), "output": output, "gradients": gradients((output * upstream).sum(), leaves)}


def tiny_gpt(module, sizes, weights, tokens, upstream, mask=None, pieces=None):
    """Names and shapes of the parameters; the logits of the real tokens, (real, vocabulary), and the gradients of
    sum(logits * upstream) over them; and, if nothing is padded, which later positions logits depend on."""

    def run():
        model = module.TinyGPT(**sizes).double()
        if shapes(model) != {name: list(value.shape) for name, value in weights.items()}:
            return {"parameters": shapes(model)}
        model.load_state_dict(weights, strict=False)
        real = torch.ones(tokens.shape, dtype=torch.bool) if mask is None else mask.clone()
        logits = in_pieces(model, tokens, mask, pieces, model.new_cache())
        answer = {
            "parameters": shapes(model),
            "logits": logits[real],
            "dtype": str(logits.dtype),
            "finite": bool(logits.isfinite().all()),
            "mask_unchanged": mask is None or bool(torch.equal(mask, real)),
        }
        if mask is None and pieces is None:
            reached = dependence(logits[0], upstream[: tokens.shape[1]], model.position.weight)
            answer["depends_on_later"] = reached[:, : tokens.shape[1]].triu(1)
        total = (logits[real] * upstream).sum()
        return {**answer, "gradients": gradients(total, dict(model.named_parameters()))}

    return answered(run)


def loss_and_gradient(module, logits, tokens, mask, table=None):
    """The loss and its gradient by the logits. (table: of the language model that the logits are from.)"""

    def run():
        logits.requires_grad_(True)
        loss = module.next_token_loss(logits, tokens, mask)
        return {"loss": loss, "dtype": str(loss.dtype), "gradient": gradients(loss, {"logits": logits})["logits"]}

    return answered(run)


class Bigrams(torch.nn.Module):
    """A language model that is two tables: logits by the token before and by the position, which counts real tokens alone."""

    def __init__(self, by_token, by_position):
        super().__init__()
        self.by_token, self.by_position = torch.nn.Parameter(by_token.clone()), torch.nn.Parameter(by_position.clone())

    def forward(self, tokens, mask=None, cache=None):
        real = torch.ones(tokens.shape, dtype=torch.long) if mask is None else mask.long()
        return self.by_token[tokens] + self.by_position[(real.cumsum(1) - 1).clamp(min=0)]


def training_replay(module, by_token, by_position, batches, rates, optimizer_rate, max_norm):
    """`pretrain` on two tables by plain gradient descent: its losses, and the tables after every step."""
    model, path, steps = Bigrams(by_token, by_position), [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=optimizer_rate)

    def after_step(step):
        steps.append(int(step))
        path.append(torch.cat([model.by_token.detach(), model.by_position.detach()]).clone())

    rate = None if rates is None else lambda step: float(rates[step])
    pairs = ((batch["tokens"], batch["mask"]) for batch in batches)
    losses = module.pretrain(model, pairs, optimizer, rate, max_norm, after_step)
    return {
        "losses": losses,
        "dtype": str(losses.dtype),
        "graph": bool(losses.requires_grad),
        "after_step_called_with": steps,
        "tables_after_each_step": torch.stack(path) if path else None,
    }


def trained_tables(module, batches, learning_rate):
    """Two tables after `pretrain` with Adam on these batches, from zero."""
    model = Bigrams(torch.zeros(4, 4, dtype=torch.float64), torch.zeros(5, 4, dtype=torch.float64))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    pairs = ((tokens, torch.ones_like(tokens, dtype=torch.bool)) for tokens in batches)
    module.pretrain(model, pairs, optimizer, lambda step: learning_rate * (1 - step / len(batches)))
    return {"by_token": model.by_token, "by_position": model.by_position}


def distribution(module, logits, upstream, temperature, top_k, top_p):
    """The log-probabilities, and the gradient of sum(log_probs * upstream) over those that are finite."""

    def run():
        before = logits.clone()
        logits.requires_grad_(True)
        log_probs = module.next_token_distribution(logits, temperature, top_k, top_p)
        kept = torch.where(log_probs.isfinite(), log_probs * upstream, 0.0).sum()
        return {
            "log_probs": log_probs,
            "dtype": str(log_probs.dtype),
            "gradient": gradients(kept, {"logits": logits})["logits"],
            "logits_unchanged": bool(torch.equal(logits, before)),
        }

    return answered(run)


def draws(module, logits, temperature, top_k, top_p, count, seed):
    """How often each token comes in `count` draws for each row, all in one call; whether a few rows come again from one seed."""

    def run():
        rows, vocabulary = logits.shape
        tokens, once, again = (
            module.sample_next(logits.repeat(times, 1), temperature, top_k, top_p, torch.Generator().manual_seed(seed))
            for times in (count, 8, 8)
        )
        same = bool(torch.equal(once, again))
        answer = {"dtype": str(tokens.dtype), "shape": list(tokens.shape), "same_seed_same_tokens": same}
        if answer["shape"] == [rows * count]:
            by_row = tokens.reshape(count, rows).T
            answer["counts"] = torch.stack([torch.bincount(row, minlength=vocabulary) for row in by_row])
        return answer

    return answered(run)


def completion(module, logits, tokens, sampled, temperature, top_k, top_p):
    """The log-probabilities, their sum over each row, and the gradient of the sum of all that are finite."""

    def run():
        logits.requires_grad_(True)
        log_probs = module.completion_log_probs(logits, tokens, sampled, temperature, top_k, top_p)
        total = torch.where(log_probs.isfinite(), log_probs, 0.0).sum()
        return {
            "log_probs": log_probs,
            "sum_of_probabilities": log_probs.sum(-1).exp().sum(),
            "dtype": str(log_probs.dtype),
            "gradient": gradients(total, {"logits": logits})["logits"],
        }

    return answered(run)


class Fading(torch.nn.Module):
    """A language model whose logits are the sum of a row of a table for each real token so far, each fading with its distance,
    and of a row for the position. It keeps a cache as TinyGPT does, and remembers what it was given to read."""

    def __init__(self, by_token, by_position, fading):
        super().__init__()
        self.by_token, self.by_position = torch.nn.Parameter(by_token), torch.nn.Parameter(by_position)
        self.fading, self.read, self.caches = torch.tensor(fading, dtype=by_token.dtype), [], 0

    def new_cache(self):
        self.caches += 1
        return [LayerCache()]

    def forward(self, tokens, mask=None, cache=None):
        self.read.append(list(tokens.shape))
        batch, time = tokens.shape
        past = 0 if cache is None else cache[0].past
        rows = self.by_token[tokens].unsqueeze(1)
        if cache is not None:
            rows, _ = cache[0].extend(rows, rows)
        real = torch.ones(batch, past + time, dtype=torch.bool) if mask is None else mask
        if tuple(real.shape) != (batch, past + time):
            raise ValueError(f"mask: expected shape {(batch, past + time)}, received {tuple(real.shape)}")
        places = (real.long().cumsum(1) - 1).clamp(min=0)
        distance = places[:, past:, None] - places[:, None, :]  # (batch, time, past + time)
        later = torch.arange(past + time) > torch.arange(past, past + time).unsqueeze(1)
        weights = (self.fading ** distance.clamp(min=0)).masked_fill(later | ~real[:, None, :], 0.0)
        return weights @ rows[:, 0] + self.by_position[places[:, past:]]


class ScriptedDraws:
    """Stands in for the file's `sample_next`: draws what a list says, and remembers what it was called with."""

    def __init__(self, module, script):
        self.module, self.original, self.script, self.calls = module, module.sample_next, script, []

    def __enter__(self):
        signature = inspect.signature(self.original)

        def sample_next(*args, **kwargs):
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            self.calls.append(call.arguments)
            return self.script[min(len(self.calls), len(self.script)) - 1].clone()

        self.module.sample_next = sample_next
        return self

    def __exit__(self, *_):
        self.module.sample_next = self.original


def continuations(
    module, by_token, by_position, fading, prompts, max_new_tokens, script, settings, eos, pad, mask, use_cache, seed
):
    """`generate` on a known model with scripted draws: tokens, what was sampled, and what every draw was made from."""

    def run():
        model, generator = Fading(by_token, by_position, fading), torch.Generator().manual_seed(seed)
        given = (prompts.clone(), None if mask is None else mask.clone())
        with ScriptedDraws(module, script) as asked:
            tokens, sampled = module.generate(
                model,
                prompts,
                max_new_tokens,
                eos=eos,
                pad=pad,
                mask=mask,
                generator=generator,
                use_cache=use_cache,
                **settings,
            )
        ended, logits = torch.zeros(len(prompts), dtype=torch.bool), []
        for call, drawn in zip(asked.calls, script):
            logits.append(call["logits"].detach().masked_fill(ended.unsqueeze(1), 0.0))  # of rows still running
            ended = ended | (drawn == eos)
        same = torch.equal(prompts, given[0]) and (mask is None or torch.equal(mask, given[1]))
        return {
            "tokens": tokens,
            "sampled": sampled,
            "logits_drawn_from": torch.stack(logits),
            "model_read": model.read,
            "caches_made": model.caches,
            "drawn_with": [{name: call[name] for name in ("temperature", "top_k", "top_p")} for call in asked.calls],
            "seeds": [call["generator"].initial_seed() if call["generator"] is not None else None for call in asked.calls],
            "graph": any(call["logits"].requires_grad for call in asked.calls),
            "arguments_unchanged": same,
        }

    return answered(run)


# what the probes share


def in_pieces(layer, inputs, mask, pieces, cache):
    """The layer's output for the inputs, at once or in pieces with a cache, in one tensor."""
    if pieces is None:
        return layer(inputs, mask)
    outputs, past = [], 0
    for time in pieces:
        seen = None if mask is None else mask[:, : past + time]
        outputs.append(layer(inputs[:, past : past + time], seen, cache))
        past += time
    return torch.cat(outputs, dim=1)


def shapes(module):
    return {name: list(parameter.shape) for name, parameter in module.named_parameters()}


def gradients(total, leaves):
    """d total / d each leaf; zeros where none arrives."""
    if not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found)}


def dependence(output, directions, leaf):
    """Whether row t of the output changes with entry j of the leaf, by the gradient: (rows, *leaf.shape[:-1]) booleans."""
    rows = []
    for row, direction in zip(output, directions):
        total = (row * direction).sum()
        gradient = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)[0] if total.requires_grad else None
        rows.append(torch.zeros(leaf.shape[:-1], dtype=torch.bool) if gradient is None else (gradient != 0).any(-1))
    return torch.stack(rows)
