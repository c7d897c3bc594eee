"""The numbers and pictures of lesson 4.   python lessons/04-kl/figures.py

Prints every number the text quotes and writes the PNGs beside this file (about 30 s), by the reference's functions.
"""

import math
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F

from toy.given.enumerable import EnumerableLM

HERE = Path(__file__).resolve().parent
WORDS = ("good", "bad", ".")
START, GOOD, BAD = (2, 1, 1), (1, 1, 2), (1, 1, 2)  # the reference: weights of "good", "bad", "." at the start and after a word
EAGER = (6, 1, 1)  # the policy of the example, after "good"
PLACES = {
    "k1 in the reward": "#1e8449",
    "k2 in the loss": "#a2d9a5",
    "full KL on sampled prefixes, in the loss": "#2471a3",
    "k3 of each token, in the loss": "#7fb3d5",
    "k3 of the sequence, in the loss": "#b9770e",
    "k3 in the reward": "#6c3483",
    "k1 in the loss": "#c0392b",
}
STEPS, LEARNING_RATE = 500, 1.0
FAMILY_SIZE = 50  # outcomes of the family of distributions on which the estimators are compared


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def model(start, after_good, after_bad, length):
    """A table whose next word depends on the word before: rows of weights."""
    lm = EnumerableLM.tabular(len(WORDS), length, eos=2)
    table, rows = lm.model.logits.data[0], {0: after_good, 1: after_bad}
    table[0] = tensor(*start).log()
    live = [(0, 0)]  # (row, its depth)
    for node, depth in live:
        for word, weights in rows.items():
            if depth + 1 < length:
                table[node * 3 + 1 + word] = tensor(*weights).log()
                live.append((node * 3 + 1 + word, depth + 1))
    return lm


def example():
    """Policy and reference of sections 4.7 to 4.12: seven sentences of at most two words."""
    return model(START, EAGER, BAD, 2), model(START, GOOD, BAD, 2).frozen()


def sentences(lm):
    return [" ".join(WORDS[token] for token in row[:count]) for row, count in zip(lm.sequences.tolist(), lm.lengths.tolist())]


def losses_of(kl, place, policy, reference, score, beta):
    """The loss of each sequence when it is the one sampled: minus the score's part, plus the penalty in one of the places."""
    chosen, ref, mask = policy.token_log_probs(), reference.token_log_probs().detach(), policy.mask
    distance = kl.sequence_kl_sampled(chosen, ref, mask)
    if place == "k1 in the reward":
        return kl.reinforce_loss(kl.kl_reward(score, chosen, ref, mask, beta), chosen, mask)
    if place == "k3 in the reward":
        return kl.reinforce_loss(score - beta * (torch.expm1(-distance) + distance), chosen, mask)
    penalty = {
        "no penalty": lambda: 0.0,
        "k1 in the loss": lambda: distance,
        "k2 in the loss": lambda: kl.kl_loss(chosen, ref, mask),
        "k2 of each token, in the loss": lambda: kl.k2(chosen, ref).sum(-1),
        "k3 of the sequence, in the loss": lambda: torch.expm1(-distance) + distance,
        "k3 of each token, in the loss": lambda: kl.k3(chosen, ref).sum(-1),
        "full KL on sampled prefixes, in the loss": lambda: kl.token_kl(
            policy.next_token_log_probs(), reference.next_token_log_probs().detach(), mask
        ).sum(-1),
    }[place]()
    return kl.reinforce_loss(score, chosen, mask) + beta * penalty


def expected_update(kl, place, policy, reference, score, beta):
    losses = losses_of(kl, place, policy, reference, score, beta)
    return kl.expected_gradient(losses, policy.log_probs(), policy.model.logits).flatten()


def compare_places(kl):
    """For each place: (cosine with the gradient of KL(pi||ref), length relative to it) of the expected gradient."""
    policy, reference = example()
    exact, nothing, found = policy.gradient(policy.kl(reference)), torch.zeros(len(policy), dtype=torch.float64), {}
    for place in [*PLACES, "k2 of each token, in the loss"]:
        update = expected_update(kl, place, policy, reference, nothing, 1.0)
        length = (update.norm() / exact.norm()).item()
        found[place] = ((update @ exact / update.norm() / exact.norm()).item() if length > 1e-9 else math.nan, length)
    return found


