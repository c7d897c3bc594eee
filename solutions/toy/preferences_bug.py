"""Lesson 5, the silent bug: DPO on a language model so small that its goal is known exactly.

The answers are all sequences of at most three tokens; token 0 ends one early. A judge with rewards r compares them two by two,
by Bradley and Terry. Nothing is sampled: every ordered pair of different answers (chosen, rejected) enters the loss with the
probability of that choice. The policy is a table that can be any distribution. So DPO's optimum is the RLHF optimum

    pi*(y) = ref(y) exp(r(y) / beta) / Z

(section 5.8), and training should end there: distance 0, KL and reward those of pi*.

This file is complete and runs:   python -m toy.preferences_bug
Its loss falls, its accuracy rises, and something in it is wrong. Find the one error and mend it (section 5.13).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from solutions.toy.preferences import dpo_loss, implicit_accuracy, preference_probability
from toy.given.enumerable import EnumerableLM


@dataclass
class Run:
    """What training leaves behind: the policy, and its curves, one number every ten updates."""

    policy: EnumerableLM
    update: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)  # of the implicit rewards: the share of choices they agree with
    reward: list[float] = field(default_factory=list)  # E[r], exact
    kl: list[float] = field(default_factory=list)  # KL(policy || reference) in nats, exact
    distance: list[float] = field(default_factory=list)  # total variation to pi*, exact


def world(seed: int = 0) -> tuple[EnumerableLM, Float[Tensor, "answers"]]:
    """A reference of three tokens and three steps with random logits, and a random reward for each of its 15 answers."""
    generator = torch.Generator().manual_seed(seed)
    reference = EnumerableLM.tabular(3, 3, eos=0, generator=generator).frozen()
    return reference, torch.randn(len(reference), generator=generator, dtype=torch.float64)


def comparisons(reward: Float[Tensor, "answers"]) -> tuple[Int[Tensor, "pairs 2"], Float[Tensor, "pairs"]]:
    """Every ordered pair (chosen, rejected) of different answers, and the probability that the judge chooses so."""
    # BEGIN SOLUTION
    answers = torch.arange(len(reward))
    pairs = torch.cartesian_prod(answers, answers)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs, preference_probability(reward[pairs[:, 0]], reward[pairs[:, 1]])
    # PLANTED
    # answers = torch.arange(len(reward))
    # pairs = torch.cartesian_prod(answers, answers)
    # pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    # return pairs, preference_probability(reward[pairs[:, 0]], reward[pairs[:, 1]])
    # END SOLUTION


def answer_log_probs(lm: EnumerableLM) -> Float[Tensor, "answers"]:
    """log pi(y|x) of every answer, from the log-probabilities of its tokens. Padding after the end does not count."""
    # BEGIN SOLUTION
    return lm.token_log_probs().sum(-1)  # 0 on padding
    # PLANTED
    # return (lm.token_log_probs() * lm.mask).sum(-1) / lm.mask.sum(-1)
    # END SOLUTION


def copy_of(reference: EnumerableLM) -> EnumerableLM:
    """A policy to be trained that starts where the reference is."""
    policy = reference.frozen()
    policy.model.requires_grad_(True)
    return policy


def train_dpo(
    reference: EnumerableLM, reward: Float[Tensor, "answers"], beta: float, updates: int = 200, learning_rate: float = 0.1
) -> Run:
    """Minimises the DPO loss over all comparisons, from the reference on. `reward` is the judge's; training sees choices only."""
    run, target = Run(copy_of(reference)), reference.optimum(reward, beta)
    pairs, weights = comparisons(reward)
    ref_log_probs = answer_log_probs(reference)
    ref_chosen, ref_rejected = ref_log_probs[pairs[:, 0]], ref_log_probs[pairs[:, 1]]
    optimizer = torch.optim.Adam(run.policy.model.parameters(), lr=learning_rate)
    for update in range(updates + 1):
        log_probs = answer_log_probs(run.policy)
        chosen, rejected = log_probs[pairs[:, 0]], log_probs[pairs[:, 1]]
        # BEGIN SOLUTION
        loss = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights)
        accuracy = implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected, weights)
        # PLANTED
        # loss = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights)
        # accuracy = implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected, weights)
        # END SOLUTION
        if update % 10 == 0:
            run.update.append(update)
            run.loss.append(loss.item())
            run.accuracy.append(accuracy.item())
            with torch.no_grad():
                run.reward.append(run.policy.expected(reward).item())
                run.kl.append(run.policy.kl(reference).item())
                run.distance.append(run.policy.total_variation(target).item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return run


def main() -> None:
    beta = 0.5
    reference, reward = world()
    run, target = train_dpo(reference, reward, beta), reference.optimum(reward, beta)
    print(f"{'update':>8}{'loss':>9}{'accuracy':>10}{'reward':>9}{'KL':>8}{'distance to pi*':>18}")
    for at in (0, 1, 2, 5, 10, -1):
        row = f"{run.loss[at]:9.4f}{run.accuracy[at]:10.3f}{run.reward[at]:9.3f}{run.kl[at]:8.3f}{run.distance[at]:18.1e}"
        print(f"{run.update[at]:8d}{row}")
    wanted, divergence = (target.exp() * reward).sum(), (target.exp() * (target - reference.log_probs())).sum()
    print(f"{'pi* has':>8}{'':19}{wanted:9.3f}{divergence:8.3f}{0:18.1e}")


if __name__ == "__main__":
    main()
