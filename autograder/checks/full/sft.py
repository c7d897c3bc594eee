"""Lesson 13: what is true of supervised fine-tuning and its parts.

Every truth is worked out token by token, gradients included, by hand (`sft_replay`, which is imported where a truth needs it and
nowhere else: it stays with the grader). The model that the trainer gets is two tables, called as T5 is.
"""

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.compare import difference
from autograder.checks.refusals import Refuses, refused

EXACT = 1e-9  # float64 sums of a few dozen terms of size 1 to 1000 lose less than 1e-12; a 1e-8 inside a logarithm shows
SINGLE = 1e-5  # float32: sums of at most 30 terms of size 1 to 10, each rounded to 6e-8 of itself; bfloat16 would be 4e-3 off
RATIO = 1e-12  # quotients of small whole numbers, and means of at most ten of them
TRAINED = 2e-5  # what the trainer logs has gone through float32, by a handful of roundings of 6e-8

SPECIAL = ["<pad>", "<eos>", "<unk>"]
WORDS = [*SPECIAL, "who", "what", "when", "film", "good", "bad", "fine", "very", "was"]
SAYABLE = WORDS[3:]

IDS = 'ids = tokenizer(list(examples[name]), add_special_tokens=False)["input_ids"]'
CUT = 'columns[f"{name}_cut"] = [max(len(row) - (limit - 1), 0) for row in ids]'
KEPT = "found[name] = [[*row[: limit - 1], tokenizer.eos_token_id] for row in ids]"
READ = '"input_ids": [row + [tokenizer.pad_token_id] * (width - len(row)) for row in found["source"]],'
MASK = '"attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in found["source"]],'
LABELS = '"labels": [row + [IGNORED] * (time - len(row)) for row in found["target"]],'
START = "start = torch.full_like(labels[:, :1], start_id)"
BEFORE = "before = torch.cat([start, labels[:, :-1]], dim=1)  # (B, T)"
FILLED = "return before.masked_fill(before == IGNORED, pad_id)"
WIDTH = 'width = max(sum(row["attention_mask"]) for row in rows)'
TIME = 'time = max(sum(label != IGNORED for label in row["labels"]) for row in rows)'
BATCH_LABELS = 'labels = filled("labels", time, IGNORED)'
BATCH_READ = '"input_ids": filled("input_ids", width, pad_id),'
DECODER = '"decoder_input_ids": shift_right(labels, start_id, pad_id),'
SCORED = "    scored = labels != IGNORED\n    total"
TOTAL = "total = -chosen_log_probs(logits[scored], labels[scored]).sum()"
MEAN = "return total / (scored.sum() if count is None else count)"
STEP = "lengths[place + 1] = above[place] + 1 if word == other else max(above[place + 1], lengths[place])"
PRECISION = "precision, recall = common / len(said), common / len(wanted)"
HARMONIC = '"fmeasure": 2 * precision * recall / (precision + recall)'
IS_ZERO = '    if common == 0:\n        return {"precision": 0.0, "recall": 0.0, "fmeasure": 0.0}\n'
AS_PAD = "ids = np.where(ids == IGNORED, tokenizer.pad_token_id, ids)"
TEXTS = "return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]"
SCORER = 'scorer = RougeScorer(["rougeL"], use_stemmer=use_stemmer)'
SCORES = (
    'scores = [scorer.score(reference, text)["rougeL"].fmeasure for reference, text in zip(references, said)]'
)
REAL = "real = (ids != IGNORED) & (ids != tokenizer.pad_token_id)"
LINE = '{**row, "prediction": text, "rougeL": rouge_l(row["target"], text)["fmeasure"]}'
DUMPED = 'text = "".join(json.dumps(line, ensure_ascii=False) + "\\n" for line in lines)'
BEST = '        metric_for_best_model="rougeL",\n        greater_is_better=True,\n'
ROOM = "generation_max_length=config.max_target + 1,  # the start token counts"
OWN_LOSS = "return sft_loss(outputs.logits, labels, num_items_in_batch)"


def some_text(rng, words):
    return " ".join(rng.choice(SAYABLE, size=words))


