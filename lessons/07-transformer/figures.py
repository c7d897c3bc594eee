"""The numbers and pictures of lesson 7.   python lessons/07-transformer/figures.py

Prints every number the text quotes and writes the PNGs beside this file (about three minutes), by the reference's functions. The
model is trained in float64 and on one thread, so that its numbers are the same everywhere.
"""

import math
import sys
import time
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
STEPS, BATCH, PEAK, WARMUP = 600, 64, 1e-2, 50
EXAMPLE = "they were very happy but angry yesterday"
SETTINGS = {  # temperature, top_k, top_p
    "T = 1": (1.0, None, None),
    "T = 0.7": (0.7, None, None),
    "T = 1.5": (1.5, None, None),
    "top-k 5": (1.0, 5, None),
    "top-k 3": (1.0, 3, None),
    "top-p 0.95": (1.0, None, 0.95),
    "T = 0.7, top-k 3": (0.7, 3, None),
}
LENGTHS = (8, 16, 32, 64, 128, 256)


@lru_cache(maxsize=None)
def world():
    from toy.given.word_world import WordWorld

    return WordWorld()


@lru_cache(maxsize=None)
def trained(seed=0):
    """The model after pretraining; the loss of every batch; the exact expected loss at some steps, by step."""
    from solutions.toy import transformer as tr
    from toy.given.transformer import warmup_cosine

    torch.manual_seed(seed)
    model = tr.TinyGPT(20, 13).double()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.95))
    exact = {0: world().expected_loss(model)}

    def after_step(step):
        if (step + 1) % 25 == 0 or step + 1 in (5, 10):
            exact[step + 1] = world().expected_loss(model)

    batches = world().batches(STEPS, BATCH, torch.Generator().manual_seed(seed))
    losses = tr.pretrain(model, batches, optimizer, warmup_cosine(PEAK, WARMUP, STEPS), after_step=after_step)
    return model, losses, exact


def unshifted(steps=150):
    """The losses of a model that is trained to say the token it has just read."""
    from solutions.toy import transformer as tr
    from toy.given.transformer import warmup_cosine

    torch.manual_seed(0)
    model, losses = tr.TinyGPT(20, 13).double(), []
    optimizer, rate = torch.optim.Adam(model.parameters(), betas=(0.9, 0.95)), warmup_cosine(PEAK, WARMUP, STEPS)
    for step, (tokens, mask) in enumerate(world().batches(steps, BATCH, torch.Generator().manual_seed(0))):
        optimizer.param_groups[0]["lr"] = rate(step)
        log_probs = model(tokens, mask).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        loss = -log_probs[mask].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def sentence_scores(model, sampling=(1.0, None, None)):
    """log q of every sentence of the world under the model with these sampling settings, (sentences,)."""
    from solutions.toy import transformer as tr

    found, w = [], world()
    with torch.no_grad():
        for tokens, mask in zip(w.tokens.split(2048), w.mask.split(2048)):
            drawn = mask.clone()
            drawn[:, 0] = False
            found.append(tr.completion_log_probs(model(tokens, mask), tokens, drawn, *sampling).sum(-1))
    return torch.cat(found)


def sampled_language(model):
    """What each setting makes of the language, exactly: by name, the model's chance of a sentence of the world, and the share of
    the world's own sentences that can still be drawn."""
    rows = {}
    for name, setting in SETTINGS.items():
        scores = sentence_scores(model, setting)
        rows[name] = (float(scores.exp().sum()), float(world().log_probs.exp()[scores > -torch.inf].sum()))
    return rows


