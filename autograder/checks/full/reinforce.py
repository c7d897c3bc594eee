"""Lesson 9: what is true of REINFORCE on a language model.

Log-probabilities, losses and gradients are worked out row by row, without padding, by `reinforce_truth`, which is imported where
a truth needs it and nowhere else: it stays with the grader. The gradient of the expected reward comes from listing all sequences.
"""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import number
from autograder.checks.refusals import Refuses

EXACT = 1e-9  # float64 sums of a few dozen terms of size 1 to 10 lose less than 1e-13
MODEL = 1e-8  # a tiny GPT-2 in float64, forward and backward, with padding and without: they differ by less than 1e-12
REPLAY = 1e-7  # three steps of that, each from where the last one ended
SIZES = {"vocab_size": 6, "n_positions": 12, "n_embd": 8, "n_layer": 2, "n_head": 2}
EOS, PAD = 5, 4


SHIFT = "logits, tokens = logits[:, :-1], tokens[:, 1:]"
PICKED = "return -surprise.view(tokens.shape)  # in fewer passes over the vocabulary than in two steps, forward and backward"
LOGIT = "logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)"


@check("token_log_probs", points=2, section="9.3")
class LogProbsOfTokens(Check):
    probe = "token_log_probs"
    tolerance = EXACT

    def cases(self, rng):
        logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]])
        yield {"logits": logits, "tokens": np.array([[2, 1]]), "upstream": np.ones((1, 1))}
        for batch, length, vocabulary, size in ((2, 3, 4, 1.0), (3, 5, 6, 3.0), (2, 4, 3, 1000.0)):
            yield {"logits": size * rng.normal(size=(batch, length, vocabulary)),
                   "tokens": rng.integers(vocabulary, size=(batch, length)),
                   "upstream": rng.normal(size=(batch, length - 1))}  # fmt: skip
        logits, tokens = rng.normal(size=(2, 4, 5)), rng.integers(4, size=(2, 4))
        logits[:, :, 4] = -np.inf  # a token that cannot come: in row 0 it does not, in row 1 it does
        tokens[1, 2] = 4
        yield {"logits": logits, "tokens": tokens, "upstream": rng.normal(size=(2, 3))}

    def truth(self, logits, tokens, upstream):
        log_probs, gradient = np.zeros(upstream.shape), np.zeros(logits.shape)
        for b, t in np.ndindex(*upstream.shape):
            row, token = logits[b, t], tokens[b, t + 1]
            top = row.max()
            log_probs[b, t] = row[token] - top - np.log(np.exp(row - top).sum())
            if np.isfinite(log_probs[b, t]):
                gradient[b, t] = upstream[b, t] * (np.eye(len(row))[token] - np.exp(row - top) / np.exp(row - top).sum())
        return {"log_probs": log_probs, "dtype": "float64", "gradient": gradient, "arguments changed": "none"}

    mistakes = [
        edit("unshifted-log-probs", "The logits at a position are scored against the token that stands there. They speak of the "
             "*next* one: logits[:, :-1] belong to tokens[:, 1:].", {SHIFT: "logits, tokens = logits[:, :-1], tokens[:, :-1]"}),
        edit("shifted-the-wrong-way", "You pair the logits behind a token with the token before it. Position t's logits are of "
             "token t + 1, not of token t - 1.", {SHIFT: "logits, tokens = logits[:, 1:], tokens[:, :-1]"}),
        edit("last-logits-scored", "You score each token by the logits of its own position, which have read it already. The ones "
             "before it are meant: logits[:, :-1].", {SHIFT: "logits, tokens = logits[:, 1:], tokens[:, 1:]"}),
        edit("dropped-token", "The log-probability of the last token is missing: there are length - 1 of them.",
             {SHIFT: "logits, tokens = logits[:, :-2], tokens[:, 1:-1]"}),
        edit("raw-logits-as-log-probs", "These are logits. A log-probability is the logit less the logsumexp of its row over the "
             "vocabulary; exponentials of a row must sum to 1.", {PICKED: f"return {LOGIT}"}),
        edit("softmax-over-time", "You normalise over the wrong axis. The vocabulary is the last one.",
             {PICKED: f"logits = logits.log_softmax(dim=1)\n    return {LOGIT}"}),
        edit("mean-over-vocabulary", "From the logit you take the mean of its row. Take the logsumexp.",
             {PICKED: f"return {LOGIT} - logits.mean(dim=-1)"}),
        edit("log-of-softmax", "The log of a softmax is -inf, or cut off, where a probability is too small for a number: with "
             "logits of 1000 nothing is left of the answer. Use log_softmax, or the logit less the logsumexp.",
             {PICKED: "return logits.softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).add(1e-8).log()"}),
        edit("probabilities", "These are probabilities. Asked for are their logs.",
             {PICKED: "return (-surprise).exp().view(tokens.shape)"}),
        edit("flipped-sign", "These are cross entropies, minus the log-probabilities. Log-probabilities are 0 or less.",
             {PICKED: "return surprise.view(tokens.shape)"}),
        edit("device-dtype", "The result is float32 where float64 came in. Keep the dtype of the logits.",
             {PICKED: "return -surprise.float().view(tokens.shape)"}),
        edit("cut-graph", "No gradient flows from your log-probabilities to the logits.",
             {PICKED: "return -surprise.detach().view(tokens.shape)"}),
    ]  # fmt: skip