@check("preprocess_function", points=2.5, section="13.1")
class Columns(Check):
    probe = "preprocessed"

    def cases(self, rng):
        def case(sources, targets, max_source, max_target, adds_eos=True):
            return {"words": WORDS, "source": sources, "target": targets, "max_source": max_source, "max_target": max_target,
                    "adds_eos": adds_eos}  # fmt: skip

        yield case(["who"], ["good film"], 8, 8)
        yield case(["who was", "when"], ["good", "fine bad good"], 8, 8, adds_eos=False)
        yield case(["who was very good", "when was", "film"], ["very very good film", "bad", "fine "
        "fine"], 4, 3)  # one is just so long
        yield case(["film film <eos> who", "<pad> film"], ["", "bad <eos> "
        "good"], 9, 9)  # specials are tokens of a text like any other
        sizes = rng.integers(1, 9, size=(2, 6))
        yield case(*([some_text(rng, size) for size in row] for row in sizes), 6, 5, adds_eos=False)

    def truth(self, words, source, target, max_source, max_target, adds_eos):
        from .sft_replay import columns

        return {**columns(words, source, target, max_source, max_target), "arguments changed": False}

    mistakes = [
        edit("label-padding", "Labels are filled up with the pad token, and so padding is scored: the model learns to write "
             "pads, and the loss looks better than it is. Fill them up with -100.",
             {LABELS: LABELS.replace("[IGNORED]", "[tokenizer.pad_token_id]")}),
        edit("eos-cut-off", "A text that is cut has lost its EOS: the model learns from it that answers stop being written in "
             "the middle and never end. Cut to one token fewer and put EOS behind.",
             {KEPT: "found[name] = [[*row, tokenizer.eos_token_id][:limit] for row in ids]"}),
        edit("no-eos", "There is no EOS behind the texts. Where a model never sees one, it never ends.",
             {KEPT: "found[name] = [list(row[: limit - 1]) for row in ids]"}),
        edit("two-eos", "Two EOS stand behind each text: the tokenizer has put one there already. Ask it for the text alone, "
             "`add_special_tokens=False`.", {IDS: IDS.replace("False", "True")}),
        edit("no-room-for-eos", "Rows are one token too long: EOS counts among max_source and max_target.",
             {KEPT: KEPT.replace("limit - 1", "limit"), CUT: CUT.replace("(limit - 1)", "limit")}),
        edit("cut-silently", "Nothing is said to be cut. `source_cut` and `target_cut` hold how many tokens each text has lost.",
             {CUT: 'columns[f"{name}_cut"] = [0 for row in ids]'}),
        edit("counted-with-eos", "Your count is one too high where a text just fits: max_source - 1 tokens and EOS are kept.",
             {CUT: 'columns[f"{name}_cut"] = [max(len(row) + 2 - limit, 0) for row in ids]'}),
        edit("cut-at-the-front", "Texts are cut at the front. They are cut at the end.",
             {KEPT: KEPT.replace("row[: limit - 1]", "row[max(len(row) - limit + 1, 0) :]")}),
        edit("exchanged", "Source and target are exchanged: the model would learn to ask.",
             {'tokenizer(list(examples[name])': 'tokenizer(list(examples["source" if name == "target" else "target"])'}),
        edit("one-length-for-both", "`max_source` bounds the targets too.", {'("target", max_target)': '("target", max_source)'}),
        edit("pad-is-eos", "You tell padding by its token id. The text itself may hold that token: what is padding is known "
             "from the row's length.",
             {MASK: '"attention_mask": [[int(token != tokenizer.pad_token_id) for token in row] + [0] * (width - len(row)) '
                    'for row in found["source"]],'}),
        edit("all-real", "The mask calls padding real: the encoder reads it, and the same source means something else in another "
             "batch.", {MASK: '"attention_mask": [[1] * width for row in found["source"]],'}),
        edit("padding-left", "Padding stands on the left. An encoder-decoder's rows are padded on the right.",
             {READ: '"input_ids": [[tokenizer.pad_token_id] * (width - len(row)) + row for row in found["source"]],',
              MASK: MASK.replace("[1] * len(row) + [0] * (width - len(row))", "[0] * (width - len(row)) + [1] * len(row)")}),
        edit("shifted-twice", "The labels are moved one place already. They stand where their tokens stand; `shift_right` "
             "makes the decoder's input of them, and else it happens twice.",
             {LABELS: '"labels": [[*row[1:], IGNORED] + [IGNORED] * (time - len(row)) for row in found["target"]],'}),
    ]  # fmt: skip


@check("preprocess_function", points=0.5, section="13.1")
class ColumnsRefuse(Check):
    probe = "refuses_texts"

    def cases(self, rng):
        for source, target, max_source, max_target in (
            (["who", "what"], ["good"], 4, 4), ([], [], 4, 4), (["who"], ["good"], 1, 4), (["who"], ["good"], 4, 0),
        ):  # fmt: skip
            yield {"words": WORDS, "source": source, "target": target, "max_source": max_source, "max_target": max_target}

    @staticmethod
    def spoilt(max_source, max_target, **case):
        return "max_source" if max_source < 2 else "max_target" if max_target < 2 else "examples"

    def truth(self, **case):
        return {"raised": "ValueError", "message": self.spoilt(**case)}

    def judge(self, got, expected, **case):
        return refused(got, expected, self.spoilt(**case))

    mistakes = [
        edit("uneven", "More sources than targets went through: from there on every answer belongs to another question.",
             {"    require_texts(examples)\n": ""}),
        edit("no-room", "A length without room for one token and EOS went through: nothing is left of the texts.",
             {'    require_room("max_source", max_source)\n    require_room("max_target", max_target)\n': ""}),
    ]  # fmt: skip


def some_labels(rng, lengths, time, vocabulary, lowest=0):
    """Rows of labels, -100 behind so many real ones."""
    labels = rng.integers(lowest, vocabulary, size=(len(lengths), time))
    return np.where(np.arange(time) < np.array(lengths)[:, None], labels, -100)


@check("shift_right", points=1.5, section="13.2")
class Shifted(Check):
    probe = "shifted"

    def cases(self, rng):
        yield {"labels": np.array([[5, 6, 1]]), "start_id": 0, "pad_id": 0}
        yield {"labels": np.array([[5, 1, -100, -100], [7, 8, 9, 1]]), "start_id": 2, "pad_id": 0}
        yield {"labels": np.array([[1], [4]]), "start_id": 3, "pad_id": 1}
        yield {"labels": some_labels(rng, [1, 6, 3, 5], 6, 9), "start_id": 9, "pad_id": 8}  # pad may be a token of the text

    def truth(self, labels, start_id, pad_id):
        from .sft_replay import shifted

        return {"decoder_input_ids": shifted(labels, start_id, pad_id), "arguments changed": False}

    mistakes = [
        edit("unshifted", "The decoder reads the labels themselves: at each place it sees the very token it is to say. The "
             "loss falls to nothing, and the model has learned to copy its input, which is not there when it writes.",
             {BEFORE: "before = labels"}),
        edit("shifted-left", "The labels have moved to the left: the decoder would read the *next* token. It reads those before.",
             {BEFORE: "before = torch.cat([labels[:, 1:], start], dim=1)"}),
        edit("no-start", "The first place holds the first label twice over or padding: it is the start token that stands there.",
             {START: "start = labels[:, :1]"}),
        edit("pad-for-start", "The start token is `start_id`. That T5's is its pad token is T5's own affair.",
             {START: "start = torch.full_like(labels[:, :1], pad_id)"}),
        edit("label-padding", "-100 is still there. It is no token: the decoder's embedding has no row for it. Put the pad "
             "token in its place.", {FILLED: "return before"}),
        edit("wrap-around", "The last label has come round to the front (`torch.roll`). The start token stands there.",
             {BEFORE: "before = labels.roll(1, dims=1)"}),
        edit("one-longer", "The result is one place longer than the labels: the last label is read by nobody.",
             {"torch.cat([start, labels[:, :-1]], dim=1)": "torch.cat([start, labels], dim=1)"}),
        edit("in-place", "`labels` itself has been changed, and whoever scores them next scores padding too. Work on a copy.",
             {FILLED: "labels.masked_fill_(labels == IGNORED, pad_id)\n    " + FILLED}),
    ]  # fmt: skip


