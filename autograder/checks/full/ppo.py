"""Lesson 14: what is true of hidden states, scoring, rewards at their tokens, advantages on masks, the losses and the trainer.

Pure functions are held to NumPy, token by token, derivatives by hand; models and the trainer to the reference in float64.
"""

import math

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.refusals import Refuses

NAN = np.nan


def rollouts(rng, batch, prompt, time, vocabulary=7, words=2):
    """Tokens and attention mask: prompts of different lengths padded left, completions of different lengths padded right.

    The first row is full, the last one has a single token of completion. Tokens from `words` on; 0 fills up, 1 is EOS: every
    second row that is not full ends with one.
    """
    tokens = rng.integers(words, vocabulary, size=(batch, prompt + time))
    attention = np.ones_like(tokens)
    for b in range(1, batch):
        left, real = int(rng.integers(0, prompt)), 1 if b == batch - 1 else int(rng.integers(1, time))
        attention[b, :left], attention[b, prompt + real :] = 0, 0
        if b % 2:
            tokens[b, prompt + real - 1] = 1
    tokens[attention == 0] = 0
    return {"tokens": tokens, "attention_mask": attention, "prompt_length": prompt}


def ragged(rng, batch, time):
    """A mask of rows of different lengths: the first full, the last one empty where there are three or more."""
    lengths = np.concatenate([[time], rng.integers(1, time + 1, size=batch - 1)])
    if batch > 2:
        lengths[-1] = 0
    return np.arange(time) < lengths[:, None]


def supports(rng, tokens, vocabulary=7, room=4):
    """For each token some that could have come in its place, itself among them; -1 fills up."""
    found = np.full((*tokens.shape, room), -1)
    for at in np.ndindex(tokens.shape):
        count = int(rng.integers(1, room + 1))
        others = rng.permutation([t for t in range(vocabulary) if t != tokens[at]])[: count - 1]
        found[(*at, slice(count))] = rng.permutation([tokens[at], *others])
    return found


def log_softmax(x):
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum())


class Hidden(Check):
    """Not a check by itself: hidden states of a small model, gradients too."""

    probe = "hidden"
    tolerance = 1e-8  # float64, one layer; attention sums masked columns in another order
    kind = ""

    def cases(self, rng):
        for batch, prompt, time in ((1, 2, 1), (3, 4, 3), (4, 3, 5)):
            direction, seed = rng.normal(size=(batch, time + 1, 8)), int(rng.integers(1000))
            yield {"kind": self.kind, "seed": seed, **rollouts(rng, batch, prompt, time), "direction": direction}


@check("GPT2Policy.hidden", points=2, section="14.2")
class DecoderHidden(Hidden):
    kind = "gpt2"

    mistakes = [
        edit("no-position-ids", "The model is not told the positions (or is told the columns' numbers). It counts the padding "
             "on the left as words, and every prompt that is shorter than the longest one stands at other places than it would "
             "alone: `position_ids`.",
             {"            position_ids=position_ids(rollout.attention_mask),\n": ""}),
        edit("unshifted-log-probs", "Your columns begin one too late: column 0 is the state at the prompt's *last* token, "
             "which is the one before the completion's first.",
             {"last_hidden_state[:, rollout.prompt_length - 1 :]": "last_hidden_state[:, rollout.prompt_length :]"}),
        edit("dropped-token", "The last column is missing. The state behind the last token is asked for too: what a cut-off "
             "completion would still have brought is read there.",
             {"last_hidden_state[:, rollout.prompt_length - 1 :]": "last_hidden_state[:, rollout.prompt_length - 1 : -1]"}),
        edit("cut-graph", "No gradient reaches the model: what is trained is the network below these states.",
             {"        return out.last_hidden_state[:, rollout.prompt_length - 1 :]":
              "        return out.last_hidden_state[:, rollout.prompt_length - 1 :].detach().requires_grad_(True) + 0 * "
              "self.model.get_input_embeddings().weight.sum()"}),
    ]  # fmt: skip


@check("T5Policy.hidden", points=2, section="14.2")
class DecoderOfEncoded(Hidden):
    kind = "t5"

    mistakes = [
        edit("no-start-token", "The decoder reads the completion from its first token on, so its state there has already seen "
             "the token that it is to predict. It begins with the start token, one place earlier.",
             {"input_ids=torch.cat([start, rollout.completion], dim=1),":
              "input_ids=torch.cat([rollout.completion, start], dim=1),"}),
        edit("wrong-start-token", "The decoder begins with another token than `config.decoder_start_token_id`, which is what "
             "it was trained to begin with (T5's happens to be its pad token; a model may have another).",
             {"self.model.config.decoder_start_token_id": "self.model.config.pad_token_id"}),
        edit("encoder-reads-completion", "The encoder reads the whole row, the completion included: then the answer is in the "
             "question. It reads the prompt's columns.",
             {"input_ids=rollout.tokens[:, :n], attention_mask=read": "input_ids=rollout.tokens, "
              "attention_mask=rollout.attention_mask", "encoder_attention_mask=read,":
              "encoder_attention_mask=rollout.attention_mask,"}),
        edit("padding-read", "The encoder reads the padding of the prompts: it is not told their attention mask.",
             {"input_ids=rollout.tokens[:, :n], attention_mask=read": "input_ids=rollout.tokens[:, :n]"}),
        edit("padding-attended", "The decoder attends to what the encoder made of padding: `encoder_attention_mask` is missing.",
             {"            encoder_attention_mask=read,\n": ""}),
        edit("dropped-token", "The state behind the last token is missing: the decoder reads the whole completion behind the "
             "start token, time + 1 tokens.",
             {"torch.cat([start, rollout.completion], dim=1)": "torch.cat([start, rollout.completion[:, :-1]], dim=1)"}),
        edit("encoder-frozen", "The values are right, but no gradient reaches the encoder: it belongs to the policy.",
             {"attention_mask=read).last_hidden_state\n": "attention_mask=read).last_hidden_state.detach()\n"}),
    ]  # fmt: skip


