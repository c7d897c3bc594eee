"""Lesson 12: what is true of a reward model and its parts.

The truths are worked out in NumPy, one row at a time and without padding (`reward_model_truth`, which is imported where a truth
needs it and nowhere else: it stays with the grader).
"""

import math

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference
from autograder.checks.refusals import Refuses, refused

EXACT = 1e-9  # float64 sums of a few dozen terms of size 1 to 1000 lose less than 1e-12; a 1e-8 inside a logarithm shows
REPLAY = 1e-8  # a few steps of such sums, each starting from the one before
SINGLE = 1e-5  # float32: a mean of 4 terms of size 1 to 10, each rounded to 6e-8 of itself
EXTREME = np.array([200.0, -200.0, 1000.0, -1000.0, 0.5])  # sigma(-200) is 1e-87, sigma(-1000) is 0 in float64

CANCELLED = """            if annotation.get("was_cancelled"):
                continue
"""
PAIRWISE = '                if result.get("type") == "pairwise":\n'
SELECTED = 'label = label_of(result["value"].get("selected"))'
JUDGED = 'found.append(Preference(str(annotation["id"]), *texts, label))'
ORDER = "((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))"
SIX = 'found.append(Preference(f"{number}:{one}{two}", prompt, *answers, label))'
COLUMNS = "columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)"
LAST = "return (columns * (attention_mask != 0)).argmax(dim=1)"
HEAD = "self.score = nn.Linear(transformer.config.n_embd, 1, bias=False, dtype=like.dtype, device=like.device)"
START = "nn.init.normal_(self.score.weight, std=0.02)"
PLACES = "places = position_ids(attention_mask)\n"
ASKED = "input_ids=input_ids, attention_mask=attention_mask, position_ids=places, use_cache=False"
PICKED = "last = out.last_hidden_state[rows, last_token(attention_mask)]  # (B, T, D) -> (B, D)"
SCORE = "return self.score(last).squeeze(-1)"
LAYERS = "layers = math.floor(fraction * len(body.h) + 1e-9)"
AFRESH = "    model.requires_grad_(True)\n"
PARTS = "for part in (body.wte, body.wpe, *body.h[:layers]) if fraction > 0 else ():"
LOSS = "return -F.logsigmoid(chosen - rejected).mean()"
SHARE = "share = ((1 + (chosen - rejected).sign()) / 2).double().mean().item()"
SPREAD = "spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))"
MIDDLE = "middle, scale = share + Z95**2 / (2 * count), 1 + Z95**2 / count"
CONFIDENCE = "confidence, right = torch.sigmoid(margin.abs()), (1 + margin.sign()) / 2"
PLACE = "place = (2 * bins * (confidence - 0.5)).long().clamp(max=bins - 1)"
ROW = "rows.append((int(inside.sum()), confidence[inside].mean().item(), right[inside].mean().item()))"
EVAL = "model, kept = loop.policy.eval(), loop.kept"
MEASURED = "return pairwise_loss(*given.pair_scores(model, loop.validation())).item()"
BEFORE = """        kept.update(steps=0, best=measured(), waited=0)
        loop.remember()
"""
BOTH = "chosen, rejected = model(pairs.tokens, pairs.attention_mask).chunk(2)  # (2B,) -> (B,), (B,)"
FIGURES = 'figures = {"loss": loss, "accuracy": ((1 + margin.sign()) / 2).mean(), "margin": margin.mean()}'
LOOK = '            figures["validation_loss"] = measured()\n'
BETTER = '            if figures["validation_loss"] < kept["best"]:\n'
KEEP = '                kept.update(best=figures["validation_loss"], waited=0)\n                loop.remember()\n'
PATIENCE = 'if kept["waited"] >= config.patience:'
RESTORE = "    loop.restore()\n"


# from_label_studio


def task(number, texts, *annotations):
    """A task of an export with its annotations, (id, selection) or (id, selection, cancelled)."""
    made = []
    for id, selection, *cancelled in annotations:
        result = [] if selection is None else [{"type": "pairwise", "from_name": "comparison", "value": {"selected": selection}}]
        made.append({"id": id, "was_cancelled": bool(cancelled), "result": result})
    return {"id": number, "data": dict(zip(("prompt", "answer1", "answer2"), texts)), "annotations": made}


def words(rng, count):
    return " ".join(f"w{number}" for number in rng.integers(1000, size=count))


def texts(rng):
    return words(rng, 2), words(rng, 3), words(rng, 3)


@check("from_label_studio", points=1.5, section="12.1")
class LabelStudio(Check):
    probe = "judgements"

    def cases(self, rng):
        def case(*tasks):
            return {"function": "from_label_studio", "rows": list(tasks)}

        yield case(task(1, ("Which?", "This.", "That."), (10, "left")))
        yield case(task(1, texts(rng), (10, "right")), task(2, texts(rng), (11, "left")))
        yield case(task(3, texts(rng), (12, "tie")), task(4, texts(rng), (13, "left", "cancelled"), (14, "right")))
        yield case(task(5, texts(rng), (15, None)), task(6, texts(rng)), task(7, texts(rng), (16, "left"), (17, "right")))
        noted = task(8, ("Which?", "", "That."), (18, "right"))  # a model that said nothing, and a remark beside the judgement
        noted["annotations"][0]["result"].insert(0, {"type": "textarea", "value": {"text": ["left is better"]}})
        yield case(noted)

    def truth(self, function, rows):
        labels = {"left": 1, "right": 2, "tie": 0}
        found = []
        for row in rows:
            for annotation in row["annotations"]:
                picked = [result for result in annotation["result"] if result["type"] == "pairwise"]
                if picked and not annotation["was_cancelled"]:
                    said = [row["data"][name] for name in ("prompt", "answer1", "answer2")]
                    found.append([str(annotation["id"]), *said, labels[picked[0]["value"]["selected"]]])
        return {"preferences": found}

    @mistake("flipped-sign", "`left` and `right` are exchanged: the model would learn to prefer what people did not.")
    def exchanged(self, **case):
        turned = [[*row[:4], (0, 2, 1)[row[4]]] for row in self.truth(**case)["preferences"]]
        return {"preferences": turned}

    @mistake("answers-exchanged", "The texts of the answers are exchanged while the labels stay: `first` is answer1.")
    def swapped(self, **case):
        return {"preferences": [[*row[:2], row[3], row[2], row[4]] for row in self.truth(**case)["preferences"]]}

    @mistake("ranking-ties", "A tie counts as a win of the second answer. It is the label 0: neither is better.")
    def tie_is_right(self, **case):
        return {"preferences": [[*row[:4], row[4] or 2] for row in self.truth(**case)["preferences"]]}

    @mistake("ties-lost", "Ties are left out. They are judgements too, with the label 0; who trains on pairs leaves them out "
        "later.")
    def without_ties(self, **case):
        return {"preferences": [row for row in self.truth(**case)["preferences"] if row[4] != 0]}

    mistakes = [
        edit("cancelled-counts", "A cancelled annotation is counted: the person skipped that task, whatever was selected by "
             "then.",
             {CANCELLED: ""}),
        edit("first-annotation-only", "Only the first annotation of each task is read. Several people may judge one task, and "
             "the first may have skipped it.", {'task["annotations"]:': 'task["annotations"][:1]:'}),
        edit("task-id", "The id is the task's. Two people's judgements of one task would then look like one.",
             {JUDGED: 'found.append(Preference(str(task["id"]), *texts, label))'}),
        edit("first-result", "The first entry of `result` is taken for the judgement. It may be a remark: look for type "
             "pairwise.",
             {'for result in annotation["result"]:': 'for result in annotation["result"][:1]:'}),
        edit("labels-from-zero", "Left is 0 and right is 1 in your labels. 0 is a tie: left is 1, right is 2.",
             {SELECTED: SELECTED + " - 1"}),
    ]  # fmt: skip


