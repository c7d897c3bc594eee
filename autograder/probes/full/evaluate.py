"""Lesson 8: what is asked of an evaluation."""

import os

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.models.distilbert.modeling_distilbert import DistilBertConfig, DistilBertForSequenceClassification
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from full.given.text import Prompts

PAD, EOS, UNKNOWN, START = "<pad>", "<eos>", "<unk>", "<bos>"  # the first words of every vocabulary here


def prepare():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a thread pool does not survive a fork


def seed_prompts(module, words, texts, tokens, padding_side="right", truncation_side="right", pad=True, longest=None):
    """The prompts, and whether the tokenizer has other settings than before. longest: the tokenizer's model_max_length."""

    def run():
        tokenizer = tokenizer_of(words, padding_side, truncation_side, pad, longest)
        prompts = module.seed_prompts(tokenizer, texts, tokens)
        settings = {"padding": tokenizer.padding_side == padding_side, "truncation": tokenizer.truncation_side == truncation_side}
        return {
            "input_ids": prompts.input_ids,
            "attention_mask": numbers(prompts.attention_mask),
            "dtype": dtype(prompts.input_ids),
            "settings changed": ", ".join(name for name, kept in settings.items() if not kept) or "none",
        }

    return answered(run)


def continuations(
    module, weights, heads, input_ids, attention_mask, new_tokens, eos, pad, temperature=1.0, top_k=0, training=False
):
    """The rollout of a model that leaves nothing to chance; how often and how the model was asked."""

    def run():
        model = language_model(weights, heads, dropout=0.5 if training else 0.0).train(training)
        prompts, before = Prompts(input_ids, attention_mask), (input_ids.clone(), attention_mask.clone())
        with Asked(model) as asked:
            rollout = module.continue_prompts(
                model,
                prompts,
                new_tokens,
                eos_token_id=eos,
                pad_token_id=pad,
                temperature=temperature,
                top_k=top_k,
                generator=torch.Generator().manual_seed(0),
            )
        same = torch.equal(input_ids, before[0]) and torch.equal(attention_mask, before[1])
        return {
            **of_rollout(rollout),
            "dtype": dtype(rollout.tokens),
            "tokens read": sum(rows * columns for rows, columns in asked.shapes),
            "dropout while reading": asked.training,
            "graph": asked.graph,
            "training afterwards": model.training,
            "arguments changed": not same,
        }

    return answered(run)


def frequencies(module, weights, heads, input_ids, attention_mask, eos, pad, temperature, top_k, count, seed):
    """How often each pair of tokens comes after each prompt, (prompts, vocabulary^2); whether the seed settles the tokens."""

    def run():
        model, vocabulary = language_model(weights, heads), len(weights["transformer.wte.weight"])
        settings = {"eos_token_id": eos, "pad_token_id": pad, "temperature": temperature, "top_k": top_k}

        def drawn(times, other):
            torch.manual_seed(other)
            prompts = Prompts(input_ids.repeat_interleave(times, 0), attention_mask.repeat_interleave(times, 0))
            generator = torch.Generator().manual_seed(seed)
            return module.continue_prompts(model, prompts, 2, **settings, generator=generator).completion

        tokens = drawn(count, 1)
        pairs = (tokens[:, 0] * vocabulary + tokens[:, 1]).reshape(len(input_ids), count)
        return {
            "counts": torch.stack([torch.bincount(row, minlength=vocabulary**2) for row in pairs]),
            "same seed, same tokens": bool(torch.equal(drawn(5, 2), drawn(5, 3))),
        }

    return answered(run)