@check("sampled_log_probs", points=2.5, section="14.3")
class WithinTheSupport(Check):
    probe = "log_probs"
    tolerance = 1e-9  # float64 sums of at most seven terms

    def cases(self, rng):
        yield {"logits": np.array([[1.0, 2.0, 0.0]]), "tokens": np.array([1]), "temperature": 1.0, "support": None,
               "direction": np.array([1.0])}  # fmt: skip
        yield {"logits": np.array([[1.0, 2.0, 0.0]]), "tokens": np.array([1]), "temperature": 0.5,
               "support": np.array([[0, 1, -1]]), "direction": np.array([1.0])}  # fmt: skip
        for rows, temperature, kept in ((4, 0.7, False), (5, 0.7, True), (6, 2.0, True)):
            tokens = rng.integers(0, 7, size=rows)
            yield {"logits": 2 * rng.normal(size=(rows, 7)), "tokens": tokens, "temperature": temperature,
                   "support": supports(rng, tokens) if kept else None, "direction": rng.normal(size=rows)}  # fmt: skip
        far = np.array([[200.0, -200.0, 0.0, 1.0], [-900.0, 0.0, 900.0, 5.0]])
        yield {"logits": far, "tokens": np.array([1, 0]), "temperature": 0.5, "support": np.array([[0, 1], [2, 0]]),
               "direction": np.array([1.0, -2.0])}  # fmt: skip

    def truth(self, logits, tokens, temperature, support, direction):
        values, gradients = np.zeros(len(tokens)), np.zeros(logits.shape)
        for b, token in enumerate(tokens):
            ids = list(range(logits.shape[1])) if support is None else [int(t) for t in support[b] if t >= 0]
            row = log_softmax(logits[b, ids] / temperature)
            values[b] = row[ids.index(token)]
            gradients[b, ids] = -direction[b] * np.exp(row) / temperature
            gradients[b, token] += direction[b] / temperature
        told = {"log_probs": values, "gradient of the logits": gradients}
        return {**told, "dtype": "torch.float64", "arguments changed": "none"}

    mistakes = [
        edit("sampler-is-not-scorer", "The temperature is left out: it divided the logits when the tokens were drawn, so it "
             "does when they are scored.", {"support.clamp(min=0)) / temperature": "support.clamp(min=0))",
                                       "squeeze(1) / temperature": "squeeze(1)",
                                       "chosen_log_probs(warped(logits, temperature), tokens)":
                                       "chosen_log_probs(logits, tokens)"}),
        edit("support-ignored", "Every token of the vocabulary counts in the sum. With top-k only those in the support could "
             "be drawn, and the probabilities of those sum to 1.", {"    if support is None:\n        return chosen": "    if "
             "True:\n        return chosen"}),
        edit("topk-batch", "The support of the first row is used for all rows: each has its own.",
             {"kept = logits.gather(1, support.clamp(min=0)) / temperature": "kept = logits.gather(1, "
              "support[:1].expand_as(support).clamp(min=0)) / temperature", "kept.masked_fill(support < 0, -torch.inf)":
              "kept.masked_fill(support[:1] < 0, -torch.inf)"}),
        edit("support-anew", "You take the k largest of these logits. They are those of the present policy; which tokens could "
             "be drawn was settled when they were, and a token that has since left the first k would get -inf.",
             {"kept = logits.gather(1, support.clamp(min=0)) / temperature": "kept = logits.topk(support.shape[1]).values / "
              "temperature"}),
        edit("filler-counted", "The -1 that fill up a row count as a token.",
             {"    kept = kept.masked_fill(support < 0, -torch.inf)\n": ""}),
        edit("log-of-softmax", "Probabilities first, their logarithm afterwards: far from the largest logit they are 0 and the "
             "logarithm -inf. Subtract a logsumexp from the logit.",
             {"return chosen - kept.logsumexp(dim=1)": "return (chosen.exp() / kept.exp().sum(dim=1)).log()"}),
        edit("temperature-multiplies", "The temperature multiplies the logits; it divides them: below 1 the likely become "
             "likelier.", {"support.clamp(min=0)) / temperature": "support.clamp(min=0)) * temperature",
                           "squeeze(1) / temperature": "squeeze(1) * temperature",
                           "chosen_log_probs(warped(logits, temperature), tokens)":
                           "chosen_log_probs(logits * temperature, tokens)"}),
        edit("cut-graph", "The normaliser carries no gradient: then raising a logit never lowers another token's probability.",
             {"return chosen - kept.logsumexp(dim=1)": "return chosen - kept.logsumexp(dim=1).detach()"}),
    ]  # fmt: skip


@check("sampled_log_probs", points=0.5, section="14.3")
class WithinTheSupportRefuses(Refuses):
    def cases(self, rng):
        good = {"logits": rng.normal(size=(2, 4)), "tokens": np.array([1, 3]), "temperature": 0.7,
                "support": np.array([[1, 2], [3, -1]])}  # fmt: skip
        for argument, bad in (("temperature", 0.0), ("temperature", -1.0), ("support", np.array([[0, 2], [3, -1]])),
                              ("tokens", np.array([1])), ("support", np.array([[1, 2]]))):  # fmt: skip
            yield {"function": "sampled_log_probs", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("outside-the-support", "A token that could not have been drawn went through: its probability is 0, and something "
             "before this is wrong.", {"    if outside.any():": "    if False:"}),
        edit("any-temperature", "A temperature of 0 or below went through.",
             {'    given.require_positive("temperature", temperature)\n': ""}),
    ]  # fmt: skip


@check("score", points=2.5, section="14.4")
class Scoring(Check):
    """With a value model of its own, on a shared trunk, and without one; counted: logits made, passes taken."""

    probe = "scored"
    tolerance = 1e-9  # float64 sums of a few dozen terms

    def cases(self, rng):
        for (batch, prompt, time), own, kept in (((1, 1, 2), None, False), ((3, 2, 3), False, False), ((4, 3, 4), True, True),
                                                 ((3, 2, 4), False, True)):  # fmt: skip
            case = rollouts(rng, batch, prompt, time)
            critic = None if own is None else {"value": rng.normal(size=5)}
            if own:
                critic |= tables(rng)
            yield {"policy": tables(rng), "value": critic, **case,
                   "support": supports(rng, case["tokens"][:, prompt:]) if kept else None, "temperature": 0.7,
                   "direction": rng.normal(size=(batch, time))}  # fmt: skip

    mistakes = [
        edit("unshifted-log-probs", "The states behind the tokens are scored in place of those before them: column t of "
             "`hidden` is before token t, and the last column is before nothing.", {"hidden[:, :-1][mask]": "hidden[:, "
             "1:][mask]"}),
        edit("logits-of-padding", "The log-probabilities are right, but logits were made for padding too. The head is the "
             "dearest layer: select the real tokens' states first.",
             {"logits = policy.logits(hidden[:, :-1][mask])": "logits = policy.logits(hidden)[:, :-1][mask]"}),
        edit("trunk-twice", "The numbers are right, but a shared trunk ran twice: the value is read from the states that the "
             "policy has already computed.",
             {"value.of(hidden) if value.trunk is policy else value(rollout)": "value(rollout)"}),
        edit("not-its-own-trunk", "A value model with a network of its own must be asked itself: you read its head on the "
             "policy's states.", {"value.of(hidden) if value.trunk is policy else value(rollout)": "value.of(hidden)"}),
        edit("support-ignored", "The support does not reach the scorer: with top-k the tokens were drawn among a few.",
             {"kept = None if support is None else support[mask]": "kept = None"}),
        edit("sampler-is-not-scorer", "The temperature does not reach the scorer.",
             {"rollout.completion[mask], temperature, kept": "rollout.completion[mask], 1.0, kept"}),
        edit("cut-graph", "The values carry no gradient into the shared trunk. `shared` means that both losses shape it.",
             {"value.of(hidden) if value.trunk is policy": "value.of(hidden.detach()) if value.trunk is policy"}),
    ]  # fmt: skip


