"""What an encoder is asked to do with stored tokens, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.arrays import Int64Array
from workers.digests import DigestMemory
from workers.disk.manifest import Manifest
from workers.disk.store import TokenStore
from workers.frames import Pruning


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadRequest:
    """Look in a store for a clip's ranked tokens, as ``pruning`` or one that it is part of.

    ``key`` is all that they depend on but what the encoder itself is: its weights, device and
    dtype. ``thumbnails`` tells whether an entry without pictures will not do.
    """

    clip_id: str
    store: TokenStore
    key: Mapping[str, Any]
    pruning: Pruning
    thumbnails: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenRequest:
    """Read the ranked tokens of these frames of an entry, whose arrays' digest is known.

    Frame ``frames[i]`` of the entry becomes frame i. ``memory`` is for digests of the weights.
    """

    clip_id: str
    path: str
    arrays_digest: str
    frames: Int64Array
    memory: DigestMemory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SaveRequest:
    """Keep a clip's ranked tokens in a store.

    ``manifest`` is whole but for what is the encoder's: its part of the key, and the frames.
    """

    store: TokenStore
    manifest: Manifest
    thumbnails: Mapping[int, bytes]


StoreRequest = LoadRequest | OpenRequest | SaveRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreNews:
    """What came of a store: the manifest of what was loaded, None for a miss, and what is amiss."""

    manifest: Manifest | None = None
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
