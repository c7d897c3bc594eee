"""Lesson 1: what is true of the drills and of attention."""

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.einsum_calls import EinsumCheck


def counted(*shape, start=1.0):
    """1, 2, 3, ... in the given shape: a case that can be followed by hand."""
    return np.arange(start, start + np.prod(shape, dtype=int)).reshape(shape)


def wrote(id, right, wrong, hint):
    """The mistake of writing one equation for another. Every equation stands once in the reference."""
    return edit(id, hint, {f'"{right}"': f'"{wrong}"'})


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
        wrote("not-transposed", "ij->ji", "ij->ij", "Both sides name the axes in the same order, so nothing moved."),
        edit("reshape-is-not-transpose",
             "The shape is right but the numbers stand in the old order: reshape cuts the same row of numbers "
             "anew, a transpose moves them.",
             {'torch.einsum("ij->ji", a)': "a.reshape(a.shape[1], a.shape[0])"}),
        wrote("summed-wrong-axis", "ij->ji", "ij->j",
              "A letter that is missing on the right is summed over; a transpose keeps both."),
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
        wrote("first-two-swapped", "...ij->...ji", "ij...->ji...",
              "You swapped the first two axes; `...` belongs in front of the letters."),
        edit("all-axes-reversed",
             "All axes are reversed; only the last two change places.",
             {'torch.einsum("...ij->...ji", a)': "a.permute(*reversed(range(a.dim())))"}),
        edit("reshape-is-not-transpose",
             "The shape is right but the numbers stand in the old order: reshape cuts the same row of numbers "
             "anew, a transpose moves them.",
             {'torch.einsum("...ij->...ji", a)': "a.reshape(*a.shape[:-2], a.shape[-1], a.shape[-2])"}),
        wrote("not-transposed", "...ij->...ji", "...ij->...ij", "Both sides name the axes in the same order, so nothing moved."),
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
              "You reversed the last three axes; the letters come before `...`."),
        wrote("rotated-not-reversed", "xyz...->zyx...", "xyz...->yzx...",
              "The axes were rotated; reversed, the first and the third change places."),
        edit("all-axes-reversed",
             "All axes are reversed; those after the third stay where they are.",
             {'torch.einsum("xyz...->zyx...", a)': "a.permute(*reversed(range(a.dim())))"}),
    ]


@check("sum_over_rows", points=1, section="1.5")
class SumOverRows(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": a.sum(axis=0)}

    mistakes = [
        wrote("summed-wrong-axis", "ij->j", "ij->i",
              "You summed over the columns j. Summing over the rows i leaves one number a column."),
        wrote("summed-everything", "ij->j", "ij->", "No letter is left on the right, so everything was summed."),
        edit("mean-not-sum",
             "This is the mean over the rows; the sum was asked for.",
             {'torch.einsum("ij->j", a)': "a.mean(dim=0)"}),
    ]


@check("sum_over_columns", points=1, section="1.5")
class SumOverColumns(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": a.sum(axis=1)}

    mistakes = [
        wrote("summed-wrong-axis", "ij->i", "ij->j",
              "You summed over the rows i. Summing over the columns j leaves one number a row."),
        wrote("summed-everything", "ij->i", "ij->", "No letter is left on the right, so everything was summed."),
        edit("mean-not-sum",
             "This is the mean over the columns; the sum was asked for.",
             {'torch.einsum("ij->i", a)': "a.mean(dim=1)"}),
    ]


@check("total", points=1, section="1.5")
class Total(Drill):
    arguments = {"a": "ij"}

    def truth(self, a):
        return {"answer": sum(a.ravel())}

    mistakes = [
        wrote("missing-sum", "ij->", "ij->i", "A letter on the right stays free. The total has no letter left."),
        edit("diagonal-only",
             "This adds the diagonal alone; the same letter twice walks along it.",
             {'"ij->", a)': '"ij->", a.diag()[None])'}),
        edit("mean-not-sum",
             "This is the mean of the entries; their sum was asked for.",
             {'torch.einsum("ij->", a)': "a.mean()"}),
    ]


@check("trace", points=1, section="1.5")
class Trace(Drill):
    arguments = {"a": "ii"}

    def truth(self, a):
        return {"answer": sum(a[i, i] for i in range(len(a)))}

    mistakes = [
        wrote("missing-sum", "ii->", "ii->i", "This is the diagonal itself; without a letter on the right it is summed."),
        wrote("summed-everything", "ii->", "ij->",
              "Two different letters walk over all entries; the diagonal is one letter twice."),
        edit("anti-diagonal", "This is the other diagonal, from the upper right.", {'"ii->", a)': '"ii->", a.flip(0))'}),
    ]


@check("marginal_first", points=1, section="1.5")
class MarginalFirst(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=(1, 2))}

    mistakes = [
        wrote("summed-wrong-axis", "xyz->x", "xyz->yz", "You summed the first variable out. It is the one to keep."),
        wrote("other-marginal", "xyz->x", "xyz->z", "This is the distribution of another variable."),
        edit("slice-is-not-marginal",
             "You took the entries with y = z = 0. A marginal adds over all values of the other variables.",
             {'torch.einsum("xyz->x", joint)': "joint[:, 0, 0]"}),
        wrote("missing-sum", "xyz->x", "xyz->xy", "One variable too many is left on the right."),
    ]


@check("marginal_second", points=1, section="1.5")
class MarginalSecond(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=2).sum(axis=0)}

    mistakes = [
        wrote("summed-wrong-axis", "xyz->y", "xyz->xz", "You summed the second variable out. It is the one to keep."),
        wrote("other-marginal", "xyz->y", "xyz->x", "This is the distribution of another variable."),
        edit("slice-is-not-marginal",
             "You took the entries with x = z = 0. A marginal adds over all values of the other variables.",
             {'torch.einsum("xyz->y", joint)': "joint[0, :, 0]"}),
    ]


