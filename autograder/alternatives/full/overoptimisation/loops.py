"""Sample by sample and answer by answer, as it is read aloud."""


def best_of_n(proxy, n):
    require_samples(proxy=proxy)
    require_n(n, proxy.shape[1])
    kept = []
    for row in proxy.tolist():
        place = 0
        for other in range(1, n):
            if row[other] > row[place]:
                place = other
        kept.append(place)
    return torch.tensor(kept)


def best_of_n_mean(proxy, gold, n):
    """Place by place in the sorted order: the sample at place j is the best of C(j - 1, n - 1) choices; equals are averaged."""
    require_samples(proxy=proxy, gold=gold)
    require_n(n, proxy.shape[1])
    told = []
    for mine, meant in zip(proxy.double().tolist(), gold.double().tolist()):
        order = sorted(range(len(mine)), key=mine.__getitem__)
        ways, total = [math.comb(j, n - 1) for j in range(len(mine))], math.comb(len(mine), n)
        sums = [0.0, 0.0]
        at = 0
        while at < len(order):
            equals = [j for j in range(at, len(order)) if mine[order[j]] == mine[order[at]]]
            share = sum(ways[j] for j in equals) / total
            sums[0] += share * mine[order[at]]
            sums[1] += share * sum(meant[order[j]] for j in equals) / len(equals)
            at = equals[-1] + 1
        told.append(sums)
    told = torch.tensor(told, dtype=torch.float64)
    return told[:, 0], told[:, 1]


def best_of_n_kl(n):
    require_n(n)
    return math.log(n) - 1 + 1 / n


def best_of_n_distribution(reference, reward, n):
    """One draw after the other: what the best so far is, and whether the next one is strictly better."""
    require_outcomes(reference, reward=reward)
    require_n(n)
    reference, reward = reference.double(), reward.double()
    best = reference.clone()
    for _ in range(n - 1):
        stays = torch.stack([reference[reward <= value].sum() for value in reward])  # the next draw is no better
        worse = torch.stack([best[reward < value].sum() for value in reward])  # the best so far is strictly worse
        best = best * stays + reference * worse
    return best


def tilted_frontier(reference, proxy, gold, betas):
    require_outcomes(reference, proxy=proxy, gold=gold)
    require_betas(betas)
    rows = []
    for beta in betas:
        tilt = [math.log(p) + r / beta if p > 0 else -math.inf for p, r in zip(reference.tolist(), proxy.tolist())]
        weights = [math.exp(t - max(tilt)) for t in tilt]
        policy = [w / sum(weights) for w in weights]
        kl = sum(p * math.log(p / q) for p, q in zip(policy, reference.tolist()) if p > 0)
        rows.append([kl, *(sum(p * r for p, r in zip(policy, reward.tolist())) for reward in (proxy, gold))])
    rows = torch.tensor(rows, dtype=torch.float64)
    return {"kl": rows[:, 0], "proxy": rows[:, 1], "gold": rows[:, 2]}


def linear_fit(columns, values):
    """By orthogonal columns: X = QR, so (X^T X)^-1 = R^-1 R^-T."""
    from scipy import stats

    require_columns(columns, values)
    q, r = torch.linalg.qr(columns.double())
    inverse = torch.linalg.inv(r)
    found = inverse @ (q.T @ values.double())
    free = columns.shape[0] - columns.shape[1]
    if free == 0:
        return found, torch.tensor([[-math.inf, math.inf] for _ in found], dtype=torch.float64)
    residual = values.double() - columns.double() @ found
    errors = (inverse**2).sum(dim=1).sqrt() * residual.norm() / math.sqrt(free)
    low, high = stats.t.interval(0.95, free)
    return found, torch.stack([found + low * errors, found + high * errors], dim=1)


def fit_best_of_n(kl, gain):
    require_curve(kl, gain)
    rows = [[math.sqrt(x), -x] for x in kl.double().tolist()]
    (a, b), (first, second) = (x.tolist() for x in linear_fit(torch.tensor(rows, dtype=torch.float64), gain.double()))
    return Fit(form="best_of_n", a=a, b=b, a_interval=(first[0], first[1]), b_interval=(second[0], second[1]))


def fit_rl(kl, gain):
    """ln d is half of ln KL."""
    require_curve(kl, gain)
    rows = [[math.sqrt(x), -math.sqrt(x) * math.log(x) / 2] for x in kl.double().tolist()]
    (a, b), (first, second) = (x.tolist() for x in linear_fit(torch.tensor(rows, dtype=torch.float64), gain.double()))
    return Fit(form="rl", a=a, b=b, a_interval=(first[0], first[1]), b_interval=(second[0], second[1]))


def peak(fit):
    if not fit.b > 0:
        return float("inf"), float("inf")
    if fit.form == "rl":
        d = math.exp((fit.a - fit.b) / fit.b)
        return d, d * (fit.a - fit.b * math.log(d))
    if fit.a <= 0:
        return 0.0, 0.0
    return fit.a / fit.b / 2, fit.a**2 / fit.b / 4


def ensemble_reward(scores, how="mean", k=1.0):
    require_ensemble(scores, how, k)
    members = [row.double() for row in scores]
    if how == "min":
        worst = members[0]
        for row in members[1:]:
            worst = torch.minimum(worst, row)
        return worst
    mean = sum(members) / len(members)
    if how == "mean":
        return mean
    squares = sum((row - mean) ** 2 for row in members)
    return mean - k * torch.sqrt(squares / (len(members) - 1))


def stop_at_kl(kl, budget):
    require_budget(kl, budget)
    for checkpoint, value in enumerate(kl.tolist()):
        if value > budget:
            return checkpoint - 1
    return len(kl) - 1


def stop_by_gold(gold, patience):
    require_patience(gold, patience)
    best, at, waited = -math.inf, 0, 0
    for checkpoint, value in enumerate(gold.tolist()):
        if value > best:
            best, at, waited = value, checkpoint, 0
        else:
            waited += 1
        if waited >= patience:
            return at
    return at
