"""Which worker does what next, for any number of callers at a time.

Every worker has a thread in the driver for each request that it may hold; the thread takes the next
unit from the queue of its kind, runs it and hands the results to the job they belong to. Jobs take
turns, and nothing that a worker does depends on what it did before.

Bounds: a worker holds ``slots`` requests; of chunks that are read and not yet encoded there are at
most ``CHUNKS_PER_ENCODER`` for each encoder, and one more in each decoder's hands (on Ray a decoder
runs ``CHUNKS_AHEAD`` further ahead). How many clips are in flight is up to those who ask.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from workers.errors import StreamError, WorkerError
from workers.messages import Note
from workers.run.clip_job import ClipJob
from workers.run.job import Job, KindAndUnit
from workers.run.meter import Meter, NoMeter, readings
from workers.run.queue import Unit, UnitQueue
from workers.run.worker import InputLostError, Worker, WorkerDiedError

CHUNKS_PER_ENCODER = 2
"""Chunks held for each encoder: one it works on and one that waits."""
_MAX_DEATHS_AT_START = 30
"""Deaths of a worker before it is ready, in a row, after which all is given up."""
_MAX_DEATHS_IN_A_ROW = 300
"""Deaths of one kind of worker without any result between them, after which all is given up.

What kills workers is given up long before (`ClipJob`, `CallJob`): a data set may have some
seventy files in a row that kill whoever opens them.
"""


@dataclass(slots=True, kw_only=True, eq=False)
class _Post:
    """One worker: what it is at, and how often it has been replaced."""

    kind: str
    worker: Worker
    running: list[Unit] = field(default_factory=list)
    replaced: int = 0


class Schedule:
    """Workers that take turns at the units of all jobs.

    Args:
        workers: by kind: ``decoder``, ``encoder`` and ``llm``, at least one of each that is used.
        close: called at the end, when all workers have stopped.
        meter: told what the workers do.
    """

    def __init__(
        self,
        workers: Mapping[str, Sequence[Worker]],
        close: Callable[[], None] = lambda: None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or NoMeter()
        self._posts = [_Post(kind=k, worker=w) for k, group in workers.items() for w in group]
        self._num = {kind: len(group) for kind, group in workers.items()}
        self._queues = {kind: UnitQueue() for kind in workers}
        self._close = close
        self._turn = threading.Condition()
        self._closed = False
        self.failure: StreamError | None = None
        """Why there is nothing to be done any more."""
        self._jobs: set[Job] = set()
        self._deaths: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self.peak_memory_bytes: dict[str, int] = {}
        """Of every worker, by name."""
        self.cpu_seconds: dict[str, float] = {}
        """Of every worker's process so far, by name."""

    def start(self) -> None:
        """Start all workers; returns before they are ready."""
        for post in self._posts:
            for slot in range(post.worker.slots):
                name = f"{post.worker.name}/{slot}"
                thread = threading.Thread(target=self._serve, args=(post,), name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        """Stop all workers; whoever still waits gets a WorkerError. May be called twice."""
        with self._turn:
            self._closed = True
            for job in list(self._jobs):
                self._end(job, WorkerError("the engine was closed"))
            self._turn.notify_all()
        for post in self._posts:
            post.worker.stop()
        for thread in self._threads:
            thread.join(timeout=10)
        self._close()

    def listen(
        self, job: Job, units: list[KindAndUnit], check: Callable[[], object] | None = None
    ) -> Generator[Any, None, None]:
        """Queue the first units of a job, and return its events; closing them ends the job.

        Args:
            job: what is done.
            units: its first.
            check: see :meth:`workers.run.job.Job.events`.

        Raises:
            WorkerError: the engine is closed.
        """
        events = self._listen(job, units, check)
        next(events)  # queued, and to be closed from now on
        return events

    def _listen(
        self, job: Job, units: list[KindAndUnit], check: Callable[[], object] | None
    ) -> Generator[Any, None, None]:
        """Yield once when the units of a job are queued, then its events."""
        with self._turn:
            if self._closed:
                raise WorkerError("the engine was closed")
            self._jobs.add(job)
            if self.failure is not None:
                self._end(job, self.failure)
            self._push(units)
        try:
            yield None
            yield from job.events(check)
        finally:
            with self._turn:
                self._end(job)

    def _push(self, units: list[KindAndUnit], *, first: bool = False) -> None:
        for kind, unit in reversed(units) if first else units:
            if not unit.job.ended:
                self._queues[kind].push(unit, first=first)
                self._meter.set("stream_queue_depth", len(self._queues[kind]), kind)
        self._turn.notify_all()

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        if error is not None and not job.ended:
            self._meter.add("stream_failures_total", 1, job.kind)
        job.end(error)
        self._jobs.discard(job)
        for kind, queue in self._queues.items():
            queue.drop(job)
            self._meter.set("stream_queue_depth", len(queue), kind)
        self._turn.notify_all()

    def _sweep(self, job: Job) -> None:
        """Forget a job that has come to its end."""
        if job.ended:
            self._end(job)

    def _serve(self, post: _Post) -> None:
        """Give a worker one unit after another."""
        while self._prepare(post) and (unit := self._take(post)) is not None:
            self._work(post, unit)

    def _prepare(self, post: _Post) -> bool:
        """Wait until a worker is ready; False where it will never be."""
        deaths = 0
        while not self._closed and self.failure is None:
            replaced = post.replaced
            try:
                post.worker.start()
                return True
            except WorkerDiedError as error:
                deaths += 1
                if deaths > _MAX_DEATHS_AT_START:
                    text = f"{post.worker.name} died {deaths} times before it was ready ({error})"
                    self._fail(WorkerError(text))
                else:
                    self._replace(post, replaced, error)
            except Exception as error:
                text = f"{post.worker.name} could not start: {_one_line(error)}"
                self._fail(error if isinstance(error, StreamError) else WorkerError(text))
        return False

    def _take(self, post: _Post) -> Unit | None:
        with self._turn:
            while not self._closed and self.failure is None:
                alone = any(unit.deaths for unit in post.running)
                if not alone:
                    unit = self._queues[post.kind].take(post.worker.name, post.running)
                    if unit is not None:
                        if unit.job.ended:
                            continue
                        post.running.append(unit)
                        depth = len(self._queues[post.kind])
                        self._meter.set("stream_queue_depth", depth, post.kind)
                        return unit
                self._turn.wait()
        return None

    def _work(self, post: _Post, unit: Unit) -> None:
        """Run a unit; whatever becomes of it, the thread goes on and the job hears of it."""
        try:
            self._run(post, unit)
        except Exception as error:
            expected = isinstance(error, StreamError | MemoryError | InputLostError)
            text = f"{post.worker.name} failed: {type(error).__name__}: {_one_line(error)}"
            with self._turn:
                self._end(unit.job, error if expected else WorkerError(text))
        finally:
            with self._turn:
                post.running.remove(unit)
                self._turn.notify_all()

    def _run(self, post: _Post, unit: Unit) -> None:
        replaced = post.replaced
        try:
            with closing(post.worker.call(unit.request, unit.inputs)) as results:
                for handle, note in results:
                    if not self._receive(post, unit, handle, note):
                        return
            self._finish(unit)
        except WorkerDiedError as error:
            self._replace(post, replaced, error)
            self._died(unit, error)
        except InputLostError:
            with self._turn:
                again = unit.job.after_loss(unit)
                if not again:
                    raise
                self._push(again, first=True)

    def _receive(self, post: _Post, unit: Unit, handle: Any, note: Note) -> bool:
        """Hand a result to its job; False where nobody wants more of them."""
        with self._turn:
            self._deaths[post.kind] = 0
            name = post.worker.name
            peak = max(note.peak_memory_bytes, self.peak_memory_bytes.get(name, 0))
            self.peak_memory_bytes[name] = peak
            self.cpu_seconds[name] = note.cpu_seconds
            for reading in readings(unit, note):
                self._meter.add(*reading)
            if not unit.job.ended:
                self._push(unit.job.receive(unit, handle, note))
            self._sweep(unit.job)
            if isinstance(unit.job, ClipJob) and post.kind == "decoder":
                self._turn.wait_for(lambda: unit.job.ended or self._has_room())
            return unit.done or not (unit.job.ended or self._closed)

    def _has_room(self) -> bool:
        running = sum(len(post.running) for post in self._posts if post.kind == "encoder")
        held = len(self._queues["encoder"]) + running
        return held < CHUNKS_PER_ENCODER * self._num["encoder"] or self._closed

    def _finish(self, unit: Unit) -> None:
        with self._turn:
            unit.job.finish(unit)
            self._sweep(unit.job)

    def _died(self, unit: Unit, error: WorkerDiedError) -> None:
        if unit.done:
            self._finish(unit)
            return
        with self._turn:
            if unit.job.ended:
                return
            try:
                self._push(unit.job.after_death(unit, error), first=True)
            except WorkerError as given_up:
                self._end(unit.job, given_up)
            self._sweep(unit.job)

    def _replace(self, post: _Post, replaced: int, error: WorkerDiedError) -> None:
        """Put a fresh worker in the place of one that died, once for all its slots."""
        with self._turn:
            if self._closed or post.replaced != replaced:
                return
            post.replaced += 1
            self._meter.add("stream_retries_total", 1, post.kind)
            self._deaths[post.kind] += 1
            if self._deaths[post.kind] > _MAX_DEATHS_IN_A_ROW:
                text = f"{self._deaths[post.kind]} {post.kind}s died in a row without a result"
                self._fail(WorkerError(f"{text} ({error})"))
                return
            self._queues[post.kind].release(post.worker.name)
            post.worker.replace()

    def _fail(self, error: StreamError) -> None:
        """End every job there is and will be."""
        with self._turn:
            self.failure = self.failure or error
            for job in list(self._jobs):
                self._end(job, error)
            self._turn.notify_all()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
