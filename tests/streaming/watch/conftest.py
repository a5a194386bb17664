"""Fixtures for the tests of streams."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import WatchedClip
from streaming.watch.held import Held
from streaming.watch.live_clip import LiveClip
from streaming.watch.plan import LivePlan, plan_live
from streaming.watch.standing import StandingQuestion
from streaming.watch.watching import Watching
from workers.run.engine import Engine
from workers.video.live.address import parse_address
from workers.video.live.events import Gap
from workers.video.live.source import LiveSource, Patience


class Seen(NamedTuple):
    """What a stream was when it was asked."""

    media_seconds: float
    watched: WatchedClip
    held: Held


class Recorder:
    """Stands in for who asks: remembers what would be asked about."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.gaps: list[Gap] = []
        self.num_answers = 0

    def note(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def ask(
        self,
        watched: WatchedClip,
        held: Held,
        media_seconds: float,
        source: LiveSource | None = None,
    ) -> None:
        self.seen.append(Seen(media_seconds, watched, held))


@pytest.fixture(scope="session")
def options(checkpoint: Path) -> Options:
    values = {"model": str(checkpoint), "device": "cpu", "executor": "local", "budget": 128}
    return change(Options(), {**values, "max_new_tokens": 8}, source="the test")


@pytest.fixture(scope="session")
def engine(options: Options) -> Iterator[Engine]:
    with open_engine(options) as engine:
        yield engine


PlanMaker = Callable[..., LivePlan]
Follower = Callable[..., Recorder]


@pytest.fixture
def make_plan(options: Options) -> PlanMaker:
    """Plan a stream with a window of four frames, unless told otherwise."""

    def make(source: str, *, window: int = 4, **values: object) -> LivePlan:
        changed = change(options, values, source="the test")
        return plan_live(source, changed, [StandingQuestion(text="what?")], window=window)

    return make


@pytest.fixture
def follow(engine: Engine) -> Follower:
    """Watch a source to its end and return what would have been asked about."""

    def run(
        source: str,
        plan: LivePlan,
        *,
        every: float,
        speed: float = 0.0,
        patience: Patience | None = None,
        max_answers: int = 10**9,
    ) -> Recorder:
        recorder = Recorder()
        live = LiveSource(parse_address(source), fps=plan.fps, speed=speed, patience=patience)
        with live:
            Watching(live, LiveClip(engine, plan), {every: recorder}).run()
        return recorder

    return run


def check_bounds(plan: LivePlan, seen: Sequence[Seen]) -> None:
    """Check the caps that hold whatever comes."""
    for each in seen:
        assert each.held.num_tokens <= plan.max_held_tokens
        assert sum(len(frame.keep_indices) for frame in each.watched.visual.frames) <= plan.budget
