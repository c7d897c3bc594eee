"""Lesson 1: what is true of the drills and of attention."""

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.einsum_calls import EinsumCheck

HINTS = {
    "transposed-output": "The numbers are right but the answer lies on its side: put its letters in the order asked for.",
    "elementwise-not-contracted": "The products are there, but not their sum: a letter right of the arrow is not summed over.",
    "summed-wrong-axis": "The wrong axis was summed: letters right of the arrow are kept, all others are summed over.",
    "summed-everything": "Every letter that is missing right of the arrow is summed over. Here something has to stay.",
    "missing-sum": "One sum is missing: a letter right of the arrow is not summed over.",
    "not-transposed": "Both sides of the arrow name the axes in the same order, so nothing moved.",
    "other-marginal": "This is the distribution of another variable: look which letter belongs to which axis.",
    "reshape-is-not-transpose": "Right shape, but the numbers kept their old order: reshape cuts a row anew, a transpose moves.",
    "batch-summed": "The batch was summed over. n is free: it has to stand right of the arrow as well.",
    "missing-scale": "The scores are not scaled: they need the factor 1 / sqrt(head_dim).",
    "scale-of-model-width": "You scaled by the width of the whole layer. A score is a sum of head_dim products.",
    "softmax-over-queries": "The softmax ran over the queries: columns sum to 1. It runs over the keys, the last axis.",
    "cut-graph": "The output is right, but the weights pass no gradient on (`detach`, `no_grad`): queries and keys never learn.",
    "mask-ignored": "The mask changes nothing: hidden keys still get weight.",
    "mask-inverted": "The mask is read the wrong way round: True means hidden, False means visible.",
    "mask-after-softmax": "Hidden weights were zeroed after the softmax: the row no longer sums to 1. Hide the scores before it.",
    "mask-transposed": "mask[i, j] hides key j from query i. Yours hides key i from query j.",
    "nan-row": "A row of -inf has the softmax 0 / 0 = NaN. A query that sees no key gets the weights 0.",
    "uniform-row": "A query that sees no key attends to all alike: equal scores, however low, get equal weights. Set them to 0.",
    "nan-gradient": "The output is right but the gradient is NaN: a NaN was made and painted over. Avoid making it.",
}


def counted(*shape, start=1.0):
    """1, 2, 3, ... in the given shape: a case that can be followed by hand."""
    return np.arange(start, start + np.prod(shape, dtype=int)).reshape(shape)


def wrote(id, right, wrong, hint=None):
    """The mistake of writing one equation for another. Every equation stands once in the reference."""
    return edit(id, hint or HINTS[id], {f'"{right}"': f'"{wrong}"'})


def did(id, call, instead, hint=None):
    """The mistake of doing something else instead of the einsum call."""
    return edit(id, hint or HINTS[id], {f"torch.einsum({call})": instead})


class Drill(EinsumCheck):
    """Cases of all drills: small counted arrays, random ones whose axes all differ in length, and square ones (not symmetric)."""

    tolerance = 1e-10  # sums of at most 36 products of normal numbers: rounding stays below 1e-13
    arguments: dict[str, str] = {}  # name -> one letter an axis; equal letters have equal lengths

    def cases(self, rng):
        letters = list(dict.fromkeys("".join(self.arguments.values())))
        yield self.drawn(dict(zip(letters, (2, 3, 4, 5))), None)
        yield self.drawn(dict(zip(letters, rng.permutation([2, 3, 4, 5, 6]))), rng)
        yield self.drawn(dict.fromkeys(letters, 3), rng)

    def drawn(self, sizes, rng):
        arrays, start = {}, 1.0
        for name, axes in self.arguments.items():
            shape = [int(sizes[axis]) for axis in axes]
            arrays[name] = counted(*shape, start=start) if rng is None else rng.normal(size=shape)
            start += arrays[name].size
        return arrays


class Marginal(Drill):
    """A table of probabilities: positive, with the sum 1."""

    arguments = {"joint": "xyz"}

    def drawn(self, sizes, rng):
        joint = np.abs(super().drawn(sizes, rng)["joint"])
        return {"joint": joint / joint.sum()}


# --- one tensor -----------------------------------------------------------------------------------------------------


