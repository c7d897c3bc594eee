"""Draws the pictures of lesson 14 beside this file and prints every number that its text quotes.

    python lessons/14-ppo/figures.py             from measured.json and measured_runs.json: seconds
    python lessons/14-ppo/figures.py --measure   trains everything again and writes measured.json: some minutes on two cores;
                                                 names behind it ("gpt2, own" "bug, mended") train these alone
"""

import copy
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import torch
from matplotlib.figure import Figure
from torch import nn

from full.given import film_words as world
from full.given.loop import Loop
from full.given.ppo_settings import PPOConfig, TextPrompts
from toy.given.enumerable import EnumerableLM

try:
    from solutions.full import ppo
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import ppo

HERE = Path(__file__).resolve().parent
STORE, RUN = HERE / "measured.json", HERE / "run.json"
BETA, UPDATES, BATCH = 0.5, 80, 256
FAST = {"ppo_epochs": 4, "minibatch_size": BATCH, "top_k": 0, "value_coef": 1.0, "value_clip": 10.0, "kl_coef": BETA,
        "eos_penalty": 0.0, "whiten": False}  # fmt: skip

# sections 14.5 to 14.7: an answer of eight tokens in two sentences and an EOS that has come
ANSWER = {
    "tokens": ["Bats", " hang", ".", " Bats", " hang", " down", ".", "EOS"],
    "ratio": [0.1, 0.0, 0.2, 0.4, 0.3, -0.2, 0.0, 0.1],  # log pi - log pi_ref
    "values": [0.5, 0.5, 0.6, 0.3, 0.2, 0.2, 0.3, 0.4, 0.0],
    "relevance": [(10, 0.3), (26, -0.3)],  # the second sentence says the first one again
    "completeness": 0.8,
    "kl_coef": 0.1,
}


class Words:
    """Reads a film completion back: all that a reward asks of a tokenizer."""

    def batch_decode(self, rows, skip_special_tokens=True, **_):
        return [" ".join(world.WORDS[t] for t in row if t != world.END or not skip_special_tokens) for row in rows]


