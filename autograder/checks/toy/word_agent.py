"""Lesson 3: what is true of the word agent."""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference, number
from autograder.checks.verdicts import counts_agree

START, POSITIVE = 6, [0, 1, 2]
# expressions of the reference that the mistakes below put others in the place of
NETWORK = "self.output(torch.relu(self.hidden(inputs)))"
SOFTMAX = "torch.softmax(self(previous), dim=-1)"
POSITIVE_SUM = "torch.softmax(logits, dim=-1)[list(POSITIVE)].sum()"
LOSS = "-torch.log_softmax(logits, dim=-1)[word]"
MEAN = "self.total_score / self.count if self.count else 0.0"
MIXTURE = "(1 - epsilon) * exploiting + epsilon / len(WORDS)"
EXACT = 1e-9  # float64 throughout: a dozen operations on numbers of size 1 to 10 lose less than 1e-13


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def one_hot(index, size=6):
    return np.eye(size)[index]


def behaviour(logits, epsilon, mode):
    exploiting = softmax(logits) if mode == "sample" else one_hot(np.argmax(logits))
    return (1 - epsilon) * exploiting + epsilon / 6


def random_weights(rng, hidden_size):
    return {
        "hidden.weight": rng.normal(size=(hidden_size, 7)),
        "hidden.bias": rng.normal(size=hidden_size),
        "output.weight": rng.normal(size=(6, hidden_size)),
        "output.bias": rng.normal(size=6),
    }


def network(weights, previous):
    """Logits of the two-layer network, its hidden layer, and which of its units are on."""
    before = weights["hidden.weight"][:, previous].T + weights["hidden.bias"]  # one-hot input: one column is read
    hidden = np.where(before > 0, before, 0.0)
    return hidden @ weights["output.weight"].T + weights["output.bias"], hidden, before > 0


@check("Agent", points=3, section="3.1")
class TwoLayers(Check):
    probe = "agent_logits"
    tolerance = EXACT

    def cases(self, rng):
        for hidden_size, previous in ((2, [START]), (3, [0, 6]), (5, [6, 2, 0, 5, 3, 1, 4, 2])):
            yield {
                "hidden_size": hidden_size,
                "weights": random_weights(rng, hidden_size),
                "previous": np.array(previous),
                "direction": rng.normal(size=(len(previous), 6)),
            }

    def truth(self, hidden_size, weights, previous, direction):
        logits, hidden, on = network(weights, previous)
        to_hidden = (direction @ weights["output.weight"]) * on
        gradients = {
            "hidden.weight": to_hidden.T @ one_hot(previous, 7),
            "hidden.bias": to_hidden.sum(axis=0),
            "output.weight": direction.T @ hidden,
            "output.bias": direction.sum(axis=0),
        }
        shapes = {name: list(value.shape) for name, value in weights.items()}
        return {"parameters": shapes, "logits": logits, "gradients": gradients}

    mistakes = [
        edit(
            "no-relu",
            "There is no ReLU between the two linear layers: together they are then one linear layer.",
            {NETWORK: "self.output(self.hidden(inputs))"},
        ),
        edit(
            "relu-on-logits",
            "The ReLU stands after the second layer, so no logit is ever negative. It belongs between the two.",
            {NETWORK: "torch.relu(self.output(self.hidden(inputs)))"},
        ),
        edit(
            "softmax-in-forward",
            "`forward` gives back probabilities. It is asked for logits; the softmax is the business of `probabilities`.",
            {NETWORK: f"torch.softmax({NETWORK}, dim=-1)"},
        ),
        edit(
            "cut-graph",
            "No gradient reaches the weights: something between them and the logits (`detach`, `no_grad`, `torch.tensor(...)`) "
            "cuts the graph.",
            {NETWORK: NETWORK + ".detach()"},
        ),
        edit(
            "no-bias",
            "The linear layers have no bias. `nn.Linear(inputs, outputs)` has one unless told otherwise.",
            {
                "nn.Linear(len(WORDS) + 1, hidden_size)": "nn.Linear(len(WORDS) + 1, hidden_size, bias=False)",
                "nn.Linear(hidden_size, len(WORDS))": "nn.Linear(hidden_size, len(WORDS), bias=False)",
            },
        ),
        edit(
            "six-inputs",
            "The first layer reads six inputs. There are seven: the six words and START.",
            {"nn.Linear(len(WORDS) + 1, hidden_size)": "nn.Linear(len(WORDS), hidden_size)"},
        ),
        edit(
            "device-dtype",
            "The input is made float32 whatever the weights are. Give it their dtype: `.to(self.hidden.weight.dtype)`.",
            {".to(self.hidden.weight.dtype)": ".float()"},
        ),
    ]