@check("transpose", points=1, section="1.5")
class Transpose(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": a.T}

    mistakes = [
        wrote("not-transposed", "ij->ji", "ij->ij"),
        did("reshape-is-not-transpose", '"ij->ji", a', "a.reshape(a.shape[1], a.shape[0])"),
        wrote("summed-wrong-axis", "ij->ji", "ij->j",
              "A letter that is missing right of the arrow is summed over; a transpose keeps both."),
    ]


@check("transpose_last_two", points=1, section="1.5")
class TransposeLastTwo(Drill):
    def cases(self, rng):
        yield {"a": counted(2, 3)}
        yield {"a": counted(2, 3, 4)}
        yield {"a": rng.normal(size=(2, 3, 4, 5))}
        yield {"a": rng.normal(size=(3, 3, 3))}

    def truth(self, a):
        return {"answer": np.swapaxes(a, -1, -2)}

    mistakes = [
        wrote("first-two-swapped", "...ij->...ji", "ij...->ji...", "The first two axes were swapped: `...` belongs in front."),
        did("all-axes-reversed", '"...ij->...ji", a', "a.permute(*reversed(range(a.dim())))",
            "All axes were reversed; only the last two change places."),
        did("reshape-is-not-transpose", '"...ij->...ji", a', "a.reshape(*a.shape[:-2], a.shape[-1], a.shape[-2])"),
        wrote("not-transposed", "...ij->...ji", "...ij->...ij"),
    ]


@check("reverse_leading_three", points=1, section="1.5")
class ReverseLeadingThree(Drill):
    def cases(self, rng):
        yield {"a": counted(2, 3, 4)}
        yield {"a": counted(2, 3, 4, 2)}
        yield {"a": rng.normal(size=(2, 3, 4, 5, 2))}
        yield {"a": rng.normal(size=(3, 3, 3, 3))}

    def truth(self, a):
        return {"answer": np.swapaxes(a, 0, 2)}

    mistakes = [
        wrote("last-three-reversed", "xyz...->zyx...", "...xyz->...zyx",
              "The last three axes were reversed: `...` belongs behind."),
        wrote("rotated-not-reversed", "xyz...->zyx...", "xyz...->yzx...",
              "The axes were rotated. Reversed, the first and the third change places and the second stays."),
        did("all-axes-reversed", '"xyz...->zyx...", a', "a.permute(*reversed(range(a.dim())))",
            "All axes were reversed; those after the third stay where they are."),
    ]


@check("sum_over_rows", points=1, section="1.5")
class SumOverRows(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": a.sum(axis=0)}

    mistakes = [
        wrote("summed-wrong-axis", "ij->j", "ij->i",
              "You summed over the columns j. Summed over the rows i, one number a column is left."),
        wrote("summed-everything", "ij->j", "ij->"),
        did("mean-not-sum", '"ij->j", a', "a.mean(dim=0)", "This is the mean over the rows; the sum was asked for."),
    ]


@check("sum_over_columns", points=1, section="1.5")
class SumOverColumns(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": a.sum(axis=1)}

    mistakes = [
        wrote("summed-wrong-axis", "ij->i", "ij->j",
              "You summed over the rows i. Summed over the columns j, one number a row is left."),
        wrote("summed-everything", "ij->i", "ij->"),
        did("mean-not-sum", '"ij->i", a', "a.mean(dim=1)", "This is the mean over the columns; the sum was asked for."),
    ]


@check("total", points=1, section="1.5")
class Total(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": sum(a.ravel())}

    mistakes = [
        wrote("missing-sum", "ij->", "ij->i"),
        wrote("diagonal-only", "ij->", "ii->", "One letter twice walks along the diagonal. Rows and columns need a letter each."),
        did("mean-not-sum", '"ij->", a', "a.mean()", "This is the mean of the entries; their sum was asked for."),
    ]


@check("trace", points=1, section="1.5")
class Trace(Drill):
    arguments = {"a": "ii"}

    def truth(self, a):
        return {"answer": sum(a[i, i] for i in range(len(a)))}

    mistakes = [
        wrote("missing-sum", "ii->", "ii->i", "This is the diagonal itself. Without a letter right of the arrow it is summed."),
        wrote("summed-everything", "ii->", "ij->",
              "Two different letters walk over all entries. The diagonal is one letter twice."),
        did("anti-diagonal", '"ii->", a', 'torch.einsum("ii->", a.flip(0))',
            "This is the sum of the other diagonal, from lower left."),
    ]


@check("marginal_first", points=1, section="1.5")
class MarginalFirst(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=(1, 2))}

    mistakes = [
        wrote("summed-wrong-axis", "xyz->x", "xyz->yz", "The first variable was summed out. It is the one to keep."),
        wrote("other-marginal", "xyz->x", "xyz->z"),
        wrote("missing-sum", "xyz->x", "xyz->xy"),
        did("slice-is-not-marginal", '"xyz->x", joint', "joint[:, 0, 0]",
            "These are the entries with y = z = 0. A marginal adds over all values of the other variables."),
    ]


@check("marginal_second", points=1, section="1.5")
class MarginalSecond(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=2).sum(axis=0)}

    mistakes = [
        wrote("summed-wrong-axis", "xyz->y", "xyz->xz", "The second variable was summed out. It is the one to keep."),
        wrote("other-marginal", "xyz->y", "xyz->x"),
        did("slice-is-not-marginal", '"xyz->y", joint', "joint[0, :, 0]",
            "These are the entries with x = z = 0. A marginal adds over all values of the other variables."),
    ]


@check("marginal_first_two", points=1, section="1.5")
class MarginalFirstTwo(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=2)}

    mistakes = [
        wrote("transposed-output", "xyz->xy", "xyz->yx"),
        wrote("other-marginal", "xyz->xy", "xyz->yz", "This is p(y, z), the last two variables. Keep the first two."),
        did("slice-is-not-marginal", '"xyz->xy", joint', "joint[:, :, 0]",
            "These are the entries with z = 0. A marginal adds over all values of z."),
    ]


# --- two tensors ----------------------------------------------------------------------------------------------------


@check("inner", points=1, section="1.6")
class Inner(Drill):
    arguments = {"x": "i", "y": "i"}

    def truth(self, x, y):
        return {"answer": sum(x * y)}

    mistakes = [
        wrote("elementwise-not-contracted", "i,i->", "i,i->i"),
        wrote("outer-not-inner", "i,i->", "i,j->ij",
              "Two letters pair every entry with every other. Here both walk together: one letter."),
        wrote("product-of-sums", "i,i->", "i,j->",
              "This is (sum of x)(sum of y). One shared letter makes it the sum of products."),
    ]


@check("outer", points=1, section="1.6")
class Outer(Drill):
    arguments = {"x": "i", "y": "j"}

    def truth(self, x, y):
        return {"answer": x[:, None] * y[None, :]}

    mistakes = [
        wrote("transposed-output", "i,j->ij", "i,j->ji"),
        wrote("summed-wrong-axis", "i,j->ij", "i,j->i", "y was summed away: its letter has to stand right of the arrow as well."),
        wrote("summed-everything", "i,j->ij", "i,j->",
              "Nothing is summed in an outer product: both letters stand right of the arrow."),
    ]


@check("matvec", points=1, section="1.6")
class MatVec(Drill):
    arguments = {"a": "ij", "x": "j"}

    def truth(self, a, x):
        return {"answer": a @ x}

    mistakes = [
        wrote("summed-wrong-axis", "ij,j->i", "ij,i->j", "This is A^T x: x met the rows. It meets the columns, x_j with A_ij."),
        wrote("elementwise-not-contracted", "ij,j->i", "ij,j->ij"),
        wrote("kept-the-summed-index", "ij,j->i", "ij,j->j", "You kept j and summed over i. The answer has one number a row, i."),
    ]


@check("matrix_product", points=1, section="1.6")
class MatrixProduct(Drill):
    arguments = {"a": "ij", "b": "jk"}

    def truth(self, a, b):
        return {"answer": a @ b}

    mistakes = [
        wrote("transposed-output", "ij,jk->ik", "ij,jk->ki",
              "This is (A B)^T: the letter of the rows comes first right of the arrow."),
        wrote("elementwise-not-contracted", "ij,jk->ik", "ij,jk->ijk"),
        wrote("second-transposed", "ij,jk->ik", "ij,kj->ik",
              "This is A B^T: the shared letter belongs to the *first* axis of b."),
        wrote("elementwise-product", "ij,jk->ik", "ij,ij->ij",
              "This multiplies entry by entry, as `*` does. A matrix product sums over j."),
    ]


@check("gram", points=1, section="1.6")
class Gram(Drill):
    arguments = {"a": "si", "b": "sj"}

    def truth(self, a, b):
        return {"answer": a.T @ b}

    mistakes = [
        wrote("transposed-output", "si,sj->ij", "si,sj->ji", "This is B^T A: the columns of a make the rows of the answer."),
        wrote("rows-compared", "si,sj->ij", "is,js->ij",
              "This is A B^T: it compares rows. The shared letter is the first axis of both."),
        wrote("ordinary-product", "si,sj->ij", "is,sj->ij",
              "This is A B. In A^T B the *first* axis of a meets the first axis of b."),
        wrote("elementwise-not-contracted", "si,sj->ij", "si,sj->sij"),
    ]


# --- more axes, more tensors ----------------------------------------------------------------------------------------


@check("contract_ijk_ik", points=1, section="1.7")
class ContractIjkIk(Drill):
    arguments = {"a": "ijk", "b": "ik"}

    def truth(self, a, b):
        return {"answer": np.tensordot(a, b, axes=((0, 2), (0, 1)))}

    mistakes = [
        wrote("missing-sum", "ijk,ik->j", "ijk,ik->ij", "You summed over k alone. i is summed over too; only j is left."),
        wrote("indices-exchanged", "ijk,ik->j", "ijk,ki->j", "B_ki was used for B_ik: the first axis of b is i, the second k."),
        wrote("summed-wrong-axis", "ijk,ik->j", "ijk,ik->ik", "You summed over j and kept the others. j is the only free index."),
        wrote("product-of-sums", "ijk,ik->j", "ijk,lm->j",
              "b was summed before it met a. Shared letters multiply first, then sum."),
    ]


@check("contract_4d", points=1, section="1.7")
class Contract4d(Drill):
    arguments = {"a": "ijkl", "x": "j", "y": "k"}

    def truth(self, a, x, y):
        return {"answer": ((a * x[:, None, None]).sum(axis=1) * y[:, None]).sum(axis=1)}

    mistakes = [
        wrote("transposed-output", "ijkl,j,k->il", "ijkl,j,k->li"),
        wrote("vectors-exchanged", "ijkl,j,k->il", "ijkl,k,j->il",
              "x met the axis of y, and y that of x. x goes with j, y with k."),
        wrote("missing-sum", "ijkl,j,k->il", "ijkl,j,k->ikl", "k stands right of the arrow, so the sum over k was not taken."),
        wrote("summed-wrong-axis", "ijkl,j,k->il", "ijkl,i,l->jk",
              "The vectors met the outer axes, i and l. They belong to j and k."),
    ]


@check("vector_times_3d", points=1, section="1.7")
class VectorTimes3d(Drill):
    arguments = {"x": "i", "a": "jki"}

    def truth(self, x, a):
        return {"answer": a @ x}

    mistakes = [
        wrote("summed-wrong-axis", "i,jki->jk", "i,ijk->jk", "x met the first axis of a. It meets the last."),
        wrote("transposed-output", "i,jki->jk", "i,jki->kj"),
        wrote("elementwise-not-contracted", "i,jki->jk", "i,jki->jki"),
    ]


@check("outer_many", points=1, section="1.7")
class OuterMany(Drill):
    arguments = {"a": "i", "b": "j", "c": "k", "d": "l"}

    def truth(self, a, b, c, d):
        return {"answer": np.multiply.outer(np.multiply.outer(np.multiply.outer(a, b), c), d)}

    mistakes = [
        wrote("transposed-output", "i,j,k,l->ijkl", "i,j,k,l->lkji",
              "The axes are in reverse: the first belongs to a, the last to d."),
        wrote("summed-wrong-axis", "i,j,k,l->ijkl", "i,j,k,l->ijk",
              "d was summed away: its letter has to stand right of the arrow."),
        wrote("summed-everything", "i,j,k,l->ijkl", "i,j,k,l->",
              "Nothing is summed here: all four letters stand right of the arrow."),
    ]


@check("batch_matmul", points=1, section="1.7")
class BatchMatmul(Drill):
    arguments = {"a": "nij", "b": "njk"}

    def truth(self, a, b):
        return {"answer": np.stack([one @ other for one, other in zip(a, b)])}

    mistakes = [
        wrote("batch-summed", "nij,njk->nik", "nij,njk->ik"),
        wrote("batch-mixed", "nij,njk->nik", "nij,mjk->nmik",
              "Every matrix of a met every one of b. One letter n for both keeps pairs."),
        wrote("transposed-output", "nij,njk->nik", "nij,njk->nki"),
        wrote("second-transposed", "nij,njk->nik", "nij, nkj->nik",
              "This is A_n B_n^T: the shared letter is the *middle* axis of b."),
    ]


@check("batch_matmul_swapped", points=1, section="1.7")
class BatchMatmulSwapped(Drill):
    arguments = {"a": "nij", "b": "nkj"}

    def truth(self, a, b):
        return {"answer": np.stack([one @ other.T for one, other in zip(a, b)])}

    mistakes = [
        wrote("swap-forgotten", "nij,nkj->nik", "nij, njk->nik",
              "This is A_n B_n. Here b is [batch, columns, inner]: j is its *last* axis."),
        wrote("batch-summed", "nij,nkj->nik", "nij,nkj->ik"),
        wrote("transposed-output", "nij,nkj->nik", "nij,nkj->nki"),
        wrote("elementwise-not-contracted", "nij,nkj->nik", "nij,nkj->nijk"),
    ]


# --- attention ------------------------------------------------------------------------------------------------------

# the lines of the reference that mistakes change
SCORES = "...id,...jd->...ij"
OUTPUT = "...ij,...jd->...id"
SCALE = "self.head_dim**-0.5)  # (B, T, T)"
SCALES = "self.head_dim**-0.5)  # (B, H, T, T)"
HIDE = "scores.masked_fill(mask, torch.finfo(scores.dtype).min)"
HIDES = "scores.masked_fill(hidden, torch.finfo(scores.dtype).min)"
ZERO = "weights.masked_fill(mask, 0.0)"
ZEROS = "weights.masked_fill(hidden, 0.0)"
SOFTMAX = "scores.softmax(dim=-1)"
SOFTMAXES = "torch.softmax(scores, dim=-1)"
SPLIT = "view(batch, tokens, 3, self.heads, self.head_dim)"


def slip(id, replacements, hint=None):
    return edit(id, hint or HINTS[id], replacements)


@check("attention_scores", points=3, section="1.10")
class Scores(EinsumCheck):
    tolerance = 1e-10  # sums of at most 6 products of normal numbers
    operands, result, factor = ("q", "k"), "scores", "scale"

    def cases(self, rng):
        yield {"q": counted(2, 3), "k": counted(4, 3), "scale": 0.5, "upstream": counted(2, 4)}
        for queries, keys in (((2, 3, 5), (2, 4, 5)), ((2, 3, 4, 6), (2, 3, 5, 6)), ((3, 3, 3), (3, 3, 3))):
            case = {"q": rng.normal(size=queries), "k": rng.normal(size=keys), "scale": float(rng.uniform(0.2, 0.8))}
            yield {**case, "upstream": rng.normal(size=(*queries[:-1], keys[-2]))}

    def truth(self, q, k, scale, upstream):
        gradient = {"q": scale * upstream @ k, "k": scale * np.swapaxes(upstream, -1, -2) @ q}
        scores = scale * (q @ np.swapaxes(k, -1, -2))
        return {"scores": scores, "dtype": "torch.float64", "gradient": gradient, "arguments_unchanged": True}

    mistakes = [
        slip("missing-scale", {"scale * torch.einsum": "torch.einsum"}, "`scale` was not used: the products come without it."),
        slip("scale-divides", {"scale * torch.einsum": "1 / scale * torch.einsum"},
             "You divided by `scale`. It multiplies: 1 / sqrt(dim) comes in ready made."),
        wrote("transposed-output", SCORES, "...id,...jd->...ji",
              "Rows belong to queries and columns to keys; yours are exchanged."),
        wrote("elementwise-not-contracted", SCORES, "...id,...jd->...ijd"),
        slip("in-place", {f'scale * torch.einsum("{SCORES}", q': f'torch.einsum("{SCORES}", q.mul_(scale)'},
             "The caller's q was changed. Write `q * scale`, not `q *= scale` or `q.mul_(scale)`."),
        slip("cut-graph", {f'"{SCORES}", q, k': f'"{SCORES}", q, k.detach()'},
             "The numbers are right but k gets no gradient: `detach`, `.data` or `no_grad` cut it off."),
    ]


@check("attention_output", points=2, section="1.10")
class WeightedValues(EinsumCheck):
    tolerance = 1e-10  # means of at most 5 normal numbers
    operands, result = ("weights", "v"), "output"

    def cases(self, rng):
        weights = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
        yield {"weights": weights, "v": counted(3, 4), "upstream": counted(2, 4)}
        for weights, values in (((2, 3, 4), (2, 4, 5)), ((2, 3, 4, 5), (2, 3, 5, 6)), ((3, 3, 3), (3, 3, 3))):
            drawn = rng.dirichlet(np.ones(weights[-1]), size=weights[:-1])
            yield {"weights": drawn, "v": rng.normal(size=values), "upstream": rng.normal(size=(*weights[:-1], values[-1]))}

    def truth(self, weights, v, upstream):
        gradient = {"weights": upstream @ np.swapaxes(v, -1, -2), "v": np.swapaxes(weights, -1, -2) @ upstream}
        return {"output": weights @ v, "dtype": "torch.float64", "gradient": gradient, "arguments_unchanged": True}

    mistakes = [
        wrote("weights-transposed", OUTPUT, "...ji,...jd->...id",
              "This is W^T v. The sum runs over the keys, the *last* axis of weights."),
        wrote("elementwise-not-contracted", OUTPUT, "...ij,...jd->...ijd"),
        wrote("transposed-output", OUTPUT, "...ij,...jd->...di"),
        slip("cut-graph", {f'"{OUTPUT}", weights': f'"{OUTPUT}", weights.detach()'},
             "The numbers are right but weights get no gradient: `detach`, `.data` or `no_grad` cut it off."),
    ]


@check("SelfAttention.to_qkv", points=3, section="1.10")
class ToQkv(Check):
    probe = "to_qkv"
    tolerance = 1e-10  # sums of at most 5 products of normal numbers

    def cases(self, rng):
        yield {"qkv": counted(6, 1), "x": np.array([[[1.0], [10.0], [100.0]]])}
        yield {"qkv": rng.normal(size=(12, 5)), "x": rng.normal(size=(2, 3, 5))}
        yield {"qkv": rng.normal(size=(9, 3)), "x": rng.normal(size=(3, 3, 3))}

    def truth(self, qkv, x):
        third = len(qkv) // 3
        parts = [x @ qkv[i * third : (i + 1) * third].T for i in range(3)]
        return dict(zip(("queries", "keys", "values"), parts))

    mistakes = [
        slip("qkv-order", {"queries, keys, values = self": "keys, queries, values = self"},
             "Keys came first. The order is queries, keys, values, in the weight and in what is returned."),
        slip("qkv-interleaved", {"self.qkv(x).chunk(3, dim=-1)": "self.qkv(x).unflatten(-1, (-1, 3)).unbind(-1)"},
             "You took every third feature. The first third is the query, the second the key, the last the value."),
        slip("split-along-tokens", {"chunk(3, dim=-1)": "chunk(3, dim=1)"},
             "You dealt out the tokens. Split the last axis: every token has a query, a key and a value."),
        slip("weights-shared", {"return queries, keys, values": "return queries, queries, queries"},
             "Queries, keys and values are the same here. Each has its own third of the rows of `qkv.weight`."),
    ]


class AttentionCheck(Check):
    """The truth of all attention layers: PyTorch's own attention in float64, with hidden rows set to zero."""

    tolerance = 1e-9  # two products and a softmax over at most 6 float64 numbers

    def readable(self, mask=None):
        """Two tokens, 1 and 2. Queries and keys (x, x, x, x), values (x, 2 x, 3 x, 4 x): scores 4 x_i x_j / sqrt(4)."""
        weight = np.array([[1.0]] * 8 + [[1.0], [2.0], [3.0], [4.0]])
        case = {"qkv": weight, "x": np.array([[[1.0], [2.0]]]), "upstream": np.ones((1, 2, 4))}
        return case if mask is None else {**case, "mask": mask}

    def readable_heads(self, mask=None):
        """Two heads of width 1, added by `out`: one has scores x_i x_j and values x, the other scores 0 and values 10 x."""
        case = {"qkv": np.array([[1.0], [0.0], [1.0], [1.0], [1.0], [10.0]]), "x": np.array([[[1.0], [2.0]]]), "heads": 2}
        case |= {"out": np.array([[1.0, 1.0]]), "upstream": np.ones((1, 2, 1))}
        return case if mask is None else {**case, "mask": mask}

    def drawn(self, rng, batch, tokens, dim, head_dim, heads=None, loud=1.0, mask=None):
        """One case with random weights. loud: factor on the weights; scores grow with its square."""
        width = head_dim * (heads or 1)
        case = {"qkv": loud * rng.normal(size=(3 * width, dim)), "x": rng.normal(size=(batch, tokens, dim))}
        if heads:
            case |= {"heads": heads, "out": rng.normal(size=(dim, width))}
        case["upstream"] = rng.normal(size=(batch, tokens, dim if heads else width))
        return case if mask is None else {**case, "mask": mask}

    def truth(self, qkv, x, upstream, heads=1, out=None, mask=None):
        import torch

        leaves = {"x": x, "qkv.weight": qkv} | ({} if out is None else {"out.weight": out})
        leaves = {name: torch.from_numpy(value).requires_grad_() for name, value in leaves.items()}
        hidden = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool) if mask is None else torch.from_numpy(mask)
        hidden = hidden.unsqueeze(-3)
        dead = hidden.all(dim=-1, keepdim=True)
        q, k, v = (leaves["x"] @ leaves["qkv.weight"].T).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attend = torch.nn.functional.scaled_dot_product_attention
        output = (attend(q, k, v, attn_mask=~hidden | dead) * ~dead).transpose(1, 2).flatten(2)
        output = output if out is None else output @ leaves["out.weight"].T
        gradients = torch.autograd.grad((torch.from_numpy(upstream) * output).sum(), list(leaves.values()))
        gradient = dict(zip(leaves, gradients))
        return {"output": output, "dtype": "torch.float64", "gradient": gradient, "arguments_unchanged": True}


