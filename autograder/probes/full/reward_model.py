"""Lesson 12: what is asked of a reward model and its parts."""

from types import SimpleNamespace

import torch
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2Model

from autograder.probes import gradients_of, refusal as refusal_of, refuses
from full.given.preferences import RewardLoop, RewardModelConfig
from full.given.text import Pairs

LOGGED = ("loss", "accuracy", "margin", "validation_loss")
FIELDS = ("id", "prompt", "first", "second", "label")


def judgements(module, function, rows):
    """The preferences that a reader finds in rows of its kind, as a list of lists."""
    return {"preferences": listed(getattr(module, function)(rows))}


def loaded(module, rows):
    return {"preferences": listed(module.load_preferences(rows))}


def refuses_rows(module, function, good, bad, argument):
    """How a reader takes rows that will not do. The sound ones come first: unwritten code refuses nothing."""
    call = getattr(module, function)
    call(good)
    return refusal_of(lambda: call(bad))


def refuses_fraction(module, fraction):
    """How `freeze_fraction` takes a share that is none."""
    model = stack(2)
    module.freeze_fraction(model, 0.5)
    return refusal_of(lambda: module.freeze_fraction(model, fraction))


def last(module, attention_mask):
    before = attention_mask.clone()
    found = module.last_token(attention_mask)
    return {"columns": found.long(), "arguments changed": not torch.equal(before, attention_mask)}


def scored(module, weights, layers, head, input_ids, attention_mask, direction, towards):
    """Scores of the rows; how sum(direction * scores) changes by the head, and along one direction of the word embeddings."""
    model = reward_model(module, weights, layers, head)
    before = input_ids.clone(), attention_mask.clone()
    value = model(input_ids, attention_mask)
    by_head, by_words = gradients_of((value * direction).sum(), model.score.weight, model.transformer.wte.weight)
    return {
        "scores": value,
        "dtype": dtype_of(value),
        "gradients": {"head": by_head.reshape(-1), "along the words": float((by_words * towards).sum())},
        "arguments changed": not (torch.equal(before[0], input_ids) and torch.equal(before[1], attention_mask)),
    }


def one_by_one(module, weights, layers, head, input_ids, attention_mask):
    """The scores of rows that stand in one batch, less those of each row's real tokens by themselves."""
    model = reward_model(module, weights, layers, head)
    together = model(input_ids, attention_mask)
    rows = [row[mask != 0].unsqueeze(0) for row, mask in zip(input_ids, attention_mask)]
    apart = torch.cat([model(row, torch.ones_like(row)).reshape(1) for row in rows])
    return {"together": together, "apart": apart}


def head(module, width, dtype):
    """The head of a new model: its names and shapes, and how large its numbers are."""
    torch.manual_seed(0)
    transformer = nn.Module()
    transformer.config = SimpleNamespace(n_embd=width, hidden_size=width)
    transformer.wte = nn.Embedding(1, width, dtype=getattr(torch, dtype))
    transformer.dtype, transformer.device = getattr(torch, dtype), torch.device("cpu")
    model = module.RewardModel(transformer)
    return {
        "parameters": {name: list(value.shape) for name, value in model.named_parameters()},
        "dtype": dtype_of(model.score.weight),
        "standard deviation": model.score.weight.detach().double().std().item(),
    }


def frozen(module, layers, fractions):
    """What can be trained after calls with these fractions, one after the other on one model; what each call returns."""
    model, seen = stack(layers), []
    for fraction in fractions:
        returned = module.freeze_fraction(model, float(fraction))
        body = model.transformer
        parts = {"wte": body.wte, "wpe": body.wpe, "ln_f": body.ln_f, "score": model.score}
        seen.append({
            "returned": int(returned),
            **{name: trainable(part) for name, part in parts.items()},
            "layers": [trainable(layer) for layer in body.h],
        })  # fmt: skip
    return {"after each call": seen}


