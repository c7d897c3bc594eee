"""A step of REINFORCE and of DPO: CPU seconds and memory of our loops, of a plain teaching loop and of the least that will do.

    python tests/bench/bench_runs.py                       4 layers, 128 wide, GPT-2's vocabulary; a minute or two
    python tests/bench/bench_runs.py --distilgpt2          6 layers, 768 wide: half an hour
    python tests/bench/bench_runs.py --growth              20 to 320 new tokens, 8 to 128 rows
    python tests/bench/bench_runs.py --steps 5 --bf16      more steps; ours and TRL's in bfloat16 as well

All run on the same weights, prompts and pairs, in one thread, each in a process of its own, one after another; medians over steps. The
reward costs nothing, so that the algorithm's own time is seen. TRL is measured where it is installed, and said to be missing else.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from full.given.loop import Loop  # noqa: E402
from full.given.rollout import drawn  # noqa: E402
from full.given.settings import DPOConfig, ReinforceConfig  # noqa: E402
from full.given.text import Pairs, Prompts, Rollout  # noqa: E402
from tests.bench import trl_ways  # noqa: E402

IDS = VOCABULARY, EOS, PAD = 50258, 50256, 50257
SHAPES = {"small": (4, 128, 4), "distilgpt2": (6, 768, 12)}
PROMPT = 10


def model_of(size: str) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads = SHAPES[size]
    torch.manual_seed(0)
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ids = {"eos_token_id": EOS, "bos_token_id": EOS, "pad_token_id": PAD}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=width, n_layer=layers, n_head=heads, **drop, **ids)).eval()


def prompts_of(rows: int, seed: int = 1) -> Prompts:
    ids = torch.randint(0, EOS, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))
    return Prompts(ids, torch.ones_like(ids))


def pairs_of(pairs: int, length: int, seed: int = 2) -> Pairs:
    """Pairs of ragged length, up to `length` tokens: on the average three quarters of it."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, EOS, (2 * pairs, length), generator=generator)
    ends = torch.randint(length // 2, length + 1, (2 * pairs,), generator=generator)
    mask = (torch.arange(length) < ends.unsqueeze(1)).long()
    return Pairs(ids.masked_fill(mask == 0, PAD), mask, torch.full((2 * pairs,), PROMPT))


def free_reward(rollout: Rollout) -> Tensor:
    """A reward that costs nothing: the share of even tokens."""
    return (rollout.completion % 2 == 0).float().mean(1)


# REINFORCE, three ways


def reinforce_ours(model: torch.nn.Module, batches: list[Prompts], new_tokens: int, fused: bool = True, bf16: bool = False) -> Loop:
    """The lesson's `train` on the plain loop, which has the run's rollout, scoring and optimizer."""
    from solutions.full.reinforce import train

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=fused)
    config = ReinforceConfig(new_tokens=new_tokens)
    generator = torch.Generator().manual_seed(0)
    loop = Loop(model, batches, optimizer, config, scores=free_reward, eos_token_id=EOS, pad_token_id=PAD, generator=generator)
    if bf16:
        fast = copy.deepcopy(model).to(torch.bfloat16)
        plain = loop.rollout

        def rollout(prompts: Prompts) -> Rollout:
            with torch.no_grad():
                for copied, own in zip(fast.parameters(), model.parameters()):
                    copied.copy_(own)
            loop.policy = fast
            try:
                return plain(prompts)
            finally:
                loop.policy = model

        loop.rollout = rollout
    train(loop, config)
    return loop


