"""`climb run ppo`: T5 and GPT-2, several rewards, stopped and gone on with; names that two lessons share."""

import importlib
import json
import math
from pathlib import Path

import pytest
import tiny_models
import torch
from test_runs_resume import lessons_of, run

from autograder import course as courses
from autograder.commands.run import run_called
from full.given.problems import InputProblem
from full.given.runs import checkpoint, ppo, rewards
from full.given.runs.loop import NotFinite
from toy.given.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
ASQA = ROOT.parent / "shared/data/asqa"
ODD = ("seconds", "peak_memory_mb")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    scorer = tiny_models.classifier(folder / "score", labels=1, names=("score",))
    found = {"rewards": f"score={scorer},relevance=novelty,factuality=support", "weights": "score=1,relevance=0.5,factuality=0.5"}
    found |= {"batch_size": 8, "minibatch_size": 4, "ppo_epochs": 2, "steps": 6, "new_tokens": 6, "test_rows": 6, "save_every": 2}
    found |= {"learning_rate": 1e-2, "samples": 2, "sample_every": 3, "eval_batch": 4, "device": "cpu", "top_k": 8}
    t5 = found | {"model": tiny_models.t5(folder / "t5"), "data": tiny_models.answers(folder / "answers.jsonl", 70)}
    t5 |= {"relative": True}
    gpt2 = found | {
        "model": tiny_models.policy(folder / "gpt2"),
        "data": tiny_models.texts(folder / "texts.jsonl"),
        "prompt_tokens": 4,
    }
    gpt2 |= {"value_model": "shared", "target_kl": 2.0, "horizon": 100.0, "warmup_steps": 2, "value_rate": 3.0}
    return {"t5": t5, "gpt2": gpt2, "folder": folder}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shop):
    """The uninterrupted runs: {kind: (folder, summary, metrics)}."""
    found = {}
    for kind in ("t5", "gpt2"):
        path = tmp_path_factory.mktemp("whole") / kind
        found[kind] = path, *run("ppo", path, shop[kind])
    return found


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_run_from_start_to_end(whole, kind):
    path, summary, rows = whole[kind]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    names = (
        "reward",
        "reward_score",
        "reward_relevance",
        "reward_factuality",
        "loss",
        "policy_loss",
        "value_loss",
        "kl",
        "entropy",
    )
    more = (
        "completion_length",
        "eos_rate",
        "approx_kl",
        "clip_fraction",
        "explained_variance",
        "ratio",
        "ratio_variance",
        "kl_coef",
    )
    assert set(names + more) <= set(rows[0]) and all(math.isfinite(row[name]) for row in rows for name in names + more)
    for row in rows:  # the weighted sum is what is maximised
        assert row["reward"] == pytest.approx(
            row["reward_score"] + 0.5 * row["reward_relevance"] + 0.5 * row["reward_factuality"]
        )
    after = summary["reward_after"]
    parts = [summary[f"reward_{name}"]["mean"] for name in ("score", "relevance", "factuality")]
    assert after["mean"] == pytest.approx(parts[0] + 0.5 * parts[1] + 0.5 * parts[2]) and after["low"] <= after["mean"]
    assert ("rougeL" in summary) == (kind == "t5")  # the texts that are gone on with have no answer
    assert (path / "curves.png").stat().st_size > 5_000 and len(ppo.told(summary)) >= 8


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_tables_are_of_the_same_prompts_and_the_same_draws_at_every_stage(whole, kind):
    path, summary, _ = whole[kind]
    rows = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["stage"]) for row in rows[::2]] == [(0, "before"), (3, "during"), (6, "after")]
    assert len({row["prompt"] for row in rows}) == 2
    for row in rows:
        assert {"reward", "reward_score", "reward_relevance", "reward_factuality", "length", "repetition", "kl", "ended"} <= set(
            row
        )
        assert len(row["tokens"]) == len(row["log_ratio"]) == row["length"]
        assert row["kl"] == pytest.approx(sum(row["log_ratio"]), abs=1e-3)  # rounded to four places each


