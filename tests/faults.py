"""Stages that die, as a worker killed with signal 9 dies, when they meet certain frames."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from workers.messages import (
    FrameChunk,
    GeneratedAnswer,
    ModelOptions,
    PruneOptions,
    SamplingOptions,
    Segment,
)
from workers.run.pool import StageMakers
from workers.stages import AnswerStage, DecodeStage, EncodeStage

Deaths = Mapping[Any, int]
"""What to die of -> how many times; later meetings are survived."""


class Doom:
    """Counts, in files that outlive the process, the deaths on each cause."""

    def __init__(self, folder: Path, deaths: Deaths) -> None:
        self._folder = folder
        self._deaths = deaths

    def meet(self, cause: Any) -> None:
        """Kill this process if the cause still demands it."""
        log = self._folder / f"{cause}.log"
        died = len(log.read_text().splitlines()) if log.exists() else 0
        if died < self._deaths.get(cause, 0):
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedDecoder(DecodeStage):
    """Dies before it delivers certain frames."""

    def __init__(self, doom: Doom) -> None:
        super().__init__()
        self._doom = doom

    def decode(self, segment: Segment) -> Iterator[FrameChunk]:
        for chunk in super().decode(segment):
            for frame in chunk.frame_indices.tolist():
                self._doom.meet(f"decode-{frame}")
            yield chunk


class DoomedEncoder(EncodeStage):
    """Dies on certain frames."""

    def __init__(self, doom: Doom, options: ModelOptions) -> None:
        super().__init__(options)
        self._doom = doom

    def encode(self, chunk: FrameChunk, prunings: Sequence[PruneOptions]) -> Any:
        for frame in chunk.frame_indices.tolist():
            self._doom.meet(f"encode-{frame}")
        return super().encode(chunk, prunings)


class DoomedAnswerer(AnswerStage):
    """Dies in ``select``, or after the first words of an answer."""

    def __init__(self, doom: Doom, options: ModelOptions) -> None:
        super().__init__(options)
        self._doom = doom

    def select(self, *arguments: Any) -> Any:
        self._doom.meet("select")
        return super().select(*arguments)

    def answer(self, question: str, sampling: SamplingOptions) -> Iterator[str | GeneratedAnswer]:
        for number, piece in enumerate(super().answer(question, sampling)):
            yield piece
            self._doom.meet(f"answer-{number}")


def doomed_makers(folder: Path, deaths: Deaths) -> StageMakers:
    """Return makers of stages that die as told."""
    doom = Doom(folder, deaths)
    return StageMakers(
        decode=partial(DoomedDecoder, doom),
        encode=partial(DoomedEncoder, doom),
        answer=partial(DoomedAnswerer, doom),
    )
