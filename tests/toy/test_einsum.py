"""Lesson 1: what is true of einsum and of attention, and that the lesson's text says nothing else."""

import importlib.util
import itertools
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from solutions.toy import einsum as toy

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "lessons" / "01-einsum"
EXACT = 0.0  # sums of products of small whole numbers are exact in float64
CLOSE = {"rtol": 1e-12, "atol": 1e-12}  # a few dozen float64 operations on numbers of size 1 to 10


def whole(*shape, start=1):
    """Small whole numbers, no two alike."""
    return torch.arange(start, start + math.prod(shape), dtype=torch.float64).reshape(shape)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_loops(equation, *tensors):
    """Equation (1.4): a loop for each letter, one product, added where the free letters say."""
    left, right = equation.split("->")
    sizes = {letter: n for term, t in zip(left.split(","), tensors) for letter, n in zip(term, t.shape)}
    result = torch.zeros([sizes[letter] for letter in right], dtype=torch.float64)
    for values in itertools.product(*map(range, sizes.values())):
        at = dict(zip(sizes, values))
        factors = [t[tuple(at[letter] for letter in term)] for term, t in zip(left.split(","), tensors)]
        result[tuple(at[letter] for letter in right)] += math.prod(factors)
    return result


# --- the drills -----------------------------------------------------------------------------------------------------

A23, A34, A33, J234 = whole(2, 3), whole(3, 4), whole(3, 3), whole(2, 3, 4)
DRILLS = [
    ("transpose", "ij->ji", [A23]),
    ("transpose_last_two", "abij->abji", [whole(2, 3, 4, 5)]),
    ("reverse_leading_three", "xyzab->zyxab", [whole(2, 3, 4, 5, 2)]),
    ("sum_over_rows", "ij->j", [A23]),
    ("sum_over_columns", "ij->i", [A23]),
    ("total", "ij->", [A23]),
    ("trace", "ii->", [A33]),
    ("marginal_first", "xyz->x", [J234]),
    ("marginal_second", "xyz->y", [J234]),
    ("marginal_first_two", "xyz->xy", [J234]),
    ("inner", "i,i->", [whole(4), whole(4, start=5)]),
    ("outer", "i,j->ij", [whole(2), whole(3)]),
    ("matvec", "ij,j->i", [A23, whole(3)]),
    ("matrix_product", "ij,jk->ik", [A23, A34]),
    ("gram", "si,sj->ij", [A23, whole(2, 4)]),
    ("contract_ijk_ik", "ijk,ik->j", [J234, whole(2, 4)]),
    ("contract_4d", "ijkl,j,k->il", [whole(2, 3, 4, 5), whole(3), whole(4)]),
    ("vector_times_3d", "i,jki->jk", [whole(4), J234]),
    ("outer_many", "i,j,k,l->ijkl", [whole(2), whole(3), whole(4), whole(5)]),
    ("batch_matmul", "nij,njk->nik", [J234, whole(2, 4, 5)]),
    ("batch_matmul_swapped", "nij,nkj->nik", [J234, whole(2, 5, 4)]),
]


@pytest.mark.parametrize("name, equation, arguments", DRILLS, ids=[d[0] for d in DRILLS])
def test_a_drill_is_its_loops(name, equation, arguments):
    before = [a.clone() for a in arguments]
    answer = getattr(toy, name)(*arguments)
    torch.testing.assert_close(answer, by_loops(equation, *arguments), rtol=0, atol=EXACT)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before))
    assert getattr(toy, name)(*[a.float() for a in arguments]).dtype == torch.float32


def test_marginals_of_independent_variables_are_the_factors():
    first, second, third = (torch.softmax(normal(n, seed=n), 0) for n in (3, 4, 5))
    joint = toy.outer_many(first, second, third, torch.ones(1, dtype=torch.float64))[..., 0]
    torch.testing.assert_close(toy.marginal_first(joint), first, **CLOSE)
    torch.testing.assert_close(toy.marginal_second(joint), second, **CLOSE)
    torch.testing.assert_close(toy.marginal_first_two(joint), toy.outer(first, second), **CLOSE)


def test_swapped_is_batch_matmul_of_the_transposed():
    a, b = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    torch.testing.assert_close(toy.batch_matmul_swapped(a, b), toy.batch_matmul(a, toy.transpose_last_two(b)), **CLOSE)


