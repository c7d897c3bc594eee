"""The silent bug of lesson 4: what must be true of the training loop, wherever and however it is mended.

The loop is given batches that hold every sentence exactly as often as the policy would say it: row by row the probabilities are
quarters and eighths. On such a batch a mean over the batch *is* the expectation, so any unbiased estimate of the KL is the KL.
"""

from itertools import product

import numpy as np

from autograder.checks import Check, check, edit

SCORES, START, RATE = np.array([1.0, 1, 1, -1, -1, -1]), 6, 0.1
EIGHTHS = np.array([2, 2, 1, 1, 1, 1])
UNIFORM = np.zeros((7, 6))


def table(rng):
    """Log-probabilities of a policy that says two of the words after each word with 1/4 and four with 1/8."""
    return np.log([rng.permutation(EIGHTHS) / 8 for _ in range(7)])


def log_rows(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def every_sentence(start, length):
    """A batch of 8^length sentences in which each occurs as often as the policy says it."""
    found = []
    for sentence in product(range(6), repeat=length):
        steps = zip((START, *sentence), sentence)
        found += [sentence] * round(np.prod([8 * np.exp(start[a, b]) for a, b in steps]))
    return np.array(found)


def log_probs(logits, sentences):
    before = np.concatenate([np.full((len(sentences), 1), START), sentences[:, :-1]], axis=1)
    return log_rows(logits)[before, sentences].sum(-1)


@check("train_near_reference", points=4, section="4.14")
class WhatIsReported(Check):
    probe = "training"
    tolerance = 1e-9  # float64 means over at most 64 sentences

    def cases(self, rng):
        more = {"beta": 0.2, "steps": 3, "learning_rate": 0.0, "measured": True}
        start = np.log([EIGHTHS / 8] * 7)
        for target in (0.055, 0.02, 0.5):  # the KL is 0.0589: a little above the target, far above, far below
            yield {"start": start, "reference": UNIFORM, "sentences": every_sentence(start, 1), "target": target, **more}
        start, reference = table(rng), rng.normal(size=(7, 6))
        two = {"start": start, "reference": reference, "target": 0.9, **more}
        yield {**two, "sentences": every_sentence(start, 2)}
        some = {"sentences": rng.integers(6, size=(7, 3)), "measured": False}  # no batch on which a mean is an expectation
        yield {**two, **some, "steps": 1, "learning_rate": 0.5}

    def truth(self, start, reference, sentences, target, beta, steps, learning_rate, measured):
        """From the distribution over all sentences; the step from the batch."""
        moved = start + learning_rate * self._uphill(start, reference, sentences, beta)
        if not measured:
            return {"table": moved}
        listed = np.array(list(product(range(6), repeat=sentences.shape[1])))
        log_p, log_q = log_probs(start, listed), log_probs(reference, listed)
        kl, entropy = np.exp(log_p) @ (log_p - log_q), -np.exp(log_p) @ log_p
        betas = [beta]
        for _ in range(steps - 1):
            betas.append(betas[-1] * (1 + RATE * np.clip(kl / target - 1, -0.2, 0.2)))
        same = {"score": np.exp(log_p) @ SCORES[listed].mean(-1), "kl": kl, "entropy": entropy}
        return {**{name: np.full(steps, value) for name, value in same.items()}, "beta": np.array(betas), "table": moved}

    @staticmethod
    def _uphill(start, reference, sentences, beta):
        """Of the rewards score - beta log-ratio, each against the mean of the others."""
        rewards = SCORES[sentences].mean(-1) - beta * (log_probs(start, sentences) - log_probs(reference, sentences))
        count, gradient = len(sentences), np.zeros(start.shape)
        for reward, sentence in zip(rewards, sentences):
            advantage = (reward - rewards.mean()) * count / (count - 1)
            for before, word in zip((START, *sentence), sentence):
                gradient[before] += advantage / count * ((np.arange(6) == word) - np.exp(log_rows(start)[before]))
        return gradient

    mistakes = [
        edit("bug-untouched", "The loop is as quietly wrong as it was given to you: the `kl` it reports is not the KL of the "
             "policy it measures. Take a short length, list all sentences, compute the KL yourself, and follow the reported "
             "number back to where it is made.", {"\n    log_ratio = ref_log_probs - log_probs": "\n    log_ratio = log_probs - "
             "ref_log_probs"}),
        edit("ratio-clamped", "This treats the symptom: clipping the log-ratio makes the reported number smaller and leaves it "
             "wrong. The cause is further up: ask what the mean of these terms is under the policy.",
             {"\n    log_ratio = ref_log_probs - log_probs": "\n    log_ratio = (log_probs - ref_log_probs).clamp(-1.0, 1.0)"}),
        edit("biased-estimator", "This treats the symptom: with k2 the reported number is smaller, but its mean is not the KL "
             "either. The estimator that stood there was a good choice; it was not written down right.",
             {"return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()": "return (log_ratio**2 / 2).sum(dim=1).mean()"}),
        edit("mean-over-tokens", "This treats the symptom: a mean over the words makes the number smaller. `target` is in nats a "
             "sentence, so the words' terms are summed. The cause is further up.",
             {"return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()":
              "return (log_ratio.exp() - 1 - log_ratio).mean()"}),
        edit("k1-sign", "What is reported now has the mean -KL: the log-ratio of k1 is log pi - log pi_ref.",
             {"return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()": "return log_ratio.sum(dim=1).mean()"}),
        edit("absolute-terms", "This treats the symptom: absolute values keep the number from being negative, but their mean is "
             "not the KL.",
             {"return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()": "return log_ratio.sum(dim=1).abs().mean()"}),
        edit("kl-reversed", "What is reported now is the other divergence, KL(reference||policy). The reward holds "
             "KL(policy||reference), and the target is meant for that one.",
             {"return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()":
              "return (log_ratio.exp() * log_ratio - log_ratio.exp() + 1).sum(dim=1).mean()"}),
        edit("reward-turned", "You turned the log-ratio in the reward. That one was right: the distance is a price, and now it "
             "is paid out.", {"\n        rewards = scores - beta * (log_probs - ref_log_probs)":
             "\n        rewards = scores - beta * (ref_log_probs - log_probs)"}),
        edit("reward-turned-and-untouched", "You turned the log-ratio in the reward, which was right, and the reported `kl` is "
             "still wrong.", {"\n    log_ratio = ref_log_probs - log_probs": "\n    log_ratio = log_probs - ref_log_probs",
             "\n        rewards = scores - beta * (log_probs - ref_log_probs)":
             "\n        rewards = scores - beta * (ref_log_probs - log_probs)"}),
        edit("controller-turned", "You turned the controller. It was right: a KL above the target must make the penalty dearer.",
             {"\n    error = min(max(kl / target - 1, -0.2), 0.2)": "\n    error = min(max(1 - kl / target, -0.2), 0.2)"}),
        edit("controller-turned-and-untouched", "This treats the symptom: the controller was right, and what it is told is still "
             "wrong. The cause is further up.",
             {"\n    log_ratio = ref_log_probs - log_probs": "\n    log_ratio = log_probs - ref_log_probs",
              "\n    error = min(max(kl / target - 1, -0.2), 0.2)": "\n    error = min(max(1 - kl / target, -0.2), 0.2)"}),
        edit("own-reward-in-the-baseline", "You made the baseline the mean of the whole batch, the judged sentence included: "
             "that scales every step by (n - 1)/n (lesson 2). Leaving it out was right.",
             {"\n    return (values.sum() - values) / (len(values) - 1)": "\n    return values.mean().expand(len(values))"}),
    ]  # fmt: skip
