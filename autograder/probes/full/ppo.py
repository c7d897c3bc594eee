"""Lesson 14: what is asked of hidden states, scoring, rewards, advantages, losses and the trainer."""

import copy
from types import SimpleNamespace

import torch
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel
from transformers.models.t5.modeling_t5 import T5Config, T5ForConditionalGeneration

from autograder.probes import gradients_of, refusal, refuses
from full.given.loop import Loop
from full.given.ppo_settings import PPOConfig, TextPrompts
from full.given.text import Rollout

EOS, START = 1, 3
LETTERS = ["", "", "ab", "c", "de. ", "f", "g. "]  # what the tokens of the probe's tokenizer read; 0 and 1 are special


def hidden(module, kind, seed, tokens, attention_mask, prompt_length, direction):
    """Hidden states where they mean something, the gradient of their weighted sum by the embeddings, and the trunk's passes."""
    model = small_model(kind, seed)
    policy = (module.GPT2Policy if kind == "gpt2" else module.T5Policy)(model)
    written, passes = Rollout(tokens, attention_mask, prompt_length), counted(trunk_of(model))
    states = policy.hidden(written)
    told = {"shape": list(states.shape), "passes of the trunk": len(passes)}
    if tuple(states.shape) == tuple(direction.shape):
        states = torch.where(meant(written).unsqueeze(-1), states, 0.0)
        (gradient,) = torch.autograd.grad((states * direction).sum(), [model.get_input_embeddings().weight])
        told |= {"states": states, "gradient of the embeddings": gradient}
    else:
        told["states"] = states.detach()
    return told


def log_probs(module, logits, tokens, temperature, support, direction):
    """Log-probabilities of the tokens, and the gradient of their weighted sum by the logits."""
    logits.requires_grad_(True)
    before = snapshot(logits=logits, tokens=tokens, support=support)
    value = module.sampled_log_probs(logits, tokens, temperature, support)
    (gradient,) = gradients_of((value * direction).sum(), logits)
    return {
        "log_probs": value,
        "dtype": str(value.dtype),
        "gradient of the logits": gradient,
        "arguments changed": changed(before, logits=logits, tokens=tokens, support=support),
    }


def scored(module, policy, value, tokens, attention_mask, prompt_length, support, temperature, direction):
    """`score` of a small trunk: results, gradients, how many rows of logits and passes of the trunks it took."""
    actor = Trunk(policy)
    critic = None if value is None else critic_of(module, actor, value)
    written = Rollout(tokens, attention_mask, prompt_length, support)
    rows, passes = counted(actor.model.head), counted(actor.model)
    others = [] if critic is None or critic.trunk is actor else counted(critic.trunk.model)
    found, values = module.score(actor, critic, written, temperature, support)
    total = (found * direction).sum()
    if values is not None:
        values = torch.where(meant(written), values, 0.0)
        total = total + (values * values.detach().cos()).sum()  # some weights, not all alike
    words, head = gradients_of(total, actor.model.words.weight, actor.model.head.weight)
    told = {"log_probs": found, "values": values, "gradient of the words": words, "gradient of the head": head}
    return {**told, "rows of logits": sum(rows), "passes of the policy": len(passes), "passes of the value's own": len(others)}


def placed(module, values, ends, mask):
    """`spread` of values: the lists as they crossed the border, spans as pairs."""
    return {"rewards": module.spread(plain(values), ends, mask).double()}


def fine_grained(module, tokens, attention_mask, prompt_length, texts, answers, weights):
    """`FineGrainedReward` with rewards that answer from lists; which texts they were asked about."""
    asked = {}

    def answering(name):
        def reward(prompts, completions):
            asked[name] = {"prompts": list(prompts), "completions": list(completions)}
            return plain(answers[name])

        return reward

    given = module.FineGrainedReward({name: answering(name) for name in answers}, weights, Letters())
    prompts = TextPrompts(tokens[:, :prompt_length], attention_mask[:, :prompt_length], texts=tuple(texts))
    rewards, scores = given(prompts, Rollout(tokens, attention_mask, prompt_length))
    return {"rewards": rewards.double(), "scores": {name: rows.double() for name, rows in scores.items()}, "asked": asked}


def ends_with(module, completion, mask, eos_token_id):
    return {"ended": module.has_ended(completion, mask, eos_token_id)}


