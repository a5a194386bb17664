"""A clip's ranked tokens from a store where it has them, else encoded and then kept there."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from streaming.clip_plan import ClipPlan
from streaming.served import recorded_options
from workers.digests import DigestMemory
from workers.disk.manifest import Manifest
from workers.disk.requests import LoadRequest, OpenRequest, SaveRequest
from workers.disk.store import TokenStore
from workers.errors import VideoOpenError
from workers.run.clip_job import Progress
from workers.run.clips import EncodedClip
from workers.run.engine import Engine
from workers.version import version_with
from workers.video.content import check_unchanged, content_digest
from workers.video.entry_source import EntrySource
from workers.video.images import ImageSource
from workers.video.source import Source


def recall_or_encode(
    engine: Engine,
    plan: ClipPlan,
    store: TokenStore,
    show: Callable[[Progress], None],
    *,
    need_thumbnails: bool = True,
) -> EncodedClip:
    """Return a clip's tokens, from the store if they are there; what is encoded is kept there.

    Not kept are tokens of a clip of which frames were given up: another time they may be sound. If
    ``need_thumbnails``, stored tokens without the pictures that the plan makes will not do.

    Raises:
        ValueError: the clip is pruned in several ways.
        StreamError: see :meth:`workers.run.engine.Engine.encode`.
    """
    if len(plan.clip.prunings) > 1:
        raise ValueError(f"{plan.clip.name}: a store holds clips of one pruning")
    started = time.perf_counter()
    (pruning,) = plan.clip.prunings
    key = make_key(plan, store)
    request = LoadRequest(
        clip_id=plan.clip.clip_id,
        store=store,
        key=key,
        pruning=pruning,
        thumbnails=need_thumbnails and plan.clip.thumbnail_width > 0,
    )
    encoded, warnings = engine.load(plan.clip, request)
    if encoded is None:
        encoded = engine.encode(plan.clip, show)
        encoded.made_for_budget = plan.budget
        if encoded.bank and not encoded.num_given_up and _is_unchanged(plan.source):
            warnings += engine.save(encoded, _save_request(plan, store, key, encoded))
    encoded.warnings += warnings
    encoded.elapsed_seconds = time.perf_counter() - started
    return encoded


def open_stored(engine: Engine, plan: ClipPlan, store: TokenStore | None) -> EncodedClip:
    """Return the tokens of an entry that was named as the clip.

    Raises:
        EntryError: it is damaged, or has changed since the plan was made.
        InputError: it was made with another vision tower than the model has.
    """
    source = plan.source
    if not isinstance(source, EntrySource):
        raise TypeError(f"{plan.clip.name} is no entry")
    request = OpenRequest(
        clip_id=plan.clip.clip_id,
        path=os.path.abspath(source.path),
        arrays_digest=source.manifest.arrays_digest,
        frames=plan.frames,
        memory=store.memory if store else DigestMemory(folder=None),
    )
    encoded, _ = engine.load(plan.clip, request)
    if encoded is None:
        raise RuntimeError(f"{source.path}: an entry that was named is there or an error")
    if store is not None and store.holds(source.path):
        store.touch(source.path)
    return encoded


def make_key(plan: ClipPlan, store: TokenStore) -> Mapping[str, Any]:
    """Return what a clip's ranked tokens depend on, but for the encoder and how many are kept.

    Raises:
        VideoOpenError: the clip is gone, or has changed since it was opened.
    """
    source, clip = plan.source, plan.clip
    ranking = asdict(clip.prunings[plan.pruning])
    del ranking["num_keep"], ranking["max_keep"]
    pictures = isinstance(source, ImageSource)
    return {
        "version": version_with(ranking["method"]),
        "content": content_digest(source, store.memory),
        "positions": plan.frames.tolist(),
        "pts_seconds": source.pts_seconds(plan.frames).tolist(),
        "decoder": "pillow" if pictures else plan.options.frames.decoder,
        "resize": clip.resize,
        "gated": clip.gated,
        "tiles": clip.tiles.to_json(),
        "ranking": ranking,
    }


def _save_request(
    plan: ClipPlan, store: TokenStore, key: Mapping[str, Any], encoded: EncodedClip
) -> SaveRequest:
    (pruning,) = plan.clip.prunings
    manifest = Manifest(
        key=key,
        pruning=pruning,
        made_for_budget=plan.budget,
        name=plan.clip.name,
        sizes=tuple(plan.source.size_of(frame) for frame in plan.frames.tolist()),
        options=recorded_options(plan),
        source_warnings=plan.source.warnings,
        warnings=encoded.warnings,
    )
    return SaveRequest(store=store, manifest=manifest, thumbnails=encoded.thumbnails)


def _is_unchanged(source: Source) -> bool:
    try:
        check_unchanged(source)
    except VideoOpenError:  # while it was read: whose tokens these are is not known
        return False
    return True
