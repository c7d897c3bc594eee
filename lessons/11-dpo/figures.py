"""Draws the pictures of lesson 11 beside this file and prints every number that its text quotes.

    python lessons/11-dpo/figures.py             from measured.json: seconds
    python lessons/11-dpo/figures.py --measure   trains everything again and writes measured.json: some minutes on two cores
    python lessons/11-dpo/figures.py --reviews   the runs of section 11.11 again, which writes run.json: some minutes
"""

import copy
import dataclasses
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import torch
from matplotlib.figure import Figure

from full.given import film_words as world
from full.given.loop import Loop
from full.given.settings import DPOConfig

try:
    from solutions.full import dpo
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import dpo

HERE = Path(__file__).resolve().parent
STORE, REVIEWS = HERE / "measured.json", HERE / "run.json"
BETAS = (0.25, 0.5, 1.0, 2.0)
UPDATES = 300
RATE = 0.02
COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue", "tab:purple")
# section 11.2: probabilities of the tokens of two completions, under the policy and under the reference
EXAMPLE = {
    "chosen": ((0.2, 0.5, 0.4), (0.1, 0.4, 0.5)),
    "rejected": ((0.1, 0.8), (0.2, 0.8)),
}
NARROW = ((world.VERY, world.GOOD, world.END), (world.VERY, world.GOOD, world.GOOD))
"The single pair of section 11.9: chosen, rejected."


class Film:
    """The world of `film_words` with everything about its reference listed."""

    def __init__(self):
        self.reference = world.gpt2().requires_grad_(False)
        self.lm = world.listed(self.reference)
        self.reward = world.rewards(self.lm)
        self.liked = self.reward > 0
        self.log_ref = self.lm.log_probs()
        self.lengths = self.lm.lengths.double()
        self.ends = (self.lm.sequences == world.END).any(dim=1)

    def place(self, tokens):
        padded = [*tokens, *[world.END] * (world.LENGTH - len(tokens))]
        return int(self.lm.index(torch.tensor([padded]))[0])

    def measured(self, log_probs):
        """What is exact of a policy with these log-probabilities of all completions."""
        probs = log_probs.exp()
        return {
            "reward": float(probs @ self.reward), "liked": float(probs[self.liked].sum()),
            "kl": float(probs @ (log_probs - self.log_ref)), "length": float(probs @ self.lengths),
            "ends": float(probs[self.ends].sum()),
        }  # fmt: skip

    def choices(self, never_errs=False):
        found = world.judged(self.lm, never_errs)
        return found.unique(dim=0) if never_errs else found  # the same four times is the same mean

    def run(self, choices, config, updates=UPDATES, rate=RATE, every=10):
        """Trains on these choices, all of them in every step. Every `every` updates: what is exact, and what was logged."""
        pairs = world.pairs_of(self.lm, choices)
        summed = dpo.reference_log_probs(self.reference, pairs)
        pairs = dataclasses.replace(pairs, ref_log_probs=summed)
        policy = world.copy_of(self.reference)
        mine, target = world.listed(policy), self.lm.optimum(self.reward, config.beta)
        optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
        seen = []

        def look(update):
            with torch.no_grad():
                log_probs = mine.log_probs()
                distance = float(mine.total_variation(target))
            seen.append({"update": update, "tv": distance, **self.measured(log_probs), "log_probs": log_probs.tolist()})

        def batches():
            for update in range(updates):
                if update % every == 0:
                    look(update)
                optimizer.param_groups[0]["lr"] = rate * (1 - update / updates)
                yield pairs

        loop = Loop(policy, batches(), optimizer, config)
        dpo.train(loop, config)
        look(updates)
        for place, point in zip([*range(0, updates, every), updates - 1], seen):
            point |= {name: value for name, value in loop.rows[place].items() if name != "step"}
        return seen


# numbers


