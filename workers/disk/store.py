"""A folder of entries, shared by any number of processes and machines: ``--bank DIR``."""

import hashlib
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.digests import DigestMemory
from workers.disk.entry import Entry, arrays_of, write_entry
from workers.disk.manifest import canonical
from workers.errors import InputError, OutputError
from workers.frames import Pruning

_NAME = re.compile(r"[0-9a-f]{32}-(\d+)-(\d+)\.safetensors")
_UNFINISHED = ".writing-"
_ABANDONED_SECONDS = 3600.0
"""After so long a file that was begun has lost its writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStore:
    """Entries in a folder, found by what they were made of; the least recently used go first.

    An entry's name is a digest of its key, then ``num_keep`` and ``max_keep`` of its ranking.
    Files of other names are never touched. There is no lock and no index: entries appear whole, by
    a rename, and one that goes while it is read stays readable to its reader.
    """

    folder: str
    limit_bytes: int

    @property
    def memory(self) -> DigestMemory:
        """Digests of files that were read to make keys."""
        return DigestMemory(folder=str(Path(self.folder, "digests")))

    def find(self, key: dict[str, Any], pruning: Pruning) -> list[str]:
        """Return paths of what may serve a ranking, the nearest first.

        Rankings nest, so an entry serves its own and every smaller one of its key.
        """
        found = []
        for path in Path(self.folder).glob(f"{_digest(key)}-*.safetensors"):
            if name := _NAME.fullmatch(path.name):
                num_keep, max_keep = map(int, name.groups())
                if num_keep >= pruning.num_keep and max_keep >= pruning.max_keep:
                    found.append((num_keep, max_keep, str(path)))
        return [path for *_, path in sorted(found)]

    def holds(self, path: str) -> bool:
        """Tell whether a file stands in this folder."""
        return os.path.realpath(os.path.dirname(path)) == os.path.realpath(self.folder)

    def touch(self, path: str) -> None:
        """Note that an entry was used."""
        with suppress(OSError):  # it is gone, or the folder may only be read
            os.utime(path)

    def keep(self, entry: Entry) -> None:
        """Write an entry in place of whatever has its name, then make room for it.

        Raises:
            OutputError: it is larger than the limit, or cannot be written.
        """
        size = sum(array.nbytes for array in arrays_of(entry).values())
        if size > self.limit_bytes:
            gib = size / 2**30
            raise OutputError(
                f"--bank {self.folder}: {entry.manifest.name} takes {gib:.3g} GiB, more than "
                f"--bank-gib {self.limit_bytes / 2**30:.3g}, and is not kept"
            )
        pruning = entry.manifest.pruning
        name = f"{_digest(entry.manifest.key)}-{pruning.num_keep}-{pruning.max_keep}.safetensors"
        place = Path(self.folder, name)
        try:
            self._write(place, entry)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"--bank {self.folder}: {entry.manifest.name} could not be kept: {reason}"
            ) from None
        self._evict(place)

    def _write(self, place: Path, entry: Entry) -> None:
        begun = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
        try:
            write_entry(begun / place.name, entry)
            # Whoever may write into the folder, and nobody else, may read what is in it.
            (begun / place.name).chmod(Path(self.folder).stat().st_mode & 0o666)
            os.replace(begun / place.name, place)
        finally:
            shutil.rmtree(begun, ignore_errors=True)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _evict(self, newest: Path) -> None:
        """Remove the least recently used entries, but not the newest, down to the limit."""
        entries, total = [], 0
        for path in Path(self.folder).iterdir():
            with suppress(OSError):  # another process was quicker
                status = path.stat()
                if _NAME.fullmatch(path.name):
                    entries.append((status.st_mtime_ns, status.st_size, path))
                    total += status.st_size
                elif _is_abandoned(path, status):
                    shutil.rmtree(path, ignore_errors=True)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                return
            if path != newest:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    total -= size


def open_store(folder: str, limit_gib: float) -> TokenStore:
    """Return the store in a folder, which is made if need be.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    path = os.path.abspath(folder)
    try:
        os.makedirs(path, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        text = "is a file" if os.path.isfile(path) else reason
        raise InputError(f"--bank {folder}: {text}; give a folder") from None
    return TokenStore(folder=path, limit_bytes=int(limit_gib * 2**30))


def _is_abandoned(path: Path, status: os.stat_result) -> bool:
    is_old = time.time() - status.st_mtime > _ABANDONED_SECONDS
    return path.name.startswith(_UNFINISHED) and is_old


def _digest(key: Any) -> str:
    return hashlib.blake2b(canonical(key)).hexdigest()[:32]
