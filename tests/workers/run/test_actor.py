"""The shape in which an actor offers a stage, without an actor."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from workers.messages import Note
from workers.run.actor import StageActor
from workers.run.worker import WorkerMemoryError

GIB = 2**30


class Glutton:
    """Answers once, then finds no memory."""

    def run(self, request: Any, *inputs: Any) -> Iterator[tuple[Any, Note]]:
        yield request, Note(news=inputs, seconds={}, peak_memory_bytes=1)
        raise MemoryError("none left")


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What this process would have been limited to."""
    asked: list[int] = []
    monkeypatch.setattr("workers.run.actor.limit_memory", asked.append)
    return asked


def test_output_and_note_come_in_turn_before_what_went_wrong(limits: list[int]) -> None:
    results = StageActor(Glutton).run("request", 1, 2)
    assert next(results) == "request"
    assert next(results).news == (1, 2)
    with pytest.raises(MemoryError, match=r"^none left$"):
        next(results)
    assert limits == []


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_note_tells_the_time_in_the_stage_and_not_that_of_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("workers.run.actor.time", clock)

    class Worker:
        def run(self, request: Any, *inputs: Any) -> Iterator[tuple[Any, Note]]:
            for seconds in (2.0, 3.0):
                clock.now += seconds
                yield request, Note(news=None, seconds={}, peak_memory_bytes=1)

    busy = []
    for number, result in enumerate(StageActor(Worker).run("request")):
        clock.now += 100.0
        busy += [result.busy_seconds] if number % 2 else []
    assert busy == [2.0, 3.0]


def test_memory_is_limited_once_and_its_lack_told_as_such(limits: list[int]) -> None:
    actor = StageActor(Glutton, GIB // 4)
    for _ in range(2):
        message = re.escape("it needed more than the 0.25 GiB it may have")
        with pytest.raises(WorkerMemoryError, match=f"^{message}$"):
            list(actor.run("request"))
    assert limits == [GIB // 4]
