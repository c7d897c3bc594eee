"""Ctrl-C while libraries load: some catch everything, and it must not be lost."""

import signal

import pytest

from autograder.interrupts import not_lost


@pytest.fixture(autouse=True)
def usual_handler():
    """What an interactive process has; a suite started in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def swallowing_import():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        return "loaded all the same"


def test_an_interrupt_that_a_library_swallows_arrives_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with not_lost():
            done.append(swallowing_import())
            done.append("the rest of the block")
    assert done == ["loaded all the same", "the rest of the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_nobody_swallows_ends_the_block_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with not_lost():
            signal.raise_signal(signal.SIGINT)
            done.append("never")
    assert not done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens_and_another_handler_stays():
    with not_lost():
        pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with not_lost():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
