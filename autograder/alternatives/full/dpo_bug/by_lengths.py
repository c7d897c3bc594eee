"""Every answer scored by itself, as long as it is: nothing is filled up, so nothing has to be left out."""


def train_dpo(policy, reference, optimizer, prompt, pairs, *, beta=0.5, updates=150, after_update=lambda line: None):
    def of(model, answer):
        tokens = torch.tensor([[*prompt, *answer]])
        rows = model(tokens).logits[0].log_softmax(-1)
        return sum(rows[len(prompt) + t - 1, token] for t, token in enumerate(answer))

    with torch.no_grad():
        fixed = [[of(reference, answer) for answer in pair] for pair in pairs]
    for _ in range(updates):
        now = [[of(policy, answer) for answer in pair] for pair in pairs]
        margin = torch.stack([beta * ((c - ref_c) - (r - ref_r)) for (c, r), (ref_c, ref_r) in zip(now, fixed)])
        loss = F.softplus(-margin).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told = torch.tensor(now)
        after_update({
            "loss": loss.item(),
            "accuracy": ((margin > 0).double() + 0.5 * (margin == 0).double()).mean().item(),
            "chosen": told[:, 0].mean().item(),
            "rejected": told[:, 1].mean().item(),
        })  # fmt: skip
