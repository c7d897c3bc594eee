"""`climb pretrain lm|classifier`: a language model or a classifier of your own, from any texts, as a Hugging Face directory.

What comes out stands in `--out` itself, ready to be named by model= or classifier=; checkpoint/ beside it is what --resume needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from full.given import data, models
from full.given.loop import Loop
from full.given.problems import InputProblem
from full.given.scoring import chosen_log_probs
from full.given.settings import require_one_of
from toy.given.ppo import require_not_negative, require_positive, setting

from . import checkpoint, common, measures, pictures, processes
from .batches import Order, share
from .checkpoint import Moment
from .loop import RunLoop
from .settings import DEVICES, PRECISIONS

EOS, PAD = "<|endoftext|>", models.PAD
ONE_THREAD = False


@dataclass(frozen=True)
class Pretraining:
    """What both kinds can be told: field=value."""

    data: str = setting("reviews", "Texts: built-in reviews, a .json, .jsonl, .csv, .parquet or .txt file, a folder, a hub name.")
    text_column: str = setting("text", "Which column holds the texts.")
    train_split: str = setting("train", "Split of the data to train on; of a single file, all rows but a tenth.")
    test_split: str = setting("test", "Split of the data to measure on; of a single file, a tenth of its rows.")
    rows: int = setting(0, "How many texts of the data are used, 0: all.")
    eval_rows: int = setting(1000, "How many texts of the test split are measured on, 0: all.")
    tokenizer: str = setting("", "Directory or hub name of a tokenizer; left out: a byte-level BPE is trained on the texts.")
    vocabulary: int = setting(8000, "Tokens of a tokenizer that is trained here.")
    batch_size: int = setting(16, "Rows in a step, of all processes together.")
    epochs: int = setting(1, "How often the texts are gone through.")
    steps: int = setting(0, "Steps at most, 0: as many as the epochs hold.")
    learning_rate: float = setting(6e-4, "AdamW's highest learning rate.")
    warmup_steps: int = setting(50, "Steps in which the learning rate rises linearly; then it falls linearly to 0.")
    weight_decay: float = setting(0.01, "AdamW's weight decay.")
    clip_norm: float = setting(1.0, "Gradients longer than this are shortened to it, 0: none is.")
    save_every: int = setting(200, "Steps between two checkpoints, 0: only at the end and on Ctrl-C.")
    seed: int = setting(0, "Of the first weights, and of the order of the texts.")
    precision: str = setting("no", "no: float32. bf16: mixed, faster where the hardware has it, and rounded.")
    device: str = setting("auto", "auto: an accelerator if there is one. cpu: the processor.")
    trackers: str = setting("", "accelerate's trackers by name, with commas: tensorboard, wandb, ...; left out: none.")

    def __post_init__(self) -> None:
        for name in ("vocabulary", "batch_size", "epochs", "learning_rate"):
            require_positive(name, getattr(self, name))
        for name in ("rows", "eval_rows", "steps", "warmup_steps", "weight_decay", "clip_norm", "save_every", "seed"):
            require_not_negative(name, getattr(self, name))
        require_one_of("precision", self.precision, PRECISIONS)
        require_one_of("device", self.device, DEVICES)
        require_one_of("size", self.size, self.sizes)

    decay = True
    sample_every = 0


@dataclass(frozen=True)
class LMConfig(Pretraining):
    """A language model of GPT-2's architecture."""

    size: str = setting("small", "small: 4 layers, 128 wide. distilgpt2: 6 layers, 768 wide.")
    block: int = setting(128, "Tokens of a row: texts stand behind each other with EOS between, cut into rows of this length.")
    positions: int = setting(0, "Places the model has, 0: 1024 for distilgpt2, else twice the block.")

    sizes = ("small", "distilgpt2")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("block", self.block)
        if self.positions and self.positions < self.block:
            raise ValueError(f"positions: expected at least block={self.block}, received {self.positions}")


@dataclass(frozen=True)
class ClassifierConfig(Pretraining):
    """A classifier of DistilBERT's architecture, of texts of any length up to `block`."""

    size: str = setting("small", "small: 2 layers, 128 wide. distilbert: 6 layers, 768 wide.")
    label_column: str = setting("label", "Which column holds the label: 0 or negative, 1 or positive.")
    block: int = setting(128, "Tokens of a text that are read; the rest is cut off.")
    cut: bool = setting(True, "Whether training texts end at a random place, so that short texts are judged as well.")
    shortest: int = setting(10, "Tokens of a text that is cut, at least.")

    sizes = ("small", "distilbert")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("block", "shortest"):
            require_positive(name, getattr(self, name))


KINDS = {"lm": LMConfig, "classifier": ClassifierConfig}