def causal(tokens):
    """True above the diagonal: no token sees a later one."""
    return np.triu(np.ones((tokens, tokens), bool), k=1)


def scattered(rng, *shape):
    """A random mask that leaves every query one key at least, itself."""
    return (rng.random(shape) < 0.5) & ~np.eye(shape[-1], dtype=bool)


def with_blind(rng, batch, tokens):
    """A random mask that hides every key from the last query of the first sequence and the first of the last."""
    mask = scattered(rng, batch, tokens, tokens)
    mask[0, -1] = mask[-1, 0] = True
    return mask


@check("SelfAttention", points=2, section="1.10")
class HeadValues(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        yield self.readable()
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5)
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3)
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, loud=30.0)  # scores in the thousands: exp alone overflows

    mistakes = [
        slip("missing-scale", {SCALE: "1.0)"}),
        slip("scale-multiplied-wrong", {SCALE: "self.head_dim**0.5)"},
             "The scores were multiplied by sqrt(head_dim). They are divided by it."),
        slip("scale-without-root", {SCALE: "1 / self.head_dim)"}, "You divided by head_dim. The factor is 1 / sqrt(head_dim)."),
        slip("scale-of-model-width", {SCALE: "self.dim**-0.5)"}),
        slip("softmax-over-queries", {SOFTMAX: "scores.softmax(dim=-2)"}),
        slip("missing-softmax", {SOFTMAX: "scores"}, "The scores were used as weights. Take their softmax over the keys first."),
        slip("softmax-overflow", {SOFTMAX: "scores.exp() / scores.exp().sum(dim=-1, keepdim=True)"},
             "exp of a large score is inf, and inf / inf is NaN. `torch.softmax` subtracts the maximum of the row first."),
        slip("cut-graph", {f"weights = {SOFTMAX}": f"weights = {SOFTMAX}.detach()"}),
    ]