def drawn_log_ratios(model, setting, count=4000):
    """Of sentences drawn by `generate`, with the cache, (count,) each: the log-probability that one pass over the whole sentence
    gives them minus that with which they were drawn, by the full softmax and by the distribution of the setting."""
    from solutions.toy import transformer as tr
    from toy.given.word_world import BOS, EOS, PAD

    recorded, original = torch.zeros(count, dtype=torch.float64), tr.sample_next
    running = torch.ones(count, dtype=torch.bool)

    def sample_next(logits, *settings_and_generator):
        tokens = original(logits, *settings_and_generator)
        log_probs = tr.next_token_distribution(logits, *settings_and_generator[:-1])
        recorded.add_(log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1) * running)
        running.logical_and_(tokens != EOS)
        return tokens

    tr.sample_next = sample_next
    try:
        prompts, generator = torch.full((count, 1), BOS), torch.Generator().manual_seed(0)
        settings = dict(zip(("temperature", "top_k", "top_p"), setting))
        tokens, sampled = tr.generate(model, prompts, 12, eos=EOS, pad=PAD, generator=generator, **settings)
    finally:
        tr.sample_next = original
    mask = sampled.clone()
    mask[:, 0] = True
    with torch.no_grad():
        logits = model(tokens, mask)
    return [tr.completion_log_probs(logits, tokens, sampled, *s).sum(-1) - recorded for s in ((), setting)]


def gradient_cosines(length=3):
    """Of the silent bug's speaker, by listing all its sentences: the cosine between the gradient of the expected score of what is
    sampled and the expected REINFORCE gradient that scores by the full softmax; without and with the mean as a baseline."""
    from solutions.toy import transformer_bug as bug

    sampling, cosines = bug.Sampling(), []
    table = bug.speaker().requires_grad_(True)
    words = torch.tensor([w for w in product(range(7), repeat=length) if all(b == 6 for a, b in zip(w, w[1:]) if a == 6)])
    mask = torch.cat([torch.ones(len(words), 1, dtype=torch.bool), words[:, :-1] != bug.END], dim=1)
    own = bug.log_probs_of(table, words, mask, sampling).sum(1)
    everything = bug.log_probs_of(table, words, mask, bug.Sampling(sampling.temperature, 7)).sum(1)
    q, scores = own.exp().detach(), bug.score(words, mask)
    for baseline in (-3.0, float(q @ scores)):  # -3 makes every reward positive
        weights = q * (scores - baseline)
        pairs = [
            torch.autograd.grad((weights[q > 0] * log_p[q > 0]).sum(), table, retain_graph=True)[0]
            for log_p in (own, everything)
        ]
        cosines.append(float((pairs[0] * pairs[1]).sum() / pairs[0].norm() / pairs[1].norm()))
    return cosines


@lru_cache(maxsize=None)
def bug_runs():
    """The silent bug as it is handed out and mended, 10 runs each: scores, log-ratios and clipped shares, (10, 40) each."""
    from solutions.toy import transformer_bug as mended
    from toy import transformer_bug as planted

    found = {}
    for name, module in (("as given", planted), ("mended", mended)):
        logs = [module.train(module.speaker(seed), seed=seed)[1] for seed in range(10)]
        found[name] = {key: torch.tensor([log[key] for log in logs]) for key in logs[0]}
    return found


def left_padded(model, count=4):
    """log p of the example with `count` padding tokens in front, with positions that count real tokens and with plain ones."""
    from toy.given.word_world import EOS, PAD, encode

    tokens = torch.tensor([[PAD] * count + encode(EXAMPLE) + [EOS]])
    mask = tokens != PAD
    with torch.no_grad():
        right = model(tokens, mask)
        real = model.position.weight.data.clone()
        model.position.weight.data[: len(real) - count] = real[count:].clone()  # as if the first word stood at place `count`
        wrong = model(tokens, mask)
        model.position.weight.data.copy_(real)
    return [float(logits.log_softmax(-1)[0, :-1].gather(-1, tokens[0, 1:, None])[count:].sum()) for logits in (right, wrong)]


