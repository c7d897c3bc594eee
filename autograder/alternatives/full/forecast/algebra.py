"""Other algebra: what came as a power, one-hot sums, and the parts of the Brier score by its own identity."""


def accuracy(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    given = probabilities.where(outcomes == 1, 1 - probabilities)  # to what came
    return ((given > 0.5).double() + (given >= 0.5).double()).mean() / 2


def log_losses(probabilities, outcomes, clip=0.0):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_clip(clip)
    low, high = (torch.tensor(edge, dtype=torch.float64) for edge in (clip, 1 - clip))
    probabilities = torch.minimum(torch.maximum(probabilities, low), high)
    return -torch.xlogy(outcomes, probabilities) - torch.special.xlog1py(1 - outcomes, -probabilities)  # 0 log 0 = 0


def brier_score(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    return torch.nn.functional.mse_loss(probabilities, outcomes)


def calibration_table(probabilities, outcomes, bins=10):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_bins(bins)
    lower = torch.arange(bins, dtype=torch.float64) / bins
    part = (probabilities.unsqueeze(1) >= lower).sum(1) - 1
    holds = torch.nn.functional.one_hot(part, bins).double()  # (n, bins)
    count = holds.sum(0)
    return {"count": count, "forecast": probabilities @ holds / count, "share": outcomes @ holds / count}


def expected_calibration_error(probabilities, outcomes, bins=10):
    table = calibration_table(probabilities, outcomes, bins)
    distance = (table["forecast"] - table["share"]).abs().nan_to_num(nan=0.0)
    return table["count"] @ distance / len(outcomes)


def brier_parts(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    same = (probabilities.unsqueeze(1) == probabilities).double()
    seen = same @ outcomes / same.sum(1)  # of every question: the share of yes in its group
    return {
        "reliability": ((probabilities - seen) ** 2).mean(),
        "resolution": seen.var(correction=0),
        "uncertainty": outcomes.var(correction=0),
    }
