"""Lesson 11: what is asked of DPO and its parts."""

from types import SimpleNamespace

import torch
from torch import nn

from autograder.probes import gradients_of, refusal as refusal_of, refuses
from full.given.loop import Loop
from full.given.settings import DPOConfig
from full.given.text import Pairs

LOGGED = ("chosen_reward", "rejected_reward", "margin", "accuracy", "chosen_log_prob", "rejected_log_prob")


def labels(module, **case):
    before = snapshot(case)
    found = module.completion_labels(**case)
    return {"labels": found.long(), "arguments changed": changed(case, before)}


def sequences(module, logits, labels, direction, **more):
    """Log-probabilities of the rows, and the gradient of sum(direction * log-probabilities) by the logits."""
    case = {"logits": logits.clone().requires_grad_(True), "labels": labels}
    before = snapshot(case)
    value = module.sequence_log_probs(**case, **more)
    gradient = gradients_of((value * direction).sum(), case["logits"])[0]
    return {
        "log_probs": value,
        "dtype": dtype_of(value),
        "gradients": {"logits": gradient},
        "arguments changed": changed(case, before),
    }


def sequences_in_bfloat16(module, logits, labels, **more):
    """The same from logits in bfloat16, which the case's numbers are exact in."""
    value = module.sequence_log_probs(logits.to(torch.bfloat16), labels, **more)
    return {"log_probs": value.double(), "dtype": dtype_of(value)}


def pairs(module, policy, batch, direction, average=False):
    """Log-probabilities of a batch of pairs under a language model that counts what is asked of it; their gradients."""
    model, before = language_model(policy), snapshot(batch)
    value = module.pair_log_probs(model, Pairs(**batch), average)
    gradients = gradients_of((value * direction).sum(), model.words, model.places)
    return {
        "log_probs": value,
        "gradients": dict(zip(("words", "places"), gradients)),
        "forward passes": len(model.columns),
        "columns of logits": sum(model.columns),
        "arguments changed": changed(batch, before),
    }


def reference(module, policy, batch, average=False):
    """Log-probabilities under the reference, and whether a gradient could flow back through them."""
    model, before = None if policy is None else language_model(policy), snapshot(batch)
    if batch.get("ref_log_probs") is not None:
        batch["ref_log_probs"].requires_grad_(True)
    value = module.reference_log_probs(model, Pairs(**batch), average)
    return {
        "log_probs": value.detach(),
        "carries a gradient": value.requires_grad,
        "forward passes": 0 if model is None else len(model.columns),
        "arguments changed": changed(batch, before),
    }


def loss(module, dtype="float64", **case):
    """A loss, and its gradients by the log-probabilities of both answers; the reference's largest gradient apart."""
    asked = {}
    for name, value in case.items():
        is_tensor = isinstance(value, torch.Tensor)
        asked[name] = value.to(getattr(torch, dtype)).clone().requires_grad_(True) if is_tensor else value
    before = snapshot(asked)
    value = module.dpo_loss(**asked)
    of = ("chosen", "rejected", "ref_chosen", "ref_rejected")
    gradients = dict(zip(of, gradients_of(value, *(asked[name] for name in of))))
    into_the_reference = max(float(gradients.pop(name).abs().max()) for name in of[2:])
    return {
        "loss": value,
        "dtype": dtype_of(value),
        "gradients": gradients,
        "gradient into the reference": into_the_reference,
        "arguments changed": changed(asked, before),
    }


def metrics(module, **case):
    for value in case.values():
        if isinstance(value, torch.Tensor):
            value.requires_grad_(True)
    before = snapshot(case)
    found = {str(name): torch.as_tensor(figure) for name, figure in module.dpo_metrics(**case).items()}
    return {
        "metrics": {name: figure.detach().double() for name, figure in found.items()},
        "with a gradient": ", ".join(name for name, figure in found.items() if figure.requires_grad) or "none",
        "arguments changed": changed(case, before),
    }


