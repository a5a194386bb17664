"""Clips that were opened: where a decoder can be killed for it, and once."""

import os
from collections import OrderedDict
from threading import Lock

from streaming.serve.failures import RequestError
from streaming.serve.media import Located
from workers.errors import EntryError, VideoDecodeError, WorkerError
from workers.messages import SourceRequest
from workers.run.engine import Engine
from workers.video.entry_source import EntrySource
from workers.video.source import Source

_MOST_SOURCES = 256


class Sources:
    """What was opened last, by file and version.

    Args:
        engine: whose decoders open clips.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._opened: OrderedDict[tuple[object, ...], Source] = OrderedDict()

    def open(self, located: Located) -> Source:
        """Return an opened clip.

        Raises:
            RequestError: its file is gone.
            EntryError: it is no clip but tokens, which no client hands in.
            VideoError: it cannot be read, or not with what a decoder may take.
            StreamError: a worker failed.
        """
        key = (located.is_pictures, *map(_version, located.paths))
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        source = self._open(located)
        if isinstance(source, EntrySource):
            raise EntryError(f"{located.name}: is an entry of a store")
        with self._lock:
            self._opened[key] = source
            while len(self._opened) > _MOST_SOURCES:
                self._opened.popitem(last=False)
        return source

    def _open(self, located: Located) -> Source:
        request = SourceRequest(paths=located.paths, pictures=located.is_pictures)
        try:
            return self._engine.open(request, located.name)
        except WorkerError:
            if self._engine.failure is not None:
                raise
            reason = "opening it takes too long, or too much memory"
            raise VideoDecodeError(f"{located.name}: {reason}") from None


def _version(path: str) -> tuple[object, ...]:
    try:
        status = os.stat(path)
    except OSError:
        raise RequestError(404, "file_not_found", "the clip is gone") from None
    return path, status.st_size, status.st_mtime_ns
