"""What every run on a language model can be told. Each run's `Config` adds the settings of its algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from full.given.problems import InputProblem
from full.given.settings import require_one_of
from toy.given.ppo import require_not_negative, require_positive, setting

PRECISIONS = ("no", "bf16")
DEVICES = ("auto", "cpu")
IMDB = {"model": "distilgpt2", "classifier": "lvwerra/distilbert-imdb"}
"Models of the published assignment; omidroshani/imdb-sentiment-analysis is its other classifier."


@dataclass(frozen=True)
class Measuring:
    """What is measured, on what, and where."""

    model: str = setting("review-lm", "Policy at the start: built-in review-lm, a local directory, or a hub name.")
    classifier: str = setting("review-sentiment", "Its P(positive) is the reward: built-in review-sentiment, a directory, a hub name.")
    data: str = setting("reviews", "Texts: built-in reviews, a .json, .jsonl, .csv, .parquet or .txt file, a folder, a hub name.")
    text_column: str = setting("text", "Which column of the data holds the texts whose beginnings are prompts.")
    train_split: str = setting("train", "Split of the data to train on; of a single file, all rows but the last eval_prompts.")
    test_split: str = setting("test", "Split of the data to measure on; of a single file, its last eval_prompts rows.")
    prompt_tokens: int = setting(10, "Length of a prompt: a text's first tokens. Shorter texts are left out, and counted.")
    eval_prompts: int = setting(256, "Prompts of the test split that are measured on, 0: all of them.")
    eval_batch: int = setting(64, "Prompts measured at a time.")
    seed: int = setting(0, "Of all sampling, and of the order of the data.")
    precision: str = setting("no", "no: float32. bf16: mixed, faster where the hardware has it, and rounded.")
    device: str = setting("auto", "auto: an accelerator if there is one. cpu: the processor.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        for name in ("prompt_tokens", "eval_batch"):
            require_positive(name, getattr(self, name))
        for name in ("eval_prompts", "seed"):
            require_not_negative(name, getattr(self, name))
        require_one_of("precision", self.precision, PRECISIONS)
        require_one_of("device", self.device, DEVICES)


@dataclass(frozen=True)
class Stepping:
    """How steps are taken, and what of them is kept."""

    batch_size: int = setting(32, "Prompts (or pairs) in a step, of all processes together.")
    epochs: int = setting(1, "How often the training data are gone through.")
    steps: int = setting(0, "Steps at most, 0: as many as the epochs hold.")
    learning_rate: float = setting(1e-4, "AdamW's learning rate.")
    warmup_steps: int = setting(0, "Steps in which the learning rate rises linearly to its value.")
    decay: bool = setting(False, "Whether the learning rate falls linearly towards 0 after the warm-up.")
    weight_decay: float = setting(0.0, "AdamW's weight decay.")
    clip_norm: float = setting(1.0, "Gradients longer than this are shortened to it, 0: none is.")
    save_every: int = setting(50, "Steps between two checkpoints, 0: only at the end and on Ctrl-C.")
    trackers: str = setting("", "accelerate's trackers by name, with commas: tensorboard, wandb, ...; left out: none.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        for name in ("batch_size", "epochs", "learning_rate"):
            require_positive(name, getattr(self, name))
        for name in ("steps", "warmup_steps", "weight_decay", "clip_norm", "save_every"):
            require_not_negative(name, getattr(self, name))


@dataclass(frozen=True)
class Training(Stepping, Measuring):
    """How training on texts goes."""

    reference: str = setting("", "Model that the policy is compared with; left out: the policy as it was at the start.")
    rows: int = setting(0, "How many rows of the training data are used, 0: all (of the built-in world: as many as are needed).")
    fast_rollout: bool = setting(False, "Rollouts by a bfloat16 copy of the weights: faster where the hardware has it, and rounded.")
    samples: int = setting(8, "Test prompts whose completions are kept before, during and after training.")
    sample_every: int = setting(50, "Steps between two such samples, 0: only before and after.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "samples", "sample_every"):
            require_not_negative(name, getattr(self, name))


@dataclass(frozen=True)
class Placed:
    """Where a run takes place, and which of all possible ones it is."""

    seed: int = setting(0, "Of all sampling, and of the order of the data.")
    precision: str = setting("no", "no: float32. bf16: mixed, faster where the hardware has it, and rounded.")
    device: str = setting("auto", "auto: an accelerator if there is one. cpu: the processor.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        require_not_negative("seed", self.seed)
        require_one_of("precision", self.precision, PRECISIONS)
        require_one_of("device", self.device, DEVICES)


def numbers(name: str, text: str) -> list[float]:
    """A field that holds several numbers with commas: "0.001,0.05,1". Raises InputProblem."""
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputProblem(f"{name}: expected numbers with commas, as 0.001,0.05,1, received {text!r}") from None
    if len(set(found)) != len(found):
        raise InputProblem(f"{name}: expected each number once, received {text!r}")
    return found


def without(config: Any, *names: str) -> dict[str, Any]:
    """The fields of a configuration by name, but for these."""
    return {name: value for name, value in vars(config).items() if name not in names}