def reinforce_plain(model: torch.nn.Module, batches: list[Prompts], new_tokens: int) -> list[float]:
    """As one writes it first: the library's `generate`, logits of every column, a log-softmax of the whole vocabulary."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0), []
    torch.manual_seed(0)
    for prompts in batches:
        how = {"do_sample": True, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "top_k": 0, "pad_token_id": PAD}
        with torch.no_grad():
            tokens = model.generate(prompts.input_ids, attention_mask=prompts.attention_mask, **how)
        losses.append(plain_step(model, tokens, optimizer))
    return losses


def plain_loss(model: torch.nn.Module, rollout: Rollout) -> Tensor:
    """-(1/B) sum_b (r_b - mean of the others) sum_t log pi, written out."""
    rewards = free_reward(rollout)
    advantages = rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
    logits = model(input_ids=rollout.tokens, attention_mask=rollout.attention_mask).logits
    log_probs = torch.log_softmax(logits, dim=-1)[:, rollout.prompt_length - 1 : -1]
    chosen = log_probs.gather(-1, rollout.completion.unsqueeze(-1)).squeeze(-1)
    return -(advantages * (chosen * rollout.mask).sum(1)).mean()


def plain_step(model: torch.nn.Module, tokens: Tensor, optimizer: torch.optim.Optimizer) -> float:
    loss = plain_loss(model, Rollout(tokens, torch.ones_like(tokens), PROMPT))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def reinforce_bound(model: torch.nn.Module, batches: list[Prompts], new_tokens: int) -> None:
    """The least that will do: no mask, no EOS, no check, no log; a cache, logits where they are used, the fused optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    for prompts in batches:
        with torch.inference_mode():
            uniforms = torch.rand(new_tokens, len(prompts), generator=generator)
            columns, new, cache = [prompts.input_ids], prompts.input_ids, None
            for uniform in uniforms:
                out = model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
                new, cache = drawn(out.logits[:, -1], uniform).unsqueeze(1), out.past_key_values
                columns.append(new)
        tokens = torch.cat(columns, 1).clone()
        rewards = (tokens[:, PROMPT:] % 2 == 0).float().mean(1)
        advantages = rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
        logits = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=new_tokens).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, PROMPT:].flatten(), reduction="none")
        optimizer.zero_grad(set_to_none=True)
        (advantages * losses.view(len(rewards), -1).sum(1)).mean().backward()
        optimizer.step()


# DPO, three ways


def dpo_ours(model: torch.nn.Module, batches: list[Pairs], reference: torch.nn.Module | None = None, fused: bool = True) -> Loop:
    """The lesson's `train`; the reference's log-probabilities come with the pairs, as a run computes them once a data set."""
    from solutions.full.dpo import train

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, weight_decay=0.0, fused=fused)
    loop = Loop(model, batches, optimizer, DPOConfig(), reference=reference)
    train(loop, loop.config)
    return loop


def plain_dpo_loss(model: torch.nn.Module, reference: torch.nn.Module, pairs: Pairs, beta: float = 0.1) -> Tensor:
    """Four forward passes, each with logits of every column and their log-softmax."""

    def log_prob(which: torch.nn.Module, rows: slice) -> Tensor:
        tokens, mask, lengths = pairs.tokens[rows], pairs.attention_mask[rows], pairs.prompt_lengths[rows]
        log_probs = torch.log_softmax(which(input_ids=tokens, attention_mask=mask).logits, dim=-1)[:, :-1]
        chosen = log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
        scored = (torch.arange(1, tokens.shape[1]) >= lengths.unsqueeze(1)) & mask[:, 1:].bool()
        return (chosen * scored).sum(1)

    good, bad = slice(0, len(pairs)), slice(len(pairs), None)
    with torch.no_grad():
        ref = log_prob(reference, good) - log_prob(reference, bad)
    return -torch.nn.functional.logsigmoid(beta * (log_prob(model, good) - log_prob(model, bad) - ref)).mean()