def task(length=3):
    """Section 4.13: start and reference, and the score: how many times "good" is said."""
    policy, reference = model(START, GOOD, BAD, length), model(START, GOOD, BAD, length).frozen()
    return policy, reference, reference.rewards(lambda tokens: tokens.count(0))


def ascend(kl, place, beta, steps=STEPS):
    """Expected updates from the reference on: rows of (total variation to pi*, KL from the reference, score), and the policy."""
    policy, reference, score = task()
    best = reference.optimum(score, beta) if beta else None
    rows = []
    for step in range(steps + 1):
        with torch.no_grad():
            apart = policy.total_variation(best).item() if beta else math.nan
            rows.append((apart, policy.kl(reference).item(), policy.expected(score).item()))
        update = expected_update(kl, place, policy, reference, score, beta).reshape(policy.model.logits.shape)
        policy.model.logits.data -= LEARNING_RATE * update
    return torch.tensor(rows, dtype=torch.float64), policy


def moments(kl, p, q):
    """Mean and standard deviation under p of k1, k2, k3, and of k3 upside down, by listing the outcomes."""
    log_p, log_q = p.log(), q.log()
    values = {"k1": kl.k1(log_p, log_q), "k2": kl.k2(log_p, log_q), "k3": kl.k3(log_p, log_q), "inverted": kl.k3(log_q, log_p)}
    return {n: ((p @ v).item(), ((p @ v**2 - (p @ v) ** 2).clamp(min=0) ** 0.5).item()) for n, v in values.items()}


def family(distance):
    """A policy that is a softmax of the reference's logits, moved by `distance` times a fixed random direction."""
    generator = torch.Generator().manual_seed(0)
    logits, direction = torch.randn(2, FAMILY_SIZE, generator=generator, dtype=torch.float64)
    return (logits + distance * direction).softmax(0), logits.softmax(0)


def bumps():
    """Section 4.3: a reference with two humps on 1..30, and the best single hump by each direction of the divergence."""
    x = torch.arange(1.0, 31.0, dtype=torch.float64)

    def hump(centre, width):
        return torch.softmax(-((x - centre) ** 2) / (2 * width**2), 0)

    reference = 0.6 * hump(9.0, 2.0) + 0.4 * hump(22.0, 2.5)
    grid = [(c / 4, w / 4) for c, w in product(range(4, 121), range(4, 61))]
    humps = {at: hump(*at) for at in grid}

    def divergence(p, q):
        return (p * (p.log() - q.log())).sum().item()

    ours = min(grid, key=lambda at: divergence(humps[at], reference))
    theirs = min(grid, key=lambda at: divergence(reference, humps[at]))
    return x, reference, (ours, humps[ours]), (theirs, humps[theirs])


def exact_numbers(kl):
    """What the text quotes and enumeration gives: name -> text as it stands in lesson.md."""
    half, quarter = tensor(0.5, 0.5), tensor(0.25, 0.75)
    coin, far = moments(kl, half, quarter), moments(kl, tensor(0.99, 0.01), half)
    theta = tensor(0.1, 0.2, 0.3, 0.4)
    p, q = tensor(0.5, 0.5, 0.0), tensor(0.25, 0.25, 0.5)
    numbers = {
        "coins": f"{kl.kl_divergence(half, quarter):.4f} against {kl.kl_divergence(quarter, half):.4f}",
        "coins, terms": f"0.5 · 0.6931 - 0.5 · 0.4055 = {kl.kl_divergence(half, quarter):.4f}",
        "tosses": f"about {math.log(100) / kl.kl_divergence(half, quarter).item():.0f} tosses",
        "coins, signed terms": " and ".join(f"{t:.4f}" for t in half * (half / quarter).log()),
        "even and odd, parts": even_odd_parts(theta, 0.4, 0.1),
        "coins, terms of t": " + ".join(f"{t:.4f}" for t in half * (half / quarter).log() - half + quarter),
        "swapped coins": f"{kl.kl_divergence(tensor(0.2, 0.8), tensor(0.8, 0.2)):.4f}",
        "F.kl_div mean": f"{F.kl_div(quarter.log(), half, reduction='mean'):.4f}",
        "F.kl_div other": f"{F.kl_div(half.log(), quarter, reduction='sum'):.4f}",
        "even and odd exchanged": f"{kl.kl_even_odd(theta, 0.1, 0.4):.4f}",
        "log of products": f"{(tensor(0.1, 0.4, 0.1, 0.4) / theta).log().sum():.4f}",
        "missing support": f"{(p[:2] * kl.k3(p[:2].log(), q[:2].log())).sum():.4f} where the KL is {kl.kl_divergence(p, q):.4f}",
        "chi2": f"{(half**2 / quarter).sum() - 1:.4f} - {coin['k1'][0]:.4f} = {coin['inverted'][0]:.4f}",
    }
    for name in ("k1", "k2", "k3"):
        values = getattr(kl, name)(half.log(), quarter.log())
        numbers[f"coin {name}"] = f"{values[0]:.4f} | {values[1]:.4f} | {coin[name][0]:.4f} | {coin[name][1]:.4f}"
    inverted = kl.k3(quarter.log(), half.log())
    numbers["coin inverted"] = f"{inverted[0]:.4f} | {inverted[1]:.4f} | {coin['inverted'][0]:.4f} | {coin['inverted'][1]:.4f}"
    numbers["far"] = f"KL is {far['k1'][0]:.3f}, the standard deviation of k1 {far['k1'][1]:.3f} and that of k3 {far['k3'][1]:.3f}"
    numbers |= family_numbers(kl) | bump_numbers() | sentence_numbers(kl) | place_numbers(kl)
    return numbers