class Decoded(nn.Module):
    """A T5 as the ruler wants it: tokens of the completion behind the start token -> logits; it reads its prompt by itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        start = torch.full_like(tokens[:, :1], self.model.config.decoder_start_token_id)
        prompt = torch.tensor([world.PROMPT]).expand(len(tokens), -1)
        return self.model(input_ids=prompt, decoder_input_ids=torch.cat([start, tokens[:, 1:]], dim=1)).logits


class Cooled(nn.Module):
    """A language model whose logits are divided by a temperature: the policy that is sampled."""

    def __init__(self, model, temperature):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, tokens):
        return self.model(tokens).logits / self.temperature


def film_t5(seed=3):
    """A T5 of one layer over the five words, in float64; its start token is a sixth one that cannot be written."""
    from transformers import T5Config, T5ForConditionalGeneration

    size = len(world.WORDS)
    config = T5Config(vocab_size=size + 1, d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32, pad_token_id=world.END,
                      eos_token_id=world.END, decoder_start_token_id=size, tie_word_embeddings=False)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config).double().eval()
        model.lm_head = nn.Linear(16, size, bias=False).double()
        with torch.no_grad():
            model.lm_head.weight.mul_(2.0)
    return model


class Film:
    """A language model of the film world, everything about it listed."""

    def __init__(self, kind="gpt2", temperature=1.0):
        self.kind, self.temperature = kind, temperature
        self.reference = (film_t5() if kind == "t5" else world.gpt2()).requires_grad_(False)
        self.lm = self.listed(self.reference)
        self.reward = self.lm.rewards(lambda tokens: world.LIKED * world.likes(tokens))
        self.target = self.lm.optimum(self.reward, BETA)

    def listed(self, model):
        if self.kind == "t5":
            return EnumerableLM(Decoded(model), len(world.WORDS), world.LENGTH, prompt=(0,), eos=world.END)
        return EnumerableLM(Cooled(model, self.temperature), len(world.WORDS), world.LENGTH, prompt=world.PROMPT, eos=world.END)

    def trainer(self, updates, scorer=None, value="own", batch=BATCH, rate=0.01, look=lambda update, lm: None, **settings):
        """A PPOTrainer on this world, its learning rate falling to 0. `look(update, lm)` before every update."""
        model = copy.deepcopy(self.reference).requires_grad_(True)
        maker = ppo.T5Policy if self.kind == "t5" else ppo.GPT2Policy
        policy, reference = maker(model), maker(self.reference)
        critic = ppo.Value(policy if value == "shared" else maker(copy.deepcopy(model)))
        config = PPOConfig(new_tokens=world.LENGTH, **{**FAST, "temperature": self.temperature, **settings})
        leaves = list({id(p): p for part in (policy, critic) for p in part.parameters()}.values())
        optimizer, mine = torch.optim.Adam(leaves, lr=rate), self.listed(model)
        ids = torch.tensor([world.PROMPT] * batch)
        prompts = TextPrompts(ids, torch.ones_like(ids), texts=("film",) * batch)

        def batches():
            for update in range(updates):
                look(update, mine)
                for group in optimizer.param_groups:
                    group["lr"] = rate * (1 - update / updates)
                yield prompts

        loop = Loop(model, batches(), optimizer, config, eos_token_id=world.END, pad_token_id=world.END,
                    generator=torch.Generator().manual_seed(0))  # fmt: skip
        return ppo.PPOTrainer(loop, policy, reference, critic, JudgeOfTokens(), scorer or config), mine

    def run(self, every=5, updates=UPDATES, **more):
        """Trains; every `every` updates the exact distance to pi*, reward and KL."""
        seen = []

        def look(update, lm):
            if update % every == 0 or update == updates:
                with torch.no_grad():
                    log_probs = lm.log_probs()
                    kl, mean = log_probs.exp() @ (log_probs - self.lm.log_probs()), log_probs.exp() @ self.reward
                    tv = lm.total_variation(self.target)
                seen.append({"update": update, "tv": float(tv), "reward": float(mean), "kl": float(kl)})

        trainer, mine = self.trainer(updates, look=look, **more)
        trainer.train()
        look(updates, mine)
        return {"points": seen}


class JudgeOfTokens:
    """The judge of the film world as a reward of rollouts: he reads token ids, so that END counts."""

    weights, tokenizer = {"liked": 1.0}, Words()

    def __call__(self, prompts, rollout):
        rows = [tuple(row[real].tolist()) for row, real in zip(rollout.completion, rollout.mask)]
        scores = torch.tensor([world.LIKED * world.likes(row) for row in rows], dtype=torch.float64)
        last = torch.arange(rollout.mask.shape[1]) == rollout.mask.sum(dim=1, keepdim=True) - 1
        return scores.unsqueeze(1) * last, {"liked": scores}


# numbers


def answer_numbers():
    """The answer of sections 14.5 to 14.7 through the lesson's own functions."""
    table = worked_answer()
    found = {}
    for t, token in enumerate(ANSWER["tokens"]):
        names = ("relevance", "completeness", "ratio", "values", "paid", "advantages", "returns")
        cells = [f"{table[name][t]:.2f}" for name in names]
        found[f"answer, token {t}"] = f"| {token.strip()} | {table['ends'][t]} | {' | '.join(cells)} |"
    old, new = math.log(0.2), math.log(0.3)
    ratio = math.exp(new - old)
    one, mask = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    for sign in (1, -1):
        loss, figures = ppo.policy_loss(one * new, one * old, sign * one, mask, 0.2)
        found[f"loss at advantage {sign}"] = f"{loss.item():.1f}"
    found["ratio"] = f"{ratio:.1f}"
    return found


