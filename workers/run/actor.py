"""A stage in the shape in which an actor offers it: a plain class, no Ray in sight."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from workers.messages import Note
from workers.process import limit_memory, prepare_process
from workers.run.worker import WorkerMemoryError
from workers.stages import Stage


class StageActor:
    """Runs one stage. Of each result the output comes first and then its note.

    Args:
        make: makes the stage.
        memory_bytes: what this process may hold of its own once the stage is made; None for any.
    """

    def __init__(self, make: Callable[[], Stage], memory_bytes: int | None = None) -> None:
        prepare_process()
        self._make = make
        self._memory_bytes = memory_bytes
        self._stage: Stage | None = None
        self._making = threading.Lock()

    def make(self) -> None:
        """Make the stage, if that has not been done; what fails here fails with its own error."""
        with self._making:
            if self._stage is None:
                self._stage = self._make()
                if self._memory_bytes is not None:
                    limit_memory(self._memory_bytes)

    def run(self, request: Any, *inputs: Any) -> Iterator[Any | Note]:
        """Yield output and note in turn.

        Raises:
            WorkerMemoryError: it takes more than ``memory_bytes``. This process is to be replaced
                then: a library that was refused memory may be in any state.
        """
        self.make()
        assert self._stage is not None
        try:
            begin = time.perf_counter()
            for output, note in self._stage.run(request, *inputs):
                busy_seconds = time.perf_counter() - begin
                yield output
                yield replace(note, busy_seconds=busy_seconds)
                begin = time.perf_counter()
        except MemoryError:
            if self._memory_bytes is None:
                raise
            gib = self._memory_bytes / 2**30
            raise WorkerMemoryError(f"it needed more than the {gib:g} GiB it may have") from None