class RefusesRows(Check):
    """Rows that will not do get a ValueError that says what is wrong with them."""

    probe = "refuses_rows"

    def truth(self, argument, **case):
        return {"raised": "ValueError", "message": argument}

    def judge(self, got, expected, argument, **case):
        return refused(got, expected, argument)


@check("from_label_studio", points=0.5, section="12.2")
class LabelStudioRefuses(RefusesRows):
    def cases(self, rng):
        good = [task(1, ("Which?", "This.", "That."), (10, "left"))]
        for argument, bad in (("label", task(1, texts(rng), (10, "centre"))), ("label", task(1, texts(rng), (10, "Left!"))),
                              ("answer", task(1, ("Which?", "This.", None), (10, "left")))):  # fmt: skip
            yield {"function": "from_label_studio", "good": good, "bad": [bad], "argument": argument}

    mistakes = [
        edit("any-label", "A selection that is neither left nor right nor tie went through, as one of them.",
             {SELECTED: 'label = {"left": 1, "right": 2}.get(result["value"].get("selected"), 0)'}),
        edit("missing-is-empty", "A missing answer became a text. A model that said nothing left an empty text; here nothing is "
             "known.", {'given.text_in(task["data"], name) for name': 'str(task["data"].get(name) or "") for name'}),
    ]  # fmt: skip


# from_qa_feedback


def feedback(rng, labels, passages=("One.", "Two.")):
    row = {"question": words(rng, 3) + "?", "passages": list(passages), "gold": words(rng, 2), "preference": list(labels)}
    return row | {f"prediction {which}": words(rng, 4) for which in (1, 2, 3, 4)}


@check("from_qa_feedback", points=1.5, section="12.1")
class QaFeedback(Check):
    probe = "judgements"

    def cases(self, rng):
        def case(*rows):
            return {"function": "from_qa_feedback", "rows": list(rows)}

        yield case(feedback(rng, [1, 2, 0, 1, 2, 0]))
        titled = [["A title", "One.", "Two."], ["Another", "Three."]]
        yield case(feedback(rng, rng.integers(3, size=6).tolist(), titled), feedback(rng, rng.integers(3, size=6).tolist(), ()))

    def truth(self, function, rows):
        return {"preferences": self.marked(rows, ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)))}

    @staticmethod
    def marked(rows, order):
        found = []
        for number, row in enumerate(rows, 1):
            passages = [p if isinstance(p, str) else f"wikipage: {p[0]} text: {' '.join(p[1:])}" for p in row["passages"]]
            prompt = f"question: {row['question']}" + (f" context: {' '.join(passages)}" if passages else "")
            for (one, two), label in zip(order, row["preference"]):
                found.append([f"{number}:{one}{two}", prompt, row[f"prediction {one}"], row[f"prediction {two}"], label])
        return found

    @mistake("ranking-ties", "The pairs are in another order: 12 13 23 14 24 34. The labels come as 12 13 14 23 24 34.")
    def by_columns(self, function, rows):
        return {"preferences": self.marked(rows, ((1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)))}

    @mistake("flipped-sign", "1 and 2 are exchanged: 1 says that the *first* of the two is better.")
    def exchanged(self, function, rows):
        return {"preferences": [[*row[:4], (0, 2, 1)[row[4]]] for row in self.truth(function, rows)["preferences"]]}

    @mistake("tie-is-a-loss", "A tie (0) counts as a win of the second answer.")
    def tie_is_second(self, function, rows):
        return {"preferences": [[*row[:4], row[4] or 2] for row in self.truth(function, rows)["preferences"]]}

    @mistake("ties-lost", "Ties are left out. They are judgements too, with the label 0.")
    def without_ties(self, function, rows):
        return {"preferences": [row for row in self.truth(function, rows)["preferences"] if row[4] != 0]}

    @mistake("question-alone", "The prompt is the question without its passages: nobody could judge the answers by it.")
    def bare(self, function, rows):
        prompts, found = [row["question"] for row in rows for _ in range(6)], self.truth(function, rows)["preferences"]
        return {"preferences": [[row[0], prompt, *row[2:]] for row, prompt in zip(found, prompts)]}

    mistakes = [
        edit("counted-from-zero", "Rows are counted from 0 in your ids. The first is number 1.",
             {"enumerate(rows, start=1)": "enumerate(rows)"}),
    ]  # fmt: skip


