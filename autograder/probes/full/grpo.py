"""Lesson 15: what is asked of a reward that is checked, of groups, of GRPO's loss and of its loop."""

from fractions import Fraction

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

from autograder.probes import gradients_of, refusal, refuses  # noqa: F401  (refuses is a probe)
from full.given.grpo_settings import AnsweredPrompts, GRPOConfig
from full.given.loop import Loop
from full.given.text import Rollout

LETTERS = ["", "", "1", "2", "3", "-", " ", "x"]
"What the tokens of the probe's tokenizer read; 0 fills up, 1 is EOS."
SIZES = {"vocab_size": 8, "n_positions": 12, "n_embd": 8, "n_layer": 1, "n_head": 2}


def numbers(module, texts):
    """The number that each text ends with, as an exact fraction."""
    found = [module.final_number(text) for text in texts]
    return {"numbers": [None if number is None else str(Fraction(number)) for number in found]}


def matched(module, completions, answers):
    before = list(completions), list(answers)
    rewards = module.exact_match_reward(completions, answers)
    told = {"rewards": rewards, "dtype": name_of(rewards.dtype)}
    return {**told, "arguments changed": "none" if before == (completions, answers) else "yes"}


def advantages(module, rewards, group_size, scale):
    before = rewards.clone()
    found = module.group_advantages(rewards, group_size, scale)
    told = {"advantages": found, "dtype": name_of(found.dtype)}
    return {**told, "arguments changed": "none" if torch.equal(before, rewards) else "rewards"}


def estimated(module, log_probs, ref_log_probs, mask, estimator, direction):
    """The estimates, and the gradients of their weighted sum."""
    leaves = [log_probs.requires_grad_(True), ref_log_probs.requires_grad_(True)]
    before = snapshot(log_probs=log_probs, ref_log_probs=ref_log_probs)
    found = module.kl_estimate(log_probs, ref_log_probs, mask, estimator)
    policy, reference = gradients_of((found * direction).sum(), *leaves)
    return {
        "estimates": found.detach(),
        "gradient of log_probs": policy,
        "gradient of ref_log_probs": reference,
        "arguments changed": changed(before, log_probs=log_probs, ref_log_probs=ref_log_probs),
    }


def loss(module, junk, settings, **case):
    """The loss and its gradients; `junk` stands off the mask."""
    names = [name for name in ("log_probs", "old_log_probs", "advantages", "ref_log_probs") if case[name] is not None]
    mask = case["mask"]
    for name in names:
        if name != "advantages":
            case[name] = torch.where(mask, case[name], junk)
        case[name].requires_grad_(True)
    before = snapshot(**{name: case[name] for name in names})
    value = module.grpo_loss(**case, **settings)
    told = {"loss": value.detach(), "dtype": name_of(value.dtype)}
    told["gradients"] = dict(zip(names, gradients_of(value, *(case[name] for name in names))))
    return {**told, "arguments changed": changed(before, **{name: case[name] for name in names})}


def metrics(module, junk, settings, **case):
    """The figures, though the log-probabilities ask for a gradient; `junk` stands off the mask."""
    for name in ("log_probs", "old_log_probs"):
        case[name] = torch.where(case["mask"], case[name], junk).requires_grad_(True)
    figures = module.grpo_metrics(**case, **settings)
    attached = ", ".join(sorted(name for name, figure in figures.items() if torch.as_tensor(figure).requires_grad)) or "none"
    return {"figures": numbers_of(figures), "figures with a gradient": attached}


def training_replay(module, weights, reference, batches, settings, learning_rate):
    """`train` by plain gradient descent, with rollouts from a list; policy and reference begin in training mode, with dropout."""
    policy = language_model(weights, dropout=0.5).train()
    anchor = None if reference is None else language_model(reference, dropout=0.5).train()
    loop = ScriptedLoop(policy, anchor, batches, GRPOConfig(**settings), learning_rate)
    modes = []
    for model in (policy, anchor):
        if model is not None:
            model.transformer.register_forward_pre_hook(lambda part, inputs: modes.append(part.training))
    module.train(loop, loop.config)
    return {
        "scored with dropout": any(modes),
        "rollouts": loop.rollouts,
        "prompts repeated as they should be": loop.repeated,
        "updates": len(loop.path),
        "log": [numbers_of(row) for row in loop.rows],
        "weights after each update": torch.stack(loop.path) if loop.path else None,
        "the reference changed": anchor is not None and not torch.equal(flat(anchor), reference.double()),
        "a gradient reaches the reference": anchor is not None and any(p.grad is not None for p in anchor.parameters()),
    }


def train_refuses(module, weights, batches, settings, argument):
    """How `train` takes a price without a reference. It is run with one first."""
    for anchor in (language_model(weights), None):
        loop = ScriptedLoop(language_model(weights), anchor, batches, GRPOConfig(**settings), 0.1)
        told = refusal(lambda: module.train(loop, loop.config))
        if anchor is not None and told["raised"]:
            raise RuntimeError(f"train with a reference: {told['raised']}: {told['message']}")
    return told


class ScriptedLoop(Loop):
    """Rollouts from a list; keeps the weights after every update."""

    def __init__(self, policy, reference, batches, config, learning_rate):
        prompts = [AnsweredPrompts(b["prompts"], b["prompt_mask"], answers=tuple(b["answers"])) for b in batches]
        optimizer = torch.optim.SGD(policy.parameters(), lr=learning_rate)
        super().__init__(policy, prompts, optimizer, config, reference=reference, eos_token_id=1, tokenizer=Letters())
        self.script, self.path, self.rollouts, self.repeated = batches, [], 0, True

    def rollout(self, prompts):
        turn, times = self.script[min(self.rollouts, len(self.script) - 1)], self.config.group_size
        self.rollouts += 1
        wanted = (turn["prompts"].repeat_interleave(times, 0), turn["prompt_mask"].repeat_interleave(times, 0))
        self.repeated = self.repeated and all(map(torch.equal, wanted, (prompts.input_ids, prompts.attention_mask)))
        return Rollout(turn["tokens"].clone(), turn["attention_mask"].clone(), turn["prompts"].shape[1], turn["support"])

    def update(self, loss):
        super().update(loss)
        self.path.append(flat(self.policy))


class Letters:
    """A tokenizer that can only read back: each token is a letter or nothing."""

    def batch_decode(self, rows, skip_special_tokens=False, **_):
        return ["".join("?" if not LETTERS[t] and not skip_special_tokens else LETTERS[t] for t in row) for row in rows]

    def decode(self, row, skip_special_tokens=False, **_):
        return self.batch_decode([row], skip_special_tokens)[0]


def language_model(weights, dropout=0.0):
    """A GPT-2 whose parameters, in their order, are the entries of `weights`; in evaluation mode."""
    config = GPT2Config(**SIZES, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=1, eos_token_id=1)
    model = GPT2LMHeadModel(config).double().eval()
    torch.nn.utils.vector_to_parameters(weights.double(), model.parameters())
    return model


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def numbers_of(figures):
    return {str(name): float(value.detach() if isinstance(value, torch.Tensor) else value) for name, value in figures.items()}


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def snapshot(**tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def changed(before, **tensors):
    """The names of the arguments that look different afterwards (NaN is as good as NaN)."""
    same = {name: torch.equal(tensors[name].detach().nan_to_num(7.5), old.nan_to_num(7.5)) for name, old in before.items()}
    return ", ".join(name for name, alike in same.items() if not alike) or "none"
