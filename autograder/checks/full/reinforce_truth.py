"""Lesson 9 worked out another way, on the grader's side: row by row, without padding, where no mask can go wrong.

It needs torch and transformers, which the grader loads where a truth is computed and nowhere else.
"""

from __future__ import annotations

import numpy as np
import torch

from autograder.probes.full.reinforce import flat, language_model

TOP = -np.inf


def parameters(vocab_size, n_positions, n_embd, n_layer, n_head):
    """How many weights a GPT-2 of these sizes has; the output layer is the embedding."""
    block = 12 * n_embd**2 + 13 * n_embd  # attention 4 d^2 + 4 d, feed-forward 8 d^2 + 5 d, two norms 4 d
    return (vocab_size + n_positions) * n_embd + n_layer * block + 2 * n_embd


def distribution(logits, temperature, top_k):
    """log-probabilities of the next token as it is drawn: rows whose exponentials sum to 1."""
    scaled = logits / temperature
    if top_k:
        rank = (scaled.unsqueeze(-1) < scaled.unsqueeze(-2)).sum(-1)  # how many are larger
        scaled = torch.where(rank < top_k, scaled, TOP)
    return torch.log_softmax(scaled, dim=-1)


def row_log_probs(model, prompt, completion, temperature, top_k):
    """log p of each token of one completion, (its length,), with gradient: one unpadded row."""
    logits = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0]
    first = len(prompt)
    return torch.stack(
        [distribution(logits[first + t - 1], temperature, top_k)[token] for t, token in enumerate(completion)]
    )


def rows_of(tokens, attention_mask, prompt_length):
    """(prompt, completion) of every row, without padding."""
    for row, real in zip(torch.as_tensor(tokens), torch.as_tensor(attention_mask)):
        keep = real.bool()
        yield row[:prompt_length][keep[:prompt_length]], row[prompt_length:][keep[prompt_length:]]


def loss_of(model, reward, tokens, attention_mask, prompt_length, temperature, top_k):
    """(log_probs (batch, time) as rows of zeros where there is padding, loss), with gradient."""
    time, total, table = tokens.shape[1] - prompt_length, 0.0, []
    for worth, (prompt, completion) in zip(reward, rows_of(tokens, attention_mask, prompt_length)):
        log_probs = row_log_probs(model, prompt, completion, temperature, top_k)
        total = total - float(worth) * log_probs.sum()
        table.append(torch.nn.functional.pad(log_probs.detach(), (0, time - len(completion))))
    return torch.stack(table), total / len(tokens)


def reinforce_loss(sizes, weights, reward, tokens, prompt_length, attention_mask, temperature, top_k):
    """Log-probabilities, loss, and the loss's gradient by all weights."""
    model = language_model(sizes, torch.as_tensor(weights))
    if attention_mask is None:
        attention_mask = np.ones_like(tokens)
    log_probs, loss = loss_of(model, reward, tokens, attention_mask, prompt_length, temperature, top_k)
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return log_probs.numpy(), loss.item(), gradient.numpy()


def written(rng, sizes, weights, prompts, prompt_mask, time, eos, pad, temperature, top_k):
    """Completions drawn from the model, token by token: (tokens, attention mask) of the whole rows, padded on the right."""
    model, rows, masks = language_model(sizes, torch.as_tensor(weights)), [], []
    for prompt, real in zip(prompts, prompt_mask):
        said = []
        while len(said) < time and (not said or said[-1] != eos):
            with torch.no_grad():
                inputs = torch.tensor([[*prompt[real.astype(bool)], *said]])
                chances = distribution(model(input_ids=inputs).logits[0, -1], temperature, top_k).exp().numpy()
            said.append(int(rng.choice(len(chances), p=chances / chances.sum())))
        rows.append([*prompt, *said, *[pad] * (time - len(said))])
        masks.append([*real, *[1] * len(said), *[0] * (time - len(said))])
    return np.array(rows), np.array(masks)


def enumerated(sizes, weights, prompt, length, eos):
    """(EnumerableLM, rows of prompt and sequence, their attention mask) of every sequence after one prompt."""
    from toy.given.enumerable import EnumerableLM

    model = language_model(sizes, torch.as_tensor(weights))
    listed = EnumerableLM(model, sizes["vocab_size"], length, prompt=list(prompt), eos=eos)
    before = np.tile(prompt, (len(listed), 1))
    tokens = np.concatenate([before, listed.sequences.numpy()], axis=1)
    return listed, tokens, np.concatenate([np.ones_like(before), listed.mask.numpy().astype(np.int64)], axis=1)


def advantages_of(rewards, others, baseline, group_size):
    """The advantages of this process's rows, whose fellows of another process stand before them: plain loops."""
    everyone, found = [*others, *rewards], []
    for place in range(len(others), len(everyone)):
        first = place - place % group_size
        among = {"none": [], "batch": range(len(everyone)), "rloo": range(first, first + group_size)}[baseline]
        fellows = [everyone[j] for j in among if j != place]
        found.append(everyone[place] - (sum(fellows) / len(fellows) if fellows else 0.0))
    return found


def training(sizes, weights, batches, settings, learning_rate, eos_token_id):
    """The log and the weights after each update, by plain gradient descent."""
    model, log, path = language_model(sizes, torch.as_tensor(weights)), [], []
    temperature, top_k = settings["temperature"], settings["top_k"]
    for batch in batches:
        tokens, mask, first = batch["tokens"], batch["attention_mask"], batch["prompts"].shape[1]
        advantages = advantages_of(batch["rewards"], batch["others"], settings["baseline"], settings["group_size"])
        log_probs, loss = loss_of(model, advantages, tokens, mask, first, temperature, top_k)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter -= learning_rate * gradient
        real = mask[:, first:] == 1
        ended = [eos_token_id in row[keep] for row, keep in zip(tokens[:, first:], real)]
        log.append({"reward": float(np.mean(batch["rewards"])), "loss": loss.item(),
                    "entropy": -float(log_probs.sum()) / real.sum(), "completion_length": real.sum() / len(tokens),
                    "eos_rate": float(np.mean(ended))})  # fmt: skip
        path.append(flat(model).numpy())
    return log, np.array(path)


def adamw(weights, gradients, learning_rate, betas=(0.9, 0.999), epsilon=1e-8, decay=0.01):
    """AdamW with torch's settings (Loshchilov and Hutter 2019), in NumPy."""
    first = second = np.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        weights = weights * (1 - learning_rate * decay)
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        mean, square = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        weights = weights - learning_rate * mean / (np.sqrt(square) + epsilon)
    return weights