@check("from_qa_feedback", points=0.5, section="12.2")
class QaFeedbackRefuses(RefusesRows):
    def cases(self, rng):
        good, missing = feedback(rng, [1, 2, 0, 1, 2, 0]), feedback(rng, [1, 2, 0, 1, 2, 0])
        del missing["prediction 3"]
        for argument, bad in (("label", feedback(rng, [1, 2, 0, 1, 2, 3])), ("label", feedback(rng, [1, 2, 0, 1, 2, -1])),
                              ("label", feedback(rng, [1, 2, 0, 1, 2])), ("label", feedback(rng, [0] * 7)),
                              ("answer", missing)):  # fmt: skip
            yield {"function": "from_qa_feedback", "good": [good], "bad": [good, bad], "argument": argument}

    mistakes = [
        edit("any-label", "A label that is not 0, 1 or 2 went through.",
             {"enumerate(rows, start=1):\n":
              "enumerate(rows, start=1):\n        row = {**row, 'preference': [min(abs(x), 2) for x in row['preference']]}\n"}),
        edit("labels-cut", "Five labels, or seven, went through: then nobody knows which pairs they are for.",
             {"enumerate(rows, start=1):\n":
              "enumerate(rows, start=1):\n        row = {**row, 'preference': (list(row['preference']) + [0])[:6]}\n"}),
    ]  # fmt: skip


# load_preferences


@check("load_preferences", points=1, section="12.2")
class Loaded(Check):
    probe = "loaded"

    def cases(self, rng):
        yield {"rows": [{"prompt": "Which?", "chosen": "This.", "rejected": "That."}]}
        yield {"rows": [task(1, texts(rng), (10, "right")), task(2, texts(rng), (11, "tie"), (12, "left"))]}
        yield {"rows": [feedback(rng, rng.integers(3, size=6).tolist()) for _ in range(2)]}
        columns = ("prompt", "answer1", "answer2", "id", "comparison", "annotation_id")
        cells = [(*texts(rng), 7, "left", 70), (*texts(rng), 8, "", 71), (*texts(rng), 9, '{"selected": "right"}', 72)]
        yield {"rows": [dict(zip(columns, row)) for row in cells]}
        summaries = [{"text": words(rng, 2)}, {"text": words(rng, 2)}]
        info = {"id": "a", "post": words(rng, 4)}
        yield {"rows": [{"info": info, "summaries": summaries, "choice": choice} for choice in (0, 1)]}
        same = words(rng, 3)
        yield {"rows": [task(1, (words(rng, 2), same, same), (10, "tie"))]}

    def truth(self, rows):
        first = rows[0]
        if "annotations" in first:
            return LabelStudio().truth("", rows)
        if "preference" in first:
            return QaFeedback().truth("", rows)
        found = []
        for number, row in enumerate(rows, 1):
            if "chosen" in row:
                found.append([str(number), row["prompt"], row["chosen"], row["rejected"], 1])
            elif "choice" in row:
                said = [summary["text"] for summary in row["summaries"]]
                found.append([str(number), row["info"]["post"] + "\nTL;DR:", *said, row["choice"] + 1])
            elif row["comparison"]:
                label = 1 if "left" in row["comparison"] else 2
                found.append([str(row["annotation_id"]), row["prompt"], row["answer1"], row["answer2"], label])
        return {"preferences": found}

    mistakes = [
        edit("identical-ties", "A tie of two answers that are the same text is sound: nobody is said to be better.",
             {"if preference.first == preference.second and preference.label != 0:": "if preference.first == "
                 "preference.second:"}),
        edit("one-reader", "Whatever the rows are, they are read as a Label Studio export's. `kind` says of what kind they are.",
             {"readers[kind](rows)": "from_label_studio(rows)"}),
        edit("table-as-pairs", "A table (the CSV export) is read as rows of chosen and rejected answers.",
             {'"table": given.from_table': '"table": given.from_pairs'}),
    ]  # fmt: skip


@check("load_preferences", points=1, section="12.2")
class LoadedRefuses(RefusesRows):
    def cases(self, rng):
        def pair(**changed):
            return {"id": "a", "prompt": words(rng, 2), "chosen": words(rng, 3), "rejected": words(rng, 3), **changed}

        same = words(rng, 3)
        for argument, bad in (("label", [pair(chosen=same, rejected=same)]), ("id", [pair(), pair()]),
                              ("id", [pair(), pair(id="b"), pair()]), ("answer", [pair(rejected=None)]),
                              ("label", [pair(chosen="", rejected="")])):  # fmt: skip
            yield {"function": "load_preferences", "good": [pair(), pair(id="b")], "bad": bad, "argument": argument}

    mistakes = [
        edit("identical-pair", "A pair of identical answers, of which one is said to be better, went through: whatever the model "
             "does, its loss on it is log 2, and its accuracy a half.",
             {"if preference.first == preference.second and preference.label != 0:": "if False:"}),
        edit("duplicate-id", "An id stands there twice, and both went through: two copies of a judgement count as two, and if "
             "one of them is kept for validation, the other gives it away.", {"if preference.id in seen:": "if False:"}),
        edit("neighbours-only", "Only neighbouring rows are compared: the same id further down went through.",
             {"        seen.add(preference.id)\n": "        seen = {preference.id}\n"}),
    ]  # fmt: skip


# last_token


@check("last_token", points=1, section="12.3")
class LastToken(Check):
    probe = "last"

    def cases(self, rng):
        yield {"attention_mask": np.array([[1, 1, 1, 0]])}
        yield {"attention_mask": np.array([[0, 0, 1, 1], [0, 1, 1, 1]])}
        right = (np.arange(7) < rng.integers(1, 8, size=5)[:, None]).astype(int)
        yield {"attention_mask": right}
        yield {"attention_mask": np.concatenate([right, right[:, ::-1], np.ones((1, 7), dtype=int)])}
        yield {"attention_mask": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])}

    def truth(self, attention_mask):
        return {"columns": [int(np.flatnonzero(row)[-1]) for row in attention_mask], "arguments changed": False}

    @mistake("rm-reads-pad", "This is the last column, which is padding in every row but the longest.")
    def last_column(self, attention_mask):
        return self.columns(np.full(len(attention_mask), attention_mask.shape[1] - 1))

    @mistake("right-padding-only", "The number of real tokens, less one, is the last real token's column only if padding "
        "stands on the right. On the left it points into the middle of the text.")  # fmt: skip
    def counted(self, attention_mask):
        return self.columns(attention_mask.sum(1) - 1)

    @mistake("left-padding-only", "This reads the last column unless the row has padding on its right, and then its first pad "
        "token: one column too late.")  # fmt: skip
    def first_pad(self, attention_mask):
        ends = [int(np.flatnonzero(row)[-1]) for row in attention_mask]
        return self.columns(np.minimum(np.array(ends) + 1, attention_mask.shape[1] - 1))

    @mistake("first-token", "This is the first real token. A causal model knows nothing of the text there: the last one has "
        "seen it all.")  # fmt: skip
    def first(self, attention_mask):
        return self.columns(attention_mask.argmax(1))

    @mistake("one-for-all", "Every row is given the column of the longest one.")
    def longest(self, attention_mask):
        ends = [int(np.flatnonzero(row)[-1]) for row in attention_mask]
        return self.columns(np.full(len(ends), max(ends)))

    @staticmethod
    def columns(found):
        return {"columns": found, "arguments changed": False}