def even_odd_parts(theta, alpha, beta):
    """The three parts of eq. 4.10 and their sum."""
    half = len(theta) / 2
    parts = [half * (alpha * math.log(alpha) + beta * math.log(beta))]
    parts += [-alpha * theta[1::2].log().sum().item(), -beta * theta[::2].log().sum().item()]
    return " + ".join(f"{part:.4f}" for part in parts) + f" = {sum(parts):.4f}"


def family_numbers(kl):
    numbers = {}
    for distance in (0.1, 0.5, 1.0, 2.0):
        policy, reference = family(distance)
        exact, found = kl.kl_divergence(policy, reference).item(), moments(kl, policy, reference)
        cells = [f"{exact:.4f}", *(f"{found[n][0]:.4f} ± {found[n][1]:.4f}" for n in ("k1", "k2", "k3", "inverted"))]
        numbers[f"family {distance}"] = " | ".join(cells)
    return numbers


def bump_numbers():
    _, _, (ours, _), (theirs, _) = bumps()
    return {
        "hump by KL(pi||ref)": f"centre {ours[0]:g}, width {ours[1]:g}",
        "hump by KL(ref||pi)": f"centre {theirs[0]:g}, width {theirs[1]:g}",
    }


def sentence_numbers(kl):
    """Sections 4.7 to 4.9: the seven sentences."""
    policy, reference = example()
    p, q = policy.probs().detach(), reference.probs()
    log_ratio = kl.sequence_kl_sampled(policy.token_log_probs().detach(), reference.token_log_probs(), policy.mask)
    rows, ref_rows = policy.next_token_log_probs().detach(), reference.next_token_log_probs()
    per_token = kl.token_kl(rows, ref_rows, policy.mask)
    exact = kl.sequence_kl_exact(rows, ref_rows, policy.sequences, policy.mask).item()
    steps = per_token.sum(-1)
    numbers = {
        f"sentence {name}": f"{name} | {16 * a:g}/16 | {b:.4g} | {c:.4f} | {d:.4f}"
        for name, a, b, c, d in zip(sentences(policy), p.tolist(), q.tolist(), (log_ratio + 0.0).tolist(), steps.tolist())
    }
    spread = {name: ((p @ x**2 - (p @ x) ** 2) ** 0.5).item() for name, x in (("L", log_ratio), ("full", steps))}
    return numbers | {
        "KL after good": f"{per_token[0, 1]:.4f}",
        "KL of sentences": f"0.5 · {per_token[0, 1]:.4f} = {exact:.4f}",
        "weighted twice": f"{(p * p * log_ratio).sum():.4f}",
        "mean over tokens": f"{(p * log_ratio / policy.lengths).sum():.4f}",
        "clamped": f"{(p * log_ratio.clamp(min=0)).sum():.4f}",
        "spread of L": f"{spread['L']:.4f} for $L$, {spread['full']:.4f} for",
        "other direction": f"{policy.reverse_kl(reference).item():.4f}",
    }


