"""A step of PPO: CPU seconds and memory of ours, of a plain teaching loop, of the least that will do, and of TRL.

    python tests/bench/bench_ppo.py                        4 layers, 128 wide, GPT-2's vocabulary; a minute or two
    python tests/bench/bench_ppo.py --large                6 layers, 768 wide, as DistilGPT2: half an hour
    python tests/bench/bench_ppo.py --steps 5 --minibatch 8

A step: 32 prompts of 10 tokens, 20 new ones, 4 epochs; policy, frozen reference, a value model of its own, a reward that costs
nothing. All run on the same weights and prompts, in one thread, each in a process of its own, one after another; medians over
steps. Before anything is timed, the losses of ours are held to those of the plain loop on one rollout: they agree to 1e-5.
TRL's trainer is measured where a TRL that has one is installed (1.12 is the last), and said to be missing else.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_runs import EOS, IDS, PAD, PROMPT, model_of, prompts_of, table  # noqa: E402

from full.given.rollout import drawn  # noqa: E402
from full.given.text import Prompts  # noqa: E402
from tests.bench import trl_ways  # noqa: E402

NEW, ROWS, EPOCHS = 20, 32, 4
CLIP, VALUE_CLIP, VALUE_COEF, KL, GAMMA, LAM, RATE = 0.2, 0.2, 0.1, 0.05, 1.0, 0.95, 1e-5


class Value(nn.Module):
    """A value model of its own: the policy's shape with one number a token in place of the vocabulary."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.body = copy.deepcopy(policy.transformer)
        torch.manual_seed(1)
        self.head = nn.Linear(policy.config.n_embd, 1)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        hidden = self.body(input_ids=tokens, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return self.head(hidden).squeeze(-1)  # (B, L)


def free_reward(completion: Tensor) -> Tensor:
    """The share of even tokens, (B,)."""
    return (completion % 2 == 0).float().mean(1)


def advantages_of(rewards: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """GAE of whole rows, whitened, and the returns; nothing follows the last token."""
    found, later = torch.zeros_like(rewards), 0.0
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        later = rewards[:, t] + GAMMA * following - values[:, t] + GAMMA * LAM * later
        found[:, t] = later
    returns = found + values
    return (found - found.mean()) / (found.std(unbiased=False) + 1e-8), returns


def losses_of(log_probs: Tensor, values: Tensor, old: Tensor, old_values: Tensor, advantages: Tensor, returns: Tensor) -> tuple:
    ratio = (log_probs - old).exp()
    policy = -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages).mean()
    near = old_values + (values - old_values).clamp(-VALUE_CLIP, VALUE_CLIP)
    value = 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean()
    return policy, value


# As one writes it first.


def plain_log_probs(model: nn.Module, tokens: Tensor, attention: Tensor) -> Tensor:
    log_probs = torch.log_softmax(model(input_ids=tokens, attention_mask=attention).logits, dim=-1)[:, PROMPT - 1 : -1]
    return log_probs.gather(-1, tokens[:, PROMPT:].unsqueeze(-1)).squeeze(-1)


def plain_experience(model: nn.Module, reference: nn.Module, value: Value, tokens: Tensor) -> tuple[Tensor, ...]:
    """(old log-probs, old values, advantages, returns) of rows without padding."""
    attention = torch.ones_like(tokens)
    with torch.no_grad():
        old, ref = plain_log_probs(model, tokens, attention), plain_log_probs(reference, tokens, attention)
        old_values = value(tokens, attention)[:, PROMPT - 1 : -1]
        rewards = -KL * (old - ref)
        rewards[:, -1] += free_reward(tokens[:, PROMPT:])
        return old, old_values, *advantages_of(rewards, old_values)


def plain_epochs(
    model: nn.Module, value: Value, tokens: Tensor, experience: tuple, optimizer: Any, minibatch: int
) -> list[tuple]:
    attention, losses = torch.ones_like(tokens), []
    for _ in range(EPOCHS):
        for start in range(0, len(tokens), minibatch):
            rows = slice(start, start + minibatch)
            log_probs = plain_log_probs(model, tokens[rows], attention[rows])
            values = value(tokens[rows], attention[rows])[:, PROMPT - 1 : -1]
            policy_loss, value_loss = losses_of(log_probs, values, *(part[rows] for part in experience))
            optimizer.zero_grad()
            (policy_loss + VALUE_COEF * value_loss).backward()
            optimizer.step()
            losses.append((policy_loss.item(), value_loss.item()))
    return losses


def plain(model: nn.Module, batches: list[Prompts], minibatch: int) -> list[tuple]:
    reference, value, losses = copy.deepcopy(model).requires_grad_(False), Value(model), []
    optimizer = torch.optim.AdamW([*model.parameters(), *value.parameters()], lr=RATE, weight_decay=0.0)
    torch.manual_seed(0)
    how = {"do_sample": True, "max_new_tokens": NEW, "min_new_tokens": NEW, "top_k": 0, "pad_token_id": PAD}
    for prompts in batches:
        with torch.no_grad():
            tokens = model.generate(prompts.input_ids, attention_mask=prompts.attention_mask, **how)
        losses += plain_epochs(model, value, tokens, plain_experience(model, reference, value, tokens), optimizer, minibatch)
    return losses


# The least that will do: no mask, EOS, check or log; a cache, old log-probs from the sampler itself, logits where they are used.


def bound_log_probs(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=NEW).logits
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, PROMPT:].flatten(), reduction="none")
    return -losses.view(len(tokens), NEW)


