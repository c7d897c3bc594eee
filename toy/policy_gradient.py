"""Lesson 2: two objectives, maximum likelihood and expected reward, for the smallest policy there is: a table of logits.

Conventions, the same in every function:

- `theta` is the table of logits, float64, (contexts, actions). The policy is pi(y|x) = softmax(theta[x])[y].
- Sample n is the pair (xs[n], ys[n]): `xs` and `ys` are integer arrays, (samples,), with context indices and action indices.
- A gradient has the shape of `theta` and points uphill: it is the gradient of an objective that is to grow, not of a loss.
- `context_probs` is d(x), the distribution of the contexts, (contexts,). The policy has no say in it.
- A `baseline` is b(x): one number per context, (contexts,), or one number for all of them. 0 is no baseline.
- Results are new float64 arrays (or floats); no argument is changed in place.

The `require_...` calls and `per_context` are given, at the end of the file: they refuse input that makes no sense.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp


def softmax_policy(theta: Float[np.ndarray, "contexts actions"]) -> Float[np.ndarray, "contexts actions"]:
    """The probability of every action in every context (eq. 2.1).

        pi(y|x) = exp(theta[x, y]) / sum_a exp(theta[x, a])

    Each row sums to 1. Logits may be large: rows such as [1000, 999] or [-1000, -1001] give finite, exact probabilities,
    also next to each other in one table.
    Raises ValueError if `theta` is not a table (2-D).
    """
    require_table(theta)
    raise NotImplementedError("lesson 2: softmax_policy")


def score(
    theta: Float[np.ndarray, "contexts actions"], xs: Int[np.ndarray, "samples"], ys: Int[np.ndarray, "samples"]
) -> Float[np.ndarray, "samples contexts actions"]:
    """The score of every sample: the gradient of log pi(ys[n] | xs[n]) with respect to the whole table (eq. 2.3).

        score[n, x, a] = 1[x = xs[n]] * (1[a = ys[n]] - pi(a | x))

    Exact for any logits, also where pi(ys[n] | xs[n]) underflows to 0.
    Raises ValueError if `xs` or `ys` is empty, not 1-D, not of integers or out of range, or if their lengths differ.
    """
    require_samples(theta, xs, ys)
    raise NotImplementedError("lesson 2: score")


def mle_objective(
    theta: Float[np.ndarray, "contexts actions"], xs: Int[np.ndarray, "samples"], ys: Int[np.ndarray, "samples"]
) -> float:
    """The mean log-likelihood of the data, in nats per sample: what maximum likelihood wants large (eq. 2.5).

        (1/N) sum_n log pi(ys[n] | xs[n])

    Finite and exact also where pi(ys[n] | xs[n]) underflows to 0: with logits [1000, -1000], log pi(1|x) is -2000.
    Raises ValueError as `score` does.
    """
    require_samples(theta, xs, ys)
    raise NotImplementedError("lesson 2: mle_objective")


def mle_gradient(
    theta: Float[np.ndarray, "contexts actions"], xs: Int[np.ndarray, "samples"], ys: Int[np.ndarray, "samples"]
) -> Float[np.ndarray, "contexts actions"]:
    """The gradient of `mle_objective` (eq. 2.7): the mean score of samples drawn from the data.

    The mean runs over all N samples, whatever their contexts; a pair that occurs k times counts k times.
    Raises ValueError as `score` does.
    """
    require_samples(theta, xs, ys)
    raise NotImplementedError("lesson 2: mle_gradient")


def sgd_step(
    theta: Float[np.ndarray, "contexts actions"], gradient: Float[np.ndarray, "contexts actions"], learning_rate: float
) -> Float[np.ndarray, "contexts actions"]:
    """One step of gradient ascent (eq. 2.9): a new table, `learning_rate` times `gradient` further uphill.

    Raises ValueError if `gradient` has not the shape of `theta`.
    """
    require_shape("gradient", gradient, theta.shape)
    raise NotImplementedError("lesson 2: sgd_step")


def exact_objective(
    theta: Float[np.ndarray, "contexts actions"],
    rewards: Float[np.ndarray, "contexts actions"],
    context_probs: Float[np.ndarray, "contexts"],
) -> float:
    """The expected reward, by listing every context and action (eq. 2.11).

        J(theta) = sum_x d(x) sum_y pi(y|x) r(x, y)

    rewards: r(x, y) for every pair; context_probs: d(x).
    Raises ValueError if `rewards` has not the shape of `theta`, or if `context_probs` is not one probability per context
    (none negative, sum 1 up to 1e-9).
    """
    require_shape("rewards", rewards, theta.shape)
    require_distribution("context_probs", context_probs, theta.shape[0])
    raise NotImplementedError("lesson 2: exact_objective")


def exact_gradient(
    theta: Float[np.ndarray, "contexts actions"],
    rewards: Float[np.ndarray, "contexts actions"],
    context_probs: Float[np.ndarray, "contexts"],
) -> Float[np.ndarray, "contexts actions"]:
    """The gradient of `exact_objective` with respect to the table (eq. 2.13).

        dJ/dtheta[x, a] = d(x) pi(a|x) (r(x, a) - V(x)),    V(x) = sum_y pi(y|x) r(x, y)

    Raises ValueError as `exact_objective` does.
    """
    require_shape("rewards", rewards, theta.shape)
    require_distribution("context_probs", context_probs, theta.shape[0])
    raise NotImplementedError("lesson 2: exact_gradient")


def reinforce_gradient(
    theta: Float[np.ndarray, "contexts actions"],
    xs: Int[np.ndarray, "samples"],
    ys: Int[np.ndarray, "samples"],
    rewards: Float[np.ndarray, "samples"],
    baseline: float | Float[np.ndarray, "contexts"] = 0.0,
) -> Float[np.ndarray, "contexts actions"]:
    """REINFORCE: the estimate of `exact_gradient` from samples of the policy itself (eq. 2.17).

        (1/N) sum_n (rewards[n] - b(xs[n])) grad log pi(ys[n] | xs[n])

    rewards: the reward of each sample, (samples,). The baseline is used as it is given: nothing of this batch enters it.
    Raises ValueError as `score` does, if `rewards` is not one number per sample, and if `baseline` is neither one number nor
    one per context: a baseline that depends on the action biases the gradient (section 2.10).
    Source: Williams 1992.
    """
    require_samples(theta, xs, ys)
    require_shape("rewards", rewards, xs.shape)
    baseline = per_context("baseline", baseline, theta.shape[0])
    raise NotImplementedError("lesson 2: reinforce_gradient")


def gradient_variance(
    theta: Float[np.ndarray, "contexts actions"],
    rewards: Float[np.ndarray, "contexts actions"],
    context_probs: Float[np.ndarray, "contexts"],
    baseline: float | Float[np.ndarray, "contexts"] = 0.0,
) -> float:
    """The variance of the single-sample REINFORCE estimate, exactly, by listing every context and action (eq. 2.19).

    One sample x ~ d, y ~ pi(.|x) gives the estimate g = (r(x, y) - b(x)) grad log pi(y|x), a table. Its variance is the trace
    of its covariance matrix, that is the sum over all entries of the table of their variances:

        E[ ||g||^2 ] - || E[g] ||^2 = E[ ||g - E[g]||^2 ]

    Raises ValueError as `exact_objective` does, and if `baseline` is neither one number nor one per context.
    """
    require_shape("rewards", rewards, theta.shape)
    require_distribution("context_probs", context_probs, theta.shape[0])
    baseline = per_context("baseline", baseline, theta.shape[0])
    raise NotImplementedError("lesson 2: gradient_variance")


def optimal_baseline(
    theta: Float[np.ndarray, "contexts actions"], rewards: Float[np.ndarray, "contexts actions"]
) -> Float[np.ndarray, "contexts"]:
    """The baseline of least `gradient_variance`, one number per context (eq. 2.22).

        b*(x) = sum_y w(x, y) r(x, y) / sum_y w(x, y),    w(x, y) = pi(y|x) || grad log pi(y|x) ||^2

    Where the policy is certain of one action (pi exactly 1 in float64) every w is 0 and every baseline is as good: then
    b*(x) is the expected reward V(x) there.
    Raises ValueError if `rewards` has not the shape of `theta`.
    Source: Weaver and Tao 2001; Greensmith, Bartlett and Baxter 2004.
    """
    require_shape("rewards", rewards, theta.shape)
    raise NotImplementedError("lesson 2: optimal_baseline")


# Given: what makes no sense is refused, by the name of the argument, with what was expected and what came.


def require_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `array` has this shape: NumPy would stretch a wrong one to fit and go on."""
    if np.shape(array) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, received shape {np.shape(array)}")


