"""What an encoder does with stored tokens: looks them up, reads one entry, keeps new ones."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from workers.digests import DigestMemory
from workers.disk.entry import Entry, read_entry
from workers.disk.manifest import Manifest, canonical
from workers.disk.requests import LoadRequest, OpenRequest, SaveRequest, StoreNews, StoreRequest
from workers.errors import EntryError, InputError, OutputError, display_name
from workers.frames import Pruning, RankedFrames

Ranked = tuple[RankedFrames, ...]
"""One for each pruning of a clip; stored is a clip of one."""


class StoredTokens:
    """Answers requests about stored tokens for one encoder, whose part of every key it knows.

    Args:
        location: of the checkpoint.
        device: of encoding, torch's name.
        dtype: of encoding, torch's name.
    """

    def __init__(self, location: str, *, device: str, dtype: str) -> None:
        self._location = location
        self._device = device
        self._dtype = dtype
        self._weights = ""

    def answer(
        self, request: StoreRequest, inputs: tuple[Ranked, ...]
    ) -> tuple[Ranked | None, StoreNews]:
        """Return what was read, None for a miss or what was saved, and the news."""
        if isinstance(request, OpenRequest):
            return open_entry(request, self._identify(request.memory))
        weights = self._identify(request.store.memory)
        encoder = {"device": self._device, "dtype": self._dtype, "weights": weights}
        if isinstance(request, LoadRequest):
            return load_entry(request, encoder)
        return None, save_entry(request, encoder, inputs)

    def _identify(self, memory: DigestMemory) -> str:
        """Return what tells the checkpoint's vision half from others."""
        from workers.vision.identity import vision_identity

        self._weights = self._weights or vision_identity(self._location, memory)
        return self._weights


def load_entry(request: LoadRequest, encoder: Mapping[str, str]) -> tuple[Ranked | None, StoreNews]:
    """Return the nearest sound entry of a store, None for a miss.

    Args:
        request: what is looked for.
        encoder: its part of the key.
    """
    key = {**request.key, **encoder}
    warnings = []
    for path in request.store.find(key, request.pruning):
        try:
            entry = read_entry(path, clip_id=request.clip_id)
            _check(path, entry.manifest, key, request.pruning)
        except FileNotFoundError:
            continue
        except EntryError as error:
            warnings.append(f"{error}; it is passed over")
            continue
        if request.thumbnails and not entry.thumbnails:
            continue
        request.store.touch(path)
        return (entry.ranked,), _news(entry, warnings)
    return None, StoreNews(warnings=tuple(warnings))


def open_entry(request: OpenRequest, weights: str) -> tuple[Ranked, StoreNews]:
    """Return some frames of one entry, numbered anew.

    Raises:
        EntryError: it is damaged, or no longer the one that was planned with.
        InputError: it was made with other weights than those that are asked.
    """
    name = display_name(request.path)
    try:
        entry = read_entry(request.path, clip_id=request.clip_id)
    except FileNotFoundError:
        raise EntryError(f"{name}: is gone") from None
    if entry.manifest.arrays_digest != request.arrays_digest:
        raise EntryError(f"{name}: has changed since it was opened")
    if entry.manifest.key["weights"] != weights:
        raise InputError(
            f"{name}: was made with another vision tower or projector than --model has; name the "
            "model it was made with, or ask the video"
        )
    rows = np.flatnonzero(np.isin(entry.ranked.frame_indices, request.frames))
    numbers = np.searchsorted(request.frames, entry.ranked.frame_indices[rows])
    pictures = zip(request.frames.tolist(), range(len(request.frames)), strict=True)
    entry = replace(
        entry,
        ranked=replace(entry.ranked[rows], frame_indices=numbers),
        thumbnails={
            number: entry.thumbnails[frame]
            for frame, number in pictures
            if frame in entry.thumbnails
        },
    )
    return (entry.ranked,), _news(entry, [])


def save_entry(
    request: SaveRequest, encoder: Mapping[str, str], inputs: tuple[Ranked, ...]
) -> StoreNews:
    """Keep a clip's tokens; the news tell why they could not be kept, if so."""
    ranked = join_frames([part for (part,) in inputs])
    manifest = replace(request.manifest, key={**request.manifest.key, **encoder})
    entry = Entry(manifest=manifest, ranked=ranked, thumbnails=request.thumbnails)
    try:
        request.store.keep(entry)
    except OutputError as error:
        return StoreNews(warnings=(str(error),))
    return StoreNews()


def join_frames(parts: list[RankedFrames]) -> RankedFrames:
    """Return the frames of one clip as one, in source order."""
    found = [part.stand_ins for part in parts if part.stand_ins is not None]
    joined = RankedFrames(
        clip_id=parts[0].clip_id,
        frame_indices=np.concatenate([part.frame_indices for part in parts]),
        pts_seconds=np.concatenate([part.pts_seconds for part in parts]),
        layouts=tuple(layout for part in parts for layout in part.layouts),
        counts=np.concatenate([part.counts for part in parts]),
        order=np.concatenate([part.order for part in parts]),
        features=np.concatenate([part.features for part in parts]),
        dtype=parts[0].dtype,
        informativeness=np.concatenate([part.informativeness for part in parts]),
        stand_ins=np.concatenate(found) if found else None,
    )
    return joined[np.argsort(joined.frame_indices)]


def _check(path: str, manifest: Manifest, key: Mapping[str, object], pruning: Pruning) -> None:
    """Refuse an entry that stands under a name not its own."""
    held = manifest.pruning
    same = canonical(manifest.key) == canonical(key)
    if not same or held.num_keep < pruning.num_keep or held.max_keep < pruning.max_keep:
        raise EntryError(f"{display_name(path)}: holds the tokens of something else")


def _news(entry: Entry, warnings: list[str]) -> StoreNews:
    """Return the news of a hit, in which the frames are those of ``entry.ranked``."""
    manifest = replace(
        entry.manifest,
        frame_indices=tuple(entry.ranked.frame_indices.tolist()),
        pts_seconds=tuple(entry.ranked.pts_seconds.tolist()),
        layouts=entry.ranked.layouts,
    )
    return StoreNews(manifest=manifest, thumbnails=entry.thumbnails, warnings=tuple(warnings))