def penalised(module, junk, **case):
    """Rewards of tokens, though everything they are made of asks for a gradient; `junk` stands off the mask."""
    for name in ("rewards", "log_probs", "ref_log_probs"):
        case[name] = torch.where(case["mask"], case[name], junk).requires_grad_(True)
    before = snapshot(**case)
    value = module.kl_penalise_reward(**case)
    told = {"rewards": value.detach(), "dtype": str(value.dtype), "carries a gradient": value.requires_grad}
    return {**told, "arguments changed": changed(before, **case)}


def advantages(module, junk, **case):
    mask = case["mask"]
    case["rewards"] = torch.where(mask, case["rewards"], junk).requires_grad_(True)
    case["values"] = torch.where(valued(mask), case["values"], junk).requires_grad_(True)
    before = snapshot(**case)
    found, returns = module.compute_advantages(**case)
    told = {"advantages": found.detach(), "returns": returns.detach(), "dtype": str(found.dtype)}
    told["carries a gradient"] = found.requires_grad or returns.requires_grad
    return {**told, "arguments changed": changed(before, **case)}


def loss_of_policy(module, **case):
    """The loss, its gradients, and the figures beside it."""
    leaves = [case[name].requires_grad_(True) for name in ("log_probs", "old_log_probs", "advantages")]
    before = snapshot(**case)
    loss, figures = module.policy_loss(**case)
    by = dict(zip(("log_probs", "old_log_probs", "advantages"), gradients_of(loss, *leaves)))
    attached = ", ".join(sorted(name for name, figure in figures.items() if torch.as_tensor(figure).requires_grad)) or "none"
    figures = numbers(figures)
    return {"loss": loss, "gradients": by, "figures": figures, "figures with a gradient": attached,
            "arguments changed": changed(before, **case)}  # fmt: skip


def loss_of_value(module, **case):
    leaves = [case[name].requires_grad_(True) for name in ("values", "old_values", "returns")]
    loss = module.value_loss(**case)
    return {"loss": loss, "gradients": dict(zip(("values", "old_values", "returns"), gradients_of(loss, *leaves)))}


def rollout_of(module, **case):
    """`PPOTrainer.rollout` of one scripted batch: everything that is in the experience, and the models' graphs."""
    trainer, prompts = trainer_of(module, **case)
    got = trainer.rollout(prompts[0])
    tensors = {name: getattr(got, name) for name in ("log_probs", "ref_log_probs", "values", "rewards")}
    return {
        **{name: tensor.detach() for name, tensor in tensors.items() if name != "values"},
        "values": torch.where(meant(got.rollout), got.values.detach(), 0.0),
        "scores": {name: rows.double() for name, rows in got.scores.items()},
        "tokens": got.rollout.tokens,
        "with a gradient": ", ".join(name for name, tensor in tensors.items() if tensor.requires_grad) or "none",
        "dtypes": sorted({str(tensor.dtype) for tensor in tensors.values()}),
    }


def updated(module, **case):
    """`PPOTrainer.update` of experience that is handed to it (the policy has moved since): figures, tables after every step."""
    trainer, _ = trainer_of(module, **case)
    figures = trainer.update(experience_of(trainer, case["experience"]))
    return {"figures": numbers(figures), **traces(trainer)}


def trained(module, **case):
    """`PPOTrainer.train` over scripted batches: the log, the tables after every step, the price of a nat."""
    trainer, _ = trainer_of(module, **case)
    reference = copy.deepcopy(trainer.reference.state_dict())
    trainer.train()
    same = all(torch.equal(tensor, reference[name]) for name, tensor in trainer.reference.state_dict().items())
    return {
        "log": [numbers(row) for row in trainer.loop.rows],
        **traces(trainer),
        "kl_coef": float(trainer.kl_coef),
        "kept kl_coef": float(trainer.loop.kept.get("kl_coef", "nan")),
        "the reference changed": not same or any(p.grad is not None for p in trainer.reference.parameters()),
    }


def validated(module, seed, **case):
    """`PPOTrainer.validate` of the first batch of prompts, twice, and whether the training's generator was touched."""
    trainer, prompts = trainer_of(module, **case)
    state = trainer.loop.generator.get_state()
    rows, again = (trainer.validate(prompts[0], seed) for _ in range(2))
    return {
        "rows": [{str(name): plain_value(value) for name, value in row.items()} for row in rows],
        "the same again": rows == again,
        "the training's draws are left alone": torch.equal(state, trainer.loop.generator.get_state()),
    }