@check("marginal_first_two", points=1, section="1.5")
class MarginalFirstTwo(Marginal):
    def truth(self, joint):
        return {"answer": joint.sum(axis=2)}

    mistakes = [
        wrote("transposed-output", "xyz->xy", "xyz->yx", "The table is right but lies on its side: x first, then y."),
        wrote("summed-wrong-axis", "xyz->xy", "xyz->yz", "You kept the last two variables; the third is to be summed out."),
        edit("slice-is-not-marginal",
             "You took the entries with z = 0. A marginal adds over all values of z.",
             {'torch.einsum("xyz->xy", joint)': "joint[:, :, 0]"}),
    ]


# --- two tensors ----------------------------------------------------------------------------------------------------


@check("inner", points=1, section="1.6")
class Inner(Drill):
    arguments = {"x": "i", "y": "i"}

    def truth(self, x, y):
        return {"answer": sum(x * y)}

    mistakes = [
        wrote("elementwise-not-contracted", "i,i->", "i,i->i",
              "The products are there but not their sum: i must not stand on the right."),
        wrote("outer-not-inner", "i,i->", "i,j->ij",
              "Two different letters pair every entry with every other; here both walk together."),
        wrote("product-of-sums", "i,i->", "i,j->",
              "This is (sum of x)(sum of y). One shared letter makes it the sum of products."),
    ]


@check("outer", points=1, section="1.6")
class Outer(Drill):
    arguments = {"x": "i", "y": "j"}

    def truth(self, x, y):
        return {"answer": x[:, None] * y[None, :]}

    mistakes = [
        wrote("transposed-output", "i,j->ij", "i,j->ji", "Rows belong to x and columns to y; yours are exchanged."),
        wrote("summed-wrong-axis", "i,j->ij", "i,j->i", "y was summed away: its letter has to stand on the right as well."),
        wrote("summed-everything", "i,j->ij", "i,j->", "Nothing is summed in an outer product; both letters stay on the right."),
    ]


@check("matvec", points=1, section="1.6")
class MatVec(Drill):
    arguments = {"a": "ij", "x": "j"}

    def truth(self, a, x):
        return {"answer": a @ x}

    mistakes = [
        wrote("summed-wrong-axis", "ij,j->i", "ij,i->j",
              "x met the rows of A (this is A^T x). It meets the columns: x_j with A_ij."),
        wrote("elementwise-not-contracted", "ij,j->i", "ij,j->ij", "The products A_ij x_j are there but not their sum over j."),
        wrote("kept-the-summed-index", "ij,j->i", "ij,j->j", "You kept j and summed over i. The answer has one number a row, i."),
    ]


