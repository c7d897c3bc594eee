"""The silent bug of lesson 10: what must be true of the training loop, wherever and however it is mended.

The loop is given batches that hold every sentence exactly as often as the policy would say it: its probabilities are halves,
quarters and eighths. On such a batch a mean over the batch *is* the expectation, so the full divergence at every token, and any
unbiased estimate from the tokens that came, is the KL.
"""

from itertools import product

import numpy as np

from autograder.checks import Check, check, edit

START = 0
UNIFORM = np.zeros((4, 4))
PARTS = np.array([4, 2, 1, 1])


def log_rows(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def table(rng):
    """Log-probabilities of a policy whose next tokens have 1/2, 1/4, 1/8 and 1/8, in another order after each token."""
    return np.log([rng.permutation(PARTS) / 8 for _ in range(4)])


def log_probs(logits, sentences):
    before = np.concatenate([np.full((len(sentences), 1), START), sentences[:, :-1]], axis=1)
    return log_rows(logits)[before, sentences].sum(-1)


def every_sentence(start, length):
    """A batch of 8^length sentences in which each occurs as often as the policy says it."""
    found = []
    for sentence in product(range(4), repeat=length):
        found += [sentence] * round(8**length * np.exp(log_probs(start, np.array([sentence])))[0])
    return np.array(found)


RIGHT = 'F.kl_div(ref_log_probs, log_probs, reduction="none", log_target=True).sum(dim=(1, 2))'
WRONG = 'F.kl_div(log_probs, ref_log_probs, reduction="none", log_target=True).sum(dim=(1, 2))'
MEASURE = {"\n    return " + RIGHT: "\n    return " + WRONG}
STOP = "\n        if kl > limit:"
SHAPED = "\n    return (scores - alpha * (log_probs - ref_log_probs).sum(dim=1)).detach()"


@check("train_within_limit", points=4, section="10.9")
class HowFarItIs(Check):
    probe = "training"
    tolerance = 1e-9  # float64 means over at most 64 sentences

    def cases(self, rng):
        first = np.log([PARTS / 8] * 4)
        still = {"alpha": 0.1, "learning_rate": 0.0, "measured": True}
        yield {"start": first, "reference": UNIFORM, "sentences": every_sentence(first, 1), "limit": 9.0, "steps": 1, **still}
        skewed = np.log([[0.15, 0.15, 0.1, 0.6]] * 4)  # from here the other direction is the larger one
        yield {"start": first, "reference": skewed, "sentences": every_sentence(first, 1), "limit": 9.0, "steps": 1, **still}
        start, reference = table(rng), rng.normal(size=(4, 4))
        two = {"start": start, "reference": reference, "sentences": every_sentence(start, 2)}
        yield {**two, "limit": 99.0, "steps": 2, **still}
        kl = self.kl(**two)  # the limit a little to either side of it
        for limit in (0.98 * kl, 1.02 * kl):
            yield {**two, **still, "limit": float(limit), "steps": 3}
        some = {"sentences": rng.integers(4, size=(7, 3)), "measured": False}  # no batch on which a mean is an expectation
        yield {**two, **still, **some, "limit": 99.0, "steps": 1, "alpha": 0.3, "learning_rate": 0.5}

    def truth(self, start, reference, sentences, alpha, limit, steps, learning_rate, measured):
        if not measured:
            return {"steps measured": 1, "table": start + learning_rate * self.uphill(start, reference, sentences, alpha)}
        kl, score = self.kl(start, reference, sentences), (sentences == 3).mean()
        steps = 1 if kl > limit else steps
        return {"score": np.full(steps, score), "kl": np.full(steps, kl), "table": start}

    @staticmethod
    def kl(start, reference, sentences):
        """From all sentences there are, each with its probability."""
        listed = np.array(list(product(range(4), repeat=sentences.shape[1])))
        log_p, log_q = log_probs(start, listed), log_probs(reference, listed)
        return np.exp(log_p) @ (log_p - log_q)

    @staticmethod
    def uphill(start, reference, sentences, alpha):
        """The policy gradient of score - alpha log-ratio, each against the mean of the others."""
        rewards = (sentences == 3).mean(-1) - alpha * (log_probs(start, sentences) - log_probs(reference, sentences))
        count, gradient = len(sentences), np.zeros(start.shape)
        for reward, sentence in zip(rewards, sentences):
            advantage = (reward - rewards.mean()) * count / (count - 1)
            for before, token in zip((START, *sentence), sentence):
                gradient[before] += advantage / count * ((np.arange(4) == token) - np.exp(log_rows(start)[before]))
        return gradient

    mistakes = [
        edit("bug-untouched", "The loop is as quietly wrong as it was given to you: the `kl` that it reports, and stops by, is "
             "not KL(policy||reference). Compute that by listing all sentences, and follow the reported number to where it is made.",
             MEASURE),
        edit("limit-lowered", "This treats the symptom: the run stops earlier, and the number that it reports is as wrong as "
             "before. The cause is further up.", {**MEASURE, STOP: "\n        if kl > limit / 2:"}),
        edit("log-target-missing", "Without `log_target=True` the second argument is taken for probabilities, and its logarithm "
             "is taken once more. The two were right to be logarithms; it is their order that is wrong.",
             {'\n    return ' + RIGHT: '\n    return F.kl_div(ref_log_probs, log_probs, reduction="none").sum(dim=(1, 2))'}),
        edit("kl-reduction", "Averaged over the vocabulary, or over the tokens, the number is smaller than the nats a sentence "
             "that `limit` is about: sum over both.",
             {RIGHT: 'F.kl_div(ref_log_probs, log_probs, reduction="none", log_target=True).sum(dim=2).mean(dim=1)'}),
        edit("both-directions", "This treats the symptom: the mean of both directions is a divergence too, but not the one that "
             "is paid for and that `limit` is about.", {RIGHT: f"(({RIGHT}) + ({WRONG})) / 2"}),
        edit("larger-direction", "This treats the symptom: the larger of both directions is too large wherever the wrong one is.",
             {RIGHT: f"torch.maximum({RIGHT}, {WRONG})"}),
        edit("k1-sign", "The log-ratio is upside down: this is minus the KL on average, and the run never stops.",
             {RIGHT: "(log_probs.exp() * (ref_log_probs - log_probs)).sum(dim=(1, 2))"}),
        edit("reward-turned", "You turned the log-ratio in the reward. That one was right: distance is a price, and now it is "
             "paid out.",
             {SHAPED: "\n    return (scores - alpha * (ref_log_probs - log_probs).sum(dim=1)).detach()"}),
        edit("reward-turned-and-untouched", "You turned the log-ratio in the reward, which was right, and what is measured is "
             "still wrong.",
             {**MEASURE, SHAPED: "\n    return (scores - alpha * (ref_log_probs - log_probs).sum(dim=1)).detach()"}),
        edit("dearer-kl", "This treats the symptom: a higher price holds the policy nearer, and the number is as wrong as "
             "before. The cause is further up.", {**MEASURE, SHAPED: SHAPED.replace("alpha *", "2 * alpha *")}),
        edit("stop-turned", "You turned the comparison that stops the run. It was right; what it is told is wrong.",
             {**MEASURE, STOP: "\n        if kl < limit:"}),
        edit("own-reward-in-the-baseline", "You made the baseline the mean of the whole batch, the judged sentence included: "
             "that scales every step by (n - 1)/n (lesson 2). Leaving it out was right.",
             {"\n    return (values.sum() - values) / (len(values) - 1)": "\n    return values.mean().expand(len(values))"}),
    ]  # fmt: skip
