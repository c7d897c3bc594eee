"""The silent bug of lesson 17: what must be true of the report, wherever and however it is mended."""

import math
from itertools import combinations

import numpy as np

from autograder.checks import Check, check, edit, mistake

ORDER = "    order = proxy.argsort(dim=1)\n"
BOTH = "    return proxy.gather(1, order), gold.gather(1, order)\n"
WRONG = {ORDER: "    ranked = [scores.sort(dim=1).values for scores in (proxy, gold)]\n", BOTH: "    return ranked[0], "
                                                                                                "ranked[1]\n"}
MEANS = "    return (by_proxy @ weights).mean().item(), (by_gold @ weights).mean().item()\n"
WEIGHTS = "    weights = place_weights(proxy.shape[1], n)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("report", points=4, section="17.9")
class GoldOfTheChosen(Check):
    """Reports on scores of which no two are equal."""

    probe = "report"
    tolerance = 1e-9  # float64 means of at most some hundred numbers of size about 1

    def cases(self, rng):
        yield {"proxy": np.array([[1.0, 2.0]]), "gold": np.array([[1.0, 0.0]]), "sizes": np.array([1, 2])}
        for prompts, samples in ((1, 3), (4, 6), (8, 7)):
            sizes = np.arange(1, samples + 1)
            yield {"proxy": rng.normal(size=(prompts, samples)), "gold": rng.normal(size=(prompts, samples)), "sizes": sizes}

    def truth(self, proxy, gold, sizes):
        told = {"n": [float(n) for n in sizes], "kl": [math.log(n) - 1 + 1 / n for n in sizes], "proxy": [], "gold": []}
        for n in sizes:
            kept = [(row, max(choice, key=lambda i: proxy[row, i])) for row in range(len(proxy))
                    for choice in combinations(range(proxy.shape[1]), int(n))]  # fmt: skip
            told["proxy"].append(float(np.mean([proxy[at] for at in kept])))
            told["gold"].append(float(np.mean([gold[at] for at in kept])))
        return {**told, "advice": int(sizes[int(np.argmax(told["gold"]))])}

    def changed(self, gold, **case):
        """The truth with another row of gold scores, and what is advised then."""
        told = self.truth(**case)
        return {**told, "gold": gold, "advice": int(case["sizes"][int(np.argmax(gold))])}

    @mistake("first-answers-alone", SYMPTOM + "the gold score is now that of the first n answers' best, while the proxy score "
             "is still averaged over all choices of n." + CAUSE)  # fmt: skip
    def first_answers(self, proxy, gold, sizes):
        kept = [proxy[:, :n].argmax(axis=1) for n in sizes]
        told = [float(gold[np.arange(len(gold)), places].mean()) for places in kept]
        return self.changed(told, proxy=proxy, gold=gold, sizes=sizes)

    mistakes = [
        edit("bug-untouched", "The report is as quietly wrong as it was given to you. Take two answers of one prompt: the "
             "first has the higher gold score, the second the higher proxy score. Which gold score does the report show for n "
             "= 2?",
             WRONG),
        edit("by-gold-both", "Now both columns are in the order of the *gold* score: the best answer is chosen by whom nobody "
             "can ask.",
             {ORDER: "    order = gold.argsort(dim=1)\n"}),
        edit("best-first", "Both columns are sorted together, but the best answer comes first: the weights are made for the "
             "worst first.",
             {ORDER: "    order = proxy.argsort(dim=1, descending=True)\n"}),
        edit("gold-averaged", SYMPTOM + "the gold score no longer rises with n, since it is now the mean over all answers, "
             "whichever is shown." + CAUSE,
             WRONG | {MEANS: "    return (by_proxy @ weights).mean().item(), gold.mean().item()\n"}),
        edit("original-order", "The gold scores are left in the order in which the answers came. Each must stay with its own "
             "answer when the answers are sorted.",
             {BOTH: "    return proxy.gather(1, order), gold\n"}),
        edit("ranks-for-scores", "argsort says which answer stands at each place. Its own argsort, the rank of each answer, "
             "is not what `gather` needs.",
             {BOTH: "    return proxy.gather(1, order), gold.gather(1, order.argsort(dim=1))\n"}),
        edit("fewer-answers-advised", SYMPTOM + "the advice is now one of few answers, but the gold scores it rests on are as "
             "they were." + CAUSE,
             WRONG | {"    return int(max(rows, key=lambda row: row[\"gold\"])[\"n\"])\n":
                      "    return int(max(rows, key=lambda row: row[\"gold\"] - row[\"kl\"])[\"n\"])\n"}),
    ]  # fmt: skip


@check("report", points=1, section="17.9")
class ThereIsAPeak(Check):
    probe = "settings"
    tolerance = 0.0  # a yes or no

    def cases(self, rng):
        yield {}

    def truth(self):
        return {"draw fewer than all": True}

    mistakes = [edit("bug-untouched", "The file's own report still advises to draw as many answers as there are.", WRONG)]