@check("matrix_product", points=1, section="1.6")
class MatrixProduct(Drill):
    arguments = {"a": "ij", "b": "jk"}

    def truth(self, a, b):
        return {"answer": a @ b}

    mistakes = [
        wrote("transposed-output", "ij,jk->ik", "ij,jk->ki", "This is (A B)^T: write the row letter first on the right."),
        wrote("elementwise-not-contracted", "ij,jk->ik", "ij,jk->ijk",
              "The products are there but not their sum: j must not stand on the right."),
        wrote("second-transposed", "ij,jk->ik", "ij,kj->ik", "This is A B^T: the shared letter is the *first* axis of B."),
        wrote("elementwise-product", "ij,jk->ik", "ij,ij->ij",
              "This multiplies entry by entry, as `*` does. A product of matrices shares one letter."),
    ]


@check("gram", points=1, section="1.6")
class Gram(Drill):
    arguments = {"a": "si", "b": "sj"}

    def truth(self, a, b):
        return {"answer": a.T @ b}

    mistakes = [
        wrote("transposed-output", "si,sj->ij", "si,sj->ji", "This is B^T A: the columns of A give the rows of the answer."),
        wrote("rows-compared", "si,sj->ij", "is,js->ij",
              "This is A B^T, which compares rows. The shared letter is the first axis of both."),
        wrote("ordinary-product", "si,sj->ij", "is,sj->ij",
              "This is A B. In A^T B the *first* axis of A meets the first axis of B."),
        wrote("elementwise-not-contracted", "si,sj->ij", "si,sj->sij", "The sum over the samples s is missing."),
    ]


# --- more axes, more tensors ----------------------------------------------------------------------------------------


@check("contract_ijk_ik", points=1, section="1.7")
class ContractIjkIk(Drill):
    arguments = {"a": "ijk", "b": "ik"}

    def truth(self, a, b):
        return {"answer": np.tensordot(a, b, axes=((0, 2), (0, 1)))}

    mistakes = [
        wrote("missing-sum", "ijk,ik->j", "ijk,ik->ij", "You summed over k alone; i is summed too, only j is left."),
        wrote("indices-exchanged", "ijk,ik->j", "ijk,ki->j",
              "B_ki was used for B_ik: the letters of B follow its axes, i first."),
        wrote("summed-wrong-axis", "ijk,ik->j", "ijk,ik->ik", "You summed over j and kept the others. j is the only free index."),
        wrote("product-of-sums", "ijk,ik->j", "ijk,lm->j", "B was summed before it met A: give both the same letters."),
    ]


@check("contract_4d", points=1, section="1.7")
class Contract4d(Drill):
    arguments = {"a": "ijkl", "x": "j", "y": "k"}

    def truth(self, a, x, y):
        return {"answer": ((a * x[:, None, None]).sum(axis=1) * y[:, None]).sum(axis=1)}

    mistakes = [
        wrote("transposed-output", "ijkl,j,k->il", "ijkl,j,k->li", "The answer is [i, l]; yours lies on its side."),
        wrote("vectors-exchanged", "ijkl,j,k->il", "ijkl,k,j->il",
              "x met the axis of y and y that of x. x goes with j, y with k."),
        wrote("missing-sum", "ijkl,j,k->il", "ijkl,j,k->ikl", "k is still on the right, so the sum over k was not taken."),
        wrote("summed-wrong-axis", "ijkl,j,k->il", "ijkl,i,l->jk",
              "The vectors met the outer axes i and l; they belong to j and k, the middle ones."),
    ]


@check("vector_times_3d", points=1, section="1.7")
class VectorTimes3d(Drill):
    arguments = {"x": "i", "a": "jki"}

    def truth(self, x, a):
        return {"answer": a @ x}

    mistakes = [
        wrote("summed-wrong-axis", "i,jki->jk", "i,ijk->jk", "x met the first axis of A; it meets the last."),
        wrote("transposed-output", "i,jki->jk", "i,jki->kj", "The answer is [j, k]; yours lies on its side."),
        wrote("elementwise-not-contracted", "i,jki->jk", "i,jki->jki",
              "The products x_i A_jki are there but not their sum over i."),
    ]