def worked_answer():
    """Columns of the table in section 14.7, by name."""
    a = ANSWER
    time = len(a["tokens"])
    mask = torch.ones(1, time, dtype=torch.bool)
    words = [token if token != "EOS" else "" for token in a["tokens"]]
    ends = torch.tensor([[len("".join(words[: t + 1])) for t in range(time)]])
    relevance = ppo.spread([a["relevance"]], ends, mask)
    completeness = ppo.spread([a["completeness"]], ends, mask)
    ratio = torch.tensor([a["ratio"]], dtype=torch.float64)
    paid = ppo.kl_penalise_reward(relevance + completeness, ratio, torch.zeros_like(ratio), mask, torch.tensor([True]),
                                  a["kl_coef"], 1.0)  # fmt: skip
    values = torch.tensor([a["values"]], dtype=torch.float64)
    advantages, returns = ppo.compute_advantages(paid, values, mask, torch.tensor([False]), 1.0, 0.95)
    rows = {"relevance": relevance, "completeness": completeness, "ratio": ratio, "values": values, "paid": paid}
    rows |= {"advantages": advantages, "returns": returns}
    return {name: row[0].tolist() for name, row in rows.items()} | {"ends": ends[0].tolist()}


def support_numbers():
    """Section 14.3: three words, the two likeliest of which could be drawn; and what a support of 0.8 leaves out, in nats."""
    logits, tokens = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([1])
    kept = torch.tensor([[0, 1]])
    whole = ppo.sampled_log_probs(logits, tokens, 1.0).exp().item()
    within = ppo.sampled_log_probs(logits, tokens, 1.0, kept).exp().item()
    cool = ppo.sampled_log_probs(logits, tokens, 0.7, kept).exp().item()
    later = torch.tensor([[2.0, 0.5, 1.0]], dtype=torch.float64)
    after = ppo.sampled_log_probs(later, tokens, 0.7, kept).exp().item()
    return {"whole vocabulary": f"{whole:.3f}", "within the support": f"{within:.3f}", "and cooled": f"{cool:.3f}",
            "afterwards": f"{after:.3f}", "ratio of the two": f"{after / cool:.3f}",
            "a support of 0.8": f"{-math.log(0.8):.2f} nats where the 20 likeliest hold 0.8"}  # fmt: skip


def memory_numbers():
    rows, prompt, time, vocabulary = 32, 300, 100, 32128
    whole, needed = rows * time * vocabulary * 4 / 2**20, rows * 60 * vocabulary * 4 / 2**20
    return {"all columns": f"{whole:.0f} MiB", "real tokens": f"{needed:.0f} MiB"}


def film_numbers(film):
    best = film.target.exp()
    kl = float(best @ (film.target - film.lm.log_probs()))
    return {
        "completions": f"{len(film.lm)} completions",
        "optimum": rf"| $\pi^*$ | {float(best @ film.reward):.3f} | {kl:.3f} | 0 |",
    }


LABELS = {"gpt2, own": "GPT-2, value model of its own", "gpt2, shared": "GPT-2, shared trunk"}
LABELS["t5, own"] = f"T5, value model of its own, {2 * BATCH} completions an update"


def measured_numbers(found):
    numbers = {}
    for name, label in LABELS.items():
        points = found[name]["points"]
        numbers[name] = f"| {label} | {points[0]['tv']:.3f} | {points[-1]['tv']:.3f} |"
    last = found["gpt2, own"]["points"][-1]
    numbers["end of training"] = f"| PPO | {last['reward']:.3f} | {last['kl']:.3f} | {last['tv']:.3f} |"
    for name in ("scored as drawn", "scored at 1"):
        numbers[name] = f"{found[name]['points'][-1]['tv']:.3f}"
    for name in ("at its token", "at the end"):
        means = [f"{found[name][update]['mean']:.2f}" for update in (0, 10, 20, 39)]
        numbers[name] = f"| {name} | {' | '.join(means)} |"
    for name in ("bug, planted", "bug, mended"):
        numbers[name] = f"{found[name][-1]['tv']:.3f}"
    return numbers


# measurements