def sentiment(module, kind, weights, heads, labels, words, texts, context=16, padding_side="right", training=False):
    """The reward of the texts, and how the classifier was asked. kind: gpt2 or distilbert."""

    def run():
        classifier = classifier_of(kind, weights, heads, labels, context, dropout=0.5 if training else 0.0).train(training)
        tokenizer = tokenizer_of(words, padding_side)
        with Asked(classifier) as asked:
            rewards = module.sentiment_reward(classifier, tokenizer, texts)
        return {
            "rewards": rewards.detach(),
            "dtype": dtype(rewards),
            "carries a gradient": rewards.requires_grad,
            "dropout while reading": asked.training,
            "training afterwards": classifier.training,
            "settings changed": tokenizer.padding_side != padding_side,
        }

    return answered(run)


def interval(module, values):
    before = values.clone()

    def run():
        found = module.mean_with_interval(values)
        same = torch.equal(values, before)
        return {**{str(name): number(value) for name, value in found.items()}, "argument changed": not same}

    return answered(run)


def distinct(module, rows, n):
    return answered(lambda: {"distinct": number(module.distinct_n(rows, n))})


def mini_batch(module, weights, heads, words, input_ids, attention_mask, new_tokens, worth, settings, spoilt="none"):
    """A batch written by a known model and scored by the mean worth of its words; what the reward model was asked.

    spoilt: how the scores that the reward model gives differ from what they should be: none, column or nan.
    """

    def run():
        torch.manual_seed(0)  # nothing is left to chance, but for who does not hand the settings on
        score, prompts = Worth(words, worth, spoilt), Prompts(input_ids, attention_mask)
        model, tokenizer = language_model(weights, heads), tokenizer_of(words)
        batch = module.compute_reward_for_mini_batch(model, tokenizer, prompts, score, new_tokens, **settings)
        return {
            **of_rollout(batch.rollout),
            "texts": list(batch.texts),
            "rewards": batch.rewards.detach(),
            "carries a gradient": batch.rewards.requires_grad,
            "scored": score.asked,
        }

    return answered(run)


def evaluation(module, weights, heads, words, texts, worth, sizes, settings):
    """The whole of an evaluation, with the mean worth of a text's words for its reward; what was told on the way."""

    def run():
        torch.manual_seed(0)
        score, told = Worth(words, worth), []
        model, tokenizer = language_model(weights, heads), tokenizer_of(words)
        progress = {} if len(texts) == 2 else {"progress": lambda *line: told.append([number(value) for value in line])}
        found = module.evaluate(model, tokenizer, texts, score, **progress, **sizes, **settings)
        numbers = ("completion_length", "eos_rate", "distinct_1", "distinct_2")
        return {
            "reward": {str(name): number(value) for name, value in found.reward.items()},
            "rewards": found.rewards.detach(),
            "texts": list(found.texts),
            **{name: number(getattr(found, name)) for name in numbers},
            "progress": told,
            "rows scored at once": [len(batch) for batch in score.asked],
        }

    return answered(run)


def repeats(module, function, weights, heads, words, texts, new_tokens, seed):
    """Whether the generator's state, and not torch's global generator, settles what is written."""

    def written(state, other):
        torch.manual_seed(other)
        model, tokenizer, score = language_model(weights, heads), tokenizer_of(words), Worth(words, torch.zeros(len(words)))
        generator = torch.Generator().manual_seed(state)
        if function == "evaluate":
            sizes = {"new_tokens": new_tokens, "batch_size": 2}
            return list(module.evaluate(model, tokenizer, texts, score, generator=generator, **sizes).texts)
        tokens = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        prompts = Prompts(tokens["input_ids"], tokens["attention_mask"])
        batch = module.compute_reward_for_mini_batch(model, tokenizer, prompts, score, new_tokens, generator=generator)
        return list(batch.texts)

    first = written(seed, 1)
    return {"same seed, same texts": first == written(seed, 2), "another seed, other texts": first != written(seed + 1, 1)}


# what the probes share


def answered(call):
    """What `call` returns, a dict, and that nothing was refused; or the words in which a ValueError refuses the input."""
    try:
        return {"refusal": None, **call()}
    except ValueError as error:
        return {"refusal": str(error)[:300]}