@check("outer_many", points=1, section="1.7")
class OuterMany(Drill):
    arguments = {"a": "i", "b": "j", "c": "k", "d": "l"}

    def truth(self, a, b, c, d):
        return {"answer": np.multiply.outer(np.multiply.outer(np.multiply.outer(a, b), c), d)}

    mistakes = [
        wrote("transposed-output", "i,j,k,l->ijkl", "i,j,k,l->lkji",
              "The axes stand in reverse: the first belongs to a, the last to d."),
        wrote("summed-wrong-axis", "i,j,k,l->ijkl", "i,j,k,l->ijk",
              "d was summed away: its letter has to stand on the right as well."),
        wrote("summed-everything", "i,j,k,l->ijkl", "i,j,k,l->", "Nothing is summed here; all four letters stay on the right."),
    ]


@check("batch_matmul", points=1, section="1.7")
class BatchMatmul(Drill):
    arguments = {"a": "nij", "b": "njk"}

    def truth(self, a, b):
        return {"answer": np.stack([one @ other for one, other in zip(a, b)])}

    mistakes = [
        wrote("batch-summed", "nij,njk->nik", "nij,njk->ik",
              "You summed over the batch. n is free: it stands on the right, once."),
        wrote("batch-mixed", "nij,njk->nik", "nij,mjk->nmik",
              "Every matrix of A met every matrix of B. The same letter n for both keeps pairs together."),
        wrote("transposed-output", "nij,njk->nik", "nij,njk->nki", "Each product lies on its side: rows i, then columns k."),
        wrote("second-transposed", "nij,njk->nik", "nij,nkj->nik",
              "This is A_n B_n^T: the shared letter j is the *middle* axis of b."),
    ]


@check("batch_matmul_swapped", points=1, section="1.7")
class BatchMatmulSwapped(Drill):
    arguments = {"a": "nij", "b": "nkj"}

    def truth(self, a, b):
        return {"answer": np.stack([one @ other.T for one, other in zip(a, b)])}

    mistakes = [
        wrote("swap-forgotten", "nij,nkj->nik", "nij,njk->nik",
              "This is A_n B_n. Here b comes as [batch, columns, inner]: j is its *last* axis."),
        wrote("batch-summed", "nij,nkj->nik", "nij,nkj->ik",
              "You summed over the batch. n is free: it stands on the right, once."),
        wrote("transposed-output", "nij,nkj->nik", "nij,nkj->nki", "Each product lies on its side: rows i, then columns k."),
        wrote("elementwise-not-contracted", "nij,nkj->nik", "nij,nkj->nijk",
              "The products are there but not their sum: j must not stand on the right."),
    ]


# --- attention ------------------------------------------------------------------------------------------------------


@check("attention_scores", points=3, section="1.10")
class Scores(EinsumCheck):
    tolerance = 1e-10  # sums of at most 6 products of normal numbers
    operands, result = ("q", "k"), "scores"

    def cases(self, rng):
        yield {"q": counted(2, 3), "k": counted(4, 3), "scale": 0.5, "upstream": counted(2, 4)}
        for queries, keys in (((2, 3, 5), (2, 4, 5)), ((2, 3, 4, 6), (2, 3, 5, 6)), ((3, 3, 3), (3, 3, 3))):
            upstream = rng.normal(size=(*queries[:-1], keys[-2]))
            yield {"q": rng.normal(size=queries), "k": rng.normal(size=keys), "scale": float(rng.uniform(0.2, 0.8)), "upstream": upstream}

    def truth(self, q, k, scale, upstream):
        gradient = {"q": scale * upstream @ k, "k": scale * np.swapaxes(upstream, -1, -2) @ q}
        scores = scale * (q @ np.swapaxes(k, -1, -2))
        return {"scores": scores, "dtype": "torch.float64", "gradient": gradient, "arguments_unchanged": True}

    def from_sum(self, summed, scale, **case):
        return scale * summed

    mistakes = [
        edit("missing-scale", "`scale` was not used: the products come without it.", {"scale * torch.einsum": "torch.einsum"}),
        edit("scale-divides",
             "You divided by `scale`; it multiplies (1 / sqrt(dim) comes in ready made).",
             {"scale * torch.einsum": "1 / scale * torch.einsum"}),
        wrote("transposed-output", "...id,...jd->...ij", "...id,...jd->...ji",
              "Rows belong to queries and columns to keys; yours are exchanged."),
        wrote("elementwise-not-contracted", "...id,...jd->...ij", "...id,...jd->...ijd",
              "The products are there but not their sum over d."),
        edit("in-place",
             "The caller's q was changed. Write `q * scale`, not `q *= scale` or `q.mul_(scale)`.",
             {'scale * torch.einsum("...id,...jd->...ij", q, k)': 'torch.einsum("...id,...jd->...ij", q.mul_(scale), k)'}),
        edit("cut-graph",
             "The numbers are right but k gets no gradient: `detach`, `.data` or `no_grad` cut it off.",
             {'"...id,...jd->...ij", q, k': '"...id,...jd->...ij", q, k.detach()'}),
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
        wrote("weights-transposed", "...ij,...jd->...id", "...ji,...jd->...id",
              "Each key collected from the queries (W^T v). The sum runs over the keys j, the last axis of W."),
        wrote("elementwise-not-contracted", "...ij,...jd->...id", "...ij,...jd->...ijd",
              "The products are there but not their sum over the keys j."),
        wrote("transposed-output", "...ij,...jd->...id", "...ij,...jd->...di",
              "The answer is [queries, dim]; yours lies on its side."),
        edit("cut-graph",
             "The numbers are right but the weights get no gradient: `detach`, `.data` or `no_grad` cut it off.",
             {'"...ij,...jd->...id", weights, v': '"...ij,...jd->...id", weights.detach(), v'}),
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
        edit("qkv-order",
             "Keys came first. The order is queries, keys, values, in the weight and in what is returned.",
             {"queries, keys, values = self": "keys, queries, values = self"}),
        edit("qkv-interleaved",
             "You took every third row. The first third of the rows makes queries, the second keys, the last values.",
             {"self.qkv(x).chunk(3, dim=-1)": "self.qkv(x).unflatten(-1, (-1, 3)).unbind(-1)"}),
        edit("split-along-tokens",
             "You split the tokens in three. Split the last axis: every token has a query, a key and a value.",
             {"chunk(3, dim=-1)": "chunk(3, dim=1)"}),
        edit("weights-shared",
             "Queries, keys and values are the same vector. Each has its own third of the rows.",
             {"return queries, keys, values": "return queries, queries, queries"}),
    ]