@check("SelfAttention", points=2, section="1.11")
class HeadMasked(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        yield self.readable(mask=causal(2))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=causal(4))
        yield self.drawn(rng, batch=2, tokens=5, dim=3, head_dim=4, mask=scattered(rng, 2, 5, 5))
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3, mask=scattered(rng, 3, 3, 3))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, loud=30.0, mask=causal(4))

    mistakes = [
        slip("mask-ignored", {HIDE: "scores", ZERO: "weights"}),
        slip("mask-inverted", {HIDE: HIDE.replace("mask,", "~mask,"), ZERO: ZERO.replace("mask,", "~mask,")}),
        slip("mask-after-softmax", {HIDE: "scores"}),
        slip("mask-transposed", {HIDE: HIDE.replace("mask,", "mask.mT,"), ZERO: ZERO.replace("mask,", "mask.mT,")}),
        slip("mask-zeroes-scores", {HIDE: "scores.masked_fill(mask, 0.0)", ZERO: "weights"},
             "Hidden scores became 0, and exp(0) = 1 is a weight like any other. They must become very negative."),
        slip("mask-too-weak", {HIDE: "scores - 100.0 * mask", ZERO: "weights"},
             "A modest penalty does not hide a key whose score is large. Fill with -inf or the dtype's minimum."),
        slip("mask-times-infinity", {HIDE: "scores - mask * torch.inf"},
             "0 * inf is NaN: a mask of zeros and ones cannot be multiplied by infinity. `masked_fill` can."),
        slip("in-place", {HIDE: HIDE.replace("mask,", "~mask.logical_not_(),"), ZERO: ZERO.replace("mask,", "~mask,")},
             "The caller's mask was changed. Use `~mask`, not `mask.logical_not_()` or `mask |= ...`."),
    ]


