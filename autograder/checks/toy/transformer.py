"""Lesson 7: what is true of a language model.

The answers that take a network to work out are in `transformer_truth`, which is imported where a truth needs it and nowhere
else: it stays with the grader.
"""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference, number
from autograder.checks.verdicts import counts_agree

EXACT = 1e-10  # float64 throughout: products and softmaxes over at most 30 numbers of size 1 to 100 lose less than 1e-12
# expressions of the reference that the mistakes below put others in the place of
SEEN = "return keys > queries.unsqueeze(1)"
QKV = "self.qkv(x).view(batch, time, 3, self.heads, self.head_dim)"
HIDDEN = "hidden = causal_mask(time, past, x.device)"
PADDING = "hidden = hidden | ~mask[:, None, None, :]"
SCALE = "self.head_dim**-0.5"
FILL = "scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)"
WEIGHTS = "scores.softmax(dim=-1).masked_fill(hidden, 0.0)"
JOINED = ".transpose(1, 2).reshape(batch, time, dim)"
EXTEND = "k, v = cache.extend(k, v)"
ATTEND = "x = x + self.attention(self.norm_1(x), mask, cache)"
THINK = "return x + self.down(F.gelu(self.up(self.norm_2(x))))"
PLACES = "torch.arange(past, past + time, device=tokens.device)"
REAL_PLACES = "(mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]"
EMBED = "self.token(tokens) + self.position(positions)"
HEAD = "return self.norm(x) @ self.token.weight.T"
PREDICTED = "predicted = mask[:, 1:] & mask[:, :-1]"
ALIGNED = "log_probs = logits[:, :-1].log_softmax(dim=-1)"
TARGETS = "picked = log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)  # (B, T - 1)\n    return -picked"
MEAN = "return -picked[predicted].mean()"
LOSS = "next_token_loss(model(tokens, mask), tokens, mask)"
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), max_norm)"
SCALED = "scaled = logits / temperature"
KTH = "scaled.topk(top_k, dim=-1).values[..., -1:]"
TOP_K = "scaled = scaled.masked_fill(scaled < kth, -torch.inf)"
PROBS = "probs = ranked.softmax(dim=-1)"
LAST = "last = (before < top_p).sum(dim=-1, keepdim=True) - 1"
BEFORE = "before = probs.cumsum(dim=-1) - probs"
TOP_P = "scaled = scaled.masked_fill(scaled < ranked.gather(-1, last), -torch.inf)"
NORMALISED = "return scaled.log_softmax(dim=-1)"
SCORED = "log_probs = next_token_distribution(logits[:, :-1], temperature, top_k, top_p)"
UNSCORED = "picked.masked_fill(~sampled[:, 1:], 0.0)"


class RefusalCheck(Check):
    """Answers carry `refusal`: None, or the words of a ValueError, which must name the argument that the truth gives."""

    tolerance = EXACT

    def judge(self, got, expected, **case):
        wanted, came = expected["refusal"], got["refusal"]
        if wanted is None:
            return f"`refusal`: input that is right is refused: {came}" if came else self.compared(got, expected, **case)
        if came is None:
            return f"`refusal`: it went through; expected was a ValueError that names {wanted}"
        return None if wanted in came else f"`refusal`: expected a ValueError that names {wanted}, received: {came}"

    def compared(self, got, expected, **case):
        return difference(got, expected, self.tolerance)


# --- looking back ----------------------------------------------------------------------------------------------------


@check("causal_mask", points=1, section="7.2")
class LaterTokensHidden(RefusalCheck):
    probe = "hidden"

    def cases(self, rng):
        for time, past in ((3, 0), (1, 0), (2, 3), (1, 4), (int(rng.integers(4, 7)), int(rng.integers(5, 9))), (0, 0), (2, -1)):
            yield {"time": time, "past": past}

    def truth(self, time, past):
        if time < 1 or past < 0:
            return {"refusal": "time" if time < 1 else "past"}
        return {"refusal": None, "hidden": np.array([[j > past + i for j in range(past + time)] for i in range(time)])}

    mistakes = [
        edit("mask-inverted",
             "True stands where a token may look. In attention masks of this course True means hidden (lesson 1).",
             {SEEN: "return keys <= queries.unsqueeze(1)"}),
        edit("hides-itself",
             "A token does not see itself, so the first one sees nothing. Hidden is what comes strictly later: j > i, not j "
             ">= i.",
             {SEEN: "return keys >= queries.unsqueeze(1)"}),
        edit("looks-ahead",
             "It hides what came before. A token may look back, not ahead.",
             {SEEN: "return keys < queries.unsqueeze(1)"}),
        edit("positions-restart",
             "With a cache the first new token stands at place `past`, not at place 0: it sees everything in the cache.",
             {"queries = torch.arange(past, past + time, device=device)": "queries = torch.arange(time, device=device)"}),
        edit("cache-forgotten",
             "The keys of the cached tokens are missing: the mask has past + time columns.",
             {"keys = torch.arange(past + time, device=device)": "keys = torch.arange(past, past + time, device=device)"}),
    ]


class AttentionCheck(Check):
    probe = "attention"
    tolerance = EXACT

    def readable(self, **more):
        """Two tokens, 1 and 2, in one head of width 1 with all weights 1: scores x_i x_j."""
        weights = {"qkv.weight": np.ones((3, 1)), "out.weight": np.ones((1, 1))}
        case = {"heads": 1, "weights": weights, "x": np.array([[[1.0], [2.0]]]), "upstream": np.ones((1, 2, 1))}
        return {**case, **more}

    def drawn(self, rng, batch, time, dim, heads, loud=1.0, **more):
        weights = {"qkv.weight": loud * rng.normal(size=(3 * dim, dim)), "out.weight": rng.normal(size=(dim, dim))}
        inputs = {name: rng.normal(size=(batch, time, dim)) for name in ("x", "upstream")}
        return {"heads": heads, "weights": weights, **inputs, **more}

    def truth(self, heads, weights, x, upstream, mask=None, pieces=None):
        import torch

        from .transformer_truth import attend, gradients_of, leaves_of

        leaves = leaves_of({"x": x, **weights})
        output = attend(leaves["x"], leaves["qkv.weight"], leaves["out.weight"], heads, mask)
        answer = {"output": output, "dtype": "torch.float64", "mask_unchanged": True}
        if mask is None and pieces is None:
            answer["depends_on_later"] = np.zeros((x.shape[1], x.shape[1]), bool)
        return {**answer, "gradients": gradients_of((torch.from_numpy(upstream) * output).sum(), leaves)}


@check("CausalSelfAttention", points=3, section="7.3")
class LooksBack(AttentionCheck):
    def cases(self, rng):
        yield self.readable()
        yield self.drawn(rng, batch=2, time=4, dim=6, heads=3)
        yield self.drawn(rng, batch=3, time=5, dim=4, heads=2)
        yield self.drawn(rng, batch=2, time=3, dim=6, heads=2, loud=20.0)  # scores in the hundreds

    mistakes = [
        edit("not-causal",
             "Every token looks at later ones too: during training it reads the answer it is asked for.",
             {HIDDEN: "hidden = torch.zeros(time, past + time, dtype=torch.bool)"}),
        edit("mask-inverted",
             "Tokens look ahead and not back. True in the mask means hidden.",
             {HIDDEN: "hidden = ~causal_mask(time, past)"}),
        edit("mask-after-softmax",
             "Later tokens lose their weight only after the softmax: the rows no longer sum to 1, and what later tokens say "
             "leaks through the denominator.",
             {FILL: "pass"}),
        edit("mask-too-weak",
             "A modest penalty does not hide a key whose score is large. Fill with the dtype's minimum, or -inf.",
             {FILL: "scores = scores - 100.0 * hidden", WEIGHTS: "scores.softmax(dim=-1)"}),
        edit("missing-scale", "The scores are not scaled: they need the factor 1 / sqrt(head_dim).", {SCALE: "1.0"}),
        edit("scale-of-model-width",
             "You scaled by the width of the whole layer. A score is a sum of head_dim products.",
             {SCALE: "dim**-0.5"}),
        edit("softmax-over-queries",
             "The softmax ran over the queries: columns sum to 1. It runs over the keys, the last axis.",
             {WEIGHTS: "scores.softmax(dim=-2).masked_fill(hidden, 0.0)"}),
        edit("heads-interleaved",
             "You dealt the features to the heads like cards. A head owns head_dim neighbours: view(..., heads, head_dim).",
             {QKV: "self.qkv(x).view(batch, time, 3, self.head_dim, self.heads).transpose(-1, -2)"}),
        edit("qkv-inside-heads",
             "You took queries, keys and values head by head. `qkv.weight` has all queries first, then all keys, all values.",
             {QKV: "self.qkv(x).view(batch, time, self.heads, 3, self.head_dim).transpose(2, 3)"}),
        edit("heads-not-moved-back",
             "The heads were joined before their axis was moved behind the tokens: features of other tokens, earlier and "
             "later ones.",
             {JOINED: ".reshape(batch, time, dim)"}),
        edit("out-forgotten", "The heads' outputs are not mixed: `self.out` is missing.", {"self.out(joined)": "joined"}),
        edit("cut-graph",
             "The output is right, but the attention weights pass no gradient on: queries and keys never learn.",
             {WEIGHTS: WEIGHTS + ".detach()"}),
    ]


