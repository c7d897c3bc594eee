"""Lesson 9: REINFORCE on a language model.

Conventions, the same in every function:

- A row of tokens is a prompt, padded on the *left* so that all prompts end at the same column, and behind it a completion, padded
  on the right behind its first EOS. The pad token is never the EOS.
- Log-probabilities are natural (nats). A completion's tokens are those up to its first EOS, which counts: the policy chose it.
- The loss is a sum over a completion's tokens and a mean over the rows (eq. 9.6). It is to be made small.
- Results have the dtype of what comes in (the checks use float64); no argument is changed in place.

The `require_...` calls are given: they refuse input that makes no sense.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from full.given import reinforce as given
from full.given.loop import Loop
from full.given.rollout import warped
from full.given.settings import ReinforceConfig
from full.given.text import position_ids
from toy.given.ppo import require_positive


def token_log_probs(
    logits: Float[Tensor, "batch length vocabulary"], tokens: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length-1"]:
    """log p of every token but the first, given what stands before it (eq. 9.3).

    logits[:, t] speak of the token *behind* tokens[:, t], so entry [b, t] of the result is about tokens[b, t + 1]; the last
    logits are about a token that is not there. Exact for logits of any size, -inf (a token that cannot come) included.
    Raises ValueError for shapes that do not fit, fewer than two columns, and tokens outside the vocabulary.
    """
    given.require_tokens("tokens", tokens, least=2)
    given.require_logits(logits, tokens)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()  # a sum over the vocabulary needs more digits than these have
    # BEGIN SOLUTION
    logits, tokens = logits[:, :-1], tokens[:, 1:]
    surprise = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")  # logsumexp less the logit,
    return -surprise.view(tokens.shape)  # in fewer passes over the vocabulary than in two steps, forward and backward
    # END SOLUTION


def completion_mask(
    tokens: Int[Tensor, "batch length"], prompt_length: int, eos_token_id: int | None, pad_token_id: int
) -> Bool[Tensor, "batch time"]:
    """True on the tokens that the policy chose: those behind the prompt up to the first EOS, which counts (eq. 9.5).

    time = length - prompt_length. An EOS in the prompt ends nothing. Behind the first EOS everything is False, whatever stands
    there. A row without EOS was cut off: all of it is True but the pad tokens at its end. A pad token with others behind it was
    drawn like any token of the vocabulary, and is True. eos_token_id None: no row has one.
    Raises ValueError for tokens that are not (batch, length) integers, a prompt_length outside 1 .. length - 1, and pad = EOS.
    """
    given.require_tokens("tokens", tokens)
    given.require_prompt_length("prompt_length", prompt_length, tokens.shape[1])
    given.require_pad_is_not_eos(pad_token_id, eos_token_id)
    # BEGIN SOLUTION
    completion = tokens[:, prompt_length:]  # (B, T)
    ends = torch.zeros_like(completion) if eos_token_id is None else (completion == eos_token_id).long()
    before = ends.cumsum(dim=1) - ends  # how many EOS stand before each token
    others = (completion != pad_token_id).long()
    to_come = others.flip(1).cumsum(dim=1).flip(1)  # how many tokens that are no padding stand here or later
    return (before == 0) & (to_come > 0)
    # END SOLUTION


def compute_reinforce_loss(
    reward: Float[Tensor, "batch"],
    output_tokens: Int[Tensor, "batch length"],
    model: nn.Module,
    seed_token_length: int,
    attention_mask: Int[Tensor, "batch length"] | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, ""]]:
    """The log-probability of every token that the policy wrote, and REINFORCE's loss (eq. 9.6). Returns (log_probs, loss).

        loss = -1/B sum_b reward_b sum_t log pi(y_bt | prompt_b, y_b1 .. y_b,t-1)

    reward: what each row is worth, or its advantage: constants, whatever they were computed from.
    output_tokens: prompt and completion of each row.  seed_token_length: columns of the prompt, its padding included.
    model: a Hugging Face causal language model: `model(input_ids=..., attention_mask=..., position_ids=...).logits`; it is used
        in the mode (training or evaluation) it is in.
    attention_mask: 1 on real tokens, of prompt and completion; None: all are real. Rows padded on the left need `position_ids`.
    temperature, top_k: those the tokens were drawn with; `warped(logits, temperature, top_k)` gives that distribution's logits.

    log_probs has one column for each of the time = length - seed_token_length tokens behind the prompt, 0 where the mask is 0;
    the gradient of the loss flows through these alone. `logits_to_keep=n` has the model compute the last n columns' logits only.
    Raises ValueError for tokens that are not (batch, length) integers, a seed_token_length outside 1 .. length - 1, a reward
    that is not one finite number a row, an attention_mask of another shape or with a prompt that is padded on the right.
    """
    given.require_tokens("output_tokens", output_tokens)
    given.require_prompt_length("seed_token_length", seed_token_length, output_tokens.shape[1])
    given.require_rewards("reward", reward, len(output_tokens))
    given.require_left_padding(attention_mask, output_tokens, seed_token_length)
    # BEGIN SOLUTION
    if attention_mask is None:
        attention_mask = torch.ones_like(output_tokens)
    before = seed_token_length - 1  # the prompt's last token: its logits are of the first one drawn
    logits = model(
        input_ids=output_tokens,
        attention_mask=attention_mask,
        position_ids=position_ids(attention_mask),
        use_cache=False,
        logits_to_keep=output_tokens.shape[1] - before,
    ).logits  # (B, T + 1, V)
    log_probs = token_log_probs(warped(logits, temperature, top_k), output_tokens[:, before:])  # (B, T)
    mask = attention_mask[:, seed_token_length:].bool()
    log_probs = log_probs.masked_fill(~mask, 0.0)  # not times 0: padding may have -inf under top-k
    loss = -(reward.detach() * log_probs.sum(dim=1)).mean()
    return log_probs, loss
    # END SOLUTION


def batch_baseline(rewards: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """For each row the mean reward of the *other* rows (eq. 9.9), which does not depend on its own. 0 for a single row.

    Raises ValueError unless rewards is (batch,), one finite number a row.
    """
    given.require_rewards("rewards", rewards)
    # BEGIN SOLUTION
    others = max(len(rewards) - 1, 1)
    return (rewards.sum() - rewards) / others
    # END SOLUTION


def rloo_advantages(rewards: Float[Tensor, "batch"], group_size: int) -> Float[Tensor, "batch"]:
    """REINFORCE leave-one-out: each reward less the mean of the others in its group (eq. 9.11).

    The completions of one prompt stand together: rows 0 .. group_size - 1 are the first group, the next group_size the second.
    Equal to group_size / (group_size - 1) times the distance from the group's mean.
    Raises ValueError unless rewards is (batch,) finite numbers and group_size, 2 or more, divides batch.
    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    given.require_rewards("rewards", rewards)
    given.require_groups(group_size, len(rewards))
    # BEGIN SOLUTION
    groups = rewards.view(-1, group_size)  # (prompts, K)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten()
    # END SOLUTION