@check("SelfAttention", points=1, section="1.11")
class HeadHiddenRow(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        yield self.readable(mask=np.array([[True, True], [True, False]]))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=with_blind(rng, 2, 4))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=np.ones((4, 4), bool))

    mistakes = [
        slip("nan-row", {HIDE: "scores.masked_fill(mask, -torch.inf)", ZERO: "weights"}),
        slip("uniform-row", {ZERO: "weights"}),
        slip("mask-ignored", {HIDE: "scores", ZERO: "weights"}),
        slip("nan-gradient",
             {HIDE: "scores + torch.zeros_like(scores).masked_fill(mask, -torch.inf)",
              ZERO: "weights.nan_to_num()"}),
    ]


@check("MultiHeadSelfAttention", points=3, section="1.12")
class HeadsValues(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        yield self.readable_heads()
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3)
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3, heads=3)

    mistakes = [
        slip("heads-interleaved", {SPLIT: "view(batch, tokens, 3, self.head_dim, self.heads).transpose(-1, -2)"},
             "You dealt the features to the heads like cards. A head owns head_dim neighbours: view(..., heads, head_dim)."),
        slip("qkv-inside-heads", {SPLIT: "view(batch, tokens, self.heads, 3, self.head_dim).transpose(2, 3)"},
             "You took queries, keys and values head by head. `qkv.weight` has all queries first, then all keys, all values."),
        slip("heads-not-moved-back", {".transpose(1, 2).reshape(batch, tokens, -1)": ".reshape(batch, tokens, -1)"},
             "The heads were joined before their axis was moved behind the tokens: right shape, but features of other tokens."),
        slip("scale-of-model-width", {SCALES: "(self.heads * self.head_dim) ** -0.5)"}),
        slip("missing-scale", {SCALES: "1.0)"}),
        slip("softmax-over-queries", {SOFTMAXES: "torch.softmax(scores, dim=-2)"}),
        slip("softmax-over-heads", {SOFTMAXES: "torch.softmax(scores, dim=1)"},
             "The softmax ran over the heads. It runs over the keys, the last axis, in each head by itself."),
        slip("cut-graph", {f"weights = {SOFTMAXES}": f"weights = {SOFTMAXES}.detach()"}),
    ]