def exact_numbers(film):
    """Everything the text says that needs no run: {what: the text as it stands there}."""
    found = {}
    probs = film.log_ref.exp()
    found["completions"] = f"{len(film.lm)} completions"
    found["liked completions"] = f"{int(film.liked.sum())} of them"
    found["choices"] = f"{len(film.choices())} choices"
    found["judge's entropy"] = f"{judge_entropy():.4f}"
    start = film.measured(film.log_ref)
    found["reference"] = f"| the reference | {start['liked']:.3f} | 0 | {start['length']:.3f} | {start['ends']:.3f} |"
    for beta in BETAS:
        best = film.measured(film.lm.optimum(film.reward, beta))
        found[f"optimum {beta}"] = rf"| $\pi^*$, $\beta = {beta:g}$ " + cells(best, "liked", "kl", "length", "ends")
    likeliest = [int(i) for i in probs.argsort(descending=True)[:3]]
    said = [world.text(film.lm.sequences[i, : film.lm.lengths[i]].tolist()) for i in likeliest]
    found["likeliest"] = ", ".join(f'"{words}" ({float(probs[i]):.3f})' for words, i in zip(said, likeliest))
    return found | example_numbers() | loss_numbers() | precision_numbers() | mean_numbers(film)


def cells(figures, *names):
    """The rest of a table's row."""
    return "".join(f"| {figures[name]:.3f} " for name in names) + "|"


def judge_entropy(p=0.75):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def example_numbers(beta=0.5):
    """The two completions of section 11.2, through the lesson's own functions."""
    logs = {side: tuple(torch.tensor(p, dtype=torch.float64).log() for p in both) for side, both in EXAMPLE.items()}
    sums = {side: tuple(float(x.sum()) for x in both) for side, both in logs.items()}
    four = [torch.tensor([sums[side][i]], dtype=torch.float64) for i in (0, 1) for side in ("chosen", "rejected")]
    four[0].requires_grad_(True)
    loss = dpo.dpo_loss(*four, beta)
    loss.backward()
    metrics = dpo.dpo_metrics(*four, beta)
    short = {side: float((both[0] - both[1]).sum()) for side, both in logs.items()}
    found = {
        "chosen": rf"$\log \pi(y_c \mid x)$ = {sums['chosen'][0]:.3f}",
        "rejected": rf"$\log \pi(y_r \mid x)$ = {sums['rejected'][0]:.3f}",
        "reference's": f"{sums['chosen'][1]:.3f} and {sums['rejected'][1]:.3f}",
        "log ratios": f"{short['chosen']:.3f} and {short['rejected']:.3f}",
        "margin": f"$h$ = {short['chosen'] - short['rejected']:.3f}",
        "loss": f"$\\log 1.5$ = {loss.item():.4f}",
        "slope": f"{float(four[0].grad[0]):.4f}",
        "rewards": f"{float(metrics['chosen_reward']):.3f} and {float(metrics['rejected_reward']):.3f}",
        "means": f"{short['chosen'] / 3:.3f} and {short['rejected'] / 2:.3f}",
    }
    for loss_name, name in (("dpop", "DPOP"), ("ipo", "IPO")):
        found[name] = f"{name} {dpo.dpo_loss(*four, beta, loss_name).item():.4f}"
    return {f"example, {name}": text for name, text in found.items()}


def loss_numbers(margin=0.3):
    zero, ahead = torch.zeros(1, dtype=torch.float64), torch.tensor([margin], dtype=torch.float64)
    losses = [float(dpo.dpo_loss(ahead, zero, zero, zero, beta)) for beta in (0.1, 0.25, 0.5)]
    return {"one margin, three betas": ", ".join(f"{loss:.3f}" for loss in losses), "log 2": f"{math.log(2):.4f}"}


def precision_numbers():
    near = torch.tensor([-60.1, -60.2]).to(torch.bfloat16).tolist()
    size = 32 * 128 * 50257 * 4 / 2**20
    return {
        "bfloat16": f"-60.1 is {near[0]:g} and -60.2 is {near[1]:g}",
        "logits": f"{size:.0f} MiB",
    }


