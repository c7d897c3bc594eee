"""The methods of `climb run overoptimisation`: each is trained by what was written in its own lesson, and watched on its way."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, Callable

import torch
from torch import Tensor, nn

from full.given import data, models
from full.given.overoptimisation_settings import measured_at
from full.given.problems import InputProblem
from full.given.text import Rollout
from toy.given.run_folder import RunFolder

from . import checkpoint, common, dpo, kl, measures, ppo, reinforce
from .batches import Order, pair_batches, prompt_batches
from .checkpoint import Moment
from .interrupts import Interrupts
from .loop import RunLoop
from .overoptimisation_bench import Bench
from .overoptimisation_best_of_n import run_best_of_n
from .overoptimisation_measures import TwoJudges, measured, written
from .ppo_bench import Prompt, text_batches
from .ppo_loop import VALUE, PPORunLoop
from .settings import Measuring

EPOCHS = 10**6
"As many as the steps need."
SAMPLES = 6
"Test prompts whose completions are kept at every point of a training's curve."


# Training, and watching


def shared(bench: Bench, steps: int, rate: float, **more: Any) -> dict[str, Any]:
    """The fields of a method's own configuration. `sample_every`: after every step the loop asks whether to measure."""
    config = bench.config
    fields = {name: getattr(config, name) for name in Measuring.__dataclass_fields__}
    fields |= {"batch_size": config.batch_size, "new_tokens": config.new_tokens, "save_every": config.save_every}
    return fields | {"epochs": EPOCHS, "steps": steps, "learning_rate": rate, "samples": 0, "sample_every": 1} | more


def run_reinforce(bench: Bench) -> None:
    config = bench.config
    own = reinforce.Config(**shared(bench, config.reinforce_steps, config.reinforce_rate))
    on_prompts(bench, "reinforce", own, bench.lessons.reinforce.train, bench.judge)


def run_kl(bench: Bench) -> None:
    config = bench.config
    own = kl.Config(**shared(bench, config.reinforce_steps, config.reinforce_rate), alpha=config.alpha)
    on_prompts(bench, "kl", own, bench.lessons.kl_control.train, bench.judge)


def run_ensemble(bench: Bench) -> None:
    """REINFORCE, paid by several proxies."""
    config, judge = bench.config, bench.judge
    names = [name.strip() for name in config.ensemble_classifiers.split(",") if name.strip()]
    names = names or [config.classifier, *more_proxies(bench)]
    if len(names) < 2:
        raise InputProblem(f"ensemble_classifiers={config.ensemble_classifiers}: expected two names or more, with commas")
    members = [models.load_classifier(name, field="ensemble_classifiers", say=bench.notes.append) for name in names]
    for model, _ in members:
        bench.accelerator.prepare_model(model, evaluation_mode=True)

    def blend(scores: Tensor) -> Tensor:
        return bench.lessons.overoptimisation.ensemble_reward(scores, config.ensemble_how).to(scores.dtype)

    (first, its_tokenizer), *others = members
    together = TwoJudges(first, its_tokenizer, judge.tokenizer, judge.world, judge.truth, others, blend)
    own = reinforce.Config(**shared(bench, config.reinforce_steps, config.reinforce_rate))
    on_prompts(bench, "ensemble", own, bench.lessons.reinforce.train, together)


def more_proxies(bench: Bench) -> list[str]:
    """Proxies made as the built-in one was, each with its own first weights and labels that no other has seen: their folders."""
    config = bench.config
    if config.classifier != "review-sentiment" or not common.in_the_world(config):
        raise InputProblem(
            f"ensemble_classifiers: expected names with commas, as others like classifier={config.classifier} cannot be made here"
        )
    from full.given.build_world import Recipe, save, train_classifier
    from full.given.world_tokenizer import tokenizer_of

    places = [bench.folder.path / "proxies" / f"{n}" for n in range(2, config.ensemble + 1)]
    for n, place in enumerate(places, 2):
        if (place / "tokenizer.json").is_file():  # the last file that is written
            continue
        tokenizer = tokenizer_of(bench.judge.world, "right")
        recipe = Recipe(seed=1000 * n + config.seed)

        def show(name: str, done: int, total: int, line: str) -> None:
            bench.progress(f"proxy {n} of {config.ensemble}", done, total)

        with torch.random.fork_rng(devices=[]):
            proxy = train_classifier(bench.judge.world, recipe, tokenizer, show)
        save(proxy, tokenizer, place)
    return [str(place) for place in places]


