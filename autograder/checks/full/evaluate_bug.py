"""The silent bug of lesson 8: what must be true of the measurement, wherever and however it is mended."""

import importlib

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.compare import difference


class Truth:
    """evaluate_truth, when something is asked of it: a student's copy has cases and answers in a file, and not that module."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("autograder.checks.full.evaluate_truth"), name)


exact = Truth()
PAD, END = 0, 1
WORTH = np.array([0.0, 0.0, 1, 1, 1, -1, -1, -1])
NEXT = "\n            new, places = token.unsqueeze(1), places[:, -1:] + 1\n"
WRONG = {NEXT: "\n            new, places = token.unsqueeze(1), torch.full((len(prompts), 1), columns + t)\n"}
BATCHES = "        completions += write(model, rows[first : first + batch_size], new_tokens, generator)\n"
ASK = "model(input_ids=new, attention_mask=mask, position_ids=places, use_cache=True, **cache)"
ROWS = "rows = [prompt for prompt in prompts for _ in range(times)]"
START = "    new, mask = padded(prompts)\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is in what a row's later tokens are told."


@check("measure", points=4, section="8.10")
class SameNumberInAnyBatch(Check):
    probe = "measured"
    tolerance = 1e-9  # whole scores, their mean and one root

    def cases(self, rng):
        yield self.case(rng, [[2, 3, 4], [5]], times=1, batch_size=2, new_tokens=3)
        prompts = [rng.integers(2, 8, size=length).tolist() for length in (1, 4, 2, 4, 1, 2, 4, 1)]
        yield self.case(rng, prompts, times=1, batch_size=8, new_tokens=4)
        yield self.case(rng, prompts, times=2, batch_size=5, new_tokens=4)
        yield self.case(rng, prompts[:4], times=3, batch_size=1, new_tokens=3)

    def case(self, rng, prompts, times, batch_size, new_tokens):
        """A model of which most completions change when a padded prompt's places are those of its columns."""
        while True:
            weights = exact.gpt2_weights(rng, 8, positions=10)
            weights["lm_head.weight"][2:4, 0] = 0.0  # here these are words
            completions, lead = exact.written(weights, 2, prompts, new_tokens, END)
            lengths = [len(row) for row in completions]
            scores = [WORTH[row].sum() for row in completions]
            moved = [WORTH[self.moved(weights, row, max(map(len, prompts)), new_tokens)].sum() for row in prompts]
            telling = np.std(scores) > 0 and np.mean(moved) != np.mean(scores)
            if exact.LOUD * lead > exact.SURE and min(lengths) < max(lengths) == new_tokens and telling:
                sizes = {"times": times, "batch_size": batch_size, "new_tokens": new_tokens}
                return exact.shown({"prompts": prompts, **sizes, "heads": 2, "weights": exact.louder(weights)})

    @staticmethod
    def moved(weights, prompt, columns, new_tokens):
        """What is written if every new token is told its column for its place, in NumPy: a hole in the row's places."""
        places, row = list(range(len(prompt))), list(prompt)
        for t in range(new_tokens):
            table = weights["transformer.wpe.weight"][places]
            logits = exact.next_logits(weights | {"transformer.wpe.weight": table}, 2, row)
            row.append(int(np.argmax(logits)))
            places.append(columns + t)
            if row[-1] == END:
                break
        return row[len(prompt) :]

    def truth(self, weights, heads, prompts, times, batch_size, new_tokens):
        once, _ = exact.written(weights, heads, prompts, new_tokens, END)
        completions = [row for row in once for _ in range(times)]
        scores = np.array([WORTH[row].sum() for row in completions])
        half = 1.96 * scores.std(ddof=1) / len(scores) ** 0.5
        calls = new_tokens * -(-len(completions) // batch_size)
        return {"completions": completions, "mean": scores.mean(), "low": scores.mean() - half, "high": scores.mean() + half,
                "calls": calls}  # fmt: skip

    def judge(self, got, expected, prompts, times, batch_size, new_tokens, **case):
        """Prompts of one length may be put together; to ask the model for one prompt at a time is to give up batches."""
        lengths = len(set(map(len, prompts)))
        most = new_tokens * (-(-len(prompts) * times // batch_size) + lengths)
        one_by_one = new_tokens * len(prompts) * times
        got, expected = ({**answer, "in batches": answer["calls"] <= max(most, 1) or one_by_one <= most}
                         for answer in (got, expected))  # fmt: skip
        del got["calls"], expected["calls"]
        return difference(got, expected, self.tolerance)

    mistakes = [
        edit("bug-untouched",
             "The measurement is as quietly wrong as it was given to you. Its number depends on which prompts share a batch: "
             "print what one prompt is continued with alone, and beside a longer one, and find the first token that differs.",
             WRONG),
        edit("one-at-a-time",
             SYMPTOM + "a prompt alone has no padding, so nothing can go wrong, and nothing is fast any more." + CAUSE,
             {**WRONG, BATCHES: "        for row in rows[first : first + batch_size]:\n"
                                "            completions += write(model, [row], new_tokens, generator)\n"}),
        edit("prompts-cut",
             SYMPTOM + "with all prompts of a batch cut to the shortest there is no padding, and other prompts are measured than "
             "were asked for." + CAUSE,
             {**WRONG, START: "    prompts = [prompt[-min(map(len, prompts)) :] for prompt in prompts]\n" + START}),
        edit("sorted-by-length",
             SYMPTOM + "with prompts of like length beside each other there is less padding, not none, and the completions no "
             "longer stand in the order of the prompts." + CAUSE,
             {**WRONG, ROWS: ROWS + "\n    rows.sort(key=len)"}),
        edit("no-position-ids",
             "Now all places are those of the columns, of the prompts too: consistent, and as wrong. A row's place is its own "
             "count of real tokens, wherever it stands in the batch.",
             {**WRONG, ASK: ASK.replace("position_ids=places, ", "")}),
        edit("padding-attended",
             "The padding is read as words now. It was right that the mask hides it.",
             {**WRONG, START: START + "    mask = torch.ones_like(mask)\n"}),
        edit("places-stand-still",
             "Every later token of a row now has the place of its prompt's last token: the place must go on by one for each.",
             {NEXT: NEXT.replace(" + 1", "")}),
        edit("places-from-zero",
             "The completion's places begin at 0 now. They go on where the row's prompt stopped.",
             {NEXT: NEXT.replace("places[:, -1:] + 1", "torch.full((len(prompts), 1), t)")}),
        edit("right-padded",
             "With padding on the right the last column of a short prompt is padding, and the first token is drawn from what the "
             "model says after that." + CAUSE,
             {**WRONG, "\n    tokens = [[PAD] * (columns - len(prompt)) + list(prompt) ":
              "\n    tokens = [list(prompt) + [PAD] * (columns - len(prompt)) ",
              "\n    mask = [[0] * (columns - len(prompt)) + [1] * len(prompt) ":
              "\n    mask = [[1] * len(prompt) + [0] * (columns - len(prompt)) "}),
        edit("more-samples",
             SYMPTOM + "more samples of a wrong number make its interval narrower, and leave it where it is." + CAUSE,
             {**WRONG, ROWS: ROWS.replace("range(times)", "range(2 * times)")}),
    ]  # fmt: skip
