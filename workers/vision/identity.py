"""What tells the vision half of one checkpoint from that of another: its content, not its name.

Nothing is loaded: the bytes of the tensors are hashed where they stand in the safetensors files.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from workers.checkpoint import (
    PROJECTOR,
    VISION_TOWER,
    fetch,
    new_name,
    read_config,
    read_optional,
    stored_tensors,
)
from workers.digests import DigestMemory
from workers.errors import ModelError
from workers.vision.processor import VIDEO_PROCESSOR

_NAMES = VISION_TOWER | PROJECTOR
_BLOCK_BYTES = 4 * 1024**2


def vision_identity(location: str, memory: DigestMemory) -> str:
    """Return a digest of all that features depend on in a checkpoint.

    That is every tensor of the vision tower, the projector and the newline embedding by the name it
    is used under, and the configuration but for the language model's. How the checkpoint is cut
    into files makes no difference.

    Args:
        location: what ``workers.checkpoint.locate`` returned.
        memory: where the digests of tensors are remembered by file.

    Raises:
        ModelError: a file is missing or no safetensors file.

    Cost: once for each version of a file, O(bytes of these tensors).
    """
    tensors: dict[str, list[Any]] = {}
    for file, names in stored_tensors(location).items():
        if not any(new_name(name, _NAMES) for name in names):
            continue
        path = fetch(location, file)
        if path is None:
            raise ModelError(f"{location}: {file} is missing")
        tensors |= memory.recall(str(path), "vision weights", partial(_digest_tensors, path))
    config = {k: v for k, v in read_config(location).items() if k != "text_config"}
    pictures = [
        read_optional(location, name)
        for name in ("preprocessor_config.json", "processor_config.json", VIDEO_PROCESSOR)
    ]
    content = json.dumps([config, pictures, tensors], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=32).hexdigest()


def _digest_tensors(path: Path) -> dict[str, list[Any]]:
    """Return dtype, shape and digest of the vision half's tensors in a file, by their new names."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            tensors = {}
            for stored, about in header.items():
                name = new_name(stored, _NAMES)
                if name:
                    start, stop = about["data_offsets"]
                    digest = _digest_range(file, 8 + size + start, stop - start)
                    tensors[name] = [about["dtype"], about["shape"], digest]
            return tensors
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"{path}: unreadable safetensors file ({error})") from None


def _digest_range(file: BinaryIO, start: int, length: int) -> str:
    digest = hashlib.blake2b(digest_size=32)
    file.seek(start)
    while length > 0:
        block = file.read(min(length, _BLOCK_BYTES))
        if not block:
            raise ValueError("it ends within a tensor")
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()