class AttentionCheck(Check):
    """The truth of all attention layers: PyTorch's own attention in float64, with hidden rows set to zero."""

    tolerance = 1e-9  # two products and a softmax over at most 6 float64 numbers

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


@check("SelfAttention", points=2, section="1.10")
class HeadValues(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=2)
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5)
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3)
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, loud=30.0)  # scores in the thousands: exp alone overflows

    mistakes = [
        edit("missing-scale",
             "The scores are not scaled: they need the factor 1 / sqrt(head_dim).",
             {"self.head_dim**-0.5)  # (B, T, T)": "1.0)"}),
        edit("scale-multiplied-wrong",
             "The scores were multiplied by sqrt(head_dim); the factor is 1 / sqrt(head_dim).",
             {"self.head_dim**-0.5)  # (B, T, T)": "self.head_dim**0.5)"}),
        edit("scale-without-root",
             "You divided by head_dim; the factor is 1 / sqrt(head_dim).",
             {"self.head_dim**-0.5)  # (B, T, T)": "1 / self.head_dim)"}),
        edit("scale-of-model-width",
             "You scaled by the width of the tokens, dim. Scores are sums over head_dim products.",
             {"self.head_dim**-0.5)  # (B, T, T)": "self.dim**-0.5)"}),
        edit("softmax-over-queries",
             "The softmax ran over the queries: columns sum to 1. Each query's row, over the keys, sums to 1.",
             {"scores.softmax(dim=-1)": "scores.softmax(dim=-2)"}),
        edit("missing-softmax",
             "The scores were used as weights. Take their softmax over the keys first.",
             {"scores.softmax(dim=-1)": "scores"}),
        edit("softmax-overflow",
             "exp of a large score is inf, and inf / inf is NaN. `torch.softmax` subtracts the row's maximum first.",
             {"scores.softmax(dim=-1)": "scores.exp() / scores.exp().sum(dim=-1, keepdim=True)"}),
        edit("cut-graph",
             "The output is right but the weights pass no gradient on: queries and keys would never learn.",
             {"weights = scores.softmax(dim=-1)": "weights = scores.softmax(dim=-1).detach()"}),
    ]


