"""Runs a bench: every contestant at every number of frames, in turns, and what it came to."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from tqdm import tqdm

from streaming.bench.child import Child
from streaming.bench.concurrency import Load
from streaming.bench.contestants import Contestant
from streaming.bench.laboratory import Laboratory, PrunerTimes
from streaming.bench.point import Point
from streaming.bench.trial import Trial
from streaming.command import say
from streaming.evaluate.questions import Question, is_right
from streaming.options import Options
from workers.errors import StreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        clip: path of the clip.
        questions: the two that every trial asks.
        frame_counts: numbers of frames, ascending.
        repeats: trials of each contestant at each of them, in turns.
        point_seconds: once a contestant's trials at one of them come to that, it makes no more of
            them there; one trial that takes longer ends it, and it gets no larger one.
        known: clips with questions whose answers are known, for the accuracy.
        levels: numbers of clients that ask at once.
        loaded_frames: frames of the clip that they ask about.
        pruners: methods whose fast form is timed against the plain one.
    """

    clip: str
    questions: tuple[str, str]
    frame_counts: tuple[int, ...]
    repeats: int
    point_seconds: float
    known: tuple[tuple[Question, ...], ...] = ()
    levels: tuple[int, ...] = ()
    loaded_frames: int = 32
    pruners: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What has been measured so far."""

    peak_flops: float = 0.0
    points: list[Point] = field(default_factory=list)
    loads: list[tuple[str, Load]] = field(default_factory=list)
    pruners: list[PrunerTimes] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Entrant:
    """A contestant that has been started; out of it once it cannot go on."""

    contestant: Contestant
    child: Child
    out: str = ""


class Bench:
    """Runs a plan. Everything that has been measured is in ``outcome`` at any time.

    Args:
        plan: what is measured.
        options: of the run.
        contestants: who takes part, each in a process of its own that stays for the whole run.
        changed: called whenever there is more in the outcome.
    """

    def __init__(
        self,
        plan: Plan,
        options: Options,
        contestants: Sequence[Contestant],
        changed: Callable[[Outcome], None],
    ) -> None:
        self._plan = plan
        self._options = options
        self._contestants = contestants
        self._changed = changed
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Measure all of it.

        Raises:
            StreamError: a contestant cannot start, or not one trial could be made.
        """
        plan, outcome = self._plan, self.outcome
        steps = len(plan.frame_counts) * (plan.repeats + bool(plan.known)) + bool(plan.levels) + 2
        with ExitStack() as stack:
            bar = tqdm(total=steps * len(self._contestants), unit="trial", file=sys.stderr)
            stack.enter_context(bar)
            self._look_at_the_machine()
            entrants = [self._enter(contestant, stack, bar) for contestant in self._contestants]
            for entrant in entrants:  # the first of a kind pays for what is made once
                self._trial(entrant, plan.frame_counts[0])
                bar.update()
            for num_frames in plan.frame_counts:
                self._measure(entrants, num_frames, bar)
            for entrant in entrants:
                entrant.child.close()
            for contestant in self._contestants if plan.levels else ():
                bar.set_description(f"clients of {contestant.name}")
                self._load(contestant)
                bar.update()
        if not any(point.trials for point in outcome.points):
            raise StreamError(f"nothing could be measured: {outcome.points[0].error}")
        return outcome

    def _look_at_the_machine(self) -> None:
        plan, laboratory = self._plan, Child(partial(Laboratory, self._options))
        try:
            self.outcome.peak_flops = laboratory.call("peak_flops")
            if plan.pruners:
                arguments = (plan.pruners, plan.clip, plan.repeats)
                self.outcome.pruners += laboratory.call("time_pruners", *arguments)
        finally:
            laboratory.close()

    def _enter(self, contestant: Contestant, stack: ExitStack, bar: "tqdm[Any]") -> _Entrant:
        bar.set_description(f"starting {contestant.name}")
        child = Child(contestant.make)
        stack.callback(child.close)
        bar.update()
        return _Entrant(contestant=contestant, child=child)

    def _measure(self, entrants: Sequence[_Entrant], num_frames: int, bar: "tqdm[Any]") -> None:
        """Let all contestants take turns at one number of frames."""
        points = [self._point(entrant, num_frames) for entrant in entrants]
        spent = dict.fromkeys(range(len(entrants)), 0.0)
        bar.set_description(f"{num_frames} frames")
        for _ in range(self._plan.repeats):
            for place, (entrant, point) in enumerate(zip(entrants, points, strict=True)):
                if not entrant.out and spent[place] < self._plan.point_seconds:
                    trial = self._trial(entrant, num_frames)
                    point.trials += [trial] if trial is not None else []
                    spent[place] += trial.elapsed_seconds if trial is not None else 0.0
                bar.update()
        for entrant, point in zip(entrants, points, strict=True):
            point.error = entrant.out
            if self._plan.known:
                point.accuracy = self._accuracy(entrant, num_frames)
                bar.update()
        self.outcome.points += points
        self._changed(self.outcome)

    def _point(self, entrant: _Entrant, num_frames: int) -> Point:
        contestant, budget = entrant.contestant, self._options.budget.budget
        return Point(
            system=contestant.system,
            method=contestant.method,
            executor=contestant.executor,
            num_frames=num_frames,
            budget=budget,
            start_seconds=entrant.child.start_seconds,
            peak_flops=self.outcome.peak_flops,
        )

    def _trial(self, entrant: _Entrant, num_frames: int) -> Trial | None:
        plan = self._plan
        return cast(
            Trial | None, _call(entrant, plan, "trial", plan.clip, num_frames, plan.questions)
        )

    def _accuracy(self, entrant: _Entrant, num_frames: int) -> float | None:
        """Return the share of known questions that a contestant answers right."""
        right: list[bool] = []
        for group in self._plan.known:
            texts = [question.text for question in group]
            said = _call(entrant, self._plan, "answers", group[0].clip, num_frames, texts)
            if said is None:
                return None
            pairs = zip(said, group, strict=True)
            right += [
                is_right(answer, question.answers, question.tolerance) for answer, question in pairs
            ]
        return sum(right) / len(right)

    def _load(self, contestant: Contestant) -> None:
        """Let clients ask in a fresh process: their threads take memory, and some may be out."""
        plan = self._plan
        try:
            child = Child(contestant.make)
        except StreamError as error:  # what has been measured until here is worth more
            say(f"no clients could ask {contestant.name}: {error}")
            return
        entrant = _Entrant(contestant=contestant, child=child)
        try:
            for level in plan.levels:
                arguments = (plan.clip, plan.loaded_frames, plan.questions, (level,))
                loads = _call(entrant, plan, "load", *arguments) or ()
                self.outcome.loads += [(contestant.name, load) for load in loads]
        finally:
            child.close()
        self._changed(self.outcome)


def _call(entrant: _Entrant, plan: Plan, method: str, *arguments: Any) -> Any:
    """Return what a contestant's method returns; None once an error has put it out."""
    if entrant.out:
        return None
    try:
        return entrant.child.call(method, *arguments, deadline=plan.point_seconds)
    except StreamError as error:
        entrant.out = str(error)
        return None