@check("shift_right", points=0.25, section="13.2")
class ShiftRefuses(Refuses):
    def cases(self, rng):
        good = {"labels": np.array([[3, 1]]), "start_id": 0, "pad_id": 0}
        for bad in (np.array([3, 1]), np.ones((1, 2, 2), dtype=int)):
            yield {"function": "shift_right", "good": good, "argument": "labels", "bad": bad}

    mistakes = [
        edit("any-shape", "Labels that are not (batch, time) went through.",
             {"    require_labels(labels)\n": "    labels = labels.reshape(len(labels), -1)\n"}),
    ]  # fmt: skip


def row_of(source, target, width, time, pad):
    filling = width - len(source)
    return {"input_ids": source + [pad] * filling, "attention_mask": [1] * len(source) + [0] * filling,
            "labels": target + [-100] * (time - len(target)), "source_cut": 0, "target_cut": 0}  # fmt: skip


@check("collate", points=2, section="13.2")
class Batch(Check):
    probe = "collated"

    def cases(self, rng):
        def tokens(count):
            return [*map(int, rng.integers(2, 9, size=count - 1)), 1]

        yield {"rows": [row_of([5, 1], [6, 7, 1], 2, 3, 0)], "start_id": 0, "pad_id": 0}
        yield {"rows": [row_of([5, 4, 1], [6, 1], 6, 5, 0), row_of([3, 1], [7, 8, 1], 6, 5, 0)], "start_id": 2, "pad_id": 0}
        yield {"rows": [row_of([5, 4, 3, 1], [6, 1], 4, 2, 0), row_of([3, 1], [7, 8, 9, 1], 3, 6, 0)], "start_id": 0, "pad_id": 0}
        # pad is EOS, and a token of the text: the mask alone says what is real
        yield {"rows": [row_of([5, 1, 1], [1, 1], 5, 4, 1), row_of([1], [4, 1, 1], 5, 4, 1)], "start_id": 3, "pad_id": 1}
        sizes = rng.integers(1, 6, size=(5, 2))
        yield {"rows": [row_of(tokens(a), tokens(b), 7 + i % 2, 6 + i % 3, 0) for i, (a, b) in enumerate(sizes)], "start_id": 0,
               "pad_id": 0}  # fmt: skip

    def truth(self, rows, start_id, pad_id):
        from .sft_replay import batch

        return {"batch": batch(rows, start_id, pad_id), "arguments changed": False}

    mistakes = [
        edit("superfluous-columns", "Columns in which every row has padding are still there: the model computes them for "
             "nothing. As wide as the longest of these rows is enough.",
             {WIDTH: 'width = max(len(row["attention_mask"]) for row in rows)',
              TIME: 'time = max(len(row["labels"]) for row in rows)'}),
        edit("cut-to-the-shortest", "Rows are cut to the shortest of the batch, and the others lose their ends.",
             {WIDTH: WIDTH.replace("max(", "min("), TIME: TIME.replace("max(", "min(")}),
        edit("label-padding", "Labels are filled up with the pad token, which will be scored. Fill them up with -100.",
             {BATCH_LABELS: 'labels = filled("labels", time, pad_id)'}),
        edit("pad-is-eos", "You tell padding by its token id: EOS is lost where it is the pad token too. The mask and -100 say "
             "what is padding.", {WIDTH: 'width = max(sum(token != pad_id for token in row["input_ids"]) for row in rows)',
                          TIME: 'time = max(sum(label not in (IGNORED, pad_id) for label in row["labels"]) for row in rows)'}),
        edit("unshifted", "The decoder's input is the labels themselves. It is `shift_right` of them.",
             {DECODER: '"decoder_input_ids": labels.masked_fill(labels == IGNORED, pad_id),'}),
        edit("pad-for-start", "The decoder's start token is `start_id`, not the pad token.",
             {DECODER: '"decoder_input_ids": shift_right(labels, pad_id, pad_id),'}),
        edit("ignored-in-the-source", "The source is filled up with -100. That is for labels; the encoder reads the pad token, "
             "under mask 0.", {BATCH_READ: '"input_ids": filled("input_ids", width, IGNORED),'}),
        edit("padding-is-real", "The mask has 1 on padding.",
             {'"attention_mask": filled("attention_mask", width, 0),': '"attention_mask": filled("attention_mask", width, 1),'}),
    ]  # fmt: skip


