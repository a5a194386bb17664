"""A manifest: which questions are asked of which clips. Bad rows are told all at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from streaming.batch.item import Item
from streaming.batch.openai import DialectError, is_request, read_request
from streaming.batch.tables import TOO_DEEP, read_rows
from streaming.command import check_text, say, suggest
from streaming.flags import change, places
from streaming.options import Options
from workers.errors import InputError
from workers.video.fetch import is_uri

_COLUMNS = ("id", "video", "question", "questions", "options", "meta")
_GROUPS = ("frames", "budget", "generation")
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The questions in the order of the file; ``is_openai`` where it is of that dialect."""

    items: tuple[Item, ...]
    is_openai: bool


@cache
def row_options() -> tuple[str, ...]:
    """Return the options that a row may have for itself: sampling, budget, generation."""
    return tuple(name for name, place in places().items() if place.path[0] in _GROUPS)


def read_manifest(
    path: str, options: Options, *, ignored: Sequence[str] = (), form: str | None = None
) -> Manifest:
    """Read a manifest.

    A row has ``id`` (unique), ``video`` (a path, relative to the manifest, or a URI), ``question``
    or ``questions``, and may have ``options`` (the answers to choose from), ``meta`` and any of
    :func:`row_options`. Instead it may be a request in OpenAI's batch dialect.

    Args:
        path: of JSON lines, CSV or Parquet; see :func:`streaming.batch.tables.read_rows`.
        options: of the run, for what a row does not say itself.
        ignored: columns that are left alone.
        form: of the output, where it is given: Parquet holds no file name that is not UTF-8.

    Raises:
        InputError: the manifest cannot be read, or has bad rows; each of them is told on stderr.
    """
    items: list[Item] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    dialects = set()
    for number, values in read_rows(path):
        try:
            if isinstance(values, str):
                raise InputError(values)
            dialects.add(is_request(values))
            row = _read_row(values, path, options, ignored)
            if form == "parquet":
                check_text(row[0].video, what="--format parquet: 'video'")
            if row[0].row_id in seen:
                raise InputError(f"id {row[0].row_id!r} is that of line {seen[row[0].row_id]}")
            seen[row[0].row_id] = number
            items += row
        except (InputError, DialectError) as error:
            problems.append(f"{path}:{number}: {error}")
        except RecursionError:
            problems.append(f"{path}:{number}: {TOO_DEEP}")
    if problems:
        for problem in problems[:_MOST_TOLD]:
            say(problem)
        more = f", of which {_MOST_TOLD} are shown" if len(problems) > _MOST_TOLD else ""
        plural = "row" if len(problems) == 1 else "rows"
        raise InputError(f"{path}: {len(problems)} bad {plural}{more}; nothing was started")
    if not items:
        raise InputError(f"{path}: no row in it")
    if len(dialects) > 1:
        raise InputError(f"{path}: some rows are OpenAI batch requests (custom_id), some are not")
    return Manifest(items=tuple(items), is_openai=dialects == {True})


def _read_row(
    values: Mapping[str, Any], path: str, options: Options, ignored: Sequence[str]
) -> list[Item]:
    if is_request(values):
        values = read_request(values)
    row = {name: value for name, value in values.items() if name not in ignored}
    changes = {name: value for name, value in row.items() if name not in _COLUMNS}
    _check_changes(changes, options)
    row_id = _read_id(row.get("id"))
    video = row.get("video")
    if not isinstance(video, str) or not video.strip():
        raise InputError(f"'video' must be a path or a URI, not {video!r}")
    choices = _read_choices(row.get("options"))
    meta = _read_meta(row["meta"]) if "meta" in row else ""
    return [
        Item(
            row_id=row_id,
            question_index=index,
            named=video,
            video=video if is_uri(video) else str(_folder_of(path) / video),
            question=question,
            choices=choices,
            changes=changes,
            meta=meta,
        )
        for index, question in enumerate(_read_questions(row))
    ]


def _folder_of(path: str) -> Path:
    """Return what relative paths are relative to: with a manifest at a URI, the current folder."""
    return Path() if is_uri(path) else Path(path).parent


def _read_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(f"'id' must be a text or a whole number, not {value!r}")
    check_text(str(value), what="'id'")
    return str(value)


def _read_questions(row: Mapping[str, Any]) -> list[str]:
    if ("question" in row) == ("questions" in row):
        raise InputError("give 'question' or 'questions'")
    questions = row.get("questions", [row.get("question")])
    if not isinstance(questions, list) or not questions:
        raise InputError(f"'questions' must be a list of texts, not {questions!r}")
    for question in questions:
        if not isinstance(question, str):
            raise InputError(f"a question must be a text, not {question!r}")
        check_text(question, what="a question")
    return questions


def _read_choices(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = isinstance(value, list) and all(isinstance(t, str) and t.strip() for t in value)
    if not texts or len(set(value)) < max(2, len(value)):
        raise InputError(f"'options' must be two or more different texts, not {value!r}")
    for text in value:
        check_text(text, what="one of 'options'")
    return tuple(value)


def _read_meta(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:  # Parquet has times and bytes
        raise InputError(f"'meta' must be what JSON can hold: {error}") from None


def _check_changes(changes: Mapping[str, object], options: Options) -> None:
    valid = row_options()
    for name in changes:
        if name not in valid:
            hint = suggest(name, [*valid, *_COLUMNS])
            raise InputError(f"unknown column {name!r}{hint} (--ignore {name} leaves it alone)")
    if changes:
        change(options, changes, source="")
