"""Lesson 10: what is asked of the divergence, its estimators, the shaped reward, the controller, the loop and the sweep."""

import copy

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

from autograder.probes import refusal, refuses
from full.given.loop import Loop
from full.given.settings import KLConfig
from full.given.text import Prompts, Rollout

LOGGED = ("reward", "shaped_reward", "kl", "kl_k3", "loss", "alpha", "entropy", "completion_length", "eos_rate")
EOS = 1  # where a rollout has one


def rows_kl(module, policy_logits, ref_logits, mask, junk, direction, differentiate):
    """`compute_kl_divergence` of log-softmaxes of logits. `junk` is added where the mask is False."""
    leaves = {"policy_logits": policy_logits.requires_grad_(True), "ref_logits": ref_logits.requires_grad_(True)}
    outside = _outside(mask, junk).unsqueeze(-1)
    log_probs, ref_log_probs = (logits.log_softmax(-1) + outside for logits in leaves.values())
    told = _ask(module.compute_kl_divergence, log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    return _with_gradients(told, direction, differentiate, leaves)


def estimator(module, name, log_probs, ref_log_probs, mask, junk, direction, differentiate):
    """k1, k2 or k3, by its name, and the gradients by both arguments: zeros where none arrives."""
    leaves = {"log_probs": log_probs.requires_grad_(True), "ref_log_probs": ref_log_probs.requires_grad_(True)}
    given = {name: leaf + _outside(mask, junk) for name, leaf in leaves.items()}
    return _with_gradients(_ask(getattr(module, name), **given, mask=mask), direction, differentiate, leaves)


def shaped(module, rewards, log_probs, ref_log_probs, mask, junk, alpha):
    """The shaped rewards, and whether they carry a gradient though everything they are made of does."""
    given = {"log_probs": log_probs.requires_grad_(True), "ref_log_probs": ref_log_probs.requires_grad_(True)}
    given = {name: leaf + _outside(mask, junk) for name, leaf in given.items()}
    told = _ask(module.kl_shaped_reward, rewards=rewards.requires_grad_(True), **given, mask=mask, alpha=alpha)
    return {**told, "carries a gradient": told["value"].requires_grad}


def controller(module, alpha, target, horizon, kls, samples):
    """What the controller says, and what it holds, after each batch; the KL comes as a number or as a tensor of one number."""
    one = module.AdaptiveKLController(alpha, target, horizon)
    told, held = [], [float(one.alpha)]
    for place, (kl, count) in enumerate(zip(kls.tolist(), samples.tolist())):
        told.append(one.update(torch.tensor(kl, dtype=torch.float64) if place % 2 else kl, count))
        held.append(float(one.alpha))
    plain = all(type(value) is float for value in told)
    return {"returned": [float(value) for value in told], "alpha": held, "Python floats": plain}


def training(module, policy, places, reference, ref_places, tokens, attention, prompt_length, rewards, settings, more):
    """`train` by plain gradient descent on tables, with the rollouts and rewards of every step from lists."""
    config = KLConfig(new_tokens=tokens.shape[-1] - prompt_length, **settings)
    model, anchor = Tables(policy, places), Tables(reference, ref_places)
    beginnings = tokens[:, :: config.group_size, :prompt_length], attention[:, :: config.group_size, :prompt_length]
    loop = ScriptedLoop(
        model,
        [Prompts(*both) for both in zip(*beginnings)],
        torch.optim.SGD(model.parameters(), lr=more["learning_rate"]),
        config,
        reference=anchor,
        eos_token_id=EOS,
    )
    loop.script = [Rollout(t, a, prompt_length) for t, a in zip(tokens, attention)]
    loop.scripted_rewards, loop.processes = rewards, more["processes"]
    if more["kept"] is not None:
        loop.kept["alpha"] = more["kept"]
    module.train(loop, config)
    return {
        "log": [{name: row[name] for name in LOGGED if name in row} for row in loop.rows],
        "the policy after each step": torch.stack(loop.seen) if loop.seen else None,
        "its places": model.places,
        "kept alpha": float(loop.kept.get("alpha", "nan")),
        "prompts asked for": torch.stack(loop.asked) if loop.asked else None,
        "the reference changed": not (torch.equal(anchor.table, reference) and torch.equal(anchor.places, ref_places)),
        "the reference has a gradient": anchor.table.grad is not None,
        "the reference was scored with a graph": anchor.with_graph,
    }


def trained(module, weights, rewards, seed, settings, steps, batch, learning_rate):
    """The weights, by name, of a tiny GPT-2 after `train`. It starts as the reference, whose matrices are `weights`."""
    vocabulary, length = len(weights["transformer.wte.weight"]), len(weights["transformer.wpe.weight"]) - 1
    reference = small_gpt2(weights, vocabulary, length)
    policy, powers = copy.deepcopy(reference), vocabulary ** torch.arange(length - 1, -1, -1)
    prompts = Prompts(torch.zeros(batch, 1, dtype=torch.long), torch.ones(batch, 1, dtype=torch.long))

    def scores(rollout):
        return rewards[(rollout.completion * powers).sum(1)]

    loop = FallingRate(
        policy,
        [prompts] * steps,
        torch.optim.Adam(policy.parameters(), lr=learning_rate),
        KLConfig(new_tokens=length, **settings),
        scores=scores,
        reference=reference.requires_grad_(False),
        generator=torch.Generator().manual_seed(seed),
    )
    loop.steps = steps
    module.train(loop, loop.config)
    return {"weights": {name: value for name, value in policy.state_dict().items() if name != "lm_head.weight"}}


def regime(module, runs):
    return {"regimes": [module.regime(*run) for run in runs]}


def sweep(module, alphas, results):
    """The rows of a sweep whose runs answer from a list, which alphas were asked for, and whether the runs' figures were kept."""
    asked, given = [], copy.deepcopy(results)

    def run(alpha):
        asked.append(float(alpha))
        return given[len(asked) - 1]

    rows = module.sweep(run, alphas)
    return {"rows": [dict(row) for row in rows], "asked": asked, "the runs' figures are left alone": given == results}


def controller_refuses(module, good, argument, bad):
    """The same for the controller: arguments of its making and of its first update."""

    def call(alpha, target, horizon, kl, samples):
        return module.AdaptiveKLController(alpha, target, horizon).update(kl, samples)

    call(**good)
    return refusal(lambda: call(**{**good, argument: bad}))


def sweep_refuses(module, alphas):
    """How a sweep refuses, and how many runs it had begun by then. A sound sweep comes first."""
    figures = {"reward": 0.9, "kl": 1.0, "naturalness": -2.0, "reference_naturalness": -2.0}
    module.sweep(lambda alpha: figures, [1.0])
    begun = []

    def run(alpha):
        begun.append(alpha)
        return figures

    return {**refusal(lambda: module.sweep(run, alphas)), "runs begun": len(begun)}


def train_refuses(module):
    """How `train` refuses a loop without a reference. A sound loop without a batch comes first."""
    table, config = torch.zeros(2, 2, dtype=torch.float64), KLConfig()

    def call(reference):
        model = Tables(table, table)
        module.train(Loop(model, [], torch.optim.SGD(model.parameters(), lr=0.1), config, reference=reference), config)

    call(Tables(table, table))
    return refusal(lambda: call(None))


class Tables(torch.nn.Module):
    """A language model that is two tables: logits by the token before, plus logits by the place. It asks and answers like GPT-2.

    Where GPT-2 has dropout it halves its logits while it is in training mode: as wrong, and the same every time.
    """

    def __init__(self, table, places):
        super().__init__()
        self.table = torch.nn.Parameter(table.clone())
        self.places = torch.nn.Parameter(places.clone())
        self.with_graph = False

    def forward(self, input_ids, attention_mask=None, position_ids=None, logits_to_keep=0, **_):
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        logits = (self.table[input_ids] + self.places[position_ids]) * (0.5 if self.training else 1.0)
        self.with_graph = self.with_graph or logits.requires_grad
        return Output(logits[:, -logits_to_keep:])


class Output(dict):
    """What a model returns: its logits under a name and as an attribute."""

    def __init__(self, logits):
        super().__init__(logits=logits)
        self.logits = logits


class ScriptedLoop(Loop):
    """Answers from lists, step by step. With two processes the other one's rows are made of this one's by a fixed rule."""

    def rollout(self, prompts):
        self.asked = [*getattr(self, "asked", []), prompts.input_ids.clone()]
        return self.script[len(self.asked) - 1]

    def reward(self, rollout):
        return self.scripted_rewards[len(self.asked) - 1].clone()

    def gather(self, values):
        return values if self.processes == 1 else torch.cat([values, 1.0 + values.flip(0) / 2])

    def own(self, values):
        return values if self.processes == 1 else values[: len(values) // 2]

    def update(self, loss):
        super().update(loss)
        self.seen = [*getattr(self, "seen", []), self.policy.table.detach().clone()]


class FallingRate(Loop):
    """A learning rate that falls in a straight line to nothing, so that the noise of the last steps does not decide."""

    def update(self, loss):
        super().update(loss)
        for group in self.optimizer.param_groups:
            group.setdefault("first", group["lr"])
            group["lr"] -= group["first"] / self.steps


def small_gpt2(weights, vocabulary, length):
    """A GPT-2 of one layer in float64 with these matrices, biases of 0, and the dropout that GPT-2 has."""
    width = weights["transformer.wte.weight"].shape[1]
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=length + 1, n_embd=width, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model = GPT2LMHeadModel(config).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(weights[name])
    return model


def _ask(function, **arguments):
    """What the function returns, of which dtype, and which of its arguments look different afterwards."""
    before = {name: value.detach().clone() for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    value = torch.as_tensor(function(**arguments))
    changed = [name for name, old in before.items() if not torch.equal(arguments[name].nan_to_num(), old.nan_to_num())]
    return {"value": value, "dtype": str(value.dtype), "arguments changed": ", ".join(changed) or "none"}


def _with_gradients(told, direction, differentiate, leaves):
    """With the gradients of sum(value * direction) by the leaves: zeros where none arrives."""
    value = told["value"]
    if differentiate and value.requires_grad and value.shape == direction.shape:
        (value * direction).sum().backward()
    shown = leaves if differentiate else {}
    return told | {f"gradient of {n}": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for n, leaf in shown.items()}


def _outside(mask, junk):
    return torch.where(mask, 0.0, torch.tensor(junk, dtype=torch.float64))
