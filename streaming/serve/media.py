"""From where a request says its clip is to files on this machine."""

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from streaming.serve.content import ClipPart, too_many_pictures
from streaming.serve.download import Fetcher
from streaming.serve.failures import RequestError, bad_request
from streaming.serve.files import Files, StoredFile, is_file_id
from streaming.serve.incoming import too_large
from streaming.serve.options import MediaOptions
from streaming.serve.urls import refused
from workers.errors import display_name

_DATA = re.compile(r"data:(?P<kind>[\w.+/-]*)(?:;[\w.+=-]*)*?;base64,", re.IGNORECASE | re.ASCII)
_HEAD_LETTERS = 256
_KINDS = ("video/", "image/", "application/octet-stream")
_BLOCK_LETTERS = 2**20  # a multiple of four


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A clip on this machine; ``names`` are what a client calls its files."""

    paths: tuple[str, ...]
    is_pictures: bool
    names: dict[str, str]

    @property
    def name(self) -> str:
        """What a client calls the clip."""
        return next(iter(self.names.values())) if len(self.paths) == 1 else "the pictures"

    def shown(self, text: str) -> str:
        """Return a line with what the client calls its files, also of paths that do not print."""
        for path, name in self.names.items():
            for written in (path, display_name(path)):
                text = text.replace(written, display_name(name))
        return text


class Media:
    """Fetches clips from where the server's options allow it.

    Args:
        files: takes what is sent and fetched.
        options: of the server.
        fetcher: of https: addresses.
    """

    def __init__(self, files: Files, options: MediaOptions, fetcher: Fetcher) -> None:
        self._files = files
        self._max_pictures = options.max_frames
        self._folder = None if options.media_folder is None else Path(options.media_folder)
        self._fetcher = fetcher

    @contextmanager
    def located(self, clip: ClipPart) -> Iterator[Located]:
        """Return a clip's files, which stay as long as they are in use.

        Raises:
            RequestError: an address is refused, or nothing is there.
        """
        if len(clip.addresses) > self._max_pictures:
            raise too_many_pictures(self._max_pictures)
        names: dict[str, str] = {}
        paths = []
        with ExitStack() as used:
            for address in clip.addresses:
                path, name = self._locate(address, used)
                paths.append(path)
                names[path] = name
            yield Located(paths=tuple(paths), is_pictures=clip.is_pictures, names=names)

    def _locate(self, address: str, used: ExitStack) -> tuple[str, str]:
        scheme = address[:16].partition(":")[0].lower()
        if is_file_id(address):
            file = self._files.get(address)
        elif scheme == "data":
            file = self._decode(address)
        elif scheme == "https":
            file = self._fetch(address)
        elif scheme == "file":
            return self.in_folder(address)
        else:
            raise bad_request(
                "a clip's address must be a data: URL, the id of an uploaded file, or where the "
                "server allows it an https: or file: URL"
            )
        used.enter_context(self._files.in_use(file))
        return file.path, file.name

    def _decode(self, address: str) -> StoredFile:
        head = _DATA.match(address[:_HEAD_LETTERS])
        if head is None:
            raise bad_request("a data: URL must be in base64: data:video/mp4;base64,...")
        kind = head["kind"].lower()
        if kind and not kind.startswith(_KINDS):
            raise RequestError(415, "media_type", "a clip is a video or pictures, not what it says")
        if (len(address) - head.end()) // 4 * 3 > self._files.max_file_bytes:
            raise too_large(self._files.max_file_bytes)
        with self._files.incoming() as incoming:
            try:
                for start in range(head.end(), len(address), _BLOCK_LETTERS):
                    block = address[start : start + _BLOCK_LETTERS]
                    incoming.write(base64.b64decode(block, validate=True))
            except (binascii.Error, ValueError):
                raise bad_request("a data: URL is not valid base64") from None
            return self._files.keep(incoming, "the clip", uploaded=False)

    def _fetch(self, address: str) -> StoredFile:
        if not self._fetcher.allowed:
            raise refused("nothing is fetched here; send the clip as a data: URL, or upload it")
        with self._files.incoming() as incoming:
            self._fetcher.fetch(address, incoming.write)
            name = unquote(urlsplit(address).path).rpartition("/")[2]
            return self._files.keep(incoming, name or "the clip", uploaded=False)

    def in_folder(self, address: str) -> tuple[str, str]:
        """Return a file of the media folder: of this folder once every link is followed.

        Raises:
            RequestError: there is no folder, or no such file in it.
        """
        if self._folder is None:
            raise refused("no files of the server may be named; send the clip, or upload it")
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise refused("a file: URL is file:///path")
        try:
            folder, path = self._folder.resolve(strict=True), Path(unquote(parts.path))
            real = path.resolve(strict=True)
            is_file = stat.S_ISREG(os.stat(real).st_mode)
        except (OSError, ValueError, RuntimeError):
            raise refused("no such file in the server's media folder") from None
        if not real.is_relative_to(folder) or not is_file:
            raise refused("no such file in the server's media folder")
        return str(real), path.name
