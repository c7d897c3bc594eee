"""Lesson 14: PPO on real language models, encoder-decoders and decoders alike, with rewards as fine as they are given.

Conventions, the same in every function:

- A `Rollout` holds prompts padded on the left and completions padded on the right: T columns of completion, of which `mask`,
  bool (batch, time), has the tokens up to and including the first EOS. What stands off the mask means nothing: results are 0
  there and never depend on it.
- Log-probabilities are natural (nats), of the distribution that was sampled: logits divided by the temperature, and where top-k
  was on, over the tokens in `rollout.support` alone (section 14.3). Those of the reference: over the whole vocabulary.
- Values are (batch, time + 1): before each token of the completion, and behind the last column.
- A mean over tokens runs over all real tokens of the batch together (lesson 6, eq. 6.2). Every loss is to be made small.
- Results have the dtype of what comes in. No argument is changed in place. Dropout is off throughout.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from full.given.loop import Loop
from full.given.ppo_settings import Experience, PPOConfig, Reward, Span, TextPrompts
from full.given.ppo_settings import completion_texts, minibatches, repetition, stacked, token_ends, value_head
from full.given.rollout import rollout as sample
from full.given.rollout import warped
from full.given.scoring import chosen_log_probs, single
from full.given.text import Rollout, position_ids
from full.kl_control import AdaptiveKLController
from toy.ppo import approximate_kl, clip_fraction, clipped_surrogate, clipped_value_loss
from toy.ppo import explained_variance, gae, masked_mean, whiten
from toy.given import ppo as given

TABLE = {"prompt", "completion", "reward", "length", "ended", "repetition"}
"What a table of `PPOTrainer.validate` has beside the scores: no reward can be called so."


class GPT2Policy(nn.Module):
    """A Hugging Face decoder-only language model, asked about completions (section 14.2)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def hidden(self, rollout: Rollout) -> Float[Tensor, "batch time_and_one width"]:
        """The last hidden states before each token of the completion and behind the last column: (batch, time + 1, width).

        Column 0 is that of the prompt's last token. `self.model.base_model(input_ids=, attention_mask=, position_ids=,
        use_cache=False).last_hidden_state` has a state for every column. Prompts are padded on the left: positions are those
        of `position_ids`.
        """
        raise NotImplementedError("lesson 14: GPT2Policy.hidden")

    def logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... vocabulary"]:
        """The next token's logits from hidden states of any shape, float32 at least: given."""
        return single(self.model.get_output_embeddings()(hidden))


class T5Policy(nn.Module):
    """A Hugging Face encoder-decoder: the encoder reads the prompt, the decoder writes the completion (section 14.2)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def hidden(self, rollout: Rollout) -> Float[Tensor, "batch time_and_one width"]:
        """The decoder's hidden states before each token of the completion and behind the last column: (batch, time + 1, width).

        The encoder reads the prompt's columns of `rollout.tokens` with their part of the attention mask. The decoder reads
        `config.decoder_start_token_id` and then the completion: its state at the start token is the one before the first token.
        `model.get_encoder()(input_ids=, attention_mask=).last_hidden_state`, and `model.get_decoder()(input_ids=,
        encoder_hidden_states=, encoder_attention_mask=, use_cache=False).last_hidden_state`. T5's positions are relative.
        """
        raise NotImplementedError("lesson 14: T5Policy.hidden")

    def logits(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "... vocabulary"]:
        """The next token's logits from hidden states of any shape, float32 at least: given. T5 may scale them."""
        config = self.model.config
        scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)  # the second is what earlier versions go by
        return single(self.model.get_output_embeddings()(hidden * config.d_model**-0.5 if scaled else hidden))


class Value(nn.Module):
    """What is still to be expected: one number from a trunk's hidden state (section 14.7).

    trunk: a `GPT2Policy` or `T5Policy`: a network of its own, or the policy itself (a shared trunk).
    """

    def __init__(self, trunk: GPT2Policy | T5Policy) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = value_head(trunk.model.config.hidden_size, trunk.model.get_input_embeddings().weight)

    def of(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "..."]:
        """The values of hidden states, float32 at least: given."""
        return single(self.head(hidden)).squeeze(-1)

    def forward(self, rollout: Rollout) -> Float[Tensor, "batch time_and_one"]:
        return self.of(self.trunk.hidden(rollout))


def GPT2Value(model: nn.Module) -> Value:
    """A value model around a decoder-only network of its own."""
    return Value(GPT2Policy(model))


def T5Value(model: nn.Module) -> Value:
    """A value model around an encoder-decoder of its own."""
    return Value(T5Policy(model))


