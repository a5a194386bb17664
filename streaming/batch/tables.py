"""Tables of rows: JSON lines, CSV and Parquet, on this machine or wherever pyarrow reads."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from workers.errors import InputError
from workers.video.fetch import is_uri

FORMATS = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet",
}  # fmt: skip
Row = tuple[int, Mapping[str, Any] | str]
"""A row's number and its values by column, or what is wrong with it."""


def read_rows(path: str) -> Iterator[Row]:
    """Yield the rows of a table; columns without a value are left out.

    Of JSON lines and CSV the numbers are those of lines in the file, of Parquet those of rows. A
    cell of a CSV is read as JSON where it is that (``32``, ``true``, ``["red", "blue"]``), else as
    text, as is every cell of a column in :data:`TEXTS`.

    Args:
        path: of a file, or a URI that pyarrow's file systems read; its ending tells the format.

    Raises:
        InputError: the format is unknown, or the file cannot be read or is none of it.
    """
    kind = next((kind for end, kind in FORMATS.items() if path.lower().endswith(end)), None)
    if kind is None:
        raise InputError(f"{path}: its name must end in one of {', '.join(FORMATS)}")
    read = {"json": _read_json, "csv": _read_csv, "parquet": _read_parquet}[kind]
    try:
        with _open(path) as file:
            yield from read(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


TEXTS = ("id", "video", "question", "meta")
"""Columns of a CSV that are text whatever they look like."""
TOO_DEEP = "is nested too deeply"
"""What is wrong with a row that Python's recursion does not reach the bottom of."""


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    if not is_uri(path):
        with open(path, "rb") as file:
            yield file
        return
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    try:
        system, inside = FileSystem.from_uri(path)
        with io.BufferedReader(system.open_input_file(inside)) as file:
            yield file
    except (ArrowException, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None


def _read_json(file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except ValueError as error:
            yield number, f"not valid JSON ({error})"
            continue
        except RecursionError:
            yield number, TOO_DEEP
            continue
        if isinstance(values, dict):
            yield number, {name: value for name, value in values.items() if value is not None}
        else:
            yield number, "not a JSON object"


def _read_csv(file: BinaryIO) -> Iterator[Row]:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text, strict=True)
        for cells in reader:
            if None in cells or None in cells.values():
                problem = f"as many cells as the head line has, {len(reader.fieldnames or ())}"
                yield reader.line_num, f"must have {problem}"
            else:
                values = {name: _cell(name, cell) for name, cell in cells.items() if cell}
                yield reader.line_num, values
    finally:
        text.detach()


def _cell(column: str, text: str) -> Any:
    if column in TEXTS:
        return text
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except (ValueError, RecursionError):
        return text


def _read_parquet(file: BinaryIO) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        for batch in ParquetFile(file).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in values.items() if value is not None}
    except ArrowException as error:
        raise ValueError(f"not a table of Parquet ({' '.join(str(error).split())})") from None
