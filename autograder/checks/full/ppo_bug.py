"""The silent bug of lesson 14: what must be true of the training, wherever and however it is mended.

The truth is the reference solution's, in float64. The critic's tables begin far from 0, also where nothing is written.
"""

import numpy as np

from autograder.checks import Check, check, edit

RIGHT = "        following = values[:, t + 1] * mask[:, t + 1] if t + 1 < rewards.shape[1] else 0.0\n"
WRONG = "        following = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0\n"
LATER = "        later = (rewards[:, t] + following - values[:, t] + lam * later) * mask[:, t]\n"
ERROR = "    error = 0.5 * (values - returns) ** 2\n"
MEAN = "    return ((error - gain) * mask).sum() / mask.sum()\n"
UPDATES = "    for _ in range(updates):\n"
REWARDS = "        rewards = token_rewards(scores, log_ratio, mask, beta)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("train_film", points=4, section="14.11")
class WhereThePolicyEnds(Check):
    """Several updates on completions that end early, late and not at all."""

    probe = "training"
    tolerance = 1e-8  # up to 12 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for prompt, count, time, updates, epochs in (([2], 2, 2, 2, 1), ([3, 1], 6, 4, 4, 3)):
            tokens = rng.integers(1, 4, size=(updates, count, len(prompt) + time))
            tokens[:, :, : len(prompt)] = prompt
            lengths = rng.integers(1, time + 1, size=(updates, count))
            lengths[:, 0], lengths[:, -1] = 1, time
            masks = np.arange(time) < lengths[..., None]
            ended = np.arange(time) == lengths[..., None] - 1
            ended[:, -1] = False  # the last row was cut off
            tokens[:, :, len(prompt) :][~masks | ended] = 0
            yield {
                "policy": self.tables(rng, len(prompt) + time, 4), "reference": self.tables(rng, len(prompt) + time, 4),
                "value": {"words": 1 + rng.normal(size=4), "places": rng.normal(size=len(prompt) + time)},
                "tokens": tokens, "masks": masks, "scores": rng.normal(size=(updates, count)),
                "settings": {"beta": 0.4, "lam": 0.9, "clip": 0.2, "epochs": epochs}, "learning_rate": 0.5,
            }  # fmt: skip

    @staticmethod
    def tables(rng, rows, vocabulary):
        return {"words": rng.normal(size=(vocabulary, vocabulary)), "places": rng.normal(size=(rows, vocabulary))}

    mistakes = [
        edit("bug-untouched", "The training is as quietly wrong as it was given to you. Take a completion that ended early and "
             "work out the advantage of its END by hand: what does the file expect to come behind it?", {RIGHT: WRONG}),
        edit("no-bootstrap", "Now nothing is expected behind any token, inside a completion either: each one's reward is "
             "compared with everything that was still to come. Only behind the last real token there is nothing.",
             {RIGHT: "        following = 0.0\n"}),
        edit("ends-expect-the-last-value", "Behind a completion's end the critic's word of its last column is taken. An END, "
             "or the last place there is, ends the text: nothing comes.",
             {RIGHT: "        following = values[:, t + 1] if t + 1 < rewards.shape[1] else values[:, t]\n"}),
        edit("padding-taught", SYMPTOM + "with padding in the critic's loss its values there are slowly pulled to 0; until "
             "they are, and for every text it has not seen, the advantage is still wrong." + CAUSE,
             {RIGHT: WRONG, MEAN: "    return (error * (mask | True) - gain * mask).sum() / mask.sum()\n"}),
        edit("length-bonus", SYMPTOM + "a price on ending early sends the policy back where you want it, and past it somewhere "
             "else."
             + CAUSE, {RIGHT: WRONG, REWARDS: REWARDS + "        rewards = rewards + 0.1 * mask\n"}),
        edit("dearer-kl", SYMPTOM + "with a larger beta the policy stays nearer to the reference, and another optimum is aimed "
             "at."
             + CAUSE, {RIGHT: WRONG, REWARDS: REWARDS.replace("mask, beta)", "mask, 2 * beta)")}),
        edit("stops-early", SYMPTOM + "fewer updates leave it half done." + CAUSE,
             {RIGHT: WRONG, UPDATES: "    for _ in range(updates // 2 + 1):\n"}),
        edit("advantages-whitened", SYMPTOM + "whitening shifts all advantages by the same amount; the ones that are wrong "
             "stay so, relative to the others." + CAUSE,
             {RIGHT: WRONG, "    return advantages, (advantages + values) * mask\n":
              "    returns, real = (advantages + values) * mask, advantages[mask]\n    return (advantages - real.mean()) / "
              "real.std(correction=0).clamp(min=1e-9) * mask, returns\n"}),
        edit("critic-switched-off", SYMPTOM + "without a critic nothing can leak out of it, and nothing is predicted either: "
             "the values it is compared with are gone." + CAUSE,
             {RIGHT: "        following = 0.0\n", LATER: "        later = (rewards[:, t] + following + later) * mask[:, t]\n"}),
    ]  # fmt: skip