@check("MultiHeadSelfAttention", points=2, section="1.12")
class HeadsMasked(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        yield self.readable_heads(mask=causal(2))
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=3, heads=2, mask=scattered(rng, 2, 4, 4))  # batch == heads
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3, mask=scattered(rng, 2, 4, 4))

    mistakes = [
        slip("mask-on-head-axis", {"mask.unsqueeze(-3)": "mask"},
             "A mask [batch, tokens, tokens] met scores [batch, heads, tokens, tokens] at the heads' axis. Give it a 1 there."),
        slip("mask-ignored", {HIDES: "scores", ZEROS: "weights"}),
        slip("mask-inverted", {"mask.unsqueeze(-3)": "~mask.unsqueeze(-3)"}),
        slip("mask-after-softmax", {HIDES: "scores"}),
        slip("mask-transposed", {"mask.unsqueeze(-3)": "mask.mT.unsqueeze(-3)"}),
    ]


@check("MultiHeadSelfAttention", points=1, section="1.12")
class HeadsHiddenRow(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        yield self.readable_heads(mask=np.array([[True, True], [True, False]]))
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3, mask=with_blind(rng, 2, 4))

    mistakes = [
        slip("nan-row", {HIDES: "scores.masked_fill(hidden, -torch.inf)", ZEROS: "weights"}),
        slip("uniform-row", {ZEROS: "weights"}),
        slip("mask-ignored", {HIDES: "scores", ZEROS: "weights"}),
        slip("nan-gradient",
             {HIDES: "scores + torch.zeros_like(scores).masked_fill(hidden, -torch.inf)",
              ZEROS: "weights.nan_to_num()"}),
    ]
