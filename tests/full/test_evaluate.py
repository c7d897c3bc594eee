"""Lesson 8: truths about an evaluation on models that can be listed, and every claim and number of the lesson's text."""

import importlib.util
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from autograder.checks.full import evaluate as checks
from autograder.checks.full import evaluate_truth as exact
from autograder.probes.full import evaluate as probes
from full import evaluate_bug as planted
from full.given.evaluation import ScoredBatch
from full.given.rollout import rollout
from full.given.text import Prompts
from solutions.full import evaluate as ev
from solutions.full import evaluate_bug as tiny
from toy.given.enumerable import EnumerableLM

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "08-evaluate"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64: a network of one layer and one softmax
WORDS = checks.WORDS
RNG = np.random.default_rng(8)


def torched(weights):
    return {name: torch.from_numpy(value.copy()) for name, value in weights.items()}


def language_model(loud=False, vocabulary=len(WORDS), seed=0):
    weights = exact.gpt2_weights(np.random.default_rng(seed), vocabulary)
    return probes.language_model(torched(exact.louder(weights) if loud else weights), 2)


def prompts_of(rows, pad=0):
    return Prompts(*map(torch.from_numpy, exact.left_padded(rows, pad)))


def constant(texts):
    return torch.arange(len(texts), dtype=torch.float64) / 10


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_08_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# what the checks' truths are made of


def test_the_truth_in_numpy_is_the_library_s_own():
    tokens = [4, 7, 5, 10, 1]
    weights = exact.gpt2_weights(RNG, 12)
    model = probes.language_model(torched(weights), 2)
    with torch.no_grad():
        assert np.abs(model(torch.tensor([tokens])).logits[0, -1].numpy() - exact.next_logits(weights, 2, tokens)).max() < EXACT
        for kind, drawn, logits_of in (
            ("gpt2", exact.gpt2_weights(RNG, 12, labels=3), exact.gpt2_class_logits),
            ("distilbert", exact.distilbert_weights(RNG, 12, 16, 3), exact.distilbert_class_logits),
        ):
            classifier = probes.classifier_of(kind, torched(drawn), 2, ["a", "b", "c"], 16, 0.0)
            theirs = classifier(torch.tensor([tokens]), attention_mask=torch.ones(1, 5).long()).logits[0].numpy()
            assert np.abs(theirs - logits_of(drawn, 2, tokens)).max() < EXACT


def test_pairs_have_the_probabilities_that_the_ruler_lists():
    check = checks.DrawsFromTheModel()
    weights = check.clear(np.random.default_rng(1), [[0, 1, 1], [1], [1, 0]])
    ruler = EnumerableLM(probes.language_model(torched(weights), 2), 4, 2, prompt=[1, 0], eos=check.EOS)
    mine = exact.pair_probabilities(weights, 2, [1, 0], check.EOS, check.PAD, 1.0, 0)
    with torch.no_grad():
        for (first, second), p in zip(ruler.sequences.tolist(), ruler.probs().tolist()):
            place = first * 4 + (check.PAD if first == check.EOS else second)
            assert abs(mine[place] - p) < EXACT
    assert abs(mine.sum() - 1) < EXACT


def test_a_wrong_sampler_is_caught():
    """Each sampler that draws from a wrong distribution, 50 times on the public cases: some case refuses it every time."""
    check, rng = checks.DrawsFromTheModel(), np.random.default_rng(0)
    cases = list(check.cases(np.random.default_rng(5)))
    truths = [check.truth(**case) for case in cases]
    for name in ("greedy", "no_temperature", "inverted_temperature", "no_top_k", "one_more", "uniform", "first_row"):
        wrong = [getattr(check, name)(**case)["counts"] for case in cases]
        for _ in range(50):
            drawn = [
                np.stack([rng.multinomial(case["count"], row / row.sum()) for row in rows]) for case, rows in zip(cases, wrong)
            ]
            answers = [{"refusal": None, "counts": counts, "same seed, same tokens": True} for counts in drawn]
            assert any(check.judge(a, t, **case) for a, t, case in zip(answers, truths, cases)), name


# prompts