def training(module, policy, reference, batches, settings, learning_rate):
    """`train` by plain gradient descent on tables: what is logged, and the tables after every step."""
    model = language_model(policy).train()
    anchor = None if reference is None else language_model(reference).train()
    config = DPOConfig(**settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    loop = RecordingLoop(model, [Pairs(**batch) for batch in batches], optimizer, config, reference=anchor)
    before = [snapshot(batch) for batch in batches]
    module.train(loop, config)
    answer = {
        "steps": len(loop.words),
        "log": [{name: row[name] for name in ("loss", *LOGGED) if name in row} for row in loop.rows],
        "words after each step": torch.stack(loop.words) if loop.words else None,
        "places after each step": torch.stack(loop.places) if loop.places else None,
        "batches changed": any(changed(batch, old) != "none" for batch, old in zip(batches, before)),
    }
    if anchor is not None:
        answer["gradient in the reference"] = any(parameter.grad is not None for parameter in anchor.parameters())
    return answer


def swept(module, betas, figures):
    """`sweep` over runs whose figures come from a list; which betas were run, in which order."""
    asked, waiting = [], [dict(row) for row in figures]

    def run(beta):
        asked.append(float(beta))
        return waiting[betas.tolist().index(beta)]

    rows = module.sweep(run, betas.tolist())
    return {
        "runs": asked,
        "rows": [{str(k): bool(v) if str(k) == "dominated" else float(v) for k, v in row.items()} for row in rows],
    }


def refuses_betas(module, betas):
    """How `sweep` takes these betas, and how many runs it has spent by then."""
    spent = []

    def run(beta):
        spent.append(beta)
        return {"reward": 0.0, "kl": 0.0}

    module.sweep(run, [1.0])
    spent.clear()
    return {**refusal_of(lambda: module.sweep(run, list(betas))), "runs": len(spent)}


class PlacedBigrams(nn.Module):
    """A causal language model that is called as Hugging Face's are: logits = words[token] + places[position].

    `columns` remembers how many columns of logits each forward pass has made. In training mode every second logit is dropped
    and the others doubled: dropout that does the same to everybody, so that a run which leaves it on is known by its numbers.
    """

    def __init__(self, words, places):
        super().__init__()
        self.words, self.places = nn.Parameter(words.clone()), nn.Parameter(places.clone())
        self.config = SimpleNamespace(vocab_size=words.shape[1], use_cache=True)
        self.columns = []

    @property
    def device(self):
        return self.words.device

    def forward(self, input_ids, attention_mask=None, position_ids=None, logits_to_keep=0, **_):
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(f"attention_mask of shape {tuple(attention_mask.shape)} for tokens of shape {tuple(input_ids.shape)}")
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
        logits = self.words[input_ids] + self.places[position_ids]
        if self.training:
            logits = logits * (2.0 * (torch.arange(logits.shape[-1]) % 2))
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = logits[:, kept]
        self.columns.append(logits.shape[1])
        return Output(logits=logits)


class Output(dict):
    """What a model returns: its logits by name, as an attribute, or as the first entry."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __getitem__(self, key):
        return next(iter(self.values())) if key == 0 else super().__getitem__(key)


class RecordingLoop(Loop):
    """The plain loop, which also keeps the policy's tables after every step."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.words, self.places = [], []

    def update(self, loss):
        super().update(loss)
        self.words.append(self.policy.words.detach().clone())
        self.places.append(self.policy.places.detach().clone())


def language_model(tables):
    return PlacedBigrams(tables["words"], tables["places"]).eval()


def dtype_of(value):
    return str(value.dtype).removeprefix("torch.")


def snapshot(case):
    return {name: value.detach().clone() for name, value in case.items() if isinstance(value, torch.Tensor)}


def changed(case, before):
    """The names of the arguments that look different afterwards."""
    return ", ".join(name for name, tensor in before.items() if not torch.equal(case[name].detach(), tensor)) or "none"
