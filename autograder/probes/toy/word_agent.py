"""Lesson 3: what is asked of the word agent."""

import inspect

import numpy as np
import torch

START = 6


class Table(torch.nn.Module):
    """A policy without a network: row `previous` of a table holds the logits. What it learns can be worked out by hand."""

    def __init__(self, module, table):
        super().__init__()
        self.module, self.table = module, torch.nn.Parameter(table.clone())

    def forward(self, previous):
        return self.table[previous]

    def probabilities(self, previous):
        return self.module.Agent.probabilities(self, previous)  # the file's own, should its `train` call it


class ScriptedBaseline:
    """Says `values[n]` after n updates, and remembers what it was given."""

    def __init__(self, values):
        self.values, self.received = values.tolist(), []

    def get(self):
        return self.values[min(len(self.received), len(self.values) - 1)]

    def update(self, score):
        self.received.append(float(score))


class ScriptedWords:
    """Stands in for the file's `choose_word`: says the words of a list in turn, and remembers what it was called with."""

    def __init__(self, module, words):
        self.module, self.original, self.words = module, module.choose_word, words.tolist()
        self.epsilons, self.modes, self.seeds = [], [], []

    def __enter__(self):
        signature = inspect.signature(self.original)

        def choose_word(*args, **kwargs):
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            self.epsilons.append(float(call.arguments["epsilon"]))
            self.modes.append(call.arguments["mode"])
            self.seeds.append(call.arguments["generator"].initial_seed())
            return self.words[(len(self.modes) - 1) % len(self.words)]

        self.module.choose_word = choose_word
        return self

    def __exit__(self, *_):
        self.module.choose_word = self.original


def agent_logits(module, hidden_size, weights, previous, direction):
    """Names and shapes of the parameters; the logits with these weights, and the gradients of sum(logits * direction)."""
    agent = module.Agent(hidden_size=hidden_size).double()
    shapes = {name: list(parameter.shape) for name, parameter in agent.named_parameters()}
    if shapes != {name: list(value.shape) for name, value in weights.items()}:
        return {"parameters": shapes}
    agent.load_state_dict(weights, strict=False)
    logits = agent(previous)
    if logits.requires_grad:
        (logits * direction).sum().backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in agent.named_parameters()}
    return {"parameters": shapes, "logits": logits, "gradients": gradients}


def agent_probabilities(module, weights, previous):
    agent = module.Agent(hidden_size=len(weights["hidden.bias"])).double()
    agent.load_state_dict(weights, strict=False)
    return {"probabilities": agent.probabilities(previous)}


def positive_mass(module, logits):
    return {"positive": module.positive_probability(logits)}


def loss_and_gradients(module, logits, word, advantage, attached):
    """The loss and its gradients by the logits and by the advantage (zeros where none arrives).

    attached: the advantage is handed over as a tensor that asks for a gradient; otherwise as a float.
    """
    logits.requires_grad_(True)
    given = torch.tensor(advantage, dtype=logits.dtype, requires_grad=True) if attached else advantage
    loss = module.policy_loss(logits, word, given)
    if loss.requires_grad:
        loss.backward()
    arrived = given.grad if attached else None
    return {
        "loss": loss,
        "gradient": torch.zeros_like(logits) if logits.grad is None else logits.grad,
        "gradient_of_advantage": 0.0 if arrived is None else arrived,
    }


def baseline_reading(module, total_score, count):
    """What `get` says of a baseline that has seen `count` scores which add up to `total_score`."""
    baseline = module.Baseline()
    baseline.total_score, baseline.count = total_score, count
    return {"mean": float(baseline.get())}


def baseline_trace(module, scores):
    """What `get` says before each of `scores` arrives, and at the end: (len(scores) + 1,)."""
    baseline, seen = module.Baseline(), []
    for score in scores.tolist():
        seen.append(float(baseline.get()))
        baseline.update(score)
    return {"means": torch.tensor([*seen, float(baseline.get())], dtype=torch.float64)}


def behaviour(module, logits, epsilon, mode):
    """The probabilities and whether the logits are as they were; or the words in which a ValueError refuses the input."""
    before = logits.clone()
    try:
        probabilities = module.behaviour_policy(logits, epsilon, mode)
    except ValueError as error:
        return {"refusal": str(error)[:300]}
    return {"refusal": None, "probabilities": probabilities, "logits_unchanged": bool(torch.equal(logits, before))}


def word_counts(module, logits, epsilon, mode, draws, repeats, seed):
    """How often each word comes in `draws` draws, and whether the first `repeats` come again from the same seed."""
    generator = torch.Generator().manual_seed(seed)
    words = [module.choose_word(logits, epsilon, generator, mode) for _ in range(draws)]
    generator = torch.Generator().manual_seed(seed)
    again = [module.choose_word(logits, epsilon, generator, mode) for _ in range(repeats)]
    kinds = sorted({type(word).__name__ for word in words})
    counts = np.bincount([int(word) for word in words], minlength=6)
    return {"types": kinds, "counts": counts, "same_seed_same_words": words[:repeats] == again}


def training_replay(module, table, words, scores, baseline, epsilon, mode, weighted, seed, learning_rate):
    """`train` with words, scores and baseline from a list, and what the table holds for START after every step."""
    agent, path = Table(module, table), []
    optimizer = torch.optim.SGD(agent.parameters(), lr=learning_rate)
    script = None if baseline is None else ScriptedBaseline(baseline)
    scores = scores.tolist()
    with ScriptedWords(module, words) as asked:
        losses, shares = module.train(
            agent,
            lambda word: scores[word],
            optimizer,
            script,
            epsilon,
            len(words),
            seed,
            mode=mode,
            weighted=weighted,
            after_step=lambda trained: path.append(trained.table.detach()[START].clone()),
        )
    return {
        "calls_of_choose_word": len(asked.modes),
        "calls_of_after_step": len(path),
        "logits_after_each_step": torch.stack(path) if path else None,
        "losses": numbers(losses),
        "shares": numbers(shares),
        "table": agent.table,
        "baseline_updates": [] if script is None else torch.tensor(script.received, dtype=torch.float64),
        "asked_with": {"epsilon": asked.epsilons, "mode": asked.modes, "seed": asked.seeds},
    }


def trained_tables(module, tables, seeds, iterations, learning_rate):
    """The logits after START that `train` ends with, for each table and seed, with the file's own `choose_word`: (runs, 6)."""
    rows = []
    for table, seed in zip(tables, seeds.tolist()):
        agent = Table(module, table)
        optimizer = torch.optim.SGD(agent.parameters(), lr=learning_rate)
        module.train(agent, lambda word: 1.0 if word < 3 else -1.0, optimizer, None, 0.0, iterations, seed, weighted=False)
        rows.append(agent.table.detach()[START])
    return {"logits": torch.stack(rows)}


def training_figure(module, losses, positive, kernel_size):
    """The axes of the figure, from top to bottom: where they lie, what they show, their lines and labels."""
    figure = module.plot_training(losses, positive, kernel_size)
    axes = sorted(figure.axes, key=lambda one: -one.get_position().y1)
    return {
        "axes": [
            {
                "bottom_and_top": [one.get_position().y0, one.get_position().y1],
                "y_limits": sorted(one.get_ylim()),
                "lines": [np.asarray(line.get_ydata(), dtype=np.float64) for line in one.lines],
                "y_label": one.get_ylabel(),
                "x_label": one.get_xlabel(),
            }
            for one in axes
        ]
    }


def numbers(values):
    """A float64 tensor of any sequence of numbers or of tensors without dimensions."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)
