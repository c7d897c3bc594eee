"""Question by question, as it is read aloud."""


def accuracy(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    points = []
    for said, came in zip(probabilities.tolist(), outcomes.tolist()):
        points.append(0.5 if said == 0.5 else float((said > 0.5) == (came == 1)))
    return torch.tensor(sum(points) / len(points), dtype=torch.float64)


def log_losses(probabilities, outcomes, clip=0.0):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_clip(clip)
    losses = []
    for said, came in zip(probabilities.tolist(), outcomes.tolist()):
        said = min(max(said, clip), 1 - clip)
        if came == 1:
            losses.append(-math.log(said) if said > 0 else math.inf)
        else:
            losses.append(-math.log1p(-said) if said < 1 else math.inf)
    return torch.tensor(losses, dtype=torch.float64)


def log_loss(probabilities, outcomes, clip=0.0):
    losses = log_losses(probabilities, outcomes, clip)
    return losses.sum() / losses.numel()


def brier_score(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    squares = [(said - came) ** 2 for said, came in zip(probabilities.tolist(), outcomes.tolist())]
    return torch.tensor(math.fsum(squares) / len(squares), dtype=torch.float64)


def constant_forecasters(outcomes, score):
    outcomes = require_outcomes(outcomes)
    share = sum(outcomes.tolist()) / len(outcomes)
    told = {}
    for name, said in (("base_rate", share), ("half", 0.5)):
        told[name] = score(torch.tensor([said] * len(outcomes), dtype=torch.float64), outcomes)
    return told


def gain_over_half(probabilities, outcomes, clip=0.0):
    gains = [math.log(2) - loss for loss in log_losses(probabilities, outcomes, clip).tolist()]
    mean, n = sum(gains) / len(gains), len(gains)
    if n < 2:
        return mean, -math.inf, math.inf
    variance = sum((gain - mean) ** 2 for gain in gains) / (n - 1)
    return mean, mean - 1.96 * math.sqrt(variance / n), mean + 1.96 * math.sqrt(variance / n)


def calibration_table(probabilities, outcomes, bins=10):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_bins(bins)
    count, forecast, share = [], [], []
    for part in range(bins):
        low, high = part / bins, (part + 1) / bins
        held = [(p, o) for p, o in zip(probabilities.tolist(), outcomes.tolist()) if low <= p and (p < high or part == bins - 1)]
        count.append(float(len(held)))
        forecast.append(sum(p for p, _ in held) / len(held) if held else math.nan)
        share.append(sum(o for _, o in held) / len(held) if held else math.nan)
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in zip(("count", "forecast", "share"), (count, forecast, share))}


def expected_calibration_error(probabilities, outcomes, bins=10):
    table = calibration_table(probabilities, outcomes, bins)
    total = 0.0
    for count, forecast, share in zip(*(table[name].tolist() for name in ("count", "forecast", "share"))):
        if count:
            total += count * abs(forecast - share)
    return torch.tensor(total / len(outcomes), dtype=torch.float64)


def brier_parts(probabilities, outcomes):
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    overall, n = outcomes.mean(), len(outcomes)
    groups = {}
    for said, came in zip(probabilities.tolist(), outcomes.tolist()):
        groups.setdefault(said, []).append(came)
    reliability = sum(len(came) / n * (said - sum(came) / len(came)) ** 2 for said, came in groups.items())
    resolution = sum(len(came) / n * (sum(came) / len(came) - overall) ** 2 for came in groups.values())
    return {"resolution": resolution, "uncertainty": overall - overall**2, "reliability": torch.as_tensor(reliability, dtype=torch.float64)}