def loss(module, chosen, rejected, dtype="float64"):
    asked = [value.to(getattr(torch, dtype)).clone().requires_grad_(True) for value in (chosen, rejected)]
    before = [value.detach().clone() for value in asked]
    value = module.pairwise_loss(*asked)
    by_chosen, by_rejected = gradients_of(value, *asked)
    return {
        "loss": value,
        "dtype": dtype_of(value),
        "gradients": {"chosen": by_chosen, "rejected": by_rejected},
        "arguments changed": any(not torch.equal(old, new.detach()) for old, new in zip(before, asked)),
    }


def share(module, chosen, rejected):
    mean, low, high = module.accuracy(chosen, rejected)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def table(module, chosen, rejected, bins):
    rows = module.calibration(chosen, rejected, bins)
    return {"rows": [[int(count), float(said), float(right)] for count, said, right in rows]}


def training(module, words, batches, validation, settings, learning_rate, resumed=None):
    """`train` on a table of words by plain gradient descent: what is logged, the table after every step, and at the end.

    resumed: {"kept", "best"}: the numbers and the best table of a run that was stopped.
    """
    model = BagOfWords(words if resumed is None else resumed["best"]).train()
    config = RewardModelConfig(**settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    loop = RecordingLoop(model, [Pairs(**b) for b in batches], [Pairs(**b) for b in validation], optimizer, config)
    if resumed is not None:
        loop.remember()
        with torch.no_grad():
            model.words.copy_(words)
        loop.kept.update(resumed["kept"])
    module.train(loop, config)
    return {
        "steps": len(loop.rows),
        "log": [{name: row[name] for name in LOGGED if name in row} for row in loop.rows],
        "words after each step": torch.stack(loop.tables) if loop.tables else None,
        "words at the end": model.words,
        "kept": {name: float(loop.kept[name]) for name in ("steps", "best", "waited") if name in loop.kept},
    }


class BagOfWords(nn.Module):
    """A reward model as simple as can be: the score of a text is the sum of its real tokens' entries in a table.

    In training mode every second entry is dropped and the others doubled: dropout that does the same to everybody, so that a run
    which leaves it on is known by its numbers.
    """

    def __init__(self, words):
        super().__init__()
        self.words = nn.Parameter(words.clone())
        self.config = SimpleNamespace(vocab_size=len(words))

    def forward(self, input_ids, attention_mask):
        table = self.words
        if self.training:
            table = table * (2.0 * (torch.arange(len(table)) % 2))
        return (table[input_ids] * (attention_mask != 0)).sum(dim=1)


class RecordingLoop(RewardLoop):
    """The plain loop, which also keeps the table after every step."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.tables = []

    def update(self, loss):
        super().update(loss)
        self.tables.append(self.policy.words.detach().clone())


def reward_model(module, weights, layers, head):
    """The learner's model around a GPT-2 with these weights, in float64 and without dropout."""
    (vocabulary, width), positions = weights["wte.weight"].shape, len(weights["wpe.weight"])
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=positions, n_embd=width, n_head=2, n_layer=layers, bos_token_id=0, eos_token_id=0
    )
    transformer = GPT2Model(config).double()
    for name, value in transformer.named_parameters():
        value.data.copy_(weights[name]) if name in weights else value.data.zero_()
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            value.data.fill_(1.0)
    model = module.RewardModel(transformer).double().eval()
    with torch.no_grad():
        model.score.weight.copy_(head.reshape(1, -1))
    return model


def stack(layers):
    """A GPT-2 of so many layers with a head, as small as can be."""
    config = GPT2Config(vocab_size=3, n_positions=2, n_embd=2, n_head=1, n_layer=layers, bos_token_id=0, eos_token_id=0)
    model = nn.Module()
    model.transformer, model.score = GPT2Model(config), nn.Linear(2, 1, bias=False)
    return model


def listed(preferences):
    return [[str(getattr(found, name)) for name in FIELDS[:-1]] + [int(found.label)] for found in preferences]


def trainable(part):
    """all, none or some of a part's parameters."""
    flags = {parameter.requires_grad for parameter in part.parameters()}
    return "some" if len(flags) > 1 else "all" if flags == {True} else "none"


def dtype_of(value):
    return str(value.dtype).removeprefix("torch.")