def padded(left, right):
    """A mask with these numbers of padding tokens on each side of the rows, True on real tokens; the time of all rows is 5."""
    mask = np.ones((len(left), 5), bool)
    for row, before, after in zip(mask, left, right):
        row[:before] = row[len(row) - after :] = False
    return mask


@check("CausalSelfAttention", points=1, section="7.6")
class IgnoresPadding(AttentionCheck):
    def cases(self, rng):
        yield self.readable(mask=np.array([[False, True]]))
        yield self.drawn(rng, batch=2, time=5, dim=6, heads=3, mask=padded([0, 2], [0, 0]))
        yield self.drawn(rng, batch=3, time=5, dim=4, heads=2, mask=padded([1, 0, 0], [0, 2, 4]))

    mistakes = [
        edit("padding-attended",
             "Padding is looked at like any other token: the mask has no effect. Hide its keys from every query.",
             {PADDING: "pass"}),
        edit("mask-inverted",
             "Real tokens are hidden and padding is looked at: here True means real.",
             {PADDING: PADDING.replace("~", "")}),
        edit("padding-replaces-causal",
             "The padding mask took the place of the causal one, so later tokens are seen again. A key is hidden if either "
             "hides it.",
             {PADDING: "hidden = (~mask[:, None, None, :]).expand(batch, 1, time, past + time)"}),
        edit("hides-the-query",
             "You hid the rows of padded queries. What padding must not be is a key: hide the columns.",
             {PADDING: "hidden = hidden | ~mask[:, None, past:, None]"}),
        edit("nan-row",
             "Padding on the left sees no key at all, and a softmax over -inf alone is NaN, which spreads to every weight's "
             "gradient. Fill with the smallest finite number, and set hidden weights to 0 after the softmax.",
             {FILL: "scores = scores.masked_fill(hidden, -torch.inf)", WEIGHTS: "scores.softmax(dim=-1)"}),
        edit("uniform-row",
             "A query that sees nothing looks at all keys alike, since equal scores, however low, get equal weights. Set "
             "hidden weights to 0 after the softmax.",
             {WEIGHTS: "scores.softmax(dim=-1)"}),
        edit("in-place",
             "The caller's mask was changed. Use `~mask` and `|`, not `logical_not_()` or `|=`.",
             {PADDING: "hidden = hidden | mask.logical_not_()[:, None, None, :]"}),
    ]


@check("CausalSelfAttention", points=1, section="7.11")
class CachedAttention(AttentionCheck):
    def cases(self, rng):
        yield self.readable(pieces=[1, 1])
        yield self.drawn(rng, batch=2, time=5, dim=6, heads=3, pieces=[2, 1, 2])
        yield self.drawn(rng, batch=2, time=5, dim=4, heads=2, pieces=[2, 3], mask=padded([0, 1], [0, 0]))

    mistakes = [
        edit("cache-unused",
             "New tokens see each other only: what is in the cache never joins the keys and values.",
             {EXTEND: "pass"}),
        edit("values-forgotten",
             "The cached keys carry the new tokens' weights, but the values of old tokens are missing or wrong.",
             {EXTEND: "k, _ = cache.extend(k, v); v = torch.cat([torch.zeros_like(k[:, :, :past]), v], dim=2)"}),
        edit("extends-twice",
             "The cache was extended twice, so every new token is in it two times.",
             {EXTEND: "k, v = cache.extend(k, v); cache.extend(k[:, :, past:], v[:, :, past:])"}),
        edit("keys-and-values-exchanged",
             "`extend` takes keys and then values, and returns them in that order.",
             {EXTEND: "v, k = cache.extend(k, v)"}),
    ]


# --- blocks and the model --------------------------------------------------------------------------------------------


def block_weights(rng, dim):
    matrices = {"attention.qkv.weight": (3 * dim, dim), "attention.out.weight": (dim, dim)}
    matrices |= {"up.weight": (4 * dim, dim), "up.bias": (4 * dim,), "down.weight": (dim, 4 * dim), "down.bias": (dim,)}
    drawn = {
        f"norm_{i}.{part}": rng.normal(loc=part == "weight", scale=0.5, size=dim) for i in (1, 2) for part in ("weight", "bias")
    }
    return drawn | {name: 0.7 * rng.normal(size=shape) for name, shape in matrices.items()}


def shapes_of(weights):
    return {name: list(value.shape) for name, value in weights.items()}


@check("Block", points=3, section="7.4")
class ResidualStream(Check):
    probe = "block"
    tolerance = EXACT

    def cases(self, rng):
        for batch, time, dim, heads, more in (
            (1, 2, 2, 1, {}),
            (2, 3, 4, 2, {}),
            (2, 5, 4, 2, {"mask": padded([0, 2], [0, 0])}),
            (1, 3, 4, 2, {"pieces": [2, 1]}),
        ):
            inputs = {name: rng.normal(size=(batch, time, dim)) for name in ("x", "upstream")}
            yield {"dim": dim, "heads": heads, "weights": block_weights(rng, dim), **inputs, **more}

    def truth(self, dim, heads, weights, x, upstream, mask=None, pieces=None):
        import torch

        from .transformer_truth import gradients_of, leaves_of, run_block

        leaves = leaves_of({"x": x, **weights})
        output = run_block(leaves["x"], leaves, "", heads, mask)
        gradients = gradients_of((torch.from_numpy(upstream) * output).sum(), leaves)
        return {"parameters": shapes_of(weights), "output": output, "gradients": gradients}

    mistakes = [
        edit("post-norm",
             "The norm comes after the sum (post-norm, as in the first transformer). Here it stands in front of attention and "
             "network, and nothing stands in the residual stream itself.",
             {ATTEND: "x = self.norm_1(x + self.attention(x, mask, cache))",
              THINK: "return self.norm_2(x + self.down(F.gelu(self.up(x))))"}),
        edit("no-residual",
             "What attention found replaces x. It is added to x: the stream goes on, each part writes into it.",
             {ATTEND: "x = self.attention(self.norm_1(x), mask, cache)"}),
        edit("second-residual-forgotten",
             "The network's output replaces x. It is added to x.",
             {THINK: THINK.replace("x + ", "", 1)}),
        edit("parallel-block",
             "The network reads the block's input. It reads what attention has written: x with its output added.",
             {ATTEND: "before = x; " + ATTEND, THINK: THINK.replace("self.norm_2(x)", "self.norm_2(before)")}),
        edit("norm-in-the-stream",
             "The normed vectors are what the output is added to. The stream keeps x itself; only attention reads the normed "
             "one.",
             {ATTEND: "x = self.norm_1(x); x = x + self.attention(x, mask, cache)"}),
        edit("one-norm-for-both",
             "Both parts use `norm_1`; the network has a norm of its own, `norm_2`.",
             {THINK: THINK.replace("norm_2", "norm_1")}),
        edit("norm-forgotten", "The network reads x without a norm.", {THINK: THINK.replace("self.norm_2(x)", "x")}),
        edit("relu-for-gelu", "This is relu. Asked for is gelu, x Phi(x).", {THINK: THINK.replace("F.gelu", "torch.relu")}),
        edit("gelu-tanh",
             "This is gelu's approximation by a tanh, up to 0.0005 away. Asked for is the exact one, `F.gelu`'s default.",
             {THINK: THINK.replace("self.norm_2(x))", 'self.norm_2(x)), approximate="tanh"')}),
        edit("mask-not-passed-on",
             "The attention does not get `mask`: padding is looked at.",
             {ATTEND: ATTEND.replace("mask, cache", "None, cache")}),
        edit("cache-not-passed-on",
             "The attention does not get `cache`: new tokens see each other only.",
             {ATTEND: ATTEND.replace("mask, cache", "mask")}),
    ]