def test_prompts_are_beginnings_padded_on_the_left():
    tokenizer = probes.tokenizer_of(WORDS, padding_side="right", truncation_side="left")
    prompts = ev.seed_prompts(tokenizer, ["a good film , the plot", "film", "bad , dull"], 4)
    assert prompts.input_ids.tolist() == [[10, 6, 4, 11], [0, 0, 0, 4], [0, 7, 11, 8]]
    assert prompts.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]]
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("right", "left")


def test_what_is_written_does_not_depend_on_who_is_beside():
    model, rows = language_model(loud=True), [[4, 5, 6, 7, 8], [9], [10, 6], [4, 8, 11]]
    together = ev.continue_prompts(model, prompts_of(rows), 5, eos_token_id=1, pad_token_id=0)
    for row, tokens in zip(rows, together.completion):
        alone = ev.continue_prompts(model, prompts_of([row]), 5, eos_token_id=1, pad_token_id=0)
        assert torch.equal(alone.completion[0], tokens)


def test_the_learner_s_loop_writes_what_the_engine_writes():
    model, prompts = language_model(loud=True, seed=3).train(), prompts_of([[4, 5, 6], [9], [10, 6]])
    mine = ev.continue_prompts(model, prompts, 6, eos_token_id=1, pad_token_id=0)
    theirs = rollout(model, prompts, 6, eos_token_id=1, pad_token_id=0)
    assert torch.equal(mine.tokens, theirs.tokens) and torch.equal(mine.attention_mask, theirs.attention_mask)
    assert model.training and mine.mask.dtype == torch.bool


def test_draws_have_the_listed_probabilities():
    """2,000 completions of two tokens after a padded prompt; 4 sigma for each of the sequences."""
    model = tiny.writer(seed=1)
    count, prompt = 2000, [3, 5]
    prompts = prompts_of([[2, 3, 4, 5], prompt]).repeated(count)
    made = ev.continue_prompts(model, prompts, 2, eos_token_id=1, pad_token_id=0, generator=torch.Generator().manual_seed(0))
    ruler = EnumerableLM(model, 8, 2, prompt=prompt, eos=1)
    probs = ruler.probs().detach()
    places = ruler.index(torch.where(made.mask, made.completion, 1)[count:])
    counts = torch.bincount(places, minlength=len(ruler)).double()
    assert ((counts - count * probs).abs() <= 4 * (count * probs * (1 - probs)).sqrt() + 1).all()


# the reward


def test_a_text_is_worth_the_same_in_any_batch():
    texts = ["good", "the film , a dull plot , a bad film", "a bad film"]
    for kind, labels in (("gpt2", ["positive", "negative"]), ("distilbert", ["negative", "neutral", "POSITIVE"])):
        rng = np.random.default_rng(2)
        weights = exact.gpt2_weights(rng, 12, labels=2) if kind == "gpt2" else exact.distilbert_weights(rng, 12, 16, 3)
        classifier = probes.classifier_of(kind, torched(weights), 2, labels, 16, 0.5).train()
        for side in ("left", "right"):
            tokenizer = probes.tokenizer_of(WORDS, side)
            together = ev.sentiment_reward(classifier, tokenizer, texts)
            alone = torch.cat([ev.sentiment_reward(classifier, tokenizer, [text]) for text in texts])
            assert torch.allclose(together, alone, rtol=0, atol=EXACT) and not together.requires_grad
        assert classifier.training and ((together > 0) & (together < 1)).all()


def test_the_probabilities_of_two_labels_sum_to_one():
    weights = torched(exact.gpt2_weights(np.random.default_rng(3), 12, labels=2))
    tokenizer, texts = probes.tokenizer_of(WORDS), ["good film", "a dull plot"]
    rewards = []
    for labels in (["negative", "positive"], ["positive", "negative"]):
        classifier = probes.classifier_of("gpt2", weights, 2, labels, 16, 0.0)
        rewards.append(ev.sentiment_reward(classifier, tokenizer, texts))
    assert torch.allclose(sum(rewards), torch.ones(2, dtype=torch.float64), rtol=0, atol=EXACT)


# figures