# --- what the text says of einsum -----------------------------------------------------------------------------------


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("i,i->", [(3,), (3,)]), ("nij,nkj->nik", [(2, 3, 4), (2, 5, 4)]),
    ("ijk,ik->j", [(2, 3, 4), (2, 4)]), ("ijkl,j,k->il", [(2, 3, 4, 5), (3,), (4,)]), ("i,jki->jk", [(4,), (2, 3, 4)]),
])  # fmt: skip
def test_to_differentiate_exchange_the_input_with_the_output(equation, shapes):
    left, right = equation.split("->")
    terms = left.split(",")
    inputs = [normal(*shape, seed=n).requires_grad_() for n, shape in enumerate(shapes)]
    output = torch.einsum(equation, *inputs)
    upstream = normal(*output.shape, seed=9)
    gradients = torch.autograd.grad((output * upstream).sum(), inputs)
    for n, gradient in enumerate(gradients):
        exchanged = ",".join([*terms[:n], right, *terms[n + 1 :]]) + "->" + terms[n]
        others = [*inputs[:n], upstream, *inputs[n + 1 :]]
        torch.testing.assert_close(gradient, torch.einsum(exchanged, *others), **CLOSE)


def test_the_small_print():
    a, t, x = whole(2, 3), whole(2, 3, 4), whole(3)
    assert torch.equal(torch.einsum("ii->i", A33), A33.diag())
    assert torch.equal(torch.einsum("i,i,i->", x, x, x), (x**3).sum())
    assert torch.equal(torch.einsum("...i->...", t), t.sum(-1))
    assert torch.equal(torch.einsum("kij", t), torch.einsum("kij->ijk", t))  # without an arrow: in alphabetical order
    assert torch.equal(torch.einsum("ijk", t), t)
    assert torch.equal(torch.einsum("Ij->jI", a), torch.einsum("I j -> j I", a))
    assert torch.equal(torch.einsum(a, [0, 1], whole(3, 2), [1, 2], [0, 2]), a @ whole(3, 2))
    assert torch.einsum("ij->ji", a).data_ptr() == a.data_ptr()  # a view
    assert torch.einsum("i,i->", torch.ones(1), torch.ones(3)) == 3.0  # a size of 1 is stretched
    assert torch.equal(torch.einsum("...->", a), a.sum())
    with pytest.raises(ValueError):
        np.einsum("...->", a.numpy())
    with pytest.raises(RuntimeError, match="does not broadcast"):
        torch.einsum("ij,jk->ik", a, whole(4, 2))
    assert torch.equal(torch.einsum("ij,j->ij", a, x), a * x)
    assert torch.equal(torch.einsum("ij,ij->j", a, a), (a * a).sum(0))


def test_tensordot_takes_a_tuple_of_tuples():
    a, b = whole(3, 4, 3), whole(3, 3)
    right = toy.contract_ijk_ik(a, b)
    assert torch.equal(torch.tensordot(a, b, dims=((0, 2), (0, 1))), right)
    flat = np.tensordot(a.numpy(), b.numpy(), axes=(0, 1))  # axis 0 of a with axis 1 of b, and no complaint: both are 3 long
    assert np.array_equal(flat, np.einsum("ijk,li->jkl", a.numpy(), b.numpy()))
    assert flat.shape != tuple(right.shape)


def test_the_order_of_contractions_changes_the_cost_and_not_the_value():
    from numpy import einsum_path

    n = 50
    a, b, x = np.ones((n, n)), np.ones((n, n)), np.ones(n)
    best = einsum_path("ij,jk,k->i", a, b, x, optimize="optimal")[0]
    assert best == ["einsum_path", (1, 2), (0, 1)]  # B x first
    figures = load_figures()
    assert figures.loops([n]) == (pytest.approx([n**3 + n**2]), pytest.approx([2 * n**2]))
    q, k, v = (normal(6, 4, seed=s) for s in range(3))
    torch.testing.assert_close((q @ k.T) @ v, q @ (k.T @ v), **CLOSE)


# --- attention ------------------------------------------------------------------------------------------------------


def head_with(dim=5, head_dim=3, seed=0):
    head = toy.SelfAttention(dim, head_dim).double()
    head.load_state_dict({"qkv.weight": normal(3 * head_dim, dim, seed=seed)})
    return head


def layer_with(dim=5, heads=2, head_dim=3, seed=0):
    layer = toy.MultiHeadSelfAttention(dim, heads, head_dim).double()
    width = heads * head_dim
    layer.load_state_dict({"qkv.weight": normal(3 * width, dim, seed=seed), "out.weight": normal(dim, width, seed=seed + 1)})
    return layer


