"""A file system elsewhere: a folder of this machine that URIs of a made-up scheme lead to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pyarrow import fs

from workers.messages import ReadRequest
from workers.stages import ReadStage, Result


class Elsewhere:
    """Stands in for ``pyarrow.fs.FileSystem`` and counts what is asked of it.

    ``elsewhere://a/b.mp4`` is ``a/b.mp4`` in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.num_read = 0
        self._files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.from_uri_of_pyarrow = fs.FileSystem.from_uri

    def from_uri(self, uri: str) -> tuple[Any, str]:
        """Return this file system and the path in it, of other schemes what pyarrow returns."""
        scheme, _, path = uri.partition("://")
        if scheme != "elsewhere":
            found: tuple[Any, str] = self.from_uri_of_pyarrow(uri)
            return found
        return self, path

    def get_file_info(self, path: str) -> Any:
        """Return what the folder holds there."""
        return self._files.get_file_info(path)

    def open_input_stream(self, path: str) -> Any:
        """Open a file for reading."""
        self.num_read += 1
        return self._files.open_input_stream(path)


@contextmanager
def elsewhere(folder: Path, cache: Path) -> Iterator[Elsewhere]:
    """Let URIs lead to a folder, and copies go to another."""
    cache.mkdir(exist_ok=True)
    files = Elsewhere(folder)
    with patch.object(fs, "FileSystem", files), patch("tempfile.gettempdir", lambda: str(cache)):
        yield files


class ReadElsewhere(ReadStage):
    """Reads clips that lie elsewhere, from a process of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self._cache = folder, cache

    def run(self, request: ReadRequest) -> Iterator[Result]:
        with elsewhere(self._folder, self._cache):
            yield from super().run(request)
