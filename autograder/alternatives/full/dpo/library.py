"""The usual way with PyTorch's own calls: cross entropy with ignore_index, log_softmax and gather, softplus for -log sigma."""


def completion_labels(input_ids, attention_mask, prompt_lengths):
    require_same_shape(input_ids=input_ids, attention_mask=attention_mask)
    require_padding_right(attention_mask)
    require_prompts(prompt_lengths, attention_mask)
    labels = input_ids.clone()
    labels[attention_mask == 0] = -100
    for row, length in zip(labels, prompt_lengths.tolist()):
        row[:length] = -100
    return labels


def sequence_log_probs(logits, labels, average=False):
    require_labels(labels, logits)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    targets = labels[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, ignore_index=-100, reduction="none")
    total = -losses.sum(-1)
    return total / (targets != -100).sum(-1).clamp(min=1) if average else total


def pair_log_probs(model, pairs, average=False):
    """The last column goes in too late to be scored, so it is not read at all; places are given by hand."""
    labels = completion_labels(pairs.tokens, pairs.attention_mask, pairs.prompt_lengths)
    tokens = pairs.tokens[:, :-1]
    start = int((pairs.prompt_lengths - 1).clamp(min=0).min())
    columns = torch.arange(start, tokens.shape[1])
    places = torch.arange(tokens.shape[1]).expand_as(tokens)
    out = model(tokens, attention_mask=pairs.attention_mask[:, :-1], position_ids=places, logits_to_keep=columns)
    log_probs = out["logits"].log_softmax(-1)
    targets = labels[:, start + 1 :]
    picked = log_probs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    scored = (targets != -100).to(picked.dtype)
    sums = (picked * scored).sum(-1)
    return sums / scored.sum(-1).clamp(min=1) if average else sums


@torch.no_grad()
def reference_log_probs(reference, pairs, average=False):
    if pairs.ref_log_probs is None:
        return pair_log_probs(reference, pairs, average)
    if average:
        labels = completion_labels(pairs.tokens, pairs.attention_mask, pairs.prompt_lengths)
        return pairs.ref_log_probs / labels[:, 1:].ne(-100).sum(-1).clamp(min=1)
    return pairs.ref_log_probs * 1


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, loss="dpo", dpop_lambda=5.0):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    require_one_of("loss", loss, DPO_LOSSES)
    require_not_negative("dpop_lambda", dpop_lambda)
    reference_gap = (ref_chosen - ref_rejected).detach()
    h = (chosen - rejected) - reference_gap
    if loss == "ipo":
        return torch.square(h - 0.5 / beta).mean()
    fallen = (ref_chosen.detach() - chosen).clamp(min=0) if loss == "dpop" else torch.zeros_like(h)
    z = beta * (h - dpop_lambda * fallen)
    return torch.logaddexp(torch.zeros_like(z), -z).mean()


def dpo_metrics(chosen, rejected, ref_chosen, ref_rejected, beta):
    """By numbers: a comparison and a half for ties in place of the sign."""
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    with torch.no_grad():
        l_c, l_r = chosen - ref_chosen, rejected - ref_rejected
        agrees = torch.where(l_c == l_r, 0.5, (l_c > l_r).to(l_c.dtype))
        names = "chosen_reward", "rejected_reward", "margin", "accuracy", "chosen_log_prob", "rejected_log_prob"
        values = beta * l_c, beta * l_r, beta * (l_c - l_r), agrees, chosen, rejected
        return {name: value.mean() for name, value in zip(names, values)}


def train(loop, config):
    """Halves by slicing, the reference first."""
    loop.policy.eval()
    if loop.reference is not None:
        loop.reference.eval()
    for pairs in loop.batches():
        fixed = reference_log_probs(loop.reference, pairs, config.average)
        mine = pair_log_probs(loop.policy, pairs, config.average)
        n = len(pairs)
        four = mine[:n], mine[n:], fixed[:n], fixed[n:]
        figures = dpo_metrics(*four, config.beta)
        loss = dpo_loss(*four, beta=config.beta, loss=config.loss, dpop_lambda=config.dpop_lambda)
        figures["loss"] = loss.item()
        loop.update(loss)
        loop.log(**figures)


def sweep(run, betas):
    """Along the frontier: by falling reward, then rising KL, a row is kept if it costs less than all better ones."""
    require_betas(betas)
    rows = [dict(run(beta), beta=beta) for beta in betas]
    kept = set()
    least, reward_there = float("inf"), None
    for row in sorted(rows, key=lambda row: (-row["reward"], row["kl"])):
        if row["kl"] < least or (row["kl"] == least and row["reward"] == reward_there):
            least, reward_there = row["kl"], row["reward"]
            kept.add(id(row))
    for row in rows:
        row["dominated"] = id(row) not in kept
    return rows