def density_runs(whole, updates=40, seeds=3, batch=8, length=24):
    """A reward of 1 for every "good", paid at its token, or all of it at the end: the mean reward of each rollout, over seeds."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def model(seed):
        torch.manual_seed(seed)
        config = GPT2Config(vocab_size=4, n_positions=length + 2, n_embd=16, n_layer=1, n_head=2, bos_token_id=None,
                            eos_token_id=None)  # fmt: skip
        return GPT2LMHeadModel(config).double().eval()

    class Counting:
        weights, tokenizer = {"good": 1.0}, None

        def __call__(self, prompts, rollout):
            values = (rollout.completion == world.GOOD).double()
            total = values.sum(dim=1)
            if whole:
                values = torch.nn.functional.pad(total.unsqueeze(1), (values.shape[1] - 1, 0))
            return values, {"good": total}

    curves = []
    for seed in range(seeds):
        policy = ppo.GPT2Policy(model(seed))
        reference = ppo.GPT2Policy(copy.deepcopy(policy.model).requires_grad_(False))
        critic = ppo.Value(ppo.GPT2Policy(copy.deepcopy(policy.model)))
        settings = {"temperature": 1.0, "kl_coef": 0.0, "whiten": True, "minibatch_size": batch}
        config = PPOConfig(new_tokens=length, **{**FAST, **settings})
        ids = torch.zeros(batch, 1, dtype=torch.long)
        prompts = TextPrompts(ids, torch.ones_like(ids), texts=("",) * batch)
        optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=0.001)
        loop = Loop(policy.model, [prompts] * updates, optimizer, config, generator=torch.Generator().manual_seed(seed))
        ppo.PPOTrainer(loop, policy, reference, critic, Counting(), config).train()
        curves.append([row["reward"] for row in loop.rows])
    table = torch.tensor(curves)
    return [{"update": u, "mean": float(table[:, u].mean()), "low": float(table[:, u].min()), "high": float(table[:, u].max())}
            for u in range(updates)]  # fmt: skip


def planted() -> ModuleType:
    """The silent bug's file as a learner gets it."""
    from autograder.skeletons import skeleton

    text = skeleton((HERE.parents[1] / "solutions" / "full" / "ppo_bug.py").read_text(encoding="utf-8"), 14)
    module = ModuleType("planted")
    exec(compile(text, "ppo_bug.py", "exec", dont_inherit=True), module.__dict__)
    return module


def bug_run(module, updates=100, every=5):
    """What `main` of the bug's file does, every fifth update: the exact distance, length and share of ended texts."""
    reference = world.gpt2().requires_grad_(False)
    policy, value = world.copy_of(reference), module.Critic(reference)
    before, now = world.listed(reference), world.listed(policy)
    target = before.optimum(world.rewards(before), BETA)
    optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4 * updates)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    seen, done = [], 0

    def measured(log_probs):
        ends = (before.sequences == world.END).any(dim=1).double()
        return {"length": float(log_probs.exp() @ before.lengths.double()), "ends": float(log_probs.exp() @ ends)}

    def show(line):
        nonlocal done
        done += 1
        if done % every == 0 or done == 1:
            with torch.no_grad():
                seen.append({"update": done, "tv": float(now.total_variation(target)), **measured(now.log_probs())})

    module.train_film(policy, value, reference, optimizer, module.sampler(512, seed=2), module.judge, beta=BETA, updates=updates,
                      after_update=show)  # fmt: skip
    with torch.no_grad():
        best = measured(target)
    return [{**point, "best length": best["length"], "best ends": best["ends"]} for point in seen]


def measurements():
    """Every run of the lesson by name; each takes some ten seconds."""
    runs = {
        "gpt2, own": lambda: Film().run(),
        "gpt2, shared": lambda: Film().run(value="shared"),
        "t5, own": lambda: Film("t5").run(rate=0.005, batch=2 * BATCH),
        "scored as drawn": lambda: Film(temperature=0.7).run(),
        "scored at 1": lambda: wrong_scorer(Film(temperature=0.7)),
        "at its token": lambda: density_runs(whole=False),
        "at the end": lambda: density_runs(whole=True),
    }
    try:
        from solutions.full import ppo_bug as mended
    except ModuleNotFoundError:  # a student's copy keeps what it came with
        return runs
    return runs | {"bug, planted": lambda: bug_run(planted()), "bug, mended": lambda: bug_run(mended)}


def measure(names):
    """Runs these, or all, and keeps each as soon as it is there."""
    runs = measurements()
    for name in names or runs:
        found = stored() if STORE.is_file() else {}
        found[name] = rounded(runs[name]())
        STORE.write_text(json.dumps(found) + "\n", encoding="utf-8")
        print(f"{name}: done", flush=True)


