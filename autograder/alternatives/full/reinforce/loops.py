"""Everything one row and one token at a time, without a mask: unpadded rows through the model, lists, Python's own sums."""


def token_log_probs(logits, tokens):
    given.require_tokens("tokens", tokens, least=2)
    given.require_logits(logits, tokens)
    rows = []
    for row, said in zip(logits, tokens.tolist()):
        rows.append(torch.stack([row[t].log_softmax(0)[said[t + 1]] for t in range(len(said) - 1)]))
    return torch.stack(rows)


def completion_mask(tokens, prompt_length, eos_token_id, pad_token_id):
    given.require_tokens("tokens", tokens)
    given.require_prompt_length("prompt_length", prompt_length, tokens.shape[1])
    given.require_pad_is_not_eos(pad_token_id, eos_token_id)
    rows = []
    for row in tokens[:, prompt_length:].tolist():
        if eos_token_id in row:
            end = row.index(eos_token_id) + 1
        else:
            end = max([t + 1 for t, token in enumerate(row) if token != pad_token_id], default=0)
        rows.append([t < end for t in range(len(row))])
    return torch.tensor(rows)


def compute_reinforce_loss(reward, output_tokens, model, seed_token_length, attention_mask=None, temperature=1.0, top_k=0):
    given.require_tokens("output_tokens", output_tokens)
    given.require_prompt_length("seed_token_length", seed_token_length, output_tokens.shape[1])
    given.require_rewards("reward", reward, len(output_tokens))
    given.require_left_padding(attention_mask, output_tokens, seed_token_length)
    table, total = [], 0.0
    for b, row in enumerate(output_tokens):
        real = torch.ones_like(row).bool() if attention_mask is None else attention_mask[b].bool()
        said = row[real]
        count = int(real[seed_token_length:].sum())
        logits = warped(model(said[None]).logits, temperature, top_k)
        log_probs = token_log_probs(logits, said[None])[0][len(said) - 1 - count :]
        total = total + reward[b].item() * log_probs.sum()
        table.append(nn.functional.pad(log_probs, (0, len(row) - seed_token_length - count)))
    return torch.stack(table), -total / len(output_tokens)


def batch_baseline(rewards):
    given.require_rewards("rewards", rewards)
    others = [[r for j, r in enumerate(rewards.tolist()) if j != i] for i in range(len(rewards))]
    return torch.tensor([sum(o) / len(o) if o else 0.0 for o in others], dtype=rewards.dtype)


def rloo_advantages(rewards, group_size):
    given.require_rewards("rewards", rewards)
    given.require_groups(group_size, len(rewards))
    groups = rewards.split(group_size)
    return torch.cat([group - batch_baseline(group) for group in groups])


def reset_model_optimizer(reference, learning_rate):
    """A model of the same configuration with the reference's weights loaded."""
    require_positive("learning_rate", learning_rate)
    policy = type(reference)(reference.config)
    policy.load_state_dict(reference.state_dict())
    policy.to(next(reference.parameters()).dtype)
    policy.load_state_dict(reference.state_dict())
    policy.eval()
    groups = [{"params": list(policy.parameters()), "lr": learning_rate}]
    return policy, torch.optim.AdamW(groups)
