"""A complete GRPO in one file: a policy small enough to be read to the last digit learns sixteen sums, easy ones and hard ones.

    python -m full.grpo_bug

The question "3 + 9" is answered in digits and END. A sum is worth from 1 to 4 points, the more the harder it is: half of them are
paid for any number, all of them for the right one. At the start the policy solves a sum with a probability between 0.02 and 0.9,
by how hard it is, and errs towards numbers nearby. Each question is answered eight times a rollout, the group's mean is the
baseline, its standard deviation the scale, and the clipped loss is stepped on four times.

The policy is a table (`TabularLM`, one context for each question), so that how well it solves each sum is computed and not
estimated. Of eight answers that are right with probability p each, all are right or all wrong with probability p^8 + (1 - p)^8;
such a group has no signal. The share of them that is to be expected is printed beside the one that was seen.

The reward rises, the ratio begins at 1, and something is wrong: find the one error and mend it (section 15.9).
"""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from toy.given.enumerable import EnumerableLM
from toy.given.tabular import TabularLM

END = 10
"The token that ends an answer; 0 to 9 are the digits. It also fills up rows behind their ends; the mask says what is real."
TIME = 3
Sampler = Callable[[nn.Module, Int[Tensor, "rows"]], tuple[Tensor, Tensor]]
"(policy, which question each row answers) -> (answers (rows, time), mask of their real tokens)"


def stated(answer: Sequence[int]) -> int | None:
    """The number that an answer states: its digits up to END. None for an answer without END, or without a digit."""
    # BEGIN SOLUTION
    digits = list(answer)[: list(answer).index(END)] if END in answer else []
    return int("".join(map(str, digits))) if digits else None
    # PLANTED
    # digits = list(answer)[: list(answer).index(END)] if END in answer else []
    # return int("".join(map(str, digits))) if digits else None
    # END SOLUTION


def reward_of(answer: Sequence[int], right: int, points: float) -> float:
    """Half of the points for any number, all of them for the right one, none for what states no number."""
    # BEGIN SOLUTION
    number = stated(answer)
    return 0.0 if number is None else points if number == right else points / 2
    # PLANTED
    # number = stated(answer)
    # return 0.0 if number is None else points if number == right else points / 2
    # END SOLUTION


def rows_of(questions: int, group_size: int) -> Int[Tensor, "rows"]:
    """Which question each row of a rollout answers: every question `group_size` times."""
    # BEGIN SOLUTION
    return torch.arange(questions).repeat_interleave(group_size)
    # PLANTED
    # return torch.arange(questions).repeat_interleave(group_size)
    # END SOLUTION


def log_probs_of(
    policy: nn.Module, rows: Int[Tensor, "rows"], answers: Int[Tensor, "rows time"], mask: Bool[Tensor, "rows time"]
) -> Float[Tensor, "rows time"]:
    """log pi of every token of the answers, 0 off the mask. A row is read as its question's number and then the answer."""
    # BEGIN SOLUTION
    logits = policy(torch.cat([rows.unsqueeze(1), answers], dim=1))[:, :-1]  # those at a place are for the token behind it
    log_probs = logits.log_softmax(dim=-1).gather(-1, answers.unsqueeze(-1)).squeeze(-1)
    return torch.where(mask, log_probs, 0.0)
    # PLANTED
    # logits = policy(torch.cat([rows.unsqueeze(1), answers], dim=1))[:, :-1]  # those at a place are for the token behind it
    # log_probs = logits.log_softmax(dim=-1).gather(-1, answers.unsqueeze(-1)).squeeze(-1)
    # return torch.where(mask, log_probs, 0.0)
    # END SOLUTION


def advantages_of(rewards: Float[Tensor, "rows"], group_size: int) -> tuple[Float[Tensor, "rows"], float]:
    """(each reward less the mean of its group, over the group's standard deviation; the share of groups without signal).

    A group whose rewards are all equal has no signal, and gets zeros.
    """
    # BEGIN SOLUTION
    groups, axis = rewards.view(-1, group_size), 1
    spread = groups.std(dim=axis, correction=0, keepdim=True)
    advantages = (groups - groups.mean(dim=axis, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    return advantages.flatten(), float((spread == 0).double().mean())
    # PLANTED
    # groups, axis = rewards.view(group_size, -1), 0
    # spread = groups.std(dim=axis, correction=0, keepdim=True)
    # advantages = (groups - groups.mean(dim=axis, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    # return advantages.flatten(), float((spread == 0).double().mean())
    # END SOLUTION


def grpo_loss(
    ratio: Float[Tensor, "rows time"], advantages: Float[Tensor, "rows"], mask: Bool[Tensor, "rows time"], clip: float
) -> Float[Tensor, ""]:
    """The clipped loss, averaged over the real tokens of each answer and then over the answers."""
    # BEGIN SOLUTION
    worth = advantages.unsqueeze(1)
    gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + clip) * worth)
    return -((gain * mask).sum(dim=1) / mask.sum(dim=1)).mean()
    # PLANTED
    # worth = advantages.unsqueeze(1)
    # gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + clip) * worth)
    # return -((gain * mask).sum(dim=1) / mask.sum(dim=1)).mean()
    # END SOLUTION