def tables(rng, vocabulary=7, width=5):
    return {"words": rng.normal(size=(vocabulary, width)), "head": rng.normal(size=(vocabulary, width))}


@check("spread", points=2, section="14.5")
class AtItsToken(Check):
    probe = "placed"
    tolerance = 1e-12  # sums of at most four numbers

    def cases(self, rng):
        yield {"values": [2.0], "ends": np.array([[3, 5, 5]]), "mask": np.array([[True, True, False]])}
        yield {"values": [[[3, 1.0], [4, 0.5]]], "ends": np.array([[3, 5, 5]]), "mask": np.array([[True, True, False]])}
        for batch, time in ((3, 4), (5, 7)):
            mask = ragged(rng, batch, time)
            ends = np.cumsum(rng.integers(0, 4, size=(batch, time)) * mask, axis=1)
            values = []
            for b in range(batch):
                if b % 2:
                    values.append(round(float(rng.normal()), 3))
                else:
                    places = np.sort(rng.integers(0, int(ends[b, -1]) + 3, size=4))
                    values.append([[int(p), round(float(rng.normal()), 3)] for p in places])
            yield {"values": values, "ends": ends, "mask": mask}
        yield {"values": [[], 1.0], "ends": np.array([[1, 2], [0, 0]]), "mask": np.array([[True, True], [False, False]])}

    def truth(self, values, ends, mask):
        rewards = np.zeros(mask.shape)
        for b, entry in enumerate(values):
            n = int(mask[b].sum())
            for end, number in [[math.inf, entry]] if isinstance(entry, float) else entry:
                if n:
                    rewards[b, min(int((ends[b, :n] < end).sum()), n - 1)] += number
        return {"rewards": rewards}

    mistakes = [
        edit("reward-on-padding", "The whole answer's number stands in the last column. For a row that ended early that is "
             "padding, and nobody is paid: it belongs to the last *real* token.",
             {"at = next((t for t in real if ends[b, t] >= end), real[-1])":
              "at = next((t for t in real if ends[b, t] >= end), mask.shape[1] - 1)"}),
        edit("one-token-late", "A span whose end is the token's end is paid one token later. The token that *reaches* the end "
             "earns it: ends >= characters.", {"if ends[b, t] >= end": "if ends[b, t] > end"}),
        edit("last-one-wins", "Where two values meet at one token the later one replaces the earlier. They add up.",
             {"rewards[b, at] += number": "rewards[b, at] = number"}),
        edit("all-at-the-end", "Every value stands at the last token. Then nothing is gained by knowing which sentence was "
             "good: each span's value belongs where the span ends.",
             {"at = next((t for t in real if ends[b, t] >= end), real[-1])": "at = real[-1]"}),
        edit("spread-evenly", "The whole answer's number is divided among all tokens. It is paid once, at the last one; which "
             "tokens earned it is for the advantages to find out.",
             {"            rewards[b, at] += number\n": "            if end == math.inf:\n                rewards[b, real] += "
              "number / len(real)\n            else:\n                rewards[b, at] += number\n"}),
        edit("at-the-start", "A value is paid at the first token, before anything was written.",
             {"at = next((t for t in real if ends[b, t] >= end), real[-1])": "at = real[0]"}),
    ]  # fmt: skip


@check("spread", points=0.5, section="14.5")
class AtItsTokenRefuses(Refuses):
    def cases(self, rng):
        good = {"values": [1.0, [[2, 0.5]]], "ends": np.array([[1, 2], [1, 3]]), "mask": np.array([[True, True], [True, False]])}
        for bad in ([1.0], [1.0, [[-1, 0.5]]], [NAN, [[2, 0.5]]], [1.0, [[2, math.inf]]], [1.0, 2.0, 3.0]):
            yield {"function": "spread", "good": good, "argument": "values", "bad": bad}

    mistakes = [
        edit("rows-do-not-fit", "Values for another number of rows went through.", {"    if len(values) != len(mask):": "    "
             "if False:"}),
        edit("not-a-number", "A reward that is NaN or infinite went through: the weights will be NaN a moment later.",
             {"if end < 0 or not math.isfinite(number):": "if end < 0:"}),
    ]  # fmt: skip


@check("FineGrainedReward", points=2, section="14.5")
class SeveralRewards(Check):
    probe = "fine_grained"
    tolerance = 1e-12  # sums of a few numbers

    def cases(self, rng):
        for batch, names in ((1, ("quality",)), (3, ("complete", "relevant")), (4, ("complete", "relevant", "factual"))):
            case = rollouts(rng, batch, 2, 4)
            answers = {}
            for k, name in enumerate(names):
                whole = [round(float(x), 3) for x in rng.normal(size=batch)]
                spans = [[[2, whole[b]], [5, round(float(rng.normal()), 3)]] for b in range(batch)]
                answers[name] = whole if k == 0 else spans
            weights = {name: round(float(w), 3) for name, w in zip(names, rng.uniform(0.2, 2, size=len(names)))}
            yield {**case, "texts": [f"question {b}" for b in range(batch)], "answers": answers, "weights": weights}

    mistakes = [
        edit("unweighted", "The rewards are added up without their weights.",
             {"total += self.weights[name] * placed": "total += placed"}),
        edit("scores-weighted", "The scores that are reported are weighted. They are there to be read apart, in their own "
             "units: unweighted.", {"scores[name] = placed.sum(dim=1)": "scores[name] = (self.weights[name] * "
             "placed).sum(dim=1)"}),
        edit("last-reward-only", "Only the last reward is paid: the total is replaced, not added to.",
             {"total += self.weights[name] * placed": "total = self.weights[name] * placed"}),
        edit("mean-of-spans", "The score of a row is the mean over its columns; it is the sum of its values.",
             {"scores[name] = placed.sum(dim=1)": "scores[name] = placed.mean(dim=1)"}),
        edit("told-the-answers-twice", "The reward is asked about the completions as if they were the prompts.",
             {"reward(prompts.texts, texts)": "reward(texts, texts)"}),
    ]  # fmt: skip


