"""The shipped models are what their figures say, and can be made again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from full.given import build_world, models, posts, questions, small_figures, world_figures
from full.given.review_grammar import EOS, text_of
from full.given.reviews import world
from full.given.world_tokenizer import ids_of, tokenizer_of

ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "full" / "given" / "builtin"


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads((BUILTIN / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def policy():
    return models.load_policy("review-lm")


@pytest.fixture(scope="module")
def classifier():
    return models.load_classifier("review-sentiment")


def test_the_figures_are_those_asked_for(figures):
    lm, proxy = figures["review-lm"], figures["review-sentiment"]
    assert lm["above_percent"]["high"] < 2.0  # within 2% of the entropy rate, the whole interval
    assert lm["entropy_rate"] == pytest.approx(world().entropy_rate(), abs=1e-9)  # the grammar is the one the model was made for
    assert 0.45 <= lm["reward"]["mean"] <= 0.62  # the reference is neither praise nor blame
    assert 0.7 <= proxy["first_30"]["accuracy"]["mean"] <= 0.9  # a proxy that is neither useless nor perfect
    exploit = proxy["exploit"]
    assert exploit["reward"]["low"] > 0.85 and exploit["gold_reward"]["high"] < 0.6 and exploit["naturalness"]["high"] < -10
    size = sum(path.stat().st_size for path in BUILTIN.rglob("*") if path.is_file())
    assert size < 12 * 2**20


def test_the_language_model_has_its_cross_entropy(policy, figures):
    model, tokenizer = policy
    stated = figures["review-lm"]["above_percent"]
    measured = world_figures.measure_language_model(model, tokenizer, count=300, seed=1)["above_percent"]

    def error(value):
        return (value["high"] - value["low"]) / 3.92

    assert abs(measured["mean"] - stated["mean"]) < 4 * np.hypot(error(measured), error(stated))
    assert model.num_parameters() == figures["review-lm"]["parameters"]


def test_the_classifier_agrees_as_far_as_stated(classifier, figures):
    model, tokenizer = classifier
    assert model.config.id2label == {0: "negative", 1: "positive"}
    stated = figures["review-sentiment"]["first_30"]["accuracy"]["mean"]
    texts = [text_of(review.tokens[:30]) for review in world().sample(600, seed=2)]
    gold, proxy = world().gold_reward(texts), world_figures.proxy_reward(model, tokenizer, texts)
    decided = abs(gold - 0.5) > 1e-3
    agree = ((proxy > 0.5) == (gold > 0.5))[decided]
    assert abs(agree.mean() - stated) < 4 * np.sqrt(stated * (1 - stated) * (1 / len(agree) + 1 / 1800))


def test_the_tokenizers_are_the_worlds_words(policy, classifier):
    for (_, tokenizer), side in ((policy, "left"), (classifier, "right")):
        words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        assert words == ["<pad>", EOS, "<unk>", *(word for word in world().vocabulary if word != EOS)]
        assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token) == ("<pad>", EOS, "<unk>")
        assert tokenizer.padding_side == side
        for review in world().sample(200, seed=3):
            ids = tokenizer(review.text).input_ids
            assert tokenizer.convert_ids_to_tokens(ids) == review.tokens and tokenizer.decode(ids) == review.text
        assert tokenizer("A zebra!").input_ids[1] == tokenizer.unk_token_id


def test_left_padding_changes_nothing(policy):
    from full.given.rollout import rollout
    from full.given.text import Prompts

    model, tokenizer = policy
    prompts = world().prompts(4, tokens=10, seed=4)
    texts = world_figures.continuations(model, tokenizer, prompts, new_tokens=8, seed=0)
    rows = tokenizer([*prompts, prompts[0] + " " + prompts[1]], padding=True, return_tensors="pt")
    assert not rows.attention_mask[:4, :10].all()  # padded on the left
    padded = rollout(
        model,
        Prompts(rows.input_ids, rows.attention_mask, torch.arange(5), 5),
        1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator().manual_seed(0),
    )
    alone = rollout(
        model,
        Prompts(rows.input_ids[:4, -10:], rows.attention_mask[:4, -10:], torch.arange(4), 5),
        1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator().manual_seed(0),
    )
    assert padded.completion[:4].tolist() == alone.completion.tolist()
    assert all(text.startswith(prompt) for prompt, text in zip(prompts, texts))


def test_the_model_card_states_the_figures(figures):
    card = (BUILTIN / "README.md").read_text(encoding="utf-8")
    lm, proxy = figures["review-lm"], figures["review-sentiment"]
    for value, digits in (
        (lm["cross_entropy"], 4),
        (lm["above_percent"], 2),
        (lm["reward"], 2),
        (lm["gold_reward"], 2),
        (lm["naturalness"], 2),
        (proxy["first_30"]["accuracy"], 2),
        (proxy["whole"]["accuracy"], 2),
        (proxy["exploit"]["reward"], 2),
        (proxy["exploit"]["gold_reward"], 2),
        (proxy["exploit"]["naturalness"], 1),
    ):
        assert world_figures.stated(value, digits) in card
    assert f"{lm['entropy_rate']:.4f}" in card and f"`{proxy['exploit']['word']}`" in card
    assert f"{lm['parameters']:,}" in card and f"{proxy['parameters']:,}" in card
    patterns = {pattern.line for section in world().sentences.values() for pattern in section}
    words = {word.lower() for word in world().vocabulary if word[0].isalpha()}
    assert f"{len(patterns)} sentence patterns" in card and f"{len(words):,} words" in card


def close(measured: dict, stated: dict) -> bool:
    """Two means of different texts, with their intervals: within four standard errors of their difference."""
    errors = [(value["high"] - value["low"]) / 3.92 for value in (measured, stated)]
    return abs(measured["mean"] - stated["mean"]) < 4 * np.hypot(*errors)


def test_the_figures_of_questions_and_posts_are_those_asked_for(figures):
    before, after, reward = figures["question-t5"], figures["question-t5-sft"], figures["question-reward"]
    assert before["rouge_l"]["high"] < after["rouge_l"]["low"] and after["rouge_l"]["low"] > 0.6
    assert 0.5 < after["completeness"]["mean"] < 0.85  # something is left for PPO to gain
    assert min(after["relevance"]["mean"], after["factuality"]["mean"]) > 0.8
    assert reward["accuracy"]["mean"] >= 0.8 and reward["log_loss"]["high"] < np.log(2)
    lm, post_reward = figures["post-lm"], figures["post-reward"]
    assert 0.6 < lm["gold"]["mean"] < 0.8 and post_reward["log_loss"]["high"] < np.log(2)
    assert post_reward["accuracy"]["low"] > 0.6
    for name in ("question-t5", "question-t5-sft", "question-reward", "post-lm", "post-reward"):
        assert (BUILTIN / name / "model.safetensors").stat().st_size > 4 * figures[name]["parameters"]  # float32


def test_the_fine_tuned_t5_answers_as_well_as_stated(figures):
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(BUILTIN / "question-t5-sft").eval()
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN / "question-t5-sft")
    stated = figures["question-t5-sft"]
    measured = small_figures.measure_t5(model, tokenizer, questions.world(), count=60, seed=101)
    for name in ("rouge_l", "rouge_l_complete", "completeness", "relevance", "factuality"):
        assert close(measured[name], stated[name]), name
    assert model.num_parameters() == stated["parameters"]


def test_the_reward_models_are_as_accurate_as_stated(figures):
    from transformers import AutoTokenizer, GPT2ForSequenceClassification

    measures = {
        "question-reward": lambda *model: small_figures.measure_question_reward(*model, questions.world(), count=30, seed=101),
        "post-reward": lambda *model: small_figures.measure_post_reward(*model, posts.world(), count=150, seed=101),
    }
    for name, measure in measures.items():
        model = GPT2ForSequenceClassification.from_pretrained(BUILTIN / name).eval()
        assert model.config.num_labels == 1 and model.config.pad_token_id != model.config.eos_token_id
        measured, stated = measure(model, AutoTokenizer.from_pretrained(BUILTIN / name)), figures[name]
        assert close(measured["accuracy"], stated["accuracy"]) and close(measured["log_loss"], stated["log_loss"])


def test_the_language_model_of_posts_summarises_as_well_as_stated(figures):
    model, tokenizer = models.load_policy("post-lm")
    measured, stated = small_figures.measure_post_lm(model, tokenizer, posts.world(), count=80, seed=101), figures["post-lm"]
    for name in ("gold", "greedy_gold", "cross_entropy"):
        assert close(measured[name], stated[name]), name


def test_the_model_card_states_the_figures_of_questions_and_posts(figures):
    card = (BUILTIN / "README.md").read_text(encoding="utf-8")
    wanted = [
        (name, part, 2)
        for name in ("question-t5", "question-t5-sft")
        for part in ("rouge_l", "rouge_l_complete", "completeness", "relevance", "factuality", "greedy_completeness")
    ]
    rewards, parts = ("question-reward", "post-reward"), ("accuracy", "log_loss", "longer_is_better")
    wanted += [(name, part, 3) for name in rewards for part in parts]
    wanted += [("post-lm", "gold", 2), ("post-lm", "greedy_gold", 2), ("post-lm", "cross_entropy", 3)]
    for name, part, digits in wanted:
        assert world_figures.stated(figures[name][part], digits) in card, (name, part)
    for name in ("question-t5", "question-reward", "post-lm"):
        assert f"{figures[name]['parameters']:,} parameters" in card
    assert f"{len(questions.world().vocabulary):,} words" in card and f"{len(posts.world().vocabulary):,} words" in card


@pytest.mark.slow
def test_models_of_questions_and_posts_are_made_from_nothing(tmp_path, monkeypatch):
    for name in ("measure_t5", "measure_question_reward", "measure_post_lm", "measure_post_reward"):
        whole = getattr(small_figures, name)
        monkeypatch.setattr(small_figures, name, lambda *model, whole=whole: whole(*model, count=8))
    small = {"width": 16, "layers": 1, "batch": 8, "steps": 3, "warm_up": 1}
    told: list[str] = []

    def make(where: Path) -> dict:
        return build_world.build(
            where,
            lambda what, done, total, said: told.append(f"{what} {done}/{total}"),
            worlds=("questions", "posts"),
            questions=build_world.QuestionRecipe(
                **small, inner=16, sft_questions=16, sft_epochs=2, reward_questions=4, reward_batch=8
            ),
            posts=build_world.PostRecipe(**small, comparisons=16, epochs=1),
        )

    first = make(tmp_path / "first")
    assert "question-t5 3/3" in told and "post figures 2/2" in told and len(build_world.told(first)) == 5
    make(tmp_path / "second")
    made = sorted(place.parent.name for place in (tmp_path / "first").glob("*/config.json"))
    assert made == ["post-lm", "post-reward", "question-reward", "question-t5", "question-t5-sft"]
    for name in made:  # the same bytes each time
        one, two = ((tmp_path / turn / name / "model.safetensors").read_bytes() for turn in ("first", "second"))
        assert one == two
    assert json.loads((tmp_path / "first" / "figures.json").read_text()) == json.loads(json.dumps(first))


def test_build_world_knows_three_worlds(tmp_path):
    process = climb("build-world", "--out", str(tmp_path / "new"), "--only", "films")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 2 and "--only: expected reviews, questions, posts or sums, received films" in said


@pytest.mark.slow
def test_models_are_made_from_nothing_and_the_same_each_time(tmp_path):
    small = build_world.Recipe(
        width=16, layers=1, batch=8, phases=((4, 1e-3), (3, 1e-3)), warm_up=2, proxy_labels=32, proxy_epochs=1
    )
    told: list[str] = []
    reviews, threads = world(), torch.get_num_threads()
    tokenizer = tokenizer_of(reviews, "left")

    def progress(what: str, done: int, total: int, said: str) -> None:
        told.append(f"{what} {done}/{total}")

    first, again = (build_world.train_language_model(reviews, small, tokenizer, progress) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert told[6] == "review-lm 7/7" and torch.get_num_threads() == threads
    proxy = build_world.train_classifier(reviews, small, tokenizer_of(reviews, "right"), lambda *_: None)
    build_world.save(first, tokenizer, tmp_path / "lm")
    build_world.save(proxy, tokenizer_of(reviews, "right"), tmp_path / "proxy")
    loaded, its = models.load_policy(str(tmp_path / "lm"))
    assert torch.equal(loaded.transformer.wte.weight, first.transformer.wte.weight) and its.pad_token == "<pad>"
    assert models.load_classifier(str(tmp_path / "proxy"))[0].config.num_labels == 2


def test_what_is_shown_is_the_grammars_distribution():
    """Rows sum to 1 and hold what was drawn: the loss's expectation over drawn words is the same as from the words."""
    reviews = world()
    tokenizer = tokenizer_of(reviews, "left")
    ids = ids_of(reviews, tokenizer)
    rows = [reviews.numbers(review.tokens) for review in reviews.sample(6, seed=5)]
    goal, tokens, real = build_world.shown(reviews, rows, ids, tokenizer, True)
    assert goal.shape == (sum(map(len, rows)) + 6, len(tokenizer)) and real.sum() == len(goal)
    torch.testing.assert_close(goal.sum(1), torch.ones(len(goal)), atol=1e-6, rtol=0)  # float32
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    after = torch.cat([torch.tensor([*ids[row], tokenizer.eos_token_id]) for row in rows])
    drawn = goal.gather(1, after[:, None]).log().double().sum()
    exact = reviews.log_likelihood([[reviews.vocabulary[n] for n in row] for row in rows]).sum()
    assert float(drawn) == pytest.approx(exact, abs=1e-3)  # float32 sums of some 300 logarithms, as logs of conditionals


def climb(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "autograder.cli", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_build_world_does_not_write_over_anything(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    process = climb("build-world", "--out", str(tmp_path))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "is not an empty folder" in said and "Traceback" not in said


@pytest.mark.slow
def test_ctrl_c_stops_build_world_and_leaves_nothing(tmp_path):
    out = tmp_path / "world"
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # where the suite ignores it too
    process = climb("build-world", "--out", str(out), **hears, env=os.environ | {"COLUMNS": "200"})
    time.sleep(20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and re.search("climb: stopped", said) and "Traceback" not in said
    assert not out.exists()
