"""A stage in the shape in which an actor offers it: a plain class, no Ray in sight."""

from collections.abc import Callable, Iterator
from typing import Any

from workers.messages import Note
from workers.process import prepare_process
from workers.stages import Stage


class StageActor:
    """Runs one stage. Of each result the output comes first and then its note.

    Args:
        make: makes the stage.
    """

    def __init__(self, make: Callable[[], Stage]) -> None:
        prepare_process()
        self._make = make
        self._stage: Stage | None = None

    def make(self) -> None:
        """Make the stage, if that has not been done; what fails here fails with its own error."""
        if self._stage is None:
            self._stage = self._make()

    def run(self, request: Any, *inputs: Any) -> Iterator[Any | Note]:
        """Yield output and note in turn."""
        self.make()
        assert self._stage is not None
        for output, note in self._stage.run(request, *inputs):
            yield output
            yield note
