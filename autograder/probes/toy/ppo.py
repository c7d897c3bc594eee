"""Lesson 6: what is asked of PPO and its parts."""

import torch

from autograder.probes import refuses
from toy.given.ppo import PPOConfig, Rollout
from toy.given.sentences import ValueTable, reference_policy, sampler, sentence_scores
from toy.given.tabular import TabularLM


def masked_mean(module, **case):
    return _loss("mean", module.masked_mean, case, ["values"])


def discounted_returns(module, **case):
    return _constants(["returns"], module.discounted_returns, case, [])


def kl_penalised_rewards(module, **case):
    return _constants(["rewards"], module.kl_penalised_rewards, case, ["scores", "log_probs", "ref_log_probs"])


def gae(module, **case):
    tracked = ["rewards", "values"] + ["bootstrap"] * (case.get("bootstrap") is not None)
    return _constants(["advantages", "returns"], module.gae, case, tracked)


def explained_variance(module, **case):
    return _constants(["explained"], module.explained_variance, case, [])


def whiten(module, **case):
    return _constants(["whitened"], module.whiten, case, [])


def clipped_surrogate(module, same=False, **case):
    """same: the old log-probabilities are the very tensor of the new ones, as a rollout kept with its graph would have them."""
    tracked = ["log_probs", "old_log_probs", "advantages"]
    if same:
        return _loss("loss", module.clipped_surrogate, case | {"old_log_probs": case["log_probs"]}, tracked)
    return _loss("loss", module.clipped_surrogate, case, tracked)


def clipped_value_loss(module, **case):
    return _loss("loss", module.clipped_value_loss, case, ["values", "old_values", "returns"])


def approximate_kl(module, **case):
    return _constants(["kl"], module.approximate_kl, case, [])


def clip_fraction(module, **case):
    return _constants(["fraction"], module.clip_fraction, case, [])


def mean_entropy(module, **case):
    return _loss("entropy", module.mean_entropy, case, ["logits"])


def rollout(module, policy, value, reference, tokens, mask, scores, temperature):
    """The rollout of tables with sentences and scores from lists, on real tokens; what was asked of the sampler and the score."""
    models = table_models(policy, value, reference)
    sentences = ScriptedSentences(models[0], tokens[None], mask[None], scores[None])
    config = PPOConfig(batch_size=len(tokens), temperature=temperature)
    found = module.rollout(*models, sentences.sample, sentences.score, config)
    numbers = {name: getattr(found, name) for name in ("log_probs", "ref_log_probs", "values")}
    return {
        "tokens": torch.where(found.mask, found.tokens, 0),
        "mask": found.mask,
        "scores": found.scores,
        **{name: torch.where(found.mask, tensor.detach(), 0.0) for name, tensor in numbers.items()},
        "with a gradient": ", ".join(name for name, tensor in numbers.items() if tensor.requires_grad) or "none",
        "asked of sample": sentences.asked,
        "scored as sampled": sentences.scored,
    }


def ppo_update(module, policy, value, batch, settings, learning_rate):
    """One update by plain gradient descent on tables: the figures of every step, and the tables afterwards."""
    model, values, _ = table_models(policy, value, policy)
    optimizer = torch.optim.SGD([*model.parameters(), *values.parameters()], lr=learning_rate)
    before = {name: tensor.clone() for name, tensor in batch.items()}
    figures = module.ppo_update(model, values, optimizer, Rollout(**batch), PPOConfig(**settings))
    figures = {str(name): _tensor(figure) for name, figure in figures.items()}
    return {
        "figures": {name: figure.detach() for name, figure in figures.items()},
        "figures with a gradient": ", ".join(name for name, figure in figures.items() if figure.requires_grad) or "none",
        "policy": model.logits[0],
        "value": values.table,
        "arguments changed": ", ".join(name for name in before if not torch.equal(before[name], batch[name])) or "none",
    }


def training_replay(module, policy, value, reference, tokens, mask, scores, settings, learning_rate):
    """`train` by plain gradient descent on tables, with the sentences and scores of every rollout from a list."""
    models = table_models(policy, value, reference)
    optimizer = torch.optim.SGD([*models[0].parameters(), *models[1].parameters()], lr=learning_rate)
    sentences, seen, told = ScriptedSentences(models[0], tokens, mask, scores), [], []

    def after_update(line):
        seen.append(models[0].logits.detach()[0].clone())
        told.append(dict(line))

    log = module.train(
        *models,
        sentences.sample,
        sentences.score,
        optimizer,
        PPOConfig(batch_size=tokens.shape[1], **settings),
        len(tokens),
        after_update,
    )
    return {
        "rollouts": len(sentences.asked),
        "log": [{str(name): float(figure) for name, figure in line.items()} for line in log],
        "after_update is told the log": told == log,
        "policy after each update": torch.stack(seen) if seen else None,
        "value": models[1].table,
        "reference changed": not torch.equal(models[2].logits.detach()[0], reference),
        "asked of sample": sentences.asked,
    }


