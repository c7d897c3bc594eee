"""The silent bug of lesson 9: what must be true of the training loop, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

from .reinforce import EOS, PAD, SIZES, prompts_of, weights_of

GOOD = "    of_the_row = log_probs.masked_fill(~chosen[:, 1:], 0.0).sum(dim=1)\n"
BAD = "    of_the_row = log_probs.masked_fill(~chosen[:, :-1], 0.0).sum(dim=1)\n"
BACKWARD = "        loss.backward()\n"
STEP = "        optimizer.step()\n"
PLACE = "    return written.attention_mask.bool() & (place >= written.prompt_length)\n"
ADVANTAGES = "    return (rewards - rewards.mean()) * len(rewards) / (len(rewards) - 1)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is elsewhere: print, for one row, which tokens' log-probabilities enter its sum."


@check("train_phrases", points=4, section="9.11")
class WhereThePolicyEnds(Check):
    """Updates on scripted rows of a tiny GPT-2, with padding on both sides: all its weights after each."""

    probe = "training"
    tolerance = 1e-7  # up to three gradient steps of a GPT-2 in float64, each from where the last one ended

    def cases(self, rng):
        for lengths, updates in (([2, 2], 1), ([2, 1, 3, 2], 3)):
            weights = weights_of(rng)
            batches = [self.batch(rng, weights, lengths) for _ in range(updates)]
            yield {"sizes": SIZES, "weights": weights, "batches": batches, "rate": 0.05}

    def batch(self, rng, weights, lengths):
        from .reinforce_truth import written

        prompts, mask = prompts_of(rng, lengths)
        tokens, attention = written(rng, SIZES, weights, prompts, mask, 3, EOS, PAD, 1.0, 0)
        tokens[0, -1], attention[0, -1] = PAD, 0  # one row that ends early, whatever was drawn
        return {"prompts": prompts, "tokens": tokens, "attention_mask": attention, "rewards": rng.uniform(size=len(lengths)),
                "others": np.zeros(0)}  # fmt: skip

    def truth(self, sizes, weights, batches, rate):
        from .reinforce_truth import training

        settings = {"baseline": "batch", "group_size": 1, "temperature": 1.0, "top_k": 0}
        log, path = training(sizes, weights, batches, settings, rate, EOS)
        return {"weights after each update": path, "reward": [line["reward"] for line in log],
                "length": [line["completion_length"] for line in log]}  # fmt: skip

    mistakes = [
        edit("bug-untouched", "The loop is as quietly wrong as it was given to you. Take one row and one update: for which of "
             "its tokens does the probability have a gradient, and for which should it?", {GOOD: BAD}),
        edit("prompt-in-loss", "Now the first token the policy chose is in the sum, and the prompt is too: the policy did not "
             "choose that.",
             {GOOD: "    of_the_row = log_probs.masked_fill("
                    "~written.attention_mask[:, 1:].bool(), 0.0).sum(dim=1)\n"}),
        edit("padding-scored", "The first token is right now; but what stands behind a row's end is in the sum still. Nobody "
             "chose it.",
             {GOOD: BAD.replace("chosen[:, :-1]", "(chosen[:, :-1] | chosen[:, 1:])")}),
        edit("one-too-early", "Moved the right way, and too far: the prompt's last token is in the sum now, or the end is not.",
             {GOOD: BAD, PLACE: PLACE.replace("written.prompt_length)", "written.prompt_length - 2)")}),
        edit("dropped-token", "The padding is out of the sum now, but the first token the policy chose is still missing.",
             {GOOD: BAD.replace("chosen[:, :-1]", "(chosen[:, :-1] & chosen[:, 1:])")}),
        edit("unshifted-log-probs", "Mask and log-probabilities agree now, and both are wrong: logits at a token are scored "
             "against that token itself, which they have read.",
             {GOOD: BAD, "    return log_probs.gather(-1, written.tokens[:, 1:].unsqueeze(-1))":
              "    return log_probs.gather(-1, written.tokens[:, :-1].unsqueeze(-1))"}),
        edit("lower-rate", SYMPTOM + "with a smaller learning rate everything goes wrong more slowly." + CAUSE,
             {GOOD: BAD, "torch.optim.SGD(policy.parameters(), lr=rate)": "torch.optim.SGD(policy.parameters(), lr=rate / 10)"}),
        edit("gradients-clipped", SYMPTOM + "shorter steps in the same direction." + CAUSE,
             {GOOD: BAD, BACKWARD: BACKWARD + "        nn.utils.clip_grad_norm_(policy.parameters(), 0.1)\n"}),
        edit("no-baseline", SYMPTOM + "without the baseline the steps are larger and noisier, and about the same tokens." + CAUSE,
             {GOOD: BAD, ADVANTAGES: "    return rewards\n"}),
        edit("other-optimizer", SYMPTOM + "another optimizer scales the same gradient in another way." + CAUSE,
             {GOOD: BAD, "torch.optim.SGD(policy.parameters(), lr=rate)": "torch.optim.Adam(policy.parameters(), lr=rate)"}),
    ]  # fmt: skip