def gpt_weights(rng, vocabulary, context, dim, heads, layers):
    weights = {"token.weight": rng.normal(size=(vocabulary, dim)), "position.weight": rng.normal(size=(context, dim))}
    for layer in range(layers):
        weights |= {f"blocks.{layer}.{name}": value for name, value in block_weights(rng, dim).items()}
    return weights | {"norm.weight": rng.normal(loc=1, scale=0.5, size=dim), "norm.bias": rng.normal(scale=0.5, size=dim)}


class GPTCheck(RefusalCheck):
    probe = "tiny_gpt"

    def drawn(self, rng, batch, time, mask=None, pieces=None, tokens=None, **sizes):
        sizes = {"vocabulary": 5, "context": 6, "dim": 4, "heads": 2, "layers": 1} | sizes
        real = batch * time if mask is None else int(mask.sum())
        drawn = rng.integers(sizes["vocabulary"], size=(batch, time))
        case = {"sizes": sizes, "weights": gpt_weights(rng, **sizes), "tokens": drawn if tokens is None else tokens}
        case["upstream"] = rng.normal(size=(real, sizes["vocabulary"]))
        return case | ({} if mask is None else {"mask": mask}) | ({} if pieces is None else {"pieces": pieces})

    def truth(self, sizes, weights, tokens, upstream, mask=None, pieces=None):
        import torch

        from .transformer_truth import gradients_of, leaves_of, run_gpt

        culprit = self.culprit(sizes, tokens, mask)
        if culprit:
            return {"refusal": culprit}
        leaves = leaves_of(weights)
        logits = run_gpt(tokens, leaves, sizes, np.ones(tokens.shape, bool) if mask is None else mask)
        answer = {"refusal": None, "parameters": shapes_of(weights), "logits": logits, "dtype": "torch.float64"}
        answer |= {"finite": True, "mask_unchanged": True}
        if mask is None and pieces is None:
            answer["depends_on_later"] = np.zeros((tokens.shape[1], tokens.shape[1]), bool)
        return answer | {"gradients": gradients_of((torch.from_numpy(upstream) * logits).sum(), leaves)}

    @staticmethod
    def culprit(sizes, tokens, mask):
        if tokens.max() >= sizes["vocabulary"] or tokens.shape[1] > sizes["context"]:
            return "tokens"
        return "mask" if mask is not None and not mask.any(axis=1).all() else None


@check("TinyGPT", points=2, section="7.5")
class Logits(GPTCheck):
    def cases(self, rng):
        yield self.drawn(rng, 1, 2, dim=2, heads=1)
        yield self.drawn(rng, 2, 3)
        yield self.drawn(rng, 3, 4, vocabulary=7, context=5, layers=2)
        yield self.drawn(rng, 1, 2, tokens=np.array([[0, 9]]))  # to be refused
        yield self.drawn(rng, 1, 7)

    mistakes = [
        edit("no-positions",
             "Position vectors are missing: the model cannot tell the order of what it sees.",
             {EMBED: "self.token(tokens)"}),
        edit("one-position-for-all",
             "All tokens got the same position vector. Position t is for the token at place t.",
             {PLACES: "torch.full((time,), past)"}),
        edit("position-of-the-batch",
             "Positions run along the batch. They run along time and are the same in every row.",
             {PLACES: "torch.arange(len(tokens)).unsqueeze(1)"}),
        edit("no-final-norm",
             "The last norm is missing: what the blocks have written goes to the head as it is.",
             {HEAD: "return x @ self.token.weight.T"}),
        edit("softmax-in-forward",
             "These are probabilities or their logarithms. The model gives logits; normalising them is the loss's business.",
             {HEAD: "return (self.norm(x) @ self.token.weight.T).log_softmax(-1)"}),
        edit("untied-head",
             "There is a matrix of its own for the output. The logits are inner products with the rows of `token.weight`.",
             {"self.norm = nn.LayerNorm(dim)\n":
              "self.norm = nn.LayerNorm(dim); self.head = nn.Linear(dim, vocabulary, bias=False)\n",
              HEAD: "return self.head(self.norm(x))"}),
        edit("first-block-only",
             "One block is used for all layers. Each layer has a block of its own.",
             {"x = block(x, mask,": "x = self.blocks[0](x, mask,"}),
        edit("blocks-skipped",
             "Only the last block's output is kept: each block reads what the one before it wrote.",
             {"x = block(x, mask, None if cache is None else cache[layer])": "y = block(x, mask)",
              HEAD: HEAD.replace("(x)", "(y)")}),
        edit("list-of-blocks",
             "The blocks are in a plain list, so the model does not know their parameters: no optimizer would train them. "
             "`nn.ModuleList` registers them.",
             {"nn.ModuleList(Block(dim, heads) for _ in range(layers))": "[Block(dim, heads).double() for _ in range(layers)]"}),
        edit("cut-graph",
             "The logits are right, but no gradient comes back through the blocks: something in between is detached.",
             {"x = block(x, mask, None if cache is None else cache[layer])": "x = block(x, mask).detach()"}),
    ]


@check("TinyGPT", points=2, section="7.6")
class PaddedRows(GPTCheck):
    def cases(self, rng):
        yield self.drawn(rng, 1, 3, mask=np.array([[False, True, True]]), dim=2, heads=1)
        yield self.drawn(rng, 2, 5, mask=padded([0, 2], [0, 0]))
        yield self.drawn(rng, 3, 5, mask=padded([1, 0, 0], [0, 3, 0]), layers=2)
        yield self.drawn(rng, 2, 5, mask=padded([0, 5], [0, 0]))  # to be refused: a row without a token

    mistakes = [
        edit("no-position-ids",
             "Padding on the left moves the positions: the first real token of a row stands at position 0 however much "
             "padding is before it. Count the real tokens.",
             {REAL_PLACES: "torch.arange(past, past + time).expand(len(tokens), -1)"}),
        edit("positions-from-one",
             "The first real token got position 1. The position of a token is the number of real tokens *before* it.",
             {REAL_PLACES: "mask.cumsum(dim=1)[:, past:]"}),
        edit("padding-attended",
             "The blocks do not get the mask: padding is looked at like any other token.",
             {"x = block(x, mask,": "x = block(x, None,"}),
    ]


@check("TinyGPT", points=1, section="7.11")
class CachedLogits(GPTCheck):
    def cases(self, rng):
        yield self.drawn(rng, 1, 2, pieces=[1, 1], dim=2, heads=1)
        yield self.drawn(rng, 2, 5, pieces=[2, 1, 2], layers=2)
        yield self.drawn(rng, 2, 5, pieces=[3, 1, 1], mask=padded([2, 0], [0, 0]))

    mistakes = [
        edit("positions-restart",
             "With a cache the positions start at 0 again with each call. They go on where the cache stops: past, past + 1, "
             "...",
             {PLACES: "torch.arange(time, device=tokens.device)",
              REAL_PLACES: "(mask[:, past:].cumsum(dim=1) - 1).clamp(min=0)"}),
        edit("no-position-ids",
             "With padding on the left and a cache the new token's position counts padding. Count the real tokens before it.",
             {REAL_PLACES: "torch.arange(past, past + time).expand(len(tokens), -1)"}),
        edit("cache-unused",
             "The blocks do not get their entry of the cache, so new tokens see each other only.",
             {"None if cache is None else cache[layer]": "None"}),
        edit("one-cache-for-all",
             "All blocks share one entry of the cache and read each other's keys. Block i has cache[i].",
             {"else cache[layer]": "else cache[0]"}),
    ]