def wrong_scorer(film):
    """Sampled at the film's temperature, scored at 1: the trainer's configuration differs from the loop's."""
    settings = {**FAST, "temperature": 1.0}
    return film.run(scorer=PPOConfig(new_tokens=world.LENGTH, **settings))


def rounded(value, digits=6):
    """Numbers with as many digits as the pictures and the text need, and more."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    return [rounded(entry, digits) for entry in value]


def stored():
    return json.loads(STORE.read_text(encoding="utf-8"))


# pictures


def axes(title, x, y, size=(6.4, 3.6)):
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.grid(alpha=0.3)
    return figure, ax


def draw_answer():
    """What each token of one answer is paid, stacked."""
    table = worked_answer()
    figure, ax = axes("What each token is paid", "", "units of reward")
    place = range(len(ANSWER["tokens"]))
    price = [-ANSWER["kl_coef"] * ratio for ratio in ANSWER["ratio"]]
    for row, label, colour, shift in ((table["relevance"], "relevance (a sentence)", "tab:orange", -0.27),
                                      (table["completeness"], "completeness (the answer)", "tab:blue", 0.0),
                                      (price, "price of the KL (a token)", "tab:red", 0.27)):  # fmt: skip
        ax.bar([x + shift for x in place], row, width=0.25, label=label, color=colour)
    ax.plot(place, table["advantages"], "k.--", label="advantage (lambda 0.95)")
    ax.set_xticks(list(place), [token.strip() for token in ANSWER["tokens"]])
    ax.axhline(0, color="black", linewidth=0.8)
    ax.legend(fontsize=8)
    figure.savefig(HERE / "answer.png", dpi=110)


def draw_distance(found):
    figure, ax = axes("The same code, two architectures: distance to the optimum", "updates", "total variation to pi*")
    names = {"gpt2, own": ("GPT-2", "tab:blue"), "gpt2, shared": ("GPT-2, shared trunk", "tab:green")}
    names["t5, own"] = ("T5", "tab:orange")
    for name, (label, colour) in names.items():
        points = found[name]["points"]
        ax.plot([p["update"] for p in points], [p["tv"] for p in points], label=label, color=colour)
    wrong = found["scored at 1"]["points"]
    ax.plot([p["update"] for p in wrong], [p["tv"] for p in wrong], ":", color="tab:red",
            label="GPT-2, drawn at 0.7, scored at 1")  # fmt: skip
    ax.axhline(0.02, color="grey", linewidth=0.8)
    ax.set_yscale("log")
    ax.legend(fontsize=8)
    figure.savefig(HERE / "distance.png", dpi=110)


def draw_density(found):
    figure, ax = axes("One reward, paid at its token or at the end", "updates", "mean reward of the rollout")
    for name, label, colour in (("at its token", "at its token", "tab:blue"), ("at the end", "all of it at the end", "tab:red")):
        curve = found[name]
        x = [p["update"] for p in curve]
        ax.fill_between(x, [p["low"] for p in curve], [p["high"] for p in curve], alpha=0.2, color=colour, linewidth=0)
        ax.plot(x, [p["mean"] for p in curve], label=label, color=colour)
    ax.legend(fontsize=8)
    figure.savefig(HERE / "density.png", dpi=110)


def draw_bug(found):
    figure, ax = axes("The silent bug", "updates", "total variation to pi*")
    for name, label, colour in (("bug, planted", "as you get it", "tab:red"), ("bug, mended", "mended", "tab:blue")):
        curve = found[name]
        ax.plot([p["update"] for p in curve], [p["tv"] for p in curve], label=label, color=colour)
    ax.set_yscale("log")
    ax.legend(fontsize=8)
    figure.savefig(HERE / "bug.png", dpi=110)


def main():
    if "--measure" in sys.argv[1:]:
        measure(sys.argv[2:])
    found = stored()
    numbers = answer_numbers() | support_numbers() | memory_numbers() | film_numbers(Film()) | measured_numbers(found)
    for what, text in numbers.items():
        print(f"{what:32} {text}")
    draw_answer()
    draw_distance(found)
    draw_density(found)
    draw_bug(found)
    import figures_runs  # beside this file

    figures_runs.main()


if __name__ == "__main__":
    main()
