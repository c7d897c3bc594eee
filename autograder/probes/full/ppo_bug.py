"""The silent bug of lesson 14: training of tables on completions that are handed to it."""

import torch
from torch import nn

from .dpo import language_model

FIGURES = ("reward", "kl", "length", "least", "largest")


class ValueTable(nn.Module):
    """A critic that knows the last token and its place."""

    def __init__(self, words, places):
        super().__init__()
        self.words, self.places = nn.Parameter(words.clone()), nn.Parameter(places.clone())

    def forward(self, input_ids):
        return self.words[input_ids] + self.places[: input_ids.shape[1]]


def training(module, policy, reference, value, tokens, masks, scores, settings, learning_rate):
    """The tables that `train_film` ends with, and what it tells of each update; rollouts and scores come from lists."""
    actor, anchor, critic, told, turn = language_model(policy), language_model(reference), ValueTable(**value), [], [-1]
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=learning_rate)

    def sample(policy):
        turn[0] += 1
        return tokens[turn[0]], masks[turn[0]]

    def score(completion, mask):
        return scores[turn[0]]

    module.train_film(actor, critic, anchor, optimizer, sample, score, updates=len(tokens), after_update=told.append, **settings)
    told = {name: torch.tensor([float(line[name]) for line in told], dtype=torch.float64) for name in FIGURES}
    tables = {"words": actor.words, "places": actor.places, "value words": critic.words, "value places": critic.places}
    return {**{name: table.detach() for name, table in tables.items()}, **told}