def causal(tokens):
    return torch.ones(tokens, tokens, dtype=torch.bool).triu(1)


def test_a_head_is_scaled_dot_product_attention():
    head, x = head_with(), normal(2, 4, 5, seed=3)
    q, k, v = head.to_qkv(x)
    torch.testing.assert_close(head(x), F.scaled_dot_product_attention(q, k, v), **CLOSE)
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=~causal(4))  # PyTorch's True means visible
    torch.testing.assert_close(head(x, causal(4)), masked, **CLOSE)


def test_the_weights_are_the_contract():
    assert {k: tuple(v.shape) for k, v in toy.SelfAttention(5, 3).state_dict().items()} == {"qkv.weight": (9, 5)}
    assert {k: tuple(v.shape) for k, v in toy.SelfAttention(4).state_dict().items()} == {"qkv.weight": (12, 4)}
    shapes = {k: tuple(v.shape) for k, v in toy.MultiHeadSelfAttention(6, 3).state_dict().items()}
    assert shapes == {"qkv.weight": (18, 6), "out.weight": (6, 6)}


def test_many_heads_are_single_heads_side_by_side():
    layer, x, mask = layer_with(dim=5, heads=2, head_dim=3), normal(2, 4, 5, seed=4), causal(4)
    parts = layer.qkv.weight.detach().view(3, 2, 3, 5)
    outputs = []
    for h in range(2):
        head = toy.SelfAttention(5, 3).double()
        head.load_state_dict({"qkv.weight": parts[:, h].reshape(9, 5)})
        outputs.append(head(x, mask))
    torch.testing.assert_close(layer(x, mask), torch.cat(outputs, -1) @ layer.out.weight.T, **CLOSE)


@pytest.mark.parametrize("make", [head_with, layer_with])
def test_attention_does_not_know_where_a_token_stands(make):
    layer, x, order = make(), normal(2, 4, 5, seed=5), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], **CLOSE)


@pytest.mark.parametrize("make", [head_with, layer_with])
def test_hidden_tokens_do_not_exist(make):
    layer, x = make(), normal(2, 4, 5, seed=6).requires_grad_()
    output = layer(x, causal(4))
    other = x.detach().clone()
    other[:, 3] = 100.0
    assert torch.equal(layer(other, causal(4))[:, :3], output[:, :3])  # exactly: their weights are 0, not small
    (gradient,) = torch.autograd.grad(output[:, :3].sum(), x)
    assert torch.equal(gradient[:, 3], torch.zeros(2, 5, dtype=torch.float64))
    torch.testing.assert_close(layer(x[:, :3], causal(3)), output[:, :3], **CLOSE)


@pytest.mark.parametrize("make", [head_with, layer_with])
def test_a_mask_for_each_sequence(make):
    layer, x = make(), normal(2, 4, 5, seed=7)
    masks = torch.stack([causal(4), causal(4).T])
    together = layer(x, masks)
    for b in range(2):
        torch.testing.assert_close(together[b : b + 1], layer(x[b : b + 1], masks[b]), **CLOSE)


@pytest.mark.parametrize("make", [head_with, layer_with])
def test_a_query_that_sees_nothing_gives_zeros_and_no_nan(make):
    layer, x = make(), normal(2, 4, 5, seed=8).requires_grad_()
    mask = causal(4).repeat(2, 1, 1)
    mask[0, 2] = mask[1, 0] = True
    output = layer(x, mask)
    assert torch.equal(output[0, 2], torch.zeros_like(output[0, 2])) and torch.equal(output[1, 0], torch.zeros_like(output[1, 0]))
    output.square().sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (x, *layer.parameters()))


def test_gradients_by_finite_differences():
    layer, x = layer_with(), normal(1, 3, 5, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: layer(t, causal(3)), x)