def train_sums(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    sums: Sequence[int],
    points: Sequence[float],
    sample: Sampler,
    *,
    group_size: int = 8,
    clip: float = 0.2,
    epochs: int = 4,
    updates: int = 60,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """GRPO: `updates` rollouts of `group_size` answers to each question, each rollout stepped on `epochs` times.

    sums, points: of each question the right answer, and what it is worth.  after_update is told, of each rollout, the mean
    "reward", the share of groups without signal ("no_signal"), and of its last epoch the least and the largest ratio.
    """
    for _ in range(updates):
        rows = rows_of(len(sums), group_size)  # prompts
        answers, mask = sample(policy, rows)  # rollout
        paid = [reward_of(answer, sums[q], points[q]) for q, answer in zip(rows.tolist(), answers.tolist())]  # reward
        rewards = torch.tensor(paid, dtype=torch.float64)
        advantages, no_signal = advantages_of(rewards, group_size)  # advantage
        with torch.no_grad():
            old_log_probs = log_probs_of(policy, rows, answers, mask)
        for _ in range(epochs):
            ratio = (log_probs_of(policy, rows, answers, mask) - old_log_probs).exp()
            # BEGIN SOLUTION
            loss = grpo_loss(ratio, advantages, mask, clip)
            # PLANTED
            # loss = grpo_loss(ratio, advantages, mask, clip)
            # END SOLUTION
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        real = ratio.detach()[mask]  # log
        after_update({"reward": float(rewards.mean()), "no_signal": no_signal,
                      "least": float(real.min()), "largest": float(real.max())})  # fmt: skip


def questions() -> list[tuple[int, int]]:
    """The sums a + b, as (a, b)."""
    return [(a, b) for a in (0, 3, 6, 9) for b in (0, 3, 6, 9)]


def beginner() -> tuple[TabularLM, EnumerableLM]:
    """The policy at the start, and the ruler around it: what does not go to the right sum goes to numbers nearby."""
    policy = TabularLM(END + 1, TIME, contexts=len(questions()))
    ruler = EnumerableLM(policy, END + 1, TIME, eos=END)
    numbers = torch.tensor([-1 if (n := stated(row)) is None else n for row in ruler.sequences.tolist()])
    plain = ruler.lengths == torch.tensor([len(str(n)) + 1 for n in numbers.tolist()])  # without zeros in front
    for context, (a, b) in enumerate(questions()):
        skill, off = max(0.02, 0.9 - 0.055 * (a + b)), (numbers - a - b).abs()
        near = torch.where(plain & (numbers >= 0) & (off > 0), 0.6 ** off.double(), 0.0)
        right = (plain & (off == 0)).double()
        ruler.given((context,)).set_distribution((skill * right + (1 - skill) * near / near.sum()).log())
    return policy, ruler


def skills(ruler: EnumerableLM) -> Float[Tensor, "questions"]:
    """How likely each question's right answer is now, exactly."""
    numbers, found = [stated(row) for row in ruler.sequences.tolist()], []
    for context, (a, b) in enumerate(questions()):
        right = torch.tensor([float(number == a + b) for number in numbers], dtype=torch.float64)
        with torch.no_grad():
            found.append(ruler.given((context,)).probs() @ right)
    return torch.stack(found)


def sampler(ruler: EnumerableLM, seed: int) -> Sampler:
    """Draws an answer for every row."""
    generator = torch.Generator().manual_seed(seed)

    def sample(policy: nn.Module, rows: Int[Tensor, "rows"]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            probs = torch.stack([ruler.given((context,)).probs() for context in range(len(questions()))])
        places = torch.multinomial(probs[rows], 1, generator=generator).squeeze(1)
        return ruler.sequences[places], ruler.mask[places]

    return sample


def main() -> None:
    policy, ruler = beginner()
    sums = [a + b for a, b in questions()]
    points = [1 + total / 6 for total in sums]
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    lines: list[dict[str, float]] = []
    p = skills(ruler)

    def show(line: dict[str, float]) -> None:
        nonlocal p
        lines.append(line)
        expected = (p**8 + (1 - p) ** 8).mean()  # of the policy that wrote
        p = skills(ruler)
        if len(lines) in (1, 5, 10, 20, 40, 60):
            seen = f"{line['reward']:9.3f}{line['least']:9.2f} to {line['largest']:.2f}{line['no_signal']:11.3f}{expected:10.3f}"
            print(f"{len(lines):6d}{seen}{p.mean():9.3f}{p.min():9.3f}")

    print(f"update{'reward':>9}{'ratio':>17}{'no signal':>11}{'expected':>10}{'solved':>9}{'worst':>9}")
    train_sums(policy, optimizer, sums, points, sampler(ruler, seed=1), after_update=show)
    print(f"{'all right':>15}: a reward of {sum(points) / len(points):.3f}")
    for (a, b), share in zip(questions(), skills(ruler).tolist()):
        if share < 0.9:
            print(f"{a:>6} + {b} is solved with probability {share:.3f}")


if __name__ == "__main__":
    main()