def sampled_log_probs(
    logits: Float[Tensor, "rows vocabulary"],
    tokens: Int[Tensor, "rows"],
    temperature: float,
    support: Int[Tensor, "rows kept"] | None = None,
) -> Float[Tensor, "rows"]:
    """log p(token) of each row under the distribution that was drawn from (eq. 14.3).

        p(v) = exp(logits_v / temperature) / sum over u in the support of exp(logits_u / temperature)

    support: the ids of each row's tokens that could be drawn; -1 fills up and is no token. None: the whole vocabulary.
    It was fixed when the token was drawn: with new logits the same tokens are compared, so that no log-probability is -inf.
    Raises ValueError if the shapes differ, unless the temperature is positive, and if a token is not in its row's support.
    """
    require_scoring(logits, tokens, temperature, support)
    raise NotImplementedError("lesson 14: sampled_log_probs")


def score(
    policy: GPT2Policy | T5Policy,
    value: Value | None,
    rollout: Rollout,
    temperature: float,
    support: Int[Tensor, "batch time kept"] | None = None,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time_and_one"] | None]:
    """(log-probabilities of the completions' tokens, values) in as little work as it takes (section 14.4).

    Logits are made of the hidden states before *real* tokens alone. Where `value.trunk` is the policy its hidden states serve
    both; without `value` there are no values (None). Log-probabilities are 0 off the mask; values have all their columns.
    """
    raise NotImplementedError("lesson 14: score")


def spread(
    values: Sequence[float | Sequence[Span]], ends: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """A reward as it was given, at the tokens it belongs to (eq. 14.4): float64, 0 elsewhere.

    values: for each row one number for the whole answer, or a list of (characters up to a span's end, value).
    ends: characters of the text up to and including each token; never falls along a row.
    A whole answer's number stands at the last real token. A span's value stands at the first real token that reaches the span's
    end (ends >= its characters), at the last real one if none does. What meets at one token adds up. A row without a real token
    has no place: its values are dropped.
    Raises ValueError unless there is an entry a row, for a place that is negative, and for a value that is NaN or inf.
    """
    require_spans(values, ends, mask)
    raise NotImplementedError("lesson 14: spread")


class FineGrainedReward:
    """K rewards, each at its own density, summed with their weights (section 14.5, eq. 14.5).

    rewards: by name, each (texts of the prompts, texts of the completions) -> a number or a list of spans for each row.
    weights: by the same names.  tokenizer: the policy's; a reward reads text, so that it may have any tokenizer of its own.
    Raises ValueError if the names differ or are a table's own (`TABLE`), if there is no reward, or if a weight is not finite.
    """

    def __init__(self, rewards: Mapping[str, Reward], weights: Mapping[str, float], tokenizer: Any) -> None:
        require_names(rewards, weights)
        self.rewards, self.weights, self.tokenizer = dict(rewards), dict(weights), tokenizer

    def __call__(
        self, prompts: TextPrompts, rollout: Rollout
    ) -> tuple[Float[Tensor, "batch time"], dict[str, Float[Tensor, "batch"]]]:
        """(rewards of the tokens, weighted and summed; of each reward by name its sum in each row, unweighted), float64.

        The texts are `prompts.texts` and `completion_texts(self.tokenizer, rollout)`; `token_ends(self.tokenizer, rollout)` says
        where the tokens end in them. Both results are on the rollout's device.
        """
        raise NotImplementedError("lesson 14: FineGrainedReward.__call__")


def has_ended(
    completion: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], eos_token_id: int | None
) -> Bool[Tensor, "batch"]:
    """Which completions end with a real EOS; all True where the tokenizer has none (None): then every text ends by its length.

    What fills up a row may have the id of EOS: the mask says what is real.
    Raises ValueError if the shapes differ.
    """
    given.require_same_shape(completion=completion, mask=mask)
    raise NotImplementedError("lesson 14: has_ended")


def kl_penalise_reward(
    rewards: Float[Tensor, "batch time"],
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    ended: Bool[Tensor, "batch"],
    kl_coef: float,
    eos_penalty: float,
) -> Float[Tensor, "batch time"]:
    """What each token is paid: its reward, less the price of leaving the reference, less that of not ending (eq. 14.6).

        r_t - kl_coef (log pi(y_t) - log pi_ref(y_t)) - eos_penalty if t is the last real token of a row that has not ended

    Constants: no gradient flows back into anything. 0 off the mask, whatever stands there, NaN and inf too.
    Raises ValueError if the shapes differ, for a mask without a real token, and for a negative kl_coef or eos_penalty.
    """
    given.require_same_shape(rewards=rewards, log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_per_row("ended", ended, mask)
    given.require_not_negative("kl_coef", kl_coef)
    given.require_not_negative("eos_penalty", eos_penalty)
    raise NotImplementedError("lesson 14: kl_penalise_reward")


def compute_advantages(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time_and_one"],
    mask: Bool[Tensor, "batch time"],
    cut: Bool[Tensor, "batch"],
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """(advantages, returns) by GAE over each row's real tokens; both 0 off the mask, neither with a gradient (eq. 14.7, 14.8).

    values: before each token and behind the last column, (batch, time + 1).
    cut: True for a row that would have gone on. Behind its last real token the value that stands there is expected; behind that
    of every other row, 0. A row of n real tokens has the value behind them in column n.
    Raises ValueError if the shapes do not fit, no token is real, or gamma or lam is outside [0, 1].
    """
    require_values(values, mask)
    given.require_same_shape(rewards=rewards, mask=mask)
    given.require_per_row("cut", cut, mask)
    raise NotImplementedError("lesson 14: compute_advantages")


def policy_loss(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """(PPO's clipped loss as in lesson 6, what to watch beside it), means over real tokens (eq. 14.9 to 14.12).

    The figures, without gradient: "approx_kl" and "clip_fraction" as in lesson 6; "ratio", the mean of rho = pi / pi_old over the
    real tokens, which stays near 1; "ratio_variance", the mean of (rho - mean)^2.
    Raises ValueError as `clipped_surrogate` does.
    """
    raise NotImplementedError("lesson 14: policy_loss")


def value_loss(
    values: Float[Tensor, "batch time_and_one"],
    old_values: Float[Tensor, "batch time_and_one"],
    returns: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """Lesson 6's clipped value loss of the values before each token (eq. 14.13); those behind the last column are not trained on.

    Raises ValueError if the shapes do not fit, no token is real, or clip is not positive.
    """
    require_values(values, mask)
    raise NotImplementedError("lesson 14: value_loss")


class PPOTrainer:
    """PPO with all its models in one place: `train` is prompts -> rollout -> update -> log (section 14.8).

    loop: gives the batches (`TextPrompts`), samples from `loop.policy`, steps its optimizer, writes the log. `loop.policy` is the
        Hugging Face model inside `policy`, and `loop.optimizer` holds the parameters of `policy` and of `value`.
    policy, reference: `GPT2Policy` or `T5Policy`; the reference is a frozen copy.  value: a `Value`; its trunk may be the policy.
    reward: as `FineGrainedReward`: (prompts, rollout) -> (rewards of the tokens, scores by name); `reward.weights` by name.
    kl_coef: the present price of a nat. `loop.kept["kl_coef"]` is that of the next step: it is written after every step, and
        where it is there at the start, training goes on from it.
    """

    def __init__(
        self, loop: Loop, policy: Any, reference: Any, value: Value, reward: FineGrainedReward, config: PPOConfig
    ) -> None:
        self.loop, self.policy, self.reference, self.value = loop, policy, reference, value
        self.reward, self.config = reward, config
        self.kl_coef = loop.kept.get("kl_coef", config.kl_coef)
        for model in (policy, reference, value):
            model.eval()  # what is scored is what was sampled

    def rollout(self, prompts: TextPrompts) -> Experience:
        """What the policy writes after the prompts, and everything about it that will not change while it is learned from.

        `self.loop.rollout(prompts)` samples; `self.reward` pays. Then, without gradient and minibatch by minibatch (`minibatches`
        with `config.minibatch_size`: the very tensors that `update` will see, so that the first ratio is 1): log-probabilities
        and values by `score` within `part.support`, and the reference's log-probabilities without a support: a token outside
        the reference's likeliest must not cost infinitely much. `stacked(parts, width)` puts the minibatches together, `width`
        being that of the whole rollout. Rewards get the dtype of the log-probabilities.
        """
        raise NotImplementedError("lesson 14: PPOTrainer.rollout")

    def update(self, experience: Experience) -> dict[str, Tensor | float]:
        """Learns from one rollout: `config.ppo_epochs` times through its minibatches, one `loop.update` for each.

        Once, before the first step:
        1. `kl_penalise_reward` at `self.kl_coef` with `config.eos_penalty`; then `compute_advantages`, where a row that has not
           ended counts as cut if `config.bootstrap`;
        2. if `config.whiten`, the advantages, not the returns, are whitened over the real tokens of the whole rollout of all
           processes: of `loop.gather` of both advantages and mask, and then `loop.own` of the result.
        Then in every epoch for every minibatch of rows in order:
        3. `score` within the minibatch's support; `policy_loss`; `value_loss`; loss = policy_loss + value_coef value_loss;
        4. if `config.stop_kl` is positive and the approx_kl, averaged over `loop.gather` of it, is above it: the rollout is left
           without this step or any other;
        5. `loop.update(loss)`.

        Returns "loss", "policy_loss", "value_loss" and the figures of `policy_loss`: means over the minibatches that were stepped
        on; "approx_kl" over all that were measured, the one it was left at included; "updates", the number of steps taken; and
        "explained_variance" of the rollout's values.
        """
        raise NotImplementedError("lesson 14: PPOTrainer.update")

    def train(self) -> None:
        """One rollout, one update and one line of the log for every batch of `loop.batches()`.

        `loop.log` is told what `update` returned and, as means over the rows: "reward" (the scores, weighted and summed), each
        score as "reward_" and its name, "kl" (log pi - log pi_ref summed over each completion), "completion_length" (real
        tokens), "eos_rate"; "entropy", -log pi averaged over real tokens; and "kl_coef", the price in this step.
        After the step the price follows: with `config.target_kl` above 0 lesson 10's controller's, told the mean kl of the whole
        batch of all processes (`loop.gather` of the rows' KL) and the number of its rows.
        """
        raise NotImplementedError("lesson 14: PPOTrainer.train")

    def validate(self, prompts: TextPrompts, seed: int = 0) -> list[dict[str, Any]]:
        """What the policy writes after these prompts now: a row of a table for each, the same draws whenever it is asked.

        Sampled by `sample` from `loop.policy` as the configuration says, with a generator of its own: the training's draws are
        left as they are. A row: "prompt" and "completion" (texts), each reward's score by its name, "reward" (weighted and
        summed), "length" (real tokens), "ended" (bool), "repetition" (of the completion's text).
        """
        raise NotImplementedError("lesson 14: PPOTrainer.validate")


# Given: the refusal of what makes no sense, by the name of the argument.


def require_scoring(logits: Tensor, tokens: Tensor, temperature: float, support: Tensor | None) -> None:
    """Raises ValueError unless there is a token a row of logits, and it is in the row's support."""
    if logits.ndim != 2 or tokens.shape != logits.shape[:1]:
        expected = f"one token for each row of logits, shape {tuple(logits.shape[:1])}"
        raise ValueError(f"tokens: expected {expected}, received shape {tuple(tokens.shape)}")
    given.require_positive("temperature", temperature)
    if support is None:
        return
    if support.ndim != 2 or len(support) != len(tokens):
        raise ValueError(f"support: expected shape ({len(tokens)}, kept), received shape {tuple(support.shape)}")
    outside = ~(support == tokens.unsqueeze(1)).any(dim=1)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise ValueError(f"support: expected token {int(tokens[row])} of row {row} in it, received {support[row].tolist()}")


def require_spans(values: Sequence[Any], ends: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless there is an entry a row, with places from 0 on and finite values."""
    given.require_same_shape(ends=ends, mask=mask)
    if len(values) != len(mask):
        raise ValueError(f"values: expected an entry for each of {len(mask)} rows, received {len(values)}")
    for b, entry in enumerate(values):
        for end, number in [(0, entry)] if isinstance(entry, Real) else entry:
            if end < 0 or not math.isfinite(number):
                expected = "a finite number at a place from 0 on"
                raise ValueError(f"values: expected {expected}, received {number} at {end} in row {b}")


def require_names(rewards: Mapping[str, Reward], weights: Mapping[str, float]) -> None:
    """Raises ValueError unless rewards and weights have the same names, none of a table's own, and the weights are finite."""
    taken = sorted(TABLE & set(rewards))
    if taken:
        raise ValueError(f"rewards: expected other names than {', '.join(sorted(TABLE))}, received {taken[0]}")
    if not rewards or set(rewards) != set(weights):
        expected = f"one for each of {', '.join(rewards) or 'at least one reward'}"
        raise ValueError(f"weights: expected {expected}, received {', '.join(weights) or 'none'}")
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"weights: expected finite numbers, received {weight} for {name}")


def require_values(values: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless values have one column more than the mask."""
    if values.ndim != 2 or mask.ndim != 2 or values.shape != (mask.shape[0], mask.shape[1] + 1):
        expected = f"shape {(mask.shape[0], mask.shape[1] + 1)}, a column more than the mask"
        raise ValueError(f"values: expected {expected}, received shape {tuple(values.shape)}")
