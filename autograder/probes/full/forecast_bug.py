"""The silent bug of lesson 16: reports on tries and outcomes that are handed to it."""

import torch


def report(module, right, outcomes, bins):
    """The calibration error of both forecasters, and every row of their tables."""
    told = module.report(right, outcomes, bins)
    said = {"share": module.share_forecasts(right), "laplace": module.laplace_forecasts(right)}
    rows = {name: module.reliability(forecasts, outcomes, bins) for name, forecasts in said.items()}
    return {
        "errors": {name: float(told[name]) for name in said},
        "rows": {name: torch.tensor([[float(x) for x in row] for row in found], dtype=torch.float64) for name, found in rows.items()},
    }


def settings(module):
    """What the file says of itself, and how its own report comes out."""
    right, outcomes = module.kinds_of_sums(20_000)
    told = module.report(right, outcomes)
    return {"laplace is better": bool(told["laplace"] < told["share"])}