def flops(time_, dim, layers, cached):
    """Multiplications and additions of generating `time_` tokens one by one, in the blocks (eq. 7.22): 24 d^2 a token and layer
    for the matrices, 4 t d for looking at t keys."""
    read = [(1, t) for t in range(1, time_ + 1)] if cached else [(t, (t + 1) / 2) for t in range(1, time_ + 1)]
    return layers * sum(new * (24 * dim**2 + 4 * keys * dim) for new, keys in read)


def cache_times(dim=64, layers=2, repeats=3):
    """Seconds to generate 8 rows with and without the cache, the best of some tries, by length."""
    from solutions.toy import transformer as tr

    torch.manual_seed(0)
    model, found = tr.TinyGPT(20, LENGTHS[-1] + 1, dim=dim, heads=4, layers=layers), {}
    for length in LENGTHS:
        best = {True: math.inf, False: math.inf}
        for use_cache in [True, False] * (repeats if length < 256 else 1):
            generator, start = torch.Generator().manual_seed(0), time.perf_counter()
            tr.generate(
                model, torch.zeros(8, 1, dtype=torch.long), length, eos=21, pad=20, generator=generator, use_cache=use_cache
            )
            best[use_cache] = min(best[use_cache], time.perf_counter() - start)
        found[length] = (best[False], best[True])
    return found


def attention_maps(model, text=EXAMPLE):
    """The attention weights of every layer and head on a sentence: (layers, heads, tokens, tokens)."""
    from solutions.toy import transformer as tr
    from toy.given.word_world import encode

    maps, original = [], tr.attention_output
    tr.attention_output = lambda weights, v: maps.append(weights[0].detach()) or original(weights, v)
    try:
        with torch.no_grad():
            model(torch.tensor([encode(text)]))
    finally:
        tr.attention_output = original
    return torch.stack(maps)


def example_rows():
    """The worked example of section 7.9: (0.4, 0.3, 0.2, 0.1) under some settings."""
    from solutions.toy import transformer as tr

    logits = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    settings = {
        "T = 0.5": (0.5,),
        "T = 2": (2.0,),
        "k = 2": (1.0, 2),
        "p = 0.6": (1.0, None, 0.6),
        "k = 3, p = 0.5": (1.0, 3, 0.5),
    }
    return {name: tr.next_token_distribution(logits, *setting).exp() for name, setting in settings.items()}


def exact_numbers():
    """What the text quotes of the world and of small examples: name -> text as it stands in lesson.md."""
    from toy.given import word_world as ww

    w, p = world(), world().log_prob(EXAMPLE)
    numbers = {
        "sentences": f"{len(w):,} sentences",
        "entropy": f"{w.entropy:.3f} nats",
        "mean length": f"{w.mean_length:.3f} tokens",
        "rate": f"{w.entropy_rate:.4f} nats per token",
        "example": f"{math.exp(p):.3g}, or {p:.3f} nats",
        "perplexity": f"$e^{{1.0447}}$ = {math.exp(w.entropy_rate):.2f}",
        "uniform": f"ln 20 = {math.log(20):.4f}",
        "two percent": f"{1.02 * w.entropy_rate:.4f}",
        "tokens of the vocabulary": f"{len(ww.TOKENS)} tokens",
    }
    for words in (0, 1, 2, 3, 5, 8):
        numbers[f"memory of {words}"] = f"| {words} | {w.floor_with_memory(words):.4f} |"
    for name, row in example_rows().items():
        numbers[f"example {name}"] = "(" + ", ".join(f"{float(x):.3f}" for x in row) + ")"
    cosines = gradient_cosines()
    numbers["cosine without baseline"] = f"cosine {cosines[0]:.2f}"
    numbers["cosine with baseline"] = f"cosine {cosines[1]:.2f} with"
    for cached in (False, True):
        numbers[f"flops, cached {cached}"] = f"{flops(256, 64, 2, cached) / 1e6:,.0f} million"
    return numbers