def test_a_painted_over_nan_comes_back_in_training():
    """Section 1.11 and the question `nan-where`: finite loss, NaN gradient, NaN weights after one step."""
    head, x = head_with(), normal(1, 3, 5, seed=10)
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[1] = True
    q, k, v = head.to_qkv(x)
    scores = toy.attention_scores(q, k, 3**-0.5) + torch.zeros(3, 3, dtype=torch.float64).masked_fill(mask, -torch.inf)
    scores.retain_grad()
    output = toy.attention_output(scores.softmax(-1).nan_to_num(0.0), v)
    assert torch.equal(output[0, 1], torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    loss = output.square().sum()
    assert torch.isfinite(loss)
    loss.backward()
    assert scores.grad[0, 1].isnan().all() and torch.isfinite(scores.grad[0, 0]).all()
    optimizer.step()
    assert head.qkv.weight[:6].isnan().all()  # the rows that make queries and keys


def test_masked_fill_with_infinity_keeps_the_nan_in():
    """`masked_fill` passes no gradient to what it fills, so -inf is right too if the weights are repaired."""
    scores = normal(2, 3).requires_grad_()
    mask = torch.tensor([[True, True, True], [False, True, False]])
    weights = scores.masked_fill(mask, -torch.inf).softmax(-1).masked_fill(mask, 0.0)
    (gradient,) = torch.autograd.grad((weights * normal(2, 3, seed=1)).sum(), scores)
    assert torch.isfinite(gradient).all()
    assert scores.masked_fill(mask, -torch.inf).softmax(-1)[0].isnan().all()
    low = scores.masked_fill(mask, torch.finfo(scores.dtype).min).softmax(-1)[0]
    torch.testing.assert_close(low, torch.full((3,), 1 / 3, dtype=torch.float64), **CLOSE)


def test_the_scale_keeps_the_spread_of_scores():
    """(1.21): 100,000 scores. The standard error of a sample variance is sqrt(2 / n) of it for nearly normal scores: 4 sigma."""
    n, width, s, t = 100_000, 64, 1.5, 0.5
    q, k = s * normal(n, width), t * normal(n, width, seed=1)
    variance = (torch.einsum("nd,nd->n", q, k) * width**-0.5).var().item()
    kurtosis = 2 + 6 / width  # (E z^4 - E z^2 ^2) / E z^2 ^2 of a mean of products of two normal numbers
    assert abs(variance / (s * t) ** 2 - 1) < 4 * math.sqrt(kurtosis / n)


def test_a_softmax_over_queries_leaks_the_future():
    """The question `softmax-axis`: the output at position 0 changes with a later token, in spite of the mask."""
    scores = normal(3, 3).masked_fill(causal(3), -torch.inf)
    later = scores.clone()
    later[2, 0] += 1.0
    assert not torch.allclose(scores.softmax(0)[0], later.softmax(0)[0])
    assert torch.equal(scores.softmax(1)[0], later.softmax(1)[0])


def test_what_is_refused():
    x, head = normal(2, 3, 5), head_with()
    for mask, words in (
        (torch.zeros(3, 3), "mask: expected booleans"),
        (torch.zeros(3, 4, dtype=torch.bool), r"mask: expected shape \(3, 3\) or \(2, 3, 3\), received \(3, 4\)"),
        (torch.zeros(1, 3, 3, dtype=torch.bool), "mask: expected shape"),
    ):
        for layer in (head, layer_with()):
            with pytest.raises(ValueError, match=words):
                layer(x, mask)
    with pytest.raises(ValueError, match="heads: expected a divisor of dim = 6"):
        toy.MultiHeadSelfAttention(6, 4)
    with pytest.raises(ValueError, match="heads: expected 1 or more"):
        toy.MultiHeadSelfAttention(6, 0)


# --- the lesson -----------------------------------------------------------------------------------------------------


def load_figures():
    spec = importlib.util.spec_from_file_location("einsum_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_number_of_the_lesson_is_computed():
    text = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
    for phrase in load_figures().numbers():
        assert phrase in text, phrase


def test_pictures_sections_and_equations_exist():
    text = (LESSON / "lesson.md").read_text(encoding="utf-8")
    for picture in re.findall(r"\]\((\w+\.png)\)", text):
        assert (LESSON / picture).is_file()
    tags = set(re.findall(r"\\tag\{(1\.\d+)\}", text))
    assert tags == {f"1.{n}" for n in range(1, 24)}
    source = (ROOT / "solutions/toy/einsum.py").read_text(encoding="utf-8")
    assert set(re.findall(r"eq\. (1\.\d+)", source)) <= tags


def test_the_answers_of_the_questions():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    a, b, n = normal(3, 3), normal(3, 3, seed=1), 1000
    values = [torch.trace(a.T @ b), torch.trace(a @ b.T), (a @ b).sum(), a.flatten() @ b.flatten()]
    same = [i for i, value in enumerate(values) if torch.isclose(value, torch.einsum("ij,ij->", a, b))]
    assert questions["same-number"]["answer"] == same
    values = [a @ b, (a @ b).T, a @ b.T]
    implicit = torch.einsum("kj,ji", a, b)
    assert questions["implicit-output"]["answer"] == [i for i, value in enumerate(values) if torch.allclose(value, implicit)]
    assert questions["products-counted"]["answer"] == 8 * 20 * 30 * 50
    assert questions["order-counted"]["answer"] == (n**3 + n**2) / (2 * n**2)
    q, k, upstream = normal(2, 3, 4), normal(2, 3, 4, seed=1).requires_grad_(), normal(2, 3, 3, seed=2)
    (gradient,) = torch.autograd.grad((torch.einsum("bid,bjd->bij", q, k) * upstream).sum(), k)
    equations = [re.match(r'"([^"]*)" on G, q', choice)[1] for choice in questions["gradient-of-scores"]["choices"]]
    right = [i for i, e in enumerate(equations) if torch.allclose(torch.einsum(e, upstream, q), gradient)]
    assert questions["gradient-of-scores"]["answer"] == right


# --- the grader -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    from autograder.checks import checks_in
    from autograder.checks.toy import einsum

    return checks_in(einsum)


@pytest.fixture(scope="module")
def grade(checks):
    """How a source text fares: {exercise: [verdicts]} over the checks of the exercises named (all without names)."""
    from autograder import reference
    from autograder.grading.examine import Workspace, examine
    from autograder.grading.oracle import Oracle
    from autograder.sandbox.executor import InProcess

    oracle = Oracle("toy.einsum", 7)

    def run(text, *names, append=True):
        source = reference.source("toy.einsum") + "\n\n" + text if append else text
        workspace = Workspace("toy.einsum", {"toy.einsum": source})
        asked = [c for c in checks if c.exercise in names or not names]
        return [(c, examine(c, workspace, oracle, InProcess(), public=True)) for c in asked]

    return run


def test_points_names_and_mistakes(checks):
    assert len({c.exercise for c in checks}) == 26 and sum(c.points for c in checks) == 40
    for c in checks:
        ids = [m.id for m in c.known_mistakes()]
        assert len(ids) == len(set(ids)) >= 3, c.exercise
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert set(hints) == {c.exercise for c in checks} and all(len(h["levels"]) == 3 for h in hints.values())


def test_the_skeleton_is_the_solution_without_its_solutions(grade):
    from autograder.skeletons import skeleton

    text = skeleton((ROOT / "solutions/toy/einsum.py").read_text(encoding="utf-8"), 1)
    assert (ROOT / "toy/einsum.py").read_text(encoding="utf-8") == text
    assert {v.status for _, v in grade(text, append=False)} == {"not_started"}


@pytest.mark.parametrize("path", sorted((ROOT / "autograder/alternatives/toy/einsum").glob("*.py")), ids=lambda p: p.stem)
def test_right_answers_written_another_way_pass(path, grade):
    verdicts = grade(path.read_text(encoding="utf-8"))
    assert [(c.exercise, v.message) for c, v in verdicts if v.status != "passed"] == []


WITHOUT_WORK = {
    "another operation": ("matrix_product", "def matrix_product(a, b):\n    return a @ b", "einsum-not-used"),
    "an idle call": ("inner", "def inner(x, y):\n    torch.einsum('i->i', x)\n    return x @ y", "einsum-not-alone"),
    "the wrong call": ("gram", "def gram(a, b):\n    torch.einsum('si,tj->ij', a, b)\n    return a.T @ b", "einsum-not-alone"),
    "changed before": ("gram", "def gram(a, b):\n    return torch.einsum('ij,jk->ik', a.T, b)", "einsum-not-alone"),
    "changed after": ("transpose", "def transpose(a):\n    return torch.einsum('ij->ij', a).T", "einsum-not-alone"),
    "copied": ("total", "def total(a):\n    return torch.einsum('ij->', a.clone())", "einsum-not-alone"),
    "two calls": (
        "contract_4d",
        "def contract_4d(a, x, y):\n    return torch.einsum('ikl,k->il', torch.einsum('ijkl,j->ikl', a, x), y)",
        "einsum-not-alone",
    ),
    "scores by @": ("attention_scores", "def attention_scores(q, k, scale):\n    return scale * q @ k.mT", "einsum-not-used"),
    "unwrapped": ("inner", "def inner(x, y):\n    return torch.einsum.recorded('i,i->', x, y)", "einsum-not-used"),
}


@pytest.mark.parametrize("name, text, misconception", WITHOUT_WORK.values(), ids=WITHOUT_WORK)
def test_einsum_has_to_do_the_work(name, text, misconception, grade):
    ((_, verdict),) = grade(text, name)
    assert (verdict.status, verdict.misconception) == ("failed", misconception)
    assert verdict.message.startswith("Einsum has to do the work here: ")


def test_a_wrong_answer_is_named_however_it_was_made(grade):
    ((_, verdict),) = grade("def matrix_product(a, b):\n    return (a @ b).T", "matrix_product")
    assert verdict.misconception == "transposed-output"


def test_einsum_imported_by_name_is_seen(grade):
    ((_, verdict),) = grade("from torch import einsum\n\ndef trace(a):\n    return einsum('ii', a)", "trace")
    assert verdict.status == "passed"


@pytest.mark.parametrize("calls, passes", [
    ([{"equation": "ij,jk->ik", "operands": ["a", "b"]}], True),
    ([{"equation": "jk,ij", "operands": ["b", "a"]}], True),
    ([{"equation": "ij,jk->ki", "operands": ["a", "b"]}], False),
    ([{"equation": "ij,jk->ik", "operands": ["b", "a"]}], False),
    ([{"equation": "ij,jk->ik", "operands": ["a", "a"]}], False),
    ([{"equation": "ij,jk->ik", "operands": ["a", "b"]}] * 2, False),
    ([{"equation": None, "operands": None}], False),
    ([{"equation": "ij,jk->ik", "operands": [{}, []]}], False),
    (["ij,jk->ik"], False), ("yes", False), (None, False), ([], False),
])  # fmt: skip
def test_a_forged_record_needs_the_right_equation(calls, passes, checks):
    from autograder.grading.examine import _difference

    (check,) = [c for c in checks if c.exercise == "matrix_product"]
    case = {"a": A23.numpy(), "b": A34.numpy()}
    answer = {"answer": case["a"] @ case["b"]}
    assert (_difference(check, {**answer, "calls": calls}, answer, case) is None) is passes
    assert _difference(check, answer, answer, case)  # a record that was left out is no record


@pytest.mark.parametrize("equation, shapes", [
    ("...->", [(2, 3)]), ("...i->...", [(2, 3, 4)]), ("i...->i", [(2, 3, 4)]), ("...ij,...jk", [(2, 3, 4), (2, 4, 5)]),
    ("...ij,jk->...ik", [(2, 3, 4), (4, 5)]), ("b a", [(2, 3)]), ("Ab,bC", [(2, 3), (3, 4)]), ("ii", [(3, 3)]),
    ("a...,b...->ab", [(2, 3), (4, 3)]),
])  # fmt: skip
def test_the_grader_reads_equations_as_pytorch_does(equation, shapes):
    from autograder.checks.einsum_calls import evaluate

    tensors = [normal(*shape, seed=n) for n, shape in enumerate(shapes)]
    mine = evaluate(equation, [t.numpy() for t in tensors])
    torch.testing.assert_close(torch.as_tensor(mine), torch.einsum(equation, *tensors), **CLOSE)


NO_EQUATION = ["", "->", "ij", "ij,jk,kl", "i" * 65, "ij,jk->iz", "ij,jk->ii", "é,jk", "ij,jk->ik;", "...", "....,jk"]
NO_EQUATION += ["ij,jk->->", "i...j...,jk", 7, None, ["ij"], "ij,jk\n", ">-,", "ijk,jk"]


@pytest.mark.parametrize("equation", NO_EQUATION)
def test_what_is_no_equation_gives_nothing(equation):
    from autograder.checks.einsum_calls import evaluate

    assert evaluate(equation, [A23.numpy(), A34.numpy()]) is None


def test_the_recorder_is_put_in_once_and_forgets():
    from autograder.probes.toy import einsum as probes

    probes.prepare()
    once = torch.einsum
    probes.prepare()
    assert torch.einsum is once and torch.equal(torch.einsum("ij->ji", A23), A23.T)
    with probes.listening({"a": A23}) as calls:
        torch.einsum("ij->", A23)
        with pytest.raises(RuntimeError):
            torch.einsum("ijk->", A23)
    torch.einsum("ij->j", A23)
    assert calls == [{"equation": "ij->", "operands": ["a"]}, {"equation": "ijk->", "operands": ["a"]}]
    with probes.listening({"a": A23}) as calls:
        pass
    assert calls == []
    assert np.array_equal(np.einsum("ij->i", A23.numpy(), optimize=True), A23.sum(1).numpy())