def reset_model_optimizer(reference: nn.Module, learning_rate: float) -> tuple[nn.Module, torch.optim.AdamW]:
    """A policy to train that starts where the reference is, and its optimizer. Returns (policy, AdamW).

    policy: a copy of its own, equal to the reference and sharing nothing with it, so that no step ever moves the reference; all
        its parameters require a gradient, though the reference's may be frozen; in evaluation mode, with dropout off: who is
        scored must be who wrote.
    AdamW: of the policy's parameters, with this learning rate, the other settings as torch has them, and no past.
    The reference stays as it is: weights, mode, and whether its parameters require a gradient.
    Raises ValueError for a learning_rate that is not positive.
    """
    require_positive("learning_rate", learning_rate)
    # BEGIN SOLUTION
    policy = copy.deepcopy(reference).requires_grad_(True).eval()
    return policy, torch.optim.AdamW(policy.parameters(), lr=learning_rate, fused=True)
    # END SOLUTION


def train(loop: Loop, config: ReinforceConfig) -> None:
    """REINFORCE: one update for every batch of prompts, until the loop has no more (section 9.8).

    The policy is set to evaluation mode first (dropout off). For each batch, in this order:
    1. rollout: `loop.rollout` of the prompts, each repeated `config.group_size` times (`prompts.repeated`);
    2. reward: `loop.reward(rollout)`, one number a row of this process;
    3. advantage, as `config.baseline` says: "none": the rewards; "batch": less `batch_baseline`; "rloo": `rloo_advantages`.
       Statistics are taken over the whole batch of all processes: `loop.gather` the rewards first, keep `loop.own` of the result;
    4. loss: `compute_reinforce_loss` with the rollout's attention mask and the temperature and top_k it was drawn with;
    5. step: `loop.update(loss)`;
    6. log: `loop.log` of reward (mean), loss, and the `completion_metrics` of the rollout (`loop.eos_token_id` is the EOS).
    """
    # BEGIN SOLUTION
    loop.policy.eval()
    for prompts in loop.batches():
        rollout = loop.rollout(prompts.repeated(config.group_size))
        rewards = loop.reward(rollout)  # (B,)
        advantages = everyone = loop.gather(rewards)  # (B of all processes,)
        if config.baseline == "batch":
            advantages = everyone - batch_baseline(everyone)
        if config.baseline == "rloo":
            advantages = rloo_advantages(everyone, config.group_size)
        log_probs, loss = compute_reinforce_loss(
            loop.own(advantages),
            rollout.tokens,
            loop.policy,
            rollout.prompt_length,
            rollout.attention_mask,
            config.temperature,
            config.top_k,
        )
        loop.update(loss)
        loop.log(reward=rewards.mean(), loss=loss.detach(), **given.completion_metrics(rollout, log_probs, loop.eos_token_id))
    # END SOLUTION
