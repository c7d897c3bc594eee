"""Lesson 1: sum like Einstein.

The first 21 functions are drills: each is one call of `torch.einsum` on the arguments as they came, and what the call
returns is the answer. (`numpy.einsum` counts too. So do all ways of writing an equation: any letters, implicit output,
`...`, index lists.) The grader looks at the call: a transpose before it, a sum after it or a `@` in its place is not
the drill. Formulas below write every sum out; turning one into an equation is the exercise.

All functions keep the dtype of their arguments and leave the arguments as they are.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# --- one tensor (section 1.5) ---------------------------------------------------------------------------------------


def transpose(a: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns rows"]:
    """T_ji = A_ij: rows become columns."""
    # BEGIN SOLUTION
    return torch.einsum("ij->ji", a)
    # END SOLUTION


def transpose_last_two(a: Float[Tensor, "*leading rows columns"]) -> Float[Tensor, "*leading columns rows"]:
    """T_...ji = A_...ij: the last two axes change places. `a` has two axes or more; all leading ones stay where they are."""
    # BEGIN SOLUTION
    return torch.einsum("...ij->...ji", a)
    # END SOLUTION


def reverse_leading_three(a: Float[Tensor, "x y z *rest"]) -> Float[Tensor, "z y x *rest"]:
    """R_zyx... = A_xyz...: the first three axes in reverse order. `a` has three axes or more; the later ones stay."""
    # BEGIN SOLUTION
    return torch.einsum("xyz...->zyx...", a)
    # END SOLUTION


def sum_over_rows(a: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns"]:
    """s_j = sum_i A_ij: the row index i is summed over, one number a column is left."""
    # BEGIN SOLUTION
    return torch.einsum("ij->j", a)
    # END SOLUTION


def sum_over_columns(a: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows"]:
    """s_i = sum_j A_ij: the column index j is summed over, one number a row is left."""
    # BEGIN SOLUTION
    return torch.einsum("ij->i", a)
    # END SOLUTION


def total(a: Float[Tensor, "rows columns"]) -> Float[Tensor, ""]:
    """s = sum_i sum_j A_ij, a tensor without axes."""
    # BEGIN SOLUTION
    return torch.einsum("ij->", a)
    # END SOLUTION


def trace(a: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """t = sum_i A_ii: the sum of the diagonal, a tensor without axes (eq. 1.5)."""
    # BEGIN SOLUTION
    return torch.einsum("ii->", a)
    # END SOLUTION


def marginal_first(joint: Float[Tensor, "x y z"]) -> Float[Tensor, "x"]:
    """p(x) = sum_y sum_z p(x, y, z), of a table `joint[x, y, z]` of probabilities: the distribution *of* the first (eq. 1.6)."""
    # BEGIN SOLUTION
    return torch.einsum("xyz->x", joint)
    # END SOLUTION


def marginal_second(joint: Float[Tensor, "x y z"]) -> Float[Tensor, "y"]:
    """p(y) = sum_x sum_z p(x, y, z): the distribution of the second variable (eq. 1.6)."""
    # BEGIN SOLUTION
    return torch.einsum("xyz->y", joint)
    # END SOLUTION


def marginal_first_two(joint: Float[Tensor, "x y z"]) -> Float[Tensor, "x y"]:
    """p(x, y) = sum_z p(x, y, z): the joint distribution of the first two variables (eq. 1.6)."""
    # BEGIN SOLUTION
    return torch.einsum("xyz->xy", joint)
    # END SOLUTION


# --- two tensors (section 1.6) --------------------------------------------------------------------------------------


def inner(x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """s = sum_i x_i y_i, a tensor without axes (eq. 1.7)."""
    # BEGIN SOLUTION
    return torch.einsum("i,i->", x, y)
    # END SOLUTION


def outer(x: Float[Tensor, "m"], y: Float[Tensor, "n"]) -> Float[Tensor, "m n"]:
    """M_ij = x_i y_j: every entry of `x` times every entry of `y`; nothing is summed (eq. 1.8)."""
    # BEGIN SOLUTION
    return torch.einsum("i,j->ij", x, y)
    # END SOLUTION


def matvec(a: Float[Tensor, "rows columns"], x: Float[Tensor, "columns"]) -> Float[Tensor, "rows"]:
    """y_i = sum_j A_ij x_j (eq. 1.1)."""
    # BEGIN SOLUTION
    return torch.einsum("ij,j->i", a, x)
    # END SOLUTION


def matrix_product(a: Float[Tensor, "rows inner"], b: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    """C_ik = sum_j A_ij B_jk (eq. 1.3)."""
    # BEGIN SOLUTION
    return torch.einsum("ij,jk->ik", a, b)
    # END SOLUTION


def gram(a: Float[Tensor, "samples m"], b: Float[Tensor, "samples n"]) -> Float[Tensor, "m n"]:
    """G_ij = sum_s A_si B_sj, that is A^T B: how much column i of `a` and column j of `b` have in common (eq. 1.9)."""
    # BEGIN SOLUTION
    return torch.einsum("si,sj->ij", a, b)
    # END SOLUTION


# --- more axes, more tensors (section 1.7) --------------------------------------------------------------------------


def contract_ijk_ik(a: Float[Tensor, "i j k"], b: Float[Tensor, "i k"]) -> Float[Tensor, "j"]:
    """r_j = sum_i sum_k A_ijk B_ik (eq. 1.10)."""
    # BEGIN SOLUTION
    return torch.einsum("ijk,ik->j", a, b)
    # END SOLUTION


def contract_4d(a: Float[Tensor, "i j k l"], x: Float[Tensor, "j"], y: Float[Tensor, "k"]) -> Float[Tensor, "i l"]:
    """R_il = sum_j sum_k A_ijkl x_j y_k, three tensors in one equation (eq. 1.11)."""
    # BEGIN SOLUTION
    return torch.einsum("ijkl,j,k->il", a, x, y)
    # END SOLUTION


def vector_times_3d(x: Float[Tensor, "i"], a: Float[Tensor, "j k i"]) -> Float[Tensor, "j k"]:
    """R_jk = sum_i x_i A_jki: the vector meets the *last* axis of `a` (eq. 1.12)."""
    # BEGIN SOLUTION
    return torch.einsum("i,jki->jk", x, a)
    # END SOLUTION


def outer_many(
    a: Float[Tensor, "i"], b: Float[Tensor, "j"], c: Float[Tensor, "k"], d: Float[Tensor, "l"]
) -> Float[Tensor, "i j k l"]:
    """R_ijkl = a_i b_j c_k d_l: if the four are distributions, the joint table of four independent variables (eq. 1.13)."""
    # BEGIN SOLUTION
    return torch.einsum("i,j,k,l->ijkl", a, b, c, d)
    # END SOLUTION


def batch_matmul(
    a: Float[Tensor, "batch rows inner"], b: Float[Tensor, "batch inner columns"]
) -> Float[Tensor, "batch rows columns"]:
    """C_nik = sum_j A_nij B_njk: a matrix product for each n, and no mixing between different n (eq. 1.14)."""
    # BEGIN SOLUTION
    return torch.einsum("nij,njk->nik", a, b)
    # END SOLUTION


def batch_matmul_swapped(
    a: Float[Tensor, "batch rows inner"], b: Float[Tensor, "batch columns inner"]
) -> Float[Tensor, "batch rows columns"]:
    """C_nik = sum_j A_nij B_nkj: as `batch_matmul`, with the last two axes of `b` swapped: A_n B_n^T for each n (eq. 1.15)."""
    # BEGIN SOLUTION
    return torch.einsum("nij,nkj->nik", a, b)
    # END SOLUTION


# --- attention (sections 1.10 to 1.12) ------------------------------------------------------------------------------


def attention_scores(
    q: Float[Tensor, "*leading queries dim"], k: Float[Tensor, "*leading keys dim"], scale: float
) -> Float[Tensor, "*leading queries keys"]:
    """S_...ij = scale * sum_d q_...id k_...jd: query i against key j (eq. 1.18). Any leading axes (batch, heads), or none.

    `scale` multiplies. The products and their sum are one einsum call on `q` and `k`; scaling q, k or the result are all fine.
    """
    # BEGIN SOLUTION
    return scale * torch.einsum("...id,...jd->...ij", q, k)
    # END SOLUTION


def attention_output(
    weights: Float[Tensor, "*leading queries keys"], v: Float[Tensor, "*leading keys dim"]
) -> Float[Tensor, "*leading queries dim"]:
    """O_...id = sum_j W_...ij v_...jd: for each query the mean of the values, weighted by its row (eq. 1.20). One einsum call."""
    # BEGIN SOLUTION
    return torch.einsum("...ij,...jd->...id", weights, v)
    # END SOLUTION


def check_mask(mask: Tensor | None, x: Float[Tensor, "batch tokens dim"]) -> None:
    """Given. Raises ValueError unless `mask` is None or boolean of shape [tokens, tokens] or [batch, tokens, tokens]."""
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: expected booleans (True = hidden), received {mask.dtype}")
    batch, tokens = x.shape[:2]
    if tuple(mask.shape) not in ((tokens, tokens), (batch, tokens, tokens)):
        wanted = f"({tokens}, {tokens}) or ({batch}, {tokens}, {tokens})"
        raise ValueError(f"mask: expected shape {wanted}, received {tuple(mask.shape)}")


class SelfAttention(nn.Module):
    """One attention head over the tokens of a sequence (section 1.10; Vaswani et al. 2017, eq. 1).

    dim: width of a token's vector; head_dim: width of queries, keys and values (`dim` if None).
    The state dict is part of the contract: {"qkv.weight": (3 * head_dim, dim)}, no bias. Rows 0 to head_dim - 1 make the
    queries, the next head_dim rows the keys, the last head_dim rows the values.
    """

    def __init__(self, dim: int, head_dim: int | None = None) -> None:
        super().__init__()
        self.dim, self.head_dim = dim, head_dim or dim
        self.qkv = nn.Linear(dim, 3 * self.head_dim, bias=False)

    def to_qkv(
        self, x: Float[Tensor, "batch tokens dim"]
    ) -> tuple[
        Float[Tensor, "batch tokens head_dim"], Float[Tensor, "batch tokens head_dim"], Float[Tensor, "batch tokens head_dim"]
    ]:
        """Queries, keys and values of every token, in this order (eq. 1.17). Uses the layout of `qkv.weight` stated above."""
        # BEGIN SOLUTION
        queries, keys, values = self.qkv(x).chunk(3, dim=-1)
        return queries, keys, values
        # END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "*batch tokens tokens"] | None = None
    ) -> Float[Tensor, "batch tokens head_dim"]:
        """softmax(q k^T / sqrt(head_dim)) v, the softmax over the keys (eq. 1.18 to 1.20).

        mask: [tokens, tokens] for all sequences or [batch, tokens, tokens]; mask[..., i, j] True hides key j from query i:
        its weight is exactly 0 and the others of the row share 1 (eq. 1.22). A row that is hidden altogether gives zeros,
        not NaN, and gives no NaN to any gradient. Raises ValueError for a mask of another dtype or shape (`check_mask`).
        """
        check_mask(mask, x)
        # BEGIN SOLUTION
        q, k, v = self.to_qkv(x)
        scores = attention_scores(q, k, self.head_dim**-0.5)  # (B, T, T)
        if mask is not None:
            scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)  # finite: a hidden row stays free of NaN
        weights = scores.softmax(dim=-1)
        if mask is not None:
            weights = weights.masked_fill(mask, 0.0)  # changes hidden rows alone; elsewhere these weights are 0 already
        return attention_output(weights, v)
        # END SOLUTION


class MultiHeadSelfAttention(nn.Module):
    """Several heads side by side, and a linear map that mixes their outputs (section 1.12; Vaswani et al. 2017, section 3.2.2).

    dim: width of a token's vector, in and out; heads: how many; head_dim: width of one head (`dim // heads` if None).
    The state dict is part of the contract, with no biases:
        "qkv.weight": (3 * heads * head_dim, dim)   first all rows that make queries, then keys, then values; inside each
                                                    third the head_dim rows of head 0, then those of head 1, ...
        "out.weight": (dim, heads * head_dim)       column h * head_dim + d reads entry d of head h's output
    Raises ValueError if `heads` is less than 1, or does not divide `dim` where head_dim is None.
    """

    def __init__(self, dim: int, heads: int, head_dim: int | None = None) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads: expected 1 or more, received {heads}")
        if head_dim is None and dim % heads:
            raise ValueError(f"heads: expected a divisor of dim = {dim} (or give head_dim), received {heads}")
        self.dim, self.heads, self.head_dim = dim, heads, head_dim or dim // heads
        self.qkv = nn.Linear(dim, 3 * heads * self.head_dim, bias=False)
        self.out = nn.Linear(heads * self.head_dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "*batch tokens tokens"] | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """Each head attends as `SelfAttention` does, with scale 1 / sqrt(head_dim); `out` mixes the joined heads (eq. 1.23).

        mask: as in `SelfAttention`, the same for all heads of a sequence. Raises ValueError as there.
        """
        check_mask(mask, x)
        # BEGIN SOLUTION
        batch, tokens, _ = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, self.head_dim)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        scores = attention_scores(q, k, self.head_dim**-0.5)  # (B, H, T, T)
        if mask is not None:
            hidden = mask.unsqueeze(-3)  # (1, T, T) or (B, 1, T, T): the same for every head
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None:
            weights = weights.masked_fill(hidden, 0.0)
        joined = attention_output(weights, v).transpose(1, 2).reshape(batch, tokens, -1)  # (B, T, H * D), head 0 first
        return self.out(joined)
        # END SOLUTION
