"""Stages that die, as a worker killed with signal 9 dies, or hang, when they meet certain work."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from workers.disk.requests import StoreRequest
from workers.messages import AllocateRequest, EncodeRequest, GenerateRequest, ReadRequest
from workers.process import ModelOptions
from workers.stages import EncodeStage, GenerateStage, ReadStage, Result, Stage
from workers.visual import VisualSequence

Deaths = Mapping[Any, int]
"""What to die of -> how many times; later meetings are survived."""


class Doom:
    """Counts, in files that outlive the process, the deaths on each cause."""

    def __init__(self, folder: Path, deaths: Deaths, strike: Callable[[], None]) -> None:
        self._folder = folder
        self._deaths = deaths
        self._strike = strike

    def meet(self, cause: Any) -> None:
        """Strike if the cause still demands it."""
        log = self._folder / f"{cause}.log"
        died = len(log.read_text().splitlines()) if log.exists() else 0
        if died < self._deaths.get(cause, 0):
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            self._strike()


class Dooms:
    """Several dooms, met one after another."""

    def __init__(self, *dooms: Doom) -> None:
        self._dooms = dooms

    def meet(self, cause: Any) -> None:
        """Strike if a doom demands it."""
        for doom in self._dooms:
            doom.meet(cause)


class DoomedReader(ReadStage):
    """Dies before it delivers certain frames."""

    def __init__(self, doom: Doom | Dooms) -> None:
        self._doom = doom

    def run(self, request: ReadRequest) -> Iterator[Result]:
        for output, note in super().run(request):
            for frame in note.news.frame_indices.tolist():
                self._doom.meet(f"read-{frame}")
            yield output, note


class DoomedEncoder(EncodeStage):
    """Dies on certain frames, or when it allocates, saves or loads."""

    def __init__(self, doom: Doom, options: ModelOptions) -> None:
        super().__init__(options)
        self._doom = doom

    def run(
        self, request: EncodeRequest | AllocateRequest | StoreRequest, *inputs: Any
    ) -> Iterator[Result]:
        if not isinstance(request, EncodeRequest):
            self._doom.meet(type(request).__name__.removesuffix("Request").lower())
        else:
            for frame in request.frame_indices.tolist():
                self._doom.meet(f"encode-{frame}")
        yield from super().run(request, *inputs)


class DoomedModel(GenerateStage):
    """Dies after certain pieces of an answer."""

    def __init__(self, doom: Doom, options: ModelOptions) -> None:
        super().__init__(options)
        self._doom = doom

    def run(self, request: GenerateRequest, visual: VisualSequence) -> Iterator[Result]:
        for number, result in enumerate(super().run(request, visual)):
            yield result
            self._doom.meet(f"answer-{number}")


class CountingModel(GenerateStage):
    """Writes a byte to a file for each forward pass."""

    def __init__(self, log: Path, options: ModelOptions) -> None:
        super().__init__(options)
        self._log = log
        self._model._decoder._model.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        with self._log.open("a") as file:
            file.write(".")


def die() -> None:
    """End this process as signal 9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Do nothing for longer than anyone waits."""
    time.sleep(3600)


def hoard() -> None:
    """Take half a GiB of memory."""
    np.ones(2**29, np.uint8)


def doomed_stages(
    folder: Path, deaths: Deaths, model: ModelOptions, strike: Callable[[], None] = die
) -> dict[str, Callable[[], Stage]]:
    """Return makers of stages that die as told."""
    doom = Doom(folder, deaths, strike)
    return {
        "decoder": partial(DoomedReader, doom),
        "encoder": partial(DoomedEncoder, doom, model),
        "llm": partial(DoomedModel, doom, model),
    }