@check("token_log_probs", points=0.5, section="9.3")
class LogProbsRefuse(Refuses):
    def cases(self, rng):
        good = {"logits": rng.normal(size=(2, 3, 4)), "tokens": rng.integers(4, size=(2, 3))}
        for argument, bad in (("logits", rng.normal(size=(2, 2, 4))), ("logits", rng.normal(size=(2, 4))),
                              ("tokens", np.array([[0, 1, 4], [0, 0, 0]])), ("tokens", np.array([[0, 1, -1], [0, 0, 0]])),
                              ("tokens", rng.uniform(0, 3, size=(2, 3)))):  # fmt: skip
            yield {"function": "token_log_probs", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("broadcast", "Logits of another length than the tokens go through, and tokens outside the vocabulary end in an "
             "index error from deep inside. Refuse them.", {"    given.require_logits(logits, tokens)\n": ""}),
        edit("anything-goes", "Tokens that are no integers are to be refused with a ValueError that says so.",
             {'    given.require_tokens("tokens", tokens, least=2)\n': "    tokens = tokens.long()\n"}),
    ]  # fmt: skip


BEFORE = "before = ends.cumsum(dim=1) - ends  # how many EOS stand before each token"
RETURN_MASK = "return (before == 0) & (to_come > 0)"


@check("completion_mask", points=2, section="9.4")
class TokensOfThePolicy(Check):
    probe = "completion_mask"

    def cases(self, rng):
        common = {"eos_token_id": 5, "pad_token_id": 4}
        yield {"tokens": np.array([[1, 2, 5, 4]]), "prompt_length": 1, **common}
        yield {"tokens": np.array([[4, 5, 1, 2, 5, 4], [3, 1, 2, 3, 1, 2]]), "prompt_length": 2, **common}
        yield {"tokens": np.array([[1, 2, 5, 3, 5, 1], [3, 5, 4, 4, 4, 4]]), "prompt_length": 1, **common}
        yield {"tokens": np.array([[1, 2, 3, 4, 4], [1, 4, 2, 5, 4], [1, 5, 4, 4, 2]]), "prompt_length": 1, **common}
        endless = {"eos_token_id": None, "pad_token_id": 4}
        yield {"tokens": np.array([[1, 2, 5, 4, 4], [1, 4, 4, 4, 4]]), "prompt_length": 1, **endless}
        for rows, columns, prompt_length in ((4, 6, 2), (8, 9, 3)):
            yield {"tokens": rng.integers(3, 6, size=(rows, columns)), "prompt_length": prompt_length, **common}

    def truth(self, tokens, prompt_length, eos_token_id, pad_token_id):
        mask = np.zeros((len(tokens), tokens.shape[1] - prompt_length), dtype=bool)
        for b, row in enumerate(tokens[:, prompt_length:].tolist()):
            end = row.index(eos_token_id) + 1 if eos_token_id in row else len(row)
            while end and row[end - 1] == pad_token_id:
                end -= 1
            mask[b, :end] = True
        return {"mask": mask, "dtype": "bool", "arguments changed": "none"}

    mistakes = [
        edit("pad-is-eos", "The EOS itself is masked. The policy chose to stop there: without that token it is never told "
             "whether to stop, and probabilities of completions do not sum to 1.",
             {BEFORE: "before = ends.cumsum(dim=1)"}),
        edit("padding-scored", "Padding behind the end is True. Only what the policy wrote counts.",
             {RETURN_MASK: "return torch.ones_like(completion, dtype=torch.bool)"}),
        edit("pad-alone", "You only look for the pad token. What stands behind the first EOS does not count, whatever it is; "
             "and a pad token with others behind it was drawn.", {RETURN_MASK: "return completion != pad_token_id"}),
        edit("drawn-pad-dropped", "A pad token inside a completion is False. It was drawn, like any token of the vocabulary, and "
             "its "
             "log-probability belongs to the sequence's.", {RETURN_MASK: "return (before == 0) & (completion != pad_token_id)"}),
        edit("cut-off-padding", "In a row without EOS the padding at its end is True.", {RETURN_MASK: "return before == 0"}),
        edit("prompt-ends-it", "An EOS in the prompt ends the completion. Look for it behind the prompt only: many models "
             "begin every text with their EOS.",
             {"ends = torch.zeros_like(completion) if eos_token_id is None else (completion == eos_token_id).long()\n    "
              + BEFORE:
              "ends = torch.zeros_like(tokens) if eos_token_id is None else (tokens == eos_token_id).long()\n"
              "    before = (ends.cumsum(dim=1) - ends)[:, prompt_length:]"}),
        edit("every-eos", "Every EOS is False and everything else True. The completion goes up to its *first* EOS, which counts.",
             {RETURN_MASK: "return (ends == 0) & (to_come > 0)"}),
        edit("last-eos", "The completion ends at the row's last EOS in your mask. It ends at the first.",
             {BEFORE: "left = ends.flip(1).cumsum(dim=1).flip(1)\n    before = (left == 0) & (ends.sum(dim=1, keepdim=True) > "
             "0)"}),
        edit("prompt-in-loss", "Your mask covers the prompt too: it is (batch, length - prompt_length), of the completion alone.",
             {RETURN_MASK: "return torch.cat([torch.ones_like(tokens[:, :prompt_length]).bool(), (before == 0) & (to_come > 0)], "
             "1)"}),
        edit("device-dtype", "A mask is boolean here. With integers, `x[mask]` and `~mask` mean something else.",
             {RETURN_MASK: "return ((before == 0) & (to_come > 0)).long()"}),
    ]  # fmt: skip