def stopping(step):
    def progress(what, done, total):
        if total == 6 and done == step and "measuring" not in what:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    "kind, step",
    [("t5", 3), pytest.param("gpt2", 4, marks=pytest.mark.slow), pytest.param("t5", 6, marks=pytest.mark.slow)],
)
def test_a_run_stopped_between_two_steps_goes_on_to_the_same_numbers(tmp_path, shop, whole, kind, step):
    with pytest.raises(KeyboardInterrupt):
        run("ppo", tmp_path, shop[kind], progress=stopping(step))
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == step and not (tmp_path / "summary.json").exists()
    summary, rows = run("ppo", tmp_path, shop[kind], resume=True)
    path, same, expected = whole[kind]
    assert rows == expected
    assert {name: value for name, value in summary.items() if name not in ODD} == {k: v for k, v in same.items() if k not in ODD}
    assert (tmp_path / "samples.jsonl").read_text() == (path / "samples.jsonl").read_text()
    values = (torch.load(place / "checkpoint/value.pt", weights_only=True) for place in (tmp_path, path))
    assert all(torch.equal(one, other) for one, other in zip(*(value.values() for value in values)))


@pytest.mark.slow
def test_one_killed_within_a_step_goes_on_from_the_last_checkpoint(tmp_path, shop, whole):
    from solutions.full import ppo as lesson

    class Killed(Exception):
        pass

    class Dying(lesson.PPOTrainer):
        seen = 0

        def update(self, experience):
            Dying.seen += 1
            if Dying.seen == 4:
                self.loop.update(
                    sum(parameter.sum() for parameter in self.loop.policy.parameters())
                )  # and the weights have moved
                raise Killed
            return super().update(experience)

    with pytest.raises(Killed):
        run("ppo", tmp_path, shop["t5"], PPOTrainer=Dying)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == 2
    assert run("ppo", tmp_path, shop["t5"], resume=True)[1] == whole["t5"][2]


@pytest.mark.slow
def test_ctrl_c_within_a_step_waits_for_its_end(tmp_path, shop, whole, monkeypatch):
    asked = []

    class Asked(ppo.Interrupts):
        def __init__(self):
            super().__init__()
            asked.append(self)

    class Slow(lessons_of(ppo).PPOTrainer):
        def update(self, experience):
            asked[0].asked = self.loop.moment.step == 2  # in the third step
            return super().update(experience)

    monkeypatch.setattr(ppo, "Interrupts", Asked)
    with pytest.raises(KeyboardInterrupt):
        run("ppo", tmp_path, shop["t5"], PPOTrainer=Slow)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == 3
    monkeypatch.undo()
    assert run("ppo", tmp_path, shop["t5"], resume=True)[1] == whole["t5"][2]


@pytest.mark.slow
def test_ctrl_c_while_it_measures_at_the_end_is_not_waited_for(tmp_path, shop, whole):
    """Nothing is learned any more: the first one ends it, and the measuring is done anew."""
    import signal

    def progress(what, done, total):
        if what == "measuring after":
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("ppo", tmp_path, shop["t5"], progress=progress)
    finally:
        signal.signal(signal.SIGINT, before)
    summary, rows = run("ppo", tmp_path, shop["t5"], resume=True)
    assert rows == whole["t5"][2] and summary["reward_after"] == whole["t5"][1]["reward_after"]


def test_a_second_interrupt_is_not_waited_for():
    import signal

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ppo.Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.asked
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_a_checkpoint(tmp_path, shop):
    with pytest.raises(NotFinite, match=r"step \d: .* is (nan|inf).* Stopped; checkpoint/ holds step \d"):
        run("ppo", tmp_path, shop["t5"] | {"learning_rate": 1e30, "clip_norm": 0.0})
    moment, _ = checkpoint.load(tmp_path / "checkpoint")
    assert [row["step"] for row in RunFolder(tmp_path).metrics()] == list(range(1, moment.step + 1)) or moment.step == 0


def test_rates_that_are_relative_are_in_units_of_each_tensors_size(shop):
    from full.given import models
    from solutions.full import ppo as lesson

    one, other = (models.load_policy(shop["t5"]["model"], kinds=("encoder-decoder",))[0] for _ in range(2))
    policy, value = lesson.T5Policy(one), lesson.T5Value(other)
    config = ppo.Config(relative=True, value_rate=3.0)
    groups = ppo.parameter_groups(policy, value, config)
    scales = {id(p): group["scale"] for group in groups for p in group["params"]}
    assert len(scales) == sum(len(group["params"]) for group in groups)  # each tensor once
    for part, rate in ((policy, 1.0), (value.trunk, 3.0)):
        for p in part.parameters():
            assert scales[id(p)] == pytest.approx(rate * float(p.detach().pow(2).mean().sqrt()))
    assert scales[id(value.head.weight)] == pytest.approx(3.0 * value.head.in_features**-0.5)  # all 0 at first
    plain = ppo.parameter_groups(policy, lesson.Value(policy), ppo.Config(value_rate=3.0))
    assert [(len(group["params"]), group["scale"]) for group in plain] == [(len(list(policy.parameters())), 1.0), (2, 3.0)]


