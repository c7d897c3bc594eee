"""Row by row and pair by pair, with Python's own numbers where no gradient is wanted."""

import itertools


def from_label_studio(tasks):
    def judgements():
        for task in tasks:
            data = task["data"]
            for annotation in task["annotations"]:
                chosen = [r["value"]["selected"] for r in annotation["result"] if r["type"] == "pairwise"]
                if annotation.get("was_cancelled", False) or len(chosen) == 0:
                    continue
                if chosen[0] == "left":
                    label = 1
                elif chosen[0] == "right":
                    label = 2
                elif chosen[0] == "tie":
                    label = 0
                else:
                    raise ValueError(f"the label {chosen[0]!r} is neither left nor right nor tie")
                for name in ("prompt", "answer1", "answer2"):
                    if data.get(name) is None:
                        raise ValueError(f"an answer or prompt is missing: {name}")
                yield Preference(id=str(annotation["id"]), prompt=data["prompt"], first=data["answer1"], second=data["answer2"],
                                 label=label)  # fmt: skip

    return list(judgements())


def from_qa_feedback(rows):
    found = []
    for index, row in enumerate(rows):
        labels = list(row["preference"])
        if len(labels) != 6:
            raise ValueError(f"expected 6 values of label, received {len(labels)}")
        for (a, b), label in zip(itertools.combinations(range(1, 5), 2), labels):
            if label not in (0, 1, 2):
                raise ValueError(f"{label} is no label")
            texts = []
            for number in (a, b):
                if row.get(f"prediction {number}") is None:
                    raise ValueError(f"answer {number} of row {index + 1} is missing")
                texts.append(row[f"prediction {number}"])
            prompt = given.context_prompt(row["question"], row["passages"])
            found.append(Preference(f"{index + 1}:{a}{b}", prompt, texts[0], texts[1], label))
    return found


def load_preferences(source, *, split="train", limit=0, field="data"):
    kind, rows = given.read(source, split=split, limit=limit, field=field)
    if kind == "label studio":
        found = from_label_studio(rows)
    elif kind == "qa_feedback":
        found = from_qa_feedback(rows)
    else:
        found = {"table": given.from_table, "pairs": given.from_pairs}.get(kind, given.from_comparisons)(rows)
    ids = [preference.id for preference in found]
    for id in ids:
        if ids.count(id) > 1:
            raise ValueError(f"the id {id} is not unique")
    for preference in found:
        if preference.label and preference.first == preference.second:
            raise ValueError(f"the label of {preference.id} says that one of two equal answers is better")
    return found


def last_token(attention_mask):
    require_real_tokens(attention_mask)
    found = []
    for row in attention_mask.tolist():
        place = len(row) - 1
        while not row[place]:
            place -= 1
        found.append(place)
    return torch.tensor(found)


class RewardModel(nn.Module):
    """Every row by itself, without its padding: nothing can be read in the wrong place."""

    def __init__(self, transformer):
        super().__init__()
        self.transformer = transformer
        self.score = nn.Linear(transformer.config.n_embd, 1, bias=False)
        self.score.weight.data = torch.randn(1, transformer.config.n_embd, dtype=next(transformer.parameters()).dtype) * 0.02

    def forward(self, input_ids, attention_mask):
        scores = []
        for tokens, mask in zip(input_ids, attention_mask):
            hidden = self.transformer(tokens[mask != 0].unsqueeze(0)).last_hidden_state  # (1, length, width)
            scores.append(hidden[0, -1] @ self.score.weight[0])
        return torch.stack(scores)


def freeze_fraction(model, fraction):
    require_fraction(fraction)
    layers = list(model.transformer.h)
    count = 0
    while (count + 1) <= fraction * len(layers) + 1e-6:
        count += 1
    for parameter in model.parameters():
        parameter.requires_grad = True
    below = [*layers[:count]] + ([model.transformer.wte, model.transformer.wpe] if fraction else [])
    for part in below:
        for parameter in part.parameters():
            parameter.requires_grad = False
    return count


def pairwise_loss(chosen, rejected):
    require_pairs(chosen=chosen, rejected=rejected)
    losses = [F.softplus(bad - good) for good, bad in zip(chosen, rejected)]
    return sum(losses) / len(losses)


def accuracy(chosen, rejected):
    require_pairs(chosen=chosen, rejected=rejected)
    points = [1.0 if good > bad else 0.5 if good == bad else 0.0 for good, bad in zip(chosen.tolist(), rejected.tolist())]
    n, p = len(points), sum(points) / len(points)
    # the two solutions q of (p - q)^2 = z^2 q (1 - q) / n
    a, b, c = 1 + Z95**2 / n, -(2 * p + Z95**2 / n), p**2
    root = math.sqrt(b**2 - 4 * a * c)
    return p, (-b - root) / (2 * a), (-b + root) / (2 * a)


def calibration(chosen, rejected, bins=5):
    require_pairs(chosen=chosen, rejected=rejected)
    require_bins(bins)
    rows = [[] for _ in range(bins)]
    for good, bad in zip(chosen.tolist(), rejected.tolist()):
        sure = 1 / (1 + math.exp(-abs(good - bad)))
        which = min(int((sure - 0.5) * 2 * bins), bins - 1)
        rows[which].append((sure, 1.0 if good > bad else 0.5 if good == bad else 0.0))
    return [(len(row), sum(s for s, _ in row) / len(row), sum(r for _, r in row) / len(row)) for row in rows if row]


def train(loop, config):
    """Validation pairs one batch after the other, sums over pairs; chosen and rejected rows by two passes."""
    loop.policy.eval()

    def log_loss():
        total, count = 0.0, 0
        for batch in loop.validation():
            with torch.no_grad():
                scores = loop.policy(batch.tokens, batch.attention_mask)
            n = len(batch)
            total += float(F.softplus(scores[n:] - scores[:n]).sum())
            count += n
        return total / count

    if "best" not in loop.kept:
        loop.kept["steps"], loop.kept["waited"], loop.kept["best"] = 0, 0, log_loss()
        loop.remember()
    for pairs in loop.batches():
        n = len(pairs)
        good = loop.policy(pairs.tokens[:n], pairs.attention_mask[:n])
        bad = loop.policy(pairs.tokens[n:], pairs.attention_mask[n:])
        loss = pairwise_loss(good, bad)
        told = {"loss": loss.item(), "margin": (good - bad).mean().item(),
                "accuracy": sum(1.0 if g > b else 0.5 if g == b else 0.0 for g, b in zip(good, bad)) / n}  # fmt: skip
        loop.update(loss)
        loop.kept["steps"] += 1
        stop = False
        if loop.kept["steps"] % config.evaluate_every == 0:
            now = told["validation_loss"] = log_loss()
            if now < loop.kept["best"]:
                loop.kept["best"], loop.kept["waited"] = now, 0
                loop.remember()
            else:
                loop.kept["waited"] += 1
                stop = loop.kept["waited"] >= config.patience
        loop.log(**told)
        if stop:
            break
    loop.restore()
