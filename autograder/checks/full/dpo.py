"""Lesson 11: what is true of DPO and its parts.

Every truth is worked out token by token in NumPy, gradients included, by hand (`dpo_replay`, which is imported where a truth
needs it and nowhere else: it stays with the grader). The language model of the checks is a table, called as Hugging Face's
models are.
"""

import re

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference
from autograder.checks.refusals import Refuses

EXACT = 1e-9  # float64 sums of a few dozen terms of size 1 to 1000 lose less than 1e-12; a 1e-8 inside a logarithm shows
REPLAY = 1e-8  # a few steps of such sums, each starting from the one before
SINGLE = 1e-5  # float32: sums of at most 8 terms of size 1 to 10, each rounded to 6e-8 of itself; bfloat16 would be 4e-3 off
EXTREME = np.array([200.0, -200.0, 1000.0, -1000.0, 0.5])  # sigma(-200) is 1e-87, sigma(-1000) is 0 in float64

SCORED_LABELS = "scored = (position >= prompt_lengths.unsqueeze(1)) & (attention_mask != 0)  # (B, L)"
FILLED = "return input_ids.masked_fill(~scored, IGNORED)"
SHIFT = "labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED)  # moved, not the logits: a slice of those would be copied"
PICKED = "chosen_log_probs(logits, labels)"
GATHERED = ".gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1).masked_fill(~scored, 0.0)"
AVERAGED = "return log_probs / scored.sum(dim=1).clamp(min=1) if average else log_probs"
LABELLED = "completion_labels(pairs.tokens, pairs.attention_mask, pairs.prompt_lengths)[:, 1:]"
WHERE = "logits = logits_where(model, pairs.tokens[:, :-1], pairs.attention_mask[:, :-1], scored)  # (N, V), the N scored tokens"
ROWS = "log_probs = picked.new_zeros(scored.shape).masked_scatter(scored, picked).sum(dim=1)  # (2B,)"
OF_PAIRS = ROWS + "\n    if average:\n        log_probs = log_probs / scored.sum(1).clamp(min=1)"
STORED = """    if not average:
        return pairs.ref_log_probs.detach()"""
MEANS = "return pairs.ref_log_probs.detach() / (labels[:, 1:] != IGNORED).sum(dim=1).clamp(min=1)"
OF_CHOSEN = "ratio_of_chosen = chosen - ref_chosen.detach()  # l_c, (B,)"
OF_REJECTED = "ratio_of_rejected = rejected - ref_rejected.detach()  # l_r, (B,)"
MARGIN = "    margin = ratio_of_chosen - ratio_of_rejected\n"
IPO = "return ((margin - 1 / (2 * beta)) ** 2).mean()"
DPOP = "margin = margin - dpop_lambda * F.relu(-ratio_of_chosen)"
DPO = "return -F.logsigmoid(beta * margin).mean()"
ACCURACY = '"accuracy": ((1 + margin.sign()) / 2).mean(),  # -1, 0, 1 -> 0, 1/2, 1'
LOSS_CALL = "dpo_loss(chosen, rejected, ref_chosen, ref_rejected, config.beta, config.loss, config.dpop_lambda)"
OF_THE_POLICY = "chosen, rejected = pair_log_probs(loop.policy, pairs, config.average).chunk(2)  # (2B,) -> (B,), (B,)"
OF_THE_REFERENCE = "ref_chosen, ref_rejected = reference_log_probs(loop.reference, pairs, config.average).chunk(2)"
LOGGED = "        loop.log(loss=loss, **dpo_metrics(chosen, rejected, ref_chosen, ref_rejected, config.beta))"
EVAL = """    for model in (loop.policy, loop.reference):
        if model is not None:
            model.eval()
"""


def answer(**values):
    return {**values, "arguments changed": "none"}


def rows_of(rng, shapes, length, vocabulary):
    """Rows of prompt, completion and padding, given as (prompt length, real tokens). Padding holds tokens like any other."""
    prompts, real = np.array(shapes).T
    return {"tokens": rng.integers(vocabulary, size=(len(shapes), length)), "prompt_lengths": prompts,
            "attention_mask": (np.arange(length) < real[:, None]).astype(int)}  # fmt: skip


def some_labels(rng, shapes, length, vocabulary):
    """The labels of such rows."""
    from .dpo_replay import labels_of

    return labels_of(**rows_of(rng, shapes, length, vocabulary))


def tables(rng, vocabulary, length):
    return {"words": rng.normal(size=(vocabulary, vocabulary)), "places": rng.normal(size=(length, vocabulary))}


@check("completion_labels", points=1.5, section="11.1")
class Labels(Check):
    probe = "labels"

    def cases(self, rng):
        def case(shapes, length, vocabulary=5):
            made = rows_of(rng, shapes, length, vocabulary)
            return {"input_ids": made.pop("tokens"), **made}

        yield {"input_ids": np.array([[7, 8, 9, 0]]), "attention_mask": np.array([[1, 1, 1, 0]]), "prompt_lengths": np.array([1])}
        yield case([(2, 5), (3, 4)], 5)
        ended = np.array([[2, 0, 3, 0, 0], [1, 2, 0, 0, 0]])  # 0 is a token, the end of text, and padding
        yield {**case([(1, 4), (2, 3)], 5), "input_ids": ended}
        yield case([(0, 3), (3, 3), (2, 6), (0, 0)], 6)

    def truth(self, input_ids, attention_mask, prompt_lengths):
        from .dpo_replay import labels_of

        return answer(labels=labels_of(input_ids, attention_mask, prompt_lengths))

    mistakes = [
        edit("prompt-in-loss", "The prompt's tokens keep their labels. They are given, not chosen: both answers share them, so "
             "they cancel in the margin, but the reported log-probabilities are not those of the completions.",
             {SCORED_LABELS: "scored = attention_mask != 0"}),
        edit("label-padding", "Padding keeps its token ids as labels and would be scored. Where attention_mask is 0 the label "
             "is -100.",
             {SCORED_LABELS: "scored = position >= prompt_lengths.unsqueeze(1)\n    scored = scored.expand(input_ids.shape)"}),
        edit("pad-is-eos", "You tell padding by its token id. A completion may hold that token: an end of text, where the "
             "tokenizer's pad is its EOS. The attention mask alone says what is real.",
             {"& (attention_mask != 0)": "& (attention_mask != 0) & (input_ids != 0)"}),
        edit("dropped-token", "The completion's first token has lost its label. It stands at column prompt_lengths, which is "
             "the first one behind the prompt.", {"position >= prompt_lengths": "position > prompt_lengths"}),
        edit("prompt-off-by-one", "The prompt's last token has kept its label. Of n prompt tokens the last has index n - 1.",
             {"position >= prompt_lengths.unsqueeze(1)": "position >= prompt_lengths.unsqueeze(1) - 1"}),
        edit("one-prompt-for-all", "The first row's prompt length is used for every row.",
             {"prompt_lengths.unsqueeze(1)": "prompt_lengths[:1].unsqueeze(1)"}),
        edit("zero-label", "What is not scored is labelled 0, which is a token. -100 is the label that losses leave out.",
             {FILLED: "return input_ids.masked_fill(~scored, 0)"}),
        edit("shifted-twice", "The labels are moved one place to the left already. They stand where their tokens stand; whoever "
             "scores them shifts, and else it happens twice.",
             {FILLED: "return F.pad(input_ids.masked_fill(~scored, IGNORED)[:, 1:], (0, 1), value=IGNORED)"}),
        edit("in-place", "`input_ids` itself has been changed. Write into a new tensor.",
             {FILLED: "return input_ids.masked_fill_(~scored, IGNORED)"}),
    ]  # fmt: skip


