"""One clip's ranked tokens as a file: safetensors, with all that is known of them in its metadata.

Arrays are stored as they travel (bfloat16 as ``uint16``). The manifest is one JSON object under the
key ``mr_stream_entry``; it holds a digest of the arrays and one of itself, and nothing in a file
whose digests are not right is ever used. Nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.disk.manifest import Manifest
from workers.errors import EntryError, display_name
from workers.frames import RankedFrames

_MARK = "mr_stream_entry"
_HEAD = f'{{"__metadata__":{{"{_MARK}":'.encode()

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A clip's ranked tokens with their manifest; ``thumbnails`` are JPEGs by frame."""

    manifest: Manifest
    ranked: RankedFrames
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)


def is_entry(path: str) -> bool:
    """Tell by its first bytes whether a file is an entry, sound or not."""
    try:
        with open(path, "rb") as file:
            return file.read(8 + len(_HEAD))[8:] == _HEAD
    except OSError:
        return False


def arrays_of(entry: Entry) -> dict[str, NDArray[Any]]:
    """Return what is stored of an entry beside its manifest, by name."""
    ranked, frames = entry.ranked, sorted(entry.thumbnails)
    pictures = [np.frombuffer(entry.thumbnails[frame], np.uint8) for frame in frames]
    found = {} if ranked.stand_ins is None else {"stand_ins": ranked.stand_ins}
    return {
        "features": ranked.features,
        "order": ranked.order,
        "counts": ranked.counts,
        "informativeness": ranked.informativeness,
        **found,
        "thumbnail_frames": np.array(frames, np.int64),
        "thumbnail_bytes": np.array([len(picture) for picture in pictures], np.int64),
        "thumbnails": np.concatenate([np.empty(0, np.uint8), *pictures]),
    }


def write_entry(path: Path, entry: Entry) -> None:
    """Write an entry to a file that is not there yet; on return it is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays_of(entry).items()}
    manifest = replace(
        entry.manifest,
        frame_indices=tuple(entry.ranked.frame_indices.tolist()),
        pts_seconds=tuple(entry.ranked.pts_seconds.tolist()),
        layouts=entry.ranked.layouts,
        arrays_digest=_digest_arrays(arrays, entry.ranked.dtype),
    )
    try:
        save_file(arrays, path, {_MARK: json.dumps(manifest.to_json())})
    except SafetensorError as error:  # its name for an OSError
        raise OSError(str(error)) from None
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read_manifest(path: str) -> Manifest:
    """Read what an entry says of itself, without its arrays.

    Raises:
        EntryError: it is damaged, no entry at all, or of another format.
        FileNotFoundError: there is no such file.
    """
    return _read(path)[0]


def read_entry(path: str, *, clip_id: str) -> Entry:
    """Read an entry, as that of ``clip_id``, and check every byte of it.

    Raises:
        EntryError: it is damaged, no entry at all, or of another format.
        FileNotFoundError: there is no such file.
    """
    manifest, arrays = _read(path, with_arrays=True)
    try:
        dtype = manifest.key["dtype"]
        if _digest_arrays(arrays, dtype) != manifest.arrays_digest:
            raise ValueError("its arrays are damaged")
        ranked = RankedFrames(
            clip_id=clip_id,
            frame_indices=np.array(manifest.frame_indices, np.int64),
            pts_seconds=np.array(manifest.pts_seconds, np.float64),
            layouts=manifest.layouts,
            dtype=dtype,
            **{name: arrays[name] for name in ("features", "order", "counts", "informativeness")},
            stand_ins=arrays.get("stand_ins"),
        )
        stops = np.cumsum(arrays["thumbnail_bytes"])[:-1]
        pictures = np.split(arrays["thumbnails"], stops)
        frames = arrays["thumbnail_frames"].tolist()
        thumbnails = {f: each.tobytes() for f, each in zip(frames, pictures, strict=False)}
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    return Entry(manifest=manifest, ranked=ranked, thumbnails=thumbnails)


def _read(path: str, *, with_arrays: bool = False) -> tuple[Manifest, dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            manifest = Manifest.from_json(json.loads((file.metadata() or {})[_MARK]))
            names = list(file.keys()) if with_arrays else []
            return manifest, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise
    except KeyError:
        raise _damaged(path, "it has no manifest") from None
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: str, reason: object) -> EntryError:
    text = " ".join(str(reason).split())
    return EntryError(f"{display_name(path)}: cannot be used as stored tokens ({text})")


def _digest_arrays(arrays: Arrays, dtype: str) -> str:
    digest = hashlib.blake2b(dtype.encode(), digest_size=32)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.hexdigest()
