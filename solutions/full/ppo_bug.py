"""A complete PPO in one file: a small GPT-2 learns what a judge likes, with a second GPT-2 as its critic.

    python -m full.ppo_bug

The world is that of `full.given.film_words`: the prompt "film", five words of which END is one, completions of at most three
tokens; one without END is over after the third. The judge pays 0.5 for any completion, and log 3 more for one that ends, has
"good" in it and no "bad". The policy maximises E[reward] - beta KL(policy||reference), so that training should end at

    pi*(y) = ref(y) exp(r(y) / beta) / Z

with reward, KL and length those of pi* (what is paid for any completion cancels in Z). Rows are filled up with END behind their
own; `mask` says what is real.

The reward rises, the ratio stays in its interval, and something is wrong: find the one error and mend it (section 14.11).
"""

from __future__ import annotations

import copy
from typing import Any, Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from full.given import film_words as world
from full.given.rollout import rollout
from full.given.text import Prompts

FEE = 0.5
"What the judge pays for any completion."
Sampler = Callable[[nn.Module], tuple[Tensor, Tensor]]
"policy -> (tokens of prompt and completion, mask of the completion's real tokens)"


class Critic(nn.Module):
    """A language model's body with one number for every column: what is still to come behind the tokens up to there."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.body = copy.deepcopy(model).transformer.requires_grad_(True)
        self.head = nn.Linear(model.config.n_embd, 1).to(model.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        return self.head(self.body(input_ids=input_ids).last_hidden_state).squeeze(-1)


def log_probs_of(model: Any, tokens: Int[Tensor, "batch length"], time: int) -> Float[Tensor, "batch time"]:
    """log pi of the last `time` tokens of every row. The logits at a position are for the token behind it."""
    # BEGIN SOLUTION
    logits = model(input_ids=tokens).logits[:, -time - 1 : -1]
    return logits.log_softmax(dim=-1).gather(-1, tokens[:, -time:].unsqueeze(-1)).squeeze(-1)
    # PLANTED
    # logits = model(input_ids=tokens).logits[:, -time - 1 : -1]
    # return logits.log_softmax(dim=-1).gather(-1, tokens[:, -time:].unsqueeze(-1)).squeeze(-1)
    # END SOLUTION


def token_rewards(
    scores: Float[Tensor, "batch"], log_ratio: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], beta: float
) -> Float[Tensor, "batch time"]:
    """Every real token pays beta times its log-ratio to the reference; the last one is paid the completion's score."""
    # BEGIN SOLUTION
    last = torch.arange(mask.shape[1]) == mask.sum(dim=1, keepdim=True) - 1
    return torch.where(mask, scores.unsqueeze(1) * last - beta * log_ratio, 0.0)
    # PLANTED
    # last = torch.arange(mask.shape[1]) == mask.sum(dim=1, keepdim=True) - 1
    # return torch.where(mask, scores.unsqueeze(1) * last - beta * log_ratio, 0.0)
    # END SOLUTION


def advantages_and_returns(
    rewards: Float[Tensor, "batch time"], values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], lam: float
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """GAE with gamma = 1. values: what the critic expected before each token."""
    advantages, later = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        # BEGIN SOLUTION
        following = values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        later = (rewards[:, t] + following - values[:, t] + lam * later) * mask[:, t]
        advantages[:, t] = later
        # PLANTED
        # following = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        # later = (rewards[:, t] + following - values[:, t] + lam * later) * mask[:, t]
        # advantages[:, t] = later
        # END SOLUTION
    return advantages, (advantages + values) * mask


