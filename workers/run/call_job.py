"""One call of a worker: whatever it yields goes to the caller."""

from typing import Any

from workers.errors import WorkerError
from workers.messages import Note
from workers.run.job import MAX_DEATHS, Job, KindAndUnit
from workers.run.queue import Unit
from workers.run.worker import WorkerDiedError


class CallJob(Job):
    """One unit whose results are the caller's events: (handle, note).

    Args:
        kind: of worker.
        what: is done, for errors.
        max_overruns: deaths after which it is given up if the last was for time or memory: then it
            is the unit's fault beyond doubt.
        num_heard: characters of the text that the caller has from an earlier call.
    """

    def __init__(
        self, kind: str, what: str, max_overruns: int = MAX_DEATHS, num_heard: int = 0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.what = what
        self._max_overruns = max_overruns
        self._seen, self._position = num_heard, 0

    def receive(self, unit: Unit, handle: Any, note: Note) -> list[KindAndUnit]:
        """Hand a result to the caller; of a text that is said again only what is new."""
        self.seconds.update(note.seconds)
        news = note.news
        if isinstance(news, str):
            fresh = news[max(0, self._seen - self._position) :]
            self._position += len(news)
            self._seen = max(self._seen, self._position)
            if fresh:
                self.tell((handle, fresh))
        else:
            unit.done = True
            self.tell((handle, news))
        return []

    def finish(self, unit: Unit) -> None:
        """End with the unit."""
        self.end()

    def after_death(self, unit: Unit, error: WorkerDiedError) -> list[KindAndUnit]:
        """Try again; an answer is said again from its beginning."""
        deaths, is_overrun = unit.deaths + 1, error.reason != WorkerDiedError.reason
        if deaths >= (self._max_overruns if is_overrun else MAX_DEATHS):
            raise WorkerError(f"{self.what} killed its worker {deaths} times ({error})")
        self._position = 0
        if unit.company is not None:
            unit.company.worker = None
        return [(self.kind, unit.again(deaths=deaths))]
