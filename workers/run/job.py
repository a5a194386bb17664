"""What is going on for one caller: a clip on its way through the workers, or one call.

A job turns results into the next units and into events for the caller who waits. Its methods are
called by the engine, one at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from workers.messages import Note
from workers.run.queue import Unit
from workers.run.worker import WorkerDiedError

MAX_DEATHS = 4
"""Deaths of workers on one frame, or on one call, after which it is given up.

Not all are its fault, where machines are short of memory or someone kills: with three, one innocent
frame was given up in a hundred random kills (measured). The last two are on the frame alone.
"""
_END = object()
_LOOK_SECONDS = 0.25
"""How often a caller who waits is asked whether it still does."""

KindAndUnit = tuple[str, Unit]
"""The kind of worker that is to do it, and what."""


class Job:
    """What the engine knows of any job: events for the caller, and whether it has ended."""

    kind = "clip"
    """What it is: a clip, or the kind of worker that is called."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Any] = SimpleQueue()
        self.ended = False
        self.seconds: Counter[str] = Counter()

    def events(self, check: Callable[[], object] | None = None) -> Iterator[Any]:
        """Yield what happens, for the caller, until the job ends; raises what ended it.

        Args:
            check: called now and then while nothing happens; raises to wait no longer.
        """
        while True:
            try:
                event = self._events.get(timeout=None if check is None else _LOOK_SECONDS)
            except Empty:
                if check is not None:
                    check()
                continue
            if event is _END:
                return
            if isinstance(event, BaseException):
                raise event
            yield event

    def tell(self, event: Any) -> None:
        """Put an event for the caller."""
        self._events.put(event)

    def end(self, error: BaseException | None = None) -> None:
        """End the job; what still runs for it is stopped at its next result."""
        if not self.ended:
            self.ended = True
            self._events.put(_END if error is None else error)

    def receive(self, unit: Unit, handle: Any, note: Note) -> list[KindAndUnit]:
        """Take a result; return what is to be done next, as (kind of worker, unit)."""
        raise NotImplementedError

    def finish(self, unit: Unit) -> None:
        """Hear that a unit has yielded all its results."""

    def after_death(self, unit: Unit, error: WorkerDiedError) -> list[KindAndUnit]:
        """Return what is to be done in place of a unit whose worker died.

        Raises:
            WorkerError: the job is given up, which has killed too often.
        """
        raise NotImplementedError

    def after_loss(self, unit: Unit) -> list[KindAndUnit]:
        """Return what is to be done in place of a unit that lost an input, [] to end the job."""
        return []
