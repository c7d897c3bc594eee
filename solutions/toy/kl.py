"""Lesson 4: how far a policy has moved from its reference: the KL divergence, exact, sampled and as a training signal.

Conventions, the same in every function:

- Everything is in nats, and of the dtype of its tensors: float64 in, float64 out. No argument is changed in place.
- KL(p||q) = sum p log(p/q) is the first argument's: p says how often an outcome comes, q is what it is compared with.
- A batch of sequences has shape (batch, time). `mask` is boolean, True on the tokens the policy wrote, `eos` included; prompt
  and padding are False, and what stands there does not count, whatever it is: it may be inf or NaN.
- `log_probs` and `ref_log_probs` are log pi(y_t | y_<t) and log pi_ref(y_t | y_<t) of the tokens that came, (batch, time).
  `log_policy` and `log_ref` are those of all tokens that could have come, (batch, time, vocabulary).
- A function of a batch gives one number per sequence, (batch,). Their mean is the caller's affair.

The `require_...` calls, `on_tokens` and `reinforce_loss` are given, at the end of the file.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def kl_divergence(p: Float[Tensor, "*batch outcomes"], q: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """KL(p||q) of probabilities along the last dimension, in nats (eq. 4.1): (*batch, outcomes) -> (*batch,).

        KL(p||q) = sum_i p_i ln(p_i / q_i)

    Where p_i = 0 there is no term: it adds 0 to the value and 0 to both gradients, whatever q_i is, 0 too.
    Where p_i > 0 and q_i = 0 the divergence is inf. Differentiable: elsewhere the gradients are ln(p_i / q_i) + 1 and -p_i / q_i.
    Raises ValueError if the shapes differ or a row of `p` or `q` is no distribution.
    Source: Kullback and Leibler 1951.
    """
    require_same_shape(p=p, q=q)
    require_distribution("p", p)
    require_distribution("q", q)
    # BEGIN SOLUTION
    possible = p > 0
    log_p, log_q = torch.where(possible, p, 1.0).log(), torch.where(possible, q, 1.0).log()  # chosen first: 0/0 has no gradient
    return (p * (log_p - log_q)).sum(-1)
    # END SOLUTION


def kl_even_odd(theta: Float[Tensor, "outcomes"], alpha: float, beta: float) -> Float[Tensor, ""]:
    """KL(q||theta) where q gives alpha to each even and beta to each odd i of {1, ..., k}, in closed form (eq. 4.10).

        (k/2)(alpha ln alpha + beta ln beta) - alpha sum_{i even} ln theta_i - beta sum_{i odd} ln theta_i

    theta: (k,), a distribution, whose entry `theta[0]` is theta_1. The result has no dimensions and is differentiable in
    `theta`. 0 ln 0 = 0: an alpha of 0 takes the even i out of the sum, whatever their theta_i. inf where q_i > 0 = theta_i.
    Raises ValueError if `theta` is no distribution or k is odd, and if `alpha` or `beta` is negative or
    (k/2)(alpha + beta) is not 1.
    """
    require_even_odd(theta, alpha, beta)
    # BEGIN SOLUTION
    half = len(theta) / 2
    total = theta.new_zeros(())
    for weight, members in ((alpha, theta[1::2]), (beta, theta[::2])):  # the first number, 1, is odd
        if weight > 0:
            total = total + half * weight * math.log(weight) - weight * members.log().sum()
    return total
    # END SOLUTION


def k1(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The plain estimator of KL(pi||pi_ref) from one sample y of pi (eq. 4.11): log pi(y) - log pi_ref(y), entry by entry.

    Unbiased; single values may be negative, and inf where pi_ref(y) = 0.
    Raises ValueError if the shapes differ.
    """
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    # BEGIN SOLUTION
    return log_probs - ref_log_probs
    # END SOLUTION


