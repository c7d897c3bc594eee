"""Models by name: the built-in ones, any local Hugging Face directory, any name on the hub.

    policy, tokenizer = load_policy("review-lm")
    classifier, its_tokenizer = load_classifier("/home/me/models/sentiment")

Weights come as float32 whatever the directory stores, and dropout is off for good: what is scored is what was sampled.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from torch import nn

from . import hub
from .problems import InputProblem

BUILTIN = Path(__file__).parent / "builtin"
PAD = "<|pad|>"
"The pad token given to a tokenizer that has none of its own."

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Where nobody wants to be told."""


def built_in() -> list[str]:
    """The names of the models that ship with the course."""
    return sorted(place.parent.name for place in BUILTIN.glob("*/config.json"))


def load_policy(
    name: str, *, field: str = "model", say: Say = silent, kinds: tuple[str, ...] = ("decoder",), dropout: bool = False
) -> tuple[nn.Module, Any]:
    """(language model, its tokenizer), ready to be trained; the tokenizer has a pad token that is not EOS.

    name: built-in ("review-lm"), a local directory, or a hub name, in this order. field: what an error calls it.
    say: is told in a line what had to be changed. kinds: "decoder" (as GPT-2 is), "encoder-decoder" (as T5 is), or both.
    dropout: whether it stays as the model has it; else it is off for good.  Raises InputProblem.
    """
    place = _place(name, field)
    tokenizer = load_tokenizer(name, field=field)
    with _refused(name, field):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        config = AutoConfig.from_pretrained(place)
        kind = "encoder-decoder" if getattr(config, "is_encoder_decoder", False) else "decoder"
        if kind not in kinds:
            names = {"decoder": "a causal language model as GPT-2 is", "encoder-decoder": "an encoder-decoder as T5 is"}
            raise InputProblem(f"{field}={name}: expected {names[kinds[0]]}, received {names[kind].split(' as ')[0]}")
        maker = AutoModelForCausalLM if kind == "decoder" else AutoModelForSeq2SeqLM
        policy = maker.from_pretrained(place, dtype=torch.float32)
    _require_vocabulary(policy, tokenizer, name, field)
    separate_pad(policy, tokenizer, name, field, say)
    policy.config.pad_token_id = tokenizer.pad_token_id
    return policy if dropout else _without_dropout(policy), tokenizer


def load_classifier(name: str, *, field: str = "classifier", say: Say = silent) -> tuple[nn.Module, Any]:
    """(sequence classifier, its tokenizer), frozen. The arguments are those of `load_policy`."""
    place = _place(name, field)
    tokenizer = load_tokenizer(name, field=field)
    with _refused(name, field):
        from transformers import AutoModelForSequenceClassification

        classifier, report = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True
        )
    fresh = sorted(key for key in report["missing_keys"] if "classifier" in key or "score" in key)
    if fresh:  # the library fills them with noise: a reward at random
        raise InputProblem(f"{field}={name}: has no trained classification head ({fresh[0]} is missing); name a classifier")
    if classifier.config.num_labels != 2:
        raise InputProblem(f"{field}={name}: expected 2 labels, negative and positive, received {classifier.config.num_labels}")
    _require_vocabulary(classifier, tokenizer, name, field)
    if tokenizer.pad_token_id is None:
        separate_pad(classifier, tokenizer, name, field, say)
    classifier.config.pad_token_id = tokenizer.pad_token_id
    return _without_dropout(classifier).requires_grad_(False), tokenizer


def load_tokenizer(name: str, *, field: str = "tokenizer") -> Any:
    """The tokenizer of a model, or of a directory that holds only a tokenizer; GPT-2's first file names will do as well.

    Those are encoder.json and vocab.bpe. Nothing is added to it here, a pad token neither.
    """
    place = _place(name, field)
    with _refused(name, field, "a tokenizer (tokenizer.json, or vocab.json and merges.txt)"):
        from transformers import AutoTokenizer, GPT2TokenizerFast

        files = Path(place)
        if (files / "encoder.json").is_file() and (files / "vocab.bpe").is_file():
            return GPT2TokenizerFast(vocab=str(files / "encoder.json"), merges=str(files / "vocab.bpe"))
        return AutoTokenizer.from_pretrained(place)


