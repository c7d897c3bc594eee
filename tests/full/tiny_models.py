"""Models and data of a few kilobytes, made on the spot: what the tests of runs are run on."""

import json
import random
from pathlib import Path

import torch

GOOD, BAD = ["good", "great", "fine", "lovely"], ["bad", "poor", "dull", "awful"]
REST = ["the", "film", "plot", "was", "and", "a", "very", "music", ".", "it"]
WORDS = [*GOOD, *BAD, *REST]


def tokenizer(pad="<pad>", eos="<eos>", words=WORDS):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [token for token in dict.fromkeys((pad, eos, "<unk>")) if token]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, eos_token=eos, unk_token="<unk>")


def policy(place, pad="<pad>", eos="<eos>", seed=0, rows=None, words=WORDS):
    """A GPT-2 of one layer with a random idea of language."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    ours = tokenizer(pad, eos, words)
    config = GPT2Config(
        vocab_size=rows or len(ours), n_positions=48, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3,
        eos_token_id=ours.eos_token_id, bos_token_id=ours.eos_token_id, pad_token_id=ours.pad_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(place)
    ours.save_pretrained(place)
    return str(place)


def classifier(place, seed=1, labels=2, names=("negative", "positive")):
    """A classifier that adds up good and bad words: an LSTM or a transformer would take longer to rig than to test."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(seed)
    ours = tokenizer()
    config = GPT2Config(
        vocab_size=len(ours), n_positions=64, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3, num_labels=labels,
        eos_token_id=ours.eos_token_id, bos_token_id=ours.eos_token_id, pad_token_id=ours.pad_token_id,
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(place)
    ours.save_pretrained(place)
    return str(place)


def text(rng, words=12):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def texts(place, count=80, words=12, seed=0, **more):
    """A JSONL file with the columns text and label."""
    rng = random.Random(seed)
    rows = [{"text": text(rng, words), "label": i % 2, **more} for i in range(count)]
    Path(place).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def pairs(place, count=60, seed=0):
    """A JSONL file of prompts with a good and a bad completion, of ragged lengths."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        prompt, length = text(rng, rng.randint(2, 5)), rng.randint(1, 6)
        good = " ".join(rng.choice(GOOD + REST) for _ in range(length))
        bad = " ".join(rng.choice(BAD + REST) for _ in range(rng.randint(1, 6)))
        rows.append({"prompt": prompt, "positive_completion": " " + good, "negative_completion": " " + bad})
    Path(place).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def workshop(folder):
    """All of it in one folder: the fields of a run that uses them."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "model": policy(folder / "lm"),
        "classifier": classifier(folder / "classifier"),
        "data": texts(folder / "texts.jsonl"),
        "prompt_tokens": 4,
        "new_tokens": 6,
        "batch_size": 8,
        "eval_prompts": 12,
        "samples": 3,
        "sample_every": 3,
        "save_every": 2,
        "steps": 6,
        "learning_rate": 1e-2,
        "device": "cpu",
    }


def t5(place, seed=0, words=WORDS):
    """A T5 of one layer on each side, with a random idea of language."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    ours = tokenizer(words=words)
    config = T5Config(
        vocab_size=len(ours), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=ours.pad_token_id,
        eos_token_id=ours.eos_token_id, decoder_start_token_id=ours.pad_token_id, initializer_factor=2.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(place)
    ours.save_pretrained(place)
    return str(place)


def answers(place, count=60, seed=0):
    """A JSONL file of texts and an answer to each: a few of its words again."""
    rng, rows = random.Random(seed), []
    for n in range(count):
        source = text(rng, rng.randint(4, 9))
        rows.append({"id": f"row {n}", "source": source, "target": " ".join(source.split()[: rng.randint(2, 4)])})
    Path(place).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def judgements(place, count=60, seed=0):
    """A JSONL file of prompts with a good and a bad answer: what a reward model learns from."""
    rng, rows = random.Random(seed), []
    for n in range(count):
        chosen, rejected = (" ".join(rng.choice(words) for _ in range(rng.randint(1, 5))) for words in (GOOD, BAD))
        rows.append({"id": f"pair {n}", "prompt": text(rng, rng.randint(2, 5)), "chosen": chosen, "rejected": rejected})
    Path(place).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)
