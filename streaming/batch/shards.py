"""Shards of output rows on a disk: what is in one of them is whole, whenever the writer died.

A row goes at once into the journal ``part-N.jsonl.tmp`` and, at most a second later, to the disk. A
journal that is full or old enough becomes the shard ``part-N.jsonl`` by being renamed, or is
rewritten as ``part-N.parquet`` and removed. Whoever comes next turns a journal that was left into a
shard: of a kill nothing is lost but a line that was cut short.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from streaming.batch.openai import write_response
from streaming.batch.record import Record, parse_line, schema

FORMATS = ("jsonl", "parquet", "openai")
_ENDING = {"jsonl": ".jsonl", "openai": ".jsonl", "parquet": ".parquet"}
_JOURNAL = ".jsonl.tmp"
_NEW = ".new"
_NAME = re.compile(r"part-(\d{5,})(\.jsonl|\.parquet|\.jsonl\.tmp|\.jsonl\.new|\.parquet\.new)")
"""Names of the files here; what is called otherwise is somebody else's and left alone."""
_SYNC_SECONDS = 1.0


class ShardWriter:
    """Writes rows, from any thread; a context manager that closes what is open.

    Args:
        folder: of the shards; see :func:`recover`, which goes before.
        form: one of ``FORMATS``.
        rows: a shard is closed when it has so many.
        seconds: or, with the next row, when it is so old.
    """

    def __init__(self, folder: Path, form: str, *, rows: int, seconds: float) -> None:
        self._folder = folder
        self._form = form
        self._rows = rows
        self._seconds = seconds
        self._lock = threading.Lock()
        self._journal: BinaryIO | None = None
        self._closed = False
        self._count = 0
        self._opened = self._synced = 0.0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._closed = True
            self._close_shard()

    def write(self, record: Record) -> bool:
        """Write a row; False, and nothing written, where the writer has been closed."""
        with self._lock:
            if self._closed:
                return False
            if self._journal is None:
                self._open_shard()
            assert self._journal is not None
            self._journal.write(_line(record, self._form))
            self._journal.flush()
            self._count += 1
            now = time.monotonic()
            if now - self._synced >= _SYNC_SECONDS:
                os.fsync(self._journal.fileno())
                self._synced = now
            if self._count >= self._rows or now - self._opened >= self._seconds:
                self._close_shard()
            return True

    def _open_shard(self) -> None:
        last = max((number for number, _, _ in _files(self._folder)), default=-1)
        name = f"part-{last + 1:05d}{_JOURNAL}"
        self._journal = (self._folder / name).open("xb")
        self._count, self._opened = 0, time.monotonic()

    def _close_shard(self) -> None:
        if self._journal is None:
            return
        path = Path(self._journal.name)
        os.fsync(self._journal.fileno())
        self._journal.close()
        self._journal = None
        if _ENDING[self._form] == ".jsonl":
            path.rename(_shard_of(path, ".jsonl"))
        else:
            _publish(_read_lines(path), _shard_of(path, ".parquet"), self._form)
            path.unlink()
        _sync(self._folder)


def recover(folder: Path, form: str) -> int:
    """Turn what a killed writer left into shards; returns how many rows were in it."""
    files = _files(folder)
    for path in (path for _, ending, path in files if ending.endswith(_NEW)):
        path.unlink()
    num_rows = 0
    for journal in (path for _, ending, path in files if ending == _JOURNAL):
        if not any(_shard_of(journal, ending).exists() for ending in set(_ENDING.values())):
            records = list(_read_lines(journal))
            num_rows += len(records)
            if records:
                _publish(records, _shard_of(journal, _ENDING[form]), form)
        journal.unlink()
    _sync(folder)
    return num_rows


def read_shards(folder: Path) -> Iterator[Record]:
    """Yield the rows of all shards, the oldest first; a line that is none is left out."""
    for path in _shards(folder):
        yield from _read(path)


def forget(folder: Path, form: str, is_forgotten: Callable[[Record], bool]) -> None:
    """Write the shards anew without some rows, each shard by one renaming."""
    for path in _shards(folder):
        records = list(_read(path))
        kept = [record for record in records if not is_forgotten(record)]
        if len(kept) == len(records):
            continue
        if kept:
            _publish(kept, path, "parquet" if path.suffix == ".parquet" else form)
        else:
            path.unlink()
    _sync(folder)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or as it was before."""
    new = path.with_name(path.name + _NEW)
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    _sync(path.parent)


def _files(folder: Path) -> list[tuple[int, str, Path]]:
    """Return number, ending and path of every file that is one of ours, the oldest first."""
    names = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(name[1]), name[2], path) for name, path in names if name)


def _shards(folder: Path) -> list[Path]:
    return [path for _, ending, path in _files(folder) if ending in _ENDING.values()]


def _shard_of(journal: Path, ending: str) -> Path:
    return journal.with_name(journal.name.removesuffix(_JOURNAL) + ending)


def _line(record: Record, form: str) -> bytes:
    values = record.to_json()
    if form == "openai":
        values = write_response(values)
    text = json.dumps(values, ensure_ascii=False)
    # Of a file name that is not UTF-8, lone surrogates come out as JSON escapes them.
    return text.encode(errors="backslashreplace") + b"\n"


def _read(path: Path) -> Iterator[Record]:
    if path.suffix == ".jsonl":
        yield from _read_lines(path)
        return
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(path).iter_batches():
        yield from map(Record.from_json, batch.to_pylist())


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from filter(None, map(parse_line, file))


def _publish(records: Iterable[Record], path: Path, form: str) -> None:
    """Write a shard under another name, and give it its own when it is on the disk."""
    new = path.with_name(path.name + _NEW)
    if path.suffix == ".parquet":
        _write_parquet(records, new)
    else:
        new.write_bytes(b"".join(_line(record, form) for record in records))
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.rename(path)


def _write_parquet(records: Iterable[Record], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [record.to_json() for record in records]
    rows = [row | {"seconds": list(row["seconds"].items())} for row in rows]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema()), path)


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
