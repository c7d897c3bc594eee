"""How fast the ruler lists every sequence, against Python loops over the same model in the same run.

    python tests/bench/bench_enumerable.py

Both sides must agree to 1e-9 nats. Each time is the best of several (the loops over GPT-2 run once). Exit 1 if 4^6 sequences
of a table take 50 ms or more.
"""

import itertools
import math
import sys
import time

import torch

from toy.given.enumerable import EnumerableLM

TARGET_MS = 50.0


def main() -> int:
    torch.set_num_threads(1)
    print(f"{'model':<28}{'sequences':>10}{'loops, ms':>12}{'listed, ms':>12}{'ratio':>8}{'and gradient, ms':>18}")
    table = EnumerableLM.tabular(4, 6, generator=torch.Generator().manual_seed(0))
    first = row("table, 4 tokens, length 6", table, lambda: by_python(table), repeats=3)
    row("GPT-2, 4 tokens, length 3", EnumerableLM(gpt2(), 4, 3), lambda: by_model(gpt2(), 3), repeats=1)
    row("GPT-2, 4 tokens, length 5", EnumerableLM(gpt2(), 4, 5), lambda: by_model(gpt2(), 5), repeats=1)
    print(f"4^6 sequences of a table: {first:.2f} ms; the target is {TARGET_MS:.0f} ms")
    return 0 if first < TARGET_MS else 1


def row(name, lm, loops, repeats) -> float:
    """Prints one line and returns the milliseconds of one listing."""
    slow, by_hand = best(loops, repeats)
    fast, log_probs = best(lambda: lm.log_probs().detach(), 20)
    reward = lm.rewards(lambda tokens: tokens.count(2))
    both, _ = best(lambda: lm.gradient(lm.expected(reward)), 10)
    apart = (log_probs - torch.tensor(by_hand, dtype=torch.float64)).abs().max().item()
    if apart > 1e-9:
        sys.exit(f"{name}: the two differ by {apart:.3g} nats")
    print(f"{name:<28}{len(lm):>10,}{slow:>12.1f}{fast:>12.2f}{slow / fast:>8.0f}{both:>18.2f}")
    return fast


def best(run, repeats):
    """The shortest of `repeats` times, in milliseconds, and what came out."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times), result


def by_python(lm):
    """Each sequence of a table by itself: a softmax for every token, in Python floats."""
    rows = lm.model.logits[0].tolist()
    found = []
    for sequence in itertools.product(range(lm.vocabulary), repeat=lm.length):
        node, total = 0, 0.0
        for token in sequence:
            logits = rows[node]
            top = max(logits)
            total += logits[token] - top - math.log(sum(math.exp(x - top) for x in logits))
            node = node * lm.vocabulary + 1 + token
        found.append(total)
    return found


@torch.no_grad()
def by_model(model, length):
    """Each token of each sequence by a call of the model."""
    model.eval()
    found = []
    for sequence in itertools.product(range(4), repeat=length):
        total = 0.0
        for t in range(length):
            logits = model(torch.tensor([[0, *sequence[:t]]])).logits[0, -1]
            total += logits.log_softmax(-1)[sequence[t]].item()
        found.append(total)
    return found


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=4, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=3)
    return GPT2LMHeadModel(config).double()


if __name__ == "__main__":
    sys.exit(main())