class Worth:
    """Stands in for a reward model: a text is worth the mean of its words, 0 without any. It remembers what it was asked."""

    def __init__(self, words, worth, spoilt="none"):
        self.worth, self.spoilt, self.asked = dict(zip(words, worth.tolist())), spoilt, []

    def __call__(self, texts):
        self.asked.append(list(texts))
        values = [[self.worth.get(word, -100.0) for word in text.split()] for text in texts]
        rewards = torch.tensor([sum(row) / len(row) if row else 0.0 for row in values], dtype=torch.float64)
        if self.spoilt == "column":
            return rewards.unsqueeze(1)
        return rewards.requires_grad_(True) if self.spoilt == "none" else rewards * torch.nan


class Asked:
    """Notes how a model is asked, without changing what it answers: shapes of the tokens, dropout, whether a graph is built."""

    def __init__(self, model):
        self.model, self.shapes, self.training, self.graph = model, [], False, False

    def __enter__(self):
        def note(model, args, kwargs):
            tokens = args[0] if args else kwargs["input_ids"]
            self.shapes.append((int(tokens.shape[0]), int(tokens.shape[1])))
            self.training, self.graph = self.training or model.training, self.graph or torch.is_grad_enabled()

        self.hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        return self

    def __exit__(self, *_):
        self.hook.remove()


def of_rollout(rollout):
    return {
        "tokens": rollout.tokens,
        "attention_mask": numbers(rollout.attention_mask),
        "prompt_length": int(rollout.prompt_length),
    }


def language_model(weights, heads, dropout=0.0):
    """GPT-2 with these weights, by their names in the library, in float64."""
    return with_weights(GPT2LMHeadModel(gpt2_config(weights, heads, dropout, tie_word_embeddings=False)), weights)


def gpt2_config(weights, heads, dropout, **more):
    (vocabulary, dim), positions = weights["transformer.wte.weight"].shape, len(weights["transformer.wpe.weight"])
    sizes = {"vocab_size": vocabulary, "n_embd": dim, "n_positions": positions, "n_head": heads, "n_layer": 1}
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    return GPT2Config(**sizes, **dropouts, bos_token_id=None, eos_token_id=None, **more)


def classifier_of(kind, weights, heads, labels, context, dropout):
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    if kind == "gpt2":
        config = gpt2_config(weights, heads, dropout, pad_token_id=0, num_labels=len(labels), **named)
        return with_weights(GPT2ForSequenceClassification(config), weights)
    vocabulary, dim = weights["distilbert.embeddings.word_embeddings.weight"].shape
    sizes = {"vocab_size": vocabulary, "dim": dim, "hidden_dim": 4 * dim, "n_layers": 1, "n_heads": heads}
    dropouts = dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), dropout)
    config = DistilBertConfig(**sizes, **dropouts, max_position_embeddings=context, num_labels=len(labels), **named)
    return with_weights(DistilBertForSequenceClassification(config), weights)


def with_weights(model, weights):
    model = model.double().eval()
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys and all("bias" in name for name in missing.missing_keys), missing
    for name in missing.missing_keys:
        model.get_parameter(name).data.zero_()
    return model.requires_grad_(True)


def tokenizer_of(words, padding_side="right", truncation_side="right", pad=True, longest=None):
    """One token a word (punctuation is a word); a text by itself is read with the start token before it."""
    ids = {word: place for place, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, ids[START])])
    special = {"eos_token": EOS, "unk_token": UNKNOWN, "bos_token": START, **({"pad_token": PAD} if pad else {})}
    settings = {"padding_side": padding_side, "truncation_side": truncation_side, "model_max_length": longest}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special, **settings)


def number(value):
    """A Python number of what a docstring calls a float: tensors of one number are taken too."""
    return value.item() if hasattr(value, "item") else value


def numbers(mask):
    """A mask as 0 and 1, whether it came as booleans or as numbers."""
    return mask.long()


def dtype(tensor):
    return str(tensor.dtype).removeprefix("torch.")
