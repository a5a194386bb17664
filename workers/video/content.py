"""What a source shows, whatever it is called and whenever it was written: a digest of its bytes."""

import hashlib
import os
from functools import partial

import numpy as np

from workers.arrays import UInt8Array
from workers.digests import DigestMemory, digest_file, file_version
from workers.errors import VideoOpenError, display_name
from workers.video.entry_source import EntrySource
from workers.video.fetch import is_uri, local_path
from workers.video.source import Source
from workers.video.video_index import VideoIndex


def content_digest(source: Source, memory: DigestMemory) -> list[str]:
    """Return a blake2b digest of a video's bytes, or of each picture's; an entry's is in its key.

    Raises:
        VideoOpenError: a file is gone, or the video is no longer the one that was opened.
    """
    check_unchanged(source)
    if isinstance(source, VideoIndex):
        return [_of_file(source.path, memory)]
    if isinstance(source, EntrySource):
        return list(source.manifest.key["content"])
    return [
        _of_file(picture, memory) if isinstance(picture, str) else _of_pixels(picture)
        for picture in source.pictures
    ]


def check_unchanged(source: Source) -> None:
    """Refuse a video that has been written to since it was opened.

    Raises:
        VideoOpenError: it has, or is gone.
    """
    if not isinstance(source, VideoIndex) or is_uri(source.path):  # a copy is of one version
        return
    opened = {"size_bytes": source.size_bytes, "mtime_ns": source.mtime_ns}
    try:
        unchanged = file_version(source.path) == opened
    except OSError as error:
        raise VideoOpenError(f"{source.name}: {error.strerror}") from None
    if not unchanged:
        raise VideoOpenError(f"{source.name}: has changed since it was opened")


def _of_file(path: str, memory: DigestMemory) -> str:
    try:
        path = local_path(path)
        digest: str = memory.recall(path, "content", partial(digest_file, path))
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise VideoOpenError(f"{display_name(path)}: {reason}") from None
    return digest


def _of_pixels(picture: UInt8Array) -> str:
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()
