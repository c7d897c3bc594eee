"""The ruler's own log-probabilities, and comparisons listed one by one."""

import itertools

import torch


def comparisons(reward):
    pairs = torch.tensor(list(itertools.permutations(range(len(reward)), 2)))
    return pairs, torch.sigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]])


def answer_log_probs(lm):
    return lm.log_probs()


_train_dpo = train_dpo  # noqa: F821, the file's own


def train_dpo(reference, reward, beta, updates=250, learning_rate=0.1):
    return _train_dpo(reference, reward, beta, updates, learning_rate)
