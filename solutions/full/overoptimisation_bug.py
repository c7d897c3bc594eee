"""How many answers are worth drawing? Best-of-n under a reward model that can be fooled, in one file.

    python -m full.overoptimisation_bug

Two thousand prompts, 64 answers of the reference model to each. A reward model scores every answer; of n answers the one with the
highest score is shown to the user. What the user thinks of it, the gold score, is known here, because the answers are made up:
the score is mostly right about an answer, but one answer in fifty begs for applause, and that the reward model rates 4 points
too high, while the user likes it 2 points less.

The first n of the 64 answers would do to see what best-of-n gives. The report wastes none: it averages over all ways to choose
n of the 64 at once. Sort the answers of a prompt by their score; the one at place j is the best of C(j - 1, n - 1) choices.

The more answers, the more often one of them begs for applause, and it wins. So the users' satisfaction rises, peaks and falls.
The report knows nothing of that: the more answers the better, it says, and everything printed looks in order. Find the one error
and mend it (section 17.9).
"""

from __future__ import annotations

import math
from typing import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

SAMPLES = 64
SIZES = (1, 2, 4, 8, 16, 32, 64)
BEGGING, FOOLED, DISLIKED = 0.02, 4.0, 2.0


def answers(prompts: int, samples: int = SAMPLES, seed: int = 0) -> tuple[Float[Tensor, "prompts samples"], ...]:
    """Proxy and gold score of `samples` answers to every prompt."""
    generator = torch.Generator().manual_seed(seed)
    quality, error = torch.randn(2, prompts, samples, generator=generator, dtype=torch.float64)
    begs = torch.rand(prompts, samples, generator=generator, dtype=torch.float64) < BEGGING
    return quality + 0.7 * error + FOOLED * begs, quality - DISLIKED * begs


def place_weights(samples: int, n: int) -> Float[Tensor, "samples"]:
    """The share of the choices of n answers whose best is the one at place j, the worst first: C(j - 1, n - 1) / C(N, n)."""
    # BEGIN SOLUTION
    ways = [math.comb(place, n - 1) / math.comb(samples, n) for place in range(samples)]
    return torch.tensor(ways, dtype=torch.float64)
    # PLANTED
    # ways = [math.comb(place, n - 1) / math.comb(samples, n) for place in range(samples)]
    # return torch.tensor(ways, dtype=torch.float64)
    # END SOLUTION


def in_order(
    proxy: Float[Tensor, "prompts samples"], gold: Float[Tensor, "prompts samples"]
) -> tuple[Float[Tensor, "prompts samples"], Float[Tensor, "prompts samples"]]:
    """Both scores of every prompt's answers, the answers in the order of their proxy score, the worst first."""
    # BEGIN SOLUTION
    order = proxy.argsort(dim=1)
    return proxy.gather(1, order), gold.gather(1, order)
    # PLANTED
    # ranked = [scores.sort(dim=1).values for scores in (proxy, gold)]
    # return ranked[0], ranked[1]
    # END SOLUTION


def best_of(
    proxy: Float[Tensor, "prompts samples"], gold: Float[Tensor, "prompts samples"], n: int
) -> tuple[float, float]:
    """Mean proxy and gold score of the best of n, over all choices of n answers and all prompts."""
    # BEGIN SOLUTION
    weights = place_weights(proxy.shape[1], n)
    by_proxy, by_gold = in_order(proxy, gold)
    return (by_proxy @ weights).mean().item(), (by_gold @ weights).mean().item()
    # PLANTED
    # weights = place_weights(proxy.shape[1], n)
    # by_proxy, by_gold = in_order(proxy, gold)
    # return (by_proxy @ weights).mean().item(), (by_gold @ weights).mean().item()
    # END SOLUTION


def report(
    proxy: Float[Tensor, "prompts samples"], gold: Float[Tensor, "prompts samples"], sizes: Sequence[int] = SIZES
) -> list[dict[str, float]]:
    """A row for each n: the KL that best-of-n costs, and the mean proxy and gold score of what is shown."""
    rows = []
    for n in sizes:
        shown_proxy, shown_gold = best_of(proxy, gold, n)
        rows.append({"n": n, "kl": math.log(n) - (n - 1) / n, "proxy": shown_proxy, "gold": shown_gold})
    return rows


def advice(rows: list[dict[str, float]]) -> int:
    """How many answers to draw: the n whose gold score is highest."""
    return int(max(rows, key=lambda row: row["gold"])["n"])


def main() -> None:
    rows = report(*answers(2000))
    print("   n     kl  proxy   gold")
    for row in rows:
        print(f"{row['n']:>4} {row['kl']:>6.3f} {row['proxy']:>6.3f} {row['gold']:>6.3f}")
    print(f"Draw {advice(rows)} answers to every prompt.")


if __name__ == "__main__":
    main()
