"""The same steps by TRL's trainers, where TRL is installed: the other thing that bench_runs.py measures ours against.

TRL wants texts, so tokens are words here ("w17") and a tokenizer made on the spot reads them back as the same ids.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from full.given.text import Pairs, Prompts


def tokenizer_of(vocabulary: int, eos: int, pad: int) -> Any:
    """Reads "w3 w5" as [3, 5]."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({f"w{token}": token for token in range(vocabulary)}, unk_token=f"w{eos}"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=f"w{eos}", bos_token=f"w{eos}", pad_token=f"w{pad}")


def words(tokens: Tensor) -> str:
    return " ".join(f"w{token}" for token in tokens.tolist())


def marker(marks: list[float]) -> Any:
    """Notes the processor time when training begins and after every step."""
    from transformers import TrainerCallback

    class Marks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                marks.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

    return Marks()


def told(folder: str, rows: int, steps: int, rate: float, **more: Any) -> dict[str, Any]:
    quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    size = {"per_device_train_batch_size": rows, "max_steps": steps, "gradient_checkpointing": False, "use_cpu": True}
    return {"output_dir": folder, "learning_rate": rate, "lr_scheduler_type": "constant", "seed": 0, **size, **quiet, **more}


def reinforce(
    model: torch.nn.Module, batches: list[Prompts], marks: list[float], new_tokens: int, ids: tuple[int, int, int], bf16=False
) -> None:
    """REINFORCE with a leave-one-out baseline: half as many prompts, two completions each, no reference model."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    rows = len(batches[0])
    prompts = [words(row) for batch in batches for row in batch.input_ids[: rows // 2]]

    def even(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [sum(token % 2 == 0 for token in row) / max(len(row), 1) for row in completion_ids]

    with tempfile.TemporaryDirectory() as folder:
        more = {"num_generations": 2, "max_completion_length": new_tokens, "beta": 0.0, "bf16": bf16}
        config = RLOOConfig(**told(folder, rows, len(batches), 1e-4, **more))
        trainer = RLOOTrainer(model, [even], config, Dataset.from_dict({"prompt": prompts}), processing_class=tokenizer_of(*ids),
                              callbacks=[marker(marks)])  # fmt: skip
        trainer.train()


def dpo(model: torch.nn.Module, batches: list[Pairs], marks: list[float], ids: tuple[int, int, int], bf16: bool = False) -> None:
    """DPO; TRL asks the reference in every step, unless told to do so beforehand."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    found: dict[str, list[str]] = {"prompt": [], "chosen": [], "rejected": []}
    for pairs in batches:
        real = [row[: int(mask.sum())] for row, mask in zip(pairs.tokens, pairs.attention_mask)]
        for good, bad in zip(real[: len(pairs)], real[len(pairs) :]):
            start = int(pairs.prompt_lengths[0])
            found["prompt"].append(words(good[:start]))  # the rejected one's prompt is put in its place: same length, same work
            found["chosen"].append(" " + words(good[start:]))
            found["rejected"].append(" " + words(bad[start:]))
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(**told(folder, len(batches[0]), len(batches), 5e-7, max_length=pairs.tokens.shape[1] + 1, bf16=bf16))
        how = {"train_dataset": Dataset.from_dict(found), "processing_class": tokenizer_of(*ids), "callbacks": [marker(marks)]}
        trainer = DPOTrainer(model, copy.deepcopy(model), config, **how)
        trainer.train()


def real_rows(batches: list[Pairs]) -> list[list[Tensor]]:
    """The rows of every batch without their padding."""
    return [[row[: int(mask.sum())] for row, mask in zip(pairs.tokens, pairs.attention_mask)] for pairs in batches]


def sft(model: torch.nn.Module, batches: list[Pairs], marks: list[float], ids: tuple[int, int, int]) -> None:
    """Supervised fine-tuning; the loss is over completions alone, as it does by itself where prompts are apart."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    found: dict[str, list[str]] = {"prompt": [], "completion": []}
    start = int(batches[0].prompt_lengths[0])
    for row in (row for rows in real_rows(batches) for row in rows):
        found["prompt"].append(words(row[:start]))
        found["completion"].append(" " + words(row[start:]))
    with tempfile.TemporaryDirectory() as folder:
        length = batches[0].tokens.shape[1] + 1
        config = SFTConfig(**told(folder, 2 * len(batches[0]), len(batches), 1e-4, max_length=length, bf16=False))
        how = {"train_dataset": Dataset.from_dict(found), "processing_class": tokenizer_of(*ids), "callbacks": [marker(marks)]}
        SFTTrainer(model, config, **how).train()


def reward(model: torch.nn.Module, batches: list[Pairs], marks: list[float], ids: tuple[int, int, int]) -> None:
    """A reward model from pairs of whole texts."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    found: dict[str, list[str]] = {"chosen": [], "rejected": []}
    for rows in real_rows(batches):
        found["chosen"] += [words(row) for row in rows[: len(rows) // 2]]
        found["rejected"] += [words(row) for row in rows[len(rows) // 2 :]]
    with tempfile.TemporaryDirectory() as folder:
        length = batches[0].tokens.shape[1] + 1
        config = RewardConfig(**told(folder, len(batches[0]), len(batches), 1e-5, max_length=length, bf16=False))
        how = {"train_dataset": Dataset.from_dict(found), "processing_class": tokenizer_of(*ids), "callbacks": [marker(marks)]}
        RewardTrainer(model, config, **how).train()


def has_ppo() -> bool:
    """TRL had a PPO trainer up to 1.12."""
    try:
        return importlib.util.find_spec("trl.experimental.ppo") is not None
    except ModuleNotFoundError:  # no TRL at all
        return False


class EvenTokens(torch.nn.Module):
    """A reward model that costs nothing, in the form TRL asks for: 1 if a text's last token is even."""

    base_model_prefix = "body"

    def body(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(hidden_states=((input_ids % 2 == 0).float().unsqueeze(-1),))

    def score(self, hidden: Tensor) -> Tensor:
        return hidden


def ppo(
    model: torch.nn.Module,
    batches: list[Prompts],
    marks: list[float],
    new_tokens: int,
    ids: tuple[int, int, int],
    minibatch: int,
    rate: float,
    **same: Any,
) -> None:
    """PPO with a value model of the policy's shape; `same` are those of its settings that have another value than TRL's own."""
    from datasets import Dataset
    from transformers import GPT2ForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    value = GPT2ForSequenceClassification(copy.deepcopy(model.config))
    value.transformer.load_state_dict(model.transformer.state_dict())
    value.score = torch.nn.Linear(model.config.n_embd, 1)
    rows = len(batches[0])
    prompts = Dataset.from_dict({"input_ids": [row.tolist() for batch in batches for row in batch.input_ids]})
    with tempfile.TemporaryDirectory() as folder:
        more = {"num_mini_batches": rows // minibatch, "total_episodes": rows * len(batches), "num_sample_generations": 0}
        more |= {"response_length": new_tokens, "temperature": 1.0, "bf16": False, **same}
        config = PPOConfig(**told(folder, rows, -1, rate, **more))
        models = {"model": model, "ref_model": copy.deepcopy(model), "value_model": value, "reward_model": EvenTokens()}
        trainer = PPOTrainer(config, tokenizer_of(*ids), train_dataset=prompts, callbacks=[marker(marks)], **models)
        marks.append(time.process_time())  # it tells of ends of steps alone
        with contextlib.redirect_stdout(io.StringIO()):  # it says a line a step
            trainer.train()