@check("last_token", points=0.5, section="12.3")
class LastTokenRefuses(Refuses):
    def cases(self, rng):
        good = {"attention_mask": np.array([[1, 1], [1, 0]])}
        for bad in (np.array([[1, 1], [0, 0]]), np.array([1, 1])):
            yield {"function": "last_token", "good": good, "argument": "attention_mask", "bad": bad}

    mistakes = [
        edit("empty-row", "A row of padding alone went through. Its score would be whatever the model says of a pad token.",
             {"empty = ~(attention_mask != 0).any(dim=1)": "empty = torch.zeros(1, dtype=torch.bool)"}),
    ]  # fmt: skip


# RewardModel


def gpt2(rng, layers, vocabulary=5, positions=8, width=6):
    """The matrices of a GPT2Model, large enough that places and neighbours matter."""
    shapes = {"wte": (vocabulary, width), "wpe": (positions, width)}
    for layer in range(layers):
        shapes |= {f"h.{layer}.attn.c_attn": (width, 3 * width), f"h.{layer}.attn.c_proj": (width, width),
                   f"h.{layer}.mlp.c_fc": (width, 4 * width), f"h.{layer}.mlp.c_proj": (4 * width, width)}  # fmt: skip
    return {f"{name}.weight": 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}


def padded(rng, lengths, columns, vocabulary=5, sides=("right",)):
    """Rows of random tokens, padding too, which may be any token; sides in turn."""
    place, mask = np.arange(columns), []
    for row, length in enumerate(lengths):
        mask.append(place < length if sides[row % len(sides)] == "right" else place >= columns - length)
    tokens = rng.integers(vocabulary, size=(len(lengths), columns))
    return {"input_ids": tokens, "attention_mask": np.array(mask).astype(int)}


@check("RewardModel", points=3, section="12.3")
class Scores(Check):
    probe = "scored"
    tolerance = EXACT

    def cases(self, rng):
        for layers, lengths, columns, sides in ((1, (3,), 3, ("right",)), (1, (4, 2), 4, ("right",)), (1, (4, 2), 4, ("left",)),
                                                (2, (6, 1, 4, 5), 6, ("right", "left"))):  # fmt: skip
            weights = gpt2(rng, layers)
            yield {"weights": weights, "layers": layers, "head": rng.normal(size=6), **padded(rng, lengths, columns, sides=sides),
                   "direction": rng.normal(size=len(lengths)), "towards": rng.normal(size=(5, 6))}  # fmt: skip

    def truth(self, weights, layers, head, input_ids, attention_mask, direction, towards):
        from .reward_model_truth import hidden_rows, slope

        hidden = hidden_rows(weights, layers, input_ids, attention_mask)
        along = slope(weights, layers, head, input_ids, attention_mask, direction, towards)
        gradients = {"head": direction @ hidden, "along the words": along}
        return {"scores": hidden @ head, "dtype": "float64", "gradients": gradients, "arguments changed": False}

    mistakes = [
        edit("rm-reads-pad", "The score is read at the last column, which is padding in every row but the longest: the number is "
             "about a token that nobody wrote.", {PICKED: "last = out.last_hidden_state[:, -1]"}),
        edit("right-padding-only", "The column is counted from the number of real tokens: right with padding on the right, and "
             "in the middle of the text with padding on the left.",
             {PICKED: "last = out.last_hidden_state[rows, attention_mask.sum(dim=1) - 1]"}),
        edit("no-position-ids", "The places of the tokens are missing, so a row that is padded on the left begins at place 2 "
             "or 5 in place of 0. GPT-2 learns an embedding for each place: it is another text to it.",
             {", position_ids=places": ""}),
        edit("no-attention-mask", "The attention mask is not handed on: tokens behind padding on the left attend to it.",
             {"attention_mask=attention_mask, position_ids": "attention_mask=torch.ones_like(attention_mask), position_ids"}),
        edit("mean-over-tokens", "The score is the mean over the text's tokens. It is read at the last real one, which alone has "
             "seen the whole text.",
             {PICKED: "last = (out.last_hidden_state * attention_mask.unsqueeze(-1)).sum(1) / attention_mask.sum(1, "
                 "keepdim=True)"}),
        edit("first-token", "The score is read at the first real token, before the model has seen anything of the text.",
             {PICKED: "last = out.last_hidden_state[rows, attention_mask.argmax(dim=1)]"}),
        edit("squashed", "The score is squeezed by tanh. It is any number; the sigma belongs to the loss.",
             {SCORE: "return torch.tanh(self.score(last)).squeeze(-1)"}),
        edit("rm-broadcast", "The scores have the shape (batch, 1). Against (batch,) torch makes (batch, batch) of them, "
             "without a word.", {SCORE: "return self.score(last)"}),
        edit("cut-graph", "No gradient reaches the transformer: only the head would be trained.",
             {PICKED: PICKED.replace("[rows, last_token(attention_mask)]", "[rows, last_token(attention_mask)].detach()")}),
    ]  # fmt: skip


@check("RewardModel", points=1, section="12.3")
class ScoresWhereverTheyStand(Check):
    """A row has the score in a batch that its tokens have by themselves."""

    probe = "one_by_one"
    tolerance = EXACT

    def cases(self, rng):
        for lengths, sides in (((5, 2), ("right",)), ((5, 2, 3), ("left",)), ((7, 1, 4, 6), ("left", "right"))):
            yield {"weights": gpt2(rng, 2), "layers": 2, "head": rng.normal(size=6),
                   **padded(rng, lengths, max(lengths), sides=sides)}  # fmt: skip

    def truth(self, weights, layers, head, input_ids, attention_mask):
        from .reward_model_truth import hidden_rows

        scores = hidden_rows(weights, layers, input_ids, attention_mask) @ head
        return {"together": scores, "apart": scores}

    def judge(self, got, expected, **case):
        told = difference({"scores": got["together"]}, {"scores": got["apart"]}, self.tolerance)
        if told is not None:
            return f"a text's score depends on how it is padded: in the batch against by itself, {told}"
        return difference(got, expected, self.tolerance)


