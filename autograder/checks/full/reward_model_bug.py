"""The silent bug of lesson 12: what must be true of the weights that training ends with, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

RIGHT = "    return {name: value.clone() for name, value in model.state_dict().items()}\n"
WRONG = "    return {name: value.detach() for name, value in model.state_dict().items()}\n"
UPDATES = "    for update in range(updates + 1):\n"
NOW = "                now = log_loss(model, validation).item()\n"
BETTER = """            if now < best:
                best, kept = now, weights_of(model)
"""
STEP = "            optimizer.step()\n"
BACK = "    model.load_state_dict(kept)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " What was kept is still not what was best: the cause is in how it is kept."


@check("fit", points=4, section="12.8")
class WhereTrainingEnds(Check):
    """Choices that are soon known by heart, and validation choices on which that shows."""

    probe = "fitting"
    tolerance = 1e-8  # up to 12 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for count, updates, look_every in ((2, 4, 1), (3, 12, 3), (4, 11, 2)):
            yield self.overfitted(rng, count, updates, look_every)

    @staticmethod
    def overfitted(rng, count, updates, look_every):
        """Choices whose best look is neither the first nor the last one."""
        from .reward_model_truth import train

        def texts(number):
            return [rng.integers(5, size=rng.integers(1, 5)).tolist() for _ in range(number)]

        for _ in range(500):
            case = {"words": 0.3 * rng.normal(size=5), "training": list(map(list, zip(texts(count), texts(count)))),
                    "validation": list(map(list, zip(texts(3), texts(3)))), "updates": updates, "look_every": look_every,
                    "learning_rate": 1.0}  # fmt: skip
            losses = WhereTrainingEnds.looks(case, train)
            best = int(np.argmin(losses))
            if 0 < best < len(losses) - 1 and losses[-1] > losses[best] + 0.02 and losses[0] > losses[best] + 0.02:
                return case
        return case

    @staticmethod
    def looks(case, train):
        from .reward_model_truth import pair_loss

        batch, held = (WhereTrainingEnds.batch(case[name]) for name in ("training", "validation"))
        settings = {"evaluate_every": case["look_every"], "patience": 10**9}
        found = train(case["words"], [batch] * case["updates"], [held], settings, case["learning_rate"])
        return [pair_loss(case["words"], [held]), *(row["validation_loss"] for row in found["log"] if "validation_loss" in row)]

    @staticmethod
    def batch(choices):
        texts = [chosen for chosen, _ in choices] + [rejected for _, rejected in choices]
        length = max(map(len, texts))
        return {"tokens": np.array([text + [0] * (length - len(text)) for text in texts]),
                "attention_mask": np.array([[1] * len(text) + [0] * (length - len(text)) for text in texts])}  # fmt: skip

    def truth(self, words, training, validation, updates, look_every, learning_rate):
        from .reward_model_truth import pair_loss, train

        batch, held = self.batch(training), self.batch(validation)
        settings = {"evaluate_every": look_every, "patience": 10**9}
        found = train(words, [batch] * updates, [held], settings, learning_rate)
        tables = [words, *found["words after each step"]]
        at = list(range(0, updates + 1, look_every))
        return {"words": found["words at the end"], "best": found["kept"]["best"], "updates": np.array(at, dtype=float),
                "training losses": np.array([pair_loss(tables[update], [batch]) for update in at]),
                "validation losses": np.array([pair_loss(tables[update], [held]) for update in at])}  # fmt: skip

    mistakes = [
        edit("bug-untouched", "Training ends as quietly wrong as it was given to you. Print one number of what `weights_of` "
             "has kept, right after the best look and again ten updates later.", {RIGHT: WRONG}),
        edit("stops-at-the-first-rise", SYMPTOM + "training that stops as soon as a look is worse than the one before ends one "
             "look too late, and is not let past a bump." + CAUSE,
             {RIGHT: WRONG, BETTER: "            if now > best:\n                break\n" + BETTER}),
        edit("fewer-updates", SYMPTOM + "with half the updates there is less time to go wrong." + CAUSE,
             {RIGHT: WRONG, UPDATES: "    for update in range(updates // 2 + 1):\n",
              "        if update < updates:\n": "        if update < updates // 2:\n"}),
        edit("smaller-steps", SYMPTOM + "smaller steps go wrong more slowly." + CAUSE,
             {RIGHT: WRONG, STEP: "            for group in optimizer.param_groups:\n                group['lr'] *= 0.7\n"
                                   + STEP}),
        edit("weight-decay", SYMPTOM + "weights that are pulled to zero remember less." + CAUSE,
             {RIGHT: WRONG, STEP: STEP + "            with torch.no_grad():\n                for p in model.parameters():\n"
                                         "                    p.mul_(0.9)\n"}),
        edit("loss-smoothed", SYMPTOM + "a softer loss (here with one tenth of the choices turned) is less sure of itself, and "
             "another one than was asked for." + CAUSE,
             {RIGHT: WRONG, "    return -F.logsigmoid(chosen - rejected).mean()\n":
              "    return -(0.9 * F.logsigmoid(chosen - rejected) + 0.1 * F.logsigmoid(rejected - chosen)).mean()\n"}),
        edit("told-not-kept", SYMPTOM + "what is returned and told is not what the model is." + CAUSE,
             {RIGHT: WRONG, "    return best\n": "    with torch.no_grad():\n        return log_loss(model, "
                 "validation).item()\n"}),
        edit("last-is-kept", "Now the weights of the last look are kept, whether they were better or not.",
             {BETTER: "            best, kept = min(best, now), weights_of(model)\n"}),
        edit("start-is-kept", "Now training ends with the weights that it began with: what is kept must change when a look is "
             "better.",
             {BETTER: "            best = min(best, now)\n"}),
        edit("chosen-by-training-loss", "The best weights are now those with the lowest training loss, which are the last ones.",
             {BETTER: BETTER.replace("now < best", "loss.item() < getattr(fit, 'low', math.inf)").replace(
                 "best, kept = now,", "fit.low, best, kept = loss.item(), min(best, now),")}),
    ]  # fmt: skip