def measured_numbers():
    """What the text quotes of trained models."""
    model, losses, exact = trained()
    rate, final = world().entropy_rate, exact[STEPS]
    scores = sentence_scores(model)
    p, q = world().log_probs.exp(), scores.exp()
    mass = float(q.sum())
    tv = float((p - q).abs().sum() + 1 - mass) / 2
    right, wrong = left_padded(model)
    numbers = {
        "parameters": f"{sum(x.numel() for x in model.parameters()):,} parameters",
        "first loss": f"starts at {float(losses[0]):.2f}",
        "final loss": f"{final:.4f} nats per token",
        "excess": f"{100 * (final / rate - 1):.1f}% above",
        "KL of a sentence": f"{(final - rate) * world().mean_length:.3f} nats a sentence",
        "grammatical": f"{100 * mass:.1f}% of what it says",
        "total variation": f"total variation of {tv:.3f}",
        "unshifted": f"{unshifted()[-1]:.3f} after 150 batches",
        "padded rightly": f"{right:.2f} nats",
        "padded wrongly": f"{wrong:.2f} nats",
    }
    for words in (1, 3, 5):
        floor = world().floor_with_memory(words)
        numbers[f"passes the floor of {words}"] = f"{min(step for step, loss in exact.items() if loss < floor)} batches"
    for name, (grammatical, possible) in sampled_language(model).items():
        full, own = (float(gaps.mean()) for gaps in drawn_log_ratios(model, SETTINGS[name]))
        shares, gaps = f"{100 * grammatical:.1f}% | {100 * possible:.1f}%", [f"{round(x, 3) + 0.0:.3f}" for x in (full, own)]
        numbers[f"language, {name}"] = f"| {name} | {shares} | {gaps[0]} | {gaps[1]} |"
    runs = bug_runs()
    maps, words = attention_maps(model), ["<bos>", *EXAMPLE.split()]
    for layer, head, reader, read in (
        (0, 1, "happy", "were"),
        (0, 1, "angry", "were"),
        (0, 0, "but", "happy"),
        (1, 3, "but", "happy"),
    ):
        weight = float(maps[layer, head, words.index(reader), words.index(read)])
        numbers[f"attention {layer} {head} {reader}"] = f"({weight:.2f} of its weight from “{reader}” on “{read}”)"
    for name, log in runs.items():
        ratio, clipped = abs(float(log["log_ratio"][:, :5].mean())) * -1 + 0.0, float(log["clipped"][:, :5].mean())
        numbers[f"bug, {name}"] = f"{ratio:.2f} and {100 * clipped:.0f}%"
        numbers[f"bug, {name}, at the end"] = f"{float(log['score'][:, -5:].mean()):.2f}"
    return numbers


def draw_loss(plt):
    _, losses, exact = trained()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), constrained_layout=True)
    rate, steps = world().entropy_rate, sorted(exact)
    left.plot(range(STEPS), losses, color="#bbbbbb", lw=0.7, label="loss of each batch")
    left.plot(steps, [exact[s] for s in steps], color="#2471a3", lw=2, label="exact expected loss")
    copying = unshifted()
    left.plot(range(len(copying)), copying, color="#c0392b", lw=1.5, label="unshifted: says what it has just read")
    left.axhline(rate, color="black", ls="--", lw=1, label=f"entropy rate, {rate:.4f}")
    left.set(ylim=(0, 3.3), xlabel="batches of 64 sentences", ylabel="nats per token", title="The floor is where it should be")
    left.legend(fontsize=8)
    right.plot(steps, [exact[s] - rate for s in steps], color="#2471a3", lw=2, label="the model")
    for words, colour in ((0, "#7d6608"), (1, "#b9770e"), (2, "#ca6f1e"), (3, "#a04000"), (5, "#6e2c00"), (8, "#424949")):
        gap = world().floor_with_memory(words) - rate
        if gap > 1e-3:
            right.axhline(gap, color=colour, ls=":", lw=1)
            right.text(
                STEPS, gap * 1.04, f"sees {words} token{'s' if words != 1 else ''}", fontsize=7.5, color=colour, ha="right"
            )
    right.axhline(0.02 * rate, color="black", ls="--", lw=1)
    right.text(5, 0.02 * rate * 1.04, "2% of the entropy rate", fontsize=7.5)
    right.set(yscale="log", xlabel="batches of 64 sentences", ylabel="nats per token above the entropy rate")
    right.set_title("What it has learned, in tokens of memory")
    figure.savefig(HERE / "loss.png", dpi=110)