def trained_tables(module, seeds, length, updates, settings, learning_rate):
    """The tables of logits that `train` ends with in the world of sentences, one for each seed: (seeds, prefixes, vocabulary)."""
    tables = []
    for seed in seeds.tolist():
        reference, value = reference_policy(length), ValueTable(length=length)
        policy = TabularLM(reference.vocabulary, length)
        policy.load_state_dict(reference.state_dict())
        optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=learning_rate)
        config = PPOConfig(**settings)
        module.train(policy, value, reference, sampler(seed, length), sentence_scores, optimizer, config, updates)
        tables.append(policy.logits.detach()[0])
    return {"logits": torch.stack(tables)}


class ScriptedSentences:
    """Stands in for the world: `sample` and `score` answer from lists, rollout by rollout, and remember what they were asked."""

    def __init__(self, policy, tokens, mask, scores):
        self.policy, self.tokens, self.mask, self.scores = policy, tokens, mask, scores
        self.asked, self.scored = [], True

    def sample(self, policy, count, temperature=1.0):
        turn = len(self.asked) % len(self.tokens)
        self.asked.append({"the policy": policy is self.policy, "count": int(count), "temperature": float(temperature)})
        return self.tokens[turn].clone(), self.mask[turn].clone()

    def score(self, tokens, mask):
        turn = (len(self.asked) - 1) % len(self.tokens)
        self.scored = self.scored and torch.equal(tokens, self.tokens[turn]) and torch.equal(mask, self.mask[turn])
        return self.scores[turn].clone()


def table_models(policy, value, reference):
    """A policy, a value function and a frozen reference that are tables with these entries."""
    vocabulary = policy.shape[1]
    length = 1
    while sum(vocabulary**t for t in range(length)) < len(policy):
        length += 1
    model, anchor, values = TabularLM(vocabulary, length), TabularLM(vocabulary, length), ValueTable(vocabulary, length)
    for parameter, entries in ((model.logits, policy[None]), (anchor.logits, reference[None]), (values.table, value)):
        parameter.data.copy_(entries)
    return model, values, anchor.requires_grad_(False)


def _loss(name, function, case, tracked):
    """A loss, and its gradients by the `tracked` arguments: zeros where none arrives."""
    before = _snapshot(case)
    for leaf in tracked:
        case[leaf].requires_grad_(True)
    value = _tensor(function(**case))
    if value.requires_grad:
        value.backward()
    leaves = {key: case[key] for key in tracked if not any(case[key] is case[other] for other in tracked[: tracked.index(key)])}
    gradients = {key: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for key, leaf in leaves.items()}
    return {name: value, "gradients": gradients, **_manners(value, case, before)}


def _constants(names, function, case, tracked):
    """What the function returns, and whether a gradient could flow back through it."""
    before = _snapshot(case)
    for leaf in tracked:
        case[leaf].requires_grad_(True)
    values = function(**case)
    values = [_tensor(value) for value in (values if len(names) > 1 else [values])]
    attached = any(value.requires_grad for value in values)
    named = {name: value.detach() for name, value in zip(names, values, strict=True)}
    return {**named, **({"carries a gradient": attached} if tracked else {}), **_manners(values[0], case, before)}


def _tensor(value):
    """A tensor of what the docstrings call one: numbers, and lists of numbers, are taken as float64."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (list, tuple)):
        return torch.stack([_tensor(one) for one in value])
    return torch.as_tensor(value, dtype=torch.float64) if isinstance(value, (int, float)) else torch.as_tensor(value)


def _snapshot(case):
    return {name: value.clone() for name, value in case.items() if isinstance(value, torch.Tensor)}


def _manners(value, case, before):
    """The dtype of a result, and which arguments look different afterwards."""
    changed = [name for name, tensor in before.items() if not torch.equal(case[name], tensor)]
    return {"dtype": str(value.dtype).removeprefix("torch."), "arguments changed": ", ".join(changed) or "none"}