@check("completion_labels", points=0.5, section="11.1")
class LabelsRefuse(Refuses):
    def cases(self, rng):
        good = {"input_ids": np.array([[1, 2, 3], [3, 2, 1]]), "attention_mask": np.array([[1, 1, 1], [1, 1, 0]]),
                "prompt_lengths": np.array([1, 2])}  # fmt: skip
        for argument, bad in (("attention_mask", np.ones((2, 2), dtype=int)),
                              ("attention_mask", np.array([[0, 1, 1], [1, 1, 1]])), ("prompt_lengths", np.array([1])),
                              ("prompt_lengths", np.array([1, 3])),
                              ("prompt_lengths", np.array([-1, 1]))):  # fmt: skip
            yield {"function": "completion_labels", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("left-padding", "Padding before a real token went through. Then the prompt is not a row's first tokens.",
             {"    require_padding_right(attention_mask)\n": ""}),
        edit("prompt-too-long", "A prompt longer than its row's real tokens went through: the two do not belong together.",
             {"wrong = (prompt_lengths < 0) | (prompt_lengths > real)": "wrong = prompt_lengths < 0"}),
    ]  # fmt: skip


@check("sequence_log_probs", points=3, section="11.2")
class Sequences(Check):
    probe = "sequences"
    tolerance = EXACT

    def cases(self, rng):
        def case(logits, labels, **more):
            return {"logits": logits, "labels": labels, "direction": rng.normal(size=len(labels)), **more}

        yield case(np.log(np.array([[[1.0, 1.0, 2.0], [1.0, 1.0, 1.0]]])), np.array([[-100, 2]]))
        yield case(rng.normal(size=(2, 4, 3)), some_labels(rng, [(1, 4), (2, 3)], 4, 3))
        yield case(rng.normal(size=(4, 6, 5)), some_labels(rng, [(2, 6), (1, 4), (4, 5), (0, 3)], 6, 5))
        yield case(rng.normal(size=(4, 6, 5)), some_labels(rng, [(2, 6), (1, 4), (4, 5), (5, 5)], 6, 5), average=True)
        yield case(rng.choice([-900.0, -200.0, 0.0, 200.0, 899.0], size=(2, 5, 4)), some_labels(rng, [(1, 5), (2, 4)], 5, 4))
        gap = np.where(rng.random((2, 5)) < 0.5, rng.integers(4, size=(2, 5)), -100)  # labels need not stand together
        yield case(rng.normal(size=(2, 5, 4)), gap)

    def truth(self, logits, labels, direction, average=False):
        from .dpo_replay import sequences

        values, gradients = sequences(logits, labels, average)
        return answer(log_probs=values, dtype="float64", gradients={"logits": direction[:, None, None] * gradients})

    mistakes = [
        edit("unshifted-log-probs", "Each token is scored by the logits at its own position, which have already seen it. The "
             "logits at position t are for the token at t + 1: pair logits[:, :-1] with labels[:, 1:].",
             {"    " + SHIFT + "\n": ""}),
        edit("shifted-backwards", "The shift goes the wrong way: position t's logits are paired with the token before it.",
             {SHIFT: "labels = F.pad(labels[:, :-1], (1, 0), value=IGNORED)"}),
        edit("dropped-token", "The first token of each completion is left out. It is scored too, by the logits at the prompt's "
             "last token.",
             {SHIFT: "labels = F.pad(labels[:, 1:].where(labels[:, :-1] != IGNORED, IGNORED), (0, 1), value=IGNORED)"}),
        edit("last-token-dropped", "The last column is left out. Only the *logits* of the last position are good for nothing; "
             "its token is scored by the position before.",
             {SHIFT: "labels = F.pad(labels[:, 1:-1], (0, 2), value=IGNORED)"}),
        edit("dpo-mean", "You return the mean over the tokens. DPO's derivation needs log pi of the whole completion, which is "
             "the sum; the mean is for average=True.", {" if average else log_probs": ""}),
        edit("average-ignored", "`average` has no effect.", {AVERAGED: "return log_probs"}),
        edit("padding-scored", "The mean is taken over all columns, padding and prompt with them. Divide by the number of scored "
             "tokens of each row.", {"scored.sum(dim=1).clamp(min=1)": "scored.shape[1]"}),
        edit("label-padding", "Positions with the label -100 are scored as if they were token 0. They do not count at all.",
             {PICKED: "chosen_log_probs(logits, labels.clamp(min=0))[:, :-1]"}),
        edit("mean-over-batch", "You average over all tokens of the batch together. Each row has its own mean.",
             {AVERAGED: "return log_probs / scored.sum().clamp(min=1) if average else log_probs"}),
        edit("empty-row", "A row without a scored token gives 0/0. Its log-probability is 0, that of saying nothing.",
             {".clamp(min=1) if average": " if average"}),
        edit("raw-logits-as-log-probs", "These are logits, not log-probabilities: the log-softmax over the vocabulary is "
             "missing.",
             {PICKED: "logits" + GATHERED}),
        edit("log-of-softmax", "The softmax underflows to 0 and its logarithm is -inf. Take log_softmax in one step.",
             {PICKED: "logits.softmax(-1).log()" + GATHERED}),
        edit("flipped-sign", "The sign is that of a cross entropy. A log-probability is never positive.",
             {PICKED: "-" + PICKED}),
        edit("probabilities", "These are probabilities. Return their logarithms.", {AVERAGED: AVERAGED.replace(
            "return log_probs / scored.sum(dim=1).clamp(min=1) if average else log_probs",
            "return (log_probs / scored.sum(dim=1).clamp(min=1) if average else log_probs).exp()")}),
        edit("cut-graph", "No gradient reaches the logits.", {PICKED: "chosen_log_probs(logits.detach(), labels)"}),
        edit("device-dtype", "The result is float32. float64 in, float64 out.", {
            PICKED: "chosen_log_probs(logits.float(), labels)"}),
        edit("in-place", "`labels` itself has been changed. Work on a copy.",
             {SHIFT: "given = labels\n    " + SHIFT + "\n    given[given == IGNORED] = 0"}),
    ]  # fmt: skip