@check("sft_loss", points=2.5, section="13.3")
class Loss(Check):
    probe = "loss"
    tolerance = EXACT

    def cases(self, rng):
        yield {"logits": np.log(np.array([[[1.0, 1.0, 2.0]]])), "labels": np.array([[2]])}  # log 2
        yield {"logits": rng.normal(size=(2, 4, 3)), "labels": some_labels(rng, [4, 2], 4, 3)}
        yield {"logits": rng.normal(size=(4, 6, 5)), "labels": some_labels(rng, [6, 1, 3, 2], 6, 5)}
        yield {"logits": rng.normal(size=(2, 3, 4)), "labels": some_labels(rng, [3, 0], 3, 4)}  # a row without a label
        yield {"logits": rng.normal(size=(2, 4, 3)), "labels": some_labels(rng, [4, 1], 4, 3), "count": 17}
        yield {"logits": rng.normal(size=(2, 4, 3)), "labels": some_labels(rng, [2, 1], 4, 3), "count": 9, "as_tensor": True}
        huge = rng.choice([-900.0, -200.0, 0.0, 200.0, 899.0], size=(2, 5, 4))
        yield {"logits": huge, "labels": some_labels(rng, [5, 3], 5, 4)}

    def truth(self, logits, labels, count=None, as_tensor=False):
        from .sft_replay import loss

        value, gradient = loss(logits, labels, count)
        return {"loss": value, "dtype": "float64", "gradients": {"logits": gradient}, "arguments changed": False}

    mistakes = [
        edit("shifted-twice", "You shift once more, as a decoder-only model needs it. Here the decoder's input has been "
             "shifted: the logits at t are for labels[:, t].",
             {SCORED: "    if labels.shape[1] > 1:\n        logits, labels = logits[:, :-1], labels[:, 1:]\n" + SCORED}),
        edit("label-padding", "Positions with the label -100 are scored as if they were token 0. They do not count at all.",
             {SCORED: "    labels = labels.clamp(min=0)\n    scored = torch.ones_like(labels, dtype=torch.bool)\n    total"}),
        edit("padding-scored", "The sum is divided by the number of all places, padding with them. Divide by the number of real "
             "labels.",
             {MEAN: MEAN.replace("scored.sum()", "labels.numel()")}),
        edit("mean-of-means", "You average each row by itself, then the rows: a token of a short answer counts more than one "
             "of a long answer. The mean is over all real labels.",
             {MEAN: "if count is not None:\n        return total / count\n    flat = "
             "logits.new_zeros(labels.shape).masked_scatter("
                    "scored, -chosen_log_probs(logits[scored], labels[scored]))\n    rows = flat.sum(dim=1) / "
                    "scored.sum(dim=1).clamp(min=1)\n    return rows.mean()"}),
        edit("sum-for-mean", "This is the sum over the tokens. Asked for is their mean.", {MEAN: "return total / (1 if count is "
             "None else count)"}),
        edit("mean-per-row", "You divide by the number of rows. The mean is over "
             "tokens.", {MEAN: MEAN.replace("scored.sum()", "len(labels)")}),
        edit("count-ignored", "`count` has no effect. Where a step takes several batches, all of them divide by the same "
             "number, that of the tokens of all.", {MEAN: "return total / scored.sum()"}),
        edit("divided-twice", "With `count` you divide the mean by it once more.",
             {MEAN: "mean = total / scored.sum()\n    return mean if count is None else mean / count"}),
        edit("flipped-sign", "The sign is that of a log-likelihood, which is to be made large. A loss is to be made small.",
             {TOTAL: TOTAL.replace("-chosen", "chosen")}),
        edit("raw-logits-as-log-probs", "These are logits, not log-probabilities: the log-softmax over the vocabulary is "
             "missing.",
             {TOTAL: "total = -logits[scored].gather(1, labels[scored].unsqueeze(1)).sum()"}),
        edit("log-of-softmax", "The softmax underflows to 0 and its logarithm is -inf. Take log_softmax, or the cross entropy, "
             "in one step.",
             {TOTAL: "total = -logits[scored].softmax(-1).log().gather(1, labels[scored].unsqueeze(1)).sum()"}),
        edit("log-plus-epsilon", "A small number inside the logarithm hides the infinity, and with it the gradient of exactly "
             "the tokens that are most wrong.",
             {TOTAL: "total = -(logits[scored].softmax(-1) + 1e-8).log().gather(1, labels[scored].unsqueeze(1)).sum()"}),
        edit("cut-graph", "No gradient reaches the logits.", {TOTAL: TOTAL.replace("logits[", "logits.detach()[")}),
        edit("device-dtype", "The loss is float32. float64 in, float64 "
             "out.", {TOTAL: TOTAL.replace("logits[", "logits.float()[")}),
        edit("in-place", "`labels` itself has been changed. Work on a copy.", {SCORED: SCORED.replace("\n    total", "\n    "
             "labels[~scored] = 0\n    total")}),
    ]  # fmt: skip


@check("sft_loss", points=0.5, section="13.3")
class LossInBfloat16(Check):
    probe = "loss_in_bfloat16"
    tolerance = SINGLE

    def cases(self, rng):
        def logits(*shape):
            return rng.integers(-31, 32, size=shape) / 8  # exact in bfloat16

        yield {"logits": logits(1, 2, 4), "labels": some_labels(rng, [2], 2, 4)}
        yield {"logits": logits(3, 9, 6), "labels": some_labels(rng, [9, 7, 3], 9, 6)}

    def truth(self, logits, labels):
        from .sft_replay import loss

        return {"loss": loss(logits, labels)[0], "dtype": "float32"}

    mistakes = [
        edit("half-precision", "From bfloat16 logits the loss is bfloat16: eight bits, in which 2.0 and 2.01 are the same. "
             "Take the logits to float32 first.",
             {TOTAL: "total = -logits[scored].log_softmax(-1).gather(1, labels[scored].unsqueeze(1)).sum()"}),
    ]  # fmt: skip


@check("sft_loss", points=0.5, section="13.3")
class LossRefuses(Refuses):
    def cases(self, rng):
        good = {"logits": rng.normal(size=(2, 3, 4)), "labels": np.array([[2, 3, -100], [0, -100, -100]])}
        for argument, bad in (("labels", np.array([[2, 1]] * 2)), ("labels", np.array([[2, 3, 4]] * 2)),
                              ("labels", np.array([[2, -1, -100]] * 2)), ("labels", np.full((2, 3), -100)),
                              ("logits", rng.normal(size=(2, 3)))):  # fmt: skip
            yield {"function": "sft_loss", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("nothing-to-score", "A batch without a real label went through: 0/0, and a NaN in the weights.",
             {"    if not real.any():\n": "    if False:\n"}),
        edit("any-label", "A label that is no token of the vocabulary went through.",
             {"wrong = real & ((labels < 0) | (labels >= logits.shape[2]))": "wrong = labels >= logits.shape[2]"}),
    ]  # fmt: skip


