"""Clips at addresses: what stands there, and a copy of it on the machine that reads it."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Self

from workers.errors import VideoOpenError, display_name
from workers.video.file_cache import FileCache

TAKEN = "a path, or a URI of s3://, gs://, file:// or what else pyarrow reads"

_URI = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_BLOCK_BYTES = 8 * 2**20
_SHOWN_LETTERS = 60


class RemoteFile(str):
    """The URI of a file, and which version of it is meant.

    For all who name it or send it elsewhere it is a path like any other; :func:`local_path` tells
    those who open it where it is on their machine.
    """

    size_bytes: int
    mtime_ns: int

    def __new__(cls, uri: str, size_bytes: int, mtime_ns: int) -> Self:
        """Make one of a URI, a size, and the time of the last change, 0 where none is known."""
        self = super().__new__(cls, uri)
        self.size_bytes = size_bytes
        self.mtime_ns = mtime_ns
        return self

    def __getnewargs__(self) -> tuple[str, int, int]:  # type: ignore[override]
        return str(self), self.size_bytes, self.mtime_ns


def is_uri(path: str) -> bool:
    """Tell the URI of a file from a path by its beginning."""
    return _URI.match(path) is not None


def find_file(path: str) -> str:
    """Return a path as it is, and for a URI the ``RemoteFile`` of the version that is there now.

    Raises:
        VideoOpenError: nothing is read from such addresses, or there is no file to be read.
    """
    return _find(path)[0] if is_uri(path) and not isinstance(path, RemoteFile) else path


def local_path(path: str) -> str:
    """Return where a file is on this machine: a path as it is, for a ``RemoteFile`` a copy of it.

    The copy is made once on each machine, see :class:`workers.video.file_cache.FileCache`; what
    ``file://`` names is read where it is.

    Raises:
        VideoOpenError: it cannot be copied, or has changed since it was found.
    """
    if not isinstance(path, RemoteFile):
        return path
    if path[:5].lower() == "file:":
        return _unchanged(path)[1]
    version = f"{path.size_bytes} {path.mtime_ns} {path}"
    digest = hashlib.blake2b(version.encode(errors="backslashreplace"), digest_size=16).hexdigest()
    with _told(path):
        return FileCache().get(
            digest + _ending(path),
            size_bytes=path.size_bytes,
            mtime_ns=path.mtime_ns,
            copy=partial(_copy, path),
        )


def _copy(remote: RemoteFile, file: BinaryIO) -> None:
    filesystem, path = _unchanged(remote)
    with filesystem.open_input_stream(path) as stream:
        shutil.copyfileobj(stream, file, _BLOCK_BYTES)
    _unchanged(remote)


def _unchanged(remote: RemoteFile) -> tuple[Any, str]:
    """Return the file system of a file and its path there, if it is still the same version."""
    found, filesystem, path = _find(str(remote))
    if (found.size_bytes, found.mtime_ns) != (remote.size_bytes, remote.mtime_ns):
        raise VideoOpenError(f"{display_name(remote)}: has changed since it was opened")
    return filesystem, path


def _find(uri: str) -> tuple[RemoteFile, Any, str]:
    """Return what stands at a URI, its file system and its path there."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem, FileType

    with _told(uri):
        try:
            filesystem, path = FileSystem.from_uri(uri)
        except (ArrowInvalid, UnicodeEncodeError) as error:
            raise VideoOpenError(_why_not_taken(uri, error)) from None
        info = filesystem.get_file_info(path)
    if info.type == FileType.NotFound:
        raise VideoOpenError(f"{display_name(uri)}: no file is there")
    if info.type == FileType.Directory:
        raise VideoOpenError(f"{display_name(uri)}: is a directory; give a video file inside it")
    if info.type != FileType.File:
        raise VideoOpenError(f"{display_name(uri)}: is not a regular file")
    return RemoteFile(uri, info.size, info.mtime_ns or 0), filesystem, path


def _why_not_taken(uri: str, error: Exception) -> str:
    shown = uri if len(uri) <= _SHOWN_LETTERS else f"{uri[:_SHOWN_LETTERS]}…"
    if "Unrecognized filesystem type" in str(error):
        return f"{display_name(shown)}: is an address that is not read; give {TAKEN}"
    return f"{display_name(shown)}: is not a valid URI ({_one_line(error, uri)})"


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Turn what file systems raise into one line that names the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        raise VideoOpenError(
            f"{display_name(uri)}: cannot be fetched ({_one_line(error, uri)})"
        ) from None


def _one_line(error: Exception, uri: str) -> str:
    return " ".join(str(error).replace(uri, display_name(uri)).split())


def _ending(uri: str) -> str:
    """Return the ending of a file's name, by which some containers are recognised."""
    ending = PurePosixPath(uri).suffix
    return ending if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", ending) else ""
