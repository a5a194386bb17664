"""What the engine asks of a worker, wherever it runs."""

from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Protocol

from workers.messages import Note

CHUNKS_AHEAD = 2
"""Chunks by which a reading worker may be ahead of the one that the engine waits for."""


class WorkerDiedError(Exception):
    """The process of a worker is gone, or is of no more use; ``reason`` says in a word or two why.

    Its text is for errors, the reason for the warning about a frame that is given up.
    """

    reason: ClassVar[str] = "death"


class WorkerHungError(WorkerDiedError):
    """Nothing has been heard of a worker for too long."""

    reason = "deadline"


class WorkerMemoryError(WorkerDiedError):
    """A worker has needed more memory than it may have."""

    reason = "memory limit"


class InputLostError(Exception):
    """An output that a request was to work on can no longer be had, as its machine is gone."""


Results = Generator[tuple[Any, Note], None, None]
"""Handle on an output and its note, for each result."""


class Worker(Protocol):
    """One decoder, encoder or language model."""

    name: str
    slots: int
    """Requests that it is given at a time: one that it works on, and those that wait with it."""

    def start(self) -> None:
        """Return once the worker is ready; at once if it already is.

        Raises:
            WorkerDiedError: it died while it started.
            StreamError: it cannot start, and would not the next time.
        """

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        """Yield (handle on an output, note) for each result; closing the iterator stops the work.

        Args:
            request: for the worker's stage.
            inputs: handles on outputs of other calls.

        Raises:
            WorkerDiedError: whatever it was doing has no result.
            InputLostError: an input is gone.
            StreamError: what the stage raised, or WorkerError for an unforeseen exception.
        """

    def replace(self) -> None:
        """Put a fresh worker in the place of a dead one."""

    def stop(self) -> None:
        """End whatever it does; may be called at any time and twice."""