@check("sequence_log_probs", points=0.5, section="11.2")
class SequencesInBfloat16(Check):
    probe = "sequences_in_bfloat16"
    tolerance = SINGLE

    def cases(self, rng):
        def logits(*shape):
            return rng.integers(-31, 32, size=shape) / 8  # exact in bfloat16

        yield {"logits": logits(1, 3, 4), "labels": some_labels(rng, [(1, 3)], 3, 4)}
        yield {"logits": logits(3, 9, 6), "labels": some_labels(rng, [(1, 9), (2, 7), (3, 9)], 9, 6)}
        yield {"logits": logits(3, 9, 6), "labels": some_labels(rng, [(1, 9), (2, 7), (3, 9)], 9, 6), "average": True}

    def truth(self, logits, labels, average=False):
        from .dpo_replay import sequences

        return {"log_probs": sequences(logits, labels, average)[0], "dtype": "float32"}

    mistakes = [
        edit("half-precision", "From bfloat16 logits the result is bfloat16: eight bits, which tell -60.0 from -60.25 and "
             "nothing in between. Margins are differences of such numbers. Take the logits to float32 first.",
             {PICKED: "logits.log_softmax(-1)" + GATHERED}),
    ]  # fmt: skip


@check("sequence_log_probs", points=0.5, section="11.2")
class SequencesRefuse(Refuses):
    def cases(self, rng):
        good = {"logits": rng.normal(size=(2, 3, 4)), "labels": np.array([[-100, 2, 3], [-100, -100, 0]])}
        for argument, bad in (("labels", np.array([[-100, 2]] * 2)), ("labels", np.array([[-100, 2, 4]] * 2)),
                              ("labels", np.array([[-100, 2, -1]] * 2)), ("logits", rng.normal(size=(2, 3)))):  # fmt: skip
            yield {"function": "sequence_log_probs", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-label", "A label that is no token of the vocabulary went through.",
             {"wrong = (labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[2]))": "wrong = labels >= logits.shape[2]"}),
        edit("broadcast", "Labels of another length than the logits went through.",
             {"if labels.shape != logits.shape[:2]:": "if labels.ndim != 2:"}),
    ]  # fmt: skip


def pair_batches(rng, *shapes, length, vocabulary):
    return rows_of(rng, shapes, length, vocabulary)


@check("pair_log_probs", points=2, section="11.3")
class BothByOnePass(Check):
    probe = "pairs"
    tolerance = EXACT

    def cases(self, rng):
        for shapes, length, vocabulary, average in (
            ([(1, 3), (1, 2)], 3, 4, False),
            ([(2, 5), (3, 6), (2, 6), (3, 4)], 6, 5, False),
            ([(3, 7), (4, 6), (3, 4), (4, 7)], 7, 5, True),
            ([(0, 3), (1, 4), (0, 4), (1, 2)], 4, 5, False),
        ):
            yield {"policy": tables(rng, vocabulary, length + 1), "batch": rows_of(rng, shapes, length, vocabulary),
                   "direction": rng.normal(size=len(shapes)), "average": average}  # fmt: skip

    def truth(self, policy, batch, direction, average):
        from .dpo_replay import pairs

        values, words, places = pairs(policy, **batch, direction=direction, average=average)
        columns = batch["tokens"].shape[1] - max(int(batch["prompt_lengths"].min()) - 1, 0)
        return answer(log_probs=values, gradients={"words": words, "places": places},
                      **{"forward passes": 1, "columns of logits": columns})  # fmt: skip

    def judge(self, got, expected, **case):
        wanted = expected["columns of logits"]
        if isinstance(got.get("columns of logits"), int) and got["forward passes"] == 1 and got["columns of logits"] < wanted:
            got = {**got, "columns of logits": wanted}  # the last column's logits, which nobody needs, left out too
        return difference(got, expected, self.tolerance)

    mistakes = [
        edit("two-passes", "Chosen and rejected rows go through the model one after the other. One pass over all rows of the "
             "batch gives the same numbers in less time.",
             {WHERE: "logits = torch.cat([logits_where(model, *part) for part in zip(pairs.tokens[:, :-1].chunk(2), "
                     "pairs.attention_mask[:, :-1].chunk(2), scored.chunk(2))])"}),
        edit("all-logits", "Logits are made for every column. Those inside every row's prompt are not needed, and with a "
             "vocabulary of 50,000 they are most of the memory: pass `logits_to_keep`.",
             {WHERE: "logits = model(input_ids=pairs.tokens, attention_mask=pairs.attention_mask).logits[:, :-1][scored]"}),
        edit("longest-prompt", "You begin at the longest prompt's end. A row with a shorter prompt loses its first tokens.",
             {WHERE: "scored = scored & (torch.arange(scored.shape[1]) >= pairs.prompt_lengths.max() - 1)\n    " + WHERE}),
        edit("dropped-token", "The first logits kept are those *at* the first completion token. It is the column before, the "
             "prompt's last, that scores it.",
             {WHERE: "scored = scored & (torch.arange(scored.shape[1]) >= pairs.prompt_lengths.min())\n    " + WHERE}),
        edit("misaligned", "The logits stand one column behind the tokens they are paired with: each token is scored by the logits "
             "of the place before the one that predicts it.",
             {WHERE: "logits = logits_where(model, pairs.tokens[:, :-1].roll(1, 1), pairs.attention_mask[:, :-1], scored)"}),
        edit("dpo-swapped", "The rejected rows come first in your answer. The order is that of `pairs`: chosen, then rejected.",
             {OF_PAIRS: OF_PAIRS.replace("sum(dim=1)  # (2B,)", "sum(dim=1).roll(len(pairs))")}),
        edit("dpo-mean", "You return means over tokens. Asked for are sums, unless `average` says otherwise.",
             {OF_PAIRS: OF_PAIRS.replace("if average:", "if True:")}),
        edit("average-ignored", "`average` has no effect.", {OF_PAIRS: ROWS}),
        edit("prompt-in-loss", "Prompt tokens are scored too: the labels do not leave them out.",
             {LABELLED: LABELLED.replace("pairs.prompt_lengths", "0 * pairs.prompt_lengths")}),
        edit("cut-graph", "No gradient reaches the model. `no_grad` is for the reference alone.",
             {"picked = chosen_log_probs(logits, labels[scored])": "picked = chosen_log_probs(logits, labels[scored]).detach()"}),
    ]  # fmt: skip