# --- loss and training -----------------------------------------------------------------------------------------------


def sentences_of(table, eos, pad):
    """All sentences of a table of logits (prefixes, vocabulary): tokens with a start token, mask and logits, padded right."""
    import torch

    language = language_of(table, eos)
    tokens = torch.cat([torch.zeros(len(language), 1, dtype=torch.long), language.sequences], dim=1)
    with torch.no_grad():
        logits = language.model(tokens).numpy()
    mask = np.concatenate([np.ones((len(language), 1), bool), language.mask.numpy()], axis=1)
    return np.where(mask, tokens.numpy(), pad), mask, logits


def language_of(table, eos):
    """The ruler around a table of logits, (prefixes, vocabulary)."""
    import torch

    from toy.given.enumerable import EnumerableLM

    vocabulary = table.shape[1]
    length = {1: 1, 1 + vocabulary: 2, 1 + vocabulary + vocabulary**2: 3}[len(table)]
    language = EnumerableLM.tabular(vocabulary, length, eos=eos)
    with torch.no_grad():
        language.model.logits[0] = torch.from_numpy(table)
    return language


def moved_left(values, mask, fill):
    """Each row's real entries pushed to the right end, `fill` in front of them."""
    moved = np.full_like(values, fill)
    for row, old, real in zip(moved, values, mask):
        row[len(row) - real.sum() :] = old[real]
    return moved


@check("next_token_loss", points=4, section="7.7")
class NextToken(RefusalCheck):
    """The truth of the third and fourth case is the ruler's: log-probabilities of whole sentences, which sum to 1."""

    probe = "loss_and_gradient"

    def cases(self, rng):
        ones = np.ones((1, 2), bool)
        yield {"logits": np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]), "tokens": np.array([[0, 1]]), "mask": ones}
        tokens = rng.integers(4, size=(2, 5))
        yield {"logits": rng.normal(size=(2, 5, 4)), "tokens": tokens, "mask": np.ones((2, 5), bool)}
        table = rng.normal(scale=1.5, size=(13, 3))
        tokens, mask, logits = sentences_of(table, eos=1, pad=2)
        yield {"logits": logits, "tokens": tokens, "mask": mask, "table": table}
        left = {"tokens": moved_left(tokens, mask, 2), "mask": moved_left(mask, mask, False)}
        yield {"logits": moved_left(logits, mask, 0.5), **left, "table": table}
        far = np.array([[[200.0, -200.0, 0.0], [0.0, 0.0, 0.0]]], dtype=np.float32)
        yield {"logits": far, "tokens": np.array([[0, 1]]), "mask": ones}
        yield {"logits": np.zeros((2, 3, 4)), "tokens": np.zeros((2, 3), int), "mask": np.array([[True, False, True]] * 2)}
        yield {"logits": np.zeros((2, 2, 4)), "tokens": np.zeros((2, 3), int), "mask": np.ones((2, 3), bool)}

    def truth(self, logits, tokens, mask, table=None):
        from .transformer_truth import softmax

        if logits.shape[:2] != tokens.shape:
            return {"refusal": "logits"}
        places = [(b, t) for b, t in np.ndindex(tokens.shape) if t > 0 and mask[b, t] and mask[b, t - 1]]
        if not places:
            return {"refusal": "mask"}
        total, wide = 0.0, logits.astype(np.float64)
        gradient = np.zeros(wide.shape)
        for b, t in places:
            before = wide[b, t - 1]
            total -= before[tokens[b, t]] - before.max() - np.log(np.exp(before - before.max()).sum())
            gradient[b, t - 1] += (softmax(before) - np.eye(len(before))[tokens[b, t]]) / len(places)
        if table is not None:
            language = language_of(table, eos=1)
            total = -float(language.log_probs().detach().sum())
        dtype = f"torch.{logits.dtype}"
        return {"refusal": None, "loss": total / len(places), "dtype": dtype, "gradient": gradient}

    mistakes = [
        edit("unshifted-log-probs",
             "Each token is scored by its own logits. logits[:, t] speak of the token *after* tokens[:, t]: pair logits[:, "
             ":-1] with tokens[:, 1:].",
             {ALIGNED: "log_probs = logits[:, 1:].log_softmax(dim=-1)"}),
        edit("shifted-backwards",
             "The shift goes the wrong way: here logits are scored against the token two places back or the one just read.",
             {TARGETS: TARGETS.replace("tokens[:, 1:]", "tokens[:, :-1]")}),
        edit("padding-scored",
             "The mean runs over padding too. Only real tokens are predicted, and only their number divides.",
             {MEAN: "return -picked.mean()"}),
        edit("padding-divides",
             "Padding adds nothing to the sum but counts in the number it is divided by: the loss shrinks when padding is "
             "added.",
             {MEAN: "return -(picked * predicted).mean()"}),
        edit("dropped-token",
             "The last token of each row, which ends the sentence, is not scored: the mask was shifted the wrong way.",
             {PREDICTED: "predicted = mask[:, 1:] & mask[:, :-1] & torch.nn.functional.pad(mask[:, 2:], (0, 1))"}),
        edit("padding-predicts",
             "With padding on the left the first real token was scored by the logits of padding. A token is predicted only if "
             "the token before it is real as well.",
             {PREDICTED: "predicted = mask[:, 1:]"}),
        edit("predicts-padding",
             "The padding after a sentence's end was scored as if it were a token: the mask that counts is that of the "
             "*targets*.",
             {PREDICTED: "predicted = mask[:, :-1]"}),
        edit("mean-of-means",
             "Each row's mean was taken first. All predicted tokens of the batch count alike, so long rows count more.",
             {MEAN: "return -((picked * predicted).sum(1) / predicted.sum(1)).mean()"}),
        edit("sum-for-mean",
             "This is the sum. Divided by the number of predicted tokens it does not depend on the size of the batch.",
             {MEAN: "return -picked[predicted].sum()"}),
        edit("raw-logits-as-log-probs",
             "A logit is not a log-probability: log_softmax over the vocabulary comes first.",
             {ALIGNED: "log_probs = logits[:, :-1]"}),
        edit("softmax-over-time",
             "The softmax runs over the tokens of the sentence. It runs over the vocabulary, the last axis.",
             {ALIGNED: "log_probs = logits[:, :-1].log_softmax(dim=1)"}),
        edit("log-of-softmax",
             "The logarithm of a softmax is -inf where the softmax is too small for a float. `log_softmax` never takes that "
             "detour.",
             {ALIGNED: "log_probs = logits[:, :-1].softmax(dim=-1).log()"}),
        edit("flipped-sign",
             "The sign is turned: this loss falls when the text becomes *less* probable.",
             {MEAN: MEAN.replace("-", "")}),
    ]


class TrainingCheck(Check):
    tolerance = 1e-5  # `clip_grad_norm_` adds 1e-6 to the norm it divides by