@check("FineGrainedReward", points=0.5, section="14.5")
class SeveralRewardsRefuse(Refuses):
    probe = "refuses_names"

    def cases(self, rng):
        for rewards, weights in ((["a", "b"], {"a": 1.0}), (["a"], {"a": 1.0, "b": 0.5}), (["a"], {"b": 1.0}), ([], {}),
                                 (["a"], {"a": NAN})):  # fmt: skip
            yield {"argument": "weights", "rewards": rewards, "weights": weights}

    mistakes = [
        edit("names-differ", "Rewards and weights of different names went through.",
             {"if not rewards or set(rewards) != set(weights):": "if not rewards:"}),
        edit("no-reward", "No reward at all went through: there would be nothing but the KL to learn from.",
             {"if not rewards or set(rewards) != set(weights):": "if set(rewards) != set(weights):"}),
    ]  # fmt: skip


@check("has_ended", points=1, section="14.6")
class Ended(Check):
    probe = "ends_with"

    def cases(self, rng):
        yield {"completion": np.array([[2, 1, 0], [2, 3, 4]]), "mask": np.array([[1, 1, 0], [1, 1, 1]], bool), "eos_token_id": 1}
        same = np.array([[2, 3, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1], [2, 3, 4, 1], [2, 3, 4, 5]])
        masks = np.arange(4) < np.array([2, 2, 1, 4, 4])[:, None]  # EOS fills up: the first row was cut off
        yield {"completion": same, "mask": masks, "eos_token_id": 1}
        yield {"completion": same, "mask": masks, "eos_token_id": 0}
        yield {"completion": same, "mask": masks, "eos_token_id": None}
        yield {"completion": same[:, :1], "mask": masks[:, :1], "eos_token_id": None}

    def truth(self, completion, mask, eos_token_id):
        if eos_token_id is None:
            return {"ended": np.ones(len(mask), bool)}
        return {"ended": np.array([eos_token_id in row[real] for row, real in zip(completion, mask)])}

    mistakes = [
        edit("pad-is-eos", "What fills up a row counts as its EOS. The pad token may have EOS's id: look at real tokens alone.",
             {"((completion == eos_token_id) & mask).any(dim=1)": "(completion == eos_token_id).any(dim=1)"}),
        edit("last-column", "You look at the last column. A row that ended early has padding there.",
             {"((completion == eos_token_id) & mask).any(dim=1)": "((completion == eos_token_id) & mask)[:, -1]"}),
        edit("no-eos-token", "Where the tokenizer has no EOS every text ends by its length: all True.",
             {"return torch.ones_like(mask[:, 0])": "return torch.zeros_like(mask[:, 0])"}),
        edit("any-padding", "You ask whether a row has padding. A row of full length may end with EOS in its last column.",
             {"((completion == eos_token_id) & mask).any(dim=1)": "~mask.all(dim=1)"}),
    ]  # fmt: skip


PAID = "paid = rewards - kl_coef * (log_probs - ref_log_probs) - eos_penalty * (last & ~ended.unsqueeze(1))"


@check("kl_penalise_reward", points=2.5, section="14.6")
class PricesOfTokens(Check):
    probe = "penalised"
    tolerance = 1e-12  # three float64 operations

    def cases(self, rng):
        for batch, time, junk in ((1, 2, 0.0), (3, 4, 5.0), (5, 6, NAN)):
            mask = ragged(rng, batch, time)
            yield {"rewards": rng.normal(size=mask.shape), "log_probs": -rng.exponential(size=mask.shape),
                   "ref_log_probs": -rng.exponential(size=mask.shape), "mask": mask, "ended": np.arange(batch) % 2 == 1,
                   "kl_coef": 0.3, "eos_penalty": 1.5, "junk": junk}  # fmt: skip

    def truth(self, rewards, log_probs, ref_log_probs, mask, ended, kl_coef, eos_penalty, junk):
        paid = np.zeros(mask.shape)
        for b, t in np.argwhere(mask):
            last = t == mask[b].sum() - 1
            paid[b, t] = rewards[b, t] - kl_coef * (log_probs[b, t] - ref_log_probs[b, t]) - eos_penalty * (last and not ended[b])
        return {"rewards": paid, "dtype": "torch.float64", "carries a gradient": False, "arguments changed": "none"}

    mistakes = [
        edit("k1-sign", "The price has the wrong sign: it pays the policy to leave the reference. Subtract log pi - log pi_ref.",
             {PAID: PAID.replace("(log_probs - ref_log_probs)", "(ref_log_probs - log_probs)")}),
        edit("attached-reward", "The rewards carry a gradient. They are numbers that the policy is paid: `detach`.",
             {"return torch.where(mask, paid, 0.0).detach()": "return torch.where(mask, paid, 0.0)"}),
        edit("padding-scored", "What stands off the mask is paid too.",
             {"return torch.where(mask, paid, 0.0).detach()": "return paid.detach()"}),
        edit("mask-times-nan", "What stands off the mask is multiplied by 0, and 0 * NaN is NaN. Choose with torch.where.",
             {"return torch.where(mask, paid, 0.0).detach()": "return (paid * mask).detach()"}),
        edit("penalty-for-ending", "Completions that did end are charged, and the others are not.",
             {PAID: PAID.replace("~ended", "ended")}),
        edit("penalty-on-padding", "The penalty stands in the last column. Off the mask it is lost; it belongs to the last "
             "real token.", {"last = position == mask.sum(dim=1, keepdim=True) - 1": "last = position == mask.shape[1] - 1 + 0 "
             "* mask.sum(dim=1, keepdim=True)"}),
        edit("penalty-everywhere", "Every token of a cut-off row is charged: the price then grows with the length.",
             {PAID: PAID.replace("(last & ~ended.unsqueeze(1))", "(~ended.unsqueeze(1))")}),
        edit("kl-at-the-end", "The whole KL is charged at the last token. Each token has its own price, so that the advantages "
             "see which of them cost it.", {PAID: "kl = torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1, "
             "keepdim=True)\n    paid = rewards - kl_coef * kl * last - eos_penalty * (last & ~ended.unsqueeze(1))"}),
        edit("abs-kl", "The price is of the log-ratio's size. Tokens that became less likely than under the reference earn it "
             "back: only then is the expectation a KL.", {PAID: PAID.replace("(log_probs - ref_log_probs)", "(log_probs - "
             "ref_log_probs).abs()")}),
    ]  # fmt: skip


@check("kl_penalise_reward", points=0.5, section="14.6")
class PricesOfTokensRefuse(Refuses):
    def cases(self, rng):
        mask = np.array([[True, True, False], [True, False, False]])
        table = {name: -rng.exponential(size=(2, 3)) for name in ("rewards", "log_probs", "ref_log_probs")}
        good = {**table, "mask": mask, "ended": np.array([True, False]), "kl_coef": 0.1, "eos_penalty": 1.0}
        for argument, bad in (("kl_coef", -0.1), ("eos_penalty", -1.0), ("mask", np.zeros((2, 3), bool)),
                              ("ref_log_probs", np.zeros((2, 2))), ("ended", np.array([True]))):  # fmt: skip
            yield {"function": "kl_penalise_reward", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-price", "A negative price went through: it would pay for leaving the reference.",
             {'    given.require_not_negative("kl_coef", kl_coef)\n': ""}),
        edit("any-penalty", "A negative penalty went through: it would pay for never ending.",
             {'    given.require_not_negative("eos_penalty", eos_penalty)\n': ""}),
    ]  # fmt: skip