@check("completion_mask", points=0.5, section="9.4")
class MaskRefuses(Refuses):
    def cases(self, rng):
        good = {"tokens": rng.integers(6, size=(2, 5)), "prompt_length": 2, "eos_token_id": 5, "pad_token_id": 4}
        for argument, bad in (("pad_token_id", 5), ("prompt_length", 0), ("prompt_length", 5),
                              ("tokens", rng.normal(size=(2, 5))), ("tokens", rng.integers(6, size=5))):  # fmt: skip
            yield {"function": "completion_mask", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("pad-is-eos", "Padding with the EOS goes through. Then a finished row and one that was cut off look alike; refuse "
             "it.",
             {"    given.require_pad_is_not_eos(pad_token_id, eos_token_id)\n": ""}),
        edit("no-prompt", "A prompt of length 0, and one that leaves no completion, are to be refused.",
             {'    given.require_prompt_length("prompt_length", prompt_length, tokens.shape[1])\n': ""}),
    ]  # fmt: skip


def weights_of(rng, sizes=SIZES):
    from .reinforce_truth import parameters

    return rng.normal(scale=0.8, size=parameters(**sizes))


def prompts_of(rng, lengths, vocabulary=PAD):
    """(prompts, mask) padded on the left."""
    columns = max(lengths)
    mask = np.array([[0] * (columns - length) + [1] * length for length in lengths])
    return np.where(mask, rng.integers(vocabulary, size=mask.shape), PAD), mask


MASK = "mask = attention_mask[:, seed_token_length:].bool()"
FILL = "log_probs = log_probs.masked_fill(~mask, 0.0)  # not times 0: padding may have -inf under top-k"
LOSS = "loss = -(reward.detach() * log_probs.sum(dim=1)).mean()"
SCORED = "log_probs = token_log_probs(warped(logits, temperature, top_k), output_tokens[:, before:])  # (B, T)"
POSITIONS = "        position_ids=position_ids(attention_mask),\n"
KEPT = "        logits_to_keep=output_tokens.shape[1] - before,\n"