@check("SelfAttention", points=2, section="1.11")
class HeadMasked(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=2, mask=causal(2))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=causal(4))
        yield self.drawn(rng, batch=2, tokens=5, dim=3, head_dim=4, mask=scattered(rng, 2, 5, 5))
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3, mask=scattered(rng, 3, 3, 3))
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, loud=30.0, mask=causal(4))

    mistakes = [
        edit("mask-ignored",
             "The mask changes nothing: hidden keys still get weight.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores", "weights.masked_fill(mask, 0.0)": "weights"}),
        edit("mask-inverted",
             "The mask is the wrong way round: True means hidden, False means visible.",
             {"masked_fill(mask, torch": "masked_fill(~mask, torch", "masked_fill(mask, 0.0)": "masked_fill(~mask, 0.0)"}),
        edit("mask-after-softmax",
             "Hidden weights were zeroed after the softmax, so a row no longer sums to 1. Hide the scores before it.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores"}),
        edit("mask-zeroes-scores",
             "Hidden scores became 0, and exp(0) = 1 is a weight like any other. They must become very negative.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores.masked_fill(mask, 0.0)",
              "weights.masked_fill(mask, 0.0)": "weights"}),
        edit("mask-transposed",
             "mask[i, j] hides key j from query i; yours hides query i from key j.",
             {"masked_fill(mask, torch": "masked_fill(mask.mT, torch", "masked_fill(mask, 0.0)": "masked_fill(mask.mT, 0.0)"}),
        edit("mask-too-weak",
             "Subtracting a modest number does not hide a key whose score is large. Fill with the dtype's minimum or -inf.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores - 100.0 * mask",
              "weights.masked_fill(mask, 0.0)": "weights"}),
        edit("mask-times-infinity",
             "0 * inf is NaN: a mask of zeros and ones cannot be multiplied by infinity. Use `masked_fill`.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores - mask * torch.inf"}),
        edit("in-place",
             "The caller's mask was changed. Use `~mask`, not `mask.logical_not_()` or `mask |= ...`.",
             {"masked_fill(mask, torch": "masked_fill(~mask.logical_not_(), torch",
              "masked_fill(mask, 0.0)": "masked_fill(~mask, 0.0)"}),
    ]


@check("SelfAttention", points=1, section="1.11")
class HeadHiddenRow(AttentionCheck):
    probe = "self_attention"

    def cases(self, rng):
        hidden = np.array([[True, True], [True, False]])
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=2, mask=hidden)
        some = scattered(rng, 2, 4, 4)
        some[0, 2] = some[1, 0] = True
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=some)
        yield self.drawn(rng, batch=2, tokens=4, dim=3, head_dim=5, mask=np.ones((4, 4), bool))

    mistakes = [
        edit("nan-row",
             "A row of -inf has the softmax 0 / 0 = NaN. Give a row without visible keys the weights 0.",
             {"torch.finfo(scores.dtype).min)  # finite": "-torch.inf)  # finite", "weights.masked_fill(mask, 0.0)": "weights"}),
        edit("uniform-row",
             "A fully hidden row attends to all keys alike: equal scores, however low, have equal weights. Set its "
             "weights to 0.",
             {"weights.masked_fill(mask, 0.0)": "weights"}),
        edit("nan-gradient",
             "The output is right but the gradient is NaN: NaN was made and then painted over. Avoid making it.",
             {"scores.masked_fill(mask, torch.finfo(scores.dtype).min)": "scores + torch.zeros_like(scores).masked_fill(mask, -torch.inf)",
              "weights.masked_fill(mask, 0.0)": "weights.nan_to_num(0.0)"}),
    ]