GAE = "return gae(rewards, values[:, :-1], mask, gamma, lam, bootstrap=torch.where(cut, behind, 0.0))"


@check("compute_advantages", points=3, section="14.7")
class OnMasks(Check):
    probe = "advantages"
    tolerance = 1e-10  # float64 sums of at most six terms

    def cases(self, rng):
        yield {"rewards": np.array([[0.0, 1.0]]), "values": np.array([[0.5, 0.25, 2.0]]), "mask": np.array([[True, True]]),
               "cut": np.array([True]), "gamma": 1.0, "lam": 1.0, "junk": 0.0}  # fmt: skip
        for batch, time, gamma, lam in ((3, 4, 1.0, 0.95), (5, 6, 0.9, 0.5), (4, 3, 0.8, 0.0), (4, 5, 1.0, 1.0)):
            mask = ragged(rng, batch, time)
            yield {"rewards": rng.normal(size=mask.shape), "values": rng.normal(size=(batch, time + 1)), "mask": mask,
                   "cut": np.arange(batch) % 2 == 1, "gamma": gamma, "lam": lam, "junk": 3.0}  # fmt: skip

    def truth(self, rewards, values, mask, cut, gamma, lam, junk):
        found, returns = np.zeros(mask.shape), np.zeros(mask.shape)
        for b, row in enumerate(mask):
            n = int(row.sum())
            expected = np.append(values[b, :n], values[b, n] if cut[b] else 0.0)
            delta = rewards[b, :n] + gamma * expected[1:] - expected[:-1]
            for t in range(n):
                found[b, t] = sum((gamma * lam) ** k * delta[t + k] for k in range(n - t))
                returns[b, t] = found[b, t] + values[b, t]
        return {"advantages": found, "returns": returns, "dtype": "torch.float64", "carries a gradient": False,
                "arguments changed": "none"}  # fmt: skip

    mistakes = [
        edit("no-bootstrap", "A row that was cut off is treated as over. What would have come is expected by the value behind "
             "its last token.", {GAE: GAE.replace(", bootstrap=torch.where(cut, behind, 0.0)", "")}),
        edit("gae-leaks", "The value behind the last token counts in every row. Behind an end nothing is to come: 0 there.",
             {GAE: GAE.replace("torch.where(cut, behind, 0.0)", "behind")}),
        edit("last-column-bootstrap", "You bootstrap from the last column. Behind a row of n real tokens stands column n; the "
             "columns after it are padding.", {"behind = values.gather(1, mask.sum(dim=1, keepdim=True)).squeeze(1)":
                                               "behind = values[:, -1]"}),
        edit("bootstrap-before-the-end", "You bootstrap with the value *before* the last real token; behind it is column n.",
             {"values.gather(1, mask.sum(dim=1, keepdim=True))": "values.gather(1, (mask.sum(dim=1, keepdim=True) - "
              "1).clamp(min=0))"}),
        edit("values-shifted", "The values behind the tokens were taken for those before them: columns 0 to time - 1 are "
             "before.",
             {GAE: GAE.replace("values[:, :-1]", "values[:, 1:]")}),
        edit("returns-are-td-targets", "The returns are one-step targets, r + gamma V. They are advantage + value, so that "
             "with lambda 1 they are the sum of the rewards to come.",
             {GAE: GAE.replace("return ", "found, _ = ") + "\n    now, on = values[:, :-1], torch.cat([mask[:, 1:], "
              "torch.zeros_like(mask[:, :1])], dim=1)\n    after = torch.where(on, values[:, 1:], torch.where(cut, behind, "
              "0.0).unsqueeze(1))\n    return found, ((rewards + gamma * after) * mask).detach()"}),
        edit("ends-and-cuts-swapped", "Rows that ended are bootstrapped and those that were cut off are not.",
             {GAE: GAE.replace("torch.where(cut, behind, 0.0)", "torch.where(cut, 0.0, behind)")}),
    ]  # fmt: skip


@check("compute_advantages", points=0.5, section="14.7")
class OnMasksRefuses(Refuses):
    def cases(self, rng):
        mask = np.array([[True, True, False], [True, True, True]])
        good = {"rewards": rng.normal(size=(2, 3)), "values": rng.normal(size=(2, 4)), "mask": mask,
                "cut": np.array([False, True]), "gamma": 1.0, "lam": 0.9}  # fmt: skip
        for argument, bad in (("values", rng.normal(size=(2, 3))), ("gamma", 1.5), ("lam", -0.1), ("cut", np.array([True])),
                              ("mask", np.zeros((2, 3), bool))):  # fmt: skip
            yield {"function": "compute_advantages", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-values", "Values without a column behind the last token went through.",
             {"if values.ndim != 2 or mask.ndim != 2 or values.shape != (mask.shape[0], mask.shape[1] + 1):": "if False:"}),
        edit("any-cut", "One flag for two rows went through, and would be stretched over both.",
             {'    given.require_per_row("cut", cut, mask)\n': ""}),
    ]  # fmt: skip


SURROGATE = "loss = clipped_surrogate(log_probs, old_log_probs, advantages, mask, clip)"
OWN_LOSS = "rho = (log_probs - old_log_probs.detach()).exp()\n    A = advantages.detach()\n    "


