"""Every attack of the catalogue against lesson 3, as whoever starts the tests: what must hold is in `target.Attack`."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import broken, comparison, escapes, exits, floods, forging, hunting, state, storage, target, tensors, trespass
from .world import assert_no_process_left

FAMILIES = (comparison, hunting, forging, exits, floods, storage, escapes, trespass, tensors, state, broken)
ATTACKS = [
    pytest.param(attack, id=f"{family.__name__.split('.')[-1]}-{attack.name}") for family in FAMILIES for attack in family.ATTACKS
]
AT_A_TIME = 4  # on two processors: most of them sleep or wait
HONEST = target.Attack("honest")
HONEST_FILE = HONEST.source()


@pytest.fixture(scope="module", autouse=True)
def an_earlier_submission(world, sandbox, oracle, checks):
    """What another submission holds is looked for in memory afterwards."""
    source = HONEST_FILE + f"\n# {world.other_text}\nKEPT = '{world.other_text}'\n"
    assert target.put(checks["Baseline.update"], source, oracle, sandbox).status == "passed"


def assert_harmless(text: str) -> None:
    """No message moves a terminal's cursor, turns the writing direction, or is long."""
    assert len(text) < 3000
    assert not [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]


@pytest.fixture(scope="module")
def outcomes(request, names, sandbox, servers, oracle, checks):
    """The verdicts on every attack that is to be tested, by name. They run side by side, as submissions of a class do."""
    attacks = [item.callspec.params["attack"] for item in request.session.items if item.function is test_attack]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {attack: pool.submit(run, attack, attack.source(names), sandbox, oracle, checks) for attack in attacks}


def run(attack, source, sandbox, oracle, checks):
    """The verdicts on the exercise attacked, on an honest one of its file, and on another if this whole file is hit."""
    verdict = target.put(target.bounded(checks[target.EXERCISE], attack), source, oracle, sandbox)
    exercise = target.HONEST[len(attack.name) % len(target.HONEST)]  # both have their turns
    if attack.allowed_others == ("passed",):
        return verdict, target.put(target.bounded(checks[exercise], HONEST), source, oracle, sandbox), None
    other = target.put(target.bounded(checks[exercise], attack), source, oracle, sandbox)
    return verdict, other, target.put(target.bounded(checks[exercise], HONEST), HONEST_FILE, oracle, sandbox)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(attack, outcomes, world):
    verdict, other, alive = outcomes[attack].result()
    for text in (verdict.message, verdict.printed, other.message, other.printed):
        assert "FOUND" not in text, text
        assert_harmless(text)
    assert verdict.status in attack.allowed, verdict
    assert attack.says in verdict.message
    assert other.status in attack.allowed_others, other
    assert alive is None or alive.status == "passed", alive
    world.assert_intact()  # if something is not, try this attack and its neighbours one at a time (pytest -k)


def test_no_process_is_left(outcomes, sandbox, servers):
    for future in outcomes.values():
        future.exception()
    assert_no_process_left(sandbox, servers)


def test_there_are_many():
    names = [param.id for param in ATTACKS]
    assert len(names) == len(set(names)) >= 50


def test_the_reference_passes(sandbox, oracle, checks):
    for check in checks.values():
        assert target.put(check, HONEST_FILE, oracle, sandbox).status == "passed"


def test_nothing_of_the_grader_was_changed(world):
    """Last of all: the sandbox's own code and the libraries' start-up files are what they were."""
    world.assert_course_intact()
