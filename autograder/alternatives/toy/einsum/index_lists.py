"""The other way to call einsum: each operand with a list of its indices, then the list of the output."""

import torch


def transpose(a):
    return torch.einsum(a, [0, 1], [1, 0])


def transpose_last_two(a):
    return torch.einsum(a, [..., 0, 1], [..., 1, 0])


def reverse_leading_three(a):
    return torch.einsum(a, [0, 1, 2, ...], [2, 1, 0, ...])


def sum_over_rows(a):
    return torch.einsum(a, [0, 1], [1])


def sum_over_columns(a):
    return torch.einsum(a, [30, 40], [30])


def total(a):
    return torch.einsum(a, [0, 1], [])


def trace(a):
    return torch.einsum(a, [7, 7])


def marginal_first(joint):
    return torch.einsum(joint, [0, 1, 2], [0])


def marginal_second(joint):
    return torch.einsum(joint, [0, 1, 2], [1])


def marginal_first_two(joint):
    return torch.einsum(joint, [0, 1, 2], [0, 1])


def inner(x, y):
    return torch.einsum(x, [0], y, [0])


def outer(x, y):
    return torch.einsum(x, [25], y, [26])  # Z and a: in this order without an output list


def matvec(a, x):
    return torch.einsum(a, [0, 1], x, [1], [0])


def matrix_product(a, b):
    return torch.einsum(a, [0, 1], b, [1, 2], [0, 2])


def gram(a, b):
    return torch.einsum(a, [2, 0], b, [2, 1])


def contract_ijk_ik(a, b):
    return torch.einsum(a, [0, 1, 2], b, [0, 2], [1])


def contract_4d(a, x, y):
    return torch.einsum(a, [0, 1, 2, 3], x, [1], y, [2])


def vector_times_3d(x, a):
    return torch.einsum(x, [0], a, [1, 2, 0], [1, 2])


def outer_many(a, b, c, d):
    return torch.einsum(a, [0], b, [1], c, [2], d, [3], [0, 1, 2, 3])


def batch_matmul(a, b):
    return torch.einsum(a, [0, 1, 2], b, [0, 2, 3], [0, 1, 3])


def batch_matmul_swapped(a, b):
    return torch.einsum(a, [0, 1, 2], b, [0, 3, 2], [0, 1, 3])


def attention_scores(q, k, scale):
    return torch.einsum(q, [..., 0, 1], k * scale, [..., 2, 1], [..., 0, 2])


def attention_output(weights, v):
    return torch.einsum(weights, [..., 0, 1], v, [..., 1, 2], [..., 0, 2])
