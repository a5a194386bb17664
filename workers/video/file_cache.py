"""Copies of files from elsewhere, on this machine, within a bound."""

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAX_CACHE_BYTES = 20 * 1024**3
"""Of all copies together, but that one alone may be larger."""

_PART = ".part"
_LOCK = "lock-"


class FileCache:
    """A folder of copies, of which those used longest ago make room for new ones.

    Any number of processes and threads may use one folder: a copy gets its name when it is
    complete, and is made once, while others wait for it. A copy that has gone while it was open can
    be read on; whoever wants to open it again asks for it again.

    Args:
        folder: made if need be, for this user only; by default one in the folder of the system for
            temporary files.
        max_bytes: of all copies.

    Raises:
        OSError: the folder cannot be made, or is somebody else's.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._folder = folder or Path(tempfile.gettempdir(), f"mr-stream-{os.getuid()}")
        self._max_bytes = max_bytes
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
            raise PermissionError(f"{self._folder} is not a folder of this user's own")
        self._folder.chmod(0o700)

    def get(
        self, name: str, *, size_bytes: int, mtime_ns: int, copy: Callable[[BinaryIO], object]
    ) -> str:
        """Return the path of a copy, made now if there is none.

        Args:
            name: of the file in the folder, one for each content; begins with a hexadecimal digest.
            size_bytes: of the whole content.
            mtime_ns: what the copy's time of change is set to; that of access tells its last use.
            copy: writes the content into a file.

        Raises:
            OSError: there is no space for it, or it came to another size.
        """
        path = self._folder / name
        while not _touch(path, mtime_ns):
            with self._lock(name):
                if not path.exists():
                    self._make_room(size_bytes)
                    self._fill(path, size_bytes, copy)
        return str(path)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Keep others from making the same copy; one lock for several names, so that few stay."""
        with (self._folder / f"{_LOCK}{name[:2]}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given up with the file, and by a process that dies
            yield

    def _fill(self, path: Path, size_bytes: int, copy: Callable[[BinaryIO], object]) -> None:
        part = path.with_name(path.name + _PART)
        try:
            with part.open("wb") as file:
                copy(file)
            written = part.stat().st_size
            if written != size_bytes:
                raise OSError(f"{written:,} of {size_bytes:,} bytes came")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, num_bytes: int) -> None:
        held = sorted(self._copies(), key=lambda copy: copy[0])
        total = sum(size for _, size, _ in held) + num_bytes
        for _, size, path in held:
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _copies(self) -> Iterator[tuple[int, int, Path]]:
        """Yield last use in nanoseconds, size and path of each copy, of unfinished ones too."""
        for path in self._folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process has made room
                continue
            if path.suffix == _PART:  # still written to, or left behind by a process that died
                yield status.st_mtime_ns, status.st_size, path
            elif not path.name.startswith(_LOCK):
                yield status.st_atime_ns, status.st_size, path


def _touch(path: Path, mtime_ns: int) -> bool:
    """Note that a copy is used now; False where there is none."""
    try:
        os.utime(path, ns=(time.time_ns(), mtime_ns))
    except FileNotFoundError:
        return False
    return True