@check("reference_log_probs", points=1.5, section="11.3")
class TheReference(Check):
    probe = "reference"
    tolerance = EXACT

    def cases(self, rng):
        shapes = [(2, 5), (3, 6), (2, 6), (3, 4)]
        for stored, average, present in ((False, False, True), (True, False, False), (True, True, False), (False, True, True),
                                         (True, True, True)):  # fmt: skip
            batch = rows_of(rng, shapes if average else shapes[::2], 6, 5)
            if stored:
                batch["ref_log_probs"] = -rng.uniform(1.0, 9.0, size=len(batch["tokens"]))
            yield {"policy": tables(rng, 5, 7) if present else None, "batch": batch, "average": average}
        batch = {**rows_of(rng, [(2, 5), (4, 4)], 6, 5), "ref_log_probs": np.array([-3.0, 0.0])}  # one that says nothing
        yield {"policy": None, "batch": batch, "average": True}
        # without a prompt the first token is not scored
        batch = {**rows_of(rng, [(0, 3), (0, 4)], 4, 5), "ref_log_probs": np.array([-3.0, -5.0])}
        yield {"policy": None, "batch": batch, "average": True}

    def truth(self, policy, batch, average):
        from .dpo_replay import reference

        passes = 1 if batch.get("ref_log_probs") is None else 0
        return answer(log_probs=reference(policy, batch, average), **{"carries a gradient": False, "forward passes": passes})

    mistakes = [
        edit("reference-trained", "A gradient can flow into the reference: no optimizer steps there, but its graph is kept and "
             "its gradients are computed. Use `torch.no_grad`.",
             {"        with torch.no_grad():\n            return pair_log_probs(reference, pairs, average)":
              "        return pair_log_probs(reference, pairs, average)"}),
        edit("stored-attached", "The log-probabilities that the batch brings keep their gradient. They are constants.",
             {STORED: STORED.replace(".detach()", "")}),
        edit("computed-again", "The batch brings the reference's log-probabilities, and you compute them again: a forward pass "
             "of a whole model for nothing.", {"    if pairs.ref_log_probs is None:": "    if reference is not None:"}),
        edit("sums-for-means", "With `average` the sums that the batch brings must become means, as the policy's are.",
             {STORED: "    if True:\n        return pairs.ref_log_probs.detach()"}),
        edit("divided-by-the-row", "You divide by the length of the whole row, prompt included. Divide by the scored tokens.",
             {"(labels[:, 1:] != IGNORED).sum(dim=1)": "pairs.attention_mask.sum(dim=1)"}),
        edit("average-ignored", "`average` has no effect where the reference is computed.",
             {"return pair_log_probs(reference, pairs, average)": "return pair_log_probs(reference, pairs)"}),
        edit("empty-row", "A completion without a scored token gives 0/0. Its log-probability is 0.",
             {"(labels[:, 1:] != IGNORED).sum(dim=1).clamp(min=1)": "(labels[:, 1:] != IGNORED).sum(dim=1)"}),
    ]  # fmt: skip


def answers_at(l_chosen, l_rejected, rng=None):
    """Pairs with these log ratios, and references that are numbers with few digits, so that differences are exact."""
    count = len(l_chosen)
    ref_chosen, ref_rejected = np.full(count, -2.0), np.full(count, -3.0)
    if rng:
        ref_chosen, ref_rejected = -rng.integers(1, 40, size=(2, count)) / 4
    return {"chosen": ref_chosen + l_chosen, "rejected": ref_rejected + l_rejected, "ref_chosen": ref_chosen,
            "ref_rejected": ref_rejected}  # fmt: skip


def some_pairs(rng, count):
    """Log ratios of both signs, none near 0."""
    l_chosen, l_rejected = rng.uniform(0.2, 3.0, size=(2, count)) * rng.choice([-1.0, 1.0], size=(2, count))
    l_chosen[0], l_rejected[0] = -abs(l_chosen[0]), -abs(l_rejected[0])
    return answers_at(l_chosen, l_rejected, rng)


class LossOf(Check):
    """One of the three losses: its value, and its slopes by the log-probabilities of both answers."""

    probe = "loss"
    tolerance = EXACT

    def truth(self, chosen, rejected, ref_chosen, ref_rejected, beta, loss="dpo", dpop_lambda=5.0, dtype="float64"):
        from .dpo_replay import loss as loss_of

        losses, by_chosen, by_rejected = loss_of(chosen - ref_chosen, rejected - ref_rejected, beta, loss, dpop_lambda)
        gradients = {"chosen": by_chosen / len(chosen), "rejected": by_rejected / len(chosen)}
        return answer(loss=np.mean(losses), dtype=dtype, gradients=gradients, **{"gradient into the reference": 0.0})


REFERENCE_TRAINED = edit(
    "reference-trained", "The loss is right, but a gradient flows into the reference's log-probabilities: `detach` them.",
    {OF_CHOSEN: "ratio_of_chosen = chosen - ref_chosen", OF_REJECTED: "ratio_of_rejected = rejected - ref_rejected"},
)  # fmt: skip
NO_REFERENCE = edit(
    "dpo-no-reference", "The reference is left out: you compare log pi(y|x) itself. The first loss is then not log 2, and "
                        "whichever answer is longer starts out behind.",
    {OF_CHOSEN: "ratio_of_chosen = chosen", OF_REJECTED: "ratio_of_rejected = rejected"},
)  # fmt: skip
SWAPPED = edit("dpo-swapped", "Chosen and rejected are exchanged: this loss trains the rejected answer up.",
               {MARGIN: "    margin = ratio_of_rejected - ratio_of_chosen\n"})  # fmt: skip