def ppo_loss(
    ratio: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """The clipped policy loss plus half the squared error of the values, both averaged over real tokens."""
    # BEGIN SOLUTION
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    error = 0.5 * (values - returns) ** 2
    return ((error - gain) * mask).sum() / mask.sum()
    # PLANTED
    # gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    # error = 0.5 * (values - returns) ** 2
    # return ((error - gain) * mask).sum() / mask.sum()
    # END SOLUTION


def train_film(
    policy: Any,
    value: nn.Module,
    reference: Any,
    optimizer: torch.optim.Optimizer,
    sample: Sampler,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    beta: float = 0.5,
    lam: float = 0.95,
    clip: float = 0.2,
    epochs: int = 4,
    updates: int = 100,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """PPO: `updates` rollouts, each gone through `epochs` times; the optimizer holds the parameters of policy and value.

    score(completion, mask) -> (batch,). after_update is told, of each rollout, the mean "reward", "kl" and "length", and of its
    last epoch the least and the largest ratio.
    """
    for _ in range(updates):
        tokens, mask = sample(policy)  # rollout
        time = mask.shape[1]
        with torch.no_grad():
            old_log_probs = log_probs_of(policy, tokens, time)
            log_ratio = old_log_probs - log_probs_of(reference, tokens, time)
            old_values = value(tokens)[:, -time - 1 : -1]
        scores = score(tokens[:, -time:], mask)  # reward
        rewards = token_rewards(scores, log_ratio, mask, beta)
        advantages, returns = advantages_and_returns(rewards, old_values, mask, lam)  # advantage
        for _ in range(epochs):
            ratio = (log_probs_of(policy, tokens, time) - old_log_probs).exp()
            # BEGIN SOLUTION
            loss = ppo_loss(ratio, value(tokens)[:, -time - 1 : -1], advantages, returns, mask, clip)
            # PLANTED
            # loss = ppo_loss(ratio, value(tokens)[:, -time - 1 : -1], advantages, returns, mask, clip)
            # END SOLUTION
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        real, kl = ratio.detach()[mask], torch.where(mask, log_ratio, 0.0).sum(dim=1)  # log
        after_update({"reward": float(scores.mean()), "kl": float(kl.mean()), "length": float(mask.sum(dim=1).double().mean()),
                      "least": float(real.min()), "largest": float(real.max())})  # fmt: skip


def sampler(count: int, seed: int) -> Sampler:
    """Draws `count` completions of the prompt at a time."""
    generator = torch.Generator().manual_seed(seed)
    prompts = Prompts(torch.tensor([world.PROMPT] * count), torch.ones(count, len(world.PROMPT), dtype=torch.long))

    def sample(policy: nn.Module) -> tuple[Tensor, Tensor]:
        ends = {"eos_token_id": world.END, "pad_token_id": world.END}
        written = rollout(policy, prompts, world.LENGTH, generator=generator, **ends)
        return written.tokens, written.mask

    return sample


def judge(completion: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """What the judge pays for each completion."""
    rows = [tuple(row[real].tolist()) for row, real in zip(completion, mask)]
    return torch.tensor([FEE + world.LIKED * world.likes(row) for row in rows], dtype=torch.float64)


def main() -> None:
    beta, updates, reference = 0.5, 100, world.gpt2().requires_grad_(False)
    policy, value = world.copy_of(reference), Critic(reference)
    before, now = world.listed(reference), world.listed(policy)
    reward = FEE + world.rewards(before)
    target = before.optimum(reward, beta)
    optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4 * updates)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    lines: list[dict[str, float]] = []

    def measured(log_probs: Tensor) -> str:
        ends = (before.sequences == world.END).any(dim=1).double()
        figures = reward, log_probs - before.log_probs(), before.lengths.double(), ends
        return "".join(f"{float(log_probs.exp() @ figure):9.3f}" for figure in figures)

    def show(line: dict[str, float]) -> None:
        lines.append(line)
        if len(lines) in (1, 5, 10, 25, 50, 100):
            with torch.no_grad():
                exact = measured(now.log_probs()) + f"{now.total_variation(target):9.3f}"
            print(f"{len(lines):6d}{line['least']:8.2f} to {line['largest']:.2f}{exact}")

    print(f"update{'ratio':>16}{'reward':>9}{'KL':>9}{'length':>9}{'ends':>9}{'tv':>9}")
    train_film(policy, value, reference, optimizer, sampler(512, seed=2), judge, beta=beta, updates=updates, after_update=show)
    with torch.no_grad():
        print(f"{'pi*':>6}{'':16}{measured(target)}{0:9.3f}")


if __name__ == "__main__":
    main()
