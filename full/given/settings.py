"""What the algorithms of lessons 9 to 11 can be told. Each field carries the sentence that explains it; the runs add their own."""

from __future__ import annotations

from dataclasses import dataclass

from toy.given.ppo import require_not_negative, require_positive, setting

BASELINES = ("none", "batch", "rloo")
DPO_LOSSES = ("dpo", "dpop", "ipo")


def require_one_of(name: str, value: str, names: tuple[str, ...]) -> None:
    """Raises ValueError unless the value is one of the names."""
    if value not in names:
        raise ValueError(f"{name}: expected {' or '.join(names)}, received {value!r}")


@dataclass(frozen=True)
class ReinforceConfig:
    """REINFORCE on a language model (lesson 9)."""

    baseline: str = setting("batch", "What a reward is compared with: none, batch (the mean of the other rows) or rloo (of the group).")
    group_size: int = setting(1, "Completions of each prompt; rloo needs at least 2.")
    temperature: float = setting(1.0, "Divides the logits, where tokens are drawn and where they are scored.")
    top_k: int = setting(0, "Tokens are drawn among the k likeliest; 0: among all.")
    new_tokens: int = setting(20, "Length of a completion, at most.")

    def __post_init__(self) -> None:
        for name in ("group_size", "temperature", "new_tokens"):
            require_positive(name, getattr(self, name))
        require_not_negative("top_k", self.top_k)
        require_one_of("baseline", self.baseline, BASELINES)
        if self.baseline == "rloo" and self.group_size < 2:
            raise ValueError(f"group_size: expected at least 2 with baseline=rloo, received {self.group_size}")


@dataclass(frozen=True)
class KLConfig(ReinforceConfig):
    """REINFORCE held near the reference (lesson 10)."""

    alpha: float = setting(0.05, "Price of one nat of KL to the reference, in units of reward.")
    target_kl: float = setting(0.0, "KL a sequence that an adaptive alpha steers to, in nats; 0: alpha is fixed.")
    horizon: float = setting(2000.0, "Samples in which an adaptive alpha can change by a factor of about e^0.2.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "target_kl"):
            require_not_negative(name, getattr(self, name))
        require_positive("horizon", self.horizon)


@dataclass(frozen=True)
class DPOConfig:
    """Direct preference optimisation (lesson 11)."""

    beta: float = setting(0.1, "Strength of the KL anchor: the implicit reward is beta log(pi / pi_ref).")
    loss: str = setting("dpo", "dpo, dpop (with a price for chosen answers that become less likely) or ipo (a bounded margin).")
    dpop_lambda: float = setting(5.0, "Weight of DPOP's penalty, inside beta.")
    average: bool = setting(False, "Whether log-probabilities are averaged over tokens; DPO's derivation asks for their sum.")

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        require_not_negative("dpop_lambda", self.dpop_lambda)
        require_one_of("loss", self.loss, DPO_LOSSES)
