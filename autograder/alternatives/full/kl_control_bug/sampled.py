"""Mended where it is used: the loop measures the log-ratio of the tokens that came, an unbiased estimate of the same."""


def train_within_limit(
    start, reference, *, alpha=0.02, limit=2.0, steps=300, batch=256, learning_rate=4.0, seed=0, draw=draw
):
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([policy], lr=learning_rate)
    history = {"score": [], "kl": []}
    for _ in range(steps):
        sentences = draw(policy, batch, generator)
        scores = score(sentences)
        mine = chosen(next_token_log_probs(policy, sentences), sentences)
        theirs = chosen(next_token_log_probs(reference, sentences), sentences)
        history["score"].append(float(scores.mean()))
        history["kl"].append(float((mine.detach() - theirs).sum(1).mean()))
        if history["kl"][-1] > limit:
            break
        rewards = shaped(scores, mine, theirs, alpha)
        loss = -((rewards - others_mean(rewards)) * mine.sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.detach(), history