@check("compute_reinforce_loss", points=4, section="9.5")
class LossAndGradient(Check):
    """Rows of a tiny GPT-2, drawn from it: the loss and its gradient by every weight."""

    probe = "reinforce_loss"
    tolerance = MODEL

    def cases(self, rng):
        from .reinforce_truth import written

        for lengths, time, eos, temperature, top_k in (
            ([2], 1, None, 1.0, 0), ([1, 1], 2, None, 1.0, 0), ([2, 2, 2], 3, EOS, 1.0, 0), ([3, 1, 2], 3, EOS, 1.0, 0),
            ([1, 3, 2, 3], 4, EOS, 0.7, 0), ([2, 4, 1, 3, 2], 4, EOS, 1.3, 2),
        ):  # fmt: skip
            weights = weights_of(rng)
            prompts, mask = prompts_of(rng, lengths)
            tokens, attention = written(rng, SIZES, weights, prompts, mask, time, eos, PAD, temperature, top_k)
            for row in range(len(lengths) - 2):  # cut off, so that there is padding whatever was drawn
                tokens[row, max(lengths) + 1 + row :], attention[row, max(lengths) + 1 + row :] = PAD, 0
            yield {"sizes": SIZES, "weights": weights, "reward": rng.normal(size=len(lengths)), "tokens": tokens,
                   "prompt_length": max(lengths), "attention_mask": attention if eos else None, "temperature": temperature,
                   "top_k": top_k}  # fmt: skip

    def truth(self, **case):
        from .reinforce_truth import reinforce_loss

        log_probs, loss, gradient = reinforce_loss(**case)
        return {"log_probs": log_probs, "loss": loss, "gradient": gradient, "a gradient reaches the reward": False,
                "dtype": "float64", "arguments changed": "none"}  # fmt: skip

    mistakes = [
        edit("flipped-sign", "The sign is turned: making this loss small makes rewarded completions *less* likely.",
             {LOSS: "loss = (reward.detach() * log_probs.sum(dim=1)).mean()"}),
        edit("prompt-in-loss", "The prompt's tokens are in your loss. The policy did not write them: they add "
             "E[r] grad log p(prompt) to the gradient.",
             {LOSS: "whole = token_log_probs(warped(model(input_ids=output_tokens, attention_mask=attention_mask, position_ids="
                    "position_ids(attention_mask)).logits, temperature, top_k), output_tokens).masked_fill("
                    "~attention_mask[:, 1:].bool(), 0.0)\n    loss = -(reward.detach() * whole.sum(dim=1)).mean()"}),
        edit("padding-scored", "Padding behind the EOS is scored: nobody drew it. Its log-probabilities are to be 0.",
             {MASK: "mask = torch.ones_like(output_tokens[:, seed_token_length:]).bool()"}),
        edit("padding-multiplied", "Padding is multiplied by 0, and -inf times 0 is NaN: under top-k a pad token may have "
             "probability 0. Use `masked_fill` or `torch.where`.", {FILL: "log_probs = log_probs * mask"}),
        edit("pad-is-eos", "The EOS is not scored. The policy chose it, and its log-probability is part of the completion's.",
             {MASK: MASK + "\n    mask = mask & torch.cat([mask[:, 1:], (mask.sum(dim=1, keepdim=True) == mask.shape[1])], "
             "dim=1)"}),
        edit("mean-over-tokens", "You average over tokens. Then what a token of a long completion is told is worth less: the "
             "gradient is no longer that of the expected reward. The sum over a row's tokens is meant, and the mean over rows.",
             {LOSS: "loss = -(reward.detach().unsqueeze(1) * log_probs).sum() / mask.sum()"}),
        edit("mean-of-row-means", "Each row is divided by its own length: a bias towards long completions that are bad and "
             "short ones that are good. The log-probability of a completion is a sum.",
             {LOSS: "loss = -(reward.detach() * log_probs.sum(dim=1) / mask.sum(dim=1)).mean()"}),
        edit("sum-over-rows", "The loss is a mean over rows, not a sum: else the step grows with the batch.",
             {LOSS: LOSS.replace(".mean()", ".sum()")}),
        edit("unshifted-log-probs", "Your completion starts one column late in the logits: each token is scored by logits that "
             "have read it.", {KEPT: "        logits_to_keep=output_tokens.shape[1] - before,\n".replace(
                 "- before", "- before - 1"), SCORED: "log_probs = torch.log_softmax(warped(logits, temperature, top_k), "
                 "-1).gather(-1, output_tokens[:, seed_token_length:].unsqueeze(-1)).squeeze(-1)"}),
        edit("dropped-token", "The first token of the completion is not in your loss. It is scored by the logits at the prompt's "
             "last "
             "token.", {FILL: FILL + "\n    log_probs = torch.cat([torch.zeros_like(log_probs[:, :1]), log_probs[:, 1:]], "
             "dim=1)"}),
        edit("no-position-ids", "Rows padded on the left are scored without `position_ids`: GPT-2 takes the first real token "
             "for the third or fourth. Pass `position_ids(attention_mask)`.", {POSITIONS: ""}),
        edit("padding-attended", "Neither the attention mask nor the position ids reach the model: padding on the left is read "
             "as text.",
             {"        attention_mask=attention_mask,\n" + POSITIONS: ""}),
        edit("sampler-is-not-scorer", "Tokens drawn with a temperature or top-k are scored under the plain softmax. That is "
             "another distribution; `warped(logits, temperature, top_k)` is the one that was sampled.",
             {"token_log_probs(warped(logits, temperature, top_k)": "token_log_probs(logits"}),
        edit("top-k-not-scored", "top_k is not taken into account in the scores. `warped` does both.",
             {"token_log_probs(warped(logits, temperature, top_k)": "token_log_probs(warped(logits, temperature)"}),
        edit("temperature-not-scored", "The temperature is not taken into account in the scores. `warped` does both.",
             {"token_log_probs(warped(logits, temperature, top_k)": "token_log_probs(warped(logits, 1.0, top_k)"}),
        edit("cut-graph", "No gradient arrives at the model. Compute the scored log-probabilities without `no_grad`, `detach` or "
             "`.item()`.",
             {LOSS: "loss = -(reward.detach() * log_probs.detach().sum(dim=1)).mean()"}),
        edit("attached-reward", "A gradient flows into the reward. What a completion is worth is a constant here: `detach` it.",
             {LOSS: LOSS.replace("reward.detach()", "reward")}),
        edit("probabilities", "You weight the reward by the probability, not by its log. Sampling does that weighting already.",
             {LOSS: "loss = -(reward.detach() * log_probs.sum(dim=1).exp()).mean()"}),
        edit("in-place", "`reward` itself is changed. Work on a new tensor.",
             {LOSS: "reward.data -= reward.data.mean()\n    loss = -(reward.detach() * log_probs.sum(dim=1)).mean()"}),
    ]  # fmt: skip