@check("Agent.probabilities", points=1, section="3.1")
class RowsSumToOne(Check):
    probe = "agent_probabilities"
    tolerance = EXACT

    def cases(self, rng):
        yield {"weights": random_weights(rng, 2), "previous": np.array([START])}
        yield {"weights": random_weights(rng, 4), "previous": np.array([6, 0, 3])}

    def truth(self, weights, previous):
        return {"probabilities": softmax(network(weights, previous)[0])}

    mistakes = [
        edit(
            "wrong-axis",
            "The softmax runs over the batch: the columns sum to 1. Each row is one distribution over the six words.",
            {SOFTMAX: "torch.softmax(self(previous), dim=0)"},
        ),
        edit(
            "log-probabilities",
            "These are log-probabilities. Probabilities were asked for: they are positive and sum to 1.",
            {SOFTMAX: "torch.log_softmax(self(previous), dim=-1)"},
        ),
        edit(
            "sigmoid",
            "A sigmoid of each logit does not sum to 1 over the words: they compete for one place, which is what softmax says.",
            {SOFTMAX: "torch.sigmoid(self(previous))"},
        ),
    ]


@check("positive_probability", points=1, section="3.2")
class PositiveMass(Check):
    probe = "positive_mass"
    tolerance = EXACT

    def cases(self, rng):
        yield {"logits": np.zeros(6)}
        yield {"logits": np.array([200.0, -200.0, 0.0, 199.0, -200.0, 0.0])}  # exp(200) is fine in float64, exp(800) is not
        yield {"logits": np.array([-800.0, 800.0, 799.0, 801.0, 0.0, 1.0])}
        for _ in range(3):
            yield {"logits": rng.normal(scale=2.0, size=6)}

    def truth(self, logits):
        return {"positive": softmax(logits)[POSITIVE].sum()}

    mistakes = [
        edit(
            "negative-words",
            "This is the probability of the negative words. POSITIVE holds the indices of the others.",
            {POSITIVE_SUM: "torch.softmax(logits, dim=-1)[3:].sum()"},
        ),
        edit(
            "mean-for-sum",
            "The three probabilities are averaged. One of the words is said with the sum of their probabilities.",
            {"[list(POSITIVE)].sum()": "[list(POSITIVE)].mean()"},
        ),
        edit(
            "best-word-only",
            "This says whether the most probable word is positive: 0 or 1. Asked for is the probability of all positive words.",
            {POSITIVE_SUM: "(logits.argmax() < 3).to(logits.dtype)"},
        ),
        edit(
            "unstable-softmax",
            "Written as exp(logits) / sum it overflows for large logits. `torch.softmax` subtracts the largest first.",
            {POSITIVE_SUM: "logits.exp()[list(POSITIVE)].sum() / logits.exp().sum()"},
        ),
    ]


