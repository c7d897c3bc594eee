"""The silent bug of lesson 13: what must be true of the training, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

START = "    start = torch.full_like(labels[:, :1], world.START)\n"
BEFORE = "    before = torch.cat([start, labels[:, :-1]], dim=1)\n"
WRONG = {START: "", BEFORE: "    before = labels.roll(1, dims=1)\n"}
LOSS = "        loss = token_loss(logits, labels)\n"
CROSS = "    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("train_sft", points=4, section="13.8")
class WhereTheModelEnds(Check):
    """Several steps on answers of many lengths, some batches of a single length."""

    probe = "training"
    tolerance = 1e-8  # up to 6 steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        for sizes in ([[2]], [[1, 3], [3, 3]], [[4, 2, 1], [1, 1, 1], [3, 4, 4], [2, 1, 3], [2, 2, 2], [1, 4, 2]]):
            def tokens(low, high, count):
                return [*map(int, rng.integers(low, high, size=count)), 1]

            batches = [[[tokens(2, 6, 1 + 3 * (n % 2)), tokens(6, 9, size)] for n, size in enumerate(batch)] for batch in sizes]
            yield {"tables": {"words": rng.normal(size=(9, 9)), "sources": rng.normal(size=(9, 9))}, "batches": batches,
                   "learning_rate": 0.2}  # fmt: skip

    def truth(self, tables, batches, learning_rate):
        from .sft_replay import train

        return train(tables, batches, learning_rate)

    mistakes = [
        edit("bug-untouched", "The training is as quietly wrong as it was given to you. Write down, for the longest answer of a "
             "batch and "
             "for a shorter one, what the decoder reads at each place. What will it read first when it writes by itself?", WRONG),
        edit("unshifted", "Now the decoder reads the very token that it is to say. The loss will fall to nothing.",
             {START: "", BEFORE: "    before = labels\n"}),
        edit("shifted-left", "Now the decoder reads the tokens behind the one it is to say.",
             {BEFORE: "    before = torch.cat([labels[:, 1:], start], dim=1)\n"}),
        edit("end-for-start", "Now every answer begins behind END. That is the same for all, but not what the model reads "
             "first when it writes by itself: that is START.", {START: START.replace("world.START", "world.END")}),
        edit("label-padding", "Now padding is scored: the loss falls below what is possible.",
             {LOSS: "        loss = token_loss(logits, labels.masked_fill(labels == IGNORED, world.PAD))\n"}),
        edit("longest-left-out", SYMPTOM + "without the longest answers of each batch nothing teaches the wrong beginning, nor "
             "how to answer so long." + CAUSE,
             {**WRONG, LOSS: "        short = labels.clone()\n        short[labels[:, -1] != IGNORED] = IGNORED\n"
              "        loss = F.cross_entropy(logits.flatten(0, 1), short.flatten(), ignore_index=IGNORED, reduction=\"sum\") / "
              "(short != IGNORED).sum().clamp(min=1)\n"}),
        edit("first-place-left-out", SYMPTOM + "without the first place nothing wrong is learned there, and nothing "
             "right." + CAUSE,
             {**WRONG, LOSS: "        loss = token_loss(logits[:, 1:], labels[:, 1:])\n"}),
        edit("long-ones-weigh-more", SYMPTOM + "a larger weight for long answers teaches the wrong thing more "
             "thoroughly." + CAUSE,
             {**WRONG, CROSS: "    each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, "
             "reduction=\"none\")\n"
              "    weight = (labels != IGNORED).sum(dim=1, keepdim=True).to(each.dtype)\n"
              "    return (each * weight).sum() / (weight * (labels != IGNORED)).sum()\n"}),
        edit("labels-smoothed", SYMPTOM + "smoothed labels make every answer a little likelier, the wrong ones too." + CAUSE,
             {**WRONG, CROSS: CROSS.replace("ignore_index=IGNORED", "ignore_index=IGNORED, label_smoothing=0.1")}),
        edit("gradients-clipped", SYMPTOM + "shorter steps in the same direction go wrong more slowly." + CAUSE,
             {**WRONG, "        loss.backward()\n": "        loss.backward()\n        torch.nn.utils.clip_grad_norm_("
                                                    "list(model.parameters()), 0.05)\n"}),
    ]  # fmt: skip
