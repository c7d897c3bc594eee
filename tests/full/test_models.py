"""Models by name, a pad token of its own, and what is said of those that will not do."""

import json
import shutil

import pytest
import tiny_models
import torch

from full.given import hub, models
from full.given.problems import InputProblem
from full.given.scoring import completion_log_probs
from full.given.text import Rollout


def test_a_directory_gives_a_policy_in_float32_without_dropout(tmp_path):
    place = tiny_models.policy(tmp_path / "lm")
    policy, tokenizer = models.load_policy(place)
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in policy.parameters())
    ids = torch.tensor([[4, 5, 6, 7]])
    policy.train()  # whoever calls it: what is scored stays what was sampled
    assert torch.equal(policy(input_ids=ids).logits, policy(input_ids=ids).logits)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("pad, word", [(None, "has no pad token"), ("<eos>", "pads with EOS")])
def test_a_pad_token_of_its_own_is_added_and_said(tmp_path, pad, word):
    place, said = tiny_models.policy(tmp_path / "lm", pad=pad), []
    from transformers import GPT2LMHeadModel

    before = GPT2LMHeadModel.from_pretrained(place)
    policy, tokenizer = models.load_policy(place, say=said.append)
    assert word in said[0] and tokenizer.pad_token == models.PAD and tokenizer.pad_token_id == len(tokenizer) - 1
    assert models.embedding_rows(policy) == len(tokenizer) == models.embedding_rows(before) + 1
    ids = torch.tensor([[4, 5, 6, 7]])
    old, new = before.eval()(input_ids=ids).logits, policy(input_ids=ids).logits
    assert torch.equal(old, new[..., :-1])  # the others are what they were
    # its logit is the mean of the others', so its probability is at most one part in V (1e-6: float32 sums)
    assert (new.softmax(-1)[..., -1] <= 1 / (old.shape[-1] + 1) + 1e-6).all()


def test_padding_changes_no_score(tmp_path):
    policy, tokenizer = models.load_policy(tiny_models.policy(tmp_path / "lm", pad=None))
    ids = torch.tensor([[4, 5, 6, 7, 8]])
    plain = Rollout(ids, torch.ones_like(ids), 2)
    pad = torch.full((1, 3), tokenizer.pad_token_id)
    padded = Rollout(torch.cat([pad, ids], 1), torch.cat([torch.zeros_like(pad), torch.ones_like(ids)], 1), 5)
    # 1e-5: float32 attention over more columns
    assert torch.allclose(completion_log_probs(policy, plain), completion_log_probs(policy, padded), atol=1e-5)


def test_gpt2s_first_file_names_are_a_tokenizer(tmp_path):
    """encoder.json and vocab.bpe, as GPT-2's vocabulary was published."""
    (tmp_path / "encoder.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n")
    tokenizer = models.load_tokenizer(str(tmp_path))
    assert tokenizer("aba")["input_ids"] == [2, 0] and tokenizer.eos_token_id == 3 and tokenizer.pad_token_id is None


def test_a_classifier_scores_texts_whatever_stands_beside_them(tmp_path):
    classifier, tokenizer = models.load_classifier(tiny_models.classifier(tmp_path / "c"))
    texts = ["good film", "the plot was very very dull and the music was awful", "bad"]
    together = models.positive_probability(classifier, tokenizer, texts)
    apart = torch.cat([models.positive_probability(classifier, tokenizer, [text]) for text in texts])
    assert torch.allclose(together, apart, atol=1e-6) and together.shape == (3,)  # 1e-6: float32, other shapes
    logits = classifier(**tokenizer("bad", return_tensors="pt")).logits.softmax(-1)[0]
    assert together[2] == pytest.approx(logits[1].item(), abs=1e-6)
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert models.positive_probability(classifier, tokenizer, []).shape == (0,)


def test_the_label_called_positive_counts_and_else_the_second(tmp_path):
    for names, index in ((("POSITIVE", "NEGATIVE"), 0), (("neg", "pos"), 1), (("LABEL_0", "LABEL_1"), 1)):
        classifier, _ = models.load_classifier(tiny_models.classifier(tmp_path / names[0], names=names))
        assert models.positive_label(classifier) == index


def test_what_will_not_do_is_said_in_one_line(tmp_path, monkeypatch):
    lm, classifier = tiny_models.policy(tmp_path / "lm"), tiny_models.classifier(tmp_path / "classifier")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.bin").write_text("x")
    small = tiny_models.policy(tmp_path / "small", rows=5)
    broken = tmp_path / "broken"
    shutil.copytree(lm, broken)
    (broken / "model.safetensors").write_bytes(b"\0" * 40)
    three = tiny_models.classifier(tmp_path / "three", labels=3, names=("a", "b", "c"))
    cases = [
        (models.load_policy, str(tmp_path / "nowhere"), r"model=.*nowhere: there is no such directory"),
        (models.load_policy, "a/b/c", r"there is no such directory"),
        (models.load_policy, str(tmp_path / "file.bin"), r"is a file; name the directory"),
        (models.load_policy, str(tmp_path / "empty"), r"does not hold a tokenizer"),
        (models.load_policy, str(broken), r"does not hold a model"),
        (models.load_policy, small, r"its tokenizer knows 21 tokens and the model 5"),
        (models.load_classifier, lm, r"classifier=.*has no trained classification head"),
        (models.load_classifier, three, r"expected 2 labels, negative and positive, received 3"),
    ]
    for load, name, message in cases:
        with pytest.raises(InputProblem, match=message) as caught:
            load(name)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    with pytest.raises(InputProblem, match=r"model=no-such-model: neither built-in .* give its directory: model=/path/to/it"):
        models.load_policy("no-such-model")
    other = tiny_models.policy(tmp_path / "other", words=tiny_models.WORDS[:5])
    both = models.load_policy(lm)[0], models.load_policy(other)[0]
    with pytest.raises(InputProblem, match="reference=b: knows 8 tokens and model=a 21; they need one vocabulary"):
        models.require_same_vocabulary(*both, ("a", "b"))
    assert models.load_classifier(classifier)[0] is not None


def test_encoder_decoders_are_no_policies(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    T5ForConditionalGeneration(T5Config(vocab_size=21, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputProblem, match="expected a causal language model .* received an encoder-decoder"):
        models.load_policy(str(tmp_path))


def test_nobody_waits_for_a_host_without_a_name():
    assert not hub.reachable("https://no-such-host.invalid")
