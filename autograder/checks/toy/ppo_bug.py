"""The silent bug of lesson 6: what must be true of the training loop, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

EDGE = "\n    edge = torch.where(advantages >= 0, 1 + clip, 1 - clip) * advantages\n"
FILE = EDGE + "    gain = torch.minimum(ratio * advantages, edge)\n"
WRONG = EDGE + (
    "    gain = torch.where(advantages >= 0, torch.minimum(ratio * advantages, edge), torch.maximum(ratio * advantages, edge))\n"
)
RATIO = "    ratio = (log_probs - old_log_probs).exp()\n"
BACKWARD = "            loss.backward()\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("train_writer", points=4, section="6.15")
class WhereTheWriterEnds(Check):
    """Three rollouts of scripted sentences, six steps on each: far enough for ratios to pass both edges with both signs."""

    probe = "training"
    tolerance = 1e-8  # up to 18 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for updates, count, length, vocabulary in ((1, 3, 2, 3), (3, 6, 3, 4)):
            rows = sum(vocabulary**t for t in range(length))
            tokens = rng.integers(vocabulary, size=(updates, count, length))
            ends = tokens == vocabulary - 1
            mask = np.cumsum(ends, axis=-1) - ends == 0
            yield {"policy": rng.normal(size=(rows, vocabulary)), "value": rng.normal(size=rows),
                   "reference": rng.normal(size=(rows, vocabulary)), "tokens": np.where(mask, tokens, vocabulary - 1),
                   "mask": mask, "scores": rng.normal(size=(updates, count)),
                   "settings": {"epochs": 6, "beta": 0.3, "lam": 0.8, "clip": 0.2, "rate": 3.0}}  # fmt: skip
        table = rng.normal(size=(1, 3))  # sentences of one token, all as good as expected: nothing to learn but the values
        yield {"policy": table, "value": np.zeros(1), "reference": table, "tokens": np.array([[[0], [1], [2]]]),
               "mask": np.ones((1, 3, 1), dtype=bool), "scores": np.full((1, 3), 0.5),
               "settings": {"epochs": 2, "beta": 0.3, "lam": 0.8, "clip": 0.2, "rate": 0.5}}  # fmt: skip

    def truth(self, policy, value, reference, tokens, mask, scores, settings):
        from .ppo_replay import token_log_probs, train

        c = {"minibatch_size": tokens.shape[1], "epochs": settings["epochs"], "gamma": 1.0, "lam": settings["lam"],
             "clip": settings["clip"], "value_clip": np.inf, "kl_coef": settings["beta"], "value_coef": 1.0, "entropy_coef": 0.0,
             "whiten": True, "temperature": 1.0}  # fmt: skip
        _, policies, value = train(policy, value, reference, tokens, mask, scores, c, settings["rate"])
        ratios = []
        for before, after, written, real in zip([policy, *policies], policies, tokens, mask):
            ratios.append(np.exp(token_log_probs(after, written, 1.0) - token_log_probs(before, written, 1.0))[real])
        return {"policy": policies[-1], "value": value, "reward": scores.mean(axis=1), "least": [r.min() for r in ratios],
                "largest": [r.max() for r in ratios]}  # fmt: skip

    mistakes = [
        edit("bug-untouched", "The loop is as quietly wrong as it was given to you. After an update, look at the tokens whose "
             "ratio has left the interval from 0.8 to 1.2: what do they have in common, and which line should have held them?",
             {FILE: WRONG}),
        edit("bad-tokens-ignored", SYMPTOM + "with the ratio clamped (or the negative advantages gone) no bad token has a "
             "gradient any more, and half of what the scores say is thrown away." + CAUSE,
             {FILE: WRONG, RATIO: "    ratio = (log_probs - old_log_probs).exp().clamp(1 - clip, 1 + clip)\n"}),
        edit("bad-tokens-unclipped", "Now nothing holds the ratio of a bad token: its loss is not clipped on either side. The "
             "clip is for both signs of the advantage.",
             {FILE: WRONG.replace("torch.maximum(ratio * advantages, edge)", "ratio * advantages")}),
        edit("stops-early", SYMPTOM + "stopping when the ratios run away shortens the damage and leaves its cause." + CAUSE,
             {FILE: WRONG, BACKWARD: "            if ((log_probs - old_log_probs).exp() - 1).abs()[mask].max() > 2 * clip:\n"
                                     "                break\n" + BACKWARD}),
        edit("gradients-clipped", SYMPTOM + "shorter steps in the same direction go wrong more slowly." + CAUSE,
             {FILE: WRONG,
              BACKWARD: BACKWARD + "            nn.utils.clip_grad_norm_([*policy.parameters(), *value.parameters()], 0.1)\n"}),
        edit("fewer-epochs", SYMPTOM + "with fewer epochs the ratios have less time to run away. Sixteen are meant to do no "
             "harm." + CAUSE,
             {FILE: WRONG, "        for _ in range(epochs):\n": "        for _ in range(epochs // 4 + 1):\n"}),
        edit("lower-rate", SYMPTOM + "with a smaller learning rate everything goes wrong more slowly." + CAUSE,
             {FILE: WRONG, "*value.parameters()], lr=rate)": "*value.parameters()], lr=rate / 10)"}),
        edit("dearer-kl", SYMPTOM + "a higher price for leaving the *reference* does not hold the policy to the *old* one, and "
             "another optimum is aimed at." + CAUSE,
             {FILE: WRONG, "token_rewards(scores, log_ratio, mask, beta)": "token_rewards(scores, log_ratio, mask, 2 * beta)"}),
        edit("clip-max", "Now the larger of the two terms is taken for both signs: nothing is held back any more. What was wrong "
             "was one half of this line, what was right the other.",
             {FILE: FILE.replace("torch.minimum", "torch.maximum")}),
        edit("clip-only", "Only the clipped term is left. A ratio that went the wrong way then has no gradient to bring it back.",
             {FILE: FILE.replace("torch.minimum(ratio * advantages, edge)", "ratio.clamp(1 - clip, 1 + clip) * advantages")}),
    ]  # fmt: skip