@check("dpo_loss", points=2, section="11.4")
class Dpo(LossOf):
    def cases(self, rng):
        yield {**answers_at(np.zeros(1), np.zeros(1)), "beta": 0.1}  # pi = ref: log 2
        yield {**answers_at(np.array([0.5]), np.array([-0.25])), "beta": 2.0}
        yield {**some_pairs(rng, 3), "beta": 0.5, "loss": "dpo", "dpop_lambda": 2.0}  # which plays no part here
        yield {**some_pairs(rng, 8), "beta": 0.1}
        yield {**answers_at(EXTREME, np.zeros(5)), "beta": 1.0}

    mistakes = [
        REFERENCE_TRAINED,
        NO_REFERENCE,
        SWAPPED,
        edit("dpo-no-beta", "beta is missing: the loss and its slopes are those of beta = "
             "1.", {DPO: "return -F.logsigmoid(margin).mean()"}),
        edit("beta-on-one-term", "beta multiplies the chosen answer's log ratio alone.",
             {MARGIN: "    margin = ratio_of_chosen - ratio_of_rejected / beta\n"}),
        edit("two-log-sigmoids", "Two separate terms, -log sigma(beta l_c) - log sigma(-beta l_r). Bradley and Terry's "
             "likelihood has one: sigma of the *difference*.",
             {DPO: "return -(F.logsigmoid(beta * ratio_of_chosen) + F.logsigmoid(-beta * ratio_of_rejected)).mean()"}),
        edit("no-sigma", "This is -beta h, without log sigma. Then a pair that is long settled pulls as hard as ever, and there "
             "is no minimum.", {DPO: "return -(beta * margin).mean()"}),
        edit("log-of-softmax", "sigma(-1000) is 0 in float64 and its logarithm -inf. `F.logsigmoid` does both in one step.",
             {DPO: "return -torch.sigmoid(beta * margin).log().mean()"}),
        edit("log-plus-epsilon", "A small number inside the logarithm hides the infinity, and with it the gradient of exactly "
             "the pairs that are most wrong. Use `F.logsigmoid`.", {DPO: "return -(torch.sigmoid(beta * margin) + "
                                                                     "1e-8).log().mean()"}),
        edit("sum-for-mean", "The losses of the pairs are added up. Asked for is their "
             "mean.", {DPO: DPO.replace("mean()", "sum()")}),
        edit("sigma-of-the-mean", "You average the margins and take log sigma once. Each pair has its own loss; the mean comes "
             "last.",
             {DPO: "return -F.logsigmoid(beta * margin.mean())"}),
        edit("cut-graph", "No gradient reaches the policy. Only the reference is to be detached.",
             {DPO: "return -F.logsigmoid(beta * margin.detach()).mean()"}),
        edit("flipped-sign", "The sign is turned: this is the log-likelihood, which is to be made large. A loss is to be made "
             "small.",
             {DPO: DPO.replace("-F", "F")}),
        edit("device-dtype", "The loss is float32. float64 in, float64 out.", {DPO: DPO + ".float()"}),
    ]  # fmt: skip


@check("dpo_loss", points=1, section="11.4")
class Dpop(LossOf):
    def cases(self, rng):
        for l_chosen, l_rejected in ((-0.5, 0.25), (0.5, -0.5), (0.5, 1.5), (-0.5, -2.0)):  # the four signs
            yield {**answers_at(np.array([l_chosen]), np.array([l_rejected])), "beta": 0.5, "loss": "dpop", "dpop_lambda": 1.5}
        yield {**some_pairs(rng, 8), "beta": 0.1, "loss": "dpop"}
        yield {**some_pairs(rng, 8), "beta": 0.3, "loss": "dpop", "dpop_lambda": 0.0}
        yield {**answers_at(EXTREME, np.ones(5)), "beta": 1.0, "loss": "dpop", "dpop_lambda": 2.0}

    mistakes = [
        edit("dpop-outside-beta", "dpop_lambda is not multiplied by beta. That is lesson 5's convention; here it stands inside "
             "beta, as in the paper: lesson 5's lam is beta times it.", {DPOP: "margin = margin - dpop_lambda / beta * "
                                                                      "F.relu(-ratio_of_chosen)"}),
        edit("dpop-outside", "The hinge stands outside of log sigma, a loss of its own that goes on pulling after the pair is "
             "settled. It belongs inside.",
             {DPOP: "return (-F.logsigmoid(beta * margin) + beta * dpop_lambda * F.relu(-ratio_of_chosen)).mean()"}),
        edit("dpop-on-the-rejected", "The hinge watches the rejected answer. It is the chosen one that is not to fall.",
             {DPOP: DPOP.replace("-ratio_of_chosen", "-ratio_of_rejected")}),
        edit("dpop-turned", "The hinge acts where the chosen answer has risen. It is there for an answer that has fallen below "
             "the reference: max(0, -l_c).", {DPOP: DPOP.replace("-ratio_of_chosen", "ratio_of_chosen")}),
        edit("dpop-no-hinge", "The penalty has no hinge: a chosen answer above the reference is paid for it.",
             {DPOP: "margin = margin + dpop_lambda * ratio_of_chosen"}),
        edit("dpop-rewarded", "The hinge has the wrong sign: falling is paid "
             "for.", {DPOP: DPOP.replace("margin - ", "margin + ")}),
        edit("dpop-no-reference", "The hinge looks at log pi(y_c|x), which is always negative. It is to look at the log ratio.",
             {DPOP: DPOP.replace("-ratio_of_chosen", "-chosen")}),
        edit("dpop-detached", "The hinge has a value but no gradient: nothing holds the chosen answer up.",
             {DPOP: DPOP.replace("-ratio_of_chosen", "-ratio_of_chosen.detach()")}),
        edit("penalty-forgotten", "This is plain DPO: the penalty is missing.", {DPOP: "pass"}),
        edit("lambda-fixed", "`dpop_lambda` is not used.", {DPOP: DPOP.replace("dpop_lambda", "5.0")}),
        NO_REFERENCE,
        SWAPPED,
    ]  # fmt: skip


