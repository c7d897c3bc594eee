"""By torch's own functions, and with NumPy's histogram."""

import numpy as np


def log_losses(probabilities, outcomes, clip=0.0):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_clip(clip)
    given = torch.stack([1 - probabilities.clamp(clip, 1 - clip), probabilities.clamp(clip, 1 - clip)], dim=1)
    logs = given.log()
    logs[:, 0] = torch.log1p(-probabilities.clamp(clip, 1 - clip))
    return torch.nn.functional.nll_loss(logs, outcomes.long(), reduction="none")


def constant_forecasters(outcomes, score):
    outcomes = require_outcomes(outcomes)
    return {"half": score(outcomes * 0 + 0.5, outcomes), "base_rate": score(torch.ones_like(outcomes) * outcomes.mean(), outcomes)}


def gain_over_half(probabilities, outcomes, clip=0.0):
    losses = log_losses(probabilities, outcomes, clip).numpy()
    if len(losses) == 1:
        return float(np.log(2) - losses[0]), -np.inf, np.inf
    mean, error = np.log(2) - losses.mean(), losses.std(ddof=1) / len(losses) ** 0.5
    return float(mean), float(mean - 1.96 * error), float(mean + 1.96 * error)


def calibration_table(probabilities, outcomes, bins=10):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_bins(bins)
    edges = np.arange(bins + 1) / bins
    count, said, came = (
        torch.from_numpy(np.histogram(probabilities, edges, weights=weights)[0].astype(np.float64))
        for weights in (None, probabilities, outcomes)
    )
    return {"count": count, "forecast": said / count, "share": came / count}
