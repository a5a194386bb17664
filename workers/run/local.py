"""Workers that are threads of this process."""

from collections.abc import Callable, Sequence
from typing import Any

from workers.errors import StreamError, WorkerError
from workers.process import LOADING
from workers.run.worker import Results
from workers.stages import Stage


class LocalWorker:
    """A stage in this process, run by the thread that calls; see ``workers.run.worker.Worker``.

    Stages are made one after another, in the order in which they are started.

    Args:
        name: of the worker.
        make: makes its stage.
        slots: requests that the stage answers at the same time.
    """

    def __init__(self, name: str, make: Callable[[], Stage], *, slots: int = 1) -> None:
        self.name = name
        self.slots = slots
        self._make = make
        self._stage: Stage | None = None

    def start(self) -> None:
        """Make the stage, which loads its model."""
        with LOADING:
            if self._stage is None:
                self._stage = self._make()

    def call(self, request: Any, inputs: Sequence[Any]) -> Results:
        """Run the stage; a handle is the output itself."""
        if self._stage is None:
            raise RuntimeError(f"{self.name} has not been started")
        try:
            yield from self._stage.run(request, *inputs)
        except (StreamError, MemoryError):
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            raise WorkerError(f"a worker failed: {type(error).__name__}: {text}") from error

    def replace(self) -> None:
        """Never needed: a thread does not die by itself."""
        raise WorkerError(f"{self.name} cannot be replaced in this process")

    def stop(self) -> None:
        """Drop the stage and its model."""
        self._stage = None