@check("policy_loss", points=2.5, section="14.8")
class PolicyLoss(Check):
    """All four quadrants of (ratio, advantage), gradients by everything, and the figures beside the loss."""

    probe = "loss_of_policy"
    tolerance = 1e-9  # float64 means of at most 30 terms

    def cases(self, rng):
        new, old = np.log([[1.5, 1.5, 0.5, 0.5, 1.1]]) - 2, np.full((1, 5), -2.0)
        yield {"log_probs": new, "old_log_probs": old, "advantages": np.array([[1.0, -1.0, 1.0, -1.0, 2.0]]),
               "mask": np.ones((1, 5), bool), "clip": 0.2}  # fmt: skip
        yield {"log_probs": old.copy(), "old_log_probs": old, "advantages": np.array([[1.0, -2.0, 0.5, 1.0, 3.0]]),
               "mask": np.array([[True, True, True, False, False]]), "clip": 0.2}  # fmt: skip
        for batch, time, clip in ((3, 4, 0.2), (5, 6, 0.1)):
            old = -rng.exponential(size=(batch, time)) - 1
            new, advantages = old + 0.4 * rng.normal(size=old.shape), rng.normal(size=old.shape)
            yield {"log_probs": new, "old_log_probs": old, "advantages": advantages,
                   "mask": ragged(rng, batch, time), "clip": clip}  # fmt: skip

    def truth(self, log_probs, old_log_probs, advantages, mask, clip):
        rho, A, n = np.exp(log_probs - old_log_probs), advantages, mask.sum()
        bounded = np.clip(rho, 1 - clip, 1 + clip)
        followed = np.where(A > 0, rho <= 1 + clip, rho >= 1 - clip)
        real = rho[mask]
        figures = {
            "approx_kl": np.mean(real - 1 - np.log(real)),
            "clip_fraction": np.mean(np.abs(real - 1) > clip),
            "ratio": np.mean(real),
            "ratio_variance": np.var(real),
        }
        zeros = np.zeros(mask.shape)
        return {
            "loss": -(np.minimum(rho * A, bounded * A) * mask).sum() / n,
            "gradients": {"log_probs": -rho * A * followed * mask / n, "old_log_probs": zeros, "advantages": zeros},
            "figures": figures, "figures with a gradient": "none", "arguments changed": "none",
        }  # fmt: skip

    mistakes = [
        edit("clip-max", "The larger of the clipped and the unclipped gain is taken. It is the smaller: a bound from below, "
             "for both signs of the advantage.", {SURROGATE: OWN_LOSS + "loss = -masked_mean(torch.maximum(rho * A, "
             "rho.clamp(1 - clip, 1 + clip) * A), mask)"}),
        edit("always-clipped", "The clipped gain alone is taken. Where the ratio has gone the wrong way the gradient that "
             "would bring it back is then 0.", {SURROGATE: OWN_LOSS + "loss = -masked_mean(rho.clamp(1 - clip, 1 + clip) * A, "
             "mask)"}),
        edit("clip-the-wrong-thing", "The log-ratio is clipped, not the ratio.",
             {SURROGATE: OWN_LOSS + "low = (log_probs - old_log_probs.detach()).clamp(-clip, clip).exp()\n    loss = "
              "-masked_mean(torch.minimum(rho * A, low * A), mask)"}),
        edit("unclipped", "Nothing is clipped: with several epochs the policy runs as far as its advantages carry it.",
             {SURROGATE: OWN_LOSS + "loss = -masked_mean(rho * A, mask)"}),
        edit("ratio-of-itself", "The ratio is that of the policy to itself: 1 whatever happens. The old log-probabilities are "
             "those of the rollout, numbers that do not move.", {SURROGATE: SURROGATE.replace("old_log_probs", "log_probs")}),
        edit("flipped-sign", "The loss has the wrong sign: it is to be made small, and the gain large.",
             {SURROGATE: SURROGATE.replace("clipped_surrogate", "-clipped_surrogate")}),
        edit("padding-scored", "Padding counts in the mean.",
             {SURROGATE: OWN_LOSS + "loss = -(torch.minimum(rho * A, rho.clamp(1 - clip, 1 + clip) * A) * mask).mean()"}),
        edit("attached-reward", "A gradient flows into the advantages or the old log-probabilities. Both are constants.",
             {SURROGATE: "rho = (log_probs - old_log_probs).exp()\n    loss = -masked_mean(torch.minimum(rho * advantages, "
              "rho.clamp(1 - clip, 1 + clip) * advantages), mask)"}),
        edit("std-is-not-variance", "`ratio_variance` is the standard deviation; the variance is asked for, its square.",
             {"masked_mean((ratio - mean) ** 2, mask),": "masked_mean((ratio - mean) ** 2, mask).sqrt(),"}),
        edit("figures-attached", "The figures carry a gradient: the graph of every step would be kept alive with them.",
             {"    with torch.no_grad():\n        ratio = ": "    with torch.enable_grad():\n        ratio = "}),
    ]  # fmt: skip


@check("value_loss", points=1.5, section="14.8")
class ValueLoss(Check):
    probe = "loss_of_value"
    tolerance = 1e-9  # float64 means of at most 30 terms

    def cases(self, rng):
        yield {"values": np.array([[1.0, 2.0, 9.0]]), "old_values": np.array([[0.5, 2.1, 0.0]]),
               "returns": np.array([[2.0, 0.0]]), "mask": np.array([[True, True]]), "clip": 0.2}  # fmt: skip
        for batch, time in ((3, 4), (5, 6)):
            old = rng.normal(size=(batch, time + 1))
            yield {"values": old + 0.5 * rng.normal(size=old.shape), "old_values": old, "returns": rng.normal(size=(batch, time)),
                   "mask": ragged(rng, batch, time), "clip": 0.3}  # fmt: skip

    def truth(self, values, old_values, returns, mask, clip):
        V, old = values[:, :-1], old_values[:, :-1]
        near = old + np.clip(V - old, -clip, clip)
        plain, held = (V - returns) ** 2, (near - returns) ** 2
        slope = np.where(plain >= held, V - returns, np.where(np.abs(V - old) <= clip, near - returns, 0.0))
        by = np.zeros(values.shape)
        by[:, :-1] = slope * mask / mask.sum()
        zeros = {"old_values": np.zeros(values.shape), "returns": np.zeros(returns.shape)}
        return {"loss": 0.5 * (np.maximum(plain, held) * mask).sum() / mask.sum(), "gradients": {"values": by, **zeros}}

    mistakes = [
        edit("values-shifted", "The values behind the tokens are trained on the returns from them on: a token's value is the "
             "one before it, columns 0 to time - 1.",
             {"clipped_value_loss(values[:, :-1], old_values[:, :-1]": "clipped_value_loss(values[:, 1:], old_values[:, 1:]"}),
        edit("value-clip-of-means", "The larger of two means is taken. Each token has its own larger error; the mean comes "
             "last.",
             {"return clipped_value_loss(values[:, :-1], old_values[:, :-1], returns, mask, clip)":
              "V, old = values[:, :-1], old_values[:, :-1].detach()\n    near = old + (V - old).clamp(-clip, clip)\n    R = "
              "returns.detach()\n    return 0.5 * torch.maximum(masked_mean((V - R) ** 2, mask), masked_mean((near - R) ** 2, "
              "mask))"}),
        edit("value-clip-min", "The smaller of the two errors is taken: then a value far away is not corrected at all.",
             {"return clipped_value_loss(values[:, :-1], old_values[:, :-1], returns, mask, clip)":
              "V, old = values[:, :-1], old_values[:, :-1].detach()\n    near = old + (V - old).clamp(-clip, clip)\n    R = "
              "returns.detach()\n    return 0.5 * masked_mean(torch.minimum((V - R) ** 2, (near - R) ** 2), mask)"}),
        edit("unclipped", "The clipped error plays no part.",
             {"return clipped_value_loss(values[:, :-1], old_values[:, :-1], returns, mask, clip)":
              "return 0.5 * masked_mean((values[:, :-1] - returns.detach()) ** 2, mask)"}),
    ]  # fmt: skip


