"""Token by token and row by row, as it is read aloud."""


def preprocess_function(examples, tokenizer, max_source, max_target):
    require_texts(examples)
    require_room("max_source", max_source)
    require_room("max_target", max_target)
    out = {"input_ids": [], "attention_mask": [], "labels": [], "source_cut": [], "target_cut": []}
    sides = ("source", max_source, "input_ids"), ("target", max_target, "labels")
    for texts in zip(examples["source"], examples["target"]):
        for text, (side, limit, name) in zip(texts, sides):
            row, lost = [], 0
            for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
                if len(row) < limit - 1:
                    row.append(token)
                else:
                    lost += 1
            out[name].append(row + [tokenizer.eos_token_id])
            out[f"{side}_cut"].append(lost)
    out["attention_mask"] = [[1 for _ in row] for row in out["input_ids"]]
    for name, filler in (("input_ids", tokenizer.pad_token_id), ("attention_mask", 0), ("labels", -100)):
        longest = max(len(row) for row in out[name])
        for row in out[name]:
            while len(row) < longest:
                row.append(filler)
    return out


def shift_right(labels, start_id, pad_id):
    require_labels(labels)
    out = torch.zeros_like(labels)
    for b, row in enumerate(labels.tolist()):
        last = start_id
        for t, label in enumerate(row):
            out[b, t] = last
            last = pad_id if label == -100 else label
    return out


def collate(rows, start_id, pad_id):
    sources = [[t for t, real in zip(row["input_ids"], row["attention_mask"]) if real] for row in rows]
    targets = [[t for t in row["labels"] if t != -100] for row in rows]
    width, time = max(map(len, sources)), max(map(len, targets))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    labels = torch.full((len(rows), time), -100)
    for b, (source, target) in enumerate(zip(sources, targets)):
        for t, token in enumerate(source):
            ids[b, t], mask[b, t] = token, 1
        for t, token in enumerate(target):
            labels[b, t] = token
    read = shift_right(labels, start_id, pad_id)
    return {"labels": labels, "decoder_input_ids": read, "attention_mask": mask, "input_ids": ids}


def sft_loss(logits, labels, count=None):
    require_labels(labels, logits)
    total, real = 0.0, 0
    for row, wanted in zip(logits, labels.tolist()):
        for scores, label in zip(row, wanted):
            if label != -100:
                scores = scores.float() if scores.dtype == torch.bfloat16 else scores
                total = total + torch.logsumexp(scores, 0) - scores[label]
                real += 1
    return total / (real if count is None else count)


def lcs_length(reference, prediction):
    table = [[0] * (len(prediction) + 1) for _ in range(len(reference) + 1)]
    for i, word in enumerate(reference, 1):
        for j, other in enumerate(prediction, 1):
            if word == other:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def rouge_l(reference, prediction):
    a, b = words_of(reference), words_of(prediction)
    n = lcs_length(a, b)
    return {"precision": n / max(len(b), 1), "recall": n / max(len(a), 1), "fmeasure": 2 * n / max(len(a) + len(b), 1)}


def decode_tokens(ids, tokenizer):
    texts = []
    for row in ids:
        kept = [int(token) for token in row if int(token) != -100]
        texts.append(tokenizer.decode(kept, skip_special_tokens=True).strip())
    return texts


def compute_metrics(prediction, tokenizer, use_stemmer=False):
    from rouge_score import rouge_scorer

    score = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=use_stemmer).score
    total, tokens, ended = 0.0, 0, 0
    pairs = list(zip(decode_tokens(prediction.label_ids, tokenizer), decode_tokens(prediction.predictions, tokenizer)))
    for wanted, said in pairs:
        total += score(wanted, said)["rougeL"].fmeasure
    for row in prediction.predictions.tolist():
        tokens += sum(token not in (-100, tokenizer.pad_token_id) for token in row)
        ended += tokenizer.eos_token_id in row
    n = len(pairs)
    return {"rougeL": total / n, "completion_length": tokens / n, "eos_rate": ended / n}


def write_predictions(path, rows, generated, tokenizer):
    require_as_many(rows, generated)
    lines = []
    with open(path, "w", encoding="utf-8") as file:
        for row, text in zip(rows, decode_tokens(generated, tokenizer)):
            line = dict(row)
            line["prediction"] = text
            line["rougeL"] = rouge_l(row["target"], text)["fmeasure"]
            print(json.dumps(line, ensure_ascii=False), file=file)
            lines.append(line)
    return lines
