"""The silent bug of lesson 11: what must be true of the training, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

RIGHT = "    return behind & (attention_mask != 0)\n"
WRONG = "    return behind & (tokens != END)\n"
LOSS = "        loss = -F.logsigmoid(margin).mean()\n"
SUMMED = "    return torch.where(scored, log_probs, 0.0).sum(dim=1)\n"
UPDATES = "    for _ in range(updates):\n"
MARGIN = "        margin = margins(log_probs, ref_log_probs, beta)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("train_dpo", points=4, section="11.10")
class WhereThePolicyEnds(Check):
    """Several steps on answers that end early, late and not at all, of one prompt."""

    probe = "training"
    tolerance = 1e-8  # up to 12 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for prompt, count, time, updates in (([2], 2, 2, 4), ([3, 1], 5, 4, 12)):
            answers = []
            for place in range(2 * count):
                answer = rng.integers(1, 4, size=time).tolist()
                length = int(rng.integers(1, time + 1)) if place % 3 else time
                answers.append([*answer[: length - 1], 0] if place % 3 else answer)
            rows = len(prompt) + time
            yield {"policy": self.tables(rng, rows), "reference": self.tables(rng, rows), "prompt": prompt,
                   "pairs": [[answers[i], answers[count + i]] for i in range(count)], "beta": 0.7, "updates": updates,
                   "learning_rate": 1.0}  # fmt: skip

    @staticmethod
    def tables(rng, rows):
        return {"words": rng.normal(size=(4, 4)), "places": rng.normal(size=(rows, 4))}

    def truth(self, policy, reference, prompt, pairs, beta, updates, learning_rate):
        from .dpo_replay import train

        rows = [[*prompt, *pair[side]] for side in (0, 1) for pair in pairs]
        length = max(map(len, rows))
        batch = {"tokens": np.array([row + [0] * (length - len(row)) for row in rows]),
                 "attention_mask": np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
                 "prompt_lengths": np.full(len(rows), len(prompt))}  # fmt: skip
        log, words, places = train(policy, reference, [batch] * updates, {"beta": beta}, learning_rate)
        names = {"loss": "loss", "accuracy": "accuracy", "chosen": "chosen_log_prob", "rejected": "rejected_log_prob"}
        told = {mine: np.array([row[theirs] for row in log]) for mine, theirs in names.items()}
        return {"words": words[-1], "places": places[-1], **told}

    mistakes = [
        edit("bug-untouched", "The training is as quietly wrong as it was given to you. Take an answer that ends early and add "
             "up its log-probability by hand, token by token: which term does the file leave out?", {RIGHT: WRONG}),
        edit("padding-scored", "Now what fills up a row is scored too, as if the text had ended several times. An END that was "
             "said counts, the ENDs behind it do not.", {RIGHT: "    return behind\n"}),
        edit("prompt-in-loss", "Now the prompt is scored as well. It cancels in the margin, but the log-probabilities that are "
             "reported are not those of the answers.", {RIGHT: "    return attention_mask != 0\n"}),
        edit("dpo-mean", SYMPTOM + "the mean over tokens hides how many of them are missing, and gives every length a beta of "
             "its own."
             + CAUSE, {RIGHT: WRONG, SUMMED: "    return torch.where(scored, log_probs, 0.0).sum(dim=1) / "
                  "scored.sum(dim=1).clamp(min=1)\n"}),
        edit("length-penalty", SYMPTOM + "a price on length brings the lengths where you want them and the policy somewhere else."
             + CAUSE, {RIGHT: WRONG, SUMMED: "    return torch.where(scored, log_probs, 0.0).sum(dim=1) - 0.1 * "
                  "scored.sum(dim=1)\n"}),
        edit("dearer-kl", SYMPTOM + "with a larger beta the policy stays nearer to the reference, and another optimum is aimed "
             "at."
             + CAUSE, {RIGHT: WRONG, MARGIN: MARGIN.replace(", beta)", ", 2 * beta)")}),
        edit("stops-early", SYMPTOM + "fewer updates leave it half done." + CAUSE,
             {RIGHT: WRONG, UPDATES: "    for _ in range(updates // 2 + 1):\n"}),
        edit("gradients-clipped", SYMPTOM + "shorter steps in the same direction go wrong more slowly." + CAUSE,
             {RIGHT: WRONG, "        loss.backward()\n": "        loss.backward()\n        torch.nn.utils.clip_grad_norm_("
                                                         "list(policy.parameters()), 0.05)\n"}),
        edit("loss-smoothed", SYMPTOM + "a softer loss (here with one tenth of the labels turned) moves less far." + CAUSE,
             {RIGHT: WRONG, LOSS: "        loss = -(0.9 * F.logsigmoid(margin) + 0.1 * F.logsigmoid(-margin)).mean()\n"}),
    ]  # fmt: skip
