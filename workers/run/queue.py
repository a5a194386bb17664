"""What is waiting to be done, and by which rule it is handed out."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.run.job import Job


@dataclass(slots=True, kw_only=True, eq=False)
class Company:
    """Units that one worker does best, and at the same time, as they share what it then holds.

    ``worker`` names the one that took the first of them, None while there is none.
    """

    worker: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Unit:
    """What one worker does in one go.

    ``frames`` is the segment or part of one that the work covers, where it is about frames;
    ``deaths`` how many workers died on it: from the first on it is a suspect, and runs alone.
    ``company`` are the units that it goes with: no worker does units of two at the same time, None
    being one. ``done`` is set with its last result: a worker may die between that and the end of
    its stream.
    """

    job: Job
    request: Any
    inputs: tuple[Any, ...] = ()
    frames: Any = None
    deaths: int = 0
    company: Company | None = None
    done: bool = False

    @property
    def worker(self) -> str | None:
        """The one worker that may take it, None for all."""
        return None if self.company is None else self.company.worker

    def again(self, **changes: Any) -> Unit:
        """Return a copy with these changes."""
        return replace(self, **changes)


class UnitQueue:
    """Units of one kind of worker; jobs take turns, the units of a job keep their order."""

    def __init__(self) -> None:
        self._units: OrderedDict[Job, deque[Unit]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._units.values()))

    def push(self, unit: Unit, *, first: bool = False) -> None:
        """Add a unit at the end of its job's, or ahead of them."""
        units = self._units.setdefault(unit.job, deque())
        if first:
            units.appendleft(unit)
        else:
            units.append(unit)

    def take(self, worker: str, running: Sequence[Unit]) -> Unit | None:
        """Hand a worker its next unit beside those it is at, None if it has to wait.

        A suspect goes to an idle worker only, and so does what is of other company than the units
        that are running. Its turn is kept: nobody takes what comes after it, so that some worker
        becomes idle.
        """
        for job, units in self._units.items():
            unit = units[0]
            if unit.worker not in (None, worker):
                continue
            if running and (unit.deaths or unit.company is not running[0].company):
                return None
            units.popleft()
            if units:
                self._units.move_to_end(job)
            else:
                del self._units[job]
            if unit.company is not None:
                unit.company.worker = worker
            return unit
        return None

    def drop(self, job: Job) -> None:
        """Forget all units of a job."""
        self._units.pop(job, None)

    def release(self, worker: str) -> None:
        """Let any worker take what waits for this one."""
        for units in self._units.values():
            for unit in units:
                if unit.company is not None and unit.company.worker == worker:
                    unit.company.worker = None