@check("pretrain", points=3, section="7.8")
class TrainingReplay(TrainingCheck):
    """On a model that is two tables every step of gradient descent can be worked out by hand."""

    probe = "training_replay"

    def cases(self, rng):
        one = {"tokens": np.array([[0, 1]]), "mask": np.ones((1, 2), bool)}
        yield self.case(rng, [one], None, 100.0)
        yield self.case(rng, [self.batch(rng, [0, 2]) for _ in range(3)], None, 100.0)
        yield self.case(rng, [self.batch(rng, [0, 0]) for _ in range(4)], rng.uniform(0.5, 2.0, size=4), 0.3)
        right = {"tokens": rng.integers(4, size=(2, 5)), "mask": padded([0, 0], [0, 3])}
        yield self.case(rng, [right, self.batch(rng, [1, 2])], np.array([1.0, 0.25]), 0.05)

    @staticmethod
    def batch(rng, left):
        return {"tokens": rng.integers(4, size=(len(left), 5)), "mask": padded(left, [0] * len(left))}

    @staticmethod
    def case(rng, batches, rates, max_norm):
        tables = {"by_token": rng.normal(size=(4, 4)), "by_position": rng.normal(size=(5, 4))}
        return {**tables, "batches": batches, "rates": rates, "optimizer_rate": 0.5, "max_norm": max_norm}

    def truth(self, by_token, by_position, batches, rates, optimizer_rate, max_norm):
        tables, losses, path = np.concatenate([by_token, by_position]), [], []
        for step, batch in enumerate(batches):
            loss, gradient = self.loss_of(tables, batch["tokens"], batch["mask"])
            size = np.sqrt((gradient**2).sum())
            rate = optimizer_rate if rates is None else rates[step]
            tables = tables - rate * gradient * min(1.0, max_norm / size)
            losses.append(loss)
            path.append(tables)
        answer = {"losses": np.array(losses), "dtype": "torch.float64", "graph": False}
        return answer | {"after_step_called_with": list(range(len(batches))), "tables_after_each_step": np.array(path)}

    @staticmethod
    def loss_of(tables, tokens, mask):
        from .transformer_truth import softmax

        pairs = []
        for row, real in zip(tokens, mask):
            words = row[real]
            pairs += [(before, 4 + place, after) for place, (before, after) in enumerate(zip(words, words[1:]))]
        loss, gradient = 0.0, np.zeros_like(tables)
        for before, place, after in pairs:
            probs = softmax(tables[before] + tables[place])
            loss -= np.log(probs[after]) / len(pairs)
            for row in (before, place):
                gradient[row] += (probs - np.eye(4)[after]) / len(pairs)
        return loss, gradient

    mistakes = [
        edit("gradients-pile-up",
             "The gradients of earlier batches are still there when the next is added: `optimizer.zero_grad()` before "
             "`backward`.",
             {"        optimizer.zero_grad()\n": ""}),
        edit("never-clipped",
             "A gradient with a norm above `max_norm` was used as it is: it has to be clipped after `backward` and before the "
             "step.",
             {CLIP: "pass"}),
        edit("clips-each-value",
             "Each entry of the gradient was clipped by itself, which turns its direction. Asked for is the norm of the whole.",
             {CLIP: CLIP.replace("norm_", "value_")}),
        edit("mask-not-passed",
             "The model does not get the mask: with padding on the left its positions are wrong.",
             {LOSS: "next_token_loss(model(tokens), tokens, mask)"}),
        edit("rate-of-the-next-step",
             "The learning rate is that of the step after: the first step is step 0.",
             {"learning_rate(step)": "learning_rate(min(step + 1, 3))"}),
        edit("rate-ignored",
             "`learning_rate` has no effect: the optimizer keeps the rate it was made with.",
             {"if learning_rate is not None:": "if False:"}),
        edit("step-forgotten",
             "The optimizer never takes a step: losses come and the weights stay.",
             {"        optimizer.step()\n": ""}),
        edit("padding-scored",
             "The loss was taken over padding too: hand `mask` to `next_token_loss`.",
             {LOSS: "next_token_loss(model(tokens, mask), tokens, torch.ones_like(mask))"}),
    ]


@check("pretrain", points=1, section="7.8")
class ReachesTheFloor(Check):
    """A cycle of four words that stumbles with probability 1/10. The grader computes the expected loss of what comes back."""

    probe = "trained_tables"
    seconds = 30  # a loss written with loops takes 2 s of a free processor

    def cases(self, rng):
        chain, batches = self.chain(), []
        for _ in range(40):
            words = [rng.integers(4, size=20)]
            for _ in range(4):
                words.append((rng.random((20, 1)) > chain[words[-1]].cumsum(axis=1)).sum(axis=1))
            batches.append(np.stack(words, axis=1))
        yield {"batches": batches, "learning_rate": 0.3}

    @staticmethod
    def chain():
        """After word w comes w + 1 with probability 0.9, each of the others, w included, with 1/30."""
        return np.full((4, 4), 1 / 30) + (0.9 - 1 / 30) * np.roll(np.eye(4), 1, axis=1)

    def truth(self, batches, learning_rate):
        return {"at_most": 0.6}  # the entropy rate is 0.435 nats, untrained tables have ln 4 = 1.386 (see the tests)

    def judge(self, got, expected, **case):
        by_token, by_position = (np.asarray(got[name], dtype=np.float64) for name in ("by_token", "by_position"))
        if by_token.shape != (4, 4) or by_position.shape != (5, 4):
            return f"`by_token`: expected the tables that were trained, received shapes {by_token.shape}, {by_position.shape}"
        logits = by_token[None] + by_position[:4, None]  # (position, word, next word)
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        loss = -float((self.chain() * log_probs).sum(axis=-1).mean())  # every word is equally frequent at every position
        if loss <= expected["at_most"]:
            return None
        return f"the expected loss after training is {number(loss)} nats; a model that learns is below {expected['at_most']}"


# --- sampling and scoring --------------------------------------------------------------------------------------------


class SamplingCheck(RefusalCheck):
    @staticmethod
    def culprit(temperature, top_k, top_p):
        bad = {"temperature": not 0 < temperature < np.inf, "top_k": top_k is not None and top_k < 1}
        bad["top_p"] = top_p is not None and not 0 < top_p <= 1
        return next((name for name, wrong in bad.items() if wrong), None)


class DistributionCheck(SamplingCheck):
    probe = "distribution"

    def case(self, rng, logits, temperature=1.0, top_k=None, top_p=None):
        logits = np.asarray(logits)
        upstream = rng.normal(size=logits.shape).astype(logits.dtype)
        return {"logits": logits, "upstream": upstream, "temperature": temperature, "top_k": top_k, "top_p": top_p}

    def truth(self, logits, upstream, temperature, top_k, top_p):
        from .transformer_truth import log_distribution

        culprit = self.culprit(temperature, top_k, top_p)
        if culprit:
            return {"refusal": culprit}
        log_probs = log_distribution(logits, temperature, top_k, top_p)
        weight = np.where(np.isfinite(log_probs), upstream, 0.0)
        gradient = (weight - np.exp(log_probs) * weight.sum(axis=-1, keepdims=True)) / temperature
        answer = {"refusal": None, "log_probs": log_probs, "dtype": f"torch.{logits.dtype}"}
        return answer | {"gradient": gradient, "logits_unchanged": True}


@check("next_token_distribution", points=1, section="7.9")
class Temperature(DistributionCheck):
    def cases(self, rng):
        yield self.case(rng, np.log([0.64, 0.16, 0.16, 0.04]), 2.0)
        yield self.case(rng, np.log([0.5, 0.25, 0.25]), 1.0)
        yield self.case(rng, rng.normal(size=(2, 3, 5)), 0.6)
        yield self.case(rng, np.array([[200.0, -200.0, 0.0]]), 0.5)
        for temperature in (0.0, -1.0, float("inf")):
            yield self.case(rng, rng.normal(size=(2, 4)), temperature)

    mistakes = [
        edit("temperature-multiplies",
             "The logits are multiplied by the temperature. They are divided by it: a high one makes the distribution flat.",
             {SCALED: "scaled = logits * temperature"}),
        edit("temperature-after-softmax",
             "The log-probabilities are divided after normalising, so their exponentials no longer sum to 1. Divide the "
             "logits first.",
             {SCALED: "scaled = logits", NORMALISED: "return scaled.log_softmax(dim=-1) / temperature"}),
        edit("temperature-ignored", "The temperature has no effect.", {SCALED: "scaled = logits * 1.0"}),
        edit("not-logarithms",
             "These are probabilities. Asked for are their logarithms.",
             {NORMALISED: "return scaled.softmax(dim=-1)"}),
        edit("raw-logits-as-log-probs",
             "The logits were not normalised: the exponentials of a row have to sum to 1.",
             {NORMALISED: "return scaled"}),
        edit("wrong-axis",
             "The softmax runs over the wrong axis: each row over the vocabulary, the last axis, sums to 1.",
             {NORMALISED: "return scaled.log_softmax(dim=0)"}),
        edit("log-of-softmax",
             "log(softmax) is -inf where the softmax underflows. `log_softmax` is exact there.",
             {NORMALISED: "return scaled.softmax(dim=-1).log()"}),
        edit("in-place",
             "The caller's logits were changed (`logits /= temperature`).",
             {SCALED: "scaled = logits; scaled.data /= temperature"}),
    ]


