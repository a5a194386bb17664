"""The stages in the shape in which actors offer them: plain classes, no Ray in sight."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workers.messages import (
    Candidates,
    FrameChunk,
    ModelOptions,
    PruneOptions,
    Segment,
    WorkerUsage,
)
from workers.stages import AnswerStage, DecodeStage, EncodeStage


class DecodeActor:
    """Streams chunks, each followed by a note that tells what is in it."""

    def __init__(self, make: Callable[[], DecodeStage]) -> None:
        self._stage = make()

    def decode(
        self, segment: Segment
    ) -> Iterator[FrameChunk | tuple[tuple[int, ...], tuple[str, ...]]]:
        """Yield a chunk, then its (frame indices, warnings), so that nobody fetches it for them."""
        for chunk in self._stage.decode(segment):
            yield chunk
            yield tuple(chunk.frame_indices.tolist()), chunk.warnings

    def usage(self) -> WorkerUsage:
        """See :meth:`workers.stages.Stage.usage`."""
        return self._stage.usage()


class EncodeActor:
    """Encodes some or all frames of a chunk."""

    def __init__(self, make: Callable[[ModelOptions], EncodeStage], options: ModelOptions) -> None:
        self._stage = make(options)

    def encode(
        self, chunk: FrameChunk, frame_indices: Sequence[int], prunings: Sequence[PruneOptions]
    ) -> tuple[tuple[Candidates, ...], bool]:
        """Return the candidates, and a small value to wait for in their stead."""
        return self._stage.encode(pick_frames(chunk, frame_indices), prunings), True

    def usage(self) -> WorkerUsage:
        """See :meth:`workers.stages.Stage.usage`."""
        return self._stage.usage()


class AnswerActor:
    """The answer stage, whose methods are called by name but for the one that streams."""

    def __init__(self, make: Callable[[ModelOptions], AnswerStage], options: ModelOptions) -> None:
        self._stage = make(options)

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the stage."""
        return getattr(self._stage, method)(*args)

    def stream(self, method: str, *args: Any) -> Iterator[Any]:
        """Call a method of the stage that yields."""
        yield from getattr(self._stage, method)(*args)


def pick_frames(chunk: FrameChunk, frame_indices: Sequence[int]) -> FrameChunk:
    """Return the chunk with these of its frames only."""
    rows = np.flatnonzero(np.isin(chunk.frame_indices, frame_indices))
    if len(rows) == len(chunk.frames):
        return chunk
    return replace(
        chunk,
        frame_indices=chunk.frame_indices[rows],
        pts_seconds=chunk.pts_seconds[rows],
        frames=chunk.frames[rows],
    )
