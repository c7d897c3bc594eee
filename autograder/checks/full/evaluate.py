"""Lesson 8: what is true of an evaluation.

Models whose logits are a thousand times as large as usual leave nothing to chance, so what they write is compared token by token,
whatever way a learner draws. How often a model that does leave something to chance writes what is counted, and compared with the
exact probabilities.
"""

import importlib

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference
from autograder.checks.verdicts import counts_agree


class Truth:
    """evaluate_truth, when something is asked of it: a student's copy has cases and answers in a file, and not that module."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("autograder.checks.full.evaluate_truth"), name)


exact = Truth()
WORDS = ["<pad>", "<eos>", "<unk>", "<bos>", "film", "plot", "good", "bad", "dull", "the", "a", ","]
WORTH = np.array([0.0, 0, 0, 0, 0.1, -0.2, 1, -1, -0.7, 0.05, 0.3, -0.4])
PAD, EOS = 0, 1
HEADS = 2
# expressions of the reference that the mistakes below put others in the place of
ENCODE = "tokenizer(list(texts), add_special_tokens=False, verbose=False)"
CUT = "ids[:tokens]"
LEFT = "[tokenizer.pad_token_id] * (columns - len(ids)) + ids"
LEFT_MASK = "[0] * (columns - len(ids)) + [1] * len(ids)"
COLUMNS = "columns = max(len(ids) for ids in beginnings)"
PROMPTS = "return Prompts(torch.tensor(input_ids), torch.tensor(attention_mask))"
PLACES = "places, cache = tokens, position_ids(attention_mask), "
NEXT_PLACE = "places = places[:, -1:] + 1"
ASK = "model(input_ids=new, attention_mask=attention_mask, position_ids=places, **cache)"
HEATED = "logits = out.logits[:, -1] / temperature"
KTH = "kth = logits.topk(top_k, dim=-1).values[:, -1:]"
FILL = "logits = logits.masked_fill(logits < kth, -torch.inf)"
DRAW = "torch.multinomial(logits.softmax(dim=-1).cpu(), 1, generator=generator)"
KEPT = "new = torch.where(going.unsqueeze(1), drawn, pad_token_id)"
GROW = "attention_mask = torch.cat([attention_mask, going.unsqueeze(1).to(attention_mask)], dim=1)"
GOING = "going = going & (new[:, 0] != eos_token_id)"
CACHE = '{"use_cache": True, keyword: out[keyword] if keyword in out else out.past_key_values}'
RESTORE = "        model.train(was_training)"
NAMES = "names = {str(name).lower(): int(label) for label, name in classifier.config.id2label.items()}"
POSITIVE = 'positive = names.get("positive", 1)'
TOKENIZE = 'list(texts), padding=True, padding_side="right", truncation=most is not None, max_length=most, return_tensors="pt"'
READ = "classifier(input_ids=input_ids, attention_mask=attention_mask).logits"
PROBABILITY = "return logits.softmax(dim=-1)[:, positive]"
HALF = "half = 1.96 * (values.std() / len(values) ** 0.5).item()"
INTERVAL = '{"mean": mean, "low": mean - half, "high": mean + half}'
GRAMS = "grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]"
SHARE = "len(set(grams)) / len(grams) if grams else 0.0"
DECODE = "tokenizer.batch_decode(rollout.tokens, skip_special_tokens=True)"
BATCHES = "for first in range(0, len(texts), batch_size):"
OWN = "completions.append(tokens[mask].tolist())"
ENDED = "ended += completions[-1][-1] == tokenizer.eos_token_id"
TOLD = "progress(len(rewards), len(texts), torch.stack(rewards).mean().item())"


class RefusalCheck(Check):
    """Answers carry `refusal`: None, or the words of a ValueError, which must name the argument that the truth gives."""

    def judge(self, got, expected, **case):
        wanted, came = expected["refusal"], got["refusal"]
        if wanted is None:
            return f"`refusal`: input that is right is refused: {came}" if came else self.compared(got, expected, **case)
        if came is None:
            return f"`refusal`: it went through; expected was a ValueError that names {wanted}"
        return None if wanted in came else f"`refusal`: expected a ValueError that names {wanted}, received: {came}"

    def compared(self, got, expected, **case):
        if expected.get("dropout while reading"):  # a known mistake: what it answers is noise
            return None if got["dropout while reading"] else "`dropout while reading`: it was off"
        return difference(got, expected, self.tolerance)


# --- beginnings ------------------------------------------------------------------------------------------------------


@check("seed_prompts", points=2, section="8.2")
class Beginnings(RefusalCheck):
    probe = "seed_prompts"
    tolerance = 0.0  # whole numbers

    def cases(self, rng):
        yield self.case(["the film", "plot"], 2)
        yield self.case(["the plot, a bad film", "good", "a film"], 3)
        yield self.case(["a good film", "the dull plot"], 2, padding_side="left", truncation_side="left")
        yield self.case(["film"], 5)  # shorter than asked
        drawn = [" ".join(WORDS[4 + i] for i in rng.integers(8, size=size)) for size in rng.integers(1, 9, size=6)]
        yield self.case([*drawn, "the dull film, a bad plot, a"], int(rng.integers(3, 6)), truncation_side="left", longest=6)
        yield self.case([], 3)  # to be refused
        yield self.case(["a film", "", "plot"], 3)
        yield self.case(["a film"], 0)
        yield self.case(["a film"], 3, pad=False)

    @staticmethod
    def case(texts, tokens, padding_side="right", truncation_side="right", pad=True, longest=None):
        settings = {"padding_side": padding_side, "truncation_side": truncation_side, "pad": pad, "longest": longest}
        return {"words": WORDS, "texts": texts, "tokens": tokens, **settings}

    def truth(self, words, texts, tokens, padding_side, truncation_side, pad, longest):
        if not pad or tokens < 1 or not all(texts) or not texts:
            return {"refusal": "tokenizer" if not pad else "tokens" if tokens < 1 else "texts"}
        rows = [[words.index(word) for word in text.replace(",", " ,").split()][:tokens] for text in texts]
        input_ids, attention_mask = exact.left_padded(rows, PAD)
        return {"refusal": None, "input_ids": input_ids, "attention_mask": attention_mask, "dtype": "int64",
                "settings changed": "none"}  # fmt: skip

    mistakes = [
        edit("special-tokens-kept",
             "The start token that the tokenizer puts before a text is counted as one of the prompt's tokens. Leave it out: "
             "add_special_tokens=False.",
             {ENCODE: ENCODE.replace("False", "True", 1)}),
        edit("last-tokens",
             "You took the end of each text. A prompt is its beginning; beware of `truncation_side`, which may say left.",
             {CUT: "ids[-tokens:]"}),
        edit("tokenizer-cuts",
             "You let the tokenizer cut, and it cuts on the side that its `truncation_side` says. Cut the list yourself.",
             {ENCODE: ENCODE.replace("verbose=False", "truncation=True, max_length=tokens")}),
        edit("one-token-short", "Each prompt has a token too few: `ids[:tokens]` has `tokens` of them.",
             {CUT: "ids[: tokens - 1]"}),
        edit("right-padded",
             "The padding stands on the right, so the model would go on writing behind padding. All prompts are to end at the "
             "same column.",
             {LEFT: "ids + [tokenizer.pad_token_id] * (columns - len(ids))",
              LEFT_MASK: "[1] * len(ids) + [0] * (columns - len(ids))"}),
        edit("padding-attended",
             "The mask says 1 on padding: the model would read it as words.",
             {LEFT_MASK: "[1] * columns"}),
        edit("mask-inverted", "The mask is upside down: 1 stands on real tokens.",
             {LEFT_MASK: "[1] * (columns - len(ids)) + [0] * len(ids)"}),
        edit("padded-to-tokens",
             "Every batch is as wide as `tokens`, though its longest beginning is shorter. There are as many columns as that "
             "has.",
             {COLUMNS: "columns = tokens"}),
        edit("device-dtype", "Token ids and mask are whole numbers, torch.long.",
             {PROMPTS: "return Prompts(torch.tensor(input_ids).int(), torch.tensor(attention_mask))"}),
        edit("in-place",
             "The tokenizer was left with another `padding_side`. It is shared: whoever uses it next pads on the wrong side.",
             {ENCODE: "(setattr(tokenizer, 'padding_side', 'left'), " + ENCODE + ")[1]",
              "[ids[:tokens] for": "(setattr(tokenizer, 'truncation_side', 'right'), [ids[:tokens] for",
              'for ids in encoded["input_ids"]]': 'for ids in encoded["input_ids"]])[1]'}),
        edit("empty-text",
             "A text without any token became a prompt of padding alone, from which a model writes something anyway. Refuse it.",
             {"        if not ids:\n": "        if False:\n"}),
    ]  # fmt: skip


# --- writing on ------------------------------------------------------------------------------------------------------


class WritingCheck(RefusalCheck):
    @staticmethod
    def drawn(rng, prompts, new_tokens, vocabulary=len(WORDS), early=True):
        """A model that surely writes something after these prompts: in some row an end comes early, in another it does not."""
        while True:
            weights = exact.gpt2_weights(rng, vocabulary)
            completions, lead = exact.written(weights, HEADS, prompts, new_tokens, EOS)
            lengths = [len(row) for row in completions]
            ends = [row[-1] == EOS for row in completions]
            varied = min(lengths) < max(lengths) == new_tokens and not all(ends)
            if exact.LOUD * lead > exact.SURE and (varied or not early) and (early or not any(ends)):
                return weights


def spelt(places=8):
    """A GPT-2 that writes the number of its place: what comes at place p is the token p + 2, whatever stands before it."""
    weights = exact.gpt2_weights(np.random.default_rng(0), 2 + places, places, dim=places)
    nothing = ("attn.c_proj.weight", "mlp.c_proj.weight")
    weights |= {f"transformer.h.0.{name}": 0 * weights[f"transformer.h.0.{name}"] for name in nothing}
    weights |= {"transformer.wte.weight": np.zeros((2 + places, places)), "transformer.wpe.weight": np.eye(places)}
    weights |= {"transformer.ln_f.weight": np.ones(places), "transformer.ln_f.bias": np.zeros(places)}
    return weights | {"lm_head.weight": np.concatenate([np.zeros((2, places)), np.eye(places)])}


@check("continue_prompts", points=4, section="8.3")
class WritesOn(WritingCheck):
    """Nothing is random: the likeliest token leads by more than 60 nats."""

    probe = "continuations"
    tolerance = 0.0  # whole numbers

    def cases(self, rng):
        yield self.case(spelt(), [[7, 5, 9], [4]], 3)  # the token after n others is n + 1: places can be read off
        prompts = [[4, 6, 5, 9], [8, 10], [9]]
        yield self.case(self.drawn(rng, prompts, 5), prompts, 5)
        yield self.case(self.drawn(rng, prompts, 5), prompts, 5, training=True)
        yield self.case(self.drawn(rng, [[5], [6, 7, 8]], 1, early=False), [[5], [6, 7, 8]], 1)
        yield self.case(self.drawn(rng, prompts, 6, early=False), prompts, 6, eos=None, temperature=0.5, top_k=3)
        yield self.case(self.ends(rng, [[4, 9]], 6), [[4, 9]], 6)  # all rows are over early

    def ends(self, rng, prompts, new_tokens):
        while True:
            weights = self.drawn(rng, [*prompts, [5, 6]], new_tokens)
            completions, _ = exact.written(weights, HEADS, prompts, new_tokens, EOS)
            if all(1 < len(row) < new_tokens for row in completions):
                return weights

    @staticmethod
    def case(weights, prompts, new_tokens, eos=EOS, training=False, **settings):
        input_ids, attention_mask = exact.left_padded(prompts, PAD)
        asked = {"new_tokens": new_tokens, "eos": eos, "pad": PAD, "training": training, **settings}
        prompts = {"input_ids": input_ids, "attention_mask": attention_mask}
        return exact.shown({"weights": exact.louder(weights), "heads": HEADS, **prompts, **asked})

    def truth(self, weights, heads, input_ids, attention_mask, new_tokens, eos, pad, training, temperature=1.0, top_k=0):
        prompts = exact.without_padding(input_ids, attention_mask)
        completions, _ = exact.written(weights, heads, prompts, new_tokens, eos)
        return {
            "refusal": None,
            **exact.rollout_of(input_ids, attention_mask, completions, new_tokens, pad),
            "dtype": "int64",
            "tokens read": len(prompts) * (input_ids.shape[1] + new_tokens - 1),
            "dropout while reading": False,
            "graph": False,
            "training afterwards": training,
            "arguments changed": False,
        }

    def compared(self, got, expected, input_ids, new_tokens, **case):
        """Whoever reads fewer tokens, or what was drawn last too, has done no more work than was asked."""
        limit = len(input_ids) * (input_ids.shape[1] + new_tokens)
        got, expected = ({**answer, "every token is read once": answer["tokens read"] <= limit} for answer in (got, expected))
        del got["tokens read"], expected["tokens read"]
        return super().compared(got, expected, **case)

    mistakes = [
        edit("no-position-ids",
             "The model got no position_ids: it numbers the columns, padding included, so that a padded prompt is another text "
             "to it. A row's places count its own real tokens (eq. 8.2).",
             {ASK: ASK.replace("position_ids=places, ", "")}),
        edit("places-of-columns",
             "After the prompt you went on with the number of the column. A row's next place is its last one plus 1, and that "
             "is smaller where there is padding.",
             {NEXT_PLACE: "places = torch.full_like(places[:, -1:], tokens.shape[1] - 1)"}),
        edit("places-of-new-tokens",
             "After the prompt the places begin at 0 again. They go on where the prompt's stopped.",
             {NEXT_PLACE: "places = torch.full_like(places[:, -1:], tokens.shape[1] - prompts.input_ids.shape[1] - 1)"}),
        edit("places-stand-still", "Every new token gets the place of the one before it: add 1.",
             {NEXT_PLACE: "places = places[:, -1:]"}),
        edit("padding-attended",
             "The model did not get the attention mask, so it reads padding as words.",
             {ASK: ASK.replace("attention_mask=attention_mask, ", "")}),
        edit("mask-not-grown",
             "The tokens that were drawn are not in the attention mask. It covers prompt and completion.",
             {GROW: "attention_mask = torch.cat([attention_mask, torch.zeros_like(attention_mask[:, :1])], dim=1)"}),
        edit("no-cache",
             "The whole sequence is read again for every new token. With the cache, each token is read once.",
             {CACHE: '{"use_cache": False}', NEXT_PLACE: "new, places = tokens, position_ids(attention_mask)",
              KEPT: "new = torch.where(going.unsqueeze(1), drawn, pad_token_id)\n                now = new",
              "tokens = torch.cat([tokens, new], dim=1)": "tokens = torch.cat([tokens, now], dim=1)",
              GOING: GOING.replace("new", "now")}),
        edit("first-logits",
             "The token was drawn from the logits of the first column. The last column speaks of the next token.",
             {HEATED: HEATED.replace("-1", "0")}),
        edit("goes-on-after-eos",
             "A row goes on after its EOS. From there on it gets the pad token, with attention mask 0.",
             {GOING: "pass"}),
        edit("pad-is-eos",
             "The EOS is not in the mask. It was drawn, and to draw it was a decision: it counts, what follows it does not.",
             {GROW: GROW.replace("going", "(going & (new[:, 0] != (-1 if eos_token_id is None else eos_token_id)))")}),
        edit("padding-scored",
             "The mask is 1 on the padding behind a completion. It is 1 on what the model drew, up to its EOS.",
             {GROW: "attention_mask = torch.cat([attention_mask, torch.ones_like(attention_mask[:, :1])], dim=1)"}),
        edit("eos-fills-up",
             "Behind its EOS a row is filled with more of them. Fill with the pad token: EOS is a word the model chose.",
             {KEPT: KEPT.replace("pad_token_id", "eos_token_id if eos_token_id is not None else pad_token_id")}),
        edit("stops-short",
             "The rollout has as many columns as the longest completion. It always has prompt + new_tokens of them.",
             {NEXT_PLACE: NEXT_PLACE + "\n                if not going.any():\n                    break"}),
        edit("one-ends-all",
             "Everything stops as soon as one row is over; the others are filled up with padding.",
             {GOING: "going = going & (new[:, 0] != eos_token_id).all()"}),
        edit("dropout-on",
             "Dropout was on: the model was asked in training mode. Call `eval()` first, and give it back as it was.",
             {"    model.eval()\n": "    pass\n"}),
        edit("mode-lost",
             "The model came in training mode and went out in evaluation mode. Put it back as it was.",
             {RESTORE: "        pass"}),
        edit("graph-built",
             "A graph was built through every step, and its memory kept. Sample under `torch.no_grad()`.",
             {"with torch.no_grad():\n            for _": "with torch.enable_grad():\n            for _"}),
        edit("in-place",
             "The caller's prompts were changed. Make new tensors.",
             {NEXT_PLACE: NEXT_PLACE + "\n                prompts.attention_mask.fill_(1)"}),
    ]  # fmt: skip


@check("continue_prompts", points=2, section="8.4")
class DrawsFromTheModel(WritingCheck):
    """Pairs of tokens after three prompts, 160 of each; how surely this tells the mistakes from the truth is in the tests."""

    probe = "frequencies"
    seconds = 30  # drawn row by row they take a second of a free processor
    EOS, PAD = 2, 3

    def cases(self, rng):
        prompts = [[0, 1, 1], [1], [1, 0]]
        for temperature, top_k in ((1.0, 0), (0.25, 0), (4.0, 0), (1.0, 2), (1.0, 1)):
            yield self.case(self.clear(rng, prompts), prompts, temperature, top_k, rng)
        tied = self.clear(rng, prompts)
        yield self.case(tied | {"lm_head.weight": 0 * tied["lm_head.weight"]}, prompts, 1.0, 2, rng)  # all tokens are as likely

    def clear(self, rng, prompts):
        """Weights by which the prompts differ, no first token is sure, and the likeliest is another one in some row."""
        weights = exact.gpt2_weights(rng, 4)
        hidden = np.stack([exact.gpt2_hidden(weights, HEADS, np.array(prompt))[-1] for prompt in prompts])
        while True:
            weights["lm_head.weight"] = 0.6 * rng.normal(size=(4, 8)) * (np.arange(8) > 0)
            rows = exact.softmax(hidden @ weights["lm_head.weight"].T)
            if rows.min() > 0.08 and rows.max() < 0.7 and len(set(rows.argmax(axis=1))) > 1:
                if min(np.abs(np.diff(np.sort(rows, axis=1), axis=1)).min(), np.abs(rows[0] - rows[1]).max()) > 0.02:
                    return weights

    def case(self, weights, prompts, temperature, top_k, rng):
        input_ids, attention_mask = exact.left_padded(prompts, self.PAD)
        asked = {"eos": self.EOS, "pad": self.PAD, "temperature": temperature, "top_k": top_k, "count": 160}
        asked |= {"input_ids": input_ids, "attention_mask": attention_mask, "seed": int(rng.integers(2**31))}
        return {**asked, "heads": HEADS, "weights": weights}

    def truth(self, weights, heads, input_ids, attention_mask, eos, pad, temperature, top_k, count, seed):
        prompts = exact.without_padding(input_ids, attention_mask)
        rows = [exact.pair_probabilities(weights, heads, prompt, eos, pad, temperature, top_k) for prompt in prompts]
        return {"refusal": None, "counts": count * np.stack(rows), "same seed, same tokens": True}

    def compared(self, got, expected, count, **case):
        wrong = difference({"same seed, same tokens": got["same seed, same tokens"]},
                           {"same seed, same tokens": expected["same seed, same tokens"]}, 0.0)  # fmt: skip
        counts = np.asarray(got["counts"], dtype=np.float64)
        if wrong or counts.shape != expected["counts"].shape or (np.abs(counts.sum(axis=1) - count) > 1e-6).any():
            return wrong or f"`counts`: expected {count} pairs after each prompt"
        for row, (came, usual) in enumerate(zip(counts, expected["counts"])):
            wrong = counts_agree(came, usual / usual.sum(), false_reject=1e-7)
            if wrong:
                return f"`counts`: after prompt {row} {wrong} (outcome i is the pair {'i // 4, i % 4'})"
        return None

    @mistake("greedy-rollouts",
             "The likeliest token is always taken. That measures another policy, one without randomness: draw.")  # fmt: skip
    def greedy(self, temperature, top_k, **case):
        return self.truth(**case, temperature=temperature, top_k=1 if case["weights"]["lm_head.weight"].any() else top_k)

    @mistake("temperature-ignored", "The draws are those of temperature 1: divide the logits by the temperature.")
    def no_temperature(self, temperature, **case):
        return self.truth(**case, temperature=1.0)

    @mistake("temperature-inverted", "The logits were multiplied by the temperature. They are divided by it.")
    def inverted_temperature(self, temperature, **case):
        return self.truth(**case, temperature=1 / temperature)

    @mistake("top-k-ignored", "Tokens outside the top k are drawn.")
    def no_top_k(self, top_k, **case):
        return self.truth(**case, top_k=0)

    @mistake("top-k-of-one-more", "One token too many can be drawn: k + 1 of them.")
    def one_more(self, top_k, **case):
        return self.truth(**case, top_k=top_k + 1 if top_k else 0)

    @mistake("uniform", "Every token comes equally often: the model's probabilities were not used.")
    def uniform(self, weights, **case):
        return self.truth(weights=weights | {"lm_head.weight": 0 * weights["lm_head.weight"]}, **case)

    @mistake("topk-batch",
             "Every row draws from the first row's distribution. A batch is rows that have nothing to do with each "
             "other.")  # fmt: skip
    def first_row(self, input_ids, attention_mask, **case):
        first = [np.broadcast_to(x[:1], x.shape) for x in (input_ids, attention_mask)]
        return self.truth(input_ids=first[0], attention_mask=first[1], **case)

    @mistake("generator-ignored",
             "The same generator gave other tokens: something is drawn elsewhere, so that no figure can be measured "
             "twice.")  # fmt: skip
    def other_generator(self, **case):
        return {**self.truth(**case), "same seed, same tokens": case["top_k"] == 1}

    mistakes = [
        edit("topk-threshold-of-the-first-row",
             "The k-th largest logit of the first row cuts all rows. Each row has its own.",
             {KTH: KTH.replace("[:, -1:]", "[:1, -1:]")}),
        edit("ties-cut",
             "Where tokens are as likely as the k-th, some of them are cut by the order of their numbers. Ties stay.",
             {FILL: "logits += torch.full_like(logits, -torch.inf).scatter(-1, logits.topk(top_k, dim=-1).indices, 0.0)"}),
    ]  # fmt: skip


@check("continue_prompts", points=1, section="8.3")
class RefusesToWrite(WritingCheck):
    probe = "continuations"
    tolerance = 0.0  # whole numbers

    def cases(self, rng):
        sound = WritesOn.case(self.drawn(rng, [[4, 5], [6]], 2, early=False), [[4, 5], [6]], 2)
        yield sound
        yield sound | {"new_tokens": 0}
        yield sound | {"pad": EOS}
        yield sound | {"temperature": 0.0}
        yield sound | {"top_k": -1}
        yield sound | {"attention_mask": np.array([[1, 1], [0, 0]])}
        yield sound | {"attention_mask": np.array([[1, 1], [1, 0]])}
        yield sound | {"new_tokens": 40}

    def truth(self, **case):
        if case["new_tokens"] in (0, 40):
            return {"refusal": "new_tokens"}
        if case["pad"] == EOS:
            return {"refusal": "pad_token_id"}
        for name in ("temperature", "top_k"):
            if name in case:
                return {"refusal": name}
        if not np.array_equal(case["attention_mask"], [[1, 1], [0, 1]]):
            return {"refusal": "prompts"}
        completions, _ = exact.written(case["weights"], HEADS, [[4, 5], [6]], 2, EOS)
        answer = exact.rollout_of(case["input_ids"], case["attention_mask"], completions, 2, PAD)
        return {"refusal": None, "tokens": answer["tokens"]}

    def compared(self, got, expected, **case):
        return difference({"tokens": got["tokens"]}, {"tokens": expected["tokens"]}, self.tolerance)

    mistakes = [
        edit("pad-is-eos",
             "EOS was taken for padding without a word. Then nobody can tell an ending that was written from one that was filled "
             "in: refuse it.",
             {"    given.require_apart(eos_token_id, pad_token_id)\n": ""}),
        edit("unlimited", "More tokens were asked for than the model has places. Refuse that, by `given.require_room`.",
             {"    given.require_room(model, prompts, new_tokens)\n": ""}),
        edit("empty-prompt", "A prompt without a real token, or padded on the right, was continued. Refuse it.",
             {"    given.require_prompts(prompts)\n": ""}),
    ]  # fmt: skip


# --- the reward ------------------------------------------------------------------------------------------------------


@check("sentiment_reward", points=3, section="8.5")
class ProbabilityOfPositive(RefusalCheck):
    probe = "sentiment"
    tolerance = 1e-9  # float64: a small network and one softmax lose less than 1e-12

    def cases(self, rng):
        ragged = ["good", "the film, a dull plot", "a bad film"]
        yield self.case(rng, "gpt2", ["negative", "positive"], ["good film", "bad plot"])
        yield self.case(rng, "gpt2", ["POSITIVE", "NEGATIVE"], ragged)
        yield self.case(rng, "distilbert", ["negative", "neutral", "positive"], ragged)
        yield self.case(rng, "distilbert", ["LABEL_0", "LABEL_1", "LABEL_2"], ragged, training=True)
        yield self.case(rng, "gpt2", ["negative", "positive"], ragged, padding_side="left")
        yield self.case(rng, "distilbert", ["negative", "positive"], [*ragged, "good, bad, dull, the, a, film"], context=8)
        yield self.case(rng, "gpt2", ["negative", "positive"], ["film", "the plot"], loud=200.0)
        yield self.case(rng, "gpt2", ["negative", "positive"], [])  # to be refused
        yield self.case(rng, "gpt2", ["positive"], ["film"])

    @staticmethod
    def case(rng, kind, labels, texts, context=16, loud=1.0, **more):
        if kind == "gpt2":
            weights = exact.gpt2_weights(rng, len(WORDS), labels=len(labels))
            weights["score.weight"] = loud * weights["score.weight"]
        else:
            weights = exact.distilbert_weights(rng, len(WORDS), context, len(labels))
        asked = {"labels": labels, "words": WORDS, "texts": texts, "context": context, "padding_side": "right", "training": False}
        return exact.shown({"kind": kind, "weights": weights, "heads": HEADS, **asked, **more})

    def truth(self, kind, weights, heads, labels, words, texts, context, padding_side, training):
        if not texts or len(labels) < 2:
            return {"refusal": "texts" if len(labels) > 1 else "classifier"}
        names = [label.lower() for label in labels]
        positive = names.index("positive") if "positive" in names else 1
        logits_of = exact.gpt2_class_logits if kind == "gpt2" else exact.distilbert_class_logits
        rows = [[words.index(word) for word in ["<bos>", *text.replace(",", " ,").split()]][:context] for text in texts]
        rewards = np.array([exact.softmax(logits_of(weights, heads, row))[positive] for row in rows])
        return {
            "refusal": None,
            "rewards": rewards,
            "dtype": "float64",
            "carries a gradient": False,
            "dropout while reading": False,
            "training afterwards": training,
            "settings changed": False,
        }

    mistakes = [
        edit("rm-reads-pad",
             "The classifier reads the padding too: what a text is worth then depends on the longest text beside it. Hand its "
             "attention mask on.",
             {READ: READ.replace("attention_mask=attention_mask", "attention_mask=torch.ones_like(attention_mask)")}),
        edit("no-position-ids",
             "The texts were padded on the left, where this tokenizer happens to pad, and the classifier's places moved with "
             "them. Pad on the right for a classifier.",
             {'padding_side="right"': "padding_side=tokenizer.padding_side"}),
        edit("label-one",
             "You took label 1. Which label means positive stands in config.id2label, and it may be another.",
             {POSITIVE: "positive = 1"}),
        edit("label-zero-by-default", "Where no label is called positive, label 1 is meant.",
             {POSITIVE: POSITIVE.replace("1)", "0)")}),
        edit("last-label", "You took the last label. The one meant is called positive.", {POSITIVE: "positive = -1"}),
        edit("label-by-case", "Labels are spelt in any case: POSITIVE is positive too.", {NAMES: NAMES.replace(".lower()", "")}),
        edit("logits-as-reward",
             "These are logits. Asked for is a probability: they go through the softmax over the labels (eq. 8.4).",
             {PROBABILITY: "return logits[:, positive]"}),
        edit("sigmoid-of-one-label",
             "You took the sigmoid of one logit. With a softmax only the difference between logits means anything (eq. 8.4).",
             {PROBABILITY: "return logits[:, positive].sigmoid()"}),
        edit("log-probability", "This is log P(positive). The reward is P(positive), between 0 and 1.",
             {PROBABILITY: "return logits.log_softmax(dim=-1)[:, positive]"}),
        edit("softmax-over-the-batch",
             "The softmax ran over the texts: the rewards of a batch sum to 1. It runs over the labels.",
             {PROBABILITY: "return logits.softmax(dim=0)[:, positive]"}),
        edit("label-for-probability",
             "The reward is 1 or 0, whether the label is the likeliest. A probability says how sure the classifier is.",
             {PROBABILITY: "return (logits.argmax(dim=-1) == positive).to(logits.dtype)"}),
        edit("rm-broadcast", "The rewards are a column, (batch, 1). One number a text: (batch,).",
             {PROBABILITY: "return logits.softmax(dim=-1)[:, [positive]]"}),
        edit("dropout-on", "Dropout was on: ask the classifier in evaluation mode.",
             {"    classifier.eval()\n": "    pass\n"}),
        edit("mode-lost", "The classifier came in training mode and went out in evaluation mode. Put it back as it was.",
             {"        classifier.train(was_training)": "        pass"}),
        edit("attached-reward", "A gradient flows back into the classifier. A reward is a number.",
             {"with torch.no_grad():\n            input_ids": "with torch.enable_grad():\n            input_ids"}),
        edit("start-token-missing",
             "The classifier's tokenizer puts a start token before a text. It was trained with it: leave it.",
             {"list(texts), padding=True,": "list(texts), add_special_tokens=False, padding=True,"}),
        edit("not-cut",
             "A text longer than the classifier can read made it fall over. Cut at config.max_position_embeddings.",
             {"truncation=most is not None, max_length=most": "truncation=False"}),
    ]  # fmt: skip


# --- figures ---------------------------------------------------------------------------------------------------------


@check("mean_with_interval", points=2, section="8.6")
class NinetyFivePercent(RefusalCheck):
    probe = "interval"
    tolerance = 1e-9  # float64 sums of at most 400 numbers between 0 and 1000, and one root

    def cases(self, rng):
        yield {"values": np.array([0.2, 0.4, 0.9])}
        yield {"values": np.array([0.5, 0.5, 0.5, 0.5])}
        yield {"values": rng.random(size=400)}
        yield {"values": (rng.random(size=30) + 1000).astype(np.float32)}  # sums in float32 would lose three digits
        yield {"values": rng.integers(2, size=50)}
        yield {"values": np.array([0.7])}  # to be refused
        yield {"values": np.array([0.7, np.nan])}
        yield {"values": np.array([[0.7, 0.1]])}

    def truth(self, values):
        if values.ndim != 1 or len(values) < 2 or np.isnan(values).any():
            return {"refusal": "values"}
        values = values.astype(np.float64)
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        return {"refusal": None, "mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half,
                "argument changed": False}  # fmt: skip

    mistakes = [
        edit("deviation-for-error",
             "This is the interval in which the *values* lie. The mean of n of them lies sqrt(n) times closer: divide s by "
             "sqrt(n) (eq. 8.6).",
             {HALF: "half = 1.96 * values.std().item()"}),
        edit("std-is-not-variance",
             "You divided by n, not by its root: variances go with 1/n, standard deviations with 1/sqrt(n).",
             {HALF: HALF.replace("len(values) ** 0.5", "len(values)")}),
        edit("variance-for-deviation", "The variance stands where the standard deviation belongs.",
             {HALF: HALF.replace("values.std()", "values.var()")}),
        edit("biased-deviation",
             "The standard deviation has n in its denominator. With the mean estimated from the same values it needs n - 1 "
             "(eq. 8.5).",
             {HALF: HALF.replace("values.std()", "values.std(correction=0)")}),
        edit("one-sigma", "This is mean plus and minus one standard error: it holds the truth 68 times in 100, not 95.",
             {HALF: HALF.replace("1.96", "1.0")}),
        edit("one-sided", "1.645 leaves 5% on each side. An interval of 95% leaves 2.5% on each: 1.96.",
             {HALF: HALF.replace("1.96", "1.645")}),
        edit("width-for-half-width", "The interval is half as wide as it should be: 1.96 standard errors on *each* side.",
             {HALF: HALF.replace("1.96", "0.98")}),
        edit("device-dtype", "Summed in the dtype that came: float32 sums of many values lose the digits you want to report.",
             {"values = values.double()": "values = values.float()"}),
    ]  # fmt: skip


@check("distinct_n", points=2, section="8.7")
class SharesOfDifferentNgrams(RefusalCheck):
    probe = "distinct"
    tolerance = 1e-12  # one division

    def cases(self, rng):
        yield {"rows": [[4, 5, 4, 5, 4]], "n": 2}
        yield {"rows": [[4, 5, 4, 5, 4]], "n": 1}
        yield {"rows": [[4, 5], [4, 5], [5, 6, 4]], "n": 2}
        yield {"rows": [[4], [5]], "n": 2}
        yield {"rows": [[], [7, 7, 7, 8], [9]], "n": 3}
        for n in (1, 2, 3):
            yield {"rows": [rng.integers(4, size=size).tolist() for size in rng.integers(0, 12, size=8)], "n": n}
        yield {"rows": [[4, 5]], "n": 0}  # to be refused

    def truth(self, rows, n):
        if n < 1:
            return {"refusal": "n"}
        grams = [repr(row[i : i + n]) for row in rows for i in range(len(row)) if i + n <= len(row)]
        return {"refusal": None, "distinct": len(set(grams)) / max(len(grams), 1)}

    mistakes = [
        edit("tokens-for-ngrams", "These are different tokens, not different n-grams.",
             {GRAMS: "grams = [token for row in rows for token in row]"}),
        edit("across-rows",
             "An n-gram was made of the end of one text and the beginning of the next. It lies within one row.",
             {GRAMS: "every = [token for row in rows for token in row]\n"
                     "    grams = [tuple(every[i : i + n]) for i in range(len(every) - n + 1)]"}),
        edit("words-in-the-denominator",
             "The number of different n-grams was divided by the number of tokens (so did the paper); here it is divided by the "
             "number of n-grams, so that 1 can be reached.",
             {SHARE: "len(set(grams)) / sum(map(len, rows)) if grams else 0.0"}),
        edit("mean-of-rows",
             "You averaged over the rows. That a model writes the same text every time is only seen when all rows are counted "
             "together.",
             {GRAMS: "rows = [[tuple(row[i : i + n]) for i in range(len(row) - n + 1)] for row in rows]\n"
                     "    grams = [gram for row in rows for gram in row]",
              SHARE: "sum(len(set(row)) / len(row) for row in rows if row) / sum(map(bool, rows)) if grams else 0.0"}),
        edit("order-ignored", "Good film and film good are two bigrams: the order of an n-gram's tokens counts.",
             {"tuple(row[i : i + n])": "tuple(sorted(row[i : i + n]))"}),
        edit("last-ngram-missing", "Each row's last n-gram is missing: there are len(row) - n + 1 of them.",
             {"range(len(row) - n + 1)": "range(len(row) - n)"}),
        edit("short-ngrams", "The pieces at a row's end that are shorter than n were counted as n-grams.",
             {"range(len(row) - n + 1)": "range(len(row))"}),
        edit("repeated-share", "This is the share of repetitions. Asked for is the share that differ: 1 minus that.",
             {SHARE: "1 - len(set(grams)) / len(grams) if grams else 0.0"}),
    ]  # fmt: skip


# --- a batch and the whole -------------------------------------------------------------------------------------------


SETTINGS = ({"temperature": 1.0, "top_k": 1}, {"temperature": 0.001, "top_k": 0})  # each leaves nothing to chance


def worth_of(text):
    words = text.split()
    return sum(WORTH[WORDS.index(word)] for word in words) / len(words) if words else 0.0


def text_of(tokens):
    return " ".join(WORDS[token] for token in tokens if token >= exact.SPECIAL)


@check("compute_reward_for_mini_batch", points=2, section="8.8")
class ScoresWhatWasWritten(WritingCheck):
    probe = "mini_batch"
    tolerance = 1e-9  # means of at most ten float64 numbers

    def cases(self, rng):
        for prompts, settings, new_tokens in (([[9, 4], [6]], SETTINGS[0], 3), ([[9, 4, 5], [8], [10, 6]], SETTINGS[1], 5)):
            yield self.case(self.drawn(rng, prompts, new_tokens), prompts, settings, new_tokens)
        for spoilt in ("column", "nan"):
            yield self.case(self.drawn(rng, [[9, 4], [6]], 3), [[9, 4], [6]], SETTINGS[0], 3) | {"spoilt": spoilt}

    @staticmethod
    def case(weights, prompts, settings, new_tokens):
        input_ids, attention_mask = exact.left_padded(prompts, PAD)
        asked = {"input_ids": input_ids, "attention_mask": attention_mask, "new_tokens": new_tokens, "settings": settings}
        return exact.shown({"weights": weights, "heads": HEADS, "words": WORDS, "worth": WORTH, **asked, "spoilt": "none"})

    def truth(self, weights, heads, words, input_ids, attention_mask, new_tokens, worth, settings, spoilt):
        if spoilt != "none":
            return {"refusal": "score"}
        prompts = exact.without_padding(input_ids, attention_mask)
        completions, _ = exact.written(weights, heads, prompts, new_tokens, EOS)
        texts = [text_of(prompt + completion) for prompt, completion in zip(prompts, completions)]
        return {
            "refusal": None,
            **exact.rollout_of(input_ids, attention_mask, completions, new_tokens, PAD),
            "texts": texts,
            "rewards": np.array([worth_of(text) for text in texts]),
            "carries a gradient": False,
            "scored": [texts],
        }

    mistakes = [
        edit("completion-alone",
             "The reward model read the completion without its prompt. Whether a sentence is praise often stands in its "
             "beginning.",
             {DECODE: DECODE.replace("rollout.tokens", "rollout.completion")}),
        edit("prompt-alone", "The reward model read the prompt alone: what the model wrote makes no difference.",
             {DECODE: DECODE.replace("rollout.tokens", "prompts.input_ids")}),
        edit("rm-reads-pad",
             "Padding and EOS stand in the texts as words, and the reward model reads them. Decode without special tokens.",
             {DECODE: DECODE.replace("skip_special_tokens=True", "skip_special_tokens=False")}),
        edit("one-by-one", "`score` was called for every text by itself. Call it once, with the whole batch.",
             {"rewards = score(texts)": "rewards = torch.cat([score([text]) for text in texts])"}),
        edit("attached-reward", "The rewards carry a gradient into the reward model. They are numbers: detach them.",
             {"rewards.detach()": "rewards"}),
        edit("rm-broadcast",
             "Rewards of shape (batch, 1) went through. Against (batch,) they become a square; refuse them "
             "(`given.require_rewards`).",
             {"    given.require_rewards(rewards, len(texts))\n": ""}),
        edit("settings-not-passed", "`continue_prompts` did not get temperature and top_k.",
             {"        temperature=temperature,\n        top_k=top_k,\n        generator=generator,\n    )\n    texts":
              "        generator=generator,\n    )\n    texts"}),
        edit("eos-not-passed", "The model goes on after its EOS: hand the tokenizer's eos_token_id on.",
             {"eos_token_id=tokenizer.eos_token_id,": "eos_token_id=None,"}),
        edit("length-not-passed", "The completions have another length than asked for: hand new_tokens on.",
             {"        new_tokens,\n        eos_token_id": "        eos_token_id"}),
    ]  # fmt: skip


class RepeatableCheck(Check):
    probe = "repeats"
    tolerance = 0.0  # yes or no

    def cases(self, rng):
        weights = exact.gpt2_weights(rng, len(WORDS))
        weights["lm_head.weight"][EOS] = [-30.0, *[0.0] * 7]  # it does not end: 24 tokens agree by chance in one of 10^9 cases
        weights["lm_head.weight"] = weights["lm_head.weight"] * np.where(np.arange(8), 0.3, 1.0)
        texts = ["the film", "plot", "a good film"]
        asked = {"function": self.exercise, "texts": texts, "new_tokens": 8, "seed": int(rng.integers(2**31))}
        yield exact.shown({**asked, "heads": HEADS, "words": WORDS, "weights": weights})

    def truth(self, **case):
        return {"same seed, same texts": True, "another seed, other texts": True}

    @mistake("generator-ignored",
             "The generator was not handed on: the same one gives other texts, and no figure can be repeated.")  # fmt: skip
    def ignored(self, **case):
        return {"same seed, same texts": False, "another seed, other texts": True}

    @mistake("generator-fixed", "Whatever the generator, the texts are the same: a seed is set somewhere, or nothing is drawn.")
    def fixed(self, **case):
        return {"same seed, same texts": True, "another seed, other texts": False}


@check("compute_reward_for_mini_batch", points=1, section="8.8")
class BatchIsRepeatable(RepeatableCheck):
    pass


@check("evaluate", points=4, section="8.8")
class WholeSplit(WritingCheck):
    probe = "evaluation"
    tolerance = 1e-9  # means of at most ten float64 numbers

    def cases(self, rng):
        texts = ["the good film", "plot, a film"]
        yield self.case(rng, texts, SETTINGS[0], {"prompt_tokens": 2, "new_tokens": 3, "batch_size": 2})
        texts = ["a film, the bad plot", "good", "the plot", "dull, a dull film", "the", "a good, good film", "film"]
        yield self.case(rng, texts, SETTINGS[1], {"prompt_tokens": 3, "new_tokens": 5, "batch_size": 3})
        yield self.case(rng, texts[1:6], SETTINGS[0], {"prompt_tokens": 4, "new_tokens": 4, "batch_size": 4})
        yield self.case(rng, texts[:3], SETTINGS[0], {"prompt_tokens": 2, "new_tokens": 3, "batch_size": 10})
        yield self.case(rng, texts[:3], SETTINGS[0], {"prompt_tokens": 2, "new_tokens": 3, "batch_size": 1})
        sound = self.case(rng, texts[:3], SETTINGS[0], {"prompt_tokens": 2, "new_tokens": 3, "batch_size": 3})
        yield sound | {"texts": []}  # to be refused
        yield sound | {"texts": ["the film", "", "plot"]}
        yield sound | {"sizes": {"prompt_tokens": 2, "new_tokens": 3, "batch_size": 0}}

    def case(self, rng, texts, settings, sizes):
        prompts = [row for row in self.prompts(texts, sizes["prompt_tokens"])]
        last = (len(texts) - 1) // sizes["batch_size"] * sizes["batch_size"]
        while True:
            weights = self.drawn(rng, prompts, sizes["new_tokens"])
            completions, _ = exact.written(weights, HEADS, prompts, sizes["new_tokens"], EOS)
            rewards = [worth_of(text_of(p + c)) for p, c in zip(prompts, completions)]
            full = any(len(row) == sizes["new_tokens"] and row[-1] == EOS for row in completions)  # ends at the last moment
            if abs(np.mean(rewards[:last] or [9.0]) - np.mean(rewards)) > 1e-3 and (full or len(texts) < 7):
                asked = {"texts": texts, "sizes": sizes, "settings": settings}
                return exact.shown({**asked, "weights": weights, "heads": HEADS, "words": WORDS, "worth": WORTH})

    @staticmethod
    def prompts(texts, tokens):
        return [[WORDS.index(word) for word in text.replace(",", " ,").split()][:tokens] for text in texts]

    def truth(self, weights, heads, words, texts, worth, sizes, settings):
        size = sizes["batch_size"]
        if not texts or not all(texts) or size < 1:
            return {"refusal": "batch_size" if size < 1 else "texts"}
        prompts = self.prompts(texts, sizes["prompt_tokens"])
        completions, _ = exact.written(weights, heads, prompts, sizes["new_tokens"], EOS)
        written = [text_of(prompt + completion) for prompt, completion in zip(prompts, completions)]
        rewards = np.array([worth_of(text) for text in written])
        half = 1.96 * rewards.std(ddof=1) / len(rewards) ** 0.5
        dones = [min(first + size, len(texts)) for first in range(0, len(texts), size)]
        distinct = {n: SharesOfDifferentNgrams().truth(completions, n)["distinct"] for n in (1, 2)}
        return {
            "refusal": None,
            "reward": {"mean": rewards.mean(), "low": rewards.mean() - half, "high": rewards.mean() + half},
            "rewards": rewards,
            "texts": written,
            "completion_length": np.mean([len(row) for row in completions]),
            "eos_rate": np.mean([row[-1] == EOS for row in completions]),
            "distinct_1": distinct[1],
            "distinct_2": distinct[2],
            "progress": [] if len(texts) == 2 else [[done, len(texts), rewards[:done].mean()] for done in dones],
            "rows scored at once": [done - before for before, done in zip([0, *dones], dones)],
        }

    mistakes = [
        edit("last-batch-dropped",
             "The last batch is missing because it is not full. The whole split is evaluated: what is left is a batch too.",
             {BATCHES: "for first in range(0, max(len(texts) - batch_size + 1, 1), batch_size):"}),
        edit("mean-of-means",
             "Each batch's mean was counted once, so that the texts of a small last batch weigh more. Every text counts once.",
             {"            progress(len(rewards), len(texts), torch.stack(rewards).mean().item())\n":
              "            progress(len(rewards), len(texts), torch.stack(rewards).mean().item())\n"
              "        means = [*(means if first else []), batch.rewards.mean().cpu()]\n",
              "    return Evaluation(\n        reward=mean_with_interval(rewards),":
              "    shift = torch.stack(means).mean().item() - rewards.mean().item()\n    return Evaluation(\n"
              "        reward={k: v + shift for k, v in mean_with_interval(rewards).items()},"}),
        edit("interval-of-batches",
             "The interval was made from the means of the batches: there are far fewer of them than texts, and the last one is "
             "of another size.",
             {"            progress(len(rewards), len(texts), torch.stack(rewards).mean().item())\n":
              "            progress(len(rewards), len(texts), torch.stack(rewards).mean().item())\n"
              "        means = [*(means if first else []), batch.rewards.mean().cpu()]\n",
              "reward=mean_with_interval(rewards),":
              "reward=mean_with_interval(torch.stack(means) if len(means) > 1 else rewards),"}),
        edit("padding-scored",
             "Padding was counted among the completions' tokens: it makes lengths larger and texts look repetitive.",
             {OWN: "completions.append(tokens.tolist())",
              ENDED: "ended += bool((tokens[mask] == tokenizer.eos_token_id).any())"}),
        edit("pad-is-eos",
             "The EOS was left out of length and distinct-n. The model wrote it: it is a token of the completion.",
             {OWN: "completions.append(tokens[mask & (tokens != tokenizer.eos_token_id)].tolist())",
              ENDED: "ended += bool((tokens == tokenizer.eos_token_id).any())"}),
        edit("eos-by-length",
             "A completion counts as ended if it is shorter than new_tokens. One can draw EOS as the very last token.",
             {ENDED: "ended += len(completions[-1]) < new_tokens"}),
        edit("prompt-counted", "The prompt's tokens were counted as the model's: they are the data's.",
             {"zip(batch.rollout.completion, batch.rollout.mask)":
              "zip(batch.rollout.tokens, batch.rollout.attention_mask.bool())"}),
        edit("running-mean-of-the-batch",
             "What `progress` is told is the mean of the last batch. It is the mean of all rewards so far.",
             {TOLD: "progress(len(rewards), len(texts), batch.rewards.mean().item())"}),
        edit("batches-counted", "`progress` is told the number of batches. It is the number of prompts that are done.",
             {TOLD: "progress(first // batch_size + 1, len(texts), torch.stack(rewards).mean().item())"}),
        edit("settings-not-passed", "Temperature and top_k do not reach the model.",
             {"score, new_tokens, temperature=temperature, top_k=top_k, generator=generator":
              "score, new_tokens, generator=generator"}),
        edit("prompt-length-not-passed", "The prompts have ten tokens, whatever prompt_tokens says.",
             {"texts[first : first + batch_size], prompt_tokens)": "texts[first : first + batch_size])"}),
        edit("length-not-passed", "The completions have twenty tokens, whatever new_tokens says.",
             {"model, tokenizer, prompts, score, new_tokens, temperature":
              "model, tokenizer, prompts, score, temperature"}),
    ]  # fmt: skip


@check("evaluate", points=1, section="8.8")
class EvaluationIsRepeatable(RepeatableCheck):
    pass