def test_the_policy_waits_while_the_values_are_warmed_up(tmp_path, shop):
    from safetensors.torch import load_file

    run("ppo", tmp_path, shop["t5"] | {"steps": 2, "value_warmup": 2, "save_every": 1})
    (saved,) = (tmp_path / "checkpoint").rglob("model.safetensors")
    start, now = load_file(Path(shop["t5"]["model"]) / "model.safetensors"), load_file(saved)
    assert all(torch.equal(start[name], now[name]) for name in now)
    value = torch.load(next((tmp_path / "checkpoint").rglob("value.pt")), weights_only=True)
    assert value["head.weight"].abs().max() > 0  # where it began


@pytest.mark.slow
def test_mixed_precision_runs(tmp_path, shop):
    """Every layer learns, and the scores follow the weights: a cast that is kept from the first step would hinder both."""
    from safetensors.torch import load_file

    own, spread = [], []
    from solutions.full import ppo as lesson

    class Watched(lesson.PPOTrainer):
        def update(self, experience):
            figures = super().update(experience)
            written = experience.rollout
            with torch.no_grad():
                now = lesson.score(self.policy, None, written, self.config.temperature, written.support)[0]
                with torch.autocast("cpu", enabled=False):
                    plain = lesson.score(self.policy, None, written, self.config.temperature, written.support)[0]
            own.append((now - experience.log_probs).abs().max())
            spread.append((now - plain).abs().max())
            return figures

    _, rows = run("ppo", tmp_path, shop["t5"] | {"precision": "bf16", "steps": 2, "save_every": 1}, PPOTrainer=Watched)
    assert len(rows) == 2 and all(math.isfinite(row["loss"]) for row in rows)
    start = load_file(Path(shop["t5"]["model"]) / "model.safetensors")
    now = load_file(next((tmp_path / "checkpoint").rglob("model.safetensors")))
    assert not [name for name in start if torch.equal(start[name], now[name])]
    # bfloat16 has 8 bits: logits of size 1 to 10 are off by some hundredths; the steps move log-probabilities by far more
    assert min(own) > 3 * max(spread)


def test_a_report_shows_each_reward_apart(whole):
    from autograder.reports import run_report
    from autograder.reports.run_report_curves import measures
    from autograder.reports.run_report_data import find_runs, read_runs

    runs = read_runs(find_runs([str(whole["t5"][0])], None))
    names = [measure.name for measure in measures(runs)]
    assert names[:4] == ["reward", "reward_score", "reward_relevance", "reward_factuality"] and "approx_kl" in names
    labels = [row["label"] for row in run_report.finals(runs)]
    assert labels[:4] == ["Reward before", "Reward after", "Reward: score before", "Reward: score"]
    page = run_report.page(runs, "a run")
    for word in ("Reward: factuality", "reward: relevance", "Variance explained by the values", "Ratio of new to old policy"):
        assert word in page, word


# Rewards


def test_a_model_reads_texts_with_a_tokenizer_of_its_own(tmp_path, shop):
    """The same score whatever the policy's tokens are: the text is what is scored, to the classifier's own tokens."""
    words = list(reversed(tiny_models.WORDS))
    other = shop["t5"] | {"model": tiny_models.t5(tmp_path / "t5", words=words), "steps": 1}
    _, _ = run("ppo", tmp_path / "run", other)
    rows = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    place = rewards.named(shop["t5"]["rewards"])["score"]
    own = rewards.ModelReward(place, {}, "cpu")
    targets = {row["source"]: row["target"] for row in map(json.loads, Path(other["data"]).read_text().splitlines())}
    for row in rows:
        answer, target = own.scores([row["prompt"]] * 2, [row["completion"], targets[row["prompt"]]])
        assert row["reward_score"] == pytest.approx(answer - target, abs=1e-3)  # told as the difference, rounded to four places


def test_padding_does_not_change_a_score(shop):
    scorer = rewards.ModelReward(rewards.named(shop["t5"]["rewards"])["score"], {}, "cpu")
    prompts, answers = ["the film", "a very very very good plot and"], ["was good", "it was dull . the music was great"]
    together = scorer.scores(prompts, answers)
    apart = [scorer.scores([prompt], [answer])[0] for prompt, answer in zip(prompts, answers)]
    assert together == pytest.approx(apart, abs=1e-5)  # float32