def test_the_interval_shrinks_with_the_root_of_n():
    values = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(50)
    one, four = ev.mean_with_interval(values), ev.mean_with_interval(values.repeat(4))
    width = (one["high"] - one["low"]) / (four["high"] - four["low"])
    assert width == pytest.approx(2 * math.sqrt(399 / 400 / (99 / 100)), abs=EXACT)  # n - 1 in s
    assert one["mean"] == 0.5 and one["high"] - 0.5 == pytest.approx(1.96 * math.sqrt(25 / 99) / 10, abs=EXACT)


def test_distinct_n_at_its_limits():
    assert ev.distinct_n([[1, 2, 3], [4, 5, 6]], 1) == 1.0 == ev.distinct_n([[1, 2, 3]], 3)
    assert ev.distinct_n([[7] * 10] * 10, 1) == 1 / 100 and ev.distinct_n([[7]], 2) == 0.0 == ev.distinct_n([], 1)


def test_an_evaluation_does_not_depend_on_the_batch_size():
    model, tokenizer = language_model(loud=True, seed=4), probes.tokenizer_of(WORDS)
    texts = ["a good film , the plot", "film", "bad , dull", "the plot", "a , a , a", "good"]
    score = probes.Worth(WORDS, torch.from_numpy(checks.WORTH))
    told = []
    sizes = {"prompt_tokens": 3, "new_tokens": 5}
    found = [
        ev.evaluate(model, tokenizer, texts, score, batch_size=size, progress=lambda *line: told.append(line), **sizes)
        for size in (1, 4, 6, 100)
    ]
    for one in found[1:]:
        assert one.texts == found[0].texts and torch.equal(one.rewards, found[0].rewards) and one.reward == found[0].reward
        assert (one.eos_rate, one.distinct_2) == (found[0].eos_rate, found[0].distinct_2)
    assert [line[:2] for line in told] == [*((done, 6) for done in range(1, 7)), (4, 6), (6, 6), (6, 6), (6, 6)]
    assert told[-1][2] == pytest.approx(found[0].reward["mean"], abs=EXACT)


def test_a_batch_is_scored_as_text():
    tokenizer, asked = probes.tokenizer_of(WORDS), []

    def score(texts):
        asked.append(texts)
        return constant(texts).requires_grad_()

    batch = ev.compute_reward_for_mini_batch(language_model(seed=5), tokenizer, prompts_of([[4, 6], [9]]), score, 4)
    assert isinstance(batch, ScoredBatch) and asked == [batch.texts] and not batch.rewards.requires_grad
    assert [text.split()[:1] for text in batch.texts] == [["film"], ["the"]] and not any("<" in text for text in batch.texts)