class Trainer(Check):
    """Not a check by itself: small trunks, rollouts and rewards from lists, plain gradient descent."""

    tolerance = 1e-8  # float64 sums of a few dozen terms, each step from where the last one ended

    def case(self, rng, batches=1, own=True, kept=True, processes=1, eos=1, carried=None, rate=0.05, **settings):
        batch, prompt, time = 5, 3, 4
        names, listed, critic = ("quality", "brevity"), [], {"value": rng.normal(size=5)}
        for _ in range(batches):
            one = rollouts(rng, batch, prompt, time)
            listed.append({**one, "support": supports(rng, one["tokens"][:, prompt:]) if kept else None})
        policy = tables(rng)
        return {
            "policy": policy,
            "reference": {name: table + 0.3 * rng.normal(size=table.shape) for name, table in policy.items()},
            "value": critic | tables(rng) if own else critic,
            "batches": listed,
            "answers": {name: rng.normal(size=(batches, batch)).round(3).tolist() for name in names},
            "weights": {"quality": 1.0, "brevity": 0.25},
            "settings": {"temperature": 0.7, "minibatch_size": 2, "ppo_epochs": 2, "kl_coef": 0.2, **settings},
            "more": {"learning_rate": rate, "processes": processes, "eos": eos, "kept": carried},
        }


REFERENCE = "ref_log_probs.append(score(self.reference, None, part, config.temperature)[0])"
OWN = "own, expected = score(self.policy, self.value, part, config.temperature, part.support)"


@check("PPOTrainer.rollout", points=2, section="14.8")
class Rollouts(Trainer):
    probe = "rollout_of"

    def cases(self, rng):
        yield self.case(rng, kept=False, minibatch_size=8)
        yield self.case(rng)
        yield self.case(rng, own=False, minibatch_size=3)

    mistakes = [
        edit("reference-within-support", "The reference is scored within the policy's support. There its probabilities are "
             "made to sum to 1, and a policy that moves to tokens the reference never says pays next to nothing: no support "
             "for it.",
             {REFERENCE: REFERENCE.replace("config.temperature)", "config.temperature, part.support)")}),
        edit("reference-is-policy", "The reference's log-probabilities are the policy's: the KL would be 0 for ever.",
             {REFERENCE: REFERENCE.replace("self.reference", "self.policy")}),
        edit("sampler-is-not-scorer", "The old log-probabilities are over the whole vocabulary, though the tokens were drawn "
             "within a support: the first ratio would not be 1.", {OWN: OWN.replace(", part.support", "")}),
        edit("temperature-forgotten", "The reference is scored without the temperature, the policy with it: their ratio "
             "compares two different things.", {REFERENCE: REFERENCE.replace("config.temperature", "1.0")}),
        edit("attached-reward", "What the experience holds carries a gradient. It is all constant: `torch.no_grad()`.",
             {"        with torch.no_grad():\n            for _, part": "        with torch.enable_grad():\n            for _, "
              "part"}),
        edit("scores-forgotten", "The rewards are the sum of the last reward alone: hand over what `self.reward` returned.",
             {"            rewards=rewards.to(log_probs[0].dtype),": "            rewards=(rewards * 0 + "
              "list(scores.values())[-1].unsqueeze(1) * (rewards != 0)).to(log_probs[0].dtype),"}),
    ]  # fmt: skip


SCORE = "log_probs, values = score(self.policy, self.value, part, config.temperature, part.support)"
ADVANTAGES = "advantages, returns = compute_advantages(rewards, experience.values, mask, cut, config.gamma, config.lam)"
WHITEN = "advantages = self.loop.own(whiten(self.loop.gather(advantages), self.loop.gather(mask)))"
STOP = "if config.stop_kl > 0 and self.loop.gather(seen[\"approx_kl\"][-1].reshape(1)).mean() > config.stop_kl:"
LOSS = "            loss = of_policy + config.value_coef * of_value\n"