@check("compute_reinforce_loss", points=1.5, section="9.5")
class GradientOfExpectedReward(Check):
    """All sequences of an enumerable model, each with its reward times its probability: the gradient is exactly -grad E[r]."""

    probe = "reinforce_loss"
    tolerance = MODEL

    def cases(self, rng):
        from .reinforce_truth import enumerated

        for vocabulary, length in ((2, 2), (4, 3)):
            sizes = {**SIZES, "vocab_size": vocabulary}
            weights, prompt = weights_of(rng, sizes), rng.integers(vocabulary, size=2)
            listed, tokens, attention = enumerated(sizes, weights, prompt, length, vocabulary - 1)
            reward = rng.uniform(size=len(listed))  # all positive
            yield {"sizes": sizes, "weights": weights, "reward": reward * listed.probs().detach().numpy() * len(listed),
                   "tokens": tokens, "prompt_length": 2, "attention_mask": attention, "temperature": 1.0, "top_k": 0}  # fmt: skip

    def truth(self, sizes, weights, reward, tokens, prompt_length, attention_mask, temperature, top_k):
        from .reinforce_truth import enumerated

        listed, _, _ = enumerated(sizes, weights, tokens[0, :2], tokens.shape[1] - 2, sizes["vocab_size"] - 1)
        log_probs = listed.token_log_probs().detach().numpy()
        probs = listed.probs().detach().numpy()
        return {"log_probs": log_probs, "loss": -np.mean(reward * log_probs.sum(axis=1)),
                "gradient": -listed.policy_gradient(reward / probs / len(listed)).numpy(),
                "a gradient reaches the reward": False, "dtype": "float64", "arguments changed": "none"}  # fmt: skip

    mistakes = [
        edit("flipped-sign", "The gradient points exactly away from that of the expected reward: a step down this loss lowers "
             "it.",
             {LOSS: "loss = (reward.detach() * log_probs.sum(dim=1)).mean()"}),
        edit("pad-is-eos", "The EOS is not scored: the probabilities of all completions do not sum to 1, and the gradient is "
             "another.",
             {MASK: MASK + "\n    mask = mask & torch.cat([mask[:, 1:], (mask.sum(dim=1, keepdim=True) == mask.shape[1])], "
             "dim=1)"}),
        edit("mean-of-row-means", "Divided by each row's length, the loss has another expected gradient than the expected "
             "reward.",
             {LOSS: "loss = -(reward.detach() * log_probs.sum(dim=1) / mask.sum(dim=1)).mean()"}),
    ]  # fmt: skip


@check("compute_reinforce_loss", points=0.5, section="9.5")
class LossRefuses(Refuses):
    probe = "loss_refuses"

    def cases(self, rng):
        attention = np.array([[0, 1, 1, 1], [1, 1, 1, 0]])
        good = {"reward": np.array([1.0, 2.0]), "output_tokens": rng.integers(6, size=(2, 4)), "seed_token_length": 2,
                "attention_mask": attention}  # fmt: skip
        padded_right = np.array([[1, 0, 1, 1], [1, 1, 1, 0]])
        weights = weights_of(rng)
        for argument, bad in (("reward", np.ones((2, 1))), ("reward", np.ones(3)), ("reward", np.array([1.0, np.nan])),
                              ("seed_token_length", 0), ("seed_token_length", 4), ("attention_mask", padded_right),
                              ("attention_mask", attention[:, 1:]), ("output_tokens", rng.normal(size=(2, 4)))):  # fmt: skip
            yield {"sizes": SIZES, "weights": weights, "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("rm-broadcast", "A reward of shape (B, 1) times log-probabilities (B,) gives (B, B): each row is paid every row's "
             "reward. Refuse it.", {'    given.require_rewards("reward", reward, len(output_tokens))\n': ""}),
        edit("padded-right", "Prompts padded on the right go through: their completions then begin behind padding.",
             {"    given.require_left_padding(attention_mask, output_tokens, seed_token_length)\n": ""}),
    ]  # fmt: skip


@check("batch_baseline", points=1.5, section="9.6")
class MeanOfTheOthers(Check):
    probe = "batch_baseline"
    tolerance = EXACT

    def cases(self, rng):
        for rewards in ([1.0, 3.0], [0.7], [1.0, 2.0, 6.0], [0.5, 0.5, 0.5, 0.5]):
            yield {"rewards": np.array(rewards)}
        yield {"rewards": rng.normal(size=17) + 3.0}

    def truth(self, rewards):
        others = [[r for j, r in enumerate(rewards) if j != i] for i in range(len(rewards))]
        return {"baseline": np.array([np.mean(fellows) if fellows else 0.0 for fellows in others]), "dtype": "float64",
                "arguments changed": "none"}  # fmt: skip

    @mistake("baseline-first", "This is the mean of the whole batch, the row's own reward included. Then what a row is compared "
    "with "
             "depends on what it got itself, and the gradient shrinks by the factor (B - 1)/B: 0 for a single row.")  # fmt: skip
    def own_included(self, rewards):
        return {**self.truth(rewards), "baseline": np.full(len(rewards), rewards.mean())}

    @mistake("baseline-first", "This is one number, the mean of the whole batch. Each row is to be compared with the others "
    "alone: (batch,).")
    def one_number(self, rewards):
        return {**self.truth(rewards), "baseline": rewards.mean()}

    @mistake("running-mean", "Each row is compared with the rows before it. All other rows of the batch may serve: none of "
    "them depends on this row's completion.")  # fmt: skip
    def rows_before(self, rewards):
        return {**self.truth(rewards), "baseline": np.array([rewards[:i].mean() if i else 0.0 for i in range(len(rewards))])}

    mistakes = [
        edit("sum-for-mean", "This is the sum of the others. Divide by their number, B - 1.",
             {"return (rewards.sum() - rewards) / others": "return rewards.sum() - rewards"}),
        edit("wrong-count", "You divide the sum of the others by B. They are B - 1.",
             {"return (rewards.sum() - rewards) / others": "return (rewards.sum() - rewards) / len(rewards)"}),
        edit("zero-spread", "A single row has no others: 0/0 is NaN. Its baseline is 0.",
             {"others = max(len(rewards) - 1, 1)": "others = len(rewards) - 1"}),
        edit("advantage-for-baseline", "These are the advantages. Asked for is what the rewards are compared with.",
             {"return (rewards.sum() - rewards) / others": "return rewards - (rewards.sum() - rewards) / others"}),
        edit("device-dtype", "The result is float32 where float64 came in.",
             {"return (rewards.sum() - rewards) / others": "return ((rewards.sum() - rewards) / others).float()"}),
    ]  # fmt: skip