def test_bad_input_is_refused_by_name():
    tokenizer, bare = probes.tokenizer_of(WORDS), probes.tokenizer_of(WORDS, pad=False)
    model, prompts, ends = language_model(), prompts_of([[4, 5], [6]]), {"eos_token_id": 1, "pad_token_id": 0}
    right = Prompts(torch.tensor([[4, 0], [4, 5]]), torch.tensor([[1, 0], [1, 1]]))
    single = probes.classifier_of("gpt2", torched(exact.gpt2_weights(RNG, 12, labels=1)), 2, ["positive"], 16, 0.0)
    for name, call in {
        "texts: .*list": lambda: ev.seed_prompts(tokenizer, "film"),
        "texts: .*row 1": lambda: ev.seed_prompts(tokenizer, ["film", ""]),
        "texts: .*strings": lambda: ev.seed_prompts(tokenizer, ["film", None]),
        "tokens: ": lambda: ev.seed_prompts(tokenizer, ["film"], 0),
        "tokenizer: ": lambda: ev.seed_prompts(bare, ["film"]),
        "new_tokens: .*12 tokens": lambda: ev.continue_prompts(model, prompts, 11, **ends),
        "pad_token_id: ": lambda: ev.continue_prompts(model, prompts, eos_token_id=0, pad_token_id=0),
        "temperature: ": lambda: ev.continue_prompts(model, prompts, 1, **ends, temperature=math.inf),
        "top_k: ": lambda: ev.continue_prompts(model, prompts, 1, **ends, top_k=2.5),
        "prompts: .*left": lambda: ev.continue_prompts(model, right, 1, **ends),
        "classifier: ": lambda: ev.sentiment_reward(single, tokenizer, ["film"]),
        "values: .*two": lambda: ev.mean_with_interval(torch.ones(1)),
        "values: .*finite": lambda: ev.mean_with_interval(torch.tensor([0.0, math.nan])),
        "n: ": lambda: ev.distinct_n([[1]], 0),
        "score: .*shape": lambda: ev.compute_reward_for_mini_batch(model, tokenizer, prompts, lambda t: constant(t)[:1], 2),
        "score: .*float": lambda: ev.compute_reward_for_mini_batch(model, tokenizer, prompts, lambda t: 1.0, 2),
        "batch_size: ": lambda: ev.evaluate(model, tokenizer, ["film"], constant, batch_size=0),
        "values: ": lambda: ev.evaluate(model, tokenizer, ["film"], constant, new_tokens=2),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


# the silent bug


def test_the_planted_error_moves_the_number_and_the_mended_file_agrees_with_the_exact_one():
    model, prompts = tiny.writer(), tiny.some_prompts()
    truth = float(tiny.exactly(model, prompts).mean())
    means = {}
    for name, module in (("planted", planted), ("mended", tiny)):
        found = module.measure(model, prompts, times=25, batch_size=500, generator=torch.Generator().manual_seed(2))
        means[name] = (found["mean"] - truth) / ((found["high"] - found["low"]) / 2 / 1.96)
    assert abs(means["mended"]) < 4 < abs(means["planted"])  # in standard errors: 4 sigma


def test_the_planted_file_differs_in_one_line():
    files = (LESSON.parents[1] / folder / "evaluate_bug.py" for folder in ("full", "solutions/full"))
    wrong, right = ([line for line in path.read_text(encoding="utf-8").splitlines()] for path in files)
    (line,) = (line for line in wrong if line not in right)
    assert "columns + t" in line and f"            # {line.strip()}" in right


# the text


def missing(numbers):
    return {name: text for name, text in numbers.items() if " ".join(text.split()) not in TEXT}


@pytest.mark.slow
def test_the_exact_numbers_of_the_text(figures):
    assert not missing(figures.exact_numbers())


@pytest.mark.slow
def test_the_drawn_numbers_of_the_text(figures):
    assert not missing(figures.drawn_numbers())


def test_the_numbers_of_the_run(figures):
    assert not missing(figures.run_numbers())


def test_equations_pictures_and_sections_the_code_speaks_of_exist():
    from autograder.course import load

    tags = re.findall(r"\\tag\{(8\.\d+)\}", TEXT)
    assert tags == [f"8.{n}" for n in range(1, len(tags) + 1)]
    cited = set(re.findall(r"eq\. (8\.\d+)", Path(ev.__file__).read_text(encoding="utf-8")))
    assert cited and cited <= set(tags)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert sorted(pictures) == sorted(path.name for path in LESSON.glob("*.png"))
    for lesson in load(LESSON).lessons:
        if lesson.number == 8:
            assert all(exercise.section in lesson.sections and len(exercise.hints) == 3 for exercise in lesson.exercises)
    for section in re.findall(r"section (8\.\d+)", TEXT + Path(ev.__file__).read_text(encoding="utf-8")):
        assert f"## {section} " in TEXT


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    assert questions["place-of-a-drawn-token"]["answer"] == int(ev.position_ids(mask)[0, -1])
    good, film = 6, 4
    assert questions["bigrams-by-hand"]["answer"] == pytest.approx(ev.distinct_n([[good, good, film], [good, film]], 2))
    a, b, s, n = 0.3, 1.7, 0.35, 400
    formula = questions["positive-of-two-labels"]["answer"]
    assert eval(formula, {"exp": math.exp, "a": a, "b": b}) == pytest.approx(torch.tensor([a, b]).softmax(0)[1].item(), abs=1e-6)
    values = s * torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(n // 2) * math.sqrt((n - 1) / n)
    half = ev.mean_with_interval(values)["high"]
    assert eval(questions["half-width"]["answer"], {"sqrt": math.sqrt, "s": s, "n": n}) == pytest.approx(half, abs=EXACT)
    texts = questions["texts-for-one-percent"]["answer"]
    assert 1.96 * 0.3 / math.sqrt(texts) <= 0.01 < 1.96 * 0.3 / math.sqrt(texts - 1)
