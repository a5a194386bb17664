"""What the schedule needs of its workers: a surface small enough to be played by a fake."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workers.messages import PruneOptions, Segment

CHUNKS_AHEAD = 2
"""Chunks by which a decoder may be ahead of the one that the schedule waits for."""


class WorkerDiedError(Exception):
    """The process of a worker is gone; whatever it was doing has no result."""


class ChunkLostError(Exception):
    """A decoded chunk can no longer be had, because the machine that held it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedChunk:
    """A handle on decoded frames, and which of them are meant: all unless it was split.

    ``segment`` is what to decode to get it again; ``deaths`` how many workers died on it.
    """

    handle: Any
    frame_indices: tuple[int, ...]
    segment: Segment
    warnings: tuple[str, ...] = ()
    deaths: int = 0


class Stream(Protocol):
    """A decoder at work on a segment."""

    def next(self) -> DecodedChunk | None:
        """Return the next chunk, or None at the end; raises ``WorkerDiedError``.

        The decoder may have died up to ``CHUNKS_AHEAD`` chunks later: what it had not yet handed
        over dies with it.
        """

    def cancel(self) -> None:
        """Stop the decoder."""


class Task(Protocol):
    """An encoder at work on a chunk."""

    def result(self) -> Any:
        """Return a handle on the candidates; raises ``WorkerDiedError``, ``ChunkLostError``."""


class Fleet(Protocol):
    """Decoders and encoders, numbered from 0, each doing one thing after another."""

    num_decoders: int
    num_encoders: int

    def decode(self, decoder: int, segment: Segment) -> Stream:
        """Start a decoder on a segment."""

    def submit(self, encoder: int, chunk: DecodedChunk, prunings: Sequence[PruneOptions]) -> Task:
        """Start or queue a chunk on an encoder."""

    def wait(self, work: Sequence[Stream | Task]) -> Sequence[Stream | Task]:
        """Block until some of the work has something to say, and return that."""

    def replace_decoder(self, decoder: int) -> None:
        """Put a fresh worker in the place of a dead one."""

    def replace_encoder(self, encoder: int) -> None:
        """Put a fresh worker in the place of a dead one."""
