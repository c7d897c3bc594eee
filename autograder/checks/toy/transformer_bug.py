"""The silent bug of lesson 7: what must be true of the training loop, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.compare import difference
from autograder.checks.verdicts import counts_agree

END = START = 6
RIGHT = "\n    rows = logits.masked_fill(~largest(logits, sampling.top_k), -torch.inf).log_softmax(dim=-1)"
WRONG = {RIGHT: "\n    rows = logits.log_softmax(dim=-1)"}
ROLLOUT = "tokens, mask, old_log_probs = draw(policy, batch, length, sampling, generator)"
DRAWN = "        rows = logits.masked_fill(~largest(logits, sampling.top_k), -torch.inf).log_softmax(dim=-1)"
RUNNING = "\n        running = running & (before != END)"
RATIO = "ratio = (log_probs - old_log_probs).exp()"


def drawn_from(table, temperature, top_k):
    """log q(word | before), (7, 7): the table divided by the temperature, its rows' top_k largest, normalised; else -inf."""
    kept = table >= np.sort(table, axis=1)[:, [-top_k]]
    weights = np.where(kept, np.exp(table / temperature), 0.0)
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum(axis=1, keepdims=True))


@check("train", points=4, section="7.12")
class ScoredAsSampled(Check):
    probe = "training"
    tolerance = 1e-9  # float64 sums over at most 30 tokens
    CLIP = 0.2

    def cases(self, rng):
        spaced = 0.4 * np.stack([rng.permutation(7) for _ in range(7)])  # logits 0.4 apart: small steps change no row's order
        first = 0.4 * np.array([[6, 2, 4, 1, 5, 3, 0]] * 7)
        yield self.case(rng, first, [[0], [4], [2], [0]], 1.0, 3, 1)
        for temperature, top_k, passes in ((0.8, 3, 1), (0.8, 3, 2), (1.5, 2, 1), (0.5, 7, 2)):
            yield self.case(rng, spaced, self.sentences(rng, spaced, top_k), temperature, top_k, passes)

    @staticmethod
    def sentences(rng, table, top_k):
        """Six sentences of at most five words, each among the `top_k` that can come there."""
        found = []
        for _ in range(6):
            words = []
            while len(words) < 5 and words[-1:] != [END]:
                best = np.argsort(table[words[-1] if words else START])[-top_k:]
                words.append(int(rng.choice(best)))
            found.append(words)
        return found

    @staticmethod
    def case(rng, table, sentences, temperature, top_k, passes):
        longest = max(map(len, sentences))
        tokens = np.array([words + [END] * (longest - len(words)) for words in sentences])
        mask = np.array([[t < len(words) for t in range(longest)] for words in sentences])
        before = np.concatenate([np.full((len(tokens), 1), START), tokens[:, :-1]], axis=1)
        log_probs = np.where(mask, drawn_from(table, temperature, top_k)[before, tokens], 0.0)
        more = {"passes": passes, "learning_rate": 0.5, "count": 400, "seed": int(rng.integers(2**31))}
        more |= {"log_probs": log_probs, "temperature": temperature, "top_k": top_k}
        return {"start": table, "tokens": tokens, "mask": mask, **more}

    def truth(self, start, tokens, mask, log_probs, temperature, top_k, passes, learning_rate, count, seed):
        scores = (np.array([1.0, 1, 1, -1, -1, -1, 0])[tokens] * mask).sum(axis=1)
        advantages = (scores - scores.mean()) * len(scores) / (len(scores) - 1)  # against the mean of the others
        table, answer = start.astype(np.float64), {}
        for number in range(passes):
            log_q, gradient, log_ratios = drawn_from(table, temperature, top_k), np.zeros((7, 7)), []
            for b, t in zip(*np.nonzero(mask)):
                before, word = tokens[b, t - 1] if t else START, tokens[b, t]
                log_ratios.append(log_q[before, word] - log_probs[b, t])
                ratio = np.exp(log_ratios[-1])
                bounded = min(max(ratio, 1 - self.CLIP), 1 + self.CLIP)
                if ratio == bounded or ratio * advantages[b] < bounded * advantages[b]:
                    gradient[before] += ratio * advantages[b] * (np.eye(7)[word] - np.exp(log_q[before])) / temperature
            if number == 0:
                log_ratios = np.array(log_ratios)
                outside = np.abs(np.exp(log_ratios) - 1) > self.CLIP
                answer = {"score": [scores.mean()], "log_ratio": [log_ratios.mean()], "clipped": [outside.mean()]}
            table = table + learning_rate * gradient / mask.sum()
        recorded = drawn_from(start, temperature, top_k)
        counts = count * np.exp(recorded[START])
        return {"table": table, **answer, "counts": counts, "recorded": recorded, "mask_ends_after_end": True}

    def judge(self, got, expected, **case):
        mine, theirs = ({k: v for k, v in a.items() if k not in ("counts", "recorded")} for a in (got, expected))
        wrong = difference(mine, theirs, self.tolerance)
        wrong = wrong or counts_agree(got["counts"], expected["counts"] / expected["counts"].sum())
        if wrong:
            return wrong
        said = np.asarray(got["recorded"], dtype=np.float64)
        seen = np.isfinite(said) & np.isfinite(expected["recorded"])  # pairs that came; those that must not are in the counts too
        if seen.sum() < 2 or (np.isfinite(said) != seen).any():
            return "`recorded`: words were drawn that the sampling settings rule out, or hardly any"
        return difference(said[seen], expected["recorded"][seen], self.tolerance, "recorded")

    mistakes = [
        edit("bug-untouched",
             "The loop is as quietly wrong as it was given to you. Before the first update nothing has changed since the draw, "
             "so the ratio of every token must be exactly 1. Take one sentence and one token, and work out both "
             "log-probabilities that meet in the ratio, from the table.",
             WRONG),
        edit("old-recomputed",
             "This treats the symptom: both log-probabilities in the ratio are now made by the same function, so the ratio is 1. "
             "But neither is the one the words were drawn with, and the gradient is that of another policy. The cause is further "
             "up.",
             WRONG | {ROLLOUT: ROLLOUT + "; old_log_probs = log_probs_of(policy, tokens, mask, sampling).detach()"}),
        edit("recorded-otherwise",
             "This treats the symptom: the rollout now records a log-probability with which the word was not drawn. The ratio "
             "is 1, and the gradient is still that of another policy.",
             WRONG | {"log_probs.append(rows.gather": "log_probs.append(logits.log_softmax(-1).gather"}),
        edit("draws-from-everything",
             "This treats the symptom: now every word can be drawn, and what was asked for was top-k sampling. The way of "
             "drawing was right; the cause is elsewhere.",
             WRONG | {DRAWN: "        rows = logits.log_softmax(dim=-1)"}),
        edit("ratio-centred",
             "This treats the symptom: the mean of the log-ratio is forced to 0, and single ratios are still not 1. The cause is "
             "further up.",
             WRONG | {RATIO: "gap = log_probs - old_log_probs; gap = gap - gap[mask].mean().detach(); ratio = gap.exp()"}),
        edit("ratio-dropped",
             "This treats the symptom: the ratio is 1 by decree. In later passes it is needed, and the log-probabilities under "
             "it are still not those of what was drawn.",
             WRONG | {RATIO: "ratio = (log_probs - log_probs.detach()).exp()"}),
        edit("clip-widened",
             "This treats the symptom: with a wider clip fewer tokens lie outside it. The ratio is as wrong as before.",
             WRONG | {"clip: float = 0.2": "clip: float = 0.9"}),
        edit("temperature-dropped",
             "The words are drawn at a temperature and now scored without it. Both belong into the score, temperature and top-k.",
             {f"\n    logits = table[before] / sampling.temperature  # (B, T, 7){RIGHT}": f"\n    logits = table[before]{RIGHT}"}),
        edit("end-unscored",
             "The end no longer counts as a drawn token. Stopping is a decision like any other; that part was right.",
             {RUNNING: RUNNING.replace("running =", "mask[-1] = running =")}),
        edit("clip-max",
             "You changed the clip: PPO takes the smaller of the two gains, which was right.",
             {"\n            gain = torch.minimum(": "\n            gain = torch.maximum("}),
    ]  # fmt: skip
