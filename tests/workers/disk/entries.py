"""Entries of stored tokens to write, and ways to damage their files."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.workers.test_bank import make_ranked
from workers.disk.entry import Entry
from workers.disk.manifest import Manifest
from workers.frames import Pruning

PRUNING = Pruning(method="uniform", num_keep=3, max_keep=12)


def make_entry(
    *,
    num_frames: int = 3,
    count: int = 12,
    dtype: torch.dtype = torch.float32,
    key: Mapping[str, Any] | None = None,
    pruning: Pruning = PRUNING,
    thumbnails: Mapping[int, bytes] | None = None,
) -> Entry:
    """Every feature spells its frame and its flat index."""
    ranked = make_ranked(range(num_frames), count=count, dtype=dtype)
    manifest = Manifest(
        key={"content": ["c" * 64], "dtype": ranked.dtype, "pts_seconds": [0.1, 0.2, 1 / 3]}
        | dict(key or {}),
        pruning=pruning,
        made_for_budget=9,
        name="clips/the clip é.mp4",
        sizes=((96, 160),) * num_frames,
        options={"num_frames": num_frames, "fps": None},
        source_warnings=("its clock jumps",),
        warnings=("a frame is missing",),
    )
    return Entry(manifest=manifest, ranked=ranked, thumbnails=thumbnails or {})


def named(entry: Entry, **key: Any) -> Entry:
    """Return an entry of another key."""
    return replace(entry, manifest=replace(entry.manifest, key={**entry.manifest.key, **key}))


def header_bytes(content: bytes) -> int:
    """Return where the data of a safetensors file begins."""
    return 8 + int.from_bytes(content[:8], "little")


def _cut(share_of: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    return lambda content: content[: share_of(content)]


def _flip(place: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def flipped(content: bytes) -> bytes:
        at = place(content)
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return flipped


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the length": _cut(lambda content: 5),
    "cut in the manifest": _cut(lambda content: 300),
    "cut before the data": _cut(header_bytes),
    "cut in the data": _cut(lambda content: (header_bytes(content) + len(content)) // 2),
    "cut by a byte": _cut(lambda content: len(content) - 1),
    "longer": lambda content: content + b"\0",
    "flip in the length": _flip(lambda content: 0),
    "flip in the mark": _flip(lambda content: 30),
    "flip in the name": _flip(lambda content: content.index(b"the clip") + 2),
    "flip in a time": _flip(lambda content: content.index(b"pts_seconds") + 17),
    "flip in a digest": _flip(lambda content: content.index(b"arrays_digest") + 30),
    "flip in a shape": _flip(lambda content: content.rindex(b'"shape":[') + 9),
    "flip in the dtype": _flip(lambda content: content.rindex(b'"dtype":"') + 10),
    "flip in the first datum": _flip(header_bytes),
    "flip in the data": _flip(lambda content: (header_bytes(content) + len(content)) // 2),
    "flip in the last datum": _flip(lambda content: len(content) - 1),
    "text": lambda content: b"this is text\n" * 99,
    "a pickle": lambda content: b"\x80\x04\x95" + content,
    "nested": lambda content: (2**20).to_bytes(8, "little") + b"[" * 2**20,
}
"""What can happen to a file, by name: from its bytes to those found later."""


def damage(path: Path, name: str) -> None:
    """Do this to a file."""
    path.write_bytes(DAMAGES[name](path.read_bytes()))