@check("policy_loss", points=4, section="3.3")
class LossAndGradient(Check):
    probe = "loss_and_gradients"
    tolerance = EXACT  # the float32 case has an answer that float32 holds exactly

    def cases(self, rng):
        yield {"logits": np.zeros(6), "word": 0, "advantage": 1.0, "attached": False}
        yield {"logits": np.zeros(6), "word": 3, "advantage": -1.0, "attached": True}
        for attached in (False, True):
            values = rng.normal(scale=2.0, size=6)
            yield {"logits": values, "word": int(rng.integers(6)), "advantage": float(rng.normal()), "attached": attached}
        far = np.array([200.0, -200.0, 0.0, -100.0, 0.0, -200.0])
        for dtype in (np.float64, np.float32):
            yield {"logits": far.astype(dtype), "word": 1, "advantage": 0.5, "attached": True}

    def truth(self, logits, word, advantage, attached):
        logits = logits.astype(np.float64)
        log_probability = logits[word] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        gradient = advantage * (softmax(logits) - one_hot(word))
        return {"loss": -log_probability * advantage, "gradient": gradient, "gradient_of_advantage": 0.0}

    mistakes = [
        edit(
            "flipped-sign",
            "The sign is turned: an optimizer that makes this small makes rewarded words rarer. The loss is minus "
            "log pi(word) times the advantage.",
            {LOSS: "torch.log_softmax(logits, dim=-1)[word]"},
        ),
        edit(
            "attached-reward",
            "A gradient flows into the advantage. It says how good the word was and is a constant here: `detach` it.",
            {"torch.as_tensor(advantage, dtype=logits.dtype).detach()": "torch.as_tensor(advantage, dtype=logits.dtype)"},
        ),
        edit(
            "log-of-softmax",
            "The logarithm of a softmax is lost where the softmax is too small for a float: at a distance of 400 it is -inf in "
            "float32. `torch.log_softmax` (or `logits - logsumexp`) never takes the detour.",
            {LOSS: "-torch.softmax(logits, dim=-1)[word].log()"},
        ),
        edit(
            "log-plus-epsilon",
            "A small number added inside the logarithm avoids -inf but changes the loss, and kills the gradient of improbable "
            "words. `torch.log_softmax` needs no such help.",
            {LOSS: "-(torch.softmax(logits, dim=-1)[word] + 1e-8).log()"},
        ),
        edit(
            "raw-logits-as-log-probs",
            "The logit of the word is not its log-probability: subtract the log of the sum of all exp(logits). Without it no "
            "other word ever becomes less probable.",
            {LOSS: "-logits[word]"},
        ),
        edit(
            "probability-for-log",
            "This is the probability where its logarithm belongs: its gradient is that of the score times pi(word), so that "
            "rare words hardly count.",
            {LOSS: "-torch.softmax(logits, dim=-1)[word]"},
        ),
        edit(
            "cut-graph",
            "No gradient reaches the logits: `.item()`, `detach`, `no_grad` or `torch.tensor(...)` around the log-probability "
            "cuts the graph.",
            {LOSS: LOSS + ".detach()"},
        ),
        edit(
            "device-dtype",
            "The advantage is rounded to float32. Make it a tensor of the logits' dtype.",
            {"torch.as_tensor(advantage, dtype=logits.dtype)": "torch.as_tensor(advantage, dtype=torch.float32)"},
        ),
    ]


@check("Baseline.get", points=1, section="3.4")
class MeanOfState(Check):
    probe = "baseline_reading"
    tolerance = EXACT

    def cases(self, rng):
        yield {"total_score": 0.0, "count": 0}
        yield {"total_score": -1.0, "count": 1}
        yield {"total_score": 3.0, "count": 4}
        yield {"total_score": float(rng.normal()), "count": int(rng.integers(5, 50))}

    def truth(self, total_score, count):
        return {"mean": total_score / max(count, 1)}

    mistakes = [
        edit(
            "division-by-zero",
            "Before the first score there is nothing to divide by: `get` gives 0.0 then.",
            {MEAN: "self.total_score / self.count"},
        ),
        edit(
            "sum-for-mean",
            "`get` gives the sum of the scores; the baseline is their mean.",
            {MEAN: "self.total_score"},
        ),
        edit(
            "off-by-one-count",
            "The sum is divided by count + 1. That avoids a division by zero, but pulls every mean towards 0.",
            {MEAN: "self.total_score / (self.count + 1)"},
        ),
    ]