def require_table(theta: np.ndarray) -> None:
    """Raises ValueError unless `theta` is 2-D."""
    if np.ndim(theta) != 2:
        raise ValueError(f"theta: expected a table (contexts, actions), received shape {np.shape(theta)}")


def require_samples(theta: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> None:
    """Raises ValueError unless `xs` and `ys` are equally many indices into the table; -1 would read the last row unasked."""
    require_table(theta)
    for name, indices, size in (("xs", xs, theta.shape[0]), ("ys", ys, theta.shape[1])):
        if indices.ndim != 1 or len(indices) == 0 or indices.dtype.kind not in "iu":
            received = f"shape {indices.shape} of dtype {indices.dtype}"
            raise ValueError(f"{name}: expected one or more integers, shape (samples,), received {received}")
        if indices.min() < 0 or indices.max() >= size:
            raise ValueError(f"{name}: expected indices from 0 to {size - 1}, received {indices.min()} to {indices.max()}")
    require_shape("ys", ys, xs.shape)


def require_distribution(name: str, probs: np.ndarray, size: int) -> None:
    """Raises ValueError unless `probs` is `size` probabilities that sum to 1 (up to 1e-9: rounding of a float64 sum)."""
    require_shape(name, probs, (size,))
    if probs.min() < 0 or abs(probs.sum() - 1) > 1e-9:
        raise ValueError(f"{name}: expected probabilities that sum to 1, received minimum {probs.min()} and sum {probs.sum()}")


def per_context(name: str, baseline: float | np.ndarray, contexts: int) -> np.ndarray:
    """The baseline as one float64 per context, from one number or from (contexts,). Raises ValueError for any other shape."""
    if np.shape(baseline) not in ((), (contexts,)):
        raise ValueError(f"{name}: expected one number or shape ({contexts},), received shape {np.shape(baseline)}")
    return np.full(contexts, baseline, dtype=np.float64)