def test_rules_pay_at_the_end_of_each_sentence():
    text = "The music was good. The music was good. A plot!"
    (novelty,) = rewards.RULES["novelty"]({})(["the music"], [text])
    assert novelty == [(19, 0.0), (39, -1.0), (47, 0.0)]  # the second says all of it again
    (support,) = rewards.RULES["support"]({})(["the music of a film"], [text])
    assert support == [(19, -0.5), (39, -0.5), (47, -1.0)]  # music is there; good and plot are not
    assert rewards.RULES["novelty"]({})(["x"], [""]) == [[]]
    assert rewards.RULES["rouge"]({"x": "a b c d"})(["x"], ["a b"]) == [pytest.approx(2 / 3)]  # precision 1, recall 1/2


def test_exact_rules_of_the_question_world():
    from full.given.questions import world

    question = world().draw(1, 3)[0]
    own, answer = rewards.WORLD_RULES["questions"], question.answer
    whole = own["completeness"]({})([question.source] * 2, [answer, answer.split(". ")[0] + "."])
    assert whole[0] == 1 and whole[1] == pytest.approx(1 / len(question.facts))
    spans = own["relevance"]({})([question.source], [answer + " " + answer.split(". ")[0] + "."])[0]
    assert [value for _, value in spans] == [0.5] * len(question.facts) + [-1.0]  # said again
    spans = own["factuality"]({})([question.source], [answer + " It sells tea far and wide."])[0]
    assert [value for _, value in spans] == [0.0] * len(question.facts) + [-1.0]  # the context does not hold it


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"weights": "score=1,relevance=1"},
            "weights=.*: expected one for each of score, relevance, factuality, received score, relevance",
        ),
        ({"weights": "much"}, "expected a number, or NAME=NUMBER with commas, received 'much'"),
        ({"rewards": "completeness", "weights": "1"}, "no rule is called completeness; there are rouge, support, novelty"),
        ({"rewards": "a=novelty,a=support", "weights": "1"}, "expected each name once, received a twice"),
        ({"rewards": "a=nowhere/at/all", "weights": "1"}, "rewards=nowhere/at/all: there is no such directory"),
        ({"batch_size": 100}, "fewer than batch_size=100; lower batch_size"),
        ({"rewards": "length=novelty", "weights": "1"}, "rewards=length=novelty: .* received length"),
        ({"data": "nowhere.json"}, "there is no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, shop, change, message):
    with pytest.raises(InputProblem, match=message):
        run("ppo", tmp_path / "run", shop["t5"] | change)
    assert not (tmp_path / "run/metrics.jsonl").exists() or not RunFolder(tmp_path / "run").metrics()


def test_a_price_that_is_steered_has_to_be_one():
    with pytest.raises(ValueError, match="kl_coef: expected a positive price where target_kl=6 steers it, received 0"):
        ppo.Config(kl_coef=0.0, target_kl=6.0)
    with pytest.raises(ValueError, match="horizon: expected more than a fifth of batch_size=64, received 10"):
        ppo.Config(target_kl=6.0, horizon=10.0, batch_size=64)


def test_beginnings_and_what_is_written_have_to_fit_into_the_model(tmp_path, shop):
    with pytest.raises(InputProblem, match="prompt_tokens=4 and new_tokens=5000: together more than the .* tokens that model="):
        run("ppo", tmp_path / "run", shop["gpt2"] | {"new_tokens": 5000})


def test_a_classifier_of_two_labels_reads_what_its_tokenizer_makes(tmp_path):
    """With the marks that it was trained with, as lesson 8's reward reads it; a verdict may stand at the first of them."""
    from tokenizers.processors import TemplateProcessing

    from full.given import models

    place = tiny_models.classifier(tmp_path / "sentiment")
    tokenizer = models.load_tokenizer(place, field="model")
    mark = tokenizer.convert_tokens_to_ids(tiny_models.WORDS[0])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="M $A", special_tokens=[("M", mark)])
    tokenizer.save_pretrained(place)
    scorer = rewards.ModelReward(place, {}, "cpu", start=True)
    prompts, answers = ["the film", "a very"], [" was good", " dull plot"]
    expected = models.positive_probability(scorer.model, scorer.tokenizer, [p + a for p, a in zip(prompts, answers)])
    assert scorer.scores(prompts, answers) == pytest.approx(expected.tolist(), abs=1e-6)  # float32
    assert all(row[0] == mark for row in scorer.rows(prompts, answers)[0])
    (short, long), cut = scorer.rows(["the film", "a very " * 60], answers)
    assert cut == 1 and len(long) == scorer.longest and long[0] == mark and len(short) < len(long)