def run(kind: str, config: Any, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Trains, and writes a Hugging Face directory into the folder; returns the summary."""
    place = checkpoint.newest(folder.path) if resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    columns = {"text": config.text_column} | ({"label": config.label_column} if kind == "classifier" else {})
    training, test = rows_of(config, columns)
    texts = data.texts_of(training, "text", config.data)
    accelerator = processes.accelerator_for(config, folder)
    tokenizer = models.load_tokenizer(str(place)) if place else tokenizer_of(config, texts, progress)
    progress("reading the texts", 0, 1)
    torch.manual_seed(config.seed)
    if kind == "lm":
        batches, rows, measured = language(config, tokenizer, texts, data.texts_of(test, "text", config.data))
        model = models.load_policy(str(place))[0] if place else new_lm(config, tokenizer)
    else:
        batches, rows, measured = labelled(config, tokenizer, training, test)
        model = models.load_classifier(str(place))[0].requires_grad_(True) if place else new_classifier(config, tokenizer)
    accelerator.prepare_model(model, evaluation_mode=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.95), fused=True
    )
    if state is not None:
        optimizer.load_state_dict(state)
    if accelerator.is_main_process:
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= moment.step])
    order = Order(rows, config.batch_size, config.epochs, config.steps, config.seed, config.data)
    if config.trackers:
        accelerator.init_trackers("climb", config=dict(vars(config)))
    loop = RunLoop(
        model,
        lambda step, process, processes: batches(order(step), step, process, processes),
        order.steps,
        optimizer,
        config,
        accelerator=accelerator,
        folder=folder,
        tokenizer=tokenizer,
        moment=moment,
        progress=progress,
        generator=torch.Generator().manual_seed(config.seed),
    )
    with common.kept(loop):
        train(loop)
        loop.save()
    if config.trackers:
        accelerator.end_training()
    figures = measured(model, accelerator.device, progress)
    summary = {"kind": kind, "parameters": model.num_parameters(), "tokens": len(tokenizer), **figures}
    summary |= {"steps": loop.moment.step, "seconds": loop.moment.seconds, "split": config.test_split}
    summary |= {"device": str(accelerator.device), "processes": accelerator.num_processes, **measures.peak_memory()}
    if accelerator.is_main_process:
        with models.quiet():
            model.save_pretrained(folder.path)
            tokenizer.save_pretrained(folder.path)
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{kind}, {loop.moment.step} steps")
        folder.write_summary(summary)
    return summary


def train(loop: Loop) -> None:
    """One pass over the loop's batches: cross entropy, a mean over what a batch is asked for."""
    for batch in loop.batches():
        logits = loop.policy(**batch.arguments).logits
        loss = -chosen_log_probs(logits[:, : batch.targets.shape[1]] if logits.ndim == 3 else logits, batch.targets).mean()
        loop.update(loss)
        loop.log(loss=loss.detach())


class Batch:
    """The arguments of a forward pass, and what it is to give: a label a row, or the next token of all columns but the last."""

    def __init__(self, targets: Tensor, **arguments: Tensor) -> None:
        self.targets, self.arguments = targets, arguments

    def to(self, device: Any) -> Batch:
        return Batch(self.targets.to(device), **{name: value.to(device) for name, value in self.arguments.items()})


def rows_of(config: Pretraining, columns: dict[str, str]) -> tuple[list[dict], list[dict]]:
    """(rows to train on, rows to measure on)."""
    if common.is_one_file(config.data):
        rows = data.load_rows(config.data, columns, limit=config.rows)
        held = max(len(rows) // 10, 1)
        if len(rows) < 2:
            raise InputProblem(f"data={config.data}: expected several rows, received {len(rows)}")
        return rows[:-held], rows[-held:][: config.eval_rows or None]
    training = data.load_rows(config.data, columns, split=config.train_split, limit=config.rows)
    return training, data.load_rows(config.data, columns, split=config.test_split, limit=config.eval_rows)


def tokenizer_of(config: Pretraining, texts: list[str], progress: common.Progress) -> Any:
    """The tokenizer that was named, or one trained on these texts; with EOS, and padding that is not EOS."""
    if not config.tokenizer:
        progress("training a tokenizer", 0, 1)
        return trained_tokenizer(texts, config.vocabulary)
    tokenizer = models.load_tokenizer(config.tokenizer)
    missing = {} if tokenizer.eos_token else {"eos_token": EOS}
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        missing["pad_token"] = PAD
    if missing:
        tokenizer.add_special_tokens(missing)
    return tokenizer


def trained_tokenizer(texts: list[str], vocabulary: int) -> Any:
    """A byte-level BPE, as GPT-2 has: every text has tokens, and they give the text back."""
    from tokenizers import Tokenizer, decoders, models as cores, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(cores.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + 2:
        raise InputProblem(f"vocabulary={vocabulary}: expected at least {len(alphabet) + 2}, the bytes and two special tokens")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[EOS, PAD], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=EOS, bos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def language(config: LMConfig, tokenizer: Any, texts: list[str], test: list[str]) -> tuple[Any, int, Any]:
    """(batches, rows, measure) of a language model: texts packed behind each other, EOS between them."""
    blocks, held = packed(tokenizer, texts, config.block), packed(tokenizer, test, config.block)
    if len(blocks) == 0 or len(held) == 0:
        raise InputProblem(f"data={config.data}: the texts do not fill a row of block={config.block} tokens; lower block")

    def batch(index: list[int], step: int, process: int, processes: int) -> Batch:
        mine = blocks[share(index, process, processes)[0]]
        return Batch(mine[:, 1:], input_ids=mine)

    def measured(model: nn.Module, device: Any, progress: common.Progress) -> dict[str, Any]:
        losses = []
        with torch.no_grad():
            for start in range(0, len(held), config.batch_size):
                mine = held[start : start + config.batch_size].to(device)
                log_probs = chosen_log_probs(model(input_ids=mine).logits[:, :-1], mine[:, 1:])
                losses.append(-log_probs.mean(1).cpu())  # (rows,), nats a token
                progress("measuring", min(start + config.batch_size, len(held)), len(held))
        return {"test_loss": measures.interval(torch.cat(losses).double().numpy())}

    return batch, len(blocks), measured


def packed(tokenizer: Any, texts: list[str], block: int) -> Tensor:
    """Rows of `block` tokens, (rows, block): the texts one behind the other, each with EOS; what fills no row at the end is left."""
    stream = torch.tensor([token for ids in data.encode(tokenizer, texts) for token in (*ids, tokenizer.eos_token_id)])
    return stream[: len(stream) // block * block].view(-1, block)


def labelled(config: ClassifierConfig, tokenizer: Any, training: list[dict], test: list[dict]) -> tuple[Any, int, Any]:
    """(batches, rows, measure) of a classifier."""
    ids = [row[: config.block] for row in data.encode(tokenizer, data.texts_of(training, "text", config.data))]
    labels = torch.tensor(data.labels_of(training, "label", config.data))
    test_ids = [row[: config.block] for row in data.encode(tokenizer, data.texts_of(test, "text", config.data))]
    test_labels = torch.tensor(data.labels_of(test, "label", config.data))

    def batch(index: list[int], step: int, process: int, processes: int) -> Batch:
        mine = share(index, process, processes)[0]
        rows = [ids[i] for i in mine]
        if config.cut:  # by the row and the step: whichever process has the row, and whenever it is asked for
            cuts = [torch.Generator().manual_seed(step * 1_000_003 + i) for i in mine]
            least = [min(config.shortest, len(row)) for row in rows]
            rows = [row[: int(torch.randint(low, len(row) + 1, (), generator=g))] for row, low, g in zip(rows, least, cuts)]
        return Batch(labels[mine], **padded(rows, tokenizer.pad_token_id))

    def measured(model: nn.Module, device: Any, progress: common.Progress) -> dict[str, Any]:
        found: dict[str, list[Tensor]] = {"accuracy": [], "short_accuracy": [], "test_loss": []}
        with torch.no_grad():
            for start in range(0, len(test_ids), config.batch_size):
                rows, truth = test_ids[start : start + config.batch_size], test_labels[start : start + config.batch_size]
                for name, length in (("accuracy", config.block), ("short_accuracy", 3 * config.shortest)):
                    arguments = padded([row[:length] for row in rows], tokenizer.pad_token_id)
                    logits = model(**{key: value.to(device) for key, value in arguments.items()}).logits.float().cpu()
                    found[name].append((logits.argmax(1) == truth).double())
                    if name == "accuracy":
                        found["test_loss"].append(nn.functional.cross_entropy(logits, truth, reduction="none"))
                progress("measuring", min(start + config.batch_size, len(test_ids)), len(test_ids))
        return {name: measures.interval(torch.cat(values).double().numpy()) for name, values in found.items()}

    return batch, len(ids), measured


def padded(rows: list[list[int]], pad_token_id: int) -> dict[str, Tensor]:
    """Rows padded on the right, with their mask."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_token_id)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}


def new_lm(config: LMConfig, tokenizer: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads = {"small": (4, 128, 4), "distilgpt2": (6, 768, 12)}[config.size]
    places = config.positions or (1024 if config.size == "distilgpt2" else 2 * config.block)
    ids = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = GPT2Config(
        vocab_size=len(tokenizer), n_positions=max(places, config.block), n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids,
    )  # fmt: skip
    return GPT2LMHeadModel(shape)


def new_classifier(config: ClassifierConfig, tokenizer: Any) -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    layers, width, heads = {"small": (2, 128, 4), "distilbert": (6, 768, 12)}[config.size]
    shape = DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=max(config.block, 512), dim=width, n_layers=layers, n_heads=heads,
        hidden_dim=4 * width, pad_token_id=tokenizer.pad_token_id, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
    )  # fmt: skip
    return DistilBertForSequenceClassification(shape)


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    lines = [f"{summary['parameters'] / 1e6:.1f}M parameters, {summary['tokens']} tokens, {summary['steps']} steps"]
    lines.append(f"test loss       {common.shown(summary['test_loss'])} nats{' a token' if summary['kind'] == 'lm' else ''}")
    if "accuracy" in summary:
        lines.append(f"accuracy        {common.shown(summary['accuracy'])}")
        lines.append(f"of short texts  {common.shown(summary['short_accuracy'])}")
    return lines