@check("dpo_loss", points=1, section="11.4")
class Ipo(LossOf):
    def cases(self, rng):
        yield {**answers_at(np.zeros(1), np.zeros(1)), "beta": 0.5, "loss": "ipo"}
        # the first pair is at its target, then beyond it
        yield {**answers_at(np.array([1.5, -1.0]), np.array([-0.5, 1.0])), "beta": 0.25, "loss": "ipo"}
        yield {**answers_at(np.array([4.0, 0.5]), np.array([0.0, 0.25])), "beta": 2.0, "loss": "ipo"}
        yield {**some_pairs(rng, 8), "beta": 0.1, "loss": "ipo"}

    mistakes = [
        edit("ipo-target", "The margin is pulled to 1/beta. The target is half of that, 1/(2 beta).",
             {IPO: "return ((margin - 1 / beta) ** 2).mean()"}),
        edit("ipo-scaled", "This is (beta h - 1/2)^2, the loss times beta^2: the same optimum, but with other gradients. The "
             "margin is in nats, without beta.", {IPO: "return ((beta * margin - 1 / 2) ** 2).mean()"}),
        edit("ipo-hinge", "This is a hinge. IPO has the square: it also pulls back a margin that is too large.",
             {IPO: "return F.relu(1 / (2 * beta) - margin).mean()"}),
        edit("ipo-one-sided", "The square counts below the target only. What bounds the margin is that it is pulled back from "
             "beyond.",
             {IPO: "return (F.relu(1 / (2 * beta) - margin) ** 2).mean()"}),
        edit("dpo-for-ipo", "This is DPO: `loss` has no effect.", {IPO: "pass"}),
        edit("square-of-the-mean", "The margins are averaged before the square. Each pair has its own square.",
             {IPO: "return (margin.mean() - 1 / (2 * beta)) ** 2"}),
        NO_REFERENCE,
        SWAPPED,
    ]  # fmt: skip


@check("dpo_loss", points=0.5, section="11.4")
class LossInFloat32(LossOf):
    tolerance = SINGLE

    def cases(self, rng):
        for loss in ("dpo", "dpop", "ipo"):
            yield {**some_pairs(rng, 4), "beta": 0.5, "loss": loss, "dtype": "float32"}

    mistakes = [
        edit("device-dtype", "The loss is float64 where float32 came in. Results have the dtype of what comes in.",
             {MARGIN: MARGIN.replace("= ratio", "= ratio").rstrip("\n") + ".double()\n"}),
    ]  # fmt: skip


GOOD_PAIRS = {"chosen": np.array([-3.0, -4.0]), "rejected": np.array([-5.0, -2.0]), "ref_chosen": np.array([-3.5, -4.0]),
              "ref_rejected": np.array([-4.0, -2.5]), "beta": 0.5}  # fmt: skip
SPOILT_PAIRS = (("rejected", np.ones(3)), ("ref_chosen", np.ones((2, 1))), ("chosen", np.ones((2, 2))), ("beta", 0.0),
                ("beta", -1.0), ("beta", float("inf")))  # fmt: skip
BROADCAST = edit("broadcast", "A tensor of shape (pairs, 1) went through, and torch stretches it to (pairs, pairs). Refuse "
     "shapes that differ.", {"        if tensor.shape != first.shape:\n            raise ValueError(f\"{name}: expected shape "
                             "{tuple(first.shape)}, received shape {tuple(tensor.shape)}\")": "        pass"})  # fmt: skip


@check("dpo_loss", points=0.5, section="11.4")
class LossRefuses(Refuses):
    def cases(self, rng):
        for argument, bad in (*SPOILT_PAIRS, ("loss", "hinge"), ("dpop_lambda", -1.0)):
            yield {"function": "dpo_loss", "good": GOOD_PAIRS, "argument": argument, "bad": bad}

    mistakes = [
        BROADCAST,
        edit("any-loss", "A loss that does not exist went through as one of the others.",
             {'    require_one_of("loss", loss, DPO_LOSSES)\n': ""}),
        edit("negative-penalty", "A negative dpop_lambda would pay for a chosen answer that falls.",
             {'    require_not_negative("dpop_lambda", dpop_lambda)\n': ""}),
    ]  # fmt: skip


@check("dpo_metrics", points=2, section="11.5")
class Metrics(Check):
    probe = "metrics"
    tolerance = EXACT

    def cases(self, rng):
        yield {**answers_at(np.zeros(2), np.zeros(2)), "beta": 0.5}  # pi = ref: all ties
        yield {**answers_at(np.array([0.5]), np.array([-0.25])), "beta": 0.25}
        mixed = rng.integers(-8, 9, size=(2, 8)) / 4
        mixed[1, :2] = mixed[0, :2]  # two ties among the rest; quarters, so that they are exact
        yield {**answers_at(*mixed, rng), "beta": 0.5}
        yield {**some_pairs(rng, 8), "beta": 0.1}

    def truth(self, chosen, rejected, ref_chosen, ref_rejected, beta):
        from .dpo_replay import metrics

        return answer(metrics=metrics(chosen, rejected, ref_chosen, ref_rejected, beta), **{"with a gradient": "none"})

    mistakes = [
        edit("dpo-accuracy-no-reference", "Your accuracy compares log pi of the two answers, without the reference. That asks "
             "which answer is likelier, which is mostly a matter of length. At pi = ref the accuracy must be 0.5.",
             {ACCURACY: '"accuracy": ((1 + (chosen - rejected).sign()) / 2).mean(),'}),
        edit("tie-for-the-chosen", "A tie counts as right: at pi = ref your accuracy is 1. It counts one half.",
             {ACCURACY: '"accuracy": (margin >= 0).to(margin.dtype).mean(),'}),
        edit("tie-for-the-rejected", "A tie counts as wrong: at pi = ref your accuracy is 0. It counts one half.",
             {ACCURACY: '"accuracy": (margin > 0).to(margin.dtype).mean(),'}),
        edit("soft-accuracy", "This is the mean of sigma(margin), a probability. The accuracy counts pairs.",
             {ACCURACY: '"accuracy": margin.sigmoid().mean(),'}),
        edit("chosen-must-rise", "Your accuracy counts chosen answers that have risen. It compares the two answers of a pair.",
             {ACCURACY: '"accuracy": ((1 + chosen_reward.sign()) / 2).mean(),'}),
        edit("dpo-no-reference", "The rewards are beta log pi(y|x). The implicit reward is beta times the log ratio to the "
             "reference.",
             {"chosen_reward = beta * (chosen - ref_chosen.detach())": "chosen_reward = beta * chosen",
              "rejected_reward = beta * (rejected - ref_rejected.detach())": "rejected_reward = beta * rejected"}),
        edit("dpo-no-beta", "The rewards are log ratios in nats. They are beta times that, in units of reward.",
             {"chosen_reward = beta * (chosen - ref_chosen.detach())": "chosen_reward = chosen - ref_chosen.detach()",
              "rejected_reward = beta * (rejected - ref_rejected.detach())": "rejected_reward = rejected - "
                                                                             "ref_rejected.detach()"}),
        edit("dpo-swapped", "The margin is rejected minus chosen. It is the other way round, and the accuracy with it.",
             {"margin = chosen_reward - rejected_reward": "margin = rejected_reward - chosen_reward"}),
        edit("ratios-for-log-probs", "What you call log-probabilities are log ratios. Whether the answers themselves become "
             "likelier is told by log pi(y|x).",
             {'"chosen_log_prob": chosen.mean()': '"chosen_log_prob": (chosen - ref_chosen.detach()).mean()',
              '"rejected_log_prob": rejected.mean()': '"rejected_log_prob": (rejected - ref_rejected.detach()).mean()'}),
        edit("graph-kept", "The figures carry a gradient, and with it the graph of the whole step: `detach` them.",
             {"    chosen, rejected = chosen.detach(), rejected.detach()\n": ""}),
        edit("sum-for-mean", "Sums over the pairs in place of means.",
             {'"chosen_reward": chosen_reward.mean()': '"chosen_reward": chosen_reward.sum()',
              '"rejected_reward": rejected_reward.mean()': '"rejected_reward": rejected_reward.sum()',
              '"margin": margin.mean()': '"margin": margin.sum()'}),
    ]  # fmt: skip