def on_prompts(bench: Bench, method: str, own: Any, train: Callable[[Any, Any], None], judge: TwoJudges) -> None:
    """A training whose batches are prompts."""
    prompts = common.training_prompts(own, judge.tokenizer, bench.notes.append)
    order = Order(len(prompts), own.batch_size, own.epochs, own.steps, own.seed, own.data)
    batches = prompt_batches(prompts, order, judge.tokenizer.pad_token_id)
    trained(bench, method, own, batches, judge, lambda loop, watch: train(loop, own))


def run_dpo(bench: Bench) -> None:
    config = bench.config
    fields = shared(bench, config.dpo_steps, config.dpo_rate, rows=config.dpo_prompts, beta=config.dpo_beta)
    own = dpo.Config(**fields)
    pairs = proxy_pairs(bench, own)
    beside = SimpleNamespace(config=own, progress=bench.progress, accelerator=bench.accelerator, tokenizer=bench.judge.tokenizer)
    reference = dpo.log_probs_of(bench.reference, pairs, beside, "dpo: the reference on the pairs")
    order = Order(len(pairs), own.batch_size, own.epochs, own.steps, own.seed, "dpo_prompts")
    batches = pair_batches(pairs, order, bench.judge.tokenizer.pad_token_id, reference)
    trained(bench, "dpo", own, batches, bench.judge, lambda loop, watch: bench.lessons.dpo.train(loop, own))


