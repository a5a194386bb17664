"""The stages as ordinary classes: read, encode and allocate, generate.

A stage answers requests. Each result is two things: an output, which stays where it was made and
travels by handle to the stage that needs it, and a note, which is small and goes to the driver. No
stage remembers a request, so any worker may take the next one; what they hold on to (weights,
prefix caches) changes the time an answer takes and never the answer.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workers.disk.requests import SaveRequest, StoreRequest
from workers.frames import PictureChunk, RankedFrames, TileChunk
from workers.llm.backends import backend_of
from workers.messages import (
    AllocateRequest,
    EncodeNews,
    EncodeRequest,
    GenerateRequest,
    Note,
    ReadNews,
    ReadRequest,
    ShortenRequest,
    SourceRequest,
)
from workers.process import (
    LOADING,
    ModelOptions,
    peak_memory_bytes,
    prepare_torch,
    release_memory,
    set_num_threads,
)
from workers.vision.anchors import anchor_of
from workers.vision.geometry import TileGeometry
from workers.visual import VisualSequence

if TYPE_CHECKING:
    from workers.vision.encoder import FrameFeatures, VisionEncoder

Result = tuple[Any, Note]


class Stage(Protocol):
    """What a worker runs."""

    def run(self, request: Any, *inputs: Any) -> Iterator[Result]:
        """Yield every result of a request as (output, note)."""


class ReadStage:
    """From a source to its frames' tiles, or with ``--resize fast`` to its pictures."""

    def run(self, request: ReadRequest | SourceRequest) -> Iterator[Result]:
        """Yield a ``TileChunk`` or ``PictureChunk`` for each chunk; the news are ``ReadNews``.

        For a ``SourceRequest`` there is no output; the news are the opened source.
        """
        if isinstance(request, SourceRequest):
            yield _open(request)
        else:
            yield from self._read(request)

    def _read(self, request: ReadRequest) -> Iterator[Result]:
        from workers.video.anchored import read_anchored
        from workers.video.decode import read_pictures
        from workers.video.thumbnail import make_thumbnail
        from workers.vision.tiles import cut_chunk

        if request.gated:
            pictures = read_anchored(request.segment, request.anchor)
        else:
            pictures = ((chunk, chunk) for chunk in read_pictures(request.segment))
        for part in request.segment.chunks():
            start = time.perf_counter()
            chunk, whole = next(pictures)
            decoded = time.perf_counter()
            exact = request.resize == "exact" and len(chunk)
            output = cut_chunk(whole, request.tiles) if exact else whole
            news = ReadNews(
                num_covered=len(part),
                frame_indices=chunk.frame_indices,
                pts_seconds=chunk.pts_seconds,
                thumbnails=tuple(
                    make_thumbnail(picture, request.thumbnail_width)
                    for picture in chunk.pictures
                    if request.thumbnail_width
                ),
                warnings=chunk.warnings,
            )
            yield (
                output,
                note(news, {"decode": decoded - start, "tile": time.perf_counter() - decoded}),
            )


def _open(request: SourceRequest) -> Result:
    from workers.video.images import open_images
    from workers.video.source import Source, open_source

    start = time.perf_counter()
    source: Source
    if request.pictures:
        source = open_images(request.paths)
    else:
        (path,) = request.paths
        source = open_source(path, timeout_seconds=request.timeout_seconds)
    return None, note(source, {"open": time.perf_counter() - start})