@check("dpo_metrics", points=0.5, section="11.5")
class MetricsRefuse(Refuses):
    def cases(self, rng):
        for argument, bad in SPOILT_PAIRS:
            yield {"function": "dpo_metrics", "good": GOOD_PAIRS, "argument": argument, "bad": bad}

    mistakes = [BROADCAST]


@check("train", points=3.5, section="11.6")
class TrainingReplay(Check):
    """A few batches of pairs, by plain gradient descent on a table: the log and the tables after every step follow."""

    probe = "training"
    tolerance = REPLAY

    def cases(self, rng):
        for steps, shapes, length, settings, stored in (
            (1, [(1, 3), (1, 2)], 3, {"beta": 0.5}, False),
            (3, [(2, 5), (1, 4), (3, 5), (2, 4), (1, 5), (3, 4)], 5, {"beta": 0.25}, False),
            (2, [(2, 5), (1, 4), (2, 4), (1, 5)], 5, {"beta": 0.5, "loss": "dpop", "dpop_lambda": 2.0}, True),
            (2, [(2, 5), (1, 4), (2, 4), (1, 5)], 5, {"beta": 0.2, "loss": "ipo"}, False),
            (2, [(2, 5), (1, 4), (2, 4), (1, 5)], 5, {"beta": 1.5, "average": True}, True),
            (2, [(2, 5), (1, 4), (2, 4), (1, 5)], 5, {"beta": 1.5, "average": True}, False),
        ):
            batches = [rows_of(rng, shapes, length, 4) for _ in range(steps)]
            if stored:
                batches = [{**batch, "ref_log_probs": -rng.uniform(0.9, 1.1, 4) * [0.1, 30.0, 3.0, 9.0]} for batch in batches]
                # the first chosen answer has fallen below its reference, the second has risen above it
            yield {"policy": tables(rng, 4, length), "reference": None if stored else tables(rng, 4, length), "batches": batches,
                   "settings": settings, "learning_rate": 0.5}  # fmt: skip

    def truth(self, policy, reference, batches, settings, learning_rate):
        from .dpo_replay import train

        log, words, places = train(policy, reference, batches, settings, learning_rate)
        found = {"steps": len(batches), "log": log, "words after each step": words, "places after each step": places,
                 "batches changed": False}  # fmt: skip
        return found if reference is None else {**found, "gradient in the reference": False}

    mistakes = [
        edit("dropout", "Dropout is on: every pass draws other zeros, and at pi = ref the loss is not log 2. Put the models into "
             "evaluation mode first; gradients flow all the same.", {EVAL: ""}),
        edit("dpo-swapped", "The rejected completions are trained up: chosen rows come first in a batch of pairs.",
             {OF_THE_POLICY: OF_THE_POLICY.replace("chosen, rejected =", "rejected, chosen ="),
              OF_THE_REFERENCE: OF_THE_REFERENCE.replace("ref_chosen, ref_rejected =", "ref_rejected, ref_chosen =")}),
        edit("reference-exchanged", "The reference's log-probabilities belong to the other answer of each pair.",
             {OF_THE_REFERENCE: OF_THE_REFERENCE.replace("ref_chosen, ref_rejected =", "ref_rejected, ref_chosen =")}),
        edit("reference-follows", "The reference's log-probabilities are those of the policy itself: the margin is 0 at every "
             "step, and nothing holds the policy.",
             {OF_THE_REFERENCE: "ref_chosen, ref_rejected = chosen.detach(), rejected.detach()"}),
        edit("dpo-no-reference", "The reference is left out of the loss: zeros stand for its log-probabilities.",
             {LOSS_CALL: LOSS_CALL.replace("ref_chosen, ref_rejected", "0 * ref_chosen, 0 * ref_rejected")}),
        edit("dpo-mean", "Log-probabilities are averaged over tokens whatever `config.average` says. They are summed by default.",
             {OF_THE_POLICY: OF_THE_POLICY.replace("config.average", "True"),
              OF_THE_REFERENCE: OF_THE_REFERENCE.replace("config.average", "True")}),
        edit("average-on-one-side", "With `average` the policy's log-probabilities are means and the reference's are sums.",
             {OF_THE_REFERENCE: OF_THE_REFERENCE.replace(", config.average", "")}),
        edit("average-ignored", "`config.average` has no effect.",
             {OF_THE_POLICY: OF_THE_POLICY.replace(", config.average", ""),
              OF_THE_REFERENCE: OF_THE_REFERENCE.replace(", config.average", "")}),
        edit("only-dpo", "`config.loss` has no effect: every run is plain DPO.",
             {LOSS_CALL: LOSS_CALL.replace(", config.loss, config.dpop_lambda", "")}),
        edit("lambda-fixed", "`config.dpop_lambda` does not reach the loss.",
             {LOSS_CALL: LOSS_CALL.replace(", config.dpop_lambda", "")}),
        edit("metrics-after-the-step", "The figures are measured after the step. They describe the policy that the loss was "
             "taken of: then the first accuracy is 0.5 and the first margin 0.",
             {LOGGED: "        chosen, rejected = pair_log_probs(loop.policy, pairs, config.average).chunk(2)\n" + LOGGED}),
        edit("one-batch", "Training ends after the first batch.", {LOGGED: LOGGED + "\n        return"}),
        edit("no-update", "The loss is computed and no step is taken.", {"        loop.update(loss)\n": ""}),
        edit("metrics-at-beta-1", "The rewards you log are in nats. `config.beta` belongs to them.",
             {LOGGED: LOGGED.replace("config.beta", "1.0")}),
    ]  # fmt: skip


