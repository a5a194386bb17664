"""Clips that were sent or fetched: files named by what is in them, within a bound."""

import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streaming.serve.failures import RequestError
from streaming.serve.incoming import Incoming

_ID = re.compile(r"file-[0-9a-f]{32}")
_NAME_LETTERS = 100
_LEAST_BYTES = 4096
"""That a file takes of a disk, however small it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file by its content; ``uploaded`` ones stay until they are deleted."""

    file_id: str
    path: str
    name: str
    size_bytes: int
    created: int
    """Unix seconds."""
    uploaded: bool

    @property
    def room_bytes(self) -> int:
        """What it takes of the room for files."""
        return _room_for(self.size_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's file object."""
        return {
            "id": self.file_id,
            "object": "file",
            "bytes": self.size_bytes,
            "created_at": self.created,
            "filename": self.name,
            "purpose": "user_data",
        }


class Files:
    """A folder of this server's own, gone with it.

    Any thread may call at any time. What is in use is neither removed to make room nor deleted
    under whoever reads it.

    Args:
        max_bytes: of all files together.
        max_file_bytes: of each.
        on_removal: told the path of each file that is gone.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_file_bytes: int,
        on_removal: Callable[[str], object] = lambda path: None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mr-stream-files-")
        self._max_bytes = max_bytes
        self.max_file_bytes = max_file_bytes
        self._on_removal = on_removal
        self._lock = threading.RLock()
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._uses: dict[str, int] = {}
        self._doomed: dict[str, StoredFile] = {}
        self._taken_bytes = 0
        """The room of all files there are, those that are doomed among them."""
        self._reserved_bytes = 0
        """The room for those on their way in."""

    def close(self) -> None:
        """Remove all files."""
        self._folder.cleanup()

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Open a new file; what was written is removed unless :meth:`keep` has taken it."""
        handle, path = tempfile.mkstemp(dir=self._folder.name)
        os.close(handle)
        incoming = Incoming(Path(path), self.max_file_bytes)
        try:
            yield incoming
        finally:
            incoming.abandon()

    @contextmanager
    def reserved(self, num_bytes: int) -> Iterator[None]:
        """Hold room for a file that is on its way in, so that all of them have room together.

        Args:
            num_bytes: of the file, at most.

        Raises:
            RequestError: there is no room for it.
        """
        room = _room_for(num_bytes)
        with self._lock:
            self._make_room(room)
            self._reserved_bytes += room
        try:
            yield
        finally:
            with self._lock:
                self._reserved_bytes -= room

    def keep(
        self, incoming: Incoming, name: str, *, uploaded: bool, num_reserved: int = 0
    ) -> StoredFile:
        """Take a file that has come; one of the same content is the same file.

        Args:
            incoming: written to its end.
            name: by which a client calls it.
            uploaded: whether it stays until it is deleted.
            num_reserved: bytes for which :meth:`reserved` holds room for it.

        Raises:
            RequestError: it is empty, or there is no room for it.
        """
        file_id = incoming.close()
        if not incoming.size_bytes:
            raise RequestError(400, "media_empty", "the file is empty")
        with self._lock:
            held = self._files.get(file_id)
            if held is None and (doomed := self._doomed.pop(file_id, None)) is not None:
                held = replace(
                    doomed, uploaded=uploaded, name=_tidy(name), created=int(time.time())
                )
            if held is None:
                room = _room_for(incoming.size_bytes)
                self._make_room(room - (_room_for(num_reserved) if num_reserved else 0))
                path = os.path.join(self._folder.name, file_id)
                os.replace(incoming.path, path)
                os.utime(path, (0, 0))  # one content is one version, however often it comes
                held = StoredFile(
                    file_id=file_id,
                    path=path,
                    name=_tidy(name),
                    size_bytes=incoming.size_bytes,
                    created=int(time.time()),
                    uploaded=uploaded,
                )
                self._taken_bytes += room
            elif uploaded and not held.uploaded:
                held = replace(held, uploaded=True, name=_tidy(name))
            self._files[file_id] = held
            self._files.move_to_end(file_id)
            return held

    def get(self, file_id: str) -> StoredFile:
        """Return a file that was uploaded.

        Raises:
            RequestError: there is none of this name.
        """
        with self._lock:
            file = self._files.get(file_id)
            if file is None or not file.uploaded:
                raise RequestError(404, "file_not_found", "no file of this id: upload it first")
            self._files.move_to_end(file_id)
            return file

    def uploads(self) -> list[StoredFile]:
        """Return the files that were uploaded, those used last at the end."""
        with self._lock:
            return [file for file in self._files.values() if file.uploaded]

    def delete(self, file_id: str) -> None:
        """Forget a file; it is removed once nobody reads it.

        Raises:
            RequestError: there is none of this name.
        """
        with self._lock:
            self._remove(self.get(file_id))

    @contextmanager
    def in_use(self, file: StoredFile) -> Iterator[None]:
        """Keep a file as long as it is read."""
        with self._lock:
            self._uses[file.file_id] = self._uses.get(file.file_id, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._uses[file.file_id] -= 1
                if not self._uses[file.file_id]:
                    del self._uses[file.file_id]
                    if file.file_id in self._doomed:
                        self._unlink(self._doomed.pop(file.file_id))

    def _make_room(self, num_bytes: int) -> None:
        """Remove what was sent longest ago, as much as is needed and nothing if that is too little.

        O(files that are looked at while room is short), none where there is room.
        """
        short = self._taken_bytes + self._reserved_bytes + num_bytes - self._max_bytes
        removed = []
        for file in self._files.values() if short > 0 else ():
            if not file.uploaded and file.file_id not in self._uses:
                removed.append(file)
                short -= file.room_bytes
            if short <= 0:
                break
        if short > 0:
            raise RequestError(
                507, "storage_full", "no room for another clip here: delete files no longer asked"
            )
        for file in removed:
            self._remove(file)

    def _remove(self, file: StoredFile) -> None:
        del self._files[file.file_id]
        if file.file_id in self._uses:
            self._doomed[file.file_id] = file
        else:
            self._unlink(file)

    def _unlink(self, file: StoredFile) -> None:
        self._taken_bytes -= file.room_bytes
        with suppress(FileNotFoundError):
            os.unlink(file.path)
        self._on_removal(file.path)


def _room_for(num_bytes: int) -> int:
    return max(num_bytes, _LEAST_BYTES)


def is_file_id(text: str) -> bool:
    """Tell the id of a file from an address."""
    return _ID.fullmatch(text) is not None


def _tidy(name: str) -> str:
    """Return a client's name for a file, without folders and letters that do not print."""
    shown = "".join(letter for letter in name if letter.isprintable())
    return re.split(r"[/\\]", shown)[-1][:_NAME_LETTERS] or "clip"
