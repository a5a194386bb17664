"""Question sets: JSON lines of a clip, a question, the accepted answers and a type."""

import json
import math
import random
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.errors import InputError
from workers.video.fetch import is_uri

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EXACT = 1e-9
"""Tenths are no exact floats: 12.6 is 0.1 more than 12.5 all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about a clip; ``num_frames`` says how many frames it is meant for, if at all.

    ``tolerance`` is how far a number may be from an accepted one, None where texts must agree.
    """

    clip: str
    text: str
    answers: tuple[str, ...]
    type: str
    num_frames: int | None
    tolerance: float | None = None


def read_questions(path: Path, *, limit: int | None = None, seed: int = 0) -> list[list[Question]]:
    """Return the questions of a set, those about one clip together.

    A line holds ``clip`` (a path, relative to the file, or a URI), ``question``, ``answers`` (a
    list, or one text), and may hold ``type``, ``num_frames`` and ``tolerance`` (of a number, in its
    own unit: seconds, where seconds are asked for); other keys are left alone.

    Args:
        path: of the JSON lines.
        limit: stop after so many questions of clips drawn at random; None takes all, in order.
        seed: of the draw.

    Raises:
        InputError: the file cannot be read, is empty, or a line is not as described.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    by_clip: dict[tuple[str, int | None], list[Question]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            question = _read_line(line, f"{path}:{number}", path.parent)
            by_clip.setdefault((question.clip, question.num_frames), []).append(question)
    if not by_clip:
        raise InputError(f"{path}: no question in it")
    groups = list(by_clip.values())
    if limit is None:
        return groups
    random.Random(seed).shuffle(groups)
    taken: list[list[Question]] = []
    for group in groups:
        room = limit - sum(map(len, taken))
        if room > 0:
            taken.append(group[:room])
    return taken


def _read_line(line: str, place: str, folder: Path) -> Question:
    try:
        values: Any = json.loads(line)
    except ValueError:
        raise InputError(f"{place}: not valid JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{place}: not a JSON object")
    answers = values.get("answers")
    answers = [answers] if isinstance(answers, str) else answers
    texts = {"clip": values.get("clip"), "question": values.get("question")}
    for name, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{place}: {name!r} must be a text, not {value!r}")
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(answer, str) and answer.strip() for answer in answers)
    ):
        raise InputError(f"{place}: 'answers' must be a list of texts, not {answers!r}")
    num_frames = values.get("num_frames")
    if num_frames is not None and (type(num_frames) is not int or num_frames < 1):
        raise InputError(f"{place}: 'num_frames' must be a whole number, not {num_frames!r}")
    tolerance = values.get("tolerance")
    if tolerance is not None:
        if type(tolerance) not in (int, float) or not 0 <= tolerance < math.inf:
            raise InputError(f"{place}: 'tolerance' must be a number, not {tolerance!r}")
        if not all(_number(answer) is not None for answer in answers):
            raise InputError(
                f"{place}: with a 'tolerance' answers must be numbers, not {answers!r}"
            )
    return Question(
        clip=values["clip"] if is_uri(values["clip"]) else str(folder / values["clip"]),
        text=values["question"],
        answers=tuple(answers),
        type=str(values.get("type", "all")),
        num_frames=num_frames,
        tolerance=tolerance,
    )


def is_right(answer: str, accepted: tuple[str, ...], tolerance: float | None = None) -> bool:
    """Return whether an answer is one of the accepted ones, case and outer punctuation aside.

    With a tolerance the first number in the answer, whatever its unit, is right within so much of
    an accepted one, the limit included; an answer without a number is wrong.
    """
    if tolerance is None:
        return _plain(answer) in {_plain(text) for text in accepted}
    said = _number(answer)
    wanted = [number for text in accepted if (number := _number(text)) is not None]
    return said is not None and any(abs(said - number) <= tolerance + _EXACT for number in wanted)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")


def _number(text: str) -> float | None:
    """Return the first number written in a text."""
    found = _NUMBER.search(text)
    return float(found[0]) if found else None