def mean_optimum(film, beta):
    """DPO's optimum on *mean* log-probabilities, in closed form: log pi/ref = T (r / beta + c), c so that it sums to 1."""

    def log_probs(c):
        return film.log_ref + film.lengths * (film.reward / beta + c)

    low, high = -100.0, 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if log_probs(middle).logsumexp(0) < 0 else (low, middle)
    return log_probs(low)


def mean_numbers(film):
    """Section 11.9: what averaging does at twice and a half the beta, where a text of 2.5 tokens is as strong as before."""
    found = {}
    for beta in (0.5, 1.25):
        ends = mean_optimum(film, beta)
        here = film.measured(ends)
        tv = 0.5 * float((ends.exp() - film.lm.optimum(film.reward, 0.5).exp()).abs().sum())
        found[f"means at {beta}"] = f"| {beta:g} | {here['liked']:.3f} | {here['kl']:.3f} | {here['length']:.3f} | {tv:.3f} |"
    return found


def reinforce_path(film, steps=120, rate=0.01):
    """REINFORCE without a KL, by its exact expected gradient: reward and KL after every step."""
    policy = world.copy_of(film.reference)
    mine = world.listed(policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    points = []
    for _ in range(steps):
        log_probs = mine.log_probs()
        loss = -(log_probs.exp() @ film.reward)
        points.append((float(log_probs.detach().exp() @ (log_probs.detach() - film.log_ref)), -loss.item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return points


def frontier(film, kl):
    """The most reward any policy can have at this KL: that of the pi* which has it."""
    low, high = math.log(0.02), math.log(50.0)
    for _ in range(100):
        middle = (low + high) / 2
        here = film.measured(film.lm.optimum(film.reward, math.exp(middle)))
        low, high = (low, middle) if here["kl"] < kl else (middle, high)
    return film.measured(film.lm.optimum(film.reward, math.exp(low)))["reward"]


# measurements


def planted() -> ModuleType:
    """The silent bug's file as a learner gets it."""
    from autograder.skeletons import skeleton

    text = skeleton((HERE.parents[1] / "solutions" / "full" / "dpo_bug.py").read_text(encoding="utf-8"), 11)
    module = ModuleType("planted")
    exec(compile(text, "dpo_bug.py", "exec", dont_inherit=True), module.__dict__)
    return module


def bug_run(module, film, updates=150):
    """What `main` of the bug's file does, every tenth update: what it reports, and what is exact."""
    policy = world.copy_of(film.reference)
    mine, target = world.listed(policy), film.lm.optimum(film.reward, 0.5)
    optimizer = torch.optim.Adam(policy.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=updates)
    seen, count = [], 0

    def show(line):
        nonlocal count
        schedule.step()
        count += 1
        if count == 1 or count % 10 == 0:
            with torch.no_grad():
                log_probs = mine.log_probs()
                seen.append({"update": count, **line, **film.measured(log_probs)})
                seen[-1]["tv"] = float(mine.total_variation(target))

    answers = module.answers_of(film.lm, film.choices())
    module.train_dpo(policy, film.reference, optimizer, world.PROMPT, answers, beta=0.5, updates=updates, after_update=show)
    with torch.no_grad():
        ratio = mine.log_probs() - film.log_ref
        words = (mine.token_log_probs() - film.lm.token_log_probs()) * (film.lm.sequences != world.END)
    liked = film.liked.nonzero().flatten().tolist()
    return {"curve": seen, "ratio": ratio.tolist(), "words": words.sum(1).tolist(), "liked": liked}


def measure(film):
    """Every run of the lesson. Curves keep the exact log-probabilities of the first and the last point alone."""
    found = {"dpo": {}, "never errs": {}, "narrow": {}}
    for beta in BETAS:
        found["dpo"][str(beta)] = thinned(film.run(film.choices(), DPOConfig(beta=beta)))
    decided = film.choices(never_errs=True)
    for name, config in (("dpo", DPOConfig(beta=0.5)), ("dpo, 2", DPOConfig(beta=2.0)),
                         ("dpop", DPOConfig(beta=0.5, loss="dpop")), ("ipo", DPOConfig(beta=0.5, loss="ipo"))):  # fmt: skip
        found["never errs"][name] = thinned(film.run(decided, config, updates=600, every=20))
    found["average"] = thinned(film.run(film.choices(), DPOConfig(beta=1.25, average=True)))
    pair = torch.tensor([[film.place(tokens) for tokens in NARROW]])
    for name, config in (("dpo", DPOConfig(beta=0.1)), ("dpop, 5", DPOConfig(beta=0.1, loss="dpop")),
                         ("dpop, 50", DPOConfig(beta=0.1, loss="dpop", dpop_lambda=50.0)),
                         ("ipo", DPOConfig(beta=0.1, loss="ipo"))):  # fmt: skip
        curve = film.run(pair, config, updates=200, rate=0.005, every=5)
        for point in curve:
            log_probs = point["log_probs"]
            point["mass"] = {name: math.exp(log_probs[film.place(tokens)]) for name, tokens in
                             (("chosen", NARROW[0]), ("rejected", NARROW[1]), ("END", (world.END,)))}  # fmt: skip
        found["narrow"][name] = thinned(curve)
    found["reinforce"] = reinforce_path(film)
    try:
        from solutions.full import dpo_bug as mended

        found["bug"] = {"planted": bug_run(planted(), film), "mended": bug_run(mended, film)}
    except ModuleNotFoundError:  # a student's copy keeps what it came with
        found["bug"] = json.loads(STORE.read_text(encoding="utf-8"))["bug"]
    return found


REVIEW_RUNS = {  # of section 11.11: the loss, beta, and the learning rate
    "dpo": ("dpo", 0.1, 3e-5),
    "dpo, too fast": ("dpo", 0.1, 3e-4),
    "dpo, beta 1": ("dpo", 1.0, 1e-4),
    "ipo": ("ipo", 0.1, 1e-4),
}


def review_runs(steps=50, pairs=32, every=10):
    """DPO on parallel reviews with the built-in models: what is logged, and what the policy writes after 128 fixed prompts."""
    from full.given import data, models
    from full.given.rollout import rollout
    from full.given.scoring import completion_log_probs

    policy, tokenizer = models.load_policy("review-lm")
    classifier, its_tokenizer = models.load_classifier("review-sentiment")
    reviews = data.the_world()
    names = {"prompt": "prompt", "chosen": "positive_completion", "rejected": "negative_completion"}
    rows = [{mine: row[theirs] for mine, theirs in names.items()} for row in reviews.pairs(steps * pairs, 10, 1)]
    found = data.preferences(tokenizer, rows, 40, "reviews")
    prompts = data.prompts_of(data.encode(tokenizer, reviews.prompts(128, 10, 2)), tokenizer.pad_token_id)
    reference = copy.deepcopy(policy).requires_grad_(False).eval()

    def look(model):
        pads = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        written = rollout(model, prompts, 20, **pads, generator=torch.Generator().manual_seed(0))
        texts = [tokenizer.decode(row[real.bool()], skip_special_tokens=True)
                 for row, real in zip(written.tokens, written.attention_mask)]  # fmt: skip
        with torch.no_grad():
            ratio = (completion_log_probs(model, written) - completion_log_probs(reference, written)).sum(1)
        rewards = models.positive_probability(classifier, its_tokenizer, texts)
        natural = torch.as_tensor(reviews.naturalness(texts, after=[10] * len(texts)), dtype=torch.float64)
        means = {name: float(x.mean()) for name, x in (("reward", rewards), ("kl", ratio), ("naturalness", natural))}
        return {**means, "text": texts[:2]}

    curves = {}
    for name, (loss, beta, rate) in REVIEW_RUNS.items():
        config, mine = DPOConfig(beta=beta, loss=loss), copy.deepcopy(policy)
        points = []

        def batches(mine=mine, points=points):
            for step in range(steps):
                if step % every == 0:
                    points.append({"update": step, **look(mine)})
                yield data.pairs_of(found, list(range(step * pairs, (step + 1) * pairs)), tokenizer.pad_token_id)

        loop = Loop(mine, batches(), torch.optim.AdamW(mine.parameters(), lr=rate), config, reference=reference)
        dpo.train(loop, config)
        points.append({"update": steps, **look(mine)})
        curves[name] = {"points": points, "log": loop.rows}
    return curves


def thinned(curve):
    for point in curve[1:-1]:
        point.pop("log_probs")
    return rounded(curve)


def rounded(value, digits=7):
    """Numbers with as many digits as the pictures and the text need, and more."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    return [rounded(entry, digits) for entry in value] if isinstance(value, (list, tuple)) else value


def stored():
    return json.loads(STORE.read_text(encoding="utf-8"))


def measured_numbers(film, found):
    """The text's numbers that come from runs."""
    numbers = {}
    for beta in BETAS:
        last, best = found["dpo"][str(beta)][-1], film.measured(film.lm.optimum(film.reward, beta))
        numbers[f"end of {beta}"] = f"| {beta:g} | {last['loss']:.4f} {cells(last, 'liked', 'kl')} {last['tv']:.4f} |"
        assert abs(best["kl"] - last["kl"]) < 0.05
    half = found["dpo"]["0.5"]
    numbers["tv at the start"] = f"from {half[0]['tv']:.3f}"
    numbers["margin at the end"] = f"{half[-1]['margin']:.3f}"
    numbers["log-probs at the start"] = f"{half[0]['chosen_log_prob']:.2f} and {half[0]['rejected_log_prob']:.2f}"
    numbers["log-probs at the end"] = f"{half[-1]['chosen_log_prob']:.2f} and {half[-1]['rejected_log_prob']:.2f}"
    for name, label in (("dpo", r"DPO, $\beta = 0.5$"), ("dpo, 2", r"DPO, $\beta = 2$"), ("dpop", r"DPOP, $\beta = 0.5$"),
                        ("ipo", r"IPO, $\beta = 0.5$")):  # fmt: skip
        curve = found["never errs"][name]
        at = {point["update"]: point for point in curve}
        numbers[f"never errs, {name}"] = (
            f"| {label} | {at[100]['kl']:.2f} | {at[300]['kl']:.2f} | {at[600]['kl']:.2f} | {at[600]['liked']:.3f} |"
        )
    for name, label in (("dpo", "DPO"), ("dpop, 5", r"DPOP, $\lambda = 5$"), ("dpop, 50", r"DPOP, $\lambda = 50$"),
                        ("ipo", "IPO")):  # fmt: skip
        last = found["narrow"][name][-1]
        mass = [last["mass"][side] for side in ("chosen", "rejected", "END")]
        numbers[f"narrow, {name}"] = f"| {label} | " + " | ".join(f"{m:.4f}" for m in mass) + f" | {last['kl']:.2f} |"
    first = found["narrow"]["dpo"][0]["mass"]
    said = " | ".join(f"{first[side]:.4f}" for side in ("chosen", "rejected", "END"))
    numbers["narrow, start"] = f"| the reference | {said} | 0 |"
    last = found["narrow"]["dpo"][-1]
    numbers["narrow, loss"] = f"has fallen to {last['loss']:.3f}. Its margin is {last['margin'] / 0.1:.0f} nats"
    ends = mean_optimum(film, 1.25).exp()
    off = 0.5 * float((torch.tensor(found["average"][-1]["log_probs"]).exp() - ends).abs().sum())
    numbers["means, trained"] = f"{off:.3f}"
    kl, reward = next(point for point in found["reinforce"] if point[0] > 1)
    numbers["REINFORCE at one nat"] = f"{kl:.2f} nats of KL a reward of {reward:.3f}"
    numbers["frontier there"] = f"{frontier(film, kl):.3f}"
    return numbers | bug_numbers(film, found["bug"])


def bug_numbers(film, found):
    wrong, right = found["planted"]["curve"][-1], found["mended"]["curve"][-1]
    best = film.measured(film.lm.optimum(film.reward, 0.5))
    numbers = {}
    for name, row in (("as it is", wrong), ("mended", right)):
        numbers[f"bug, {name}"] = (
            f"| {name} | {row['loss']:.4f} | {row['accuracy']:.2f} {cells(row, 'liked', 'kl', 'length', 'ends', 'tv')}"
        )
    numbers["bug, optimum"] = rf"| $\pi^*$ | | {cells(best, 'liked', 'kl', 'length', 'ends')} 0 |"
    return numbers


def review_numbers(found):
    """The table of section 11.11."""
    start = found["dpo"]["points"][0]
    numbers = {"reviews, start": f"| {start['reward']:.3f} | 0 | {start['naturalness']:.2f} | 0 | 0 |"}
    for name, (loss, beta, rate) in REVIEW_RUNS.items():
        end, told = found[name]["points"][-1], found[name]["log"][-1]
        row = f"{loss.upper()} | {beta:g} | {rate:g} | {end['reward']:.3f} | {end['kl']:.2f} | {end['naturalness']:.2f} "
        ratios = [told[f"{side}_reward"] / beta for side in ("chosen", "rejected")]
        numbers[f"reviews, {name}"] = f"{row}| {ratios[0]:.1f} | {ratios[1]:.1f} |"
    fast = found["dpo, too fast"]
    numbers["reviews, the loss"] = f"from {fast['log'][0]['loss']:.3f} to {fast['log'][-1]['loss']:.3f}"
    numbers["reviews, what it writes"] = fast["points"][-1]["text"][1].partition(" forgot")[0]  # a quotation of two lines
    return numbers


# pictures


def draw_distance(found):
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for beta, colour in zip(BETAS, COLOURS):
        curve = found["dpo"][str(beta)]
        updates = [point["update"] for point in curve]
        left.semilogy(updates, [point["tv"] for point in curve], color=colour, label=f"beta {beta:g}")
        right.plot(updates, [point["loss"] for point in curve], color=colour)
    right.axhline(judge_entropy(), color="black", linewidth=0.8, linestyle=":")
    right.text(UPDATES, judge_entropy() + 0.002, "the judge's entropy", ha="right", fontsize=8)
    left.set(xlabel="update", ylabel="total variation to pi*", title="where training ends")
    right.set(xlabel="update", ylabel="loss", title="what the loss says of it")
    left.legend()
    save(figure, "distance.png")


def draw_frontier(film, found):
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    betas = torch.logspace(math.log10(0.15), math.log10(8), 60).tolist()
    line = [film.measured(film.lm.optimum(film.reward, beta)) for beta in betas]
    axes.plot([p["kl"] for p in line], [p["reward"] for p in line], color="black", label="pi* of every beta: the most there is")
    path = [point for point in found["reinforce"] if point[0] < 2.6]
    label = "REINFORCE without KL, step by step"
    axes.plot([p[0] for p in path], [p[1] for p in path], color="tab:gray", linestyle="--", label=label)
    for beta, colour in zip(BETAS, COLOURS):
        last = found["dpo"][str(beta)][-1]
        axes.plot(last["kl"], last["reward"], "o", color=colour, label=f"DPO, beta {beta:g}: loss {last['loss']:.4f}")
    wrong = found["bug"]["planted"]["curve"][-1]
    axes.plot(wrong["kl"], wrong["reward"], "x", color="tab:purple", label=f"the silent bug, beta 0.5: loss {wrong['loss']:.4f}")
    axes.set(xlabel="KL to the reference, nats", ylabel="E[reward]", title="reward at equal KL")
    axes.legend(fontsize=8, loc="lower right")
    save(figure, "frontier.png")


def draw_apart(found):
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, curve, title in (
        (panels[0], found["dpo"]["0.5"], "choices of a judge who errs"),
        (panels[1], found["never errs"]["dpo"], "a judge who never errs"),
        (panels[2], found["narrow"]["dpo"], "one pair, one token apart"),
    ):
        updates = [point["update"] for point in curve]
        axes.plot(updates, [point["chosen_log_prob"] for point in curve], color="tab:green", label="chosen")
        axes.plot(updates, [point["rejected_log_prob"] for point in curve], color="tab:red", label="rejected")
        axes.set(xlabel="update", title=title)
    panels[0].set_ylabel("mean log-probability, nats")
    panels[0].legend()
    save(figure, "apart.png")


def draw_anchor(found):
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    curves = {"DPO, beta 0.5, a judge who errs": found["dpo"]["0.5"], "DPO, beta 0.5": found["never errs"]["dpo"],
              "DPO, beta 2": found["never errs"]["dpo, 2"], "DPOP, beta 0.5": found["never errs"]["dpop"],
              "IPO, beta 0.5": found["never errs"]["ipo"]}  # fmt: skip
    for (name, curve), colour in zip(curves.items(), ("black", *COLOURS)):
        style = ":" if colour == "black" else "-"
        axes.plot([p["update"] for p in curve], [p["kl"] for p in curve], color=colour, linestyle=style, label=name)
    axes.set(xlabel="update", ylabel="KL to the reference, nats", title="a judge who never errs switches the anchor off")
    axes.legend(fontsize=8)
    save(figure, "anchor.png")


def draw_bug(film, found):
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = film.measured(film.lm.optimum(film.reward, 0.5))
    for name, colour in (("planted", "tab:red"), ("mended", "tab:green")):
        curve = found["bug"][name]["curve"]
        updates = [point["update"] for point in curve]
        label = "as it is" if name == "planted" else "mended"
        left.plot(updates, [point["loss"] for point in curve], color=colour, label=label)
        right.plot(updates, [point["length"] for point in curve], color=colour, label=label)
    left.set(xlabel="update", ylabel="loss", title="what it reports")
    right.axhline(best["length"], color="black", linewidth=0.8, linestyle=":")
    right.set(xlabel="update", ylabel="tokens", title="mean length of what it writes (dotted: pi*)")
    left.legend()
    save(figure, "bug.png")


def draw_reviews(found):
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    *panels, plane = figure.subplots(1, 3)
    for axes, name in zip(panels, ("dpo", "dpo, too fast")):
        log = found[name]["log"]
        for side, colour in (("chosen", "tab:green"), ("rejected", "tab:red")):
            ratios = [row[f"{side}_reward"] / REVIEW_RUNS[name][1] for row in log]  # free of how long this batch's texts are
            axes.plot([row["step"] for row in log], ratios, color=colour, label=side)
        axes.set(xlabel="update", title=f"DPO, learning rate {REVIEW_RUNS[name][2]:g}")
    panels[0].set_ylabel("mean log ratio to the reference, nats")
    panels[0].legend()
    for (name, run), colour in zip(found.items(), COLOURS):
        points = run["points"]
        label = f"{REVIEW_RUNS[name][0].upper()}, beta {REVIEW_RUNS[name][1]:g}, rate {REVIEW_RUNS[name][2]:g}"
        plane.plot([p["kl"] for p in points], [p["reward"] for p in points], "o-", markersize=3, color=colour, label=label)
    plane.set(xlabel="KL, nats", ylabel="P(positive)", title="what they buy", xscale="symlog")
    plane.legend(fontsize=6)
    save(figure, "run.png")


def save(figure, name):
    figure.savefig(HERE / name, dpi=110)


def main():
    torch.set_num_threads(1)
    film = Film()
    if "--measure" in sys.argv[1:]:
        STORE.write_text(json.dumps(rounded(measure(film))) + "\n", encoding="utf-8")
    if "--reviews" in sys.argv[1:]:
        REVIEWS.write_text(json.dumps(rounded(review_runs(), 5)) + "\n", encoding="utf-8")
    found = stored()
    reviews = json.loads(REVIEWS.read_text(encoding="utf-8"))
    for what, text in {**exact_numbers(film), **measured_numbers(film, found), **review_numbers(reviews)}.items():
        print(f"{what:28}{text}")
    draw_distance(found)
    draw_frontier(film, found)
    draw_apart(found)
    draw_anchor(found)
    draw_bug(film, found)
    draw_reviews(reviews)


if __name__ == "__main__":
    main()