def draw_attention(plt):
    maps = attention_maps(trained()[0])
    words = ["<bos>", *EXAMPLE.split()]
    layers, heads = maps.shape[:2]
    figure, axes = plt.subplots(layers, heads, figsize=(11.5, 6.4), constrained_layout=True)
    for layer, head in product(range(layers), range(heads)):
        panel = axes[layer][head]
        image = panel.imshow(maps[layer, head], vmin=0, vmax=1, cmap="Blues")
        panel.set_title(f"layer {layer}, head {head}", fontsize=9)
        panel.set_xticks(range(len(words)), words if layer else [], rotation=90, fontsize=8)
        panel.set_yticks(range(len(words)), words if head == 0 else [], fontsize=8)
    axes[1][0].set_xlabel("looks at", fontsize=8)
    axes[0][0].set_ylabel("having read", fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.5, label="attention weight")
    figure.savefig(HERE / "attention.png", dpi=110)


def draw_sampling(plt):
    from solutions.toy import transformer as tr
    from toy.given.word_world import TOKENS, encode

    model = trained()[0]
    with torch.no_grad():
        logits = model(torch.tensor([encode("i was")]))[0, -1]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    best = logits.argsort(descending=True)[:9]
    shown = {"T = 1": (1.0,), "T = 0.5": (0.5,), "T = 2": (2.0,), "top-k 3": (1.0, 3), "top-p 0.7": (1.0, None, 0.7)}
    for place, (name, setting) in enumerate(shown.items()):
        probs = tr.next_token_distribution(logits, *setting).exp()[best]
        left.bar(torch.arange(9) + 0.16 * (place - 2), probs, width=0.15, label=name)
    left.set_xticks(range(9), [TOKENS[i] for i in best], rotation=60, fontsize=8)
    left.set(ylabel="probability", title="The word after “i was”")
    left.legend(fontsize=8)
    temperatures = torch.linspace(0.1, 3.0, 59).tolist()
    rows = [tr.next_token_distribution(logits, t) for t in temperatures]
    middle.plot(temperatures, [float(-(r.exp() * r).sum()) for r in rows], color="#2471a3", label="temperature alone")
    cut = [tr.next_token_distribution(logits, t, 3) for t in temperatures]
    middle.plot(temperatures, [float(-(r.exp() * r)[r.isfinite()].sum()) for r in cut], color="#c0392b", label="and top-k 3")
    middle.axhline(math.log(20), color="grey", ls=":", lw=1)
    middle.axhline(math.log(3), color="grey", ls=":", lw=1)
    middle.text(0.1, math.log(20) - 0.12, "ln 20", fontsize=8)
    middle.text(0.1, math.log(3) + 0.04, "ln 3", fontsize=8)
    middle.set(xlabel="temperature", ylabel="entropy of the next word, nats", title="Entropy rises with temperature")
    middle.legend(fontsize=8)
    coarse = torch.linspace(0.4, 2.0, 17).tolist()
    for name, more, colour in (
        ("all tokens", (None, None), "#2471a3"),
        ("top-p 0.95", (None, 0.95), "#1e8449"),
        ("top-k 5", (5, None), "#c0392b"),
    ):
        right.plot(coarse, [float(sentence_scores(model, (t, *more)).exp().sum()) for t in coarse], color=colour, label=name)
    right.set(
        xlabel="temperature", ylabel="P(a sentence of the world)", ylim=(0, 1.02), title="Exact chance of a right sentence"
    )
    right.legend(fontsize=8)
    figure.savefig(HERE / "sampling.png", dpi=110)


