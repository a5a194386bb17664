"""One clip's ranked tokens as a file: safetensors, with all that is known of them in its metadata.

Arrays are stored as they travel (bfloat16 as ``uint16``). The manifest is one JSON object under the
key ``mr_stream_entry``; it holds a digest of the arrays and one of itself, and nothing in a file
whose digests are not right is ever used. Nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruner import FrameLayout, Settings
from workers.errors import EntryError, display_name
from workers.frames import Pruning, RankedFrames

FORMAT = 1
_MARK = "mr_stream_entry"
_HEAD = f'{{"__metadata__":{{"{_MARK}":'.encode()

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """What is known of an entry without its arrays: enough to plan a run without the video.

    ``key`` tells what its tokens were made of, in plain JSON values, but for how many are held:
    ``pruning.num_keep`` and ``pruning.max_keep``, which follow from ``made_for_budget``. ``sizes``
    are the displayed (height, width) of all sampled frames; ``frame_indices``, ``pts_seconds`` and
    ``layouts`` are of those that could be ranked. ``options`` are those of the run, by flat name,
    that decide how a budget is spent. ``arrays_digest`` is set when the entry is written.
    """

    key: Mapping[str, Any]
    pruning: Pruning
    made_for_budget: int
    name: str
    sizes: tuple[tuple[int, int], ...]
    options: Mapping[str, Any]
    source_warnings: tuple[str, ...]
    warnings: tuple[str, ...]
    frame_indices: tuple[int, ...] = ()
    pts_seconds: tuple[float, ...] = ()
    layouts: tuple[FrameLayout, ...] = ()
    arrays_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with the format and a digest of the rest of it."""
        content = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in self.__slots__},
            "pruning": asdict(self.pruning),
            "layouts": [[each.num_base, each.rows, each.columns] for each in self.layouts],
        }
        return {**content, "manifest_digest": _digest_json(content)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Manifest":
        """Return the manifest that :meth:`to_json` wrote.

        Raises:
            ValueError: another format, or not what was written.
        """
        values = dict(content)
        digest = values.pop("manifest_digest", None)
        if values.get("format") != FORMAT:
            raise ValueError(f"format {values.get('format')!r}, and {FORMAT} is read here")
        if digest != _digest_json(values):
            raise ValueError("its manifest is damaged")
        del values["format"]
        pruning = values["pruning"]
        pruning["settings"] = Settings(**pruning["settings"])
        values["pruning"] = Pruning(**pruning)
        values["sizes"] = tuple((height, width) for height, width in values["sizes"])
        values["layouts"] = tuple(
            FrameLayout(num_base=base, rows=rows, columns=columns)
            for base, rows, columns in values["layouts"]
        )
        for name in ("source_warnings", "warnings", "frame_indices", "pts_seconds"):
            values[name] = tuple(values[name])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A clip's ranked tokens with their manifest; ``thumbnails`` are JPEGs by frame."""

    manifest: Manifest
    ranked: RankedFrames
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)


@cache
def package_version() -> str:
    """Return the version of this package, ``unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mr-stream")
    except PackageNotFoundError:
        return "unknown"


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
    return {
        "features": ranked.features,
        "order": ranked.order,
        "counts": ranked.counts,
        "informativeness": ranked.informativeness,
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


def _digest_json(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(canonical(content), digest_size=32).hexdigest()


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return one text for equal JSON objects, whatever the order of their keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest_arrays(arrays: Arrays, dtype: str) -> str:
    digest = hashlib.blake2b(dtype.encode(), digest_size=32)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.data)
    return digest.hexdigest()
