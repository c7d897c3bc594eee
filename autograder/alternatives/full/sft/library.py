"""The usual way with the libraries' own calls: pad_sequence, cross entropy with ignore_index, a trainer with its own class."""


def preprocess_function(examples, tokenizer, max_source, max_target):
    require_texts(examples)
    require_room("max_source", max_source)
    require_room("max_target", max_target)
    columns = {}
    for name, limit in (("source", max_source), ("target", max_target)):
        whole = tokenizer(examples[name], add_special_tokens=False)["input_ids"]
        short = tokenizer(examples[name], add_special_tokens=False, truncation=True, max_length=limit - 1)["input_ids"]
        columns[name] = [torch.tensor(row + [tokenizer.eos_token_id]) for row in short]
        columns[f"{name}_cut"] = [len(a) - len(b) for a, b in zip(whole, short)]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(columns["source"], True, tokenizer.pad_token_id).tolist(),
        "attention_mask": pad([torch.ones_like(row) for row in columns["source"]], True, 0).tolist(),
        "labels": pad(columns["target"], True, -100).tolist(),
        "source_cut": columns["source_cut"],
        "target_cut": columns["target_cut"],
    }


def shift_right(labels, start_id, pad_id):
    require_labels(labels)
    out = labels.new_zeros(labels.shape)
    out[..., 1:] = labels[..., :-1].clone()
    out[..., 0] = start_id
    out.masked_fill_(out == -100, pad_id)
    return out


def collate(rows, start_id, pad_id):
    """Everything stacked at full width first, then cut to the last column that is real in any row."""
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.tensor(row["attention_mask"]) for row in rows], True, 0)
    ids = pad([torch.tensor(row["input_ids"]) for row in rows], True, pad_id)
    labels = pad([torch.tensor(row["labels"]) for row in rows], True, -100)
    mask_width = int(mask.any(dim=0).nonzero().max()) + 1
    time = int((labels != -100).any(dim=0).nonzero().max()) + 1
    ids, mask, labels = ids[:, :mask_width], mask[:, :mask_width], labels[:, :time]
    ids = torch.where(mask == 1, ids, pad_id)
    return dict(input_ids=ids, attention_mask=mask, labels=labels, decoder_input_ids=shift_right(labels, start_id, pad_id))


def sft_loss(logits, labels, count=None):
    require_labels(labels, logits)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    total = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="sum")
    return total / ((labels != -100).sum() if count is None else count)


def lcs_length(reference, prediction):
    """By pairs of rows in NumPy: the running maximum does the work of the inner loop."""
    said = np.array(list(prediction), dtype=object)
    row = np.zeros(len(said) + 1, dtype=int)
    for word in reference:
        matched = row[:-1] + (said == word)
        row = np.concatenate([[0], np.maximum.accumulate(np.maximum(row[1:], matched))])
    return int(row[-1])


def rouge_l(reference, prediction):
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"]).score(reference, prediction)["rougeL"]._asdict()


def decode_tokens(ids, tokenizer):
    ids = torch.as_tensor(ids)
    ids = ids.masked_fill(ids == -100, tokenizer.pad_token_id)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def build_trainer(model, tokenizer, train_rows, validation_rows, config, folder, **more):
    """A trainer of its own class, which computes the loss itself; the rows are prepared one by one."""
    from transformers import Seq2SeqTrainer

    class Trainer(Seq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs["labels"]
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = sft_loss(outputs["logits"], labels, num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

        loss_is_scaled_for_ga = True

    def dataset(rows):
        def one(row):
            columns = {"source": [row["source"]], "target": [row["target"]]}
            prepared = preprocess_function(columns, tokenizer, config.max_source, config.max_target)
            return {name: column[0] for name, column in prepared.items()}

        return [one(row) for row in rows]

    from transformers import GenerationConfig

    start = model.config.decoder_start_token_id
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": start}
    generation = GenerationConfig(max_new_tokens=config.max_target, num_beams=config.num_beams, **special)
    arguments = training_arguments(
        config, folder, predict_with_generate=True, generation_config=generation, load_best_model_at_end=True,
        metric_for_best_model="eval_rougeL", greater_is_better=True,
        **{name: value for name, value in more.items() if name != "callbacks"},
    )  # fmt: skip
    return Trainer(
        model,
        arguments,
        data_collator=lambda rows: collate(rows, start, tokenizer.pad_token_id),
        train_dataset=dataset(train_rows),
        eval_dataset=dataset(validation_rows),
        processing_class=tokenizer,
        compute_metrics=lambda found: compute_metrics(found, tokenizer),
        callbacks=more.get("callbacks"),
    )