@check("lcs_length", points=1.5, section="13.5")
class Common(Check):
    probe = "common"
    seconds = 5.0  # the longest case takes 3 ms by dynamic programming and longer than anybody waits without

    def cases(self, rng):
        yield {"reference": ["the", "film", "was", "good"], "prediction": ["the", "film", "is", "good"]}
        yield {"reference": ["a", "b", "c"], "prediction": ["c", "b", "a"]}
        yield {"reference": ["a", "a", "b"], "prediction": ["a", "b", "b", "a"]}
        yield {"reference": [], "prediction": ["a"]}
        yield {"reference": ["a", "b"], "prediction": []}
        for first, second, letters in ((7, 5, 3), (12, 15, 4), (60, 70, 3)):
            yield {"reference": [*map(str, rng.integers(letters, size=first))],
                   "prediction": [*map(str, rng.integers(letters, size=second))]}  # fmt: skip

    def truth(self, reference, prediction):
        from .sft_replay import lcs

        return {"length": lcs(tuple(reference), tuple(prediction))}

    mistakes = [
        edit("words-in-any-order", "You count common words whatever their order. A subsequence keeps it: of `a b c` and `c b a` "
             "one word "
             "is common, not three.", {"    return lengths[-1]\n": "    return sum(min(list(reference).count(word), "
             "list(prediction)"
                                       ".count(word)) for word in set(reference))\n"}),
        edit("substring", "You look for words that stand together. A subsequence may have gaps.",
             {STEP: "lengths[place + 1] = above[place] + 1 if word == other else 0",
              "    return lengths[-1]\n": "    return max([0, *(n for i in range(len(reference)) for j in range(len(prediction)) "
                                          "for n in range(1, 1 + min(len(reference) - i, len(prediction) - j)) "
                                          "if list(reference[i : i + n]) == list(prediction[j : j + n]))])\n"}),
        edit("greedy", "You take the next match wherever it is found. A match that lies far ahead can cost all those before "
             "it: compare both ways, and keep the better.",
             {"    return lengths[-1]\n": "    place, count = 0, 0\n    for word in reference:\n        rest = "
             "list(prediction[place:])\n"
              "        if word in rest:\n            place, count = place + rest.index(word) + 1, count + 1\n    return "
              "count\n"}),
        edit("one-row", "`above` is the row that is being written, so that one word of the reference is matched again and "
             "again. Keep the row before it.", {"above = lengths[:]": "above = lengths"}),
        edit("neighbours-added", "A match adds 1 to the length *without both words*, the entry up and to the left.",
             {"above[place] + 1 if": "max(above[place + 1], lengths[place]) + 1 if"}),
        edit("left-forgotten", "Without a match the better of two ways is taken: leaving out a word of the one, or of the other.",
             {"else max(above[place + 1], lengths[place])": "else above[place + 1]"}),
    ]  # fmt: skip


@check("rouge_l", points=1.5, section="13.5")
class Rouge(Check):
    probe = "rouge"
    tolerance = RATIO

    def cases(self, rng):
        yield {"reference": "the film was good", "prediction": "the film was good"}
        yield {"reference": "The film was very good.", "prediction": "the film: good"}
        yield {"reference": "one two", "prediction": "three"}
        for reference, prediction in (("", "good"), ("good", ""), ("...", "!")):
            yield {"reference": reference, "prediction": prediction}
        yield {"reference": "It's a well-made film of 1999", "prediction": "a film made well in 1999, it s said"}
        yield {"reference": "films filmed", "prediction": "film filming films"}  # no stems
        for first, second in ((4, 9), (12, 6)):
            yield {"reference": some_text(rng, first), "prediction": some_text(rng, second)}

    def truth(self, reference, prediction):
        from .sft_replay import rouge

        return rouge(reference, prediction)

    mistakes = [
        edit("precision-for-recall", "Precision and recall are exchanged: precision is the share of what was *said*, recall "
             "that of what was *to be said*.", {PRECISION: "recall, precision = common / len(said), common / len(wanted)"}),
        edit("recall-alone", "The F-measure is the recall alone: the longer a prediction, the better.",
             {HARMONIC: '"fmeasure": recall'}),
        edit("arithmetic-mean", "The F-measure is the harmonic mean, 2 P R / (P + R): low where either is low.",
             {HARMONIC: '"fmeasure": (precision + recall) / 2'}),
        edit("split-at-blanks", "Words are split at blanks, so that `good.` is another word than `good`. Compare `words_of` the "
             "texts.",
             {"words_of(reference), words_of(prediction)": "reference.lower().split(), prediction.lower().split()"}),
        edit("letters-for-words", "Letters are compared in place of words.",
             {"words_of(reference), words_of(prediction)": "list(reference.lower()), list(prediction.lower())"}),
        edit("zero-common", "Nothing in common gives 0/0. All three are 0 then.",
             {IS_ZERO: "    if not said and not wanted:\n        return {\"precision\": 0.0, \"recall\": 0.0, \"fmeasure\": "
             "0.0}\n"}),
        edit("percent", "These are percent. Asked for are fractions from 0 to 1.",
             {PRECISION: PRECISION + "\n    precision, recall = 100 * precision, 100 * recall"}),
        edit("empty-is-perfect", "Where nothing is common you say 1 for texts without words. All three are 0.",
             {IS_ZERO: IS_ZERO + "    common = common\n", "    common = lcs_length(wanted, said)\n":
              "    common = lcs_length(wanted, said)\n    if not said or not wanted:\n        return {\"precision\": 1.0 * (not "
              "said), "
              "\"recall\": 1.0 * (not wanted), \"fmeasure\": 1.0 * (not said and not wanted)}\n"}),
    ]  # fmt: skip


def some_ids(rng, lengths, time, fill, start=None):
    """Rows of ids that end with EOS (1), filled up; with `start`, behind a start token."""
    rows = []
    for length in lengths:
        row = [*map(int, rng.integers(3, len(WORDS), size=length)), 1]
        row = ([] if start is None else [start]) + row
        rows.append(row + [fill] * (time - len(row)))
    return np.array(rows)