def dpo_plain(model: torch.nn.Module, batches: list[Pairs]) -> list[float]:
    reference, losses = copy.deepcopy(model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, weight_decay=0.0)
    for pairs in batches:
        loss = plain_dpo_loss(model, reference, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def dpo_bound(model: torch.nn.Module, batches: list[Pairs]) -> None:
    """One forward pass over the real tokens' rows, logits and cross entropy of the completions' tokens alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, weight_decay=0.0, fused=True)
    for pairs in batches:
        hidden = model.transformer(input_ids=pairs.tokens[:, :-1], use_cache=False).last_hidden_state[:, PROMPT - 1 :]
        targets, mask = pairs.tokens[:, PROMPT:], pairs.attention_mask[:, PROMPT:].bool()
        losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[mask]), targets[mask], reduction="none")
        log_probs = -torch.zeros(mask.shape).masked_scatter(mask, losses).sum(1)
        ratio = log_probs - pairs.ref_log_probs
        margin = ratio[: len(pairs)] - ratio[len(pairs) :]
        optimizer.zero_grad(set_to_none=True)
        (-torch.nn.functional.logsigmoid(0.1 * margin).mean()).backward()
        optimizer.step()


# measuring


def in_bf16(work: Callable[[], Any]) -> None:
    """The work under autocast to bfloat16, as a run with mixed_precision=bf16 has it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        work()


class Timed(list):
    """Batches that note the processor time at which each was asked for."""

    def __init__(self, batches: list) -> None:
        super().__init__(batches)
        self.marks: list[float] = []

    def __iter__(self):
        self.marks = []
        for batch in list.__iter__(self):
            self.marks.append(time.process_time())
            yield batch
        self.marks.append(time.process_time())

    def seconds(self) -> list[float]:
        """Of every step but the first, which makes the optimizer's state."""
        return [later - sooner for sooner, later in zip(self.marks[1:], self.marks[2:])]


def measured(work: Callable[[torch.nn.Module, list], Any], size: str, batches: list) -> tuple[float, float]:
    """(median CPU seconds a step, most MB above what was there before the first) in a process of its own."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)

    def child() -> None:
        torch.set_num_threads(1)
        model, timed = model_of(size), Timed(batches)
        before = memory_now()
        work(model, timed)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        send.send((statistics.median(timed.seconds()), peak - before))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    send.close()
    found = receive.recv()
    process.join()
    return found


def memory_now() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def table(title: str, ways: dict[str, Callable], size: str, batches: list) -> dict[str, float]:
    print(f"\n{title}\n{'':<34} CPU s a step   of plain   of the bound   MB", flush=True)
    found = {name: measured(work, size, batches) for name, work in ways.items()}
    plain, bound = found["plain loop"][0], found["lower bound"][0]
    for name, (seconds, megabytes) in found.items():
        print(f"{name:<34} {seconds:>12.3f} {seconds / plain:>10.2f} {seconds / bound:>14.2f} {megabytes:>6.0f}", flush=True)
    return {name: seconds for name, (seconds, _) in found.items()}


def both(size: str, steps: int, bf16: bool) -> None:
    with_trl = importlib.util.find_spec("trl") is not None
    prompts = [prompts_of(32, seed) for seed in range(steps + 1)]
    ways = {
        "ours": lambda model, batches: reinforce_ours(model, batches, 20),
        "plain loop": lambda model, batches: reinforce_plain(model, batches, 20),
        "lower bound": lambda model, batches: reinforce_bound(model, batches, 20),
    }
    if bf16:
        ways["ours, bfloat16 copy for rollouts"] = lambda model, batches: reinforce_ours(model, batches, 20, bf16=True)
        ways["ours, bfloat16 throughout"] = lambda model, batches: in_bf16(lambda: reinforce_ours(model, batches, 20, bf16=True))
    if with_trl:
        ways["TRL"] = lambda model, batches: trl_ways.reinforce(model, prompts, batches.marks, 20, IDS)
    if with_trl and bf16:
        ways["TRL, bfloat16"] = lambda model, batches: trl_ways.reinforce(model, prompts, batches.marks, 20, IDS, bf16=True)
    table(f"REINFORCE, {size}, 32 prompts, 10+20 tokens", ways, size, prompts)
    pairs = [pairs_of(16, 128, seed) for seed in range(steps + 1)]
    known = [Pairs(p.tokens, p.attention_mask, p.prompt_lengths, torch.full((32,), -500.0)) for p in pairs]  # any: same work
    ways = {"ours": dpo_ours, "plain loop": dpo_plain, "lower bound": dpo_bound}
    if bf16:
        ways["ours, bfloat16"] = lambda model, batches: in_bf16(lambda: dpo_ours(model, batches))
    if with_trl:
        ways["TRL"] = lambda model, batches: trl_ways.dpo(model, pairs, batches.marks, IDS)
    if with_trl and bf16:
        ways["TRL, bfloat16"] = lambda model, batches: trl_ways.dpo(model, pairs, batches.marks, IDS, bf16=True)
    table(f"DPO, {size}, 16 pairs of at most 128 tokens", ways, size, known)
    if not with_trl:
        print("\nTRL is not installed here: not measured.")


def growth(size: str, steps: int) -> None:
    """Seconds a token written, which is to stay what it is."""
    print(f"\nREINFORCE, {size}: growth\n{'rows':>6} {'new tokens':>11} {'CPU s a step':>14} {'ms a token':>11}", flush=True)
    for rows, new_tokens in ((8, 20), (32, 20), (128, 20), (8, 80), (8, 320)):
        prompts = [prompts_of(rows, seed) for seed in range(steps + 1)]
        seconds, _ = measured(lambda model, batches: reinforce_ours(model, batches, new_tokens), size, prompts)
        print(f"{rows:>6} {new_tokens:>11} {seconds:>14.3f} {1000 * seconds / rows / new_tokens:>11.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distilgpt2", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = "distilgpt2" if arguments.distilgpt2 else "small"
    growth(size, arguments.steps) if arguments.growth else both(size, arguments.steps, arguments.bf16)


if __name__ == "__main__":
    main()