@check("batch_baseline", points=0.5, section="9.6")
class BaselineRefuses(Refuses):
    def cases(self, rng):
        for bad in (np.ones((3, 1)), np.zeros(0), np.array([1.0, np.inf, 0.0])):
            yield {"function": "batch_baseline", "good": {"rewards": rng.normal(size=3)}, "argument": "rewards", "bad": bad}

    mistakes = [
        edit("broadcast", "Rewards of shape (B, 1), and rewards that are not finite, go through. Refuse them: one bad number "
             "spoils every row's "
             "baseline.", {'    given.require_rewards("rewards", rewards)\n    # BEGIN SOLUTION\n    others': "    # BEGIN "
             "SOLUTION\n    others"}),
    ]  # fmt: skip


OTHERS = "others = (groups.sum(dim=1, keepdim=True) - groups) / (group_size - 1)"


@check("rloo_advantages", points=1.5, section="9.6")
class LeaveOneOut(Check):
    probe = "rloo_advantages"
    tolerance = EXACT

    def cases(self, rng):
        yield {"rewards": np.array([1.0, 3.0]), "group_size": 2}
        yield {"rewards": np.array([1.0, 3.0, 10.0, 20.0]), "group_size": 2}
        yield {"rewards": np.array([0.5, 0.5, 0.5, 1.0, 2.0, 6.0]), "group_size": 3}
        yield {"rewards": rng.normal(size=12) + 2.0, "group_size": 4}

    def truth(self, rewards, group_size):
        advantages = np.zeros(len(rewards))
        for i, reward in enumerate(rewards):
            first = i - i % group_size
            advantages[i] = reward - np.mean([rewards[j] for j in range(first, first + group_size) if j != i])
        return {"advantages": advantages, "dtype": "float64", "arguments changed": "none"}

    mistakes = [
        edit("baseline-first", "The group's mean has the row's own reward in it: all advantages come out (K - 1)/K of what "
             "they are. Compare with the mean of the *others*.", {OTHERS: "others = groups.mean(dim=1, keepdim=True)"}),
        edit("groups-interleaved", "Your groups are made of every n-th row. The completions of one prompt stand next to each "
             "other.",
             {"rewards.view(-1, group_size)  # (prompts, K)": "rewards.view(group_size, -1).T", "(groups - others).flatten()":
              "(groups - others).T.flatten()"}),
        edit("batch-for-group", "Rewards are compared with the whole batch. Compare those of one prompt with each other: then it "
             "does not "
             "matter that some prompts are easier.", {OTHERS: "others = (rewards.sum() - groups) / (len(rewards) - 1)"}),
        edit("scaled", "You divide by the group's standard deviation, as GRPO does (lesson 15). RLOO does not.",
             {"return (groups - others).flatten()": "return ((groups - others) / (groups.std(dim=1, keepdim=True) + "
             "1e-6)).flatten()"}),
        edit("flipped-sign", "The sign is turned: the best of a group gets the lowest advantage.",
             {"return (groups - others).flatten()": "return (others - groups).flatten()"}),
        edit("baseline-for-advantage", "This is the baseline. The advantage is the reward less the baseline.",
             {"return (groups - others).flatten()": "return others.flatten()"}),
        edit("shape", "The advantages are (prompts, group_size). Give them in the order of the rows: (batch,).",
             {"return (groups - others).flatten()": "return groups - others"}),
    ]  # fmt: skip


@check("rloo_advantages", points=0.5, section="9.6")
class LeaveOneOutRefuses(Refuses):
    def cases(self, rng):
        good = {"rewards": rng.normal(size=6), "group_size": 3}
        for argument, bad in (("group_size", 1), ("group_size", 4), ("rewards", np.ones((6, 1)))):
            yield {"function": "rloo_advantages", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("lonely-group", "A group of one has nobody to compare with, and rows that do not fill groups belong to nobody: a "
             "ValueError that names `group_size`.", {"    given.require_groups(group_size, len(rewards))\n": ""}),
    ]  # fmt: skip


COPY = "policy = copy.deepcopy(reference).requires_grad_(True).eval()"
ADAMW = "return policy, torch.optim.AdamW(policy.parameters(), lr=learning_rate, fused=True)"