@check("decode_tokens", points=1, section="13.6")
class Decoded(Check):
    probe = "decoded"

    def cases(self, rng):
        yield {"words": WORDS, "ids": np.array([[0, 7, 6, 1, 0]])}
        yield {"words": WORDS, "ids": np.array([[7, 6, 1, -100, -100], [3, 1, -100, -100, -100]])}
        yield {"words": WORDS, "ids": np.array([[0, 7, 1, -100], [0, 1, 0, -100]]), "as_numpy": False}
        yield {"words": WORDS, "ids": some_ids(rng, [4, 1, 0, 3], 7, -100, start=0)}

    def truth(self, words, ids, as_numpy=True):
        from .sft_replay import texts

        return {"texts": texts(words, ids), "arguments changed": False}

    mistakes = [
        edit("decodes-minus-100", "-100 is handed to the tokenizer, which has no such token: some raise an error, some write a "
             "word. Put the pad token in its place first.", {AS_PAD: "ids = ids % len(tokenizer)"}),
        edit("specials-in-the-text", "Start, EOS and pad stand in the texts as words, and ROUGE compares them: every "
             "prediction that ends then agrees with every reference in one word. Leave them out: skip_special_tokens.",
             {"skip_special_tokens=True": "skip_special_tokens=False"}),
        edit("cut-at-the-first", "The first token of each row is thrown away, whether it is a start token or a word.",
             {TEXTS: TEXTS.replace("(ids, skip", "(ids[:, 1:], skip")}),
        edit("unknown-for-ignored", "-100 has become a word of the text. It is padding.",
             {AS_PAD: "ids = np.where(ids == IGNORED, 3, ids)"}),
        edit("in-place", "The ids themselves have been changed: whoever counts -100 afterwards finds none.",
             {AS_PAD: "ids[ids == IGNORED] = tokenizer.pad_token_id"}),
    ]  # fmt: skip


@check("compute_metrics", points=2, section="13.6")
class Metrics(Check):
    probe = "metrics"
    tolerance = RATIO

    def cases(self, rng):
        def case(predictions, label_ids, words=WORDS, **more):
            return {"words": words, "predictions": np.array(predictions), "label_ids": np.array(label_ids), **more}

        yield case([[0, 7, 6, 1]], [[7, 6, 1]])
        yield case([[0, 7, 1, 0, 0], [0, 8, 6, 10, 7], [0, 1, 0, 0, 0]], [[7, 6, 1, -100], [8, 6, 1, -100], [9, 1, -100, 0]])
        yield case(some_ids(rng, [4, 1, 0, 6], 9, -100, start=0), some_ids(rng, [3, 2, 5, 6], 8, -100))
        stems = [*SPECIAL, "film", "films", "filmed", "actor", "actors"]  # stems: film, film, film, actor, actor
        for use_stemmer in (False, True):
            yield case([[0, 3, 6, 1], [0, 5, 1, 0]], [[4, 7, 1], [4, 3, 1]], stems, use_stemmer=use_stemmer)

    def truth(self, words, predictions, label_ids, use_stemmer=False):
        from .sft_replay import metrics

        def stem(word):
            return {"films": "film", "filmed": "film", "actors": "actor"}.get(word, word) if use_stemmer else word

        return {**metrics(words, predictions, label_ids, stem), "arguments changed": False}

    mistakes = [
        edit("precision-or-recall", "This is the recall: a prediction that says everything, whatever else it says, gets 1. "
             "Take the F-measure.", {SCORES: SCORES.replace(".fmeasure", ".recall")}),
        edit("exchanged", "References and predictions are exchanged, so that what counts as length and as ended is the "
             "references'.",
             {"(prediction.label_ids, prediction.predictions)": "(prediction.predictions, prediction.label_ids)",
              "ids = np.asarray(prediction.predictions)\n": "ids = np.asarray(prediction.label_ids)\n"}),
        edit("stemmer-always", "Words are always reduced to their stems: figures are then higher, and not comparable with "
             "`rouge_l`.",
             {SCORER: SCORER.replace("use_stemmer=use_stemmer", "use_stemmer=True")}),
        edit("stemmer-never", "`use_stemmer` has no "
             "effect.", {SCORER: SCORER.replace("use_stemmer=use_stemmer", "use_stemmer=False")}),
        edit("percent", "ROUGE-L is in percent. Asked for is a fraction from 0 to 1.",
             {"float(np.mean(scores))": "100 * float(np.mean(scores))"}),
        edit("rouge-1", "This is ROUGE-1, which counts common words in any order. ROUGE-L wants them in order.",
             {SCORER: SCORER.replace('["rougeL"]', '["rouge1"]'), SCORES: SCORES.replace('["rougeL"]', '["rouge1"]')}),
        edit("corpus-as-one-text", "All answers are joined into one text. Each row has its own score; the mean comes last.",
             {SCORES: 'scores = [scorer.score(" ".join(references), " ".join(said))["rougeL"].fmeasure]'}),
        edit("padding-scored", "Lengths count padding: they are as long as the longest answer.",
             {REAL: "real = np.ones_like(ids, dtype=bool)"}),
        edit("eos-not-counted", "EOS is left out of the length. It was generated too.",
             {REAL: REAL + " & (ids != tokenizer.eos_token_id)"}),
        edit("share-of-tokens", "This is the share of tokens that are EOS. Asked for is the share of *rows* that hold one.",
             {".any(axis=1).mean())": ".mean())"}),
    ]  # fmt: skip