@check("Baseline.update", points=2, section="3.4")
class RunningMean(Check):
    probe = "baseline_trace"
    tolerance = EXACT  # float64 sums of at most 100 scores

    def cases(self, rng):
        yield {"scores": np.array([1.0])}
        yield {"scores": np.array([-1.0, 1.0, 1.0])}
        yield {"scores": rng.choice([-1.0, 1.0], size=100)}
        yield {"scores": rng.normal(loc=2.0, size=20)}

    def truth(self, scores):
        return {"means": [0.0, *(np.cumsum(scores) / np.arange(1, len(scores) + 1))]}

    @mistake("last-score-only", "`get` gives back the newest score; the baseline is the mean of all of them.")
    def last_score(self, scores):
        return {"means": [0.0, *scores]}

    @mistake("moving-average", "This is an exponential moving average, which forgets. Asked for is the plain mean of all scores.")
    def moving_average(self, scores):
        means = [0.0]
        for score in scores:
            means.append(0.9 * means[-1] + 0.1 * score)
        return {"means": means}

    @mistake("half-way", "Each score is averaged with the mean before it, so the newest counts for half. All count the same.")
    def half_way(self, scores):
        means = [0.0]
        for score in scores:
            means.append((means[-1] + score) / 2)
        return {"means": means}

    mistakes = [
        edit("forgets-count", "`count` stays at 1, so the sum is never divided.", {"self.count += 1": "self.count = 1"}),
        edit(
            "counts-twice",
            "`count` grows by more than 1 a score, so the mean comes out too small.",
            {"self.count += 1": "self.count += 2"},
        ),
        edit(
            "never-adds",
            "`total_score` is overwritten instead of added to.",
            {"self.total_score += score": "self.total_score = score"},
        ),
    ]


@check("behaviour_policy", points=3, section="3.5")
class WhatIsDrawnFrom(Check):
    probe = "behaviour"
    tolerance = EXACT

    def cases(self, rng):
        yield {"logits": np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]), "epsilon": 0.0, "mode": "sample"}
        yield {"logits": np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]), "epsilon": 0.3, "mode": "argmax"}
        for epsilon in (0.0, 0.2, 1.0):
            for mode in ("sample", "argmax"):
                yield {"logits": rng.normal(scale=1.5, size=6), "epsilon": epsilon, "mode": mode}
        yield {"logits": np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0]), "epsilon": 0.6, "mode": "argmax"}  # of equals, the first
        for epsilon, mode in ((1.5, "sample"), (-0.25, "argmax"), (0.5, "greedy")):  # to be refused
            yield {"logits": np.zeros(6), "epsilon": epsilon, "mode": mode}

    def truth(self, logits, epsilon, mode):
        if not 0 <= epsilon <= 1 or mode == "greedy":
            return {"refusal": " ".join(self.culprit(epsilon, mode))}
        return self.answer(behaviour(logits, epsilon, mode))

    @staticmethod
    def answer(probabilities):
        return {"refusal": None, "probabilities": probabilities, "logits_unchanged": True}

    @staticmethod
    def culprit(epsilon, mode):
        """What a refusal has to mention: the argument's name and what was received."""
        return ("mode", "greedy") if mode == "greedy" else ("epsilon", str(epsilon))

    def judge(self, got, expected, epsilon, mode, **case):
        if expected["refusal"] is None:
            wrong = difference(got, expected, self.tolerance)
            return f"`refusal`: input that is right is refused: {got['refusal']}" if got["refusal"] else wrong
        if got["refusal"] is None:
            named = " and ".join(self.culprit(epsilon, mode))
            return f"`refusal`: it went through; expected was a ValueError that mentions {named}"
        for word in self.culprit(epsilon, mode):
            if (word in got["refusal"]) != (word in expected["refusal"]):
                return f"`refusal`: the message {'says' if word in got['refusal'] else 'does not mention'} {word}"
        return None

    @mistake(
        "explores-the-others",
        "Exploring leaves out the best word. A uniform draw is from all six: the best word keeps 1 - epsilon + epsilon/6.",
    )
    def explores_the_others(self, logits, epsilon, mode):
        right = self.truth(logits, epsilon, mode)
        if mode == "sample" or right["refusal"]:
            return right
        best = one_hot(np.argmax(logits))
        return self.answer((1 - epsilon) * best + epsilon * (1 - best) / 5)

    mistakes = [
        edit(
            "epsilon-inverted",
            "Epsilon is the probability of exploring, not of following the policy.",
            {MIXTURE: "epsilon * exploiting + (1 - epsilon) / len(WORDS)"},
        ),
        edit(
            "epsilon-ignored",
            "Epsilon has no effect here: with probability epsilon the word comes from a uniform draw.",
            {MIXTURE: "exploiting"},
        ),
        edit(
            "not-a-distribution",
            "The probabilities add up to more than 1: the policy is followed only with probability 1 - epsilon.",
            {MIXTURE: "exploiting + epsilon / len(WORDS)"},
        ),
        edit(
            "greedy-rollouts",
            'In mode "sample" the most probable word is taken too. There the word is drawn from softmax(logits).',
            {"exploiting = torch.softmax(logits, dim=-1)": "exploiting = F.one_hot(logits.argmax(), 6).to(logits.dtype)"},
        ),
        edit(
            "mode-ignored",
            'Mode "argmax" draws from the softmax as "sample" does. It takes the largest logit every time it does not explore.',
            {"exploiting = F.one_hot(logits.argmax(), len(WORDS)).to(logits.dtype)": "exploiting = torch.softmax(logits, -1)"},
        ),
        edit(
            "epsilon-unchecked",
            "An epsilon outside [0, 1] goes through. It is no probability, and can make those of the words negative.",
            {"if not 0 <= epsilon <= 1:": "if False:"},
        ),
        edit(
            "mode-unchecked",
            "A mode that does not exist is taken for one of the two. A misspelt word would never be noticed.",
            {'elif mode == "argmax":': "elif True:"},
        ),
        edit(
            "silent-message",
            "The message does not say what was received.",
            {
                "epsilon: expected a probability between 0 and 1, received {epsilon}": "epsilon: not a probability",
                "mode: expected 'sample' or 'argmax', received {mode!r}": "mode: unknown",
            },
        ),
    ]


