"""A file on its way in, written and digested as it comes."""

import hashlib
from pathlib import Path

from streaming.serve.failures import RequestError


class Incoming:
    """A file on its way in: bytes go to disk as they come, and are counted and digested."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._digest = hashlib.blake2b(digest_size=16)
        self._file = path.open("wb")

    def write(self, block: bytes) -> None:
        """Take some bytes.

        Raises:
            RequestError: they are more than a file may have.
        """
        self.size_bytes += len(block)
        if self.size_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        self._digest.update(block)
        self._file.write(block)

    def close(self) -> str:
        """Return the file's name by its content."""
        self._file.close()
        return f"file-{self._digest.hexdigest()}"

    def abandon(self) -> None:
        """Remove what has come."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def too_large(max_bytes: int) -> RequestError:
    """Return the refusal of a clip of too many bytes."""
    return RequestError(
        413, "media_too_large", f"a clip may have at most {max_bytes / 2**20:g} MiB here"
    )