@check("write_predictions", points=1.5, section="13.6")
class Written(Check):
    probe = "written"
    tolerance = RATIO

    def cases(self, rng):
        yield {"words": WORDS, "rows": [{"source": "who", "target": "good film"}], "generated": np.array([[0, 7, 6, 1]])}
        rows = [{"id": "q7", "source": "who was", "target": "naïve, very good"}, {"id": "q2", "source": "when", "target": "bad"},
                {"id": "q5", "source": "what film", "target": "fine \"fine\"\nfilm"}]  # fmt: skip
        yield {"words": [*WORDS[:-1], "naïve"], "rows": rows, "generated": np.array([[0, 11, 7, 1], [0, 9, 1, -100], [0, 9, 6, 1]])}
        count = 5
        rows = [{"source": some_text(rng, 3), "target": some_text(rng, size)} for size in rng.integers(1, 6, size=count)]
        yield {"words": WORDS, "rows": rows, "generated": some_ids(rng, rng.integers(0, 6, size=count), 9, 0, start=0)}

    def truth(self, words, rows, generated):
        from .sft_replay import rouge, texts

        lines = [{**row, "prediction": text, "rougeL": rouge(row["target"], text)["fmeasure"]}
                 for row, text in zip(rows, texts(words, generated))]  # fmt: skip
        return {"lines": lines, "returned": lines, "escaped letters": False}

    mistakes = [
        edit("one-array", "The file is one JSON list. JSON Lines has one object a line, so that it can be read, and cut off, "
             "line by line.",
             {DUMPED: "text = json.dumps(lines, ensure_ascii=False)"}),
        edit("source-against-prediction", "ROUGE-L is taken against the source. It is to be against the target.",
             {'rouge_l(row["target"], text)': 'rouge_l(row["source"], text)'}),
        edit("rest-left-out", "Only three entries of a row are kept. Whatever else it has, its id above all, goes along.",
             {"{**row, ": '{"source": row["source"], "target": row["target"], '}),
        edit("sorted", "The lines are sorted by their score. They stand in the order of the rows.",
             {"    text = \"\".join(": "    lines.sort(key=lambda line: -line[\"rougeL\"])\n    text = \"\".join("}),
        edit("appended", "The lines are written twice, or behind those of an earlier run. The file holds the predictions, once.",
             {"Path(path).write_text(text, ": "Path(path).write_text(text + text, "}),
        edit("recall-alone", "This is ROUGE-L's recall. Asked for is the F-measure.",
             {'rouge_l(row["target"], text)["fmeasure"]}': 'rouge_l(row["target"], text)["recall"]}'}),
        edit("escaped", "Letters beyond ASCII are written as \\u....: nobody can read them. `ensure_ascii=False`, and UTF-8.",
             {"json.dumps(line, ensure_ascii=False)": "json.dumps(line)"}),
    ]  # fmt: skip


@check("write_predictions", points=0.25, section="13.6")
class WrittenRefuses(Check):
    probe = "refuses_predictions"

    def cases(self, rng):
        rows = [{"source": "who", "target": "good"}, {"source": "when", "target": "bad"}]
        for ids in ([[0, 7, 1]], [[0, 7, 1]] * 3):
            yield {"words": WORDS, "rows": rows, "generated": np.array(ids)}

    def truth(self, **case):
        return {"raised": "ValueError", "message": "generated", "a file is left": False}

    def judge(self, got, expected, **case):
        if got["a file is left"] != expected["a file is left"]:
            return "a file is left behind although the rows and the predictions do not belong together"
        return refused(got, expected, "generated")

    mistakes = [
        edit("cut-to-the-shorter", "Rows and predictions of different number went through, cut to the shorter of the two: from "
             "some row on they may not belong together.", {"    require_as_many(rows, generated)\n": ""}),
    ]  # fmt: skip


class Built(Check):
    probe = "trainer"
    seconds = 30.0  # a trainer is built and trains for a few steps in half a second; where its library is not loaded yet, in five
    tolerance = TRAINED

    @staticmethod
    def case(rng, train, validation, settings, learns=True, worth=None):
        def rows(sizes):
            return [{"source": some_text(rng, a), "target": some_text(rng, b)} for a, b in sizes]

        size = len(WORDS)
        tables = {"words": rng.normal(size=(size, size)), "sources": rng.normal(size=(size, size))}
        case = {"words": WORDS, "tables": tables, "rows": {"train": rows(train), "validation": rows(validation)},
                "settings": settings, "learns": learns}  # fmt: skip
        return case if worth is None else {**case, "worth": worth}

    @staticmethod
    def batch(words, rows, settings):
        from .sft_replay import batch, columns

        found = columns(words, *([row[side] for row in rows] for side in ("source", "target")), settings["max_source"],
                        settings["max_target"])  # fmt: skip
        return batch([dict(zip(found, row)) for row in zip(*found.values())], 0, 0)


@check("build_trainer", points=2, section="13.7")
class TrainerEvaluates(Built):
    """One evaluation of a model that is two tables: its batch, what was asked of generation, and the figures."""

    def cases(self, rng):
        settings = {"batch_size": 2, "eval_every": 1, "max_source": 9, "max_target": 9}
        yield self.case(rng, [(1, 2), (2, 1)], [(1, 2), (2, 3)], settings, learns=False)
        settings = {"batch_size": 2, "eval_every": 1, "max_source": 4, "max_target": 6, "num_beams": 3}
        yield self.case(rng, [(1, 2), (2, 1)], [(6, 3), (2, 8), (3, 1)], settings, learns=False)

    def truth(self, words, tables, rows, settings, learns):
        from .sft_replay import greedy, loss, metrics, sources_of, table_logits

        batch = self.batch(words, rows["validation"], settings)
        said = greedy(tables, sources_of(batch), settings["max_target"])
        value, _ = loss(table_logits(tables, sources_of(batch), batch["decoder_input_ids"]), batch["labels"])
        figures = metrics(words, said, batch["labels"])
        return {
            "batch": batch,
            "evaluation": {**{f"eval_{name}": figure for name, figure in figures.items()}, "eval_loss": value},
            "asked of "
            "generation": {"longest": settings["max_target"] + 1, "beams": settings.get("num_beams", 1), "sampled": False,
                                    "begins with the answer": False},
        }  # fmt: skip

    mistakes = [
        edit("teacher-forced", "Evaluation does not generate: it takes the likeliest token behind each piece of the "
             "*reference*. That figure is far better than anything the model writes by itself. `predict_with_generate=True`.",
             {"predict_with_generate=True": "predict_with_generate=False", "compute_metrics=partial(compute_metrics, "
             "tokenizer=tokenizer)":
              "compute_metrics=lambda found: "
              "compute_metrics(type(found)(predictions=np.pad(np.asarray(found.predictions).argmax(-1), "
              "((0, 0), (1, 0))), label_ids=found.label_ids), tokenizer)"}),
        edit("start-not-counted", "Generation has room for one token too few: `generation_max_length` counts the start token, "
             "so that an "
             "answer of max_target tokens could not be written to its end.", {ROOM: "generation_max_length=config.max_target,"}),
        edit("default-length", "Generation stops at the model's default length. Long answers are cut, and nobody says so.", {"  "
             "      " + ROOM + "\n": ""}),
        edit("beams-ignored", "`config.num_beams` does not reach generation.", {"        "
             "generation_num_beams=config.num_beams,\n": ""}),
        edit("no-metric", "Evaluation measures the loss alone: hand `compute_metrics` on, with the tokenizer.",
             {"compute_metrics=partial(compute_metrics, tokenizer=tokenizer)": "compute_metrics=None",
              BEST: ""}),
        edit("trains-on-validation", "The evaluation goes over the training rows.",
             {"eval_dataset=prepared(validation_rows)": "eval_dataset=prepared(train_rows)"}),
        edit("lengths-exchanged", "max_source and max_target are exchanged.",
             {"config.max_source, config.max_target)": "config.max_target, config.max_source)"}),
        edit("labels-in-generation", "The decoder's input of the batch goes into generation too: it has another shape than the "
             "labels.",
             {"data_collator=partial(collate, start_id=model.config.decoder_start_token_id, pad_id=tokenizer.pad_token_id)":
              "data_collator=lambda rows: {name: torch.nn.functional.pad(value, (0, 1)) if name == \"decoder_input_ids\" else "
              "value for "
              "name, value in collate(rows, model.config.decoder_start_token_id, tokenizer.pad_token_id).items()}"}),
    ]  # fmt: skip