def place_numbers(kl):
    """Section 4.12: the table of places, the gradient's first row, and what a baseline does to the noise."""
    policy, reference = example()
    numbers = {}
    for place, (cosine, length) in compare_places(kl).items():
        numbers[place] = f"{place} | {'' if math.isnan(cosine) else f'{cosine:.4f}'} | {length:.4f}"
    exact = policy.gradient(policy.kl(reference)).reshape(4, 3)
    full = expected_update(kl, "full KL on sampled prefixes, in the loss", policy, reference, torch.zeros(7, dtype=torch.float64), 1.0)
    numbers["first row, exact"] = row(exact[0])
    numbers["first row, full"] = row(full.reshape(4, 3)[0])
    scores, p = policy.scores(), policy.probs().detach()
    distance = (policy.log_probs() - reference.log_probs()).detach()
    for name, weight in (("k2 in the loss", distance), ("k1 in the reward, baseline", distance - policy.kl(reference).item())):
        single = weight[:, None] * scores
        numbers[f"variance, {name}"] = f"{(p @ (single**2).sum(-1) - (p @ single).norm() ** 2).item():.4f}"
    return numbers


def measure(kl):
    """The runs of section 4.13, by place, and without a penalty by the strength of the penalty."""
    found = {place: ascend(kl, place, 1.0) for place in PLACES}
    strengths = {beta: ascend(kl, "k1 in the reward", beta) for beta in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)}
    return found, strengths


def measured_numbers(found, strengths):
    numbers, (_, reference, score) = {}, task()
    for place, (rows, _) in found.items():
        apart, moved, scored = rows[-1].tolist()
        numbers[f"end, {place}"] = f"{place} | {apart:.4f} | {moved:.4f} | {scored:.4f} | {scored - moved:.4f}"
    for beta, (rows, policy) in strengths.items():
        _, moved, scored = rows[-1].tolist()
        best = reference.optimum(score, beta) if beta else None
        least = f"{(best.exp() * (best - reference.log_probs())).sum():.4f}" if beta else f"{math.log(32):.4f}"
        says = policy.probs()[0].item()
        numbers[f"beta {beta}"] = f"{beta:g} | {moved:.4f} | {scored:.4f} | {says:.4f} | {least}"
    return numbers


def bug_run(steps=500):
    """The lesson's silent bug, as it is handed out: (reported KL, exact KL) at each step, means of ten steps."""
    from types import ModuleType

    from autograder.skeletons import skeleton

    source = (HERE.parents[1] / "solutions" / "toy" / "kl_bug.py").read_text(encoding="utf-8")
    program = ModuleType("kl_bug")
    exec(skeleton(source, 4), program.__dict__)
    listed, reference = torch.tensor(list(product(range(6), repeat=3))), program.speaker()
    exact = []

    def draw(table, *more):
        log_p, log_q = (program.token_log_probs(t.detach(), listed).sum(1) for t in (table, reference))
        exact.append((log_p.exp() @ (log_p - log_q)).item())
        return program.draw(table, *more)

    _, history = program.train_near_reference(reference, reference, steps=steps, draw=draw)
    return tensor(*history["kl"]).reshape(-1, 10).mean(1), tensor(*exact).reshape(-1, 10).mean(1), history


def bug_numbers(found):
    reported, exact, history = found
    score = sum(history["score"][-100:]) / 100
    return {
        "bug, end": f"reports {reported[-10:].mean():.2f} nats over the last hundred steps; listing all 216 sentences gives "
        f"{exact[-10:].mean():.2f}",
        "bug, begin": f"{reported[0]:.4f} reported and {exact[0]:.4f} listed",
        "bug, score": f"score of {score:.2f}",
    }


def row(numbers):
    """(0.75, -0.125): as the text writes a row, at most four decimals."""
    return "(" + ", ".join(f"{round(float(n), 4) + 0.0:g}" for n in numbers) + ")"


def main():
    import pictures
    from solutions.toy import kl

    found, strengths, bug = *measure(kl), bug_run()
    for name, text in (exact_numbers(kl) | measured_numbers(found, strengths) | bug_numbers(bug)).items():
        print(f"{name:<48}{text}")
    pictures.draw_all(kl, found, strengths, bug)


if __name__ == "__main__":
    main()
