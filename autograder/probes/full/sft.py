"""Lesson 13: what is asked of supervised fine-tuning and its parts."""

import json
import os
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from autograder.probes import refusal as refusal_of, refuses
from full.given.sft_settings import SFTConfig

PAD, EOS, UNKNOWN = 0, 1, 2  # the first three words of every vocabulary here


def prepare():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a thread pool does not survive a fork


def preprocessed(module, words, source, target, max_source, max_target, adds_eos=True):
    """The columns that come of some texts. adds_eos: whether the tokenizer puts EOS behind a text of its own accord."""
    tokenizer, examples = tokenizer_of(words, adds_eos), {"source": list(source), "target": list(target)}
    found = module.preprocess_function(examples, tokenizer, max_source, max_target)
    names = ("input_ids", "attention_mask", "labels", "source_cut", "target_cut")
    columns = {name: whole(found[name]) for name in names if name in found}
    return {**columns, "arguments changed": examples != {"source": list(source), "target": list(target)}}


def shifted(module, labels, start_id, pad_id):
    before = labels.clone()
    found = module.shift_right(labels, start_id, pad_id)
    return {"decoder_input_ids": found.long(), "arguments changed": not torch.equal(before, labels)}


def collated(module, rows, start_id, pad_id):
    before = json.dumps(rows)
    found = module.collate(rows, start_id, pad_id)
    return {"batch": batch_of(found), "arguments changed": json.dumps(rows) != before}


def loss(module, logits, labels, count=None, as_tensor=False):
    """The loss and its gradient by the logits. as_tensor: the count comes as a tensor, as the trainer hands it over."""
    leaf, before = logits.clone().requires_grad_(True), labels.clone()
    value = module.sft_loss(leaf, labels, *([] if count is None else [torch.tensor(count) if as_tensor else count]))
    gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    return {
        "loss": value.detach(),
        "dtype": dtype_of(value),
        "gradients": {"logits": torch.zeros_like(logits) if gradient is None else gradient},
        "arguments changed": not torch.equal(before, labels),
    }


def loss_in_bfloat16(module, logits, labels):
    """The same from logits in bfloat16, which the case's numbers are exact in."""
    value = module.sft_loss(logits.to(torch.bfloat16), labels)
    return {"loss": value.detach().double(), "dtype": dtype_of(value)}


def common(module, reference, prediction):
    return {"length": int(module.lcs_length(list(reference), list(prediction)))}


def rouge(module, reference, prediction):
    found = module.rouge_l(reference, prediction)
    return {name: float(found[name]) for name in ("precision", "recall", "fmeasure")}


def decoded(module, words, ids, as_numpy=True):
    asked = ids.numpy() if as_numpy else ids
    before = ids.clone()
    texts = module.decode_tokens(asked, tokenizer_of(words))
    return {"texts": [str(text) for text in texts], "arguments changed": not torch.equal(before, ids)}


def metrics(module, words, predictions, label_ids, use_stemmer=False):
    prediction = SimpleNamespace(predictions=predictions.numpy(), label_ids=label_ids.numpy())
    before = predictions.clone(), label_ids.clone()
    found = module.compute_metrics(prediction, tokenizer_of(words), **({"use_stemmer": True} if use_stemmer else {}))
    same = torch.equal(before[0], predictions) and torch.equal(before[1], label_ids)
    figures = {name: float(found[name]) for name in ("rougeL", "completion_length", "eos_rate") if name in found}
    return {**figures, "arguments changed": not same}


def written(module, words, rows, generated):
    """The file that `write_predictions` leaves, line by line, and what it returns."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "predictions.jsonl")
        found = module.write_predictions(path, rows, generated.numpy(), tokenizer_of(words))
        with open(path, encoding="utf-8") as file:
            text = file.read()
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        lines = "not JSON Lines: " + text[:200]
    return {"lines": lines, "returned": [dict(row) for row in found], "escaped letters": "\\u" in text}


def trainer(module, words, tables, rows, settings, learns, worth=None):
    """What a trainer of a known model does: its batches, its evaluation, and which weights training ends with.

    tables: the model, see `Table`. worth: what the model generates at each evaluation in turn, in place of what it would say.
    """
    from transformers import PrinterCallback
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, tokenizer = Table(tables, [] if worth is None else worth), tokenizer_of(words)
    config = SFTConfig(**settings)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"use_cpu": True, "disable_tqdm": True}
        built = module.build_trainer(model, tokenizer, rows["train"], rows["validation"], config, folder, **quiet)
        built.remove_callback(PrinterCallback)
        answer = {"batch": batch_of(next(iter(built.get_eval_dataloader())))} if worth is None else {}
        if worth is None:
            found = built.evaluate()
            names = ("eval_rougeL", "eval_completion_length", "eval_eos_rate", "eval_loss")
            answer["evaluation"] = {name: float(found[name]) for name in names if name in found}
            answer["asked of generation"] = {
                "longest": int(model.longest()),
                "beams": int(model.of_generation("num_beams") or 1),
                "sampled": bool(model.of_generation("do_sample") or False),
                "begins with the answer": "decoder_input_ids" in model.asked,
            }
        if learns:
            model.kept.clear()
            built.train()
            first = built.state.log_history[0]
            answer |= {"first loss": float(first["loss"]), "first gradient": float(first["grad_norm"])}
            answer["steps"] = int(built.state.global_step)
            last = [torch.equal(kept, model.words.detach()) for kept in model.kept]
            answer["evaluations"] = len(model.kept)
            answer["weights at the end are those of evaluation"] = last.index(True) if True in last else -1
    return answer


def refuses_texts(module, words, source, target, max_source, max_target):
    """How `preprocess_function` takes texts or lengths that make no sense, after two that do."""
    tokenizer = tokenizer_of(words)
    module.preprocess_function({"source": [words[3]], "target": [words[4]]}, tokenizer, 4, 4)
    examples = {"source": list(source), "target": list(target)}
    return refusal_of(lambda: module.preprocess_function(examples, tokenizer, max_source, max_target))


def refuses_predictions(module, words, rows, generated):
    """How `write_predictions` takes as many predictions as are here, and whether a file is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        path, tokenizer = os.path.join(folder, "predictions.jsonl"), tokenizer_of(words)
        module.write_predictions(os.path.join(folder, "sound"), rows[:1], torch.tensor([[PAD, 3, EOS]]).numpy(), tokenizer)
        answer = refusal_of(lambda: module.write_predictions(path, rows, generated.numpy(), tokenizer))
        return {**answer, "a file is left": os.path.exists(path)}