@check("build_trainer", points=1, section="13.7")
class TrainerLearns(Built):
    """Steps of several batches each: loss and gradient of the first, and how many there are."""

    def cases(self, rng):
        settings = {"batch_size": 4, "eval_every": 100, "max_source": 6, "max_target": 6, "epochs": 2}
        yield self.case(rng, [(1, 5), (2, 1), (3, 2)], [(2, 2)], settings)
        settings = {"batch_size": 2, "accumulate": 2, "eval_every": 100, "max_source": 6, "max_target": 9, "epochs": 1}
        yield self.case(rng, [(1, 8), (2, 1), (3, 1), (1, 1)], [(2, 2)], settings)

    def truth(self, words, tables, rows, settings, learns):
        from .sft_replay import gradient_norm

        batch = self.batch(words, rows["train"], settings)
        by = int((batch["labels"] != -100).sum())
        value, norm = gradient_norm(tables, batch, by)
        return {"first loss": value, "first gradient": norm, "steps": settings["epochs"]}

    def judge(self, got, expected, **case):
        return difference({name: got[name] for name in expected if name in got}, expected, self.tolerance)

    mistakes = [
        edit("mean-of-means", "Each of the batches of a step is averaged by itself, so that tokens of batches with short "
             "answers weigh more. Divide by the number of tokens of all (`num_items_in_batch`).",
             {OWN_LOSS: "return sft_loss(outputs.logits, labels) / config.accumulate"}),
        edit("not-divided", "The losses of the batches of a step are added up, each divided by its own tokens: the gradient "
             "grows with `config.accumulate`. Divide by the number of tokens of all (`num_items_in_batch`).",
             {OWN_LOSS: "return sft_loss(outputs.logits, labels)"}),
        edit("summed", "The loss is a sum over tokens.", {OWN_LOSS: "return sft_loss(outputs.logits, labels, 1)"}),
        edit("learns-from-validation", "The trainer learns from the validation rows.",
             {"train_dataset=prepared(train_rows)": "train_dataset=prepared(validation_rows)"}),
    ]  # fmt: skip


@check("build_trainer", points=1, section="13.7")
class TrainerKeepsTheBest(Built):
    """A model whose answers at each evaluation are scripted: the best of them is to be kept, whatever the loss does."""

    def cases(self, rng):
        # right answers of the two, evaluation by evaluation; with the large step the validation loss rises from the first on
        for worths, rate in (([0, 2, 1], 1e-3), ([0, 2, 1], 5.0), ([2, 0, 1], 1e-3), ([0, 1, 1, 2], 1e-3), ([1, 0, 0, 0], 1e-3)):
            targets = [[7, 6], [8, 9]]
            said = [[[0, *(target if place < worth else [5, 5]), 1] for place, target in enumerate(targets)] for worth in worths]
            settings = {"batch_size": 2, "eval_every": 1, "max_source": 6, "max_target": 5, "epochs": len(worths),
                        "learning_rate": rate}  # fmt: skip
            case = self.case(rng, [(1, 2), (2, 1)], [(1, 1), (1, 1)], settings, worth=[np.array(ids) for ids in said])
            case["rows"]["validation"] = [{"source": "who", "target": "good film"}, {"source": "what", "target": "bad fine"}]
            yield case

    def truth(self, words, tables, rows, settings, learns, worth):
        from .sft_replay import metrics

        labels = self.batch(words, rows["validation"], settings)["labels"]
        scores = [metrics(words, ids, labels)["rougeL"] for ids in worth]
        return {"evaluations": len(worth), "weights at the end are those of evaluation": int(np.argmax(scores))}

    def judge(self, got, expected, **case):
        return difference({name: got[name] for name in expected if name in got}, expected, self.tolerance)

    mistakes = [
        edit("keeps-the-last", "After training the model is that of the last step. `load_best_model_at_end` brings back the "
             "best one.",
             {"load_best_model_at_end=True": "load_best_model_at_end=False"}),
        edit("best-by-loss", "The best checkpoint is chosen by the loss, which says how well references are foreseen, not how "
             "well the model writes. `metric_for_best_model` is rougeL.",
             {BEST: '        metric_for_best_model="loss",\n        greater_is_better=False,\n'}),
        edit("keeps-the-worst", "The checkpoint with the *lowest* ROUGE-L is kept: greater is better.",
             {"greater_is_better=True": "greater_is_better=False"}),
    ]  # fmt: skip