@check("next_token_distribution", points=2, section="7.9")
class TopK(DistributionCheck):
    def cases(self, rng):
        yield self.case(rng, np.log([0.4, 0.1, 0.3, 0.2]), top_k=2)
        yield self.case(
            rng, np.array([[2.0, 1.0, 0.0, -1.0], [-3.0, 5.0, 4.5, 3.0], [0.0, 0.1, 0.2, 0.3]]), top_k=2
        )  # rows differ
        yield self.case(rng, np.array([[1.0, 3.0, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0, 2.0]]), top_k=2)  # ties stay
        yield self.case(rng, rng.normal(size=(2, 3, 6)), 0.7, top_k=3)
        yield self.case(rng, rng.normal(size=(2, 4)), top_k=1)
        yield self.case(rng, rng.normal(size=(2, 4)), top_k=4)
        yield self.case(rng, rng.normal(size=(2, 4)), top_k=50)
        yield self.case(rng, rng.normal(size=(3, 4)).astype(np.float32).astype(np.float64), 2.0, top_k=2)
        for top_k in (0, -3):
            yield self.case(rng, rng.normal(size=(2, 4)), top_k=top_k)

    mistakes = [
        edit("topk-batch",
             "The threshold of one row was used for all. Each row has its own k-th largest logit.",
             {KTH: "scaled.reshape(-1, scaled.shape[-1])[0].topk(top_k).values[-1]"}),
        edit("ties-cut",
             "Of tokens with equal logits some went and some stayed, by their place in the vocabulary. All that equal the "
             "k-th largest stay.",
             {TOP_K: "keep = scaled.topk(top_k, dim=-1).indices; gone = torch.full_like(scaled, -torch.inf); "
                     "scaled = gone.scatter(-1, keep, scaled.gather(-1, keep))"}),
        edit("kth-cut-too",
             "The k-th largest went as well: what equals the threshold stays (`<`, not `<=`).",
             {TOP_K: TOP_K.replace("<", "<=")}),
        edit("not-normalised-again",
             "The tokens that stay keep their old probabilities, which sum to less than 1. Normalise after cutting.",
             {SCALED: "scaled = (logits / temperature).log_softmax(dim=-1)", NORMALISED: "return scaled"}),
        edit("zero-logit",
             "The logits of tokens that went were set to 0, and exp(0) = 1 is a weight like any other. Set them to -inf.",
             {TOP_K: TOP_K.replace("-torch.inf", "0.0")}),
        edit("top-k-ignored", "`top_k` has no effect.", {TOP_K: "pass"}),
        edit("keeps-the-smallest",
             "The k least probable tokens stayed.",
             {KTH: "scaled.topk(top_k, dim=-1, largest=False).values[..., -1:]", TOP_K: TOP_K.replace("<", ">")}),
        edit("cut-graph",
             "The values are right, but no gradient reaches the logits that stayed.",
             {TOP_K: "scaled = scaled.detach().masked_fill(scaled < kth, -torch.inf)"}),
    ]


@check("next_token_distribution", points=2, section="7.9")
class TopP(DistributionCheck):
    """Sums of probabilities stay 0.01 away from top_p, so that rounding decides nothing."""

    def cases(self, rng):
        four = np.log([0.1, 0.4, 0.2, 0.3])
        yield self.case(rng, four, top_p=0.6)  # 0.4 is less than 0.6: the second one is needed too
        yield self.case(rng, four, top_p=0.05)  # the most probable stays
        yield self.case(rng, np.log([[0.1, 0.4, 0.2, 0.3], [0.9, 0.03, 0.03, 0.04], [0.25, 0.25, 0.25, 0.25]]), top_p=0.6)
        yield self.case(rng, np.log([[0.2, 0.5, 0.1, 0.2]]), top_p=0.65)  # equal ones stay together
        yield self.case(rng, np.log(np.stack([rng.permutation([0.4, 0.3, 0.15, 0.1, 0.05]) for _ in range(3)])), top_p=0.8)
        yield self.case(
            rng, 2 * np.log([0.4, 0.3, 0.2, 0.1]), 2.0, top_p=0.45
        )  # temperature first: the one with 0.4 is not enough
        yield self.case(rng, four, top_k=2, top_p=0.5)  # of the two that top_k leaves, 0.4 and 0.3, the first has 4/7 alone
        yield self.case(rng, np.array([[60.0, -60.0, 0.0, 1.0]]), top_p=1.0)  # all stay, however improbable
        for top_p in (0.0, 1.5, -0.1):
            yield self.case(rng, four, top_p=top_p)

    mistakes = [
        edit("top-p-falls-short",
             "The token that carries the sum over top_p was cut: what stayed has less than top_p. A token goes only if the "
             "*more* probable ones have top_p already.",
             {BEFORE: "before = probs.cumsum(dim=-1)",
              LAST: f"{LAST}; last = last.clamp(min=0)"}),
        edit("top-p-empty",
             "Where the most probable token alone has top_p or more nothing stayed, and the row is NaN. The first one always "
             "stays.",
             {BEFORE: "before = probs.cumsum(dim=-1)",
              TOP_P: "scaled = scaled.masked_fill((scaled < ranked.gather(-1, last.clamp(min=0))) | (last < 0), -torch.inf)"}),
        edit("top-p-batch",
             "The threshold of one row was used for all. Each row has its own.",
             {TOP_P: "scaled = scaled.masked_fill(scaled < ranked.gather(-1, last).flatten()[0], -torch.inf)"}),
        edit("not-unsorted",
             "The mask was made in sorted order and applied in the vocabulary's order: the wrong tokens went.",
             {TOP_P: "scaled = scaled.masked_fill(before >= top_p, -torch.inf)"}),
        edit("ties-cut",
             "Of equally probable tokens one went and one stayed, by its place in the vocabulary. Equal tokens stay or go "
             "together.",
             {TOP_P: "order = scaled.sort(dim=-1, descending=True, stable=True).indices; kept = ranked.masked_fill(before >= "
                     "top_p, -torch.inf); scaled = torch.full_like(scaled, -torch.inf).scatter(-1, order, kept)"}),
        edit("before-temperature",
             "The probabilities that are added up are those at temperature 1. Divide by the temperature first.",
             {PROBS: "probs = (ranked * temperature).softmax(dim=-1)"}),
        edit("before-top-k",
             "Top-p added up the probabilities of all tokens. It comes after top-k and sees the distribution over what that "
             "left.",
             {PROBS: "probs = (logits / temperature).sort(dim=-1, descending=True).values.softmax(dim=-1)"}),
        edit("relative-threshold",
             "Tokens went because they are much less probable than the most probable one (that is min-p). Top-p is about the "
             "*sum* of the probabilities of the better ones.",
             {TOP_P: "scaled = scaled.masked_fill(scaled.softmax(-1) < (1 - top_p) * probs[..., :1], -torch.inf)"}),
        edit("one-cuts",
             "top_p = 1 cut tokens: rounding makes the sum of the others 1 before the last ones come. With 1 everything stays.",
             {"top_p < 1:": "True:"}),
        edit("top-p-ignored", "`top_p` has no effect.", {TOP_P: "pass"}),
        edit("not-normalised-again",
             "The tokens that stay keep their old probabilities, which sum to less than 1. Normalise after cutting.",
             {SCALED: "scaled = (logits / temperature).log_softmax(dim=-1)", NORMALISED: "return scaled"}),
    ]


