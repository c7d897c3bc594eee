"""NumPy's einsum on the tensors' memory, and views of an argument that change nothing."""

import numpy as np
import torch


def inner(x, y):
    return torch.tensor(np.einsum("i,i", x, y))


def trace(a):
    return torch.tensor(np.einsum("ii", a.numpy()))


def matrix_product(a, b):
    return torch.from_numpy(np.einsum("ij,jk->ik", a.numpy(), b.numpy()))


def contract_4d(a, x, y):
    return torch.from_numpy(np.einsum("ijkl,j,k->il", a.numpy(), x.numpy(), y.numpy(), optimize=True))


def batch_matmul(a, b):
    return torch.from_numpy(np.einsum(a, [0, 1, 2], b, [0, 2, 3], [0, 1, 3]))


def gram(a, b):
    return torch.functional.einsum("si,sj->ij", a.view_as(a), b[:]).contiguous()


def total(a):
    return torch.einsum("ij->", a.detach()).clone()