def refuses_names(module, argument, rewards, weights):
    """How a `FineGrainedReward` is refused. A sound one is made and asked first."""
    letters, prompts = Letters(), torch.zeros(1, 2, dtype=torch.long)

    def make(rewards, weights):
        asked = {name: (lambda prompts, completions: [1.0 for _ in completions]) for name in rewards}
        given = module.FineGrainedReward(asked, weights, letters)
        return given(TextPrompts(prompts[:, :1], prompts[:, :1] + 1, texts=("p",)), Rollout(prompts + 2, prompts + 1, 1))

    make(["a"], {"a": 1.0})
    return refusal(lambda: make(rewards, weights))


# The small worlds


class Letters:
    """A tokenizer that can only read back: each token is a few letters, 0 and 1 are special."""

    def batch_decode(self, rows, skip_special_tokens=False, **_):
        return ["".join("?" if not LETTERS[t] and not skip_special_tokens else LETTERS[t] for t in row) for row in rows]


class Words(nn.Module):
    """The model inside a trunk: a state is the sum of what its tokens so far say; half of it in training mode."""

    def __init__(self, tables):
        super().__init__()
        vocabulary, width = tables["words"].shape
        self.words = nn.Embedding(vocabulary, width, dtype=torch.float64)
        self.head = nn.Linear(width, vocabulary, bias=False, dtype=torch.float64)
        self.words.weight.data = tables["words"].clone()
        self.head.weight.data = tables["head"].clone()
        self.config = SimpleNamespace(hidden_size=width, is_encoder_decoder=False)

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, logits_to_keep=0, **_):
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        states = (self.words(input_ids) * real.unsqueeze(-1)).cumsum(1)
        if past_key_values is not None:
            states = states + past_key_values.unsqueeze(1)
        states = states * (0.5 if self.training else 1.0)
        return SimpleNamespaceOutput(states=states, past_key_values=states[:, -1], logits=self.head(states[:, -1:]))


class SimpleNamespaceOutput(dict):
    def __getattr__(self, name):
        return self[name]


class Trunk(nn.Module):
    """What `GPT2Policy` is to a language model, with `Words` inside."""

    def __init__(self, tables):
        super().__init__()
        self.model = Words(tables)

    def hidden(self, rollout):
        return self.model(rollout.tokens, rollout.attention_mask).states[:, rollout.prompt_length - 1 :]

    def logits(self, hidden):
        return self.model.head(hidden)


