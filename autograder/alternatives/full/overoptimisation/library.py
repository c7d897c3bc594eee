"""By NumPy and SciPy, and by other formulas for the same numbers."""


def best_of_n(proxy, n):
    require_samples(proxy=proxy)
    require_n(n, proxy.shape[1])
    first = proxy[:, :n]
    return (first == first.amax(dim=1, keepdim=True)).int().argmax(dim=1)


def best_of_n_mean(proxy, gold, n):
    """Logarithms of binomial coefficients by the gamma function; equals found by sorting."""
    from scipy.special import gammaln
    import numpy as np

    require_samples(proxy=proxy, gold=gold)
    require_n(n, proxy.shape[1])
    size = proxy.shape[1]

    def share(count):
        with np.errstate(all="ignore"):
            log = gammaln(count + 1) - gammaln(count - n + 1) - gammaln(size + 1) + gammaln(size - n + 1)
        return np.where(count < n, 0.0, np.exp(log))

    told = []
    for mine, meant in zip(proxy.double().numpy(), gold.double().numpy()):
        ranked = np.sort(mine)
        low, high = np.searchsorted(ranked, mine, "left"), np.searchsorted(ranked, mine, "right")
        weight = (share(high) - share(low)) / (high - low)
        told.append((weight @ mine, weight @ meant))
    told = torch.tensor(np.array(told))
    return told[:, 0], told[:, 1]


def best_of_n_kl(n):
    """The integral of log(n F^(n-1)) over F, in closed form."""
    require_n(n)
    return math.log(n) - (1 - 1 / n)


def best_of_n_distribution(reference, reward, n):
    """(F^n - B^n) for each level, shared as the reference has it."""
    require_outcomes(reference, reward=reward)
    require_n(n)
    reference, reward = reference.double(), reward.double()
    at_most = (reward.unsqueeze(0) <= reward.unsqueeze(1)).double() @ reference
    below = (reward.unsqueeze(0) < reward.unsqueeze(1)).double() @ reference
    level = (reward.unsqueeze(0) == reward.unsqueeze(1)).double() @ reference
    return torch.where(level > 0, reference / level.clamp(min=1e-300) * (at_most**n - below**n), 0.0)


def tilted_frontier(reference, proxy, gold, betas):
    """KL = E[log-ratio] with log-ratio = proxy / beta - log Z."""
    require_outcomes(reference, proxy=proxy, gold=gold)
    require_betas(betas)
    tilt = proxy.double().unsqueeze(0) / torch.tensor(list(betas), dtype=torch.float64).unsqueeze(1)
    log_policy = torch.log_softmax(reference.double().log() + tilt, dim=1)
    log_z = torch.logsumexp(reference.double().log() + tilt, dim=1)
    policy = log_policy.exp()
    return {"gold": policy @ gold.double(), "proxy": policy @ proxy.double(), "kl": (policy * tilt).sum(dim=1) - log_z}


def linear_fit(columns, values):
    """SciPy's curve_fit of a function that is linear in its parameters."""
    import numpy as np
    from scipy.stats import t

    require_columns(columns, values)
    x, y = columns.double().numpy(), values.double().numpy()
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    free = x.shape[0] - x.shape[1]
    if free == 0:
        return torch.tensor(found), torch.full((len(found), 2), math.inf, dtype=torch.float64) * torch.tensor([-1.0, 1.0])
    covariance = np.linalg.pinv(x.T @ x) * np.sum((y - x @ found) ** 2) / free
    reach = t.isf(0.025, free) * np.sqrt(np.diag(covariance))
    return torch.tensor(found), torch.tensor(np.column_stack([found - reach, found + reach]))


def peak(fit):
    if fit.b <= 0:
        return math.inf, math.inf
    distance = max(fit.a / (2 * fit.b), 0.0) if fit.form == "best_of_n" else math.exp(fit.a / fit.b) / math.e
    return distance, float(fit(torch.tensor(distance, dtype=torch.float64)))


def ensemble_reward(scores, how="mean", k=1.0):
    import numpy as np

    require_ensemble(scores, how, k)
    array = scores.double().numpy()
    less = {"mean": 0.0, "min": array.mean(0) - array.min(0), "mean_minus_std": k * array.std(0, ddof=1)}[how]
    return torch.from_numpy(np.asarray(array.mean(0) - less))


def stop_at_kl(kl, budget):
    """How many checkpoints in a row from the start are within."""
    require_budget(kl, budget)
    return int((kl <= budget).long().cumprod(0).sum()) - 1


def stop_by_gold(gold, patience):
    """The running maximum; training ends where it has not moved for `patience` measurements."""
    require_patience(gold, patience)
    highest = gold.double().cummax(0).values
    for now in range(patience, len(gold)):
        if highest[now] == highest[now - patience]:
            return int((gold.double() == highest[now]).nonzero()[0])
    return int(gold.argmax())