@check("choose_word", points=3, section="3.5")
class Draws(Check):
    """200 draws a case tell the truth from every mistake below with certainty for practical purposes (see the tests)."""

    probe = "word_counts"

    def cases(self, rng):
        steep, flat = [0.85, 0.07, 0.04, 0.02, 0.01, 0.01], [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]
        for shares, epsilon, mode, draws in (
            (flat, 0.0, "argmax", 10),
            (flat, 0.0, "sample", 200),
            (steep, 0.6, "sample", 200),
            (steep, 0.3, "argmax", 200),
        ):
            yield {
                "logits": np.log(rng.permutation(shares)) + rng.normal(),
                "epsilon": epsilon,
                "mode": mode,
                "draws": draws,
                "repeats": min(draws, 12),
                "seed": int(rng.integers(2**31)),
            }

    def truth(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(behaviour(logits, epsilon, mode), draws)

    @staticmethod
    def answer(probabilities, draws):
        return {"types": ["int"], "counts": draws * probabilities, "same_seed_same_words": True}

    def judge(self, got, expected, draws, **case):
        if got["types"] != expected["types"]:
            return f"`types`: expected Python ints, received {' and '.join(map(str, got['types']))}"
        if got["same_seed_same_words"] != expected["same_seed_same_words"]:
            return "`same_seed_same_words`: the same generator state gave other words the second time"
        if abs(sum(got["counts"]) - draws) > 1e-6 or len(got["counts"]) != 6:
            return f"`counts`: expected {draws} draws of 6 words, received {number(sum(got['counts']))} of {len(got['counts'])}"
        wrong = counts_agree(got["counts"], expected["counts"] / expected["counts"].sum())
        return wrong and f"`counts`: {wrong}"

    @mistake(
        "greedy-rollouts",
        'The most probable word is taken where mode "sample" asks for a draw: an agent that always says the same word '
        "never learns what the others are worth.",
    )
    def greedy(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(behaviour(logits, epsilon, "argmax"), draws)

    @mistake("mode-ignored", 'The word is drawn from the softmax in mode "argmax" too; there it is the largest logit.')
    def always_samples(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(behaviour(logits, epsilon, "sample"), draws)

    @mistake("epsilon-inverted", "It follows the policy with probability epsilon and explores otherwise; the other way round.")
    def inverted(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(behaviour(logits, 1 - epsilon, mode), draws)

    @mistake("epsilon-ignored", "It never explores: with probability epsilon the word is a uniform draw from all six.")
    def never_explores(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(behaviour(logits, 0.0, mode), draws)

    @mistake("always-uniform", "Every word is drawn uniformly, whatever the logits say.")
    def uniform(self, logits, epsilon, mode, draws, repeats, seed):
        return self.answer(np.full(6, 1 / 6), draws)

    @mistake("explores-by-policy", "Exploring draws from the policy again. An exploring draw is uniform and ignores the logits.")
    def explores_by_policy(self, logits, epsilon, mode, draws, repeats, seed):
        exploiting = behaviour(logits, 0.0, mode)
        return self.answer((1 - epsilon) * exploiting + epsilon * softmax(logits), draws)

    @mistake(
        "generator-ignored",
        "The same generator state gave other words: part of the randomness comes from somewhere else (`torch.rand` without "
        "`generator=`, `random`, `numpy.random`). Then no run can be repeated.",
    )
    def generator_ignored(self, logits, epsilon, mode, draws, repeats, seed):
        random = epsilon > 0 or mode == "sample"
        return {**self.truth(logits, epsilon, mode, draws, repeats, seed), "same_seed_same_words": not random}

    @mistake("word-is-a-tensor", "The word comes as a tensor. `int(...)` or `.item()` makes it the Python int asked for.")
    def tensor(self, logits, epsilon, mode, draws, repeats, seed):
        return {**self.truth(logits, epsilon, mode, draws, repeats, seed), "types": ["Tensor"]}


@check("train", points=4, section="3.6")
class Replay(Check):
    """With the words from a list nothing is random: losses, shares and every step are numbers worked out by hand here."""

    probe = "training_replay"
    tolerance = EXACT

    def cases(self, rng):
        plain, shifted = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0]), np.array([3.0, 2.5, 3.5, 1.0, 0.5, 1.5])
        settings = (
            ([0], plain, [0.0, 1.0], 0.0, "sample", True),
            ([4, 1], plain, None, 0.0, "sample", False),
            (rng.integers(6, size=5), plain * rng.uniform(0.5, 2.0, 6), rng.normal(size=6), 0.0, "sample", True),
            (rng.permutation(6)[:5], plain, None, 0.3, "argmax", True),
            (rng.permutation(6)[:5], shifted, rng.normal(size=6), 0.4, "sample", True),
            (rng.permutation(6)[:5], shifted, rng.normal(size=6), 0.4, "argmax", False),
        )
        for number_of_case, (words, scores, baseline, epsilon, mode, weighted) in enumerate(settings):
            yield {
                "table": np.zeros((7, 6)) if number_of_case == 0 else rng.normal(size=(7, 6)),
                "words": np.asarray(words),
                "scores": scores,
                "baseline": None if baseline is None else np.asarray(baseline),
                "epsilon": epsilon,
                "mode": mode,
                "weighted": weighted,
                "seed": int(rng.integers(1, 2**31)),
                "learning_rate": 0.5,
            }

    def truth(self, table, words, scores, baseline, epsilon, mode, weighted, seed, learning_rate):
        table, path, losses = table.copy(), [], []
        for n, word in enumerate(words):
            pi = softmax(table[START])
            advantage = scores[word] - (0.0 if baseline is None else baseline[n])
            if weighted:
                advantage *= pi[word] / behaviour(table[START], epsilon, mode)[word]
            losses.append(-advantage * np.log(pi[word]))
            table[START] += learning_rate * advantage * (one_hot(word) - pi)
            path.append(table[START].copy())
        count = len(words)
        return {
            "calls_of_choose_word": count,
            "losses": np.array(losses),
            "shares": np.cumsum(np.isin(words, POSITIVE)) / np.arange(1, count + 1),
            "baseline_updates": [] if baseline is None else scores[words],
            "calls_of_after_step": count,
            "logits_after_each_step": np.array(path),
            "table": table,
            "asked_with": {"epsilon": [epsilon] * count, "mode": [mode] * count, "seed": [seed] * count},
        }

    mistakes = [
        edit(
            "baseline-first",
            "The baseline is updated before the advantage is taken, so each reward is compared with a mean it is part of: the "
            "advantage shrinks to (n-1)/n of itself, and the first one to 0.",
            {
                "        advantage = reward if baseline is None else reward - baseline.get()\n"
                "        if baseline is not None:\n"
                "            baseline.update(reward)\n": "        if baseline is not None:\n"
                "            baseline.update(reward)\n"
                "        advantage = reward if baseline is None else reward - baseline.get()\n"
            },
        ),
        edit(
            "flipped-sign",
            "The agent learns to say what is punished: somewhere a minus is missing or one too many (the loss is minus "
            "log pi(word) times the advantage, and the optimizer goes down).",
            {LOSS: "torch.log_softmax(logits, dim=-1)[word]"},
        ),
        edit(
            "exploration-unweighted",
            "With epsilon or argmax the word is not a sample of pi, and its loss is not weighted by pi(word) / behaviour(word): "
            "words that exploring says too often are learned from too often.",
            {"        if weighted:\n": "        if False:\n"},
        ),
        edit(
            "weight-inverted",
            "The importance weight is upside down: pi(word) / behaviour(word), so that what is said too often counts for less.",
            {"advantage * pi[word] / behaviour[word]": "advantage * behaviour[word] / pi[word]"},
        ),
        edit(
            "always-weighted",
            "The importance weight is applied although `weighted` is False.",
            {"        if weighted:\n": "        if True:\n"},
        ),
        edit(
            "attached-reward",
            "A gradient flows through the importance weight into the policy. The whole advantage is a constant: `detach` it.",
            {"torch.as_tensor(advantage, dtype=logits.dtype).detach()": "torch.as_tensor(advantage, dtype=logits.dtype)"},
        ),
        edit(
            "gradients-pile-up",
            "Gradients of earlier iterations are still there when the next is added: `optimizer.zero_grad()` before `backward`.",
            {"        optimizer.zero_grad()\n": ""},
        ),
        edit(
            "cut-graph",
            "The loss does not depend on the agent's weights: the logits were detached or computed under `no_grad`.",
            {"logits = agent(start)[0]  # (1, 6) -> (6,)": "logits = agent(start)[0].detach()"},
        ),
        edit(
            "word-fed-back",
            "The agent reads the word it said last. In this lesson every word is a first word: it always reads START.",
            {"logits = agent(start)[0]  # (1, 6) -> (6,)": "logits = agent(torch.tensor([word]) if losses else start)[0]"},
        ),
        edit(
            "baseline-never-updated",
            "The baseline never hears of a reward, so it stays where it began.",
            {"            baseline.update(reward)\n": "            pass\n"},
        ),
        edit(
            "baseline-gets-advantage",
            "The baseline is updated with the advantage. It is the mean of the rewards.",
            {"            baseline.update(reward)\n": "            baseline.update(advantage)\n"},
        ),
        edit(
            "share-counts-rewards",
            "The share counts rewards above zero. With a shifted critic every reward is: count the words in POSITIVE.",
            {"positive_words += word in POSITIVE": "positive_words += reward > 0"},
        ),
        edit(
            "share-off-by-one",
            "The share is divided by the wrong number of words: after the first word it is 0 or 1.",
            {"shares.append(positive_words / iteration)": "shares.append(positive_words / (iteration + 1))"},
        ),
        edit(
            "step-after-hook",
            "`after_step` is called before the optimizer's step, so it sees the old weights.",
            {
                "        optimizer.step()\n": "",
                "            after_step(agent)\n": "            after_step(agent)\n        optimizer.step()\n",
            },
        ),
        edit(
            "seed-ignored",
            "The generator is not seeded with `seed`, so other seeds give the same run or the same seed gives another.",
            {"torch.Generator().manual_seed(seed)": "torch.Generator().manual_seed(0)"},
        ),
        edit(
            "epsilon-lost",
            "`choose_word` is called without `epsilon` and `mode`, so the agent never explores.",
            {"choose_word(logits, epsilon, generator, mode)": "choose_word(logits, 0.0, generator)"},
        ),
    ]


@check("train", points=2, section="3.6")
class Learns(Check):
    """Three runs of 30 steps from random tables. How far below the worst correct run the threshold lies is in the tests."""

    probe = "trained_tables"

    def cases(self, rng):
        yield {
            "tables": rng.uniform(-0.5, 0.5, size=(3, 7, 6)),
            "seeds": rng.integers(2**31, size=3),
            "iterations": 30,
            "learning_rate": 1.0,
        }

    def truth(self, tables, seeds, iterations, learning_rate):
        return {"at_least": 0.8}

    def judge(self, got, expected, tables, **case):
        logits = np.asarray(got["logits"], dtype=np.float64)
        if logits.shape != (len(tables), 6):
            return f"`logits`: expected shape {(len(tables), 6)}, received {logits.shape}"
        log_odds = np.logaddexp.reduce(logits[:, :3], axis=1) - np.logaddexp.reduce(logits[:, 3:], axis=1)
        positive = 1 / (1 + np.exp(-log_odds))
        if (positive >= expected["at_least"]).all():
            return None
        shown = ", ".join(number(p) for p in positive)
        return f"`logits`: after training P(positive) is {shown}; a learning agent is above {expected['at_least']} every time"


@check("plot_training", points=2, section="3.7")
class ThreePlots(Check):
    probe = "training_figure"
    tolerance = EXACT

    def cases(self, rng):
        yield {
            "losses": rng.normal(size=12),
            "positive": np.sort(rng.uniform(size=12)),
            "kernel_size": 5,
        }

    def truth(self, losses, positive, kernel_size):
        return self.answer(losses, running_median(losses, kernel_size), positive)

    @staticmethod
    def answer(*curves):
        labels, places = (("loss", ""), ("loss", ""), ("positive", "iteration")), ([0.7, 0.9], [0.4, 0.6], [0.1, 0.3])
        return {
            "axes": [
                {"bottom_and_top": place, "y_limits": [-np.inf, np.inf], "lines": [curve], "y_label": y, "x_label": x}
                for curve, place, (y, x) in zip(curves, places, labels)
            ]
        }

    def judge(self, got, expected, **case):
        if len(got["axes"]) != 3:
            return f"`axes`: expected 3 under one another, received {len(got['axes'])}"
        if any(low["bottom_and_top"][1] > high["bottom_and_top"][0] for high, low in zip(got["axes"], got["axes"][1:])):
            return "`axes`: expected 3 under one another, these lie side by side or overlap"
        for place, mine, theirs in zip(("top", "middle", "bottom"), got["axes"], expected["axes"]):
            wrong = self.panel(mine, theirs)
            if wrong:
                return f"`{place} axes`: {wrong}"
        return None

    def panel(self, mine, theirs):
        wanted = theirs["lines"][0]
        if not any(difference(line, wanted, self.tolerance) is None for line in mine["lines"]):
            found = difference(mine["lines"][0], wanted, self.tolerance) if mine["lines"] else None
            return found.split(": ", 1)[1] if found else "there is no line"
        low, high = mine["y_limits"]
        if wanted.min() < low or wanted.max() > high:
            shown = f"{number(low)} to {number(high)}"
            return f"the curve runs from {number(wanted.min())} to {number(wanted.max())}, in view is {shown}"
        for label in ("y_label", "x_label"):
            if theirs[label] not in str(mine[label]).lower():
                return f"{label} is {mine[label]!r} and does not say {theirs[label]!r}"
        return None

    @mistake("mean-for-median", "The middle curve is a running mean, which one outlier moves. `medfilt` takes running medians.")
    def mean_for_median(self, losses, positive, kernel_size):
        return self.answer(losses, np.convolve(losses, np.full(kernel_size, 1 / kernel_size), "same"), positive)

    @mistake("raw-twice", "The middle curve is the raw loss again: smooth it with `scipy.signal.medfilt(losses, kernel_size)`.")
    def raw_twice(self, losses, positive, kernel_size):
        return self.answer(losses, losses, positive)

    @mistake("smoothed-on-top", "The top curve is smoothed too. It shows the losses as they came.")
    def smoothed_on_top(self, losses, positive, kernel_size):
        smooth = running_median(losses, kernel_size)
        return self.answer(smooth, smooth, positive)

    @mistake("kernel-ignored", "The median is over 3 losses, medfilt's own default; `kernel_size` says over how many.")
    def kernel_ignored(self, losses, positive, kernel_size):
        return self.answer(losses, running_median(losses, 3), positive)


def running_median(values, size):
    """As scipy.signal.medfilt: beyond both ends there are zeros."""
    padded = np.pad(values, size // 2)
    return np.array([np.median(padded[i : i + size]) for i in range(len(values))])