class ScriptedLoop(Loop):
    """Rollouts from lists; keeps the tables after every step. A second process's rows are this one's in reverse order, bent."""

    def rollout(self, prompts):
        self.turn = getattr(self, "turn", -1) + 1
        return self.script[self.turn]

    def gather(self, values):
        if self.processes == 1:
            return values
        other = values.flip(0) if values.dtype == torch.bool else 0.5 * values.flip(0) + 0.1
        return torch.cat([values, other])

    def own(self, values):
        return values[: len(values) // self.processes]

    def update(self, loss):
        super().update(loss)
        self.seen.append([table.detach().clone() for table in self.tables])


def trainer_of(module, policy, reference, value, batches, answers, weights, settings, more, **_):
    """A trainer whose rollouts and rewards are lists, and its prompts."""
    config = PPOConfig(new_tokens=batches[0]["tokens"].shape[1] - batches[0]["prompt_length"], **settings)
    actor, anchor = Trunk(policy), Trunk(reference)
    critic = critic_of(module, actor, value)
    leaves = {id(parameter): parameter for part in (actor, critic) for parameter in part.parameters()}
    prompts = []
    for batch in batches:
        n, texts = batch["prompt_length"], tuple(f"prompt {b}" for b in range(len(batch["tokens"])))
        prompts.append(TextPrompts(batch["tokens"][:, :n], batch["attention_mask"][:, :n], texts=texts))
    loop = ScriptedLoop(
        actor.model,
        prompts,
        torch.optim.SGD(leaves.values(), lr=more["learning_rate"]),
        config,
        reference=anchor.model,
        eos_token_id=more["eos"],
        generator=torch.Generator().manual_seed(0),
    )
    loop.script = [Rollout(b["tokens"], b["attention_mask"], b["prompt_length"], b["support"]) for b in batches]
    loop.processes, loop.seen = more["processes"], []
    loop.tables = [actor.model.words.weight, actor.model.head.weight, critic.head.weight]
    if more["kept"] is not None:
        loop.kept["kl_coef"] = more["kept"]
    asked = []

    def answering(name):
        def reward(prompts, completions):
            turn = sum(known == name for known in asked) % len(answers[name])
            asked.append(name)
            return plain(answers[name][turn])

        return reward

    reward = SimpleReward({name: answering(name) for name in answers}, weights)
    for part in (actor, anchor, critic):
        part.train()
    return module.PPOTrainer(loop, actor, anchor, critic, reward, config), prompts


class SimpleReward:
    """A reward with the interface of `FineGrainedReward`, of whole answers alone, paid at the last real token."""

    def __init__(self, rewards, weights):
        self.rewards, self.weights, self.tokenizer = rewards, weights, Letters()

    def __call__(self, prompts, rollout):
        mask = rollout.mask
        last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
        scores = {name: torch.tensor(reward(None, None), dtype=torch.float64) for name, reward in self.rewards.items()}
        total = sum(self.weights[name] * rows for name, rows in scores.items())
        return total.unsqueeze(1) * last, scores


def critic_of(module, actor, tables):
    """A value model: on the policy's trunk if it brings no words of its own."""
    critic = module.Value(actor if "words" not in tables else Trunk(tables))
    critic.head.weight.data, critic.head.bias.data = tables["value"].clone().unsqueeze(0), torch.full_like(critic.head.bias, 0.3)
    return critic


def experience_of(trainer, known):
    from full.given.ppo_settings import Experience

    scores = {name: torch.zeros(len(known["rewards"])) for name in trainer.reward.weights}
    return Experience(rollout=trainer.loop.script[0], scores=scores, **known)


def traces(trainer):
    """The tables after every step of the optimizer."""
    names = ("words", "head", "value head")
    seen = trainer.loop.seen
    return {"steps": len(seen), **({name: torch.stack(list(t)) for name, t in zip(names, zip(*seen))} if seen else {})}


def numbers(figures):
    return {str(name): float(value.detach() if isinstance(value, torch.Tensor) else value) for name, value in figures.items()}


def plain(values):
    """Lists again, spans as pairs (place, value): arrays that crossed the border arrive as tensors."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    listed = [entry.tolist() if isinstance(entry, torch.Tensor) else entry for entry in values]
    return [[(int(end), float(number)) for end, number in entry] if isinstance(entry, list) else float(entry) for entry in listed]


def plain_value(value):
    return value if isinstance(value, (str, bool)) else float(value)


def small_model(kind, seed):
    """A tiny language model in float64 whose weights are a matter of the seed."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=7, n_positions=16, n_embd=8, n_layer=1, n_head=2, initializer_range=0.4,
                            bos_token_id=None, eos_token_id=None)  # fmt: skip
        return GPT2LMHeadModel(config).double().eval()
    config = T5Config(vocab_size=7, d_model=8, d_kv=4, num_layers=1, num_heads=2, d_ff=16, pad_token_id=0, eos_token_id=EOS,
                      decoder_start_token_id=START)  # fmt: skip
    return T5ForConditionalGeneration(config).double().eval()


def trunk_of(model):
    return model.get_decoder() if model.config.is_encoder_decoder else model.base_model


def counted(part):
    """A list that gets the number of rows of every pass through a module."""
    rows = []

    def note(_, inputs, output):
        rows.append(output.shape[:-1].numel() if isinstance(output, torch.Tensor) else 1)

    part.register_forward_hook(note)
    return rows


def meant(rollout):
    """Which of the time + 1 columns stand before or right behind a real token."""
    return valued(rollout.mask)


def valued(mask):
    return torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)


def snapshot(**case):
    return {name: value.detach().clone() for name, value in case.items() if isinstance(value, torch.Tensor)}


def changed(before, **case):
    """The names of the arguments that look different afterwards (NaN is as good as NaN)."""
    same = {name: torch.equal(case[name].detach().nan_to_num(7.5), old.nan_to_num(7.5)) for name, old in before.items()}
    return ", ".join(name for name, alike in same.items() if not alike) or "none"