@check("RewardModel", points=0.5, section="12.3")
class Head(Check):
    probe = "head"
    WIDTH = 4096  # the standard deviation of so many normal numbers is within 1.1% of the true one, at one sigma

    def cases(self, rng):
        yield {"width": 8, "dtype": "float32"}
        yield {"width": self.WIDTH, "dtype": "float64"}

    def truth(self, width, dtype):
        return {"parameters": {"score.weight": [1, width], "transformer.wte.weight": [1, width]}, "dtype": dtype,
                "standard deviation": 0.02}  # fmt: skip

    def judge(self, got, expected, width, dtype):
        seen, small = got["standard deviation"], width < self.WIDTH
        if not small and not 0.93 < seen / expected["standard deviation"] < 1.07:  # 6 sigma: a false rejection in 5e8
            return f"the head starts with a standard deviation of {seen:.4f}, expected {expected['standard deviation']}"
        return difference({**got, "standard deviation": 0.0}, {**expected, "standard deviation": 0.0}, 0.0)

    mistakes = [
        edit("head-has-a-bias", "The head has a bias. It is the same for both answers of every pair, so it cancels in every "
             "difference and nothing is ever learned about it.", {"1, bias=False": "1"}),
        edit("two-labels", "The head gives two numbers a text, as a classifier's does. A reward is one.",
             {"transformer.config.n_embd, 1,": "transformer.config.n_embd, 2,"}),
        edit("head-untouched", "The head starts as torch has it. Asked for is a standard deviation of 0.02, as in GPT-2's own "
             "layers.",
             {START: "pass"}),
        edit("device-dtype", "The head is float32 whatever the transformer is.", {", dtype=like.dtype, device=like.device": ""}),
    ]  # fmt: skip


# freeze_fraction


@check("freeze_fraction", points=2, section="12.5")
class Frozen(Check):
    probe = "frozen"

    def cases(self, rng):
        for layers, fractions in ((2, [0.5]), (10, [0.7]), (6, [0.7]), (3, [0.0]), (4, [1.0]), (3, [0.1]), (100, [0.29]),
                                  (4, [1.0, 0.25, 0.0])):  # fmt: skip
            yield {"layers": layers, "fractions": fractions}

    def truth(self, layers, fractions):
        return self.marked(layers, fractions, lambda fraction: math.floor(fraction * layers + 1e-9))

    @staticmethod
    def marked(layers, fractions, count, from_the_end=False):
        seen = []
        for fraction in fractions:
            ends = int(count(fraction))
            parts = ["none"] * ends + ["all"] * (layers - ends)
            below = "none" if fraction > 0 else "all"
            seen.append({"returned": ends, "wte": below, "wpe": below, "ln_f": "all", "score": "all",
                         "layers": parts[::-1] if from_the_end else parts})  # fmt: skip
        return {"after each call": seen}

    @mistake("freeze-wrong-end", "The last layers are frozen and the first ones learn. It is the other way round: what lies "
        "nearest to the input knows words and grammar, what lies nearest to the head is to become a judge.")  # fmt: skip
    def wrong_end(self, layers, fractions):
        return self.marked(layers, fractions, lambda f: math.floor(f * layers + 1e-9), from_the_end=True)

    @mistake("freeze-rounds-up", "The number of layers is rounded to the nearest, or up. It is rounded down: 0.7 of 6 layers "
        "are 4.")
    def rounded(self, layers, fractions):
        return self.marked(layers, fractions, lambda f: math.ceil(f * layers - 1e-9))

    @mistake("freeze-float-error", "0.29 * 100 is 28.999999999999996 to a computer, and `int` makes 28 of it. Add a hair "
        "before you round down.")  # fmt: skip
    def truncated(self, layers, fractions):
        return self.marked(layers, fractions, lambda f: int(f * layers))

    mistakes = [
        edit("freeze-embeddings-forgotten", "The embeddings can still be trained. They lie below every layer: while they move, "
             "frozen layers read another input than they were made for.", {"(body.wte, body.wpe, *body.h[:layers])":
                                                                           "body.h[:layers]"}),
        edit("freeze-places-forgotten", "The embeddings of the places can still be trained; the words' are frozen.",
             {"body.wte, body.wpe,": "body.wte,"}),
        edit("freeze-for-good", "A second call with a smaller fraction leaves frozen what the first one froze.", {AFRESH: ""}),
        edit("freeze-nothing-freezes", "At a fraction of 0 the embeddings are frozen. Nothing is.",
             {" if fraction > 0 else ()": ""}),
        edit("freeze-everything", "All of the transformer is frozen; asked for is a part of its layers.",
             {"*body.h[:layers])": "*body.h, body.ln_f)"}),
    ]  # fmt: skip


@check("freeze_fraction", points=0.5, section="12.5")
class FrozenRefuses(Check):
    probe = "refuses_fraction"

    def cases(self, rng):
        for fraction in (1.5, -0.1, float("nan")):
            yield {"fraction": fraction}

    def truth(self, fraction):
        return {"raised": "ValueError", "message": "fraction"}

    def judge(self, got, expected, fraction):
        return refused(got, expected, "fraction")

    mistakes = [
        edit("percent", "A fraction above 1 went through, perhaps as percent. It is a share from 0 to 1.",
             {"    require_fraction(fraction)\n": ""}),
    ]  # fmt: skip


# pairwise_loss


def some_scores(rng, count):
    """Scores with few digits, so that their differences are exact; none of them 0."""
    chosen, rejected = rng.integers(-24, 25, size=(2, count)) / 8
    return {"chosen": np.where(chosen == rejected, chosen + 1, chosen), "rejected": rejected}


class LossOf(Check):
    probe = "loss"
    tolerance = EXACT

    def truth(self, chosen, rejected, dtype="float64"):
        from .reward_model_truth import sigmoid, softplus

        slopes = sigmoid(rejected - chosen) / len(chosen)
        return {"loss": softplus(rejected - chosen).mean(), "dtype": dtype,
                "gradients": {"chosen": -slopes, "rejected": slopes}, "arguments changed": False}  # fmt: skip


