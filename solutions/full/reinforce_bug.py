"""A complete REINFORCE in one file: a small GPT-2 learns to finish "the film was" by plain gradient descent.

    python -m full.reinforce_bug

A completion has three tokens at most. A third of the reward is paid for each: for an adverb in the first place, for a kind
adjective in the second, for the full stop (the EOS) in the third. So "very good ." earns 1. The loss is that of lesson 9, with
the mean of the other rows as the baseline.

The reward rises from the first update on, and the log looks like that of any run. Something is wrong: find the one error and
mend it (section 9.11).
"""

from __future__ import annotations

from typing import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from full.given.rollout import rollout
from full.given.text import Prompts, Rollout, position_ids
from toy.given.enumerable import EnumerableLM

WORDS = ("<pad>", ".", "the", "film", "was", "very", "quite", "good", "fine", "bad", "dull")
PAD, EOS = 0, 1
PROMPT = (2, 3, 4)  # the film was
NEW_TOKENS = 3
WANTED = ((5, 6), (7, 8), (EOS,))  # in the first place, the second, the third


def score(written: Rollout) -> Float[Tensor, "batch"]:
    """A third for each token that stands where it is wanted."""
    right = [torch.isin(written.completion[:, t], torch.tensor(wanted)) for t, wanted in enumerate(WANTED)]
    return (torch.stack(right, dim=1) & written.mask).double().mean(dim=1)


def chosen_tokens(written: Rollout) -> Bool[Tensor, "batch length"]:
    """True on the tokens of the whole rows that the policy chose: neither prompt nor padding."""
    place = torch.arange(written.tokens.shape[1], device=written.tokens.device)
    # BEGIN SOLUTION
    return written.attention_mask.bool() & (place >= written.prompt_length)
    # PLANTED
    # return written.attention_mask.bool() & (place >= written.prompt_length)
    # END SOLUTION


def next_token_log_probs(policy: nn.Module, written: Rollout) -> Float[Tensor, "batch length-1"]:
    """log p of every token but the first, given those before it in its row."""
    real = written.attention_mask
    logits = policy(input_ids=written.tokens, attention_mask=real, position_ids=position_ids(real)).logits
    # BEGIN SOLUTION
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return log_probs.gather(-1, written.tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    # PLANTED
    # log_probs = logits[:, :-1].log_softmax(dim=-1)
    # return log_probs.gather(-1, written.tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    # END SOLUTION


def advantages_of(rewards: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Each reward less the mean of the others."""
    # BEGIN SOLUTION
    return (rewards - rewards.mean()) * len(rewards) / (len(rewards) - 1)
    # PLANTED
    # return (rewards - rewards.mean()) * len(rewards) / (len(rewards) - 1)
    # END SOLUTION


def phrase_loss(policy: nn.Module, written: Rollout, rewards: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Minus the mean over rows of the advantage times the log-probability of what the policy chose."""
    log_probs, chosen = next_token_log_probs(policy, written), chosen_tokens(written)
    # BEGIN SOLUTION
    of_the_row = log_probs.masked_fill(~chosen[:, 1:], 0.0).sum(dim=1)
    # PLANTED
    # of_the_row = log_probs.masked_fill(~chosen[:, :-1], 0.0).sum(dim=1)
    # END SOLUTION
    return -(advantages_of(rewards) * of_the_row).mean()


def train_phrases(
    policy: nn.Module,
    sample: Callable[[nn.Module], Rollout],
    score: Callable[[Rollout], Tensor] = score,
    *,
    updates: int = 100,
    rate: float = 0.1,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """Trains the policy by gradient descent with learning rate `rate`; each update learns from one rollout of `sample(policy)`.

    after_update is told the mean reward and the mean number of tokens of the rollout.
    """
    optimizer = torch.optim.SGD(policy.parameters(), lr=rate)
    for _ in range(updates):
        written = sample(policy)
        rewards = score(written)
        loss = phrase_loss(policy, written, rewards)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_update({"reward": rewards.mean().item(), "length": written.mask.sum(dim=1).double().mean().item()})


def new_policy(seed: int = 1) -> nn.Module:
    """A GPT-2 of one layer and 16 dimensions with random weights, without dropout, in float64."""
    from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": len(WORDS), "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=EOS, eos_token_id=EOS)
    policy, generator = GPT2LMHeadModel(config).double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2, generator=generator)
    return policy


def sampler(count: int = 64, seed: int = 1) -> Callable[[nn.Module], Rollout]:
    """Lets a policy finish the prompt `count` times."""
    prompts = Prompts(torch.tensor([PROMPT] * count), torch.ones(count, len(PROMPT), dtype=torch.long))
    generator = torch.Generator().manual_seed(seed)
    return lambda policy: rollout(policy, prompts, NEW_TOKENS, eos_token_id=EOS, pad_token_id=PAD, generator=generator)


def measure(policy: nn.Module) -> list[float]:
    """Exactly, by listing every completion: the expected reward, and how likely each place is right."""
    listed = EnumerableLM(policy, len(WORDS), NEW_TOKENS, prompt=PROMPT, eos=EOS)
    right = [listed.rewards(lambda said: float(len(said) > t and said[t] in WANTED[t])) for t in range(NEW_TOKENS)]
    with torch.no_grad():
        chances = [listed.expected(one).item() for one in right]
    return [sum(chances) / NEW_TOKENS, *chances]


def main() -> None:
    policy, lines = new_policy(), []

    def show(line: dict[str, float]) -> None:
        lines.append(line)
        if len(lines) in (1, 5, 10, 25, 50, 100):
            exact = "   ".join(f"{value:.3f}" for value in measure(policy))
            print(f"{len(lines):6d}  {line['reward']:6.3f}  {line['length']:6.2f}       {exact}")

    print("update  reward  length   E[reward]   first   second  third right")
    train_phrases(policy, sampler(), after_update=show)


if __name__ == "__main__":
    main()