# what the probes share


class Table(nn.Module):
    """An encoder-decoder that is two tables: logits = words[what the decoder has read last] + sum of sources[real source tokens].

    Called as T5 is; in the labels -100 is left out. `asked`: what the last generation was asked. `kept`: `words` at the time of
    each. `scripted`: rows of ids that it generates in place of its own, one list an evaluation.
    """

    def __init__(self, tables, scripted):
        super().__init__()
        from transformers import GenerationConfig, PreTrainedConfig

        self.words, self.sources = nn.Parameter(tables["words"].clone()), nn.Parameter(tables["sources"].clone())
        special = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": PAD}
        self.config = PreTrainedConfig(is_encoder_decoder=True, vocab_size=tables["words"].shape[1], **special)
        self.generation_config = GenerationConfig(**special, max_length=5)
        self.scripted, self.asked, self.kept = scripted, {}, []
        self.main_input_name = "input_ids"

    def forward(self, input_ids=None, attention_mask=None, decoder_input_ids=None, labels=None, **_):
        if decoder_input_ids is None:
            filled = labels.masked_fill(labels == -100, PAD)
            decoder_input_ids = torch.cat([torch.full_like(filled[:, :1], PAD), filled[:, :-1]], dim=1)
        logits = self.words[decoder_input_ids] + self.read(input_ids, attention_mask).unsqueeze(1)
        found = Output(logits=logits)
        if labels is not None:
            found = Output(loss=nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits=logits)
        return found

    def read(self, input_ids, attention_mask):
        """What the encoder makes of a source: the sum over its real tokens."""
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask != 0
        return (self.sources[input_ids] * real.unsqueeze(2)).sum(dim=1)

    def of_generation(self, name):
        """A setting of the last generation: asked for, or the model's own."""
        found = self.asked.get(name)
        return getattr(self.asked.get("generation_config") or self.generation_config, name, None) if found is None else found

    def longest(self):
        """How many ids a row may have, start token included, however that was asked for."""
        asked = self.asked.get("max_new_tokens"), self.asked.get("max_length"), self.of_generation("max_new_tokens")
        new, length, own = asked
        return 1 + new if new else length or (1 + own if own else self.of_generation("max_length") or 20)

    @torch.no_grad()
    def generate(self, input_ids=None, attention_mask=None, **asked):
        """The likeliest token again and again, up to the length that is asked for; the start token counts, as in the library."""
        self.asked = asked
        self.kept.append(self.words.detach().clone())
        if self.scripted:
            return self.scripted[(len(self.kept) - 1) % len(self.scripted)][: len(input_ids)]
        said = torch.full((len(input_ids), 1), PAD)
        while said.shape[1] < self.longest():
            logits = self.words[said[:, -1]] + self.read(input_ids, attention_mask)
            ended = (said[:, 1:] == EOS).any(dim=1)
            said = torch.cat([said, logits.argmax(dim=1).masked_fill(ended, PAD).unsqueeze(1)], dim=1)
        return said


class Output(dict):
    """What a model returns: by name, or as attributes."""

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


def tokenizer_of(words, adds_eos=True):
    """One token a word; the first three are pad, EOS and the unknown word."""
    ids = {word: place for place, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=words[UNKNOWN]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_eos:
        backend.post_processor = processors.TemplateProcessing(single=f"$A {words[EOS]}", special_tokens=[(words[EOS], EOS)])
    special = {"pad_token": words[PAD], "eos_token": words[EOS], "unk_token": words[UNKNOWN]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def batch_of(found):
    names = ("input_ids", "attention_mask", "labels", "decoder_input_ids")
    return {name: torch.as_tensor(found[name]).long() for name in names if name in found}


def whole(column):
    """A column as plain lists of whole numbers, whether it came as lists, arrays or a tensor."""
    column = column.tolist() if isinstance(column, (torch.Tensor, np.ndarray)) else column
    return [[int(value) for value in row] if hasattr(row, "__len__") else int(row) for row in column]


def dtype_of(value):
    return str(value.dtype).removeprefix("torch.")