@check("pairwise_loss", points=2, section="12.4")
class PairwiseLoss(LossOf):
    def cases(self, rng):
        yield {"chosen": np.array([1.0]), "rejected": np.array([1.0])}  # equal scores: log 2
        yield {"chosen": np.array([0.5]), "rejected": np.array([-0.25])}
        yield some_scores(rng, 3)
        yield some_scores(rng, 8)
        yield {"chosen": EXTREME, "rejected": np.zeros(5)}

    mistakes = [
        edit("flipped-sign", "The sign is turned: this is the log-likelihood, which is to be made large. A loss is to be made "
             "small.",
             {LOSS: LOSS.replace("-F", "F")}),
        edit("pair-turned", "Chosen and rejected are exchanged: this loss makes the model prefer what people did not.",
             {LOSS: "return -F.logsigmoid(rejected - chosen).mean()"}),
        edit("log-of-softmax", "sigma(-1000) is 0 in float64 and its logarithm -inf. `F.logsigmoid` does both in one step.",
             {LOSS: "return -torch.sigmoid(chosen - rejected).log().mean()"}),
        edit("log-plus-epsilon", "A small number inside the logarithm hides the infinity, and with it the gradient of exactly "
             "the pairs that are most wrong. Use `F.logsigmoid`.", {LOSS: "return -(torch.sigmoid(chosen - rejected) + "
             "1e-8).log().mean()"}),
        edit("no-sigma", "This is the negative difference of the scores, without log sigma: then a pair that is long settled "
             "pulls as hard as ever, and there is no minimum.", {LOSS: "return -(chosen - rejected).mean()"}),
        edit("two-log-sigmoids", "Two separate terms, -log sigma(chosen) - log sigma(-rejected): each answer is judged good or "
             "bad by itself. The likelihood of a choice has one sigma, of the *difference*.",
             {LOSS: "return -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()"}),
        edit("margin-ranking", "This is a hinge, as in a margin ranking loss. It is no likelihood: its scores give no "
             "probability.",
             {LOSS: "return F.relu(1 - (chosen - rejected)).mean()"}),
        edit("sigmoid-without-log", "This is 1 - sigma, the share of wrong choices to be expected, not its log-likelihood: "
             "pairs that are badly wrong hardly pull.", {LOSS: "return torch.sigmoid(rejected - chosen).mean()"}),
        edit("sum-for-mean", "The losses of the pairs are added up. Asked for is their mean.",
             {LOSS: LOSS.replace("mean", "sum")}),
        edit("sigma-of-the-mean", "You average the differences and take log sigma once. Each pair has its own loss; the mean "
             "comes last.", {LOSS: "return -F.logsigmoid((chosen - rejected).mean())"}),
        edit("rm-broadcast", "Every chosen answer is compared with every rejected one of the batch: a shape (pairs, 1) against "
             "(pairs,) became (pairs, pairs).", {LOSS: "return -F.logsigmoid(chosen.unsqueeze(1) - rejected).mean()"}),
        edit("half-the-gradient", "The rejected answer's score is detached: nothing pushes it down.",
             {LOSS: "return -F.logsigmoid(chosen - rejected.detach()).mean()"}),
        edit("cut-graph", "No gradient reaches the scores.", {LOSS: "return -F.logsigmoid((chosen - rejected).detach()).mean()"}),
        edit("device-dtype", "The loss is float32. float64 in, float64 out.", {LOSS: LOSS + ".float()"}),
    ]  # fmt: skip


@check("pairwise_loss", points=0.5, section="12.4")
class PairwiseLossInFloat32(LossOf):
    tolerance = SINGLE

    def cases(self, rng):
        yield {**some_scores(rng, 4), "dtype": "float32"}

    mistakes = [
        edit("device-dtype", "The loss is float64 where float32 came in. Results have the dtype of what comes in.",
             {LOSS: LOSS.replace("(chosen - rejected)", "((chosen - rejected).double())")}),
    ]  # fmt: skip


GOOD = {"chosen": np.array([0.5, 1.0]), "rejected": np.array([0.25, 2.0])}
SPOILT = (("rejected", np.ones(3)), ("rejected", np.ones((2, 1))), ("chosen", np.ones((2, 2))), ("chosen", np.ones(0)))
BROADCAST = edit(
    "broadcast", "A tensor of shape (pairs, 1) went through, and torch stretches it to (pairs, pairs). Refuse shapes "
    "that differ.",
    {"        if tensor.shape != first.shape:": "        if len(tensor) != len(first):"},
)  # fmt: skip


class RefusesPairs(Refuses):
    function = ""
    more: tuple = ()

    def cases(self, rng):
        good = {**GOOD, "bins": 2} if self.function == "calibration" else GOOD
        for argument, bad in (*SPOILT, *self.more):
            yield {"function": self.function, "good": good, "argument": argument, "bad": bad}


@check("pairwise_loss", points=0.5, section="12.4")
class PairwiseLossRefuses(RefusesPairs):
    function = "pairwise_loss"
    mistakes = [
        BROADCAST,
        edit("empty-mean", "No pair at all went through: the mean of nothing is NaN.",
             {"if first.ndim != 1 or len(first) == 0:": "if first.ndim != 1:"}),
    ]  # fmt: skip


# accuracy


@check("accuracy", points=1.5, section="12.6")
class Accuracy(Check):
    probe = "share"
    tolerance = EXACT

    def cases(self, rng):
        yield {"chosen": np.array([1.0] * 6 + [0.0]), "rejected": np.array([0.0] * 6 + [1.0])}  # 6 of 7
        yield {"chosen": np.array([1.0, 0.5, 0.0]), "rejected": np.array([0.0, 0.5, 2.0])}  # a tie
        yield {"chosen": np.ones(4), "rejected": np.zeros(4)}
        yield {"chosen": np.zeros(1), "rejected": np.ones(1)}
        yield {"chosen": rng.integers(4, size=50) / 2, "rejected": rng.integers(4, size=50) / 2}

    def truth(self, chosen, rejected, z=1.959963984540054):
        count = len(chosen)
        share = np.where(chosen > rejected, 1.0, np.where(chosen == rejected, 0.5, 0.0)).mean()
        middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
        return {"mean": share, "low": middle - half, "high": middle + half}

    @mistake("normal-interval", "This is p +- z sqrt(p (1 - p) / n). At 7 of 7 it has no width at all, as if seven pairs proved "
             "everything; at 6 of 7 it goes beyond 1. Wilson's interval does neither.")  # fmt: skip
    def normal(self, chosen, rejected):
        share = self.truth(chosen, rejected)["mean"]
        half = 1.959963984540054 * np.sqrt(share * (1 - share) / len(chosen))
        return {"mean": share, "low": share - half, "high": share + half}

    @mistake("normal-interval-cut", "This is the normal interval, cut off at 0 and 1. It still has no width where all pairs "
        "are right.")
    def cut(self, chosen, rejected):
        found = self.normal(chosen, rejected)
        return {"mean": found["mean"], "low": max(found["low"], 0.0), "high": min(found["high"], 1.0)}

    @mistake("ranking-ties", "A tie of scores counts as wrong. The model cannot say which is better, so it is half right.")
    def ties_are_wrong(self, chosen, rejected):
        return self.truth(np.where(chosen == rejected, chosen - 1, chosen), rejected)

    @mistake("ties-are-right", "A tie of scores counts as right: a model that gives every text the same score would be perfect.")
    def ties_are_right(self, chosen, rejected):
        return self.truth(np.where(chosen == rejected, chosen + 1, chosen), rejected)

    @mistake("one-sigma", "The interval is one standard deviation wide to each side: that is 68%. For 95% it takes Z95 of them.")
    def narrow(self, chosen, rejected):
        return self.truth(chosen, rejected, z=1.0)

    @mistake("centre-is-the-share", "The interval is centred at the share itself. Wilson's is centred nearer to one half.")
    def centred(self, chosen, rejected):
        found = self.truth(chosen, rejected)
        half = (found["high"] - found["low"]) / 2
        return {"mean": found["mean"], "low": found["mean"] - half, "high": found["mean"] + half}

    mistakes = [
        edit("flipped-sign", "The accuracy is that of the wrong answers.", {SHARE: SHARE.replace("(chosen - rejected)",
                                                                                             "(rejected - chosen)")}),
    ]  # fmt: skip