def bound(model: nn.Module, batches: list[Prompts], minibatch: int) -> None:
    reference, value = copy.deepcopy(model).requires_grad_(False), Value(model)
    optimizer = torch.optim.AdamW([*model.parameters(), *value.parameters()], lr=RATE, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    for prompts in batches:
        with torch.inference_mode():
            columns, olds, new, cache = [prompts.input_ids], [], prompts.input_ids, None
            for uniform in torch.rand(NEW, len(prompts), generator=generator):
                out = model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits, cache = out.logits[:, -1], out.past_key_values
                new = drawn(logits, uniform).unsqueeze(1)
                olds.append(-nn.functional.cross_entropy(logits, new.squeeze(1), reduction="none"))
                columns.append(new)
            old, tokens = torch.stack(olds, 1), torch.cat(columns, 1)
            old_values = value(tokens[:, :-1])[:, PROMPT - 1 :]
            rewards = -KL * (old - bound_log_probs(reference, tokens))
            rewards[:, -1] += free_reward(tokens[:, PROMPT:])
            experience = old, old_values, *advantages_of(rewards, old_values)
        tokens, *experience = (part.clone() for part in (tokens, *experience))
        for _ in range(EPOCHS):
            for start in range(0, ROWS, minibatch):
                rows = slice(start, start + minibatch)
                log_probs, values = bound_log_probs(model, tokens[rows]), value(tokens[rows, :-1])[:, PROMPT - 1 :]
                policy_loss, value_loss = losses_of(log_probs, values, *(part[rows] for part in experience))
                optimizer.zero_grad(set_to_none=True)
                (policy_loss + VALUE_COEF * value_loss).backward()
                optimizer.step()


# Ours: the lesson's trainer on the plain loop.


class FreeReward:
    """Pays at the last real token, and costs nothing: the algorithm's own time is seen."""

    weights = {"even": 1.0}

    def __call__(self, prompts: Any, rollout: Any) -> tuple[Tensor, dict[str, Tensor]]:
        scores = free_reward(rollout.completion).double()
        rewards = torch.zeros(rollout.mask.shape, dtype=torch.float64)
        rewards[torch.arange(len(scores)), rollout.mask.sum(1) - 1] = scores
        return rewards, {"even": scores}


def trainer_of(model: nn.Module, batches: list[Prompts], minibatch: int, fused: bool = True) -> Any:
    from full.given.loop import Loop
    from full.given.ppo_settings import PPOConfig, TextPrompts
    from solutions.full.ppo import GPT2Policy, GPT2Value, PPOTrainer

    config = PPOConfig(
        new_tokens=NEW, temperature=1.0, top_k=0, ppo_epochs=EPOCHS, minibatch_size=minibatch, gamma=GAMMA, lam=LAM, clip=CLIP,
        value_clip=VALUE_CLIP, value_coef=VALUE_COEF, kl_coef=KL, eos_penalty=0.0,
    )  # fmt: skip
    policy, reference = GPT2Policy(model), GPT2Policy(copy.deepcopy(model).requires_grad_(False))
    value, start = GPT2Value(copy.deepcopy(model)), Value(model).head  # the same head as the others have
    value.head.load_state_dict(start.state_dict())
    used = [p for name, p in value.named_parameters() if "lm_head" not in name and "wte" not in name] + [
        value.trunk.model.transformer.wte.weight
    ]
    optimizer = torch.optim.AdamW([*policy.parameters(), *used], lr=RATE, weight_decay=0.0, fused=fused)

    class Named(list):
        """The batches with (empty) texts; the marks of time are those of the list that was given."""

        def __iter__(self) -> Any:
            for prompts in batches:
                yield TextPrompts(prompts.input_ids, prompts.attention_mask, texts=("",) * len(prompts))

    generator = torch.Generator().manual_seed(0)
    loop = Loop(model, Named(), optimizer, config, eos_token_id=EOS, pad_token_id=PAD, generator=generator)
    return PPOTrainer(loop, policy, reference, value, FreeReward(), config)


def ours(model: nn.Module, batches: list[Prompts], minibatch: int) -> None:
    trainer_of(model, batches, minibatch).train()


# TRL's, which also measures the entropy of every column's whole vocabulary in each minibatch.


def trls(model: nn.Module, batches: list[Prompts], minibatch: int, marks: list[float]) -> None:
    same = {"num_ppo_epochs": EPOCHS, "cliprange": CLIP, "cliprange_value": VALUE_CLIP, "vf_coef": VALUE_COEF}
    same |= {"kl_coef": KL, "gamma": GAMMA, "lam": LAM}
    trl_ways.ppo(model, batches, marks, NEW, IDS, minibatch, RATE, **same)


def agreement(size: str, minibatch: int) -> float:
    """The largest difference of a loss of ours to the plain loop's, over the epochs of one rollout, in float64."""
    model = model_of(size).double()
    other, batches = copy.deepcopy(model), [prompts_of(ROWS)]
    trainer = trainer_of(model, batches, minibatch, fused=False)
    losses, step = [], trainer.loop.update

    def update(loss: Tensor) -> None:
        losses.append(loss.item())
        step(loss)

    trainer.loop.update = update
    experience = trainer.rollout(next(iter(trainer.loop.data)))
    if not bool(experience.rollout.mask.all()):
        raise SystemExit("a completion ended early: the plain loop has no mask, and cannot be compared")
    reference, value = copy.deepcopy(other).requires_grad_(False), Value(other).double()
    optimizer = torch.optim.AdamW([*other.parameters(), *value.parameters()], lr=RATE, weight_decay=0.0)
    tokens = experience.rollout.tokens
    theirs = plain_epochs(other, value, tokens, plain_experience(other, reference, value, tokens), optimizer, minibatch)
    trainer.update(experience)
    return max(abs(own - (policy + VALUE_COEF * of_value)) for own, (policy, of_value) in zip(losses, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--minibatch", type=int, default=ROWS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size, minibatch = "distilgpt2" if arguments.large else "small", arguments.minibatch
    apart = agreement("small", minibatch)
    print(f"losses of ours and of the plain loop differ by at most {apart:.1e}", flush=True)
    if apart > 1e-5:
        raise SystemExit("ours is another algorithm than the plain loop: nothing is timed")
    ways = {"ours": ours, "plain loop": plain, "lower bound": bound}
    prompts = [prompts_of(ROWS, seed) for seed in range(arguments.steps + 1)]
    calls = {name: (lambda model, batches, way=way: way(model, batches, minibatch)) for name, way in ways.items()}
    if trl_ways.has_ppo():
        calls["TRL"] = lambda model, batches: trls(model, prompts, minibatch, batches.marks)
    title = f"PPO, {size}, {ROWS} prompts, {PROMPT}+{NEW} tokens, {EPOCHS} epochs, minibatches of {minibatch}"
    found = table(title, calls, size, prompts)
    if "TRL" in found:
        print(f"ours of TRL: {found['ours'] / found['TRL']:.2f}")
    else:
        print("\nTRL is not installed here, or has no PPO trainer (1.12 is the last that has): not measured.")


if __name__ == "__main__":
    main()
