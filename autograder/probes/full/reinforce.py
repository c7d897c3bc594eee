"""Lesson 9: what is asked of REINFORCE and its parts. The models are tiny GPT-2s with weights from the case."""

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

from autograder.probes import refusal as refusal_of, refuses
from full.given.loop import Loop
from full.given.settings import ReinforceConfig
from full.given.text import Prompts, Rollout

FIGURES = ("reward", "loss", "entropy", "completion_length", "eos_rate")


def token_log_probs(module, logits, tokens, upstream):
    """The log-probabilities, and the gradient of sum(log_probs * upstream), over those that are finite, by the logits."""
    before = snapshot(logits=logits, tokens=tokens)
    logits.requires_grad_(True)
    log_probs = module.token_log_probs(logits, tokens)
    answer = {"log_probs": log_probs.detach(), "dtype": name_of(log_probs.dtype)}
    if log_probs.shape == upstream.shape:
        total = torch.where(log_probs.isfinite(), log_probs * upstream, 0.0).sum()
        answer["gradient"] = torch.autograd.grad(total, logits)[0] if total.requires_grad else torch.zeros_like(logits)
    return {**answer, "arguments changed": changed(before, logits=logits, tokens=tokens)}


def completion_mask(module, tokens, prompt_length, eos_token_id, pad_token_id):
    before = snapshot(tokens=tokens)
    mask = module.completion_mask(tokens, prompt_length, eos_token_id, pad_token_id)
    return {"mask": mask, "dtype": name_of(mask.dtype), "arguments changed": changed(before, tokens=tokens)}


def reinforce_loss(module, sizes, weights, reward, tokens, prompt_length, attention_mask, temperature, top_k):
    """Log-probabilities and loss of rows of tokens, and the loss's gradient by all the model's weights."""
    model = language_model(sizes, weights)
    arguments = {"reward": reward, "tokens": tokens, "attention_mask": attention_mask}
    before = snapshot(**arguments)
    reward.requires_grad_(True)
    log_probs, loss = module.compute_reinforce_loss(
        reward, tokens, model, prompt_length, attention_mask=attention_mask, temperature=temperature, top_k=top_k
    )
    if loss.requires_grad:
        loss.backward()
    return {
        "log_probs": log_probs.detach(),
        "loss": loss.detach(),
        "gradient": torch.cat([gradient_of(parameter).flatten() for parameter in model.parameters()]),
        "a gradient reaches the reward": bool(gradient_of(reward).any()),
        "dtype": name_of(loss.dtype),
        "arguments changed": changed(before, **arguments),
    }


def batch_baseline(module, rewards):
    before = snapshot(rewards=rewards)
    baseline = torch.as_tensor(module.batch_baseline(rewards))
    return {"baseline": baseline, "dtype": name_of(baseline.dtype), "arguments changed": changed(before, rewards=rewards)}


def rloo_advantages(module, rewards, group_size):
    before = snapshot(rewards=rewards)
    advantages = module.rloo_advantages(rewards, group_size)
    return {"advantages": advantages, "dtype": name_of(advantages.dtype), "arguments changed": changed(before, rewards=rewards)}


def new_policy(module, sizes, weights, frozen, learning_rate, gradients):
    """What `reset_model_optimizer` makes of a reference with dropout, in training mode; then steps down the given gradients."""
    reference = language_model(sizes, weights, dropout=0.25).train().requires_grad_(not frozen)
    policy, optimizer = module.reset_model_optimizer(reference, learning_rate)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    mine = list(policy.parameters())
    shared = {p.data_ptr() for p in reference.parameters()} & {p.data_ptr() for p in mine}
    answer = {
        "policy is the reference": policy is reference,
        "policy's weights at first": flat(policy),
        "tensors shared with the reference": len(shared),
        "policy is in training mode": any(part.training for part in policy.modules()),
        "policy's frozen parameters": sum(not p.requires_grad for p in mine),
        "optimizer": type(optimizer).__name__,
        "optimizer holds the policy's parameters": {id(p) for p in held} == {id(p) for p in mine},
        "past of the optimizer": len(optimizer.state),
    }
    for gradient in gradients:
        for parameter, part in zip(mine, gradient.split([p.numel() for p in mine])):
            parameter.grad = part.view_as(parameter).clone()
        optimizer.step()
    return {
        **answer,
        "policy's weights after the steps": flat(policy),
        "reference's weights after the steps": flat(reference),
        "reference is in training mode": reference.training,
        "reference's frozen parameters": sum(not p.requires_grad for p in reference.parameters()),
    }


