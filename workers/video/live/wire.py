"""What a reading process tells the one that watches: lines of JSON, and pixels behind some.

Nothing that comes is unpickled: the process decodes what strangers send.
"""

import json
import os
import select
import struct
from typing import Any

from workers.arrays import UInt8Array

_HEAD = struct.Struct("<II")
"""Lengths of the text and of the pixels that follow."""
_MOST_TEXT = 1 << 20
_MOST_PIXELS = 1 << 28
_BLOCK = 1 << 20

Message = tuple[dict[str, Any], bytes]
"""What is told, and the pixels that belong to it, often none."""


class SilenceError(Exception):
    """Nothing has come for too long."""


def send(fd: int, told: dict[str, Any], picture: UInt8Array | None = None) -> None:
    """Write one message; blocks where the reader is behind. Raises OSError if it has left."""
    text = json.dumps(told).encode()
    pixels = memoryview(b"") if picture is None else picture.data.cast("B")
    _write(fd, memoryview(_HEAD.pack(len(text), len(pixels)) + text))
    _write(fd, pixels)


def _write(fd: int, content: memoryview) -> None:
    while content:
        content = content[os.write(fd, content) :]


def receive(fd: int, silence_seconds: float) -> Message | None:
    """Read one message, None at the end of all.

    Args:
        fd: to be read.
        silence_seconds: how long to wait for the next bytes.

    Raises:
        SilenceError: none came.
        ValueError: what came is no message.
    """
    head = _read(fd, _HEAD.size, silence_seconds)
    if len(head) < _HEAD.size:
        return None
    num_text, num_pixels = _HEAD.unpack(head)
    if num_text > _MOST_TEXT or num_pixels > _MOST_PIXELS:
        raise ValueError(f"a message of {num_text} and {num_pixels} bytes")
    text = _read(fd, num_text, silence_seconds)
    pixels = _read(fd, num_pixels, silence_seconds)
    if len(text) < num_text or len(pixels) < num_pixels:
        return None
    return json.loads(text), bytes(pixels)


def _read(fd: int, num_bytes: int, silence_seconds: float) -> bytearray:
    """Read so many bytes, or fewer at the end."""
    ready = select.poll()
    ready.register(fd, select.POLLIN)
    content = bytearray()
    while len(content) < num_bytes:
        if not ready.poll(silence_seconds * 1000):
            raise SilenceError
        block = os.read(fd, min(_BLOCK, num_bytes - len(content)))
        if not block:
            break
        content += block
    return content
