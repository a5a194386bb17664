"""The order of a bench, and what becomes of those who cannot go on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from streaming.bench import run as running
from streaming.bench.command import BASELINES
from streaming.bench.concurrency import Load
from streaming.bench.contestants import Contestant, contestants
from streaming.bench.run import Bench, Outcome, Plan
from streaming.bench.trial import Trial
from streaming.evaluate.questions import Question
from streaming.flags import change
from streaming.options import Options
from tests.streaming.bench.conftest import MakeTrial
from workers.errors import ContextError, StreamError, WorkerError


@dataclass
class FakeSystem:
    """Takes a tenth of a second a frame, up to so many frames."""

    name: str
    log: list[tuple[str, int]]
    make_trial: Callable[..., Trial]
    most: int = 1000

    def trial(self, clip: str, num_frames: int, questions: Any) -> Trial:
        self.log.append((self.name, num_frames))
        if num_frames > self.most:
            raise ContextError(f"no more than {self.most} frames")
        return self.make_trial(num_frames / 10, num_frames=num_frames)

    def answers(self, clip: str, num_frames: int, questions: list[str]) -> list[str]:
        return ["Red.", "blue"][: len(questions)]

    def load(self, clip: str, num_frames: int, questions: Any, levels: Any) -> list[Load]:
        return [
            Load(num_clients=n, num_questions=16, questions_per_second=1.0, seconds_p50=1.0,
                 seconds_p95=2.0) for n in levels
        ]  # fmt: skip

    def peak_flops(self) -> float:
        return 5e10

    def close(self) -> None:
        self.log.append((f"{self.name} closed", 0))


class FakeChild:
    """A child in this process."""

    start_seconds = 1.5

    def __init__(self, make: Callable[[], Any]) -> None:
        self.made = make()

    def call(self, method: str, *arguments: Any, deadline: float | None = None) -> Any:
        return getattr(self.made, method)(*arguments)

    def close(self) -> None:
        self.made.close()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, make_trial: MakeTrial) -> list[tuple[str, int]]:
    entries: list[tuple[str, int]] = []
    monkeypatch.setattr(running, "Child", FakeChild)
    laboratory = partial(FakeSystem, "laboratory", entries, make_trial)
    monkeypatch.setattr(running, "Laboratory", lambda options: laboratory())
    return entries


PLAN = Plan(
    clip="clip.mp4",
    questions=("a?", "b?"),
    frame_counts=(2, 4),
    repeats=2,
    point_seconds=100.0,
)


def bench(
    plan: Plan, log: list, make_trial: MakeTrial, seen: list[int] | None = None, **most: int
) -> Outcome:
    taking_part = [
        Contestant(
            system=name,
            method="m",
            executor="local",
            make=partial(FakeSystem, name, log, make_trial, number),
        )
        for name, number in most.items()
    ]
    changed = (seen if seen is not None else []).append
    return Bench(plan, Options(), taking_part, lambda outcome: changed(len(outcome.points))).run()


def test_contestants_take_turns(log: list, make_trial: MakeTrial) -> None:
    outcome = bench(PLAN, log, make_trial, a=1000, b=1000)
    turns = [entry for entry in log if "closed" not in entry[0]]
    warm_up = [("a", 2), ("b", 2)]
    assert turns == [*warm_up, *warm_up * 2, *[("a", 4), ("b", 4)] * 2]
    assert [(p.system, p.num_frames, len(p.trials)) for p in outcome.points] == [
        ("a", 2, 2), ("b", 2, 2), ("a", 4, 2), ("b", 4, 2)
    ]  # fmt: skip
    assert {name for name, _ in log[-2:]} == {"a closed", "b closed"}
    assert outcome.peak_flops == 5e10
    assert outcome.points[0].start_seconds == 1.5


def test_who_cannot_go_on_is_out_and_says_why(log: list, make_trial: MakeTrial) -> None:
    plan = replace(PLAN, frame_counts=(2, 4, 8))
    outcome = bench(plan, log, make_trial, a=1000, b=2)
    remarks = {(p.system, p.num_frames): p.remark for p in outcome.points}
    assert remarks["b", 2] == ""
    assert remarks["b", 4] == remarks["b", 8] == "no more than 2 frames"
    assert log.count(("b", 4)) == 1
    assert ("b", 8) not in log
    assert [len(p.trials) for p in outcome.points if p.system == "a"] == [2, 2, 2]


def test_a_point_gets_so_many_seconds(log: list, make_trial: MakeTrial) -> None:
    plan = replace(PLAN, repeats=5, point_seconds=0.7)  # trials take 0.2 and 0.4 s
    outcome = bench(plan, log, make_trial, a=1000)
    assert [len(point.trials) for point in outcome.points] == [4, 2]


def test_nothing_measured_is_a_failure(log: list, make_trial: MakeTrial) -> None:
    with pytest.raises(StreamError, match="nothing could be measured: no more than 1 frames"):
        bench(PLAN, log, make_trial, a=1)


def test_known_answers_give_an_accuracy(log: list, make_trial: MakeTrial) -> None:
    questions = tuple(
        Question(clip="known.mp4", text=text, answers=("red",), type="t", num_frames=None)
        for text in ("c?", "d?")
    )
    outcome = bench(replace(PLAN, known=(questions,)), log, make_trial, a=1000, b=2)
    assert [point.accuracy for point in outcome.points] == [0.5, 0.5, 0.5, None]


def test_clients_ask_a_fresh_process_also_of_who_is_out(log: list, make_trial: MakeTrial) -> None:
    outcome = bench(replace(PLAN, levels=(1, 4)), log, make_trial, a=1000, b=2)
    assert [(name, load.num_clients) for name, load in outcome.loads] == [
        (f"{name}, m, local", number) for name in "ab" for number in (1, 4)
    ]
    closed = [name for name, _ in log if name.endswith("closed")]
    assert closed.count("a closed") == closed.count("b closed") >= 2


def test_one_that_cannot_start_again_for_clients_leaves_all_else(
    log: list, make_trial: MakeTrial, capsys: pytest.CaptureFixture[str]
) -> None:
    made = iter([FakeSystem("a", log, make_trial)])

    def make_once() -> FakeSystem:
        for system in made:
            return system
        raise WorkerError("no port is free")

    taking_part = [
        Contestant(system="a", method="m", executor="local", make=make_once),
        Contestant(
            system="b", method="m", executor="local", make=partial(FakeSystem, "b", log, make_trial)
        ),
    ]
    plan = replace(PLAN, levels=(1,))
    outcome = Bench(plan, Options(), taking_part, lambda outcome: None).run()
    assert [len(point.trials) for point in outcome.points] == [2, 2, 2, 2]
    assert [name for name, _ in outcome.loads] == ["b, m, local"]
    assert "no clients could ask a, m, local: no port is free" in capsys.readouterr().err


def test_what_has_been_measured_is_told_point_by_point(log: list, make_trial: MakeTrial) -> None:
    seen: list[int] = []
    bench(PLAN, log, make_trial, seen, a=1000, b=1000)
    assert seen == [2, 4]


def test_one_that_cannot_start_ends_the_bench(log: list, make_trial: MakeTrial) -> None:
    def make() -> Any:
        raise WorkerError("no model")

    starting = Contestant(system="b", method="m", executor="local", make=make)
    first = Contestant(
        system="a", method="m", executor="local", make=partial(FakeSystem, "a", log, make_trial)
    )
    with pytest.raises(WorkerError, match="no model"):
        Bench(PLAN, Options(), [first, starting], lambda outcome: None).run()
    assert log[-1] == ("a closed", 0)


def test_methods_on_executors_then_baselines() -> None:
    options = change(Options(), {"budget": 100}, source="")
    taking_part = contestants(
        options,
        pruners=["mr_pruner", "none"],
        executors=["local", "ray"],
        baselines=BASELINES,
    )
    assert [contestant.name for contestant in taking_part] == [
        "mr-stream, mr_pruner, local",
        "mr-stream, none, local",
        "mr-stream, mr_pruner, ray",
        "mr-stream, none, ray",
        "fewer-frames, none, local",
        "transformers, none, local",
    ]