@check("sample_next", points=3, section="7.9")
class Draws(SamplingCheck):
    """300 draws a row, in one call. How surely they tell each mistake from the truth is computed in the tests."""

    probe = "draws"
    seconds = 30  # drawn one by one, with the distribution worked out by loops, 5,000 tokens take 2 s of a free processor

    def cases(self, rng):
        shares = [0.55, 0.25, 0.1, 0.06, 0.04]
        for temperature, top_k, top_p in (
            (1.0, None, None),
            (0.5, None, None),
            (2.0, 3, None),
            (1.0, None, 0.7),
            (1.0, 1, None),
        ):
            logits = np.stack([np.log(rng.permutation(shares)) + rng.normal() for _ in range(3)])
            yield self.case(rng, logits, temperature, top_k, top_p)
        yield self.case(rng, np.zeros((2, 3)), 0.0, None, None)

    @staticmethod
    def case(rng, logits, temperature, top_k, top_p):
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return {"logits": logits, **settings, "count": 300, "seed": int(rng.integers(2**31))}

    def truth(self, logits, temperature, top_k, top_p, count, seed):
        from .transformer_truth import log_distribution

        if self.culprit(temperature, top_k, top_p):
            return {"refusal": "temperature"}
        return self.answer(log_distribution(logits, temperature, top_k, top_p), count)

    @staticmethod
    def answer(log_probs, count):
        answer = {"refusal": None, "dtype": "torch.int64", "shape": [count * len(log_probs)], "same_seed_same_tokens": True}
        return answer | {"counts": count * np.exp(log_probs)}

    def compared(self, got, expected, count, **case):
        rest = [name for name in expected if name != "counts"]
        wrong = difference({name: got[name] for name in rest}, {name: expected[name] for name in rest}, self.tolerance)
        if wrong:
            return wrong
        if "counts" not in expected:  # a known mistake whose tokens cannot be counted
            return "`counts`: not asked for" if "counts" in got else None
        counts = np.asarray(got["counts"], dtype=np.float64)
        if counts.shape != expected["counts"].shape or (abs(counts.sum(axis=1) - count) > 1e-6).any():
            return f"`counts`: expected {count} draws in each of {len(expected['counts'])} rows"
        for row, (came, usual) in enumerate(zip(counts, expected["counts"])):
            wrong = counts_agree(came, usual / usual.sum(), false_reject=1e-7)
            if wrong:
                return f"`counts`: in row {row} {wrong}"
        return None

    @mistake(
        "greedy-rollouts", "The most probable token is taken. Asked for is a draw: what is never tried is never learned about."
    )
    def greedy(self, logits, temperature, top_k, top_p, count, seed):
        from .transformer_truth import log_distribution

        if temperature <= 0:
            return {"refusal": "temperature"}
        return self.answer(log_distribution(logits, 1.0, 1), count)

    @mistake("temperature-ignored", "The draws are those of temperature 1.")
    def no_temperature(self, logits, temperature, top_k, top_p, count, seed):
        from .transformer_truth import log_distribution

        return self.answer(log_distribution(logits, 1.0, top_k, top_p), count)

    @mistake("top-k-ignored", "Tokens outside the top k are drawn.")
    def no_top_k(self, logits, temperature, top_k, top_p, count, seed):
        return self.truth(logits, temperature, None, top_p, count, seed)

    @mistake("top-p-ignored", "Tokens outside the nucleus are drawn: `top_p` has no effect.")
    def no_top_p(self, logits, temperature, top_k, top_p, count, seed):
        return self.truth(logits, temperature, top_k, None, count, seed)

    @mistake("uniform", "Every token that may be drawn comes equally often: the probabilities were not used.")
    def uniform(self, logits, temperature, top_k, top_p, count, seed):
        right = self.truth(logits, temperature, top_k, top_p, count, seed)
        if right["refusal"]:
            return right
        kept = right["counts"] > 0
        return {**right, "counts": count * kept / kept.sum(axis=1, keepdims=True)}

    @mistake("topk-batch", "All rows draw from the first row's distribution. Each row has its own.")
    def first_row_for_all(self, logits, temperature, top_k, top_p, count, seed):
        return self.truth(np.broadcast_to(logits[:1], logits.shape), temperature, top_k, top_p, count, seed)

    @mistake(
        "generator-ignored",
        "The same seed gave other tokens: the randomness does not come from `generator`. Then no rollout can be repeated.",
    )
    def other_generator(self, logits, temperature, top_k, top_p, count, seed):
        right = self.truth(logits, temperature, top_k, top_p, count, seed)
        return right if right["refusal"] else {**right, "same_seed_same_tokens": top_k == 1}

    @mistake("column-of-tokens", "The tokens come as a column, (batch, 1). Asked for is (batch,): `squeeze(1)`.")
    def column(self, logits, temperature, top_k, top_p, count, seed):
        right = self.truth(logits, temperature, top_k, top_p, count, seed)
        if right["refusal"]:
            return right
        return {name: value for name, value in {**right, "shape": [*right["shape"], 1]}.items() if name != "counts"}


@check("completion_log_probs", points=3, section="7.10")
class ScoresWhatWasSampled(SamplingCheck):
    probe = "completion"

    def cases(self, rng):
        yield self.case(np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]), [[0, 1]], [[False, True]])
        logits, tokens = rng.normal(scale=1.5, size=(2, 5, 4)), rng.integers(4, size=(2, 5))
        sampled = np.array([[False, False, True, True, True], [False, False, False, True, False]])
        yield self.case(logits, tokens, sampled)
        table = rng.normal(size=(13, 3))
        everything, mask, own = sentences_of(table, eos=1, pad=2)
        mask[:, 0] = False  # the start token is the prompt
        yield self.case(own, everything, mask)
        yield self.case(own, everything, mask, 0.6)
        yield self.case(own, everything, mask, 1.5, 2)  # some sentences cannot be drawn: -inf
        yield self.case(logits, tokens, sampled, 1.0, None, 0.6)
        yield self.case(logits, tokens, sampled, 0.8, 1)
        yield self.case(logits, tokens, np.zeros((2, 5), bool))  # to be refused
        yield self.case(logits, tokens, np.ones((2, 5), bool))
        yield self.case(logits, tokens, sampled, 0.0)

    @staticmethod
    def case(logits, tokens, sampled, temperature=1.0, top_k=None, top_p=None):
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return {"logits": np.asarray(logits), "tokens": np.asarray(tokens), "sampled": np.asarray(sampled), **settings}

    def truth(self, logits, tokens, sampled, temperature, top_k, top_p):
        from .transformer_truth import log_distribution

        if not sampled.any() or sampled[:, 0].any() or self.culprit(temperature, top_k, top_p):
            return {"refusal": self.culprit(temperature, top_k, top_p) or "sampled"}
        rows, gradient = np.zeros((len(tokens), tokens.shape[1] - 1)), np.zeros_like(logits)
        for b, t in zip(*np.nonzero(sampled)):
            log_probs = log_distribution(logits[b, t - 1], temperature, top_k, top_p)
            rows[b, t - 1] = log_probs[tokens[b, t]]
            if np.isfinite(rows[b, t - 1]):
                gradient[b, t - 1] = (np.eye(len(log_probs))[tokens[b, t]] - np.exp(log_probs)) / temperature
        answer = {"refusal": None, "log_probs": rows, "sum_of_probabilities": np.exp(rows.sum(axis=1)).sum()}
        return answer | {"dtype": "torch.float64", "gradient": gradient}

    mistakes = [
        edit("sampler-is-not-scorer",
             "These are the log-probabilities of the full softmax at temperature 1. The tokens were drawn from another "
             "distribution, with this temperature, top_k and top_p: score them under that one.",
             {SCORED: "log_probs = logits[:, :-1].log_softmax(dim=-1)"}),
        edit("temperature-ignored",
             "The tokens were drawn at another temperature than they are scored at: it divides the logits here too.",
             {SCORED: SCORED.replace("temperature,", "1.0,")}),
        edit("top-k-ignored",
             "Tokens outside the top k are scored as if they could have been drawn, and the others as too rare: the truncated "
             "distribution is the one sampled.",
             {SCORED: SCORED.replace("top_k, top_p", "None, top_p")}),
        edit("top-p-ignored",
             "The nucleus was sampled, the whole distribution is scored: hand `top_p` on.",
             {SCORED: SCORED.replace("top_k, top_p", "top_k, None")}),
        edit("unshifted-log-probs",
             "Each token is scored by its own logits: logits[:, t] speak of the token after tokens[:, t]. The probabilities "
             "of all sentences sum to 1 only when they are aligned.",
             {SCORED: SCORED.replace("logits[:, :-1]", "logits[:, 1:]")}),
        edit("prompt-in-loss",
             "Prompt and padding are scored too. Only what the policy drew counts; everything else is 0.",
             {UNSCORED: "picked"}),
        edit("mask-unshifted",
             "The mask was not shifted with the tokens: each row's last sampled token is missing, the token before the first "
             "is in.",
             {UNSCORED: UNSCORED.replace("sampled[:, 1:]", "sampled[:, :-1]")}),
        edit("minus-infinity-times-zero",
             "-inf times 0 is NaN: a prompt's token may be one that top-k would never have drawn. Fill with 0 where the mask "
             "is False.",
             {UNSCORED: "picked * sampled[:, 1:]"}),
        edit("summed-too-early",
             "These are the sums of the rows. Asked for is one number a token: who needs the sum can take it.",
             {f"return {UNSCORED}": f"return {UNSCORED}.sum(-1)"}),
        edit("cut-graph", "The values are right, but no gradient reaches the logits.", {UNSCORED: UNSCORED + ".detach()"}),
    ]


