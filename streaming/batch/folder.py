"""The folder of a job: whose it is, what is done in it, and what is asked again.

``manifest.json`` tells the settings that its rows were made with, ``part-*`` are the rows,
``superseded.jsonl`` those that were forgotten to be asked again, ``summary.json`` what it came to.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from streaming.batch.fingerprint import digest
from streaming.batch.item import Item
from streaming.batch.record import FAILED, Record
from streaming.batch.shards import forget, read_shards, recover, write_whole
from streaming.batch.summary import Summary
from workers.errors import InputError

OnChange = Literal["refuse", "keep", "redo"]
_MANIFEST, _SUMMARY, _LOCK, _SUPERSEDED = (
    "manifest.json", "summary.json", "lock", "superseded.jsonl",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Done:
    """What an output folder holds of a manifest.

    ``names`` are the questions that have a row, ``attempts`` how often those were tried that are to
    be asked again, ``summary`` what the rows come to.
    """

    names: set[tuple[str, int]] = field(default_factory=set)
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make a folder if need be and keep every other run out of it.

    Raises:
        InputError: it cannot be made, or another run writes into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"--output {folder}: another run writes into it") from None
        yield


def settle(folder: Path, settings: Mapping[str, Any], on_change: OnChange) -> str:
    """See that a folder's rows were made with these settings, and write them down.

    Returns:
        The fingerprint of the settings.

    Raises:
        InputError: they were made with others, which it names, and ``on_change`` is ``"refuse"``.
    """
    path = folder / _MANIFEST
    fingerprint = digest(settings)
    if path.exists():
        try:
            held = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: is not of a run; choose another --output") from None
        is_same = digest(held) == fingerprint
        if not is_same and on_change == "refuse":
            names = [n for n in {**held, **settings} if held.get(n) != settings.get(n)]
            differences = ", ".join(f"{n} {held.get(n)!r} -> {settings.get(n)!r}" for n in names)
            raise InputError(
                f"--output {folder}: holds rows of another run ({differences}): choose another "
                "folder, or --on-change keep or redo"
            )
        if is_same:
            return fingerprint
    write_whole(path, json.dumps({"fingerprint": fingerprint, "settings": settings}, indent=1))
    return fingerprint


def resume(
    folder: Path,
    form: str,
    items: Sequence[Item],
    fingerprint: str,
    *,
    retry_failed: bool,
    on_change: OnChange,
) -> Done:
    """Return what is done of a manifest, after forgetting what is to be asked again.

    Rows whose question is not in the manifest stay, and count for nothing; so do copies of rows.

    Raises:
        InputError: a row was asked otherwise, and ``on_change`` is ``"refuse"``.
    """
    recover(folder, form)
    asked = {item.name: item for item in items}
    again: dict[tuple[str, int], Record] = {}
    done = Done()
    for record in read_shards(folder):
        item = asked.get(record.name)
        if item is None or record.name in done.names:
            continue
        changed = (record.key, record.fingerprint) != (item.key, fingerprint)
        if changed and on_change == "refuse":
            raise InputError(
                f"--output {folder}: its answer to question {record.question_index + 1} of id "
                f"{record.id!r} is about another video, or to other words, choices or options: "
                "choose another folder, or --on-change keep or redo"
            )
        if (changed and on_change == "redo") or (retry_failed and record.status == FAILED):
            again[record.name] = record
        else:
            done.names.add(record.name)
            done.summary.add(replace(record, video=item.video))
    if again:
        _supersede(folder, form, again)
    done.attempts = {
        name: record.attempts for name, record in again.items() if record.status == FAILED
    }
    return done


def _supersede(folder: Path, form: str, again: Mapping[tuple[str, int], Record]) -> None:
    with (folder / _SUPERSEDED).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record.to_json()) + "\n" for record in again.values())
    forget(folder, form, lambda record: record.name in again)


def write_summary(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``summary.json``."""
    write_whole(folder / _SUMMARY, json.dumps(values, indent=1) + "\n")
