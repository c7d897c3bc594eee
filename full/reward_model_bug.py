"""A complete reward model in one file: a small GPT-2 learns what a reader likes, from 48 of his choices, and stops when best.

    python -m full.reward_model_bug

The words are those of `full.given.film_words`; a text is "film" and up to three words more, 85 texts in all. The reader likes
"good" and dislikes "bad": a text's reward is log 3 times (how often "good" stands in it less how often "bad" does), and of two
texts he prefers one with probability sigma(its reward - the other's). He was asked 48 times to train on, and 100 times to
validate. Since all texts are known, and what he thinks of them, the expected log loss of any model on new choices is known too:
it is the column `exact`, and the reader himself has the lowest, the last line.

So few choices are soon known by heart. Therefore `fit` looks at the validation choices every five updates and ends with the
weights that were best there. So it says, and something is wrong: find the one error and mend it (section 12.8).
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from full.given import film_words as world

Choice = tuple[Sequence[int], Sequence[int]]
"The text that was preferred, and the other."


class Scorer(nn.Module):
    """A GPT-2 with a head that gives a text one number, read at its last word."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.score = nn.Linear(transformer.config.n_embd, 1, bias=False, dtype=torch.float64)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"]) -> Float[Tensor, "batch"]:
        hidden = self.transformer(input_ids=tokens, attention_mask=attention_mask).last_hidden_state
        last = attention_mask.sum(dim=1) - 1  # padding stands on the right
        return self.score(hidden[torch.arange(len(tokens)), last]).squeeze(-1)


def rows_of(texts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """The texts as rows, filled up on the right: tokens, and the attention mask (1 on real ones)."""
    length = max(map(len, texts))
    tokens = torch.zeros(len(texts), length, dtype=torch.long)
    attention_mask = torch.zeros_like(tokens)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(list(text))
        attention_mask[row, : len(text)] = 1
    return tokens, attention_mask


def log_loss(model: nn.Module, choices: Sequence[Choice]) -> Float[Tensor, ""]:
    """The mean negative log-likelihood of the choices, -log sigma(score of the preferred one - score of the other)."""
    texts = [chosen for chosen, _ in choices] + [rejected for _, rejected in choices]
    chosen, rejected = model(*rows_of(texts)).chunk(2)
    return -F.logsigmoid(chosen - rejected).mean()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights as they are at this moment, without their gradients."""
    return {name: value.detach() for name, value in model.state_dict().items()}


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Sequence[Choice],
    validation: Sequence[Choice],
    *,
    updates: int = 60,
    look_every: int = 5,
    after_look: Callable[[int, float, float], None] = lambda update, training_loss, validation_loss: None,
) -> float:
    """Trains on all training choices at once, update by update; ends with the weights that were best on the validation choices.

    It looks before the first update and after every `look_every`: after_look is told the update and both losses.
    Returns the best validation loss.
    """
    best, kept = math.inf, weights_of(model)
    for update in range(updates + 1):
        loss = log_loss(model, training)
        if update % look_every == 0:
            with torch.no_grad():
                now = log_loss(model, validation).item()
            after_look(update, loss.item(), now)
            if now < best:
                best, kept = now, weights_of(model)
        if update < updates:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.load_state_dict(kept)
    return best


class Reader:
    """What the reader thinks of every text, and how well a model knows it."""

    def __init__(self) -> None:
        ruler = world.listed(world.gpt2())
        answers = [row[:length] for row, length in zip(ruler.sequences.tolist(), ruler.lengths.tolist())]
        self.texts = [[*world.PROMPT, *answer] for answer in answers]
        likes = [text.count(world.GOOD) - text.count(world.BAD) for text in self.texts]
        self.rewards = world.LIKED * torch.tensor(likes, dtype=torch.float64)

    def choices(self, count: int, seed: int) -> list[Choice]:
        """So many pairs of different texts, and his choice in each."""
        generator = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(count):
            one, two = torch.randperm(len(self.texts), generator=generator)[:2].tolist()
            first = torch.rand((), generator=generator) < torch.sigmoid(self.rewards[one] - self.rewards[two])
            found.append((self.texts[one], self.texts[two]) if first else (self.texts[two], self.texts[one]))
        return found

    def expected_loss(self, scores: Float[Tensor, "texts"]) -> float:
        """The log loss on choices still to come, exactly: the mean over all pairs of different texts."""
        margin = scores.unsqueeze(1) - scores
        prefers = torch.sigmoid(self.rewards.unsqueeze(1) - self.rewards)
        losses = -(prefers * F.logsigmoid(margin) + (1 - prefers) * F.logsigmoid(-margin))
        others = ~torch.eye(len(scores), dtype=torch.bool)
        return losses[others].mean().item()


def main() -> None:
    reader, transformer = Reader(), world.gpt2().transformer
    torch.manual_seed(0)
    model = Scorer(transformer)
    training, validation = reader.choices(48, seed=1), reader.choices(100, seed=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    @torch.no_grad()
    def exact() -> float:
        return reader.expected_loss(model(*rows_of(reader.texts)))

    def show(update: int, training_loss: float, validation_loss: float) -> None:
        if update in (0, 5, 10, 15, 20, 30, 40, 60):
            print(f"{update:6d}{training_loss:10.4f}{validation_loss:12.4f}{exact():9.4f}")

    print(f"update{'training':>10}{'validation':>12}{'exact':>9}")
    best = fit(model, optimizer, training, validation, after_look=show)
    with torch.no_grad():
        kept = log_loss(model, training).item(), log_loss(model, validation).item()
    print(f"best validation loss on the way: {best:.4f}")
    print(f"{'kept':>6}{kept[0]:10.4f}{kept[1]:12.4f}{exact():9.4f}")
    print(f"{'reader':>6}{'':22}{reader.expected_loss(reader.rewards):9.4f}")


if __name__ == "__main__":
    main()