@pytest.mark.slow
def test_a_language_model_is_no_reward(tmp_path, shop):
    with pytest.raises(InputProblem, match="has no trained head for scores .* `climb run reward-model` makes one"):
        run("ppo", tmp_path / "run", shop["t5"] | {"rewards": f"a={shop['gpt2']['model']}", "weights": "1"})


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(tmp_path, shop):
    heard, at = [], []

    def progress(what, done, total):
        at.append(len(heard))

    progress.say = heard.append
    summary, _ = run("ppo", tmp_path, shop["t5"] | {"max_source": 4, "steps": 1}, progress=progress)
    assert heard == summary["notes"] and at[-1] == len(heard) > at[0]  # after the first measurement, and before the first step
    assert any("texts were longer than 4 tokens and lost their end" in note for note in summary["notes"])


# Names that two lessons share


def test_a_run_goes_before_a_lesson_of_the_same_name():
    def lesson(number, file, runs):
        names = {"title": "PPO", "minutes": 1, "summary": "", "needs": (), "exercise_needs": {}, "runs": runs}
        return courses.Lesson(number=number, slug="ppo", file=file, folder=ROOT / f"lessons/{number:02}-ppo", **names)

    toy, full = lesson(6, "toy/ppo.py", {"toy-ppo": "a"}), lesson(14, "full/ppo.py", {"ppo": "b"})
    both = courses.Course(ROOT, [toy, full])
    for word, found in (
        ("ppo", "b"),
        ("toy-ppo", "a"),
        ("toy_ppo", "a"),
        ("6", "a"),
        ("06-ppo", "a"),
        ("toy/ppo.py", "a"),
        ("14", "b"),
    ):
        assert run_called(word, both)[1] == found, word
    quiet = courses.Course(ROOT, [lesson(6, "toy/ppo.py", {"one": "a"}), lesson(14, "full/ppo.py", {"two": "b"})])
    with pytest.raises(Exception, match=r"`ppo` could be toy/ppo.py or full/ppo.py: write the one you mean"):
        run_called("ppo", quiet)


def test_presets_and_sentences():
    for name in ("reward_model", "sft", "ppo"):
        module = importlib.import_module(f"full.given.runs.{name}")
        for field in module.Config.__dataclass_fields__.values():
            assert field.metadata["help"].endswith("."), field.name
        for preset in module.PRESETS.values():
            module.Config(**preset)
    assert set(ppo.PRESETS) >= {"laptop", "tldr-laptop", "imdb", "asqa", "tldr"}
    assert (
        rewards.named(ppo.Config().rewards).keys()
        == rewards.weights_of(ppo.Config().weights, rewards.named(ppo.Config().rewards)).keys()
    )


@pytest.mark.slow
@pytest.mark.skipif(not ASQA.is_dir(), reason="the data folder is not here")
def test_real_questions_of_asqa_from_preferences_to_ppo(tmp_path, shop):
    """The three runs in a row, on real files, each with what the last one left."""
    small = {"rows": 40, "test_rows": 6, "validation_rows": 6, "device": "cpu"}
    gpt2 = tiny_models.classifier(tmp_path / "gpt2", labels=1, names=("score",))
    feedback = {
        "data": str(ASQA / "dev_feedback.json"),
        "model": gpt2,
        "fresh": True,
        "steps": 3,
        "rows": 40,
        "max_length": 48,
        "batch_size": 8,
    }
    run("reward_model", tmp_path / "reward", feedback | {"device": "cpu"})
    answers = {"data": str(ASQA / "dev.json"), "max_source": 48}
    sft = small | answers | {"model": shop["t5"]["model"], "max_target": 12, "eval_every": 2, "steps": 4, "batch_size": 8}
    run("sft", tmp_path / "sft", sft)
    paid = {"rewards": f"completeness={tmp_path}/reward/checkpoint,relevance=novelty,factuality=support", "weights": "0.3"}
    more = {
        "model": str(tmp_path / "sft/checkpoint"),
        "steps": 2,
        "new_tokens": 12,
        "batch_size": 8,
        "minibatch_size": 4,
        "samples": 2,
    }
    summary, rows = run("ppo", tmp_path / "ppo", small | answers | paid | more)
    assert len(rows) == 2 and summary["test_rows"] == 6 and "rougeL" in summary
    assert any("lost their end" in note for note in summary["notes"]) and any("were cut" in note for note in summary["notes"])