def k2(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The squared estimator from one sample of pi (eq. 4.14), entry by entry: (log pi(y) - log pi_ref(y))^2 / 2.

    Biased, never negative; inf where pi_ref(y) = 0.
    Raises ValueError if the shapes differ.  Source: Schulman 2020, "Approximating KL divergence".
    """
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    # BEGIN SOLUTION
    return (log_probs - ref_log_probs) ** 2 / 2
    # END SOLUTION


def k3(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The estimator with a control variate, from one sample y of pi (eq. 4.15), entry by entry: r - 1 - ln r.

    r = pi_ref(y) / pi(y). Unbiased where pi can say all that pi_ref can; never negative; inf where pi_ref(y) = 0.
    Raises ValueError if the shapes differ.  Source: Schulman 2020, "Approximating KL divergence".
    """
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    # BEGIN SOLUTION
    log_ratio = ref_log_probs - log_probs
    return torch.expm1(log_ratio) - log_ratio  # exp(x) - 1 without the loss of digits near 0
    # END SOLUTION


def token_kl(
    log_policy: Float[Tensor, "batch time vocabulary"],
    log_ref: Float[Tensor, "batch time vocabulary"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time"]:
    """KL(pi(.|y_<t) || pi_ref(.|y_<t)) at each token, over the whole vocabulary (eq. 4.18): (batch, time), 0 where masked out.

        KL_t = sum_v pi(v|y_<t) (log pi(v|y_<t) - log pi_ref(v|y_<t))

    From log-probabilities, and exact where they are -800: nothing underflows. A token that pi rules out (log pi = -inf) adds
    nothing to the value or to a gradient; one that pi_ref alone rules out makes the divergence inf.
    Raises ValueError if shapes differ, if `mask` is True nowhere, and if a row under the mask is no log-distribution.
    """
    require_rows(log_policy, log_ref, mask)
    # BEGIN SOLUTION
    counts = mask.unsqueeze(-1) & (log_policy > -torch.inf)  # (B, T, V); chosen before anything is computed
    log_p, log_q = torch.where(counts, log_policy, 0.0), torch.where(counts, log_ref, 0.0)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
    # END SOLUTION


def sequence_kl_exact(
    log_policy: Float[Tensor, "sequences time vocabulary"],
    log_ref: Float[Tensor, "sequences time vocabulary"],
    tokens: Int[Tensor, "sequences time"],
    mask: Bool[Tensor, "sequences time"],
) -> Float[Tensor, ""]:
    """KL(pi||pi_ref) between whole sequences, by the chain rule over tokens (eq. 4.20).

        KL = sum_y pi(y) sum_t KL_t(y_<t),    log pi(y) = sum_t log pi(y_t|y_<t)

    tokens: all sequences there are, each once, (sequences, time). The result has no dimensions, and its gradient is the gradient
    of the KL: it flows through the KL_t and through pi(y).
    Raises ValueError as `token_kl` does, and if `tokens` has not the shape of `mask`.
    """
    require_rows(log_policy, log_ref, mask)
    require_shape("tokens", tokens, mask.shape)
    # BEGIN SOLUTION
    kl = token_kl(log_policy, log_ref, mask).sum(-1)  # (S, T) -> (S,)
    chosen = log_policy.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)  # (S, T, V) -> (S, T)
    return (on_tokens(chosen, mask).sum(-1).exp() * kl).sum()
    # END SOLUTION


def sequence_kl_sampled(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch"]:
    """The Monte Carlo estimate of KL(pi||pi_ref) from each sequence sampled from pi (eq. 4.21): (batch, time) -> (batch,).

        L(y) = log pi(y) - log pi_ref(y) = sum_t (log pi(y_t|y_<t) - log pi_ref(y_t|y_<t))

    The sum over the sequence's own tokens, not their mean. Unbiased; single values may be negative.
    Raises ValueError if shapes differ, if `mask` is True nowhere, and if a log-probability under the mask is above 0 or NaN.
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    return k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1)
    # END SOLUTION


def expected_gradient(
    losses: Float[Tensor, "sequences"], log_probs: Float[Tensor, "sequences"], parameter: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The gradient that an optimizer gets from one sample, on average over all samples (eq. 4.24): of the shape of `parameter`.

        sum_y pi(y) grad loss(y)

    losses: the loss that each sequence gives when it is the one sampled, differentiable in `parameter`; log_probs: log pi(y) of
    all sequences, in the same order. pi(y) only weighs: who gets a sample differentiates the loss, not the chance of getting it.
    Zeros if the losses depend on other parameters only. `parameter.grad` is left alone, and the graph is kept:
    it may be called again.
    Raises ValueError if the shapes differ, or if the probabilities do not sum to 1.
    """
    require_same_shape(losses=losses, log_probs=log_probs)
    require_distribution("log_probs", log_probs.exp())
    # BEGIN SOLUTION
    total = (log_probs.detach().exp() * losses).sum()
    return torch.autograd.grad(total, parameter, retain_graph=True, materialize_grads=True)[0]
    # END SOLUTION


def kl_reward(
    scores: Float[Tensor, "batch"],
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    beta: float,
) -> Float[Tensor, "batch"]:
    """The reward of each sequence less the price of its distance, k1 in the reward (eq. 4.28): score - beta L(y).

    L is that of `sequence_kl_sampled`. A reward is a number: the result carries no gradient, whatever the arguments carry.
    beta: reward units per nat; 0 is no penalty.
    Raises ValueError as `sequence_kl_sampled` does, if `scores` is not one number per sequence, and if `beta` is negative.
    Source: Ziegler et al. 2019.
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    require_shape("scores", scores, mask.shape[:1])
    require_coefficient("beta", beta)
    # BEGIN SOLUTION
    return (scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)).detach()
    # END SOLUTION


def kl_loss(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch"]:
    """A loss whose gradient on samples of pi is that of KL(pi||pi_ref), k2 of the whole sequence (eq. 4.30): L(y)^2 / 2.

    L is that of `sequence_kl_sampled`: the sum over tokens is squared, not its terms. The reference is a constant: no gradient
    reaches `ref_log_probs`.
    Raises ValueError as `sequence_kl_sampled` does.
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    return sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) ** 2 / 2
    # END SOLUTION


# Given


def on_tokens(values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """`values` where the mask is True and 0 elsewhere, whatever stood there. (`values * mask` would make NaN of inf and NaN.)"""
    return torch.where(mask, values, 0.0)


def reinforce_loss(
    rewards: Float[Tensor, "batch"], log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch"]:
    """REINFORCE's loss of each sequence (lesson 2): minus its reward, held constant, times its log-probability."""
    return -rewards.detach() * on_tokens(log_probs, mask).sum(-1)


# Given: what makes no sense is refused, by the name of the argument, with what was expected and what came.


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `tensor` has this shape: PyTorch would stretch a wrong one to fit and go on."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, received shape {tuple(tensor.shape)}")


def require_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError, naming the second tensor, unless both have the shape of the first."""
    first, *rest = tensors.values()
    for name, tensor in list(tensors.items())[1:]:
        require_shape(name, tensor, first.shape)


def require_distribution(name: str, probs: Tensor) -> None:
    """Raises ValueError unless each row is probabilities that sum to 1, up to the rounding of a sum in its dtype."""
    tolerance = 1e-9 if probs.dtype == torch.float64 else 1e-5
    if probs.ndim == 0 or not bool((probs >= 0).all()) or not bool(((probs.sum(-1) - 1).abs() <= tolerance).all()):
        received = f"minimum {probs.min().item():.6g}, sums {probs.sum(-1).flatten().tolist()[:4]}" if probs.ndim else "a number"
        raise ValueError(f"{name}: expected probabilities that sum to 1, received {received}")


def require_even_odd(theta: Tensor, alpha: float, beta: float) -> None:
    """Raises ValueError unless theta is a distribution over an even number of outcomes, and alpha and beta make one."""
    if theta.ndim != 1 or len(theta) % 2 or len(theta) == 0:
        raise ValueError(f"theta: expected shape (k,) with an even k, received shape {tuple(theta.shape)}")
    require_distribution("theta", theta)
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not 0 <= weight <= 1:
            raise ValueError(f"{name}: expected a probability, received {weight}")
    total = len(theta) / 2 * (alpha + beta)
    if abs(total - 1) > 1e-9:
        raise ValueError(f"alpha, beta: expected (k/2)(alpha + beta) = 1, received {total} at k = {len(theta)}")


def require_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the mask is boolean, of this shape, and True somewhere."""
    require_shape("mask", mask, shape)
    if mask.dtype != torch.bool or not bool(mask.any()):
        received = f"dtype {mask.dtype}" if mask.dtype != torch.bool else "False everywhere"
        raise ValueError(f"mask: expected booleans, True on at least one token, received {received}")


def require_log_probs(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless all three are of shape (batch, time) and the first two at most 0 under the mask."""
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    require_mask(mask, log_probs.shape)
    for name, values in (("log_probs", log_probs), ("ref_log_probs", ref_log_probs)):
        largest = values[mask].max().item()  # NaN if one of them is
        if not largest <= 1e-6:  # the rounding of a float32 log-softmax
            raise ValueError(f"{name}: expected log-probabilities, at most 0, received {largest:.6g} (is it a probability?)")


def require_rows(log_policy: Tensor, log_ref: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless both are (batch, time, vocabulary), the mask fits, and each row under it is a log-distribution."""
    if log_policy.ndim != 3:
        raise ValueError(f"log_policy: expected shape (batch, time, vocabulary), received shape {tuple(log_policy.shape)}")
    require_same_shape(log_policy=log_policy, log_ref=log_ref)
    require_mask(mask, log_policy.shape[:2])
    for name, rows in (("log_policy", log_policy), ("log_ref", log_ref)):
        sums = rows[mask].logsumexp(-1)
        off = (sums.abs() > (1e-9 if rows.dtype == torch.float64 else 1e-5)) | sums.isnan()
        if bool(off.any()):
            received = f"raw logits or worse: a sum of {sums[off][0].exp().item():.6g}"
            raise ValueError(f"{name}: expected log-probabilities whose exponentials sum to 1 in each row, received {received}")


def require_coefficient(name: str, value: float) -> None:
    """Raises ValueError unless `value` is finite and not negative."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a number that is not negative, received {value}")