def draw_log_ratio(plt):
    model, ks = trained()[0], (2, 3, 4, 5, 6, 8, 12, 20)
    gaps = [drawn_log_ratios(model, (1.0, k, None), 1000) for k in ks]
    figure, panel = plt.subplots(figsize=(6.4, 4.0), constrained_layout=True)
    names = (("scored by the full softmax", "#c0392b", "o"), ("scored as sampled", "#2471a3", "s"))
    for which, (name, colour, mark) in enumerate(names):
        means = [float(pair[which].mean()) for pair in gaps]
        errors = [4 * float(pair[which].std()) / 1000**0.5 for pair in gaps]
        panel.errorbar(range(len(ks)), means, errors, fmt=mark + "-", color=colour, ms=4, label=name)
    panel.set_xticks(range(len(ks)), ks)
    panel.set(xlabel="top_k (20: all tokens)", ylabel="mean log-ratio of a sentence, nats")
    panel.set_title("Sampler and scorer: 1,000 sentences a point, ± 4 standard errors", fontsize=10)
    panel.legend(fontsize=8)
    figure.savefig(HERE / "log_ratio.png", dpi=110)


def draw_bug(plt):
    log = bug_runs()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 3.9), constrained_layout=True)
    for name, colour in (("as given", "#c0392b"), ("mended", "#2471a3")):
        scores = log[name]["score"]
        left.plot(scores.mean(0), color=colour, lw=2.5, label=f"{name}, mean of 10")
        left.plot(scores.T, color=colour, alpha=0.35, lw=0.7)
    left.set(xlabel="updates", ylabel="score of a sentence", title="It learns")
    left.legend(fontsize=8, loc="lower right")
    right.plot(log["as given"]["log_ratio"].mean(0), color="#c0392b", label="log_ratio, as given")
    right.plot(log["as given"]["clipped"].mean(0), color="#e59866", label="clipped, as given")
    right.plot(log["mended"]["clipped"].mean(0), color="#2471a3", label="both, mended")
    right.set(xlabel="updates", title="Before the policy has changed: mean of 10")
    right.legend(fontsize=8)
    figure.savefig(HERE / "bug.png", dpi=110)


def draw_cache(plt, times):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.0), constrained_layout=True)
    lengths = list(times)
    left.plot(lengths, [t[0] for t in times.values()], "o-", color="#c0392b", label="everything anew")
    left.plot(lengths, [t[1] for t in times.values()], "s-", color="#2471a3", label="with the cache")
    left.set(xscale="log", yscale="log", xlabel="tokens generated", ylabel="seconds, 8 rows", title="Measured")
    left.legend(fontsize=8)
    right.plot(lengths, [a / b for a, b in times.values()], "o-", color="black", label="measured")
    counted = [flops(n, 64, 2, False) / flops(n, 64, 2, True) for n in lengths]
    right.plot(lengths, counted, "--", color="grey", label="multiplications and additions")
    right.set(xscale="log", yscale="log", xlabel="tokens generated", ylabel="without / with the cache", title="The ratio")
    right.legend(fontsize=8)
    for panel in (left, right):
        panel.set_xticks(lengths, lengths)
        panel.minorticks_off()
    figure.savefig(HERE / "cache.png", dpi=110)


def main():
    sys.path.insert(0, str(HERE.parents[1]))
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    torch.set_num_threads(1)
    for name, text in (exact_numbers() | measured_numbers()).items():
        print(f"{name:<40}{text}")
    times = cache_times()
    for length, (without, cached) in times.items():
        print(f"{f'cache, {length} tokens':<40}{without / cached:.1f} times")
    for draw in (draw_loss, draw_attention, draw_sampling, draw_log_ratio, draw_bug):
        draw(plt)
    draw_cache(plt, times)


if __name__ == "__main__":
    main()
