"""The silent bug of lesson 17: reports on scores that are handed to it."""


def report(module, proxy, gold, sizes):
    """Every row of the report, and the advice that follows from it."""
    rows = module.report(proxy, gold, [int(n) for n in sizes.tolist()])
    told = {name: [float(row[name]) for row in rows] for name in ("n", "kl", "proxy", "gold")}
    return {**told, "advice": int(module.advice(rows))}


def settings(module):
    """What the file says of its own answers."""
    proxy, gold = module.answers(300)
    rows = module.report(proxy, gold)
    return {"draw fewer than all": bool(module.advice(rows) < proxy.shape[1])}