def separate_pad(model: nn.Module, tokenizer: Any, name: str, field: str = "model", say: Say = silent) -> None:
    """Sees to it that padding is a token of its own: where pad and EOS are one, every mask takes the end of a text for padding.

    A token is added where there is none, with the mean of all embeddings as its own. A model whose output shares them then gives
    it the mean logit, and so at most one part in V of the probability: the geometric mean is never above the arithmetic one.
    """
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.sep_token or tokenizer.bos_token or tokenizer.unk_token
        if tokenizer.eos_token_id is None:
            raise InputProblem(f"{field}={name}: its tokenizer has no EOS token; set eos_token in its tokenizer_config.json")
        say(f"{field}={name}: the tokenizer has no EOS token; {tokenizer.eos_token} takes its place")
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return
    why = "has no pad token" if tokenizer.pad_token_id is None else "pads with EOS"
    tokenizer.add_special_tokens({"pad_token": PAD})
    if len(tokenizer) > embedding_rows(model):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in {model.get_input_embeddings(), model.get_output_embeddings()} - {None}:
                for values in (layer.weight, getattr(layer, "bias", None)):
                    if values is not None:
                        values[tokenizer.pad_token_id] = values[: tokenizer.pad_token_id].mean(0)
    say(f"{field}={name}: the tokenizer {why}; {PAD} was added as token {tokenizer.pad_token_id}, and its embedding")


def embedding_rows(model: nn.Module) -> int:
    """How many token ids a model knows."""
    return model.get_input_embeddings().weight.shape[0]


def require_same_vocabulary(policy: nn.Module, reference: nn.Module, names: tuple[str, str]) -> None:
    """Raises InputProblem unless policy and reference give probabilities to the same tokens: else they have no KL."""
    sizes = embedding_rows(policy), embedding_rows(reference)
    if sizes[0] != sizes[1]:
        raise InputProblem(
            f"reference={names[1]}: knows {sizes[1]} tokens and model={names[0]} {sizes[0]}; they need one vocabulary"
        )


def positive_label(classifier: nn.Module) -> int:
    """Which of a classifier's outputs means positive: the one so named in its configuration, else the second."""
    for index, label in classifier.config.id2label.items():
        if "pos" in str(label).lower():
            return int(index)
    return 1


def _require_vocabulary(model: nn.Module, tokenizer: Any, name: str, field: str) -> None:
    if len(tokenizer) > embedding_rows(model):
        raise InputProblem(
            f"{field}={name}: its tokenizer knows {len(tokenizer)} tokens and the model {embedding_rows(model)}; "
            "use the tokenizer that the model was trained with"
        )


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


def _place(name: str, field: str) -> str:
    """What the library is to load: a directory of ours, a directory, or the name as it is."""
    if (BUILTIN / name / "config.json").is_file() and "/" not in name and name not in ("", ".", ".."):
        return str(BUILTIN / name)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise InputProblem(f"{field}={name}: is a file; name the directory that holds config.json and model.safetensors")
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputProblem(f"{field}={name}: there is no such directory")
    return name


@contextlib.contextmanager
def _refused(name: str, field: str, what: str = "a model (config.json, model.safetensors, tokenizer files)") -> Iterator[None]:
    """The library's many ways to say no, in one line."""
    from safetensors import SafetensorError

    try:
        with quiet(), hub.asked():
            yield
    except (InputProblem, NotImplementedError):  # the second: a learner's model that is not written yet
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        if Path(name).expanduser().is_dir() or (BUILTIN / name).is_dir():
            reason = " ".join(str(error).split())[:200]
            raise InputProblem(f"{field}={name}: the directory does not hold {what} that can be read: {reason}") from None
        raise InputProblem(
            f"{field}={name}: neither built-in ({', '.join(built_in()) or 'none here'}) nor a local directory, and the hub did"
            f" not give it (no network, or no such name). Download it elsewhere and give its directory: {field}=/path/to/it"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's bars and advice: a run has a bar of its own."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@torch.no_grad()
def positive_probability(classifier: nn.Module, tokenizer: Any, texts: list[str], batch_size: int = 64) -> torch.Tensor:
    """P(positive) of each text, (texts,), float32: padding masked, texts longer than the classifier reads cut at their end."""
    longest = getattr(classifier.config, "max_position_embeddings", None) or getattr(classifier.config, "n_positions", 512)
    device, index = next(classifier.parameters()).device, positive_label(classifier)
    found = []
    for start in range(0, len(texts), batch_size):
        some = tokenizer(
            texts[start : start + batch_size],
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        ).to(device)
        logits = classifier(input_ids=some["input_ids"], attention_mask=some["attention_mask"]).logits  # (b, 2)
        found.append(logits.float().softmax(-1)[:, index])
    return torch.cat(found) if found else torch.zeros(0)
