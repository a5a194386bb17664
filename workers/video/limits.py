"""What is refused before anything is read: addresses, what is no file, too large, too slow."""

import os
import re
import stat
import time

from workers.errors import VideoLimitError, VideoOpenError, VideoTimeoutError, display_name
from workers.video.fetch import local_path

MAX_PIXELS = 64_000_000
"""Largest picture (width x height) that is ever decoded; 8K UHD has 33 million pixels."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_ADDRESS_LETTERS = 60


class Deadline:
    """A limit on the wall time without progress, which loops ask now and then."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        self.path = path
        self.timeout_seconds = timeout_seconds
        self.restart()

    def restart(self) -> None:
        """Grant the full time again, from now."""
        self._end = time.monotonic() + self.timeout_seconds

    def progress(self) -> None:
        """Grant the full time again; raise VideoTimeoutError if it was over before."""
        now = time.monotonic()
        if now > self._end:
            raise self.error()
        self._end = now + self.timeout_seconds

    def error(self) -> VideoTimeoutError:
        """Build the error that names the file and the limit."""
        return VideoTimeoutError(
            f"{display_name(self.path)}: nothing came of reading for {self.timeout_seconds:g} s; "
            "copy the clip to a fast local disk"
        )


def check_file(path: str) -> os.stat_result:
    """Return the status of a file on this machine.

    Raises:
        VideoOpenError: it is not regular or empty, or what is given is no path.
    """
    try:
        status = os.stat(local_path(path))
    except (OSError, ValueError) as error:
        if _ADDRESS.match(path):
            raise VideoOpenError(_refused_address(path)) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VideoOpenError(
            f"{display_name(path)}: {reason}; give the path of a local video file"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoOpenError(f"{display_name(path)}: is a directory; give a video file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoOpenError(
            f"{display_name(path)}: is not a regular file (pipe, socket or device)"
        )
    if status.st_size == 0:
        raise VideoOpenError(f"{display_name(path)}: the file is empty (0 bytes)")
    return status


def _refused_address(path: str) -> str:
    shown = path if len(path) <= _ADDRESS_LETTERS else f"{path[:_ADDRESS_LETTERS]}…"
    return (
        f"{display_name(shown)}: is an address, and only paths of local files are taken here; "
        "download it first"
    )


def check_size(name: str, width: int, height: int) -> None:
    """Raise VideoLimitError for pictures of more than ``MAX_PIXELS``."""
    if width * height > MAX_PIXELS:
        raise VideoLimitError(
            f"{name}: pictures of {width}x{height} exceed the limit "
            f"of {MAX_PIXELS // 1_000_000} million pixels; scale them down first"
        )
