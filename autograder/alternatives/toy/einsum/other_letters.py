"""Other letters, spaces, capital letters, implicit output, operands in another order: the same sums."""

from torch import einsum


def transpose(a):
    return einsum("ba", a)  # without an arrow the output's letters are in alphabetical order


def transpose_last_two(a):
    return einsum("... p q -> ... q p", a)


def reverse_leading_three(a):
    return einsum("CBA...->ABC...", a)


def sum_over_rows(a):
    return einsum("ab->b", a)


def sum_over_columns(a):
    return einsum("a...->a", a)  # torch sums over axes of "..." that the output leaves out


def total(a):
    return einsum("...->", a)


def trace(a):
    return einsum("aa", a)


def marginal_first(joint):
    return einsum("a...->a", joint)


def marginal_second(joint):
    return einsum("...bc->b", joint)


def marginal_first_two(joint):
    return einsum("...c->...", joint)


def inner(x, y):
    return einsum("n,n", y, x)


def outer(x, y):
    return einsum("a,b", x, y)


def matvec(a, x):
    return einsum("j,ij", x, a)


def matrix_product(a, b):
    return einsum("ab,bc", a, b)


def gram(a, b):
    return einsum("nB,nA->AB", b, a)


def contract_ijk_ik(a, b):
    return einsum("ik,ijk", b, a)


def contract_4d(a, x, y):
    return einsum("j,ijkl,k", x, a, y)


def vector_times_3d(x, a):
    return einsum("...i,i->...", a, x)


def outer_many(a, b, c, d):
    return einsum("a,b,c,d", a, b, c, d)


def batch_matmul(a, b):
    return einsum("...ij,...jk->...ik", a, b)


def batch_matmul_swapped(a, b):
    return einsum("...ij,...kj->...ik", [a, b])


def attention_scores(q, k, scale):
    return einsum("...kd,...qd->...qk", k, q * scale)


def attention_output(weights, v):
    return einsum("...kd,...qk->...qd", v, weights)
