"""Lesson 12: truths about reward models, real exports as they are read, and every claim and number of the text."""

import csv
import importlib.util
import json
import math
import random
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from full.given import film_words
from full.given import preferences as given
from full.given.preferences import Preference, RewardLoop, RewardModelConfig
from full.given.problems import InputProblem
from full.given.text import position_ids
from solutions.full import reward_model, reward_model_bug
from solutions.toy.preferences import bradley_terry_loss, pairs_from_preferences

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "lessons" / "12-reward-model"
DATA = ROOT.parent / "shared" / "data"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most a few hundred terms of size 1 to 10


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return load("lesson_12_figures", LESSON / "figures.py")


def small_model(seed=0, layers=2, vocabulary=7, width=16):
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(seed)
    sizes = {"vocab_size": vocabulary, "n_positions": 32, "n_embd": width, "n_layer": layers, "n_head": 2}
    model = reward_model.RewardModel(GPT2Model(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).double()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
    return model


# 12.1, 12.2: files


@pytest.mark.skipif(not (DATA / "label_studio").is_dir(), reason="the real exports are not here")
def test_a_real_export_of_label_studio():
    found = reward_model.load_preferences(str(DATA / "label_studio" / "ls_output_data.json"))
    assert len(found) == 32 and [sum(p.label == k for p in found) for k in (0, 1, 2)] == [0, 18, 14]
    empty = [p for p in found if "" in (p.first, p.second)]
    assert len(empty) == 2 and all(p.rejected == "" for p in empty)  # who says nothing was judged, and lost


@pytest.mark.skipif(not (DATA / "asqa").is_dir(), reason="qa_feedback is not here")
def test_real_qa_feedback_agrees_with_lesson_5():
    place = DATA / "asqa" / "dev_feedback.json"
    found = reward_model.load_preferences(str(place))
    rows = json.loads(place.read_text(encoding="utf-8"))
    assert len(found) == 6 * len(rows) == 3000
    for number, row in enumerate(rows[:50]):
        mine = [(p.chosen, p.rejected) for p in given.decided(found[6 * number : 6 * number + 6])]
        pairs = pairs_from_preferences(torch.tensor(row["preference"])).tolist()
        assert mine == [(row[f"prediction {good + 1}"], row[f"prediction {bad + 1}"]) for good, bad in pairs]
    assert found[0].prompt.startswith("question: When does bloom by troye sivan come out? context: wikipage: ")


def test_one_set_of_judgements_in_four_formats(tmp_path):
    """JSON and CSV of Label Studio, its JSON-MIN, and JSONL pairs say the same of the same judgements."""
    texts = [(f"Which, {i}?", f"one, {i}", f'two "{i}"\nwith a line more') for i in range(4)]
    sides = ["left", "right", "left", "right"]
    tasks, table = [], []
    for i, (triple, side) in enumerate(zip(texts, sides)):
        names = dict(zip(("prompt", "answer1", "answer2"), triple))
        result = [{"type": "pairwise", "value": {"selected": side}}]
        tasks.append({"id": i, "data": names, "annotations": [{"id": 100 + i, "was_cancelled": False, "result": result}]})
        table.append({**names, "id": i, "comparison": side, "annotator": 2, "annotation_id": 100 + i, "lead_time": 3.1})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    (tmp_path / "min.json").write_text(json.dumps([{**row, "comparison": {"selected": row["comparison"]}} for row in table]))
    with open(tmp_path / "export.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    with open(tmp_path / "cells.csv", "w", newline="", encoding="utf-8") as file:  # as newer versions write the cell
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows({**row, "comparison": json.dumps([{"selected": row["comparison"]}])} for row in table)
    expected = reward_model.load_preferences(str(tmp_path / "export.json"))
    assert [p.label for p in expected] == [1, 2, 1, 2] and [p.id for p in expected] == ["100", "101", "102", "103"]
    for file in ("min.json", "export.csv", "cells.csv"):
        assert reward_model.load_preferences(str(tmp_path / file)) == expected
    rows = [{"id": p.id, "prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in expected]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = reward_model.load_preferences(str(tmp_path / "pairs.jsonl"))
    assert [(p.id, p.chosen, p.rejected) for p in pairs] == [(p.id, p.chosen, p.rejected) for p in expected]


def test_bad_files_are_refused_by_what_is_wrong(tmp_path):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}

    def says(rows, words, suffix=".jsonl", kind=ValueError):
        place = tmp_path / f"rows{suffix}"
        place.write_text("\n".join(map(json.dumps, rows)) if suffix == ".jsonl" else rows)
        with pytest.raises(kind, match=words):
            reward_model.load_preferences(str(place))

    says([good, {**good, "rejected": None}], "answer: expected text in `rejected`, received nothing")
    says([{**good, "chosen": 3}], "answer: expected text in `chosen`, received int 3")
    says([{"chosen": "b", "rejected": "c"}], "prompt: expected text")
    says([{**good, "rejected": "b"}], "label: preference 1 prefers one of two answers that are the same")
    says([{**good, "id": "x"}, {**good, "id": "x"}], "id: x stands there twice")
    says([{"text": "a"}], "no preferences in columns text", kind=InputProblem)
    says("prompt,answer1,answer2,id,choice\na,b,c,1,middle\n", "label: expected a column that says left", ".csv")
    says("prompt,answer1,answer2,id,choice\na,b,c,1,left\na,b,d,2,middle\n", "received 'middle'", ".csv")
    says("prompt,answer1\na,b\n", "no preferences in columns prompt, answer1", ".csv", InputProblem)
    says("", "holds no rows", ".json.txt", InputProblem)
    with pytest.raises(InputProblem, match="there is no such file"):
        reward_model.load_preferences(str(tmp_path / "missing.json"))


def test_the_worlds_are_read_like_any_file():
    from full.given.questions import world

    found = reward_model.load_preferences("questions", limit=5)
    assert len(found) == 30 and {p.label for p in found} == {0, 1, 2}
    assert found[0].prompt == world().rows(1, 1)[0]["source"]  # what the reward model reads is what the policy is asked
    posts = reward_model.load_preferences("posts", split="test", limit=4)
    assert len(posts) == 4 and all(p.label == 1 and p.prompt.endswith("TL;DR:") for p in posts)


def test_no_prompt_stands_in_both_parts():
    rng = random.Random(0)
    some = [Preference(str(i), f"prompt {rng.randrange(40)}", "a", "b", 1) for i in range(300)]
    train, validation = given.split(some, 0.2, seed=3)
    assert sorted(train + validation, key=lambda p: int(p.id)) == some
    assert not {p.prompt for p in train} & {p.prompt for p in validation}
    assert len({p.prompt for p in validation}) == 8
    assert given.split(some, 0.2, seed=3) == (train, validation) != given.split(some, 0.2, seed=4)
    assert given.split(some, 0.0, 0)[1] == []


def test_what_is_cut_is_the_beginning_of_the_prompt_and_it_is_counted():
    from tiny_models import tokenizer

    ours = tokenizer()
    long, short = "the film was great . the plot was dull", "it was"
    rows, cut = given.text_ids(ours, [long, short], ["fine music", "fine"], max_length=6)
    end = ours.eos_token_id
    assert cut == 1
    assert rows[0] == [*ours("plot was dull fine music", add_special_tokens=False)["input_ids"], end]
    assert rows[1] == [*ours("it was fine", add_special_tokens=False)["input_ids"], end]
    rows, cut = given.text_ids(ours, [short], [long], max_length=4)  # no room for the prompt, nor for the answer's end
    assert cut == 1 and rows[0] == ours("the film was great", add_special_tokens=False)["input_ids"]
    encoded = given.encode(ours, [Preference("1", short, "fine", "bad", 2), Preference("2", short, "a", "the", 0)], 9)
    assert len(encoded) == 1 and encoded.dropped == 1  # the tie
    assert encoded.chosen[0] == [*ours("it was bad", add_special_tokens=False)["input_ids"], end]
    with pytest.raises(InputProblem, match="no preference has a winner"):
        given.encode(ours, [Preference("2", short, "a", "the", 0)], 9)


# 12.3


def test_a_row_has_the_score_in_a_batch_that_it_has_by_itself():
    model = small_model()
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(7, (length,), generator=generator) for length in (5, 1, 9, 3)]
    alone = torch.cat([model(row.unsqueeze(0), torch.ones(1, len(row), dtype=torch.long)) for row in rows])
    for side in ("right", "left", "both"):
        tokens = torch.randint(7, (4, 12), generator=generator)
        mask = torch.zeros(4, 12, dtype=torch.long)
        for number, row in enumerate(rows):
            start = {"right": 0, "left": 12 - len(row), "both": 2}[side]
            tokens[number, start : start + len(row)] = row
            mask[number, start : start + len(row)] = 1
        assert torch.allclose(model(tokens, mask), alone, rtol=0, atol=EXACT)


def test_a_directory_is_hugging_faces(tmp_path):
    from transformers import GPT2ForSequenceClassification

    model = small_model(3).float()
    model.config.pad_token_id = 0
    model.save_pretrained(tmp_path)
    theirs = GPT2ForSequenceClassification.from_pretrained(tmp_path).eval()
    tokens, mask = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    mine = model(tokens, mask)
    assert theirs.config.num_labels == 1
    assert torch.allclose(theirs(input_ids=tokens, attention_mask=mask).logits[:, 0], mine, rtol=0, atol=1e-5)  # float32
    again = reward_model.RewardModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(tokens, mask), mine)


def test_a_language_model_gets_a_new_head(tmp_path):
    from tiny_models import policy

    place = policy(tmp_path / "lm")
    torch.manual_seed(0)
    one = reward_model.RewardModel.from_pretrained(place)
    two = reward_model.RewardModel.from_pretrained(place)
    assert torch.equal(one.transformer.wte.weight, two.transformer.wte.weight)
    assert not torch.equal(one.score.weight, two.score.weight) and one.score.weight.std() < 0.05


# 12.4


def test_the_loss_is_that_of_lesson_5_and_its_scores_have_no_level():
    generator = torch.Generator().manual_seed(2)
    chosen, rejected = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    assert torch.equal(reward_model.pairwise_loss(chosen, rejected), bradley_terry_loss(chosen, rejected))
    moved = reward_model.pairwise_loss(chosen + 5, rejected + 5)
    assert torch.allclose(moved, reward_model.pairwise_loss(chosen, rejected), rtol=0, atol=EXACT)
    zero = torch.zeros(3, dtype=torch.float64)
    assert abs(reward_model.pairwise_loss(zero, zero).item() - math.log(2)) < EXACT


def film_loop(choices, validation, steps, rate=0.02, **settings):
    """A loop over choices of the film world, all of them in every step, and a reward model of it."""
    reader = reward_model_bug.Reader()
    encoded = []
    for some in (choices, validation):
        texts = [chosen for chosen, _ in some] + [rejected for _, rejected in some]
        tokens, mask = reward_model_bug.rows_of(texts)
        encoded.append(given.Pairs(tokens, mask, torch.zeros(len(texts), dtype=torch.long)))
    torch.manual_seed(0)
    model = reward_model.RewardModel(film_words.gpt2().transformer)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loop = RewardLoop(model, [encoded[0]] * steps, [encoded[1]], optimizer, RewardModelConfig(**settings))
    return reader, model, loop


def test_training_ends_with_the_best_weights_and_stops_by_itself():
    reader = reward_model_bug.Reader()
    _, model, loop = film_loop(reader.choices(48, 1), reader.choices(100, 2), 200, 0.01, evaluate_every=5, patience=4)
    reward_model.train(loop, loop.config)
    measured = {row["step"]: row["validation_loss"] for row in loop.rows if "validation_loss" in row}
    best = min(measured, key=measured.get)
    assert len(loop.rows) == best + 20 < 200  # four looks of five steps after the best one
    now = reward_model.pairwise_loss(*given.pair_scores(model, loop.validation())).item()
    assert now == pytest.approx(measured[best], abs=EXACT) == loop.kept["best"] < math.log(2)


def test_when_every_step_makes_it_worse_the_beginning_is_kept():
    reader = reward_model_bug.Reader()
    turned = [(rejected, chosen) for chosen, rejected in reader.choices(60, 1)]
    _, model, loop = film_loop(turned, reader.choices(100, 2), 30, 0.01, evaluate_every=1, patience=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reward_model.train(loop, loop.config)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert abs(loop.kept["best"] - math.log(2)) < 0.05


@pytest.mark.slow
def test_with_choices_enough_the_scores_are_the_readers_own():
    """The expected loss has its minimum at the reader's rewards: 2000 choices bring the model near.

    A fit of k free numbers to n choices is k / 2n above the minimum on the average: 0.02 is that of 80 free numbers, where there
    are 85 texts and a reward with seven values.
    """
    reader = reward_model_bug.Reader()
    _, model, loop = film_loop(reader.choices(2000, 5), reader.choices(500, 6), 50, 0.005, evaluate_every=10, patience=9)
    reward_model.train(loop, loop.config)
    with torch.no_grad():
        scores = model(*reward_model_bug.rows_of(reader.texts))
    floor = reader.expected_loss(reader.rewards)
    assert floor < reader.expected_loss(scores) < floor + 0.02
    assert np.corrcoef(scores.numpy(), reader.rewards.numpy())[0, 1] > 0.95


# 12.5


def test_frozen_layers_do_not_move_and_the_others_do():
    model = small_model(layers=4)
    assert reward_model.freeze_fraction(model, 0.5) == 2
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    tokens, mask = torch.tensor([[1, 2, 3], [3, 2, 1]]), torch.ones(2, 3, dtype=torch.long)
    reward_model.pairwise_loss(*model(tokens, mask).chunk(2)).backward()
    optimizer.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    still = {name for name in before if re.match(r"transformer\.(wte|wpe|h\.0|h\.1)\.", name)}
    level = {"transformer.ln_f.bias"}  # the same for both answers: it moves the level of all scores, which no pair can tell
    assert moved == set(before) - still - level


# 12.6


def test_wilsons_interval_covers_as_often_as_it_says_and_the_one_from_school_does_not():
    """Over all outcomes of n pairs, exactly: the probability that the interval holds the true rate."""

    def coverage(interval, n, p):
        chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        return sum(chance for k, chance in enumerate(chances) if interval(k, n)[0] <= p <= interval(k, n)[1])

    def wilson(k, n):
        return reward_model.accuracy(torch.ones(n), torch.tensor([0.0] * k + [2.0] * (n - k)))[1:]

    def school(k, n):
        half = reward_model.Z95 * math.sqrt(k / n * (1 - k / n) / n)
        return k / n - half, k / n + half

    rates = [0.5, 0.6, 0.7, 0.8, 0.9]
    for n in (7, 20, 50):
        ours, theirs = ([coverage(interval, n, p) for p in rates] for interval in (wilson, school))
        assert min(ours) > 0.91 and sum(ours) / len(ours) > 0.94 > sum(theirs) / len(theirs)
    assert coverage(school, 7, 0.9) < 0.6  # at a rate of 0.9 it is wrong in more than four cases of ten


def test_calibration_counts_every_pair_and_knows_a_model_that_is_honest():
    generator = torch.Generator().manual_seed(7)
    margin = 2 * torch.randn(20000, generator=generator, dtype=torch.float64)
    right = torch.rand(20000, generator=generator) < torch.sigmoid(margin.abs())
    chosen = torch.where(right, margin.abs(), -margin.abs())
    honest = reward_model.calibration(chosen, torch.zeros_like(chosen), 5)
    boastful = reward_model.calibration(3 * chosen, torch.zeros_like(chosen), 5)
    assert sum(row[0] for row in honest) == sum(row[0] for row in boastful) == 20000
    for count, said, share in honest:
        assert abs(said - share) < 5 * math.sqrt(0.25 / count)  # 5 sigma of a share at most
    assert all(said - share > 0.05 for _, said, share in boastful[1:-1])


def test_scores_that_hardly_vary_are_said_with_the_figure():
    assert given.spread_warning(torch.tensor([1.0, 1.5])) is None
    said = given.spread_warning(torch.tensor([1.0, 1.001, 0.999]))
    assert "0.0008" in said and "3 texts" in said and "below 0.02" in said


def test_scores_for_nothing_are_no_scores():
    chosen, rejected = given.pair_scores(small_model(), [])
    assert len(chosen) == len(rejected) == 0


# 12.8


def test_the_bug_keeps_names_and_not_weights(figures):
    planted, model = figures.planted(), torch.nn.Linear(2, 1)
    for module, follows in ((planted, True), (reward_model_bug, False)):
        kept = module.weights_of(model)
        with torch.no_grad():
            model.weight.add_(1)
        assert torch.equal(kept["weight"], model.weight) == follows


@pytest.mark.slow
def test_the_bug_reports_one_model_and_keeps_another(figures):
    found = {name: figures.bug_run(module) for name, module in (("planted", figures.planted()), ("mended", reward_model_bug))}
    assert found["planted"]["best"] == found["mended"]["best"] == found["mended"]["kept"]["validation"]
    assert found["planted"]["kept"]["validation"] > math.log(2) > found["planted"]["best"]
    assert figures.rounded(found["mended"]["looks"], 4) == figures.rounded(figures.stored()["bug"]["mended"]["looks"], 4)


# the text


def test_the_text_quotes_what_is_computed(figures):
    found = {**figures.exact_numbers(), **figures.measured_numbers(figures.stored())}
    found |= figures.run_numbers(figures.stored(figures.RUN)) if figures.RUN.is_file() else {}
    missing = {what: text for what, text in found.items() if " ".join(text.split()) not in TEXT}
    assert not missing


@pytest.mark.slow
def test_the_counts_of_the_question_world_are_still_those(figures):
    assert figures.rounded(figures.world_counts()) == figures.stored()["world"]


def test_equations_are_numbered_in_order_and_pictures_are_there():
    numbers = [int(n) for n in re.findall(r"\\tag\{12\.(\d+)\}", TEXT)]
    assert numbers == list(range(1, len(numbers) + 1))
    for picture in re.findall(r"\]\((\w+\.png)\)", TEXT):
        assert (LESSON / picture).is_file()
    source = (ROOT / "solutions" / "full" / "reward_model.py").read_text(encoding="utf-8")
    assert all(int(n) <= len(numbers) for n in re.findall(r"eq\. 12\.(\d+)", source))


def test_the_questions_answers_are_true():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}

    def near(name, value):
        return abs(questions[name]["answer"] - value) <= questions[name]["tolerance"]

    row = {"question": "?", "passages": [], "preference": [0, 1, 2, 1, 0, 2], **{f"prediction {n}": str(n) for n in range(1, 5)}}
    third = reward_model.from_qa_feedback([row])[2]
    assert questions["which-pair"]["answer"] == [1] and (third.chosen, third.rejected) == ("4", "1")
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 0, 0]])
    assert near("score-of-one-row", int(position_ids(mask)[0, reward_model.last_token(mask)]))
    two, other = torch.tensor([2.0], dtype=torch.float64), torch.tensor([3.5], dtype=torch.float64)
    assert near("two-scores", reward_model.pairwise_loss(two, other).item())
    leaf = torch.tensor([0.3, 1.0, -2.0], dtype=torch.float64, requires_grad=True)
    reward_model.pairwise_loss(leaf, torch.tensor([0.8, 0.0, 0.0], dtype=torch.float64)).backward()
    slope = eval(questions["slope-of-a-pair"]["answer"], {"exp": math.exp}, {"n": 3, "c": 0.3, "r": 0.8})
    assert abs(slope - leaf.grad[0].item()) < EXACT
    assert near("worse-than-chance", math.log(2))
    assert near("wilson-by-hand", reward_model.accuracy(torch.ones(10), torch.tensor([0.0] * 9 + [2.0]))[1])
    assert near("patience", stopped_after([0.69, 0.62, 0.64, 0.60, 0.61, 0.63, 0.59, 0.70], every=10, patience=2))
    from transformers import GPT2Config, GPT2Model

    with torch.device("meta"):
        model = reward_model.RewardModel(GPT2Model(GPT2Config(n_layer=6)))
    assert reward_model.freeze_fraction(model, 0.7) == 4 and questions["what-freezing-leaves"]["answer"] == [0]


def stopped_after(losses, every, patience):
    """The step at which `train` stops if the validation pairs say these losses, one after the other."""

    class Scripted(RewardLoop):
        def __init__(self):
            model = torch.nn.Linear(1, 1)
            model.forward = lambda tokens, mask: model.weight[0, 0] * tokens[:, 0]
            tokens = torch.tensor([[1], [0]])
            pairs = given.Pairs(tokens, torch.ones_like(tokens), torch.zeros(2, dtype=torch.long))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            super().__init__(model, [pairs] * 1000, [], optimizer, RewardModelConfig(evaluate_every=every, patience=patience))
            self.said = iter(losses)

        def validation(self):
            """A pair whose loss under the model of this moment is the next of the script."""
            margin = -math.log(math.exp(next(self.said)) - 1)
            with torch.no_grad():
                self.policy.weight.fill_(margin)
            yield given.Pairs(torch.tensor([[1], [0]]), torch.ones(2, 1, dtype=torch.long), torch.zeros(2, dtype=torch.long))

    loop = Scripted()
    reward_model.train(loop, loop.config)
    return len(loop.rows)