@check("reset_model_optimizer", points=2, section="9.7")
class AFreshPolicy(Check):
    """A copy to train, and an optimizer for it: what they are, and where steps down given gradients lead."""

    probe = "new_policy"
    tolerance = EXACT

    def cases(self, rng):
        sizes = {**SIZES, "n_layer": 1}
        for frozen, learning_rate, steps in ((False, 0.1, 1), (True, 0.01, 3)):
            weights = weights_of(rng, sizes)
            yield {"sizes": sizes, "weights": weights, "frozen": frozen, "learning_rate": learning_rate,
                   "gradients": rng.normal(size=(steps, len(weights)))}  # fmt: skip

    def truth(self, sizes, weights, frozen, learning_rate, gradients):
        from .reinforce_truth import adamw

        return {"policy is the reference": False, "policy's weights at first": weights, "tensors shared with the reference": 0,
                "policy is in training mode": False, "policy's frozen parameters": 0, "optimizer": "AdamW",
                "optimizer holds the policy's parameters": True, "past of the optimizer": 0,
                "policy's weights after the steps": adamw(weights, gradients, learning_rate),
                "reference's weights after the steps": weights, "reference is in training mode": True,
                "reference's frozen parameters": 16 if frozen else 0}  # fmt: skip

    mistakes = [
        edit("reference-trained", "The policy *is* the reference: every step moves what you want to compare with. Make a deep "
             "copy.",
             {COPY: "policy = reference.requires_grad_(True).eval()"}),
        edit("shallow-copy", "The copy shares its weights with the reference: `copy.copy` copies the outer object alone. Use "
             "`copy.deepcopy`.",
             {COPY: "policy = copy.copy(reference).requires_grad_(True).eval()"}),
        edit("frozen-policy", "The reference was frozen, and so is your copy: it has no gradients. Require them for all its "
             "parameters.",
             {COPY: "policy = copy.deepcopy(reference).eval()"}),
        edit("dropout-on", "The policy is in training mode: with dropout the distribution that is scored is not the one that "
             "wrote. `eval()` switches it off.", {COPY: "policy = copy.deepcopy(reference).requires_grad_(True).train()"}),
        edit("optimizer-of-the-reference", "The optimizer holds the reference's parameters: steps move those, and the policy "
             "stays where it is.",
             {ADAMW: "return policy, torch.optim.AdamW(reference.parameters(), lr=learning_rate)"}),
        edit("default-rate", "The learning rate has no effect.", {ADAMW: "return policy, "
             "torch.optim.AdamW(policy.parameters())"}),
        edit("adam-is-not-adamw", "This is Adam. AdamW also shrinks the weights, by learning rate times 0.01 a step.",
             {ADAMW: "return policy, torch.optim.Adam(policy.parameters(), lr=learning_rate)"}),
        edit("reference-changed", "The reference's mode is changed by the copying. Copy first, and change the copy.",
             {COPY: "policy = copy.deepcopy(reference.eval()).requires_grad_(True)"}),
    ]  # fmt: skip


@check("reset_model_optimizer", points=0.5, section="9.7")
class ResetRefuses(Refuses):
    probe = "reset_refuses"

    def cases(self, rng):
        sizes = {**SIZES, "n_layer": 1}
        for learning_rate in (0.0, -1e-4):
            yield {"sizes": sizes, "weights": weights_of(rng, sizes), "learning_rate": learning_rate}

    def truth(self, **case):
        return super().truth("learning_rate")

    def judge(self, got, expected, **case):
        return super().judge(got, expected, "learning_rate")

    mistakes = [
        edit("no-learning", "A learning rate of 0 goes through: a run that learns nothing, and does not say so.",
             {'    require_positive("learning_rate", learning_rate)\n': ""}),
    ]  # fmt: skip


OWN = "            loop.own(advantages),\n"
GATHER = "advantages = everyone = loop.gather(rewards)  # (B of all processes,)"
BATCH = "advantages = everyone - batch_baseline(everyone)"
RLOO = "advantages = rloo_advantages(everyone, config.group_size)"
REPEATED = "rollout = loop.rollout(prompts.repeated(config.group_size))"