def proxy_pairs(bench: Bench, own: Any) -> data.Preferences:
    """Pairs of the reference's own completions: the one of each prompt that the proxy likes best, and the one it likes least."""
    config, judge, device = bench.config, bench.judge, bench.accelerator.device
    prompts = common.training_prompts(own, judge.tokenizer, bench.notes.append)
    generator = torch.Generator().manual_seed(measures.SEED + 7 + config.seed)
    kept: tuple[list, list, list] = [], [], []
    each = max(config.eval_batch // config.dpo_samples, 1)
    for start in range(0, len(prompts), each):
        some = prompts[start : start + each]
        batch = data.prompts_of(some, judge.tokenizer.pad_token_id).to(device).repeated(config.dpo_samples)
        found = written(bench.reference, batch, judge.tokenizer, config.new_tokens, generator)
        rewards = judge.scores(found).view(len(some), config.dpo_samples).cpu()
        rows = [tokens[mask].tolist() for tokens, mask in zip(found.completion.cpu(), found.mask.cpu())]
        for n, prompt in enumerate(some):
            best, worst = int(rewards[n].argmax()), int(rewards[n].argmin())
            if rewards[n, best] > rewards[n, worst]:  # of equals nothing is to be learned
                for part, what in zip(kept, (prompt, *(rows[n * config.dpo_samples + m] for m in (best, worst)))):
                    part.append(what)
        bench.progress("dpo: completions for pairs", min(start + each, len(prompts)), len(prompts))
    return data.Preferences(*kept, dropped=len(prompts) - len(kept[0]), cut=0)


class ProxyReward:
    """What PPO is paid: the judge's reward of prompt and completion, at the completion's last token."""

    weights = {"proxy": 1.0}

    def __init__(self, judge: TwoJudges) -> None:
        self.judge, self.tokenizer = judge, judge.tokenizer

    def __call__(self, prompts: Any, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        mask, scores = rollout.mask, self.judge.scores(rollout).double()
        last = torch.arange(mask.shape[1], device=mask.device) == mask.sum(1, keepdim=True) - 1
        return torch.where(last, scores.unsqueeze(1), 0.0), {"proxy": scores}


def run_ppo(bench: Bench) -> None:
    config, judge, lessons = bench.config, bench.judge, bench.lessons.ppo
    asked = shared(bench, config.ppo_steps, config.ppo_rate)
    prompts = common.training_prompts(reinforce.Config(**asked), judge.tokenizer, bench.notes.append)
    known = {name: value for name, value in asked.items() if name in ppo.Config.__dataclass_fields__}
    free = {"kl_coef": 0.0, "eos_penalty": 0.0, "temperature": 1.0, "top_k": 0, "ppo_epochs": config.ppo_epochs}
    own = ppo.Config(**known, **free, minibatch_size=config.batch_size)
    texts = [Prompt(judge.tokenizer.decode(row, skip_special_tokens=True), row, "") for row in prompts]
    order = Order(len(prompts), own.batch_size, own.epochs, own.steps, own.seed, own.data)
    batches = text_batches(texts, order, judge.tokenizer.pad_token_id)
    value = lessons.GPT2Value(models.load_policy(config.model)[0]).to(bench.accelerator.device)

    def train(loop: Any, policy: nn.Module) -> None:
        trainer = lessons.PPOTrainer(
            loop, lessons.GPT2Policy(policy), lessons.GPT2Policy(bench.reference), value, ProxyReward(judge), own
        )
        with bench.accelerator.autocast():
            trainer.train()

    trained(bench, "ppo", own, batches, judge, train, value)


def trained(
    bench: Bench,
    method: str,
    own: Any,
    batches: Any,
    judge: TwoJudges,
    train: Callable[[Any, nn.Module], None],
    value: nn.Module | None = None,
) -> None:
    """One training from the reference on, in a folder of its own, measured on its way: its points stand in the bench then.

    own: the method's configuration.  train(loop, policy).  value: PPO's second network, trained with the policy.
    """
    inner = RunFolder(bench.folder.path / method)
    place = checkpoint.newest(inner.path) if bench.resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    policy = models.load_policy(bench.config.model if place is None else str(place))[0]
    bench.accelerator.prepare_model(policy, evaluation_mode=True)
    inner.keep_metrics([row for row in inner.metrics() if row["step"] <= moment.step])
    bench.keep(method, min(moment.step, own.steps - 1) if place else -1)  # the last point comes with the last samples
    samples = measures.SampleFile(inner.path)
    samples.keep_until(moment.step)
    groups = [{"params": list(policy.parameters())}] + ([{"params": list(value.parameters())}] if value is not None else [])
    fused = {"fused": True} if bench.accelerator.device.type in ("cpu", "cuda") else {}
    optimizer = torch.optim.AdamW(groups, lr=own.learning_rate, weight_decay=own.weight_decay, **fused)
    if state is not None:
        optimizer.load_state_dict(state)
    if value is not None and place is not None:
        value.load_state_dict(torch.load(place / VALUE, map_location=bench.accelerator.device, weights_only=True))

    def watch(step: int, ended: bool = False) -> None:
        wanted = ended or step in measured_at(loop.steps, bench.config.points)
        if wanted and not any(row["step"] == step for row in bench.of(method)):
            divergence = bench.lessons.kl_control.compute_kl_divergence
            arguments = (policy, bench.reference, bench.prompts, judge, bench.config, divergence, bench.accelerator.device)
            bench.add({"method": method, "step": step, **measured(*arguments)})
            stage = "before" if step == 0 else "after" if ended else "during"
            fixed = bench.prompts[:SAMPLES]
            samples.add(measures.sample_rows(step, stage, policy, bench.reference, fixed, judge, own, bench.accelerator.device))

    def begin() -> None:  # at the start; and where a run was killed between a checkpoint and its measurement
        if moment.step < loop.steps:
            watch(moment.step)

    def show(what: str, done: int, total: int) -> None:
        bench.progress(f"{method}: {what}", done, total)

    kind, more = (RunLoop, {}) if value is None else (PPORunLoop, {"value": value})
    with contextlib.nullcontext() if value is None else Interrupts() as interrupts:  # a step of PPO takes seconds: it is finished
        if value is not None:
            more["interrupts"] = interrupts
        loop = kind(
            policy,
            batches,
            own.steps,
            optimizer,
            own,
            accelerator=bench.accelerator,
            folder=inner,
            tokenizer=judge.tokenizer,
            moment=moment,
            progress=show,
            sample=watch,
            begin=begin,
            scores=judge.scores,
            reference=bench.reference,
            generator=torch.Generator().manual_seed(own.seed),
            **more,
        )
        with common.kept(loop):
            train(loop, policy)
            common.ended(loop, f"{method}: train")
            watch(loop.moment.step, ended=True)
        if interrupts is not None and interrupts.asked:
            raise KeyboardInterrupt
    inner.write_summary({"steps": loop.moment.step, "seconds": loop.moment.seconds})


RUNS: dict[str, Callable[[Bench], None]] = {
    "best_of_n": run_best_of_n,
    "reinforce": run_reinforce,
    "ppo": run_ppo,
    "dpo": run_dpo,
    "kl": run_kl,
    "ensemble": run_ensemble,
}
