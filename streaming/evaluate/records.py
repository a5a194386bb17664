"""The file of an evaluation's answers: one line for each cell and clip, or for a clip's failure."""

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming.evaluate.cells import CellKey
from workers.errors import OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one cell made of one clip; ``right[type]`` and ``asked[type]`` count answers."""

    key: CellKey
    clip: str
    num_questions: int
    right: Mapping[str, int]
    asked: Mapping[str, int]
    num_visual_tokens: int
    num_entering_tokens: int
    num_unpruned_tokens: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a clip could not be asked.

    ``stage`` is ``plan`` (opened, sampled, its budget settled), ``watch`` (read, encoded, pruned)
    or ``ask``; ``type`` is a class of :mod:`workers.errors`, and ``message`` names the clip.
    """

    clip: str
    num_questions: int
    stage: str
    type: str
    message: str


Outcomes = dict[tuple[CellKey, str], Record | Failure]
"""What became of each cell and clip that were tried."""


def failure_line(failure: Failure, cells: Sequence[CellKey]) -> dict[str, Any]:
    """Return the line of a clip that ``cells`` could not ask."""
    error = {"stage": failure.stage, "type": failure.type, "message": failure.message}
    return {
        "clip": failure.clip,
        "num_questions": failure.num_questions,
        "cells": cells,
        "error": error,
    }


def load_outcomes(path: Path) -> Outcomes:
    """Return what is recorded; the last line about a cell and a clip holds.

    A line cut short by a kill is left out.
    """
    outcomes: Outcomes = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if "error" in values:
            failure = _read_failure(values)
            outcomes |= {(_key(cell), failure.clip): failure for cell in values["cells"]}
        else:
            record = _read_record(values)
            outcomes[record.key, record.clip] = record
    return outcomes


def _key(values: Sequence[Any]) -> CellKey:
    row, kept, seed = values
    return row, kept, seed


def _read_failure(values: Mapping[str, Any]) -> Failure:
    return Failure(clip=values["clip"], num_questions=values["num_questions"], **values["error"])


def _read_record(values: Mapping[str, Any]) -> Record:
    answers = values["answers"]
    return Record(
        key=(values["row"], values["kept"], values["seed"]),
        clip=values["clip"],
        num_questions=len(answers),
        right=Counter(answer["type"] for answer in answers if answer["right"]),
        asked=Counter(answer["type"] for answer in answers),
        num_visual_tokens=values["num_visual_tokens"],
        num_entering_tokens=values.get("num_entering_tokens", values["num_visual_tokens"]),
        num_unpruned_tokens=values["num_unpruned_tokens"],
        seconds=values["seconds"],
    )


class AnswerFile:
    """Adds lines to a file, for any number of threads: each is there whole before the next.

    Args:
        path: of JSON lines; a last one that a kill cut short is ended, and so left out by readers.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = path.open("a+b", buffering=0)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._write(b"\n")
        except OSError as error:
            raise self._refusal(error) from None

    def append(self, values: Mapping[str, Any]) -> None:
        """Write a line, in the hands of the system when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        line = json.dumps(values).encode() + b"\n"
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                raise self._refusal(error) from None

    def _write(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: {error.strerror}")

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
