"""The silent bug of lesson 15: what must be true of the training, wherever and however it is mended.

The truth is the reference solution's, in float64. Points are quarters, so that a group's mean is exact where all are equal.
"""

import numpy as np

from autograder.checks import Check, check, edit

GROUPS = "    groups, axis = rewards.view(-1, group_size), 1\n"
WRONG = {GROUPS: "    groups, axis = rewards.view(group_size, -1), 0\n"}
SPREAD = "    spread = groups.std(dim=axis, correction=0, keepdim=True)\n"
TOLD = "    return advantages.flatten(), float((spread == 0).double().mean())\n"
MINUS = "    advantages = (groups - groups.mean(dim=axis, keepdim=True)) / torch.where(spread > 0, spread, 1.0)\n"
PAID = "    return 0.0 if number is None else points if number == right else points / 2\n"
ROWS = "    return torch.arange(questions).repeat_interleave(group_size)\n"
UPDATES = "    for _ in range(updates):\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("train_sums", points=4, section="15.9")
class EveryGroupItsOwnQuestion(Check):
    """Several updates on answers that are right, wrong, without a digit and without an end, to sums of different worth."""

    probe = "training"
    tolerance = 1e-8  # up to 9 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for questions, group, time, updates, epochs in ((2, 2, 2, 1, 1), (3, 4, 3, 3, 3), (4, 3, 2, 2, 2)):
            sums = rng.permutation(9)[:questions] + 1
            answers = rng.integers(0, 10, size=(updates, questions, group, time))
            lengths = rng.integers(1, time + 1, size=answers.shape[:3])
            kind = rng.random(answers.shape[:3])
            for at in np.ndindex(answers.shape[:3]):
                if kind[at] < 0.5:  # right
                    answers[(*at, 0)], lengths[at] = sums[at[1]], 2
                if lengths[at] < time or kind[at] < 0.8:
                    answers[(*at, slice(lengths[at] - 1, None))] = 10
            answers[0, 0, 0, :2], lengths[0, 0, 0] = [sums[0], 10], 2  # the first group has a right one and a wrong one
            answers[0, 0, 1, :2], lengths[0, 0, 1] = [0, 10], 2
            masks = np.arange(time) < lengths[..., None]
            answers[~masks] = 10
            prefixes = sum(11**t for t in range(time))
            yield {
                "logits": rng.normal(size=(questions, prefixes, 11)), "sums": sums.tolist(),
                "points": (rng.permutation(questions) + 1.0).tolist(), "answers": answers, "masks": masks,
                "settings": {"group_size": group, "clip": 0.2, "epochs": epochs}, "learning_rate": 3.0,
            }  # fmt: skip

    mistakes = [
        edit("bug-untouched", "The training is as quietly wrong as it was given to you. Write down, for two questions and a "
             "group of three, which question each row answers, and which rows the file compares with each other.", WRONG),
        edit("rows-moved-alone", "Now the rows of a question stand apart, question after question and round again, and the "
             "rewards are cut into groups as if they stood together: the same error from the other end.",
             {ROWS: "    return torch.arange(questions).repeat(group_size)\n"}),
        edit("advantages-out-of-order", "The groups are right, and the advantages come back in another order than the rows: each "
             "row is told what another one was worth.", {TOLD: TOLD.replace("advantages.flatten()", "advantages.T.flatten()")}),
        edit("batch-baseline", SYMPTOM + "one mean for the whole rollout compares sums that are worth different points just as "
             "well." + CAUSE, {GROUPS: "    groups, axis = rewards.view(1, -1), 1\n"}),
        edit("points-evened-out", SYMPTOM + "with the same points for every sum the questions can be compared with each other; "
             "what they are worth is part of the task." + CAUSE,
             WRONG | {PAID: "    return 0.0 if number is None else 1.0 if number == right else 0.5\n"}),
        edit("no-points-for-trying", SYMPTOM + "without the half for any number wrong answers are no longer rewarded, and the "
             "rewards are others than the judge's." + CAUSE, WRONG | {PAID: "    return points if number == right else 0.0\n"}),
        edit("scale-of-the-batch", SYMPTOM + "another scale makes the wrong differences smaller or larger; they stay wrong."
             + CAUSE, WRONG | {SPREAD: "    spread = torch.full_like(groups.mean(dim=axis, keepdim=True), "
                               "rewards.std(correction=0).item())\n"}),
        edit("not-scaled", SYMPTOM + "without the division the wrong differences have another size." + CAUSE,
             WRONG | {MINUS: "    advantages = groups - groups.mean(dim=axis, keepdim=True)\n"}),
        edit("stops-early", SYMPTOM + "fewer updates leave it half done." + CAUSE,
             WRONG | {UPDATES: "    for _ in range(updates // 2 + 1):\n"}),
        edit("negatives-dropped", SYMPTOM + "with the negative advantages at 0 the easy sums are no longer pushed away, and no "
             "longer learned by comparison either." + CAUSE,
             WRONG | {TOLD: TOLD.replace("advantages.flatten()", "advantages.flatten().clamp(min=0)")}),
    ]  # fmt: skip