def training_replay(module, sizes, weights, batches, settings, learning_rate, eos_token_id):
    """`train` by plain gradient descent, with rollouts, rewards and another process's rewards from a list."""
    policy = language_model(sizes, weights, dropout=0.5).train()
    loop = ScriptedLoop(policy, batches, ReinforceConfig(**settings), learning_rate, eos_token_id)
    modes = []
    policy.register_forward_pre_hook(lambda model, inputs: modes.append(model.training))
    module.train(loop, loop.config)
    return {
        "scored with dropout": any(modes),
        "batches asked for": loop.asked,
        "rollouts": loop.rollouts,
        "prompts repeated as they should be": loop.repeated,
        "rewards asked of the rollout": loop.of_the_rollout,
        "updates": loop.updates,
        "log": [{name: figures.get(name) for name in FIGURES} for figures in loop.rows],
        "weights after each update": torch.stack(loop.path) if loop.path else None,
    }


def trained_weights(module, sizes, weights, target, steps, batch, settings, learning_rate, seeds):
    """The weights that `train` ends with, one row for each seed: the reward is the share of tokens that are the target."""

    def scores(rollout):
        return (rollout.completion == target).double().mean(dim=1)

    ends = []
    for start, seed in zip(weights, seeds.tolist()):
        policy, config = language_model(sizes, start), ReinforceConfig(**settings)
        prompts = Prompts(torch.ones(batch, 1, dtype=torch.long), torch.ones(batch, 1, dtype=torch.long))
        optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
        generator = torch.Generator().manual_seed(seed)
        loop = Loop(policy, [prompts] * steps, optimizer, config, scores=scores, generator=generator)
        module.train(loop, config)
        ends.append(flat(policy))
    return {"weights": torch.stack(ends)}


def loss_refuses(module, sizes, weights, good, argument, bad):
    """The same of `compute_reinforce_loss`, on a model."""
    model = language_model(sizes, weights)
    module.compute_reinforce_loss(model=model, **good)
    return refusal_of(lambda: module.compute_reinforce_loss(**{"model": model, **good, argument: bad}))


def reset_refuses(module, sizes, weights, learning_rate):
    reference = language_model(sizes, weights)
    module.reset_model_optimizer(reference, 0.1)
    return refusal_of(lambda: module.reset_model_optimizer(reference, learning_rate))


class ScriptedLoop(Loop):
    """Rollouts and rewards from a list; another process's rewards stand before these when values are gathered."""

    def __init__(self, policy, batches, config, learning_rate, eos_token_id):
        prompts = [Prompts(batch["prompts"], batch["prompt_mask"]) for batch in batches]
        optimizer = torch.optim.SGD(policy.parameters(), lr=learning_rate)
        super().__init__(policy, prompts, optimizer, config, eos_token_id=eos_token_id, pad_token_id=0)
        self.script, self.path = batches, []
        self.asked = self.rollouts = self.updates = 0
        self.repeated = self.of_the_rollout = True

    @property
    def turn(self):
        return self.script[min(max(self.rollouts - 1, 0), len(self.script) - 1)]

    def batches(self):
        for prompts in super().batches():
            self.asked += 1
            yield prompts

    def rollout(self, prompts):
        self.rollouts += 1
        times, turn = self.config.group_size, self.turn
        wanted = (turn["prompts"].repeat_interleave(times, 0), turn["prompt_mask"].repeat_interleave(times, 0))
        self.repeated = self.repeated and all(map(torch.equal, wanted, (prompts.input_ids, prompts.attention_mask)))
        self.written = Rollout(turn["tokens"].clone(), turn["attention_mask"].clone(), turn["prompts"].shape[1])
        return self.written

    def reward(self, rollout):
        self.of_the_rollout = self.of_the_rollout and torch.equal(rollout.tokens, self.written.tokens)
        return self.turn["rewards"].clone()

    def gather(self, values):
        return torch.cat([self.turn["others"], values])

    def own(self, values):
        return values[len(self.turn["others"]) :]

    def update(self, loss):
        super().update(loss)
        self.updates += 1
        self.path.append(flat(self.policy))


# what the probes share


def language_model(sizes, weights, dropout=0.0):
    """A GPT-2 of these sizes whose parameters, in their order, are the entries of `weights`; in evaluation mode."""
    config = GPT2Config(
        **sizes, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config).double().eval()
    torch.nn.utils.vector_to_parameters(weights.double(), model.parameters())
    return model


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient_of(leaf):
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def snapshot(**tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items() if tensor is not None}


def changed(before, **tensors):
    return ", ".join(name for name in before if not torch.equal(before[name], tensors[name].detach())) or "none"