@check("MultiHeadSelfAttention", points=3, section="1.12")
class HeadsValues(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=1, heads=2)
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3)
        yield self.drawn(rng, batch=3, tokens=3, dim=3, head_dim=3, heads=3)

    mistakes = [
        edit("heads-interleaved",
             "You dealt the features to the heads like cards. A head owns head_dim features in a row: view(..., "
             "heads, head_dim).",
             {"view(batch, tokens, 3, self.heads, self.head_dim)": "view(batch, tokens, 3, self.head_dim, self.heads).transpose(-1, -2)"}),
        edit("qkv-inside-heads",
             "You gave each head its queries, keys and values in one block. The weight has all queries first, then "
             "all keys, then all values.",
             {"view(batch, tokens, 3, self.heads, self.head_dim)": "view(batch, tokens, self.heads, 3, self.head_dim).transpose(2, 3)"}),
        edit("heads-not-moved-back",
             "The heads were joined without moving their axis behind the tokens: the shape is right, the numbers "
             "belong to other tokens.",
             {".transpose(1, 2).reshape(batch, tokens, -1)": ".reshape(batch, tokens, -1)"}),
        edit("scale-of-model-width",
             "You scaled by the whole width. The scores of a head are sums over its head_dim products.",
             {"self.head_dim**-0.5)  # (B, H, T, T)": "(self.heads * self.head_dim) ** -0.5)"}),
        edit("missing-scale",
             "The scores are not scaled: they need the factor 1 / sqrt(head_dim).",
             {"self.head_dim**-0.5)  # (B, H, T, T)": "1.0)"}),
        edit("softmax-over-queries",
             "The softmax ran over the queries: columns sum to 1. Each query's row, over the keys, sums to 1.",
             {"torch.softmax(scores, dim=-1)": "torch.softmax(scores, dim=-2)"}),
        edit("softmax-over-heads",
             "The softmax ran over the heads. It runs over the keys, the last axis, in each head by itself.",
             {"torch.softmax(scores, dim=-1)": "torch.softmax(scores, dim=1)"}),
        edit("cut-graph",
             "The output is right but the weights pass no gradient on: queries and keys would never learn.",
             {"weights = torch.softmax(scores, dim=-1)": "weights = torch.softmax(scores, dim=-1).detach()"}),
    ]


@check("MultiHeadSelfAttention", points=2, section="1.12")
class HeadsMasked(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=1, heads=2, mask=causal(2))
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=3, heads=2, mask=scattered(rng, 2, 4, 4))  # as many sequences as heads
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3, mask=scattered(rng, 2, 4, 4))

    mistakes = [
        edit("mask-on-head-axis",
             "A mask [batch, tokens, tokens] met the scores [batch, heads, tokens, tokens] at the heads' axis. "
             "Give it an axis of 1 there.",
             {"mask.unsqueeze(-3)": "mask"}),
        edit("mask-ignored",
             "The mask changes nothing: hidden keys still get weight.",
             {"scores.masked_fill(hidden, torch.finfo(scores.dtype).min)": "scores",
              "weights.masked_fill(hidden, 0.0)": "weights"}),
        edit("mask-inverted",
             "The mask is the wrong way round: True means hidden, False means visible.",
             {"mask.unsqueeze(-3)": "~mask.unsqueeze(-3)"}),
        edit("mask-after-softmax",
             "Hidden weights were zeroed after the softmax, so a row no longer sums to 1. Hide the scores before it.",
             {"scores.masked_fill(hidden, torch.finfo(scores.dtype).min)": "scores"}),
        edit("mask-transposed",
             "mask[i, j] hides key j from query i; yours hides query i from key j.",
             {"mask.unsqueeze(-3)": "mask.mT.unsqueeze(-3)"}),
    ]


@check("MultiHeadSelfAttention", points=1, section="1.12")
class HeadsHiddenRow(AttentionCheck):
    probe = "multi_head"

    def cases(self, rng):
        hidden = np.array([[True, True], [True, False]])
        yield self.drawn(rng, batch=1, tokens=2, dim=3, head_dim=1, heads=2, mask=hidden)
        some = scattered(rng, 2, 4, 4)
        some[0, 2] = some[1, 0] = True
        yield self.drawn(rng, batch=2, tokens=4, dim=5, head_dim=6, heads=3, mask=some)

    mistakes = [
        edit("nan-row",
             "A row of -inf has the softmax 0 / 0 = NaN. Give a row without visible keys the weights 0.",
             {"masked_fill(hidden, torch.finfo(scores.dtype).min)": "masked_fill(hidden, -torch.inf)",
              "weights.masked_fill(hidden, 0.0)": "weights"}),
        edit("uniform-row",
             "A fully hidden row attends to all keys alike: equal scores, however low, have equal weights. Set its "
             "weights to 0.",
             {"weights.masked_fill(hidden, 0.0)": "weights"}),
        edit("nan-gradient",
             "The output is right but the gradient is NaN: NaN was made and then painted over. Avoid making it.",
             {"scores.masked_fill(hidden, torch.finfo(scores.dtype).min)": "scores + torch.zeros_like(scores).masked_fill(hidden, -torch.inf)",
              "weights.masked_fill(hidden, 0.0)": "weights.nan_to_num(0.0)"}),
    ]