class EncodeStage:
    """From tiles to each frame's best visual tokens, and from those to one bounded sequence.

    Args:
        options: of the checkpoint.
        lazy: load the vision half with the first frames only, as tokens may come from a store.
    """

    def __init__(self, options: ModelOptions, *, lazy: bool = False) -> None:
        from workers.checkpoint import locate
        from workers.disk.stored import StoredTokens

        self._device, self._torch_dtype = prepare_torch(options)
        self._dtype = str(self._torch_dtype).removeprefix("torch.")
        self._location = locate(options.model)
        self._stored = StoredTokens(self._location, device=self._device, dtype=self._dtype)
        if not lazy:
            _ = self._encoder

    @cached_property
    def _encoder(self) -> "VisionEncoder":
        with LOADING:
            from workers.vision.encoder import VisionEncoder

            encoder = VisionEncoder(self._location, device=self._device, dtype=self._torch_dtype)
        if encoder.is_small:
            set_num_threads(1)  # two would take three times the CPU time (measured)
        return encoder

    def run(
        self,
        request: EncodeRequest | AllocateRequest | ShortenRequest | StoreRequest,
        *inputs: Any,
    ) -> Iterator[Result]:
        """Yield one result.

        For ``EncodeRequest`` and a chunk: a tuple of ``RankedFrames``, one for each pruning; the
        news are ``EncodeNews``. For ``AllocateRequest`` and such tuples, in any order:
        the ``VisualSequence``; the news are its ``KeptFrame`` records. For ``ShortenRequest`` and
        one such tuple of one frame: the tuple, shortened; no news. For ``LoadRequest`` and
        ``OpenRequest`` such a tuple of a whole clip, or None for a miss, for ``SaveRequest`` and
        such tuples nothing; the news are ``StoreNews``.
        """
        if isinstance(request, AllocateRequest):
            yield _allocate(request, inputs)
        elif isinstance(request, EncodeRequest):
            result = self._encode(request, *inputs)
            release_memory()  # its features are gone by now
            yield result
        elif isinstance(request, ShortenRequest):
            yield _shorten(request, *inputs)
        else:
            start = time.perf_counter()
            output, news = self._stored.answer(request, inputs)
            stage = "save" if isinstance(request, SaveRequest) else "load"
            yield output, note(news, {stage: time.perf_counter() - start})

    def _encode(self, request: EncodeRequest, chunk: TileChunk | PictureChunk) -> Result:
        from workers.vision.ranked import rank_frames

        start = time.perf_counter()
        chunk, groups, num_tiles = self._features(request, chunk)
        self._encoder.wait()  # or ranking, which needs the features first, would seem to take both
        encoded = time.perf_counter()
        ranked, prune_seconds = [], []
        for pruning in request.prunings:
            begun = time.perf_counter()
            ranked.append(rank_frames(chunk, groups, pruning, dtype=self._dtype))
            prune_seconds.append(time.perf_counter() - begun)
        news = EncodeNews(prune_seconds=tuple(prune_seconds), num_encoded_tiles=num_tiles)
        return tuple(ranked), note(news, {"encode": encoded - start})

    def _features(
        self, request: EncodeRequest, chunk: TileChunk | PictureChunk
    ) -> "tuple[TileChunk | PictureChunk, list[FrameFeatures], int]":
        """Return the frames that are asked for, their features, and how many tiles that took."""
        rows = np.flatnonzero(np.isin(chunk.frame_indices, request.frame_indices))
        wanted = chunk if len(rows) == len(chunk) else chunk[rows]
        if not request.gated or chunk.frame_indices[0] != anchor_of(int(request.frame_indices[0])):
            tiles, geometries = self._tiles(wanted, request.tiles)
            return wanted, self._encoder.encode(tiles, geometries), len(tiles)
        from workers.vision.gate import encode_gated

        keep_anchor = bool(rows[0] == 0)
        compared = wanted if keep_anchor else chunk[np.concatenate([[0], rows])]
        tiles, geometries = self._tiles(compared, request.tiles)
        return wanted, *encode_gated(self._encoder, tiles, geometries, keep_anchor=keep_anchor)

    def _tiles(self, chunk: TileChunk | PictureChunk, tiles: TileGeometry) -> Any:
        """Return the tiles of a chunk and each frame's geometry."""
        if isinstance(chunk, TileChunk):
            return chunk.tiles, [tiles.frame(*size) for size in chunk.sizes.tolist()]
        from workers.vision.resize import cut_pictures_on

        return cut_pictures_on(self._encoder.device, chunk.pictures, tiles)


def _allocate(request: AllocateRequest, inputs: tuple[tuple[RankedFrames, ...], ...]) -> Result:
    from workers.bank import TokenBank

    start = time.perf_counter()
    allocation = request.allocation
    bank = TokenBank(ranked[allocation.pruning] for ranked in inputs)
    visual, frames = bank.allocate(allocation)
    return visual, note(frames, {"allocate": time.perf_counter() - start})


def _shorten(request: ShortenRequest, ranked: tuple[RankedFrames, ...]) -> Result:
    start = time.perf_counter()
    short = [each.shortened(request.max_keep) for each in ranked]
    # Copies, or what is cut off would stay in memory with what is kept.
    output = tuple(replace(s, order=s.order.copy(), features=s.features.copy()) for s in short)
    return output, note(None, {"allocate": time.perf_counter() - start})


class GenerateStage:
    """From a visual sequence and a prompt to an answer."""

    def __init__(self, options: ModelOptions) -> None:
        self._model = backend_of(options).load(options)

    def run(self, request: GenerateRequest, visual: VisualSequence) -> Iterator[Result]:
        """Yield no outputs; the news are the answer's text as it comes, then the whole of it."""
        for piece in self._model.generate(visual, request.prompt, request.sampling):
            yield None, note(piece, {} if isinstance(piece, str) else piece.seconds)


def note(news: Any, seconds: Mapping[str, float]) -> Note:
    """Return a note of this process."""
    return Note(
        news=news,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(),
        cpu_seconds=time.process_time(),
    )
