"""Digests of files' content, remembered so that a large file is read once."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SETTLED_NS = 2_000_000_000
"""A file changed more recently may change again within one tick of its clock: not remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestMemory:
    """What was once read of files, by path, size and modification time.

    ``folder`` holds one small file for each; None remembers nothing. What cannot be read or written
    there is computed anew, so any number of processes may share it.
    """

    folder: str | None

    def recall(self, path: str, what: str, read: Callable[[], Any]) -> Any:
        """Return what ``read`` makes of a file, from memory where the file is still the same.

        Args:
            path: of the file.
            what: is read of it: one file may be remembered for several things.
            read: makes a value that JSON can hold of the file's content.

        Raises:
            OSError: the file is missing.
        """
        path = os.path.realpath(path)
        version = file_version(path)
        if self.folder is None:
            return read()
        name = hashlib.blake2b(f"{what}\0{path}".encode(errors="surrogateescape")).hexdigest()[:32]
        place = Path(self.folder, f"{name}.json")
        with suppress(OSError, ValueError, TypeError, KeyError):
            held = json.loads(place.read_text(encoding="utf-8"))
            if held["path"] == path and held["version"] == version:
                return held["value"]
        value = read()
        settled = time.time_ns() - version["mtime_ns"] > _SETTLED_NS
        if settled and file_version(path) == version:
            with suppress(OSError):
                _write(place, json.dumps({"path": path, "version": version, "value": value}))
        return value


def file_version(path: str) -> dict[str, int]:
    """Return what tells one version of a file from another without reading it."""
    status = os.stat(path)
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def digest_file(path: str) -> str:
    """Return the blake2b digest of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(exist_ok=True)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
