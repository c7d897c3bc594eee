"""As libraries have it: a gather for the last token, binary cross entropy for the loss, NumPy's histogram for the bins."""

import numpy as np


def from_label_studio(tasks):
    found = []
    for task in tasks:
        prompt, first, second = (given.text_in(task["data"], name) for name in ("prompt", "answer1", "answer2"))
        live = [annotation for annotation in task["annotations"] if not annotation["was_cancelled"]]
        for annotation in live:
            values = [entry["value"] for entry in annotation["result"] if entry["type"] == "pairwise"]
            found += [Preference(f"{annotation['id']}", prompt, first, second, label_of(value["selected"])) for value in values]
    return found


def from_qa_feedback(rows):
    def of(number, row):
        require_six_labels(row["preference"], number)
        prompt, labels = given.context_prompt(row["question"], row["passages"]), iter(row["preference"])
        answers = {which: given.text_in(row, f"prediction {which}") for which in range(1, 5)}
        for one in range(1, 4):
            for two in range(one + 1, 5):
                yield Preference(f"{number}:{one}{two}", prompt, answers[one], answers[two], next(labels))

    return [preference for number, row in enumerate(rows, 1) for preference in of(number, row)]


def load_preferences(source, *, split="train", limit=0, field="data"):
    kind, rows = given.read(source, split=split, limit=limit, field=field)
    found = {
        "label studio": from_label_studio,
        "qa_feedback": from_qa_feedback,
        "table": given.from_table,
        "pairs": given.from_pairs,
        "comparisons": given.from_comparisons,
    }[kind](rows)
    by_id = {preference.id: preference for preference in found}
    if len(by_id) < len(found):
        raise ValueError("an id stands there twice")
    same = [p.id for p in given.decided(found) if p.chosen == p.rejected]
    if same:
        raise ValueError(f"label without a meaning: the answers of {same[0]} are the same")
    return found


def last_token(attention_mask):
    require_real_tokens(attention_mask)
    turned = attention_mask.flip(1).bool().long()
    return attention_mask.shape[1] - 1 - turned.argmax(dim=1)


class RewardModel(nn.Module):
    def __init__(self, transformer):
        super().__init__()
        parameter = next(transformer.parameters())
        self.transformer = transformer
        self.score = nn.Linear(transformer.config.hidden_size, 1, bias=False).to(parameter)
        self.score.weight.data.normal_(0.0, 0.02)

    def forward(self, input_ids, attention_mask):
        places = (attention_mask != 0).long().cumsum(1).sub(1).clamp(min=0)
        hidden = self.transformer(input_ids, attention_mask=attention_mask, position_ids=places)[0]
        scores = self.score(hidden).squeeze(-1)  # (B, T): of every prefix
        return scores.gather(1, last_token(attention_mask).unsqueeze(1)).squeeze(1)


def freeze_fraction(model, fraction):
    require_fraction(fraction)
    total = len(model.transformer.h)
    count = max(k for k in range(total + 1) if k <= fraction * total * (1 + 1e-12))
    frozen = [f"transformer.h.{layer}." for layer in range(count)]
    frozen += ["transformer.wte.", "transformer.wpe."] if fraction > 0 else []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(frozen)))
    return count


def pairwise_loss(chosen, rejected):
    require_pairs(chosen=chosen, rejected=rejected)
    margin = chosen - rejected
    return F.binary_cross_entropy_with_logits(margin, torch.ones_like(margin))


def accuracy(chosen, rejected):
    require_pairs(chosen=chosen, rejected=rejected)
    wins, ties, n = int((chosen > rejected).sum()), int((chosen == rejected).sum()), len(chosen)
    right = wins + ties / 2
    centre = (right + Z95**2 / 2) / (n + Z95**2)
    half = Z95 / (n + Z95**2) * math.sqrt(right * (n - right) / n + Z95**2 / 4)
    return right / n, centre - half, centre + half


def calibration(chosen, rejected, bins=5):
    require_pairs(chosen=chosen, rejected=rejected)
    require_bins(bins)
    margin = (chosen - rejected).double().numpy()
    sure = np.maximum(1 / (1 + np.exp(-np.abs(margin))), 0.5)
    right = np.where(margin == 0, 0.5, margin > 0)
    edges = np.linspace(0.5, 1.0, bins + 1)
    counts, said, held = (np.histogram(sure, edges, weights=w)[0] for w in (np.ones_like(sure), sure, right))
    return [(round(n), s / n, h / n) for n, s, h in zip(counts.tolist(), said.tolist(), held.tolist()) if n]


def train(loop, config):
    """All validation pairs at once."""
    policy, state = loop.policy, loop.kept
    policy.eval()

    @torch.no_grad()
    def validate():
        good, bad = given.pair_scores(policy, loop.validation())
        return F.softplus(bad - good).mean().item()

    if state.get("best") is None:
        state |= {"steps": 0, "waited": 0, "best": validate()}
        loop.remember()
    for batch in loop.batches():
        scores = policy(batch.tokens, batch.attention_mask)
        margin = scores[: len(batch)] - scores[len(batch) :]
        loss = F.softplus(-margin).mean()
        loop.update(loss)
        state["steps"] += 1
        line = {"loss": loss.detach(), "margin": margin.detach().mean()}
        line["accuracy"] = torch.where(margin == 0, 0.5, (margin > 0).to(margin.dtype)).mean()
        if not state["steps"] % config.evaluate_every:
            line["validation_loss"] = validate()
            better = line["validation_loss"] < state["best"]
            state["waited"] = 0 if better else state["waited"] + 1
            if better:
                state["best"] = line["validation_loss"]
                loop.remember()
        loop.log(**line)
        if state["waited"] == config.patience:
            break
    loop.restore()