@check("train", points=3.5, section="9.8")
class TrainingReplay(Check):
    """Rollouts and rewards from a list, beside those of another process: the log and the weights after every update follow."""

    probe = "training_replay"
    tolerance = REPLAY

    def judge(self, got, expected, **case):
        found = super().judge(got, expected, **case)
        noisy = expected.get("scored with dropout")  # of a known mistake: what comes of it is random, but not that it is so
        return None if noisy and got.get("scored with dropout") else found

    def cases(self, rng):
        for lengths, updates, settings in (
            ([1, 1], 1, {"baseline": "none", "group_size": 1, "temperature": 1.0, "top_k": 0, "new_tokens": 2}),
            ([2, 3, 1], 2, {"baseline": "batch", "group_size": 1, "temperature": 0.7, "top_k": 0, "new_tokens": 3}),
            ([3, 2], 3, {"baseline": "rloo", "group_size": 3, "temperature": 1.0, "top_k": 0, "new_tokens": 3}),
            ([1, 2], 1, {"baseline": "batch", "group_size": 2, "temperature": 1.5, "top_k": 3, "new_tokens": 3}),
        ):
            weights = weights_of(rng)
            batches = [self.batch(rng, weights, lengths, settings) for _ in range(updates)]
            yield {"sizes": SIZES, "weights": weights, "batches": batches, "settings": settings, "learning_rate": 0.05,
                   "eos_token_id": EOS}  # fmt: skip

    def batch(self, rng, weights, lengths, settings):
        """One batch: prompts, what is written after them (drawn from the first weights), and rewards here and elsewhere."""
        from .reinforce_truth import written

        times = settings["group_size"]
        prompts, mask = prompts_of(rng, lengths)
        repeated = np.repeat(prompts, times, axis=0), np.repeat(mask, times, axis=0)
        drawn = settings["temperature"], settings["top_k"]
        tokens, attention = written(rng, SIZES, weights, *repeated, settings["new_tokens"], EOS, PAD, *drawn)
        rewards, others = rng.uniform(size=len(tokens)), rng.uniform(size=times if times > 1 else 2)
        return {"prompts": prompts, "prompt_mask": mask, "tokens": tokens, "attention_mask": attention, "rewards": rewards,
                "others": others}  # fmt: skip

    def truth(self, sizes, weights, batches, settings, learning_rate, eos_token_id):
        from .reinforce_truth import training

        log, path = training(sizes, weights, batches, settings, learning_rate, eos_token_id)
        return {"batches asked for": len(batches), "rollouts": len(batches), "prompts repeated as they should be": True,
                "scored with dropout": False, "rewards asked of the rollout": True, "updates": len(batches), "log": log,
                "weights after each update": path}  # fmt: skip

    mistakes = [
        edit("prompts-once", "The prompts are not repeated: every group needs `config.group_size` completions of one prompt.",
             {REPEATED: "rollout = loop.rollout(prompts)"}),
        edit("dropout-in-update", "The policy is left in training mode: dropout is on where tokens are scored, off where they "
             "were drawn. Call `loop.policy.eval()` first.", {"    loop.policy.eval()\n": ""}),
        edit("one-process-statistic", "The baseline is taken over this process's rows alone. With several processes each would "
             "have another one: `loop.gather` the rewards, and keep `loop.own` of what comes out.",
             {GATHER: "advantages = everyone = rewards", OWN: "            advantages,\n"}),
        edit("baseline-first", "The baseline has each row's own reward in it. Use `batch_baseline`, which leaves it out.",
             {BATCH: "advantages = everyone - everyone.mean()"}),
        edit("no-baseline", "`baseline = batch` has no effect: raw rewards reach the loss.", {BATCH: "advantages = everyone"}),
        edit("batch-for-group", "`baseline = rloo` compares with the whole batch. Compare within groups: `rloo_advantages`.",
             {RLOO: "advantages = everyone - batch_baseline(everyone)"}),
        edit("always-a-baseline", "With `baseline = none` the rewards themselves are the advantages.",
             {'if config.baseline == "batch":': 'if config.baseline != "rloo":'}),
        edit("no-attention-mask", "The rollout's attention mask does not reach the loss: padding is read, and scored.",
             {"            rollout.attention_mask,\n": "            None,\n"}),
        edit("sampler-is-not-scorer", "The temperature and top_k of the rollout do not reach the loss: another distribution is "
             "scored than was sampled.", {"            config.temperature,\n            config.top_k,\n": ""}),
        edit("flipped-sign", "The update goes the wrong way: rewarded completions become less likely.",
             {"        loop.update(loss)\n": "        loop.update(-loss)\n"}),
        edit("no-update", "The loop never updates the policy.", {"        loop.update(loss)\n": ""}),
        edit("advantage-logged", "The reward you log is the advantage, whose mean is about 0 for ever. Log the reward itself.",
             {"loop.log(reward=rewards.mean()": "loop.log(reward=loop.own(advantages).mean()"}),
        edit("one-update", "Only the first batch is learned from. Go through all the loop has.",
             {"**given.completion_metrics(rollout, log_probs, loop.eos_token_id))":
              "**given.completion_metrics(rollout, log_probs, loop.eos_token_id))\n        break"}),
    ]  # fmt: skip


@check("train", points=1.5, section="9.8")
class Learns(Check):
    """Two runs on an enumerable model that begins near the uniform one; the tests say how far the threshold lies from right "
    "runs."""

    probe = "trained_weights"
    sizes = {"vocab_size": 4, "n_positions": 6, "n_embd": 8, "n_layer": 1, "n_head": 2}

    def cases(self, rng):
        weights = np.stack([0.25 * weights_of(rng, self.sizes) for _ in range(2)])
        at_first = [[self.expected_reward(start, token) for start in weights] for token in range(4)]
        target = int(np.argmin([max(found) for found in at_first]))
        yield {"sizes": self.sizes, "weights": weights, "target": target, "steps": 40, "batch": 24, "learning_rate": 0.02,
               "settings": {"new_tokens": 3}, "seeds": rng.integers(2**31, size=2)}  # fmt: skip

    def truth(self, **case):
        return {"expected reward at least": 0.9}

    def judge(self, got, expected, weights, target, **case):
        ends = np.asarray(got["weights"], dtype=np.float64)
        sound = ends.shape == weights.shape and np.isfinite(ends).all()
        found = [self.expected_reward(end, target) for end in ends] if sound else []
        if found and all(value >= expected["expected reward at least"] for value in found):
            return None
        shown = ", ".join(map(number, found)) or "not to be had from these weights"
        least = expected["expected reward at least"]
        return f"`weights`: E[reward] is {shown} after training; REINFORCE is above {least} every time"

    def expected_reward(self, weights, target):
        """The mean share of tokens that are the target, over all 64 sequences. It stands in a student's copy too."""
        import torch

        from autograder.probes.full.reinforce import language_model
        from toy.given.enumerable import EnumerableLM

        listed = EnumerableLM(language_model(self.sizes, torch.as_tensor(weights)), self.sizes["vocab_size"], 3, prompt=[1])
        return listed.expected(listed.rewards(lambda said: said.count(target) / 3)).item()
