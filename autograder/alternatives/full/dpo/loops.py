"""Token by token and pair by pair, as it is read aloud."""


def completion_labels(input_ids, attention_mask, prompt_lengths):
    require_same_shape(input_ids=input_ids, attention_mask=attention_mask)
    require_padding_right(attention_mask)
    require_prompts(prompt_lengths, attention_mask)
    labels = torch.full_like(input_ids, -100)
    for row in range(len(input_ids)):
        begin, end = int(prompt_lengths[row]), int(attention_mask[row].sum())
        labels[row, begin:end] = input_ids[row, begin:end]
    return labels


def sequence_log_probs(logits, labels, average=False):
    require_labels(labels, logits)
    log_probs = logits.float().log_softmax(-1) if logits.dtype.itemsize < 4 else logits.log_softmax(-1)
    rows = []
    for row in range(len(labels)):
        terms = [log_probs[row, t - 1, labels[row, t]] for t in range(1, labels.shape[1]) if labels[row, t] != -100]
        total = sum(terms, log_probs.new_zeros(()))
        rows.append(total / max(len(terms), 1) if average else total)
    return torch.stack(rows)


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, loss="dpo", dpop_lambda=5.0):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    require_one_of("loss", loss, DPO_LOSSES)
    require_not_negative("dpop_lambda", dpop_lambda)
    losses = []
    for c, r, ref_c, ref_r in zip(chosen, rejected, ref_chosen.tolist(), ref_rejected.tolist()):
        h = (c - ref_c) - (r - ref_r)
        if loss == "ipo":
            losses.append((h - 1 / beta / 2) * (h - 1 / beta / 2))
            continue
        if loss == "dpop" and c < ref_c:
            h = h - dpop_lambda * (ref_c - c)
        losses.append(F.softplus(-beta * h, threshold=40))
    return sum(losses) / len(losses)


def sweep(run, betas):
    for beta in betas:
        if not (beta > 0 and beta != float("inf")):
            raise ValueError(f"betas: {beta} is not a positive number")
    if not betas:
        raise ValueError("betas: there are none")
    rows = []
    for beta in betas:
        rows.append({"beta": beta} | run(beta))
    for row in rows:
        row["dominated"] = False
        for other in rows:
            better = other["reward"] > row["reward"] and other["kl"] <= row["kl"]
            cheaper = other["kl"] < row["kl"] and other["reward"] >= row["reward"]
            row["dominated"] |= better or cheaper
    return rows
