"""A world small enough to list: the source is a number from one to four, the answer is so many words, each drawn anew, then END.

Each word is "good" half of the time, "fine" and "bad" a quarter each. So the probability of every answer is known, and with it
the loss below which no model can come; and of a model one can compute, not estimate, how many words it says. Lesson 13 learns here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

WORDS = ("<pad>", "END", "one", "two", "three", "four", "good", "fine", "bad")
PAD, END = 0, 1
START = PAD
"What the decoder reads first: T5 takes its pad token."
NUMBERS = (2, 3, 4, 5)
SAYABLE = (6, 7, 8)
ODDS = (0.5, 0.25, 0.25)
ENTROPY = 1.5 * math.log(2)
"Of one word, in nats; that END follows the last word is no surprise."


def t5(seed: int = 0) -> Any:
    """A real T5 of one small layer on either side, with random weights, without dropout."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "num_layers": 1, "num_heads": 4, "d_ff": 64}
    special = {"decoder_start_token_id": START, "pad_token_id": PAD, "eos_token_id": END}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(T5Config(vocab_size=len(WORDS), dropout_rate=0.0, **sizes, **special))


def rows(count: int, generator: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Pairs of source and answer, as token ids that end with END; each number is as likely as the others."""
    found = []
    for number in torch.randint(1, len(NUMBERS) + 1, (count,), generator=generator).tolist():
        drawn = torch.multinomial(torch.tensor(ODDS), number, replacement=True, generator=generator)
        found.append(([NUMBERS[number - 1], END], [*(drawn + SAYABLE[0]).tolist(), END]))
    return found


def floor(numbers: list[int]) -> float:
    """The loss a token, in nats, of the true answers to these numbers of words: in the long run no model has a lower one."""
    return ENTROPY * sum(numbers) / sum(number + 1 for number in numbers)


@torch.no_grad()
def lengths(model: Any, number: int, longest: int = 5) -> Tensor:
    """P(the model's answer has exactly n words), n = 0 to `longest`, when it writes by itself; all that can be written is listed.

    Each round asks the model about every beginning of n words at once; a beginning with another token than the three words is
    lost, and so is what is longer than `longest`.
    """
    source = torch.tensor([[NUMBERS[number - 1], END]])
    begun, log_probs, found = torch.full((1, 1), START), torch.zeros(1, dtype=torch.float64), []
    for _ in range(longest + 1):
        logits = model(input_ids=source.expand(len(begun), -1), decoder_input_ids=begun).logits[:, -1]
        steps = logits.double().log_softmax(dim=-1)
        found.append((log_probs + steps[:, END]).exp().sum())
        log_probs = (log_probs.unsqueeze(1) + steps[:, list(SAYABLE)]).flatten()
        words = torch.tensor(SAYABLE).repeat(len(begun)).unsqueeze(1)
        begun = torch.cat([begun.repeat_interleave(len(SAYABLE), dim=0), words], dim=1)
    return torch.stack(found)
