import math
import multiprocessing
import os
import signal
import time

import pytest

from streaming.bench.child import Child, ChildEndedError
from workers.errors import ContextError, WorkerError


class Counter:
    """Lives in a child."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, number: int) -> int:
        self.number += number
        return self.number

    def pid(self) -> int:
        return os.getpid()

    def refuse(self) -> None:
        raise ContextError("too long")

    def run_out(self) -> None:
        raise RuntimeError("not enough\nmemory: you tried to allocate 8 EB")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def sleep(self) -> None:
        time.sleep(600)

    def close(self) -> None:
        pass


class Slow:
    """Takes long to be made."""

    def __init__(self) -> None:
        time.sleep(600)


class Refused:
    """Cannot be made."""

    def __init__(self) -> None:
        raise ContextError("no room at all")


@pytest.fixture
def child():
    made = Child(Counter)
    yield made
    made.close()


def test_it_keeps_an_object_in_a_process_of_its_own(child: Child) -> None:
    assert child.start_seconds > 0
    assert child.call("pid") != os.getpid()
    assert [child.call("add", 2), child.call("add", 3)] == [2, 5]


def test_an_error_on_purpose_comes_through_and_the_object_stays(child: Child) -> None:
    child.call("add", 1)
    with pytest.raises(ContextError, match=r"^too long$"):
        child.call("refuse")
    with pytest.raises(WorkerError, match=r"^not enough memory: you tried"):
        child.call("run_out")
    assert child.call("add", 1) == 2


def test_a_death_is_told_and_stays(child: Child) -> None:
    for _ in range(2):
        with pytest.raises(ChildEndedError, match="out of memory, as far as can be told"):
            child.call("die")


def test_a_deadline_ends_it(child: Child) -> None:
    with pytest.raises(ChildEndedError, match=r"took more than 0\.5 s"):
        child.call("sleep", deadline=0.5)
    child.close()
    child.close()


@pytest.mark.parametrize("deadline", [None, 1e7, math.inf])
def test_a_deadline_that_nobody_lives_to_see_is_none(child: Child, deadline: float | None) -> None:
    assert child.call("add", 2, deadline=deadline) == 2


def test_what_cannot_be_made_says_why() -> None:
    with pytest.raises(ContextError, match="no room at all"):
        Child(Refused)


def test_an_interrupt_while_it_is_made_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Child, deadline: float | None) -> None:
        raise KeyboardInterrupt("while it starts")

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(Child, "_receive", interrupt)
    with pytest.raises(KeyboardInterrupt, match="while it starts"):
        Child(Slow)
    assert set(multiprocessing.active_children()) <= before