@check("accuracy", points=0.5, section="12.6")
class AccuracyRefuses(RefusesPairs):
    function = "accuracy"
    mistakes = [BROADCAST]


# calibration


@check("calibration", points=1.5, section="12.6")
class Calibration(Check):
    probe = "table"
    tolerance = EXACT

    def cases(self, rng):
        yield {"chosen": np.array([2.0]), "rejected": np.array([0.0]), "bins": 1}
        yield {"chosen": np.array([2.0, 0.0, 0.5]), "rejected": np.array([0.0, 2.5, 0.25]), "bins": 2}
        # confidences of exactly 1 and 1/2
        yield {"chosen": np.array([1000.0, 0.0, -1000.0, 1.0]), "rejected": np.array([0.0, 0.0, 0.0, 1.0]), "bins": 4}
        yield {"chosen": rng.integers(-16, 17, size=40) / 8, "rejected": rng.integers(-16, 17, size=40) / 8, "bins": 5}
        yield {"chosen": 3 * rng.normal(size=60), "rejected": 3 * rng.normal(size=60), "bins": 10}

    def truth(self, chosen, rejected, bins):
        return self.table(chosen - rejected, bins)

    @staticmethod
    def table(margin, bins, low=0.5, tie=0.5, centres=False):
        from .reward_model_truth import sigmoid

        said = sigmoid(np.abs(margin)) if low else sigmoid(margin)
        right = np.where(margin > 0, 1.0, np.where(margin == 0, tie, 0.0)) if low else np.ones(len(margin))
        place = np.minimum(np.floor((said - low) / (1 - low) * bins), bins - 1)
        found = []
        for which in range(bins):
            inside = place == which
            if inside.any():
                confidence = low + (1 - low) * (which + 0.5) / bins if centres else said[inside].mean()
                found.append([int(inside.sum()), float(confidence), float(right[inside].mean())])
        return {"rows": found}

    @mistake("centre-of-the-bin", "The confidence of a bin is given as its middle. Asked for is the mean of the confidences in "
        "it.")
    def centres(self, chosen, rejected, bins):
        return self.table(chosen - rejected, bins, centres=True)

    @mistake("always-right", "These are the probabilities of the *chosen* answers, which are right by construction. A model's "
        "favourite may be the rejected one: take the answer with the higher score, and ask whether it is chosen.")  # fmt: skip
    def chosen_only(self, chosen, rejected, bins):
        return self.table(chosen - rejected, bins, low=0.0)

    @mistake("ranking-ties", "A tie of scores counts as wrong in the accuracy of its bin. It is half right.")
    def ties(self, chosen, rejected, bins):
        return self.table(chosen - rejected, bins, tie=0.0)

    @mistake("empty-bins", "Bins without a pair are there too, with numbers that nobody measured. Leave them out.")
    def all_bins(self, chosen, rejected, bins):
        rows, found = self.truth(chosen, rejected, bins)["rows"], []
        edges = 0.5 + 0.5 * np.arange(bins + 1) / bins
        for low, high in zip(edges, edges[1:]):
            inside = [row for row in rows if low <= row[1] < high or (row[1] == 1.0 and high == 1.0)]
            found.append(inside[0] if inside else [0, 0.0, 0.0])
        return {"rows": found}

    mistakes = [
        edit("ece-edges", "A confidence of exactly 1 falls into no bin: it belongs to the last one.",
             {".clamp(max=bins - 1)": ""}),
        edit("bins-from-zero", "The bins are cut out of 0 to 1. The confidence in a favourite is never below one half.",
             {PLACE: "place = (bins * confidence).long().clamp(max=bins - 1)"}),
        edit("raw-margin", "The confidences are margins of scores. It is the sigma of a margin that is a probability.",
             {ROW: ROW.replace("confidence[inside].mean()", "margin[inside].abs().mean()")}),
    ]  # fmt: skip


@check("calibration", points=0.5, section="12.6")
class CalibrationRefuses(RefusesPairs):
    function = "calibration"
    more = (("bins", 0),)
    mistakes = [BROADCAST, edit("no-bins", "No bins at all went through.", {"    require_bins(bins)\n": ""})]


# train


def pair_batch(rng, pairs, columns, vocabulary=6):
    """Chosen rows, then rejected ones, padded on the right with tokens like any other."""
    rows = padded(rng, rng.integers(1, columns + 1, size=2 * pairs), columns, vocabulary)
    return {"tokens": rows["input_ids"], "attention_mask": rows["attention_mask"],
            "prompt_lengths": np.zeros(2 * pairs, dtype=int)}  # fmt: skip