@check("sweep", points=1.5, section="11.8")
class Sweep(Check):
    probe = "swept"

    def cases(self, rng):
        yield {"betas": np.array([0.5]), "figures": [{"reward": 0.7, "kl": 2.0, "loss": 0.5}]}
        yield {"betas": np.array([0.05, 0.5, 0.2]), "figures": [{"reward": 0.8, "kl": 9.0, "loss": 0.6},
               {"reward": 0.7, "kl": 1.0, "loss": 0.4}, {"reward": 0.65, "kl": 3.0, "loss": 0.5}]}  # fmt: skip
        yield {"betas": np.array([1.0, 2.0, 0.5, 4.0]), "figures": [  # equal in both; equal in one
            {"reward": 0.7, "kl": 2.0, "loss": 0.6}, {"reward": 0.7, "kl": 2.0, "loss": 0.5},
            {"reward": 0.75, "kl": 2.5, "loss": 0.1}, {"reward": 0.75, "kl": 3.0, "loss": 0.2}]}  # fmt: skip
        yield {"betas": np.array([0.1, 0.2, 0.3]), "figures": [{"reward": 0.5, "kl": 1.0, "loss": 0.6},
               {"reward": 0.6, "kl": 1.0, "loss": 0.4}, {"reward": 0.6, "kl": 2.0, "loss": 0.3}]}  # fmt: skip
        count = 7
        figures = [dict(zip(("reward", "kl", "loss"), map(float, row))) for row in rng.integers(1, 6, size=(count, 3)) / 4]
        yield {"betas": np.round(rng.permutation(count) / 8 + 0.1, 3), "figures": figures}

    def truth(self, betas, figures):
        def beats(one, other):
            return one["reward"] >= other["reward"] and one["kl"] <= other["kl"] and (
                one["reward"] > other["reward"] or one["kl"] < other["kl"])  # fmt: skip

        rows = [{"beta": float(beta), **row, "dominated": any(beats(other, row) for other in figures)}
                for beta, row in zip(betas, figures)]  # fmt: skip
        return {"runs": [float(beta) for beta in betas], "rows": rows}

    @mistake("loss-compared", "You rank the runs by their losses. Losses at different beta are not comparable (eq. 11.8): "
         "reward and KL are what counts.")  # fmt: skip
    def by_loss(self, betas, figures):
        least = min(row["loss"] for row in figures)
        return self.marked(betas, figures, lambda row: row["loss"] > least)

    @mistake("reward-alone", "Every run with less than the best reward counts as beaten. One that got its reward for less KL is "
         "not.")
    def by_reward(self, betas, figures):
        best = max(row["reward"] for row in figures)
        return self.marked(betas, figures, lambda row: row["reward"] < best)

    @mistake("sorted-by-beta", "The rows are sorted by beta. They stand in the order of `betas`.")
    def in_order(self, betas, figures):
        found = self.truth(betas, figures)
        return {**found, "rows": sorted(found["rows"], key=lambda row: row["beta"])}

    @staticmethod
    def marked(betas, figures, dominated):
        rows = [{"beta": float(beta), **row, "dominated": bool(dominated(row))} for beta, row in zip(betas, figures)]
        return {"runs": [float(beta) for beta in betas], "rows": rows}

    mistakes = [
        edit("dominates-itself", "A run with the same reward and KL counts as better, and every run has those of itself: it "
             "takes more in one of the two to beat another.",
             {'            and (other["reward"], other["kl"]) != (row["reward"], row["kl"])\n': ""}),
        edit("strict-in-both", "You ask for more reward *and* less KL. As much of the one and better in the other is enough.",
             {'other["reward"] >= row["reward"]': 'other["reward"] > row["reward"]', 'other["kl"] <= row["kl"]': 'other["kl"] < '
                  'row["kl"]'}),
        edit("more-kl-is-better", "The KL is compared the wrong way round: it is a price.",
             {'other["kl"] <= row["kl"]': 'other["kl"] >= row["kl"]'}),
    ]  # fmt: skip


@check("sweep", points=0.5, section="11.8")
class SweepRefuses(Check):
    probe = "refuses_betas"

    def cases(self, rng):
        for betas in ([], [0.5, 0.0], [0.5, -0.1], [0.5, float("inf")], [0.5, float("nan")]):
            yield {"betas": betas}

    def truth(self, betas):
        return {"raised": "ValueError", "message": "betas", "runs": 0}

    def judge(self, got, expected, betas):
        if got["raised"] != expected["raised"]:
            return f"betas {betas} make no sense: expected a ValueError, received {got['raised'] or 'no error'}"
        if got["runs"] != expected["runs"]:
            return f"{got['runs']} runs were made before the error: look at `betas` first"
        if "betas" in expected["message"] and not re.search(r"\bbetas?\b", got["message"]):
            return f"the ValueError does not name `betas`: it says {got['message']!r}"
        return None

    mistakes = [
        edit("checked-too-late", "The betas are looked at one by one, each just before its run: an hour later you learn that "
             "the last one is 0.", {"    require_betas(betas)\n": "    require_betas(betas[:1])\n",
                    'rows = [{"beta": beta, **run(beta)} for beta in betas]':
                    'rows = [{"beta": beta, **run(beta)} for beta in betas if require_betas([beta]) is None]'}),
        edit("any-beta", "A beta of 0 or below went through: without the anchor there is no implicit reward.",
             {"wrong = [beta for beta in betas if not 0 < beta < math.inf]": "wrong = []"}),
    ]  # fmt: skip
