"""A step of fine-tuning and of a reward model: CPU seconds and memory of ours, of a plain loop and of the least that will do.

    python tests/bench/bench_supervised.py             2 + 2 layers (T5) and 4 layers (GPT-2), 128 wide: some minutes
    python tests/bench/bench_supervised.py --large     T5-small's and DistilGPT2's shapes: half an hour
    python tests/bench/bench_supervised.py --only reward --steps 6

All ways of a table run on the same weights and rows, in one thread, each in a process of its own, one after another; medians of
the processor's seconds over steps. TRL is measured where it is installed, and said to be missing else. Its trainer for
fine-tuning knows decoder-only models alone: it is held against our loss and trainer on a GPT-2, the lesson's T5 against a bound.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from full.given.text import Pairs  # noqa: E402
from tests.bench import trl_ways  # noqa: E402
from tests.bench.bench_runs import IDS, PAD, PROMPT, Timed, memory_now, model_of, pairs_of  # noqa: E402

ROWS, SOURCE, TARGET = 16, 128, 64
T5_IDS = T5_VOCABULARY, T5_EOS, T5_PAD = 32128, 1, 0
T5_SHAPES = {"small": (2, 128, 4, 32, 512), "large": (6, 512, 8, 64, 2048)}
GPT2_SHAPES = {"small": "small", "large": "distilgpt2"}
RATE = 1e-4


def t5_of(size: str) -> torch.nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    layers, width, heads, per_head, inner = T5_SHAPES[size]
    sizes = {"num_layers": layers, "d_model": width, "num_heads": heads, "d_kv": per_head, "d_ff": inner}
    special = {"decoder_start_token_id": T5_PAD, "pad_token_id": T5_PAD, "eos_token_id": T5_EOS}
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(vocab_size=T5_VOCABULARY, dropout_rate=0.0, **sizes, **special))


def reward_of(size: str) -> torch.nn.Module:
    """A GPT-2 with one score, as `transformers` has it."""
    from transformers import GPT2ForSequenceClassification

    config = model_of(GPT2_SHAPES[size]).config
    config.num_labels = 1
    torch.manual_seed(0)
    return GPT2ForSequenceClassification(config).eval()


def texts_of(count: int, seed: int = 3) -> list[dict[str, str]]:
    """Rows of ragged length: on the average three quarters of the most."""
    generator = torch.Generator().manual_seed(seed)

    def text(most: int) -> str:
        length = int(torch.randint(most // 2, most, (1,), generator=generator))  # and EOS
        return trl_ways.words(torch.randint(3, T5_VOCABULARY, (length,), generator=generator))

    return [{"source": text(SOURCE), "target": text(TARGET)} for _ in range(count)]


def features_of(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    from full.given.sft_settings import columns_of, rows_of
    from solutions.full.sft import preprocess_function

    tokenizer = trl_ways.tokenizer_of(*T5_IDS)
    return rows_of(preprocess_function(columns_of(rows, "source", "target"), tokenizer, SOURCE, TARGET))


# fine-tuning of a T5


def t5_ours(model: torch.nn.Module, rows: list[dict[str, str]], marks: list[float]) -> None:
    """The lesson's trainer, with what a run adds: a log of every step."""
    from full.given.sft_settings import SFTConfig
    from solutions.full.sft import build_trainer

    config = SFTConfig(max_source=SOURCE, max_target=TARGET, epochs=1, batch_size=ROWS, learning_rate=RATE, eval_every=10**6)
    quiet = {"use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False, "optim": "adamw_torch_fused"}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = trl_ways.tokenizer_of(*T5_IDS)
        marker = trl_ways.marker(marks)
        trainer = build_trainer(model, tokenizer, rows, rows[:1], config, folder, callbacks=[marker], **quiet)
        silence(trainer)
        trainer.args.eval_strategy, trainer.args.save_strategy, trainer.args.load_best_model_at_end = "no", "no", False
        trainer.train()


def t5_plain(model: torch.nn.Module, batches: Timed) -> None:
    """As one writes it first: everything filled up to the most, the model's own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for features in batches:
        columns = {name: torch.tensor([row[name] for row in features]) for name in ("input_ids", "attention_mask", "labels")}
        ids = F.pad(columns["input_ids"], (0, SOURCE - columns["input_ids"].shape[1]), value=T5_PAD)
        mask = F.pad(columns["attention_mask"], (0, SOURCE - columns["attention_mask"].shape[1]))
        labels = F.pad(columns["labels"], (0, TARGET - columns["labels"].shape[1]), value=-100)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()


def t5_bound(model: torch.nn.Module, batches: Timed) -> None:
    """The least that will do: as narrow as the rows allow, logits of real labels alone, the fused optimizer, no log, no clip."""
    from solutions.full.sft import collate

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for features in batches:
        batch = collate(features, T5_PAD, T5_PAD)
        labels, real = batch["labels"], batch["labels"] != -100
        read = model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        how = {"encoder_hidden_states": read, "encoder_attention_mask": batch["attention_mask"], "use_cache": False}
        hidden = model.decoder(input_ids=batch["decoder_input_ids"], **how).last_hidden_state[real]
        loss = F.cross_entropy(model.lm_head(hidden * model.model_dim**-0.5), labels[real])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


# fine-tuning of a GPT-2, where TRL has a trainer


def gpt2_ours(model: torch.nn.Module, pairs: list[Pairs], marks: list[float]) -> None:
    """The same loss and the same trainer, with lesson 11's labels; the logits are shifted, and those of the prompts not made."""
    from full.given.sft_settings import SFTConfig, training_arguments
    from solutions.full.dpo import completion_labels
    from solutions.full.sft import sft_loss
    from transformers import Seq2SeqTrainer

    def collated(rows: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Any]:
        tokens, mask, lengths = (torch.stack(column) for column in zip(*rows))
        width = int(mask.sum(dim=1).max())
        labels = completion_labels(tokens, mask, lengths)[:, PROMPT:width]
        return {"input_ids": tokens[:, : width - 1], "attention_mask": mask[:, : width - 1], "labels": labels,
                "logits_to_keep": width - PROMPT}  # fmt: skip

    def loss_of(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return sft_loss(outputs.logits, labels, num_items_in_batch)

    rows = [row for part in pairs for row in zip(part.tokens, part.attention_mask, part.prompt_lengths)]
    config = SFTConfig(epochs=1, batch_size=2 * len(pairs[0]), learning_rate=RATE)
    quiet = {"use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False, "optim": "adamw_torch_fused"}
    quiet |= {"eval_strategy": "no", "save_strategy": "no"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Seq2SeqTrainer(
            model, training_arguments(config, folder, **quiet), data_collator=collated, train_dataset=rows,
            compute_loss_func=loss_of, callbacks=[trl_ways.marker(marks)],
        )  # fmt: skip
        silence(trainer)
        trainer.train()


def gpt2_plain(model: torch.nn.Module, batches: Timed) -> None:
    """Logits of every column, the model's own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for pairs in batches:
        labels = pairs.tokens.masked_fill(pairs.attention_mask == 0, -100)
        labels[:, :PROMPT] = -100
        loss = model(input_ids=pairs.tokens, attention_mask=pairs.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def gpt2_bound(model: torch.nn.Module, batches: Timed) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for pairs in batches:
        targets, mask = pairs.tokens[:, PROMPT:], pairs.attention_mask[:, PROMPT:].bool()
        hidden = model.transformer(input_ids=pairs.tokens[:, :-1], use_cache=False).last_hidden_state[:, PROMPT - 1 :]
        loss = F.cross_entropy(model.lm_head(hidden[mask]), targets[mask])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


# a reward model


def reward_ours(model: torch.nn.Module, batches: Timed) -> None:
    """The lesson's `train` on the plain loop; the validation is one pair, looked at beforehand alone."""
    from full.given.preferences import RewardLoop, RewardModelConfig
    from solutions.full.reward_model import RewardModel, train

    own = RewardModel(model.transformer)
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    config = RewardModelConfig(evaluate_every=10**6, frozen=0.0)
    train(RewardLoop(own, batches, [pairs_of(1, 8, 0)], optimizer, config), config)


def reward_plain(model: torch.nn.Module, batches: Timed) -> None:
    """Two passes, one for the chosen and one for the rejected texts."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    for pairs in batches:
        halves = [(pairs.tokens[rows], pairs.attention_mask[rows]) for rows in (slice(len(pairs)), slice(len(pairs), None))]
        chosen, rejected = (model(input_ids=ids, attention_mask=mask).logits.squeeze(-1) for ids, mask in halves)
        loss = -F.logsigmoid(chosen - rejected).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def reward_bound(model: torch.nn.Module, batches: Timed) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    for pairs in batches:
        width = int(pairs.attention_mask.sum(dim=1).max())
        hidden = model.transformer(input_ids=pairs.tokens[:, :width], use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(hidden)), pairs.attention_mask.sum(dim=1) - 1]
        chosen, rejected = model.score(last).squeeze(-1).chunk(2)
        optimizer.zero_grad(set_to_none=True)
        (-F.logsigmoid(chosen - rejected).mean()).backward()
        optimizer.step()


# measuring


def silence(trainer: Any) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def measured(work: Callable[[Any, Timed], Any], made: Callable[[], torch.nn.Module], batches: list) -> tuple[float, float]:
    """(median CPU seconds a step, most MB above what was there before the first) in a process of its own."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)

    def child() -> None:
        torch.set_num_threads(1)
        model, timed = made(), Timed(batches)
        before = memory_now()
        work(model, timed)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        send.send((statistics.median(timed.seconds()), peak - before))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    send.close()
    found = receive.recv()
    process.join()
    return found


def table(title: str, ways: dict[str, Callable], made: Callable[[], torch.nn.Module], batches: list) -> None:
    print(f"\n{title}\n{'':<16} CPU s a step   of plain   of the bound   MB", flush=True)
    found = {name: measured(work, made, batches) for name, work in ways.items()}
    plain, bound = found["plain loop"][0], found["lower bound"][0]
    for name, (seconds, megabytes) in found.items():
        print(f"{name:<16} {seconds:>12.3f} {seconds / plain:>10.2f} {seconds / bound:>14.2f} {megabytes:>6.0f}", flush=True)
    if "TRL" in found:
        print(f"ours of TRL: {found['ours'][0] / found['TRL'][0]:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", choices=("t5", "gpt2", "reward"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size, steps = "large" if arguments.large else "small", arguments.steps + 1
    with_trl = importlib.util.find_spec("trl") is not None
    if arguments.only in (None, "t5"):
        rows = texts_of(ROWS * steps)
        features = [features_of(rows[i : i + ROWS]) for i in range(0, len(rows), ROWS)]
        ways = {"ours": lambda model, timed: t5_ours(model, rows, timed.marks), "plain loop": t5_plain, "lower bound": t5_bound}
        table(f"fine-tuning, T5, {size}, {ROWS} rows, source {SOURCE}, target {TARGET}", ways, lambda: t5_of(size), features)
    pairs = [pairs_of(8, 128, seed) for seed in range(steps)]
    if arguments.only in (None, "gpt2"):
        ways = {"ours": lambda model, timed: gpt2_ours(model, pairs, timed.marks)}
        ways |= {"plain loop": gpt2_plain, "lower bound": gpt2_bound}
        if with_trl:
            ways["TRL"] = lambda model, timed: trl_ways.sft(model, pairs, timed.marks, IDS)
        title = f"fine-tuning, GPT-2, {size}, 16 rows of 128 tokens at most"
        table(title, ways, lambda: model_of(GPT2_SHAPES[size]).train(), pairs)
    if arguments.only in (None, "reward"):
        ways = {"ours": reward_ours, "plain loop": reward_plain, "lower bound": reward_bound}
        if with_trl:
            ways["TRL"] = lambda model, timed: trl_ways.reward(model, pairs, timed.marks, IDS)
        table(f"reward model, GPT-2, {size}, 8 pairs of 128 tokens at most", ways, lambda: reward_of(size), pairs)
    if not with_trl:
        print("\nTRL is not installed here: not measured.")


if __name__ == "__main__":
    main()
