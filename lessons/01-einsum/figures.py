"""Draws the pictures of lesson 1 beside this file and prints every number that its text quotes.

    python lessons/01-einsum/figures.py
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
INK, PALE, ONE, TWO, THREE = "#222222", "#f3f1ec", "#2b6ca3", "#c8571b", "#3b8a5a"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 160, "figure.facecolor": "white"}

# the two worked examples of the text
A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
B = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
Q = np.array([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]])
K = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
V = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]])


def attention_example():
    """Scores, weights, weights under a causal mask, and output of the three tokens, by the reference solution."""
    import torch

    from solutions.toy.einsum import attention_output, attention_scores

    scores = attention_scores(torch.from_numpy(Q), torch.from_numpy(K), 0.5)
    later = torch.ones(3, 3, dtype=torch.bool).triu(1)
    weights, masked = scores.softmax(-1), scores.masked_fill(later, -torch.inf).softmax(-1)
    return [t.numpy() for t in (scores, weights, masked, attention_output(weights, torch.from_numpy(V)))]


def scaling_experiment(widths, keys=16, draws=2000):
    """For each width: the standard deviation of q.k; the mean largest softmax weight, unscaled and scaled."""
    rng = np.random.default_rng(0)
    rows = []
    for d in widths:
        products = np.einsum("nd,nkd->nk", rng.normal(size=(draws, d)), rng.normal(size=(draws, keys, d)))
        rows.append((products.std(), largest_weight(products), largest_weight(products / d**0.5)))
    return np.array(rows)


def largest_weight(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).max(axis=1).mean()


def loops(widths):
    """(multiplications of (A B) x, of A (B x)) for n by n matrices."""
    n = np.asarray(widths)
    return n**3 + n**2, 2 * n**2


def orders(tokens, dim):
    """(multiplications of (Q K^T) V, of Q (K^T V))."""
    t = np.asarray(tokens)
    return 2 * t**2 * dim, 2 * t * dim**2


def numbers():
    """Every computed phrase of lesson.md, as it stands there."""
    product = np.einsum("ij,jk->ik", A, B)
    scores, weights, masked, output = attention_example()
    (std, sharp, scaled), first, second = scaling_experiment([256])[0], loops([1000]), orders([4096], 64)
    rows = [f"({', '.join(f'{x:.4f}' for x in row)})" for row in (*weights, masked[1], output[0])]
    return [
        f"$C_{{01}} = 1\\cdot 0 + 2\\cdot 1 + 3\\cdot 3 = {product[0, 1]:.0f}$",
        "\\begin{pmatrix} " + " \\\\ ".join(" & ".join(f"{x:.0f}" for x in row) for row in product) + " \\end{pmatrix}",
        f"{int(first[0][0]):,}",
        f"{int(first[1][0]):,}",
        f"{first[0][0] / first[1][0]:.1f} times",
        f"{4 * 1000**3 // 10**9} GB",
        f"{int(second[0][0]):,}",
        f"{int(second[1][0]):,}",
        *rows,
        f"standard deviation of {std:.1f}",
        f"weight of {sharp:.2f}",
        f"it is {scaled:.2f}",
    ]


# --- pictures -------------------------------------------------------------------------------------------------------


def grid(axes, matrix, x, y, size=1.0, marked=(), color=ONE, digits=0, shade=None):
    """A matrix as boxes with its numbers, the upper left corner at (x, y)."""
    from matplotlib.patches import Rectangle

    for (i, j), value in np.ndenumerate(matrix):
        face = color if (i, j) in marked else PALE
        alpha = 0.35 if (i, j) in marked else 1.0
        if shade is not None:
            face, alpha = color, 0.08 + 0.72 * float(shade[i, j])
        box = (x + j * size, y - (i + 1) * size)
        axes.add_patch(Rectangle(box, size, size, facecolor="white", edgecolor="none"))
        axes.add_patch(Rectangle(box, size, size, facecolor=face, alpha=alpha, edgecolor="none"))
        axes.add_patch(Rectangle(box, size, size, fill=False, edgecolor=INK, linewidth=0.8))
        axes.text(box[0] + size / 2, box[1] + size / 2, f"{value:.{digits}f}", ha="center", va="center", color=INK)


def bare(axes, width, height):
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")


def draw_loops(plt):
    figure, axes = plt.subplots(figsize=(8.6, 3.1))
    bare(axes, 12.4, 4.4)
    c = np.einsum("ij,jk->ik", A, B)
    grid(axes, A, 0.9, 3.0, marked=[(0, 0), (0, 1), (0, 2)], color=TWO)
    grid(axes, B, 5.4, 3.5, marked=[(0, 1), (1, 1), (2, 1)], color=TWO)
    grid(axes, c, 9.0, 3.0, marked=[(0, 1)], color=THREE)
    for x, y, text in ((2.4, 4.2, "$A_{ij}$"), (6.4, 4.2, "$B_{jk}$"), (10.0, 4.2, "$C_{ik}$")):
        axes.text(x, y, text, ha="center", va="center", fontsize=13)
    for x, y, text, color in (
        (0.6, 2.5, "$i$", INK), (2.4, 3.55, "$j$", TWO), (7.95, 2.0, "$j$", TWO), (6.9, 3.75, "$k$", INK),
        (8.75, 2.5, "$i$", INK), (10.5, 3.25, "$k$", INK),
    ):  # fmt: skip
        axes.text(x, y, text, ha="center", va="center", color=color, fontsize=12)
    axes.annotate("", (3.9, 3.2), (0.9, 3.2), arrowprops={"arrowstyle": "->", "color": TWO})
    axes.annotate("", (7.65, 0.5), (7.65, 3.5), arrowprops={"arrowstyle": "->", "color": TWO})
    axes.text(4.65, 2.0, "·", ha="center", va="center", fontsize=20)
    axes.text(8.35, 2.0, "=", ha="center", va="center", fontsize=15)
    axes.text(6.2, 0.15, "i = 0, k = 1:   1·0 + 2·1 + 3·3 = 11", ha="center", va="center", color=THREE)
    figure.savefig(HERE / "loops.png", bbox_inches="tight")


def draw_legs(plt):
    figure, panels = plt.subplots(2, 4, figsize=(9.4, 3.5))
    drawings = [
        ("matvec", {"A": (1, 1), "x": (2.4, 1)}, [("A", "x", "j")], [("A", -0.8, 0, "i")]),
        ("matrix_product", {"A": (1, 1), "B": (2.4, 1)}, [("A", "B", "j")], [("A", -0.8, 0, "i"), ("B", 0.8, 0, "k")]),
        ("inner", {"x": (1, 1), "y": (2.4, 1)}, [("x", "y", "i")], []),
        ("outer", {"x": (1, 1), "y": (2.4, 1)}, [], [("x", 0, 0.8, "i"), ("y", 0, 0.8, "j")]),
        ("trace", {"A": (1.7, 0.7)}, [("A", "A", "i")], []),
        ("total", {"A": (1.7, 1)}, [], [("A", -0.8, 0, "i", "o"), ("A", 0.8, 0, "j", "o")]),
        ("contract_ijk_ik", {"A": (1, 1), "B": (2.4, 1)}, [("A", "B", "i"), ("A", "B", "k")], [("A", -0.8, 0, "j")]),
        ("contract_4d", {"A": (1.7, 0.9), "x": (0.9, 1.75), "y": (2.5, 1.75)}, [("A", "x", "j"), ("A", "y", "k")],
         [("A", -0.8, -0.3, "i"), ("A", 0.8, -0.3, "l")]),
    ]  # fmt: skip
    for axes, (title, nodes, joined, open_) in zip(panels.flat, drawings):
        bare(axes, 3.4, 2.1)
        axes.set_title(title, fontsize=9, family="monospace")
        for n, (first, second, letter) in enumerate(joined):
            draw_joined(axes, nodes[first], nodes[second], letter, n, sum(j[:2] == (first, second) for j in joined))
        for name, dx, dy, letter, *closed in open_:
            (x, y), color = nodes[name], TWO if closed else INK
            axes.plot([x, x + dx], [y, y + dy], color=color, linewidth=1.6, zorder=1)
            axes.plot([x + dx], [y + dy], *closed, color=color, markersize=5, zorder=1)
            axes.text(x + dx * 1.25, y + dy * 1.25, letter, ha="center", va="center", color=color)
        for name, (x, y) in nodes.items():
            axes.plot([x], [y], "o", markersize=19, color="white", markeredgecolor=INK, zorder=2)
            axes.text(x, y, name, ha="center", va="center", zorder=3)
    figure.tight_layout()
    figure.savefig(HERE / "legs.png", bbox_inches="tight")


def draw_joined(axes, start, end, letter, n, count):
    """A summed index: a leg from one tensor to another, or a loop from a tensor to itself."""
    if start == end:
        angle = np.linspace(-0.35 * np.pi, 1.35 * np.pi, 60)
        axes.plot(start[0] + 0.6 * np.cos(angle), start[1] + 0.55 + 0.5 * np.sin(angle), color=TWO, linewidth=1.6, zorder=1)
        axes.text(start[0] + 0.85, start[1] + 0.7, letter, color=TWO, ha="center", va="center")
        return
    bend = 0.0 if count == 1 else (0.45 if n == 0 else -0.45)
    t = np.linspace(0, 1, 40)
    x, y = start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]) + bend * np.sin(np.pi * t)
    axes.plot(x, y, color=TWO, linewidth=1.6, zorder=1)
    axes.text(x[20], y[20] + (0.24 if bend >= 0 else -0.26), letter, color=TWO, ha="center", va="center")


def draw_order(plt):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.2))
    n, tokens = np.logspace(1, 4, 40), np.logspace(1, 5, 40)
    for axes, x, costs, names, label in (
        (left, n, loops(n), ("(A B) x", "A (B x)"), "n, the side of A and B"),
        (right, tokens, orders(tokens, 64), ("(Q K$^T$) V", "Q (K$^T$ V)"), "tokens, at width 64"),
    ):
        for cost, name, color in zip(costs, names, (TWO, ONE)):
            axes.loglog(x, cost, color=color, linewidth=2)
            axes.text(x[-1] * 1.15, cost[-1], name, color=color, va="center")
        axes.set(xlabel=label, ylabel="multiplications")
        axes.grid(alpha=0.25)
    right.axvline(64, color=INK, linewidth=0.8, linestyle=":")
    right.text(70, right.get_ylim()[1] * 0.25, "tokens = width", fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "order.png", bbox_inches="tight")


def draw_attention(plt):
    scores, weights, masked, output = attention_example()
    figure, axes = plt.subplots(figsize=(9.4, 2.9))
    bare(axes, 17.2, 5.0)
    for matrix, x, title, color, shade, digits in (
        (scores, 0.8, "scores  (1.18)", ONE, scores, 1),
        (weights, 5.0, "weights  (1.19)", TWO, weights, 2),
        (masked, 9.2, "weights, causal  (1.22)", TWO, masked, 2),
        (output, 13.9, "output  (1.20)", THREE, output / output.max(), 2),
    ):
        grid(axes, matrix, x, 3.6, size=1.1, color=color, digits=digits, shade=shade)
        axes.text(x + matrix.shape[1] * 0.55, 4.6, title, ha="center", va="center")
        for j in range(matrix.shape[1]):
            axes.text(x + (j + 0.5) * 1.1, 3.85, ("key " if matrix.shape[1] == 3 else "d = ") + str(j), ha="center", fontsize=7.5)
    for i in range(3):
        axes.text(0.65, 3.6 - (i + 0.5) * 1.1, f"query {i}", ha="right", va="center", fontsize=8)
    figure.savefig(HERE / "attention.png", bbox_inches="tight")


def draw_scale(plt):
    widths = 2 ** np.arange(1, 10)
    std, sharp, scaled = scaling_experiment(widths).T
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.2))
    left.loglog(widths, std, "o", color=ONE, label="measured")
    left.loglog(widths, widths**0.5, color=INK, linewidth=1, label="$\\sqrt{d}$  (1.21)")
    left.set(xlabel="width d", ylabel="standard deviation of $q \\cdot k$")
    left.legend(frameon=False)
    left.set_ylim(1, 32)
    left.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    left.minorticks_off()
    right.plot(widths, sharp, "o-", color=TWO, label="softmax of $q \\cdot k$")
    right.plot(widths, scaled, "o-", color=ONE, label="softmax of $q \\cdot k / \\sqrt{d}$")
    right.axhline(1 / 16, color=INK, linewidth=0.8, linestyle=":")
    right.text(widths[-1], 1 / 16 + 0.02, "all equal", ha="right", fontsize=8)
    right.set(xlabel="width d", ylabel="mean largest of 16 weights", ylim=(0, 1))
    right.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.48))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(w) for w in widths])
    figure.tight_layout()
    figure.savefig(HERE / "scale.png", bbox_inches="tight")


def draw_heads(plt):
    from matplotlib.patches import Rectangle

    figure, axes = plt.subplots(figsize=(9.0, 2.5))
    bare(axes, 19.6, 4.6)
    rows = (
        (3.0, "right: view(3, heads, head_dim)", lambda f: (f // 2) % 3),
        (0.7, "wrong: view(3, head_dim, heads)", lambda f: f % 3),
    )
    for y, title, head_of in rows:
        axes.text(0.3, y + 1.22, title, family="monospace", fontsize=8.5)
        for f in range(18):
            head = head_of(f)
            box = (0.3 + f * 1.0 + (f // 6) * 0.4, y)
            axes.add_patch(Rectangle(box, 1, 0.9, facecolor=(ONE, TWO, THREE)[head], alpha=0.5, edgecolor=INK, linewidth=0.8))
            axes.text(box[0] + 0.5, y + 0.45, f"{head}", ha="center", va="center", fontsize=9)
    for part, name in enumerate(("queries", "keys", "values")):
        axes.text(3.3 + part * 6.4, 0.3, name, ha="center", va="center")
    figure.savefig(HERE / "heads.png", bbox_inches="tight")


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        for draw in (draw_loops, draw_legs, draw_order, draw_attention, draw_scale, draw_heads):
            draw(plt)
            plt.close("all")
    print("\n".join(numbers()))


if __name__ == "__main__":
    main()