# --- generating ------------------------------------------------------------------------------------------------------


@check("generate", points=4, section="7.11")
class Continuations(RefusalCheck):
    """A model that is two tables, and draws from a list: nothing is random, every number can be worked out by hand."""

    probe = "continuations"
    EOS, PAD = 1, 3

    def cases(self, rng):
        yield self.case(rng, [[0], [2]], None, [[2, 0], [1, 2]], 2)
        for use_cache in (True, False):
            yield self.case(rng, [[0, 2]], None, [[2], [0], [4]], 3, use_cache=use_cache)
            script = [[0, 2, 4], [1, 4, 2], [4, 0, 1], [2, 2, 0], [0, 4, 4]]  # rows end in rounds 1, never and 2
            settings = {"temperature": 0.7, "top_k": 3, "top_p": 0.9}
            prompts, mask = [[0, 2, 4], [3, 3, 0], [3, 4, 2]], [[True] * 3, [False, False, True], [False, True, True]]
            yield self.case(rng, prompts, mask, script, 5, use_cache=use_cache, **settings)
        yield self.case(rng, [[0, 2], [4, 0]], None, [[2, 1], [1, 0], [4, 4]], 6)  # all rows end early
        yield self.case(rng, [[0, 2]], None, [[2]], 0)  # to be refused
        yield self.case(rng, [[0, 2]], None, [[2]], 1, eos=3)

    def case(
        self, rng, prompts, mask, script, max_new_tokens, eos=EOS, use_cache=True, temperature=1.0, top_k=None, top_p=None
    ):
        tables = {"by_token": rng.normal(size=(5, 5)), "by_position": rng.normal(size=(9, 5)), "fading": 0.5}
        asked = {"prompts": np.array(prompts), "max_new_tokens": max_new_tokens, "script": np.array(script)}
        asked |= {"settings": {"temperature": temperature, "top_k": top_k, "top_p": top_p}, "eos": eos, "pad": self.PAD}
        mask = None if mask is None else np.array(mask)
        return {**tables, **asked, "mask": mask, "use_cache": use_cache, "seed": int(rng.integers(1, 2**31))}

    def truth(self, by_token, by_position, fading, prompts, max_new_tokens, script, settings, eos, pad, mask, use_cache, seed):
        if max_new_tokens < 1 or eos == pad:
            return {"refusal": "max_new_tokens" if max_new_tokens < 1 else "pad"}
        real = np.ones(prompts.shape, bool) if mask is None else mask
        words = [list(row[keep]) for row, keep in zip(prompts, real)]  # what each row has read, without padding
        columns, flags, logits, ended = [], [], [], np.zeros(len(prompts), bool)
        for drawn in script[:max_new_tokens]:
            logits.append(
                [np.zeros(5) if e else self.logits_of(w, by_token, by_position, fading) for w, e in zip(words, ended)]
            )
            columns.append(np.where(ended, pad, drawn))
            flags.append(~ended)
            for word, row, over in zip(drawn, words, ended):
                row += [] if over else [word]
            ended = ended | (drawn == eos)
            if ended.all():
                break
        rounds, (batch, time) = len(columns), prompts.shape
        later = [[batch, 1] if use_cache else [batch, time + n] for n in range(1, rounds)]
        return {
            "refusal": None,
            "tokens": np.concatenate([prompts, np.stack(columns, axis=1)], axis=1),
            "sampled": np.concatenate([np.zeros(prompts.shape, bool), np.stack(flags, axis=1)], axis=1),
            "logits_drawn_from": np.array(logits),
            "model_read": [[batch, time], *later],
            "caches_made": int(use_cache),
            "drawn_with": [settings] * rounds,
            "seeds": [seed] * rounds,
            "graph": False,
            "arguments_unchanged": True,
        }

    @staticmethod
    def logits_of(words, by_token, by_position, fading):
        last = len(words) - 1
        return sum(fading ** (last - place) * by_token[word] for place, word in enumerate(words)) + by_position[last]

    def compared(self, got, expected, **case):
        wrong = difference({"caches_made": got["caches_made"] > 0}, {"caches_made": expected["caches_made"] > 0}, 0.0)
        rest = {name: value for name, value in expected.items() if name != "caches_made"}
        return wrong or difference({name: value for name, value in got.items() if name != "caches_made"}, rest, self.tolerance)

    mistakes = [
        edit("cache-unused",
             "With `use_cache` the model still reads everything in every round: the cache is made and not handed on, or "
             "everything is fed again. After the first round it reads the newest column only.",
             {"cache = model.new_cache() if use_cache else None": "cache = None"}),
        edit("cache-fed-again",
             "The whole sequence is fed to a model whose cache already has it: every token is in there several times.",
             {"new = tokens if cache is None else drawn": "new = tokens"}),
        edit("always-cached",
             "A cache is used although `use_cache` is False.",
             {"cache = model.new_cache() if use_cache else None": "cache = model.new_cache()"}),
        edit("goes-on-after-eos",
             "A row that has drawn `eos` goes on. After its end a row gets `pad`, and nothing of it counts as sampled.",
             {"alive = alive & (drawn[:, 0] != eos)": "pass"}),
        edit("pad-is-eos",
             "The end token is not marked as sampled. It was drawn, and drawing it was a decision: it has to be scored.",
             {"sampled = torch.cat([sampled, alive.unsqueeze(1)], dim=1)":
              "sampled = torch.cat([sampled, (alive & (drawn[:, 0] != eos)).unsqueeze(1)], dim=1)"}),
        edit("one-ends-all",
             "Everything stops as soon as one row has ended. It stops when every row has.",
             {"if not alive.any():": "if not alive.all():"}),
        edit("never-stops", "It goes on to max_new_tokens although every row has ended.", {"if not alive.any():": "if False:"}),
        edit("eos-overwritten",
             "The end token itself was replaced by padding. It stays; padding comes after it.",
             {"drawn = torch.where(alive, drawn, pad)": "drawn = torch.where(alive & (drawn != eos), drawn, pad)",
              "alive = alive & (drawn[:, 0] != eos)": "alive = alive & (drawn[:, 0] != pad)"}),
        edit("mask-not-passed",
             "The model does not get the mask, so it reads padding as words and its positions are wrong.",
             {"model(new, real, cache)": "model(new, None, cache)"}),
        edit("mask-not-grown",
             "Drawn tokens are not marked as real in the mask that the model gets.",
             {"real = torch.cat([real, alive.unsqueeze(1)], dim=1)":
              "real = torch.cat([real, torch.zeros_like(real[:, :1])], dim=1)"}),
        edit("wrong-column",
             "The draw was made from the logits of another column. The last one speaks of the next token.",
             {"[:, -1]  # (B, V)": "[:, 0]"}),
        edit("settings-not-passed",
             "`sample_next` does not get temperature, top_k and top_p.",
             {"sample_next(logits, temperature, top_k, top_p, generator)": "sample_next(logits, generator=generator)"}),
        edit("generator-not-passed",
             "`sample_next` does not get the generator: no rollout can be repeated.",
             {"sample_next(logits, temperature, top_k, top_p, generator)": "sample_next(logits, temperature, top_k, top_p)"}),
        edit("graph-built",
             "A graph is built through the whole generation and its memory kept. Put the loop under `torch.no_grad()`.",
             {"with torch.no_grad():": "if True:"}),
        edit("prompt-sampled",
             "Prompt tokens are marked as sampled. The policy did not draw them.",
             {"sampled = torch.zeros_like(real)": "sampled = real.clone()"}),
    ]