@check("train", points=4, section="12.4")
class Training(Check):
    probe = "training"
    tolerance = REPLAY

    def cases(self, rng):
        def case(steps, pairs, settings, rate, validation=((3, 4),), **more):
            return {"words": rng.normal(size=6), "batches": [pair_batch(rng, pairs, 4) for _ in range(steps)],
                    "validation": [pair_batch(rng, *shape) for shape in validation],
                    "settings": {"evaluate_every": 1, "patience": 9, **settings}, "learning_rate": rate, **more}  # fmt: skip

        yield {**case(1, 1, {}, 0.5), "words": np.zeros(6)}  # a model that knows nothing: every pair is a tie
        yield case(6, 3, {"evaluate_every": 2}, 0.5)
        yield self.rising(rng, case(12, 2, {"evaluate_every": 2, "patience": 2}, 0.5, ((5, 4), (2, 3), (1, 5))))
        yield self.wavering(rng, lambda: case(14, 2, {"patience": 3}, 1.0, ((4, 4), (1, 3))))
        stopped = self.wavering(rng, lambda: case(14, 2, {"patience": 3}, 1.0, ((4, 4), (1, 3))))
        yield {**stopped, "resumed": {"kept": {"steps": 7, "best": 0.01, "waited": 1}, "best": rng.normal(size=6)}}

    @staticmethod
    def rising(rng, case):
        """Validation pairs that say the opposite of the training pairs: nothing gets better than the beginning."""
        from .reward_model_truth import pair_loss

        turned = []
        for batch in case["batches"]:
            chosen, rejected = (np.split(batch[name], 2) for name in ("tokens", "attention_mask"))
            turned.append({"tokens": np.concatenate(chosen[::-1]), "attention_mask": np.concatenate(rejected[::-1]),
                           "prompt_lengths": batch["prompt_lengths"]})  # fmt: skip
        rest = pair_batch(rng, 1, 3)
        assert pair_loss(case["words"], turned) > 0
        return {**case, "validation": [*turned, rest]}

    @staticmethod
    def wavering(rng, make):
        """A run in which a measurement that is no better comes before a better one, and which stops early all the same."""
        from .reward_model_truth import train

        for _ in range(200):
            case = make()
            found = train(**case)
            losses = [row["validation_loss"] for row in found["log"]]
            best = int(np.argmin(losses))
            worse_before = any(after >= min(losses[:place]) for place, after in enumerate(losses[:best]) if place)
            if found["steps"] < 14 and worse_before and best > 2 and min(np.abs(np.subtract.outer(losses, losses)[
                    np.triu_indices(len(losses), 1)])) > 1e-4:  # fmt: skip
                return case
        return case

    def truth(self, words, batches, validation, settings, learning_rate, resumed=None):
        from .reward_model_truth import train

        return train(words, batches, validation, settings, learning_rate, resumed)

    mistakes = [
        edit("last-weights", "You end with the last weights, not with those that were best on the validation pairs. Training "
             "goes on for `patience` measurements after the best one, and those are the overfitted ones.", {RESTORE: ""}),
        edit("chosen-by-training-loss", "The best weights are chosen by the loss on the batch that they were trained on. It "
             "says how well the model remembers; validation pairs say what it has learned.",
             {LOOK: LOOK + '            figures, told = {**figures, "validation_loss": loss.item()}, figures\n',
              "        loop.log(**figures)": '        if kept["steps"] % config.evaluate_every == 0:\n            figures = '
              'told\n'
                                            "        loop.log(**figures)"}),
        edit("chosen-by-accuracy", "The best weights are chosen by the accuracy on the validation pairs. It moves in steps of "
             "whole pairs and does not see over-confidence; the log loss does both.",
             {MEASURED: "c, r = given.pair_scores(model, loop.validation())\n        return 1 - ((1 + (c - r).sign()) / "
                 "2).mean().item()"}),
        edit("best-from-infinity", "The weights before the first step are not measured. If training makes them worse at once, "
             "they are the best there are.", {"best=measured(), waited=0": "best=math.inf, waited=0"}),
        edit("start-not-remembered", "The weights before the first step are measured but not remembered: if nothing gets "
             "better, there "
             "is nothing to come back to.", {BEFORE: "        kept.update(steps=0, best=measured(), waited=0)\n"}),
        edit("patience-never-renewed", "Measurements that were no better are counted over the whole run. It is so many *in a "
             "row*: a better one starts the count anew.", {KEEP: KEEP.replace(", waited=0", "")}),
        edit("patience-off-by-one", "You stop one measurement too late.", {PATIENCE: 'if kept["waited"] > config.patience:'}),
        edit("never-stops", "It never stops early.", {PATIENCE: "if False:"}),
        edit("beginning-forgotten", "A run that goes on where it was stopped has its best loss in `loop.kept`. You measure "
             "anew, and whatever the weights are now counts as the best.", {'    if "best" not in kept:\n': "    if True:\n"}),
        edit("mean-of-means", "The validation loss is a mean of the batches' means. The last batch may hold one pair, and "
             "would count as much as a full one: take the mean over all pairs.",
             {MEASURED: "return sum(pairwise_loss(*given.pair_scores(model, [b])).item() for b in loop.validation()) / "
                        "max(len(list(loop.validation())), 1)"}),
        edit("first-batch-only", "Only the first batch of validation pairs is looked at.",
             {MEASURED: MEASURED.replace("loop.validation()", "list(loop.validation())[:1]")}),
        edit("pair-turned", "Chosen and rejected rows are exchanged: the chosen ones come first.",
             {BOTH: BOTH.replace("chosen, rejected = model", "rejected, chosen = model")}),
        edit("interleaved", "You take every second row for a chosen one. All chosen rows come first, then all rejected ones.",
             {BOTH: "both = model(pairs.tokens, pairs.attention_mask)\n        chosen, rejected = both[::2], both[1::2]"}),
        edit("mask-forgotten", "The model is told that every column is real: padding is scored.",
             {BOTH: BOTH.replace("pairs.attention_mask", "torch.ones_like(pairs.tokens)")}),
        edit("dropout-on", "Dropout is on: put the model into evaluation mode.", {EVAL: "model, kept = loop.policy, loop.kept"}),
        edit("logged-after-the-step", "What is logged of a batch is from after its step. Log what the loss saw.",
             {FIGURES: "with torch.no_grad():\n            chosen, rejected = model(pairs.tokens, "
                 "pairs.attention_mask).chunk(2)\n"
                       "        margin = chosen - rejected\n        loss = pairwise_loss(chosen, rejected)\n        " + FIGURES}),
        edit("ranking-ties", "A tie of scores counts as wrong in the logged accuracy. It is half right.",
             {FIGURES: FIGURES.replace("((1 + margin.sign()) / 2)", "(margin > 0).to(margin.dtype)")}),
    ]  # fmt: skip
