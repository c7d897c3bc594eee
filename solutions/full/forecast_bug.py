"""Two ways to forecast in one file: will the model solve this sum, if it solved so many of eight like it?

    python -m full.forecast_bug

A model does sums; some kinds of sum it nearly always gets right, some hardly ever. Of every kind it was seen to try eight, and the
question is whether it will solve the ninth. Two forecasters answer for 20,000 kinds: the first says the share of the eight that
were right; the second says (right + 1) / (8 + 2), Laplace's rule of succession, which never says 0 or 1.

For each of them the calibration is reported: how many forecasts every tenth holds, what was said in it and what was seen, and the
expected calibration error. Eight tries cannot make anybody certain, so the first forecaster is the worse one: where it says 1, the
ninth sum goes wrong now and then.

The report says the opposite: the first seems the better calibrated, and everything printed looks in order. Find the one error and
mend it (section 16.8).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

TRIES = 8
BINS = 10


def kinds_of_sums(count: int, seed: int = 0) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
    """How many of the tries at each kind of sum were right, and whether the next one was (1 or 0)."""
    generator = torch.Generator().manual_seed(seed)
    skill = torch.sigmoid(1 + 2.5 * torch.randn(count, generator=generator, dtype=torch.float64))
    draws = torch.rand(count, TRIES + 1, generator=generator, dtype=torch.float64) < skill.unsqueeze(1)
    return draws[:, :TRIES].sum(1), draws[:, TRIES].double()


def share_forecasts(right: Int[Tensor, "n"], tries: int = TRIES) -> Float[Tensor, "n"]:
    """The first forecaster: the share of the tries that were right."""
    return right.double() / tries


def laplace_forecasts(right: Int[Tensor, "n"], tries: int = TRIES) -> Float[Tensor, "n"]:
    """The second forecaster: Laplace's rule of succession, the posterior mean under a uniform prior."""
    return (right.double() + 1) / (tries + 2)


def parts_of(probabilities: Float[Tensor, "n"], bins: int = BINS) -> Int[Tensor, "n"]:
    """Which of the equal parts of 0 to 1 every forecast belongs to, counted from 0; a lower edge belongs to its part."""
    # BEGIN SOLUTION
    inner_edges = torch.arange(1, bins, dtype=torch.float64) / bins
    return torch.bucketize(probabilities, inner_edges, right=True)
    # PLANTED
    # edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    # return torch.bucketize(probabilities, edges, right=True) - 1
    # END SOLUTION


def reliability(
    probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], bins: int = BINS
) -> list[tuple[int, float, float]]:
    """A row for each part that holds forecasts: how many, their mean, and the share of them that came true."""
    # BEGIN SOLUTION
    part = parts_of(probabilities, bins)
    rows = []
    for which in range(bins):
        held = part == which
        if held.any():
            rows.append((int(held.sum()), probabilities[held].mean().item(), outcomes[held].mean().item()))
    return rows
    # PLANTED
    # part = parts_of(probabilities, bins)
    # rows = []
    # for which in range(bins):
    #     held = part == which
    #     if held.any():
    #         rows.append((int(held.sum()), probabilities[held].mean().item(), outcomes[held].mean().item()))
    # return rows
    # END SOLUTION


def calibration_error(probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], bins: int = BINS) -> float:
    """The mean distance between what was said and what was seen, every part weighted by how many of the forecasts it holds."""
    # BEGIN SOLUTION
    rows = reliability(probabilities, outcomes, bins)
    return sum(count * abs(said - seen) for count, said, seen in rows) / len(probabilities)
    # PLANTED
    # rows = reliability(probabilities, outcomes, bins)
    # return sum(count * abs(said - seen) for count, said, seen in rows) / len(probabilities)
    # END SOLUTION


def report(right: Int[Tensor, "n"], outcomes: Float[Tensor, "n"], bins: int = BINS) -> dict[str, float]:
    """The calibration error of both forecasters."""
    forecasters = {"share": share_forecasts(right), "laplace": laplace_forecasts(right)}
    return {name: calibration_error(said, outcomes, bins) for name, said in forecasters.items()}


def main() -> None:
    right, outcomes = kinds_of_sums(20_000)
    for name, said in (("share", share_forecasts(right)), ("laplace", laplace_forecasts(right))):
        print(f"{name}:  forecasts   said   seen")
        for count, forecast, share in reliability(said, outcomes):
            print(f"{'':>8} {count:>10} {forecast:>6.3f} {share:>6.3f}")
    print({name: round(error, 4) for name, error in report(right, outcomes).items()})


if __name__ == "__main__":
    main()