@check("PPOTrainer.update", points=4, section="14.8")
class Updates(Trainer):
    probe = "updated"

    def cases(self, rng):
        for plan in (
            {"kept": False, "ppo_epochs": 1, "minibatch_size": 8, "whiten": False},
            {"kept": False, "minibatch_size": 8},
            {"own": False, "value_coef": 0.7, "gamma": 0.9},
            {"bootstrap": True, "carried": 0.6, "lam": 0.7},
            {"processes": 2, "clip": 0.05, "value_clip": 0.05},
            {"ppo_epochs": 4, "stop_kl": 0.02, "rate": 0.02},
            {"ppo_epochs": 4, "stop_kl": 0.06, "rate": 0.02, "processes": 2},
            {"eos": None, "bootstrap": True},
        ):
            case = self.case(rng, **plan)
            batch, time = 5, 4
            known = {
                "log_probs": -rng.exponential(size=(batch, time)),
                "ref_log_probs": -rng.exponential(size=(batch, time)),
                "values": rng.normal(size=(batch, time + 1)),
                "rewards": rng.normal(size=(batch, time)),
            }
            if plan.get("stop_kl"):  # near the present policy, or it would be left at once
                known["log_probs"] = self.present(case)
            yield {**case, "experience": known}

    @staticmethod
    def present(case):
        """The log-probabilities under the policy as it stands: every state is the sum of its row's words so far."""
        batch, policy = case["batches"][0], case["policy"]
        n, found = batch["prompt_length"], np.zeros((5, 4))
        states = np.cumsum(policy["words"][batch["tokens"]] * batch["attention_mask"][..., None], axis=1)
        for b, t in np.ndindex(5, 4):
            logits = policy["head"] @ states[b, n - 1 + t] / case["settings"]["temperature"]
            kept = [int(i) for i in batch["support"][b, t] if i >= 0]
            token = batch["tokens"][b, n + t]
            found[b, t] = log_softmax(logits[kept])[kept.index(token)] if batch["attention_mask"][b, n + t] else 0.0
        return found

    mistakes = [
        edit("returns-whitened", "The value model is trained towards whitened returns. Only the advantages are whitened: the "
             "values are in units of reward.", {WHITEN: WHITEN + "\n            returns = whiten(returns, mask)"}),
        edit("whitened-alone", "Advantages are whitened over this process's rows. The statistic is of the whole rollout: "
             "`gather` both the advantages and the mask, whiten, take your `own`.", {WHITEN: "advantages = whiten(advantages, "
             "mask)"}),
        edit("never-whitened", "`config.whiten` is not looked at: the advantages go into the loss as they are.",
             {WHITEN: "pass"}),
        edit("ratio-of-itself", "The old log-probabilities are computed anew in every step: the ratio is always 1, and nothing "
             "is ever clipped. They are those of the rollout.",
             {"old_log_probs, old_values = experience.log_probs[rows, :width], experience": "old_log_probs, old_values = "
              "log_probs.detach(), experience"}),
        edit("old-values-anew", "The old values are computed anew in every step: the value clip has nothing to hold on to.",
             {"experience.log_probs[rows, :width], experience.values[rows, : width + 1]": "experience.log_probs[rows, :width], "
              "values.detach()"}),
        edit("sampler-is-not-scorer", "The present policy is scored over the whole vocabulary, the old one was within the "
             "support: their ratio is not one of two probabilities of the same "
             "thing.", {SCORE: SCORE.replace(", part.support", "")}),
        edit("kl-not-charged", "The rewards go into the advantages without the price of the KL.",
             {ADVANTAGES: ADVANTAGES.replace("(rewards,", "(experience.rewards,")}),
        edit("no-bootstrap", "`config.bootstrap` is not looked at: cut-off rows are treated as over.",
             {"cut = ~ended & config.bootstrap": "cut = ~ended & False"}),
        edit("gae-leaks", "Every row that has not ended is bootstrapped, whether `config.bootstrap` says so or not.",
             {"cut = ~ended & config.bootstrap": "cut = ~ended"}),
        edit("config-price", "The price of a nat is `config.kl_coef`. It may have moved since: `self.kl_coef`.",
             {"mask, ended, self.kl_coef, config.eos_penalty": "mask, ended, config.kl_coef, config.eos_penalty"}),
        edit("never-stops", "`config.stop_kl` is not looked at.", {STOP: "if False:"}),
        edit("stops-alone", "This process decides by its own approx_kl when to leave. The others may go on, and wait for it "
             "for ever: decide by the mean of all.",
             {STOP: "if config.stop_kl > 0 and seen[\"approx_kl\"][-1] > config.stop_kl:"}),
        edit("one-epoch", "Every rollout is gone through once: `config.ppo_epochs`.",
             {"for _ in range(config.ppo_epochs) for part": "for _ in range(1) for part"}),
        edit("value-unweighted", "The value loss stands in the sum without `config.value_coef`.",
             {LOSS: "            loss = of_policy + of_value\n"}),
        edit("value-not-trained", "The value loss is missing from the loss: the value model never learns.",
             {LOSS: "            loss = of_policy + 0 * of_value\n"}),
    ]  # fmt: skip


@check("PPOTrainer.train", points=3, section="14.8")
class Training(Trainer):
    probe = "trained"

    def cases(self, rng):
        yield self.case(rng, ppo_epochs=1, minibatch_size=8, kept=False)
        yield self.case(rng, batches=3, own=False)
        yield self.case(rng, batches=3, target_kl=0.5, horizon=100.0)
        yield self.case(rng, batches=2, target_kl=4.0, horizon=60.0, carried=0.7, processes=2)
        yield self.case(rng, batches=2, eos=None, carried=0.4)

    mistakes = [
        edit("kl-per-token", "`kl` is averaged over tokens. It is summed over each completion, then averaged over the rows.",
             {"experience.ref_log_probs) * mask).sum(dim=1))": "experience.ref_log_probs) * mask).sum(dim=1) / "
              "mask.sum(dim=1))"}),
        edit("k1-sign", "`kl` has the wrong sign: log pi - log pi_ref of tokens that the policy drew.",
             {"kl = loop.gather(((experience.log_probs - experience.ref_log_probs) * mask)":
              "kl = loop.gather(((experience.ref_log_probs - experience.log_probs) * mask)"}),
        edit("reward-unweighted", "`reward` is the plain sum of the scores; they have weights.",
             {"reward=sum(self.reward.weights[name] * scores[name].mean() for name in scores),":
              "reward=sum(scores[name].mean() for name in scores),"}),
        edit("price-fixed", "`config.target_kl` is not looked at: the price never moves.",
             {"            if controller is not None:\n                self.kl_coef = controller": "            if False:\n    "
              "            self.kl_coef = controller"}),
        edit("price-logged-late", "`kl_coef` is logged after it has moved. The line is about this step: the price that was "
             "paid.",
             {"            loop.log(\n                reward=": "            if controller is not None:\n                "
              "self.kl_coef = controller.update(kl.mean().item(), len(kl))\n            loop.log(\n                reward=",
              "            if controller is not None:\n                self.kl_coef = controller.update(kl.mean().item(), "
              "len(kl))\n            loop.kept": "            loop.kept"}),
        edit("price-forgotten", "`loop.kept` does not learn the price: a run that is resumed would begin with the first one "
             "again.",
             {'            loop.kept["kl_coef"] = self.kl_coef\n': ""}),
        edit("samples-of-one-process", "The controller is told this process's rows. The batch is that of all processes.",
             {"controller.update(kl.mean().item(), len(kl))": "controller.update(kl.mean().item(), len(mask))"}),
    ]  # fmt: skip


@check("PPOTrainer.validate", points=1.5, section="14.9")
class Validation(Trainer):
    probe = "validated"

    def cases(self, rng):
        for seed, settings in ((0, {}), (3, {"top_k": 2, "temperature": 4.0}), (5, {"top_k": 0, "temperature": 1.3})):
            case = self.case(rng, **settings)
            yield {**case, "answers": {name: listed * 2 for name, listed in case["answers"].items()}, "seed": seed}

    mistakes = [
        edit("training-draws", "The draws come from the training's generator: the table changes what is trained on, and "
             "differs each time. Use one of its own, with this seed.",
             {"generator=torch.Generator().manual_seed(seed),": "generator=loop.generator,"}),
        edit("greedy-rollouts", "The table shows other text than the policy is trained to write: sample at the configuration's "
             "temperature.", {"            temperature=config.temperature,\n            top_k=config.top_k,\n            "
             "generator":
                              "            temperature=0.001,\n            top_k=config.top_k,\n            generator"}),
        edit("top-k-forgotten", "The table is sampled without `config.top_k`.",
             {"            top_k=config.top_k,\n            generator": "            generator"}),
        edit("reward-unweighted", "`reward` is the plain sum of the scores; they have weights.",
             {"total = sum(self.reward.weights[name] * score for name, score in apart.items())": "total = sum(apart.values())"}),
        edit("length-of-columns", "`length` counts the columns, padding included.",
             {"lengths, ended = written.mask.sum(dim=1).tolist(),": "lengths, ended = [written.mask.shape[1]] * "
              "len(written.mask),"}),
    ]  # fmt: skip
