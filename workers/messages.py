"""What travels between the stages: frozen dataclasses of numpy arrays, strings and numbers.

Ray hands arrays to the reader as read-only views of shared memory, so nobody writes into a message;
a stage returns a new one. numpy has no bfloat16: such features travel as ``uint16`` bit patterns
beside the name of their dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruner.layout import FrameLayout
from pruner.settings import Settings

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoIndex:
    """Every displayable picture of a clip by presentation time, from one pass over its packets.

    ``pts`` is ascending without repetition, in units of ``time_base_seconds``; ``width`` and
    ``height`` are pixels as displayed, after ``rotation_degrees`` has been applied.
    """

    path: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    time_base_seconds: float
    pts: Int64Array
    seekable: bool
    """False where seeking by time is not reliable: the clip is then read from its beginning."""
    warnings: tuple[str, ...] = ()
    keyframe_pts: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Ascending presentation times at which decoding can start, in the units of ``pts``."""
    open_gop: bool = False
    """True where pictures shown before a keyframe are stored after it and need what precedes it."""
    numbered: bool = False
    """True where pictures carry no usable time: the i-th one decoded is shown at ``pts[i]``."""

    @property
    def num_frames(self) -> int:
        """Number of displayable pictures."""
        return len(self.pts)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded RGB picture."""
        return self.width * self.height * 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A run of chunks that one decode worker reads in one go.

    Frame ``i`` of the sampled clip has the presentation time ``pts[i - first_frame]``; chunk
    ``c`` holds the sampled frames ``c * frames_per_chunk`` up to the next multiple.
    """

    index: VideoIndex
    decoder: str
    first_frame: int
    pts: Int64Array
    frames_per_chunk: int

    def __post_init__(self) -> None:
        if self.first_frame % self.frames_per_chunk:
            raise ValueError(
                f"a segment starts on a chunk border: {self.first_frame = } "
                f"{self.frames_per_chunk = }"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameChunk:
    """Decoded pictures of one chunk, in presentation order.

    ``frame_indices[i]`` is the position of ``frames[i]`` (height, width, 3) among the sampled
    frames and ``pts_seconds[i]`` its presentation time in the source. Frames that could not be
    decoded are absent here and named in ``warnings``.
    """

    chunk_index: int
    frame_indices: Int64Array
    pts_seconds: Float64Array
    frames: UInt8Array
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are (n, height, width, 3) uint8: {self.frames.shape = }")
        if not len(self.frames) == len(self.frame_indices) == len(self.pts_seconds):
            raise ValueError(
                f"one index and one time a frame: {len(self.frames) = } "
                f"{len(self.frame_indices) = } {len(self.pts_seconds) = }"
            )

    def __repr__(self) -> str:
        return f"FrameChunk({self.chunk_index}, frames={self.frames.shape})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSelection:
    """What the language model got of one frame, and why.

    ``keep_indices`` are ascending flat indices into the frame's unpruned order: ``num_base`` base
    tokens (row-major over a square), then ``rows`` rows of ``columns`` grid tokens, each row
    followed by its newline. The grid covers the whole displayed picture.
    """

    frame_index: int
    pts_seconds: float
    num_base: int
    rows: int
    columns: int
    keep_indices: Int64Array
    num_marker_tokens: int
    base_informativeness: float
    grid_informativeness: float
    novelty: float
    thumbnail_jpeg: bytes
    prune_seconds: float = 0.0
    """An even part of the time it took to choose among its chunk's tokens."""

    @property
    def num_visual_tokens(self) -> int:
        """Tokens of this frame in the language model's sequence, its time mark included."""
        return len(self.keep_indices) + self.num_marker_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which checkpoint a worker loads and how; ``dtype`` and ``device`` are torch's names."""

    model: str = "embedded"
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int = 0
    """Threads of one worker's tensor operations; 0 leaves torch's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """What every frame is pruned by before any other frame is known.

    ``ranker`` is a name in :data:`pruner.RANKERS`, ``num_keep`` a frame's nominal share of the
    budget, ``max_keep`` the most it may be handed and therefore what it sends on, ``seed`` that of
    random choices; ``base_only`` leaves the high-resolution tiles out, ``newlines_last``
    ranks newlines behind all other tokens. The rest are parameters of
    the token graph.
    """

    num_keep: int
    max_keep: int
    ranker: str = "mr_pruner"
    seed: int = 0
    base_only: bool = False
    newlines_last: bool = False
    similarity: float = 0.5
    cross_similarity: float = 0.5
    temperature: float = 0.03
    beta: float = 0.5
    num_steps: int = 1
    cross_resolution: bool = True
    half_precision_degree: bool = False
    thumbnail_width: int = 0
    """Pixels across of the picture sent along for the report; 0 sends none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """The best tokens of some frames, each frame's in the order a growing share keeps them.

    ``counts[i]`` tokens belong to frame ``frame_indices[i]``; their flat indices and features
    (sum of counts, hidden) stand one frame after another in ``order`` and ``features``, the latter
    as ``dtype``, bfloat16 as ``uint16``. ``informativeness[i]`` is the mean norm of (base, grid),
    ``prune_seconds`` the time it took to choose.
    """

    frame_indices: Int64Array
    pts_seconds: Float64Array
    counts: Int64Array
    order: Int64Array
    features: NDArray[Any]
    dtype: str
    informativeness: Float64Array
    num_base: int
    rows: int
    columns: int
    thumbnails: tuple[bytes, ...]
    prune_seconds: float = 0.0

    def __post_init__(self) -> None:
        num_tokens = int(self.counts.sum())
        if not num_tokens == len(self.order) == len(self.features):
            raise ValueError(
                f"one index and one feature a token: {num_tokens = } {len(self.order) = } "
                f"{len(self.features) = }"
            )

    def __repr__(self) -> str:
        return f"Candidates(frames={self.frame_indices.tolist()}, features={self.features.shape})"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerUsage:
    """What a worker has used so far: busy wall seconds by stage, and peak resident memory."""

    seconds: Mapping[str, float]
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCost:
    """Tokens a prompt needs beside the visual ones, and what the model has room for.

    ``num_text_tokens`` is for the longest question without any frame; each frame adds at most
    ``num_separator_tokens`` of the chat template and ``num_marker_tokens[i]`` of its time mark.
    """

    context_length: int
    num_text_tokens: int
    num_separator_tokens: int
    num_marker_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions:
    """How the clip's budget is shared out among its frames.

    ``pruner`` is the method's name; ``shares`` are ``equal`` or ``informative`` (by mean
    feature norm); ``pruning`` tells which of the prunings made of the clip is meant; FastV prunes
    after ``fastv_layer`` layers of the language model; ``compact_positions`` are those of
    :func:`workers.llm.prompt.join_positions`.
    """

    budget: int
    pruner: str = "mr_pruner"
    pruning: int = 0
    shares: str = "equal"
    fastv_layer: int = 2
    compact_positions: bool = True
    novelty: bool = False
    time_marks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How an answer is chosen: greedily at ``temperature`` 0, else drawn with ``seed``."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedAnswer:
    """The end of an answer: its whole text and token ids.

    ``num_text_tokens`` counts all of the prompt that is no visual token, time marks included.
    ``keep_indices`` are each frame's where the choice was made for this question, else None.
    """

    text: str
    token_ids: tuple[int, ...]
    num_text_tokens: int
    seconds: Mapping[str, float]
    keep_indices: tuple[Int64Array, ...] | None = None


# --- the clip as a value: what travels from here on names its clip ---


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureChunk:
    """Upright RGB pictures of one clip, in source order; they may differ in size.

    ``frame_indices[i]`` is the position of ``pictures[i]`` (height, width, 3) among the sampled
    frames and ``pts_seconds[i]`` its presentation time in the source. Frames that could not be
    decoded are absent here and named in ``warnings``.
    """

    clip_id: str
    frame_indices: Int64Array
    pts_seconds: Float64Array
    pictures: tuple[UInt8Array, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.pictures) == len(self.frame_indices) == len(self.pts_seconds):
            raise ValueError(
                f"one index and one time a picture: {len(self.pictures) = } "
                f"{len(self.frame_indices) = } {len(self.pts_seconds) = }"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: slice | Int64Array) -> "PictureChunk":
        """Return some of the frames."""
        places = np.arange(len(self))[rows]
        return replace(
            self,
            frame_indices=self.frame_indices[places],
            pts_seconds=self.pts_seconds[places],
            pictures=tuple(self.pictures[place] for place in places),
        )

    def __repr__(self) -> str:
        shapes = [picture.shape[:2] for picture in self.pictures]
        return f"PictureChunk({self.clip_id}, {self.frame_indices.tolist()}, {shapes})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileChunk:
    """The tiles of some frames of one clip: what the vision tower sees of them.

    ``sizes[i]`` is the displayed (height, width) of frame ``frame_indices[i]``, from which its
    geometry follows; its ``num_tiles[i]`` tiles, the base first, stand one frame after another in
    ``tiles`` (sum of num_tiles, tile_size, tile_size, 3) uint8.
    """

    clip_id: str
    frame_indices: Int64Array
    pts_seconds: Float64Array
    sizes: Int64Array
    num_tiles: Int64Array
    tiles: UInt8Array

    def __post_init__(self) -> None:
        if not len(self.frame_indices) == len(self.sizes) == len(self.num_tiles):
            raise ValueError(
                f"one size and one number of tiles a frame: {len(self.frame_indices) = } "
                f"{len(self.sizes) = } {len(self.num_tiles) = }"
            )
        if int(self.num_tiles.sum()) != len(self.tiles):
            raise ValueError(f"the tiles of all frames: {self.num_tiles = } {len(self.tiles) = }")

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __getitem__(self, rows: slice | Int64Array) -> "TileChunk":
        """Return some of the frames."""
        places = np.arange(len(self))[rows]
        return replace(
            self,
            frame_indices=self.frame_indices[places],
            pts_seconds=self.pts_seconds[places],
            sizes=self.sizes[places],
            num_tiles=self.num_tiles[places],
            tiles=self.tiles[_ranges(self.num_tiles, places)],
        )

    def __repr__(self) -> str:
        return f"TileChunk({self.clip_id}, {self.frame_indices.tolist()}, {self.tiles.shape})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """How every frame of a clip is ranked, before any other frame is known.

    ``method`` is a name in :data:`pruner.methods.METHODS`. ``num_keep`` is a frame's nominal share
    of the budget, 0 for methods that do not ask; ``max_keep`` the most it may be handed and
    therefore what it sends on. ``seed`` is that of random choices; ``base_only`` leaves the
    high-resolution tiles out; ``newlines_last`` ranks newlines behind all other tokens.
    """

    method: str
    num_keep: int
    max_keep: int
    seed: int = 0
    base_only: bool = False
    newlines_last: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedFrames:
    """The best tokens of some frames of one clip, in the order in which a growing share keeps them.

    ``counts[i]`` tokens belong to frame ``frame_indices[i]`` of layout ``layouts[i]``; their flat
    indices and features (sum of counts, hidden) stand one frame after another in ``order`` and
    ``features``, the latter as ``dtype``, bfloat16 as ``uint16``. ``informativeness[i]`` is the
    mean norm of (base, grid).
    """

    clip_id: str
    frame_indices: Int64Array
    pts_seconds: Float64Array
    layouts: tuple[FrameLayout, ...]
    counts: Int64Array
    order: Int64Array
    features: NDArray[Any]
    dtype: str
    informativeness: Float64Array

    def __post_init__(self) -> None:
        num_tokens = int(self.counts.sum())
        if not num_tokens == len(self.order) == len(self.features):
            raise ValueError(
                f"one index and one feature a token: {num_tokens = } {len(self.order) = } "
                f"{len(self.features) = }"
            )
        if not len(self.frame_indices) == len(self.layouts) == len(self.counts):
            raise ValueError(
                f"one layout and one count a frame: {len(self.frame_indices) = } "
                f"{len(self.layouts) = } {len(self.counts) = }"
            )

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __getitem__(self, rows: slice | Int64Array) -> "RankedFrames":
        """Return some of the frames."""
        places = np.arange(len(self))[rows]
        tokens = _ranges(self.counts, places)
        return replace(
            self,
            frame_indices=self.frame_indices[places],
            pts_seconds=self.pts_seconds[places],
            layouts=tuple(self.layouts[place] for place in places),
            counts=self.counts[places],
            order=self.order[tokens],
            features=self.features[tokens],
            informativeness=self.informativeness[places],
        )

    def __repr__(self) -> str:
        frames = self.frame_indices.tolist()
        return f"RankedFrames({self.clip_id}, {frames}, {self.features.shape})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How a clip's budget is shared out among its frames, and how what is kept is shown.

    ``budget`` counts base, grid and newline tokens and timestamp tokens. ``pruning`` tells which of
    the prunings made of the clip is meant; ``num_timestamp_tokens`` what each frame's
    timestamp costs, in source order, empty without timestamps. For ``compact_positions`` and
    ``fastv_layer`` see :class:`VisualSequence`.
    """

    method: str
    budget: int
    pruning: int = 0
    novelty: bool = True
    num_timestamp_tokens: tuple[int, ...] = ()
    compact_positions: bool = True
    fastv_layer: int = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptFrame:
    """What the language model got of one frame, and why.

    ``keep_indices`` are ascending flat indices into the frame's unpruned order, which ``layout``
    describes; the grid covers the whole displayed picture.
    """

    frame_index: int
    pts_seconds: float
    layout: FrameLayout
    keep_indices: Int64Array
    num_timestamp_tokens: int
    base_informativeness: float
    grid_informativeness: float
    novelty: float
    thumbnail_jpeg: bytes = b""

    @property
    def num_visual_tokens(self) -> int:
        """Tokens of this frame in the language model's sequence, its timestamp included."""
        return len(self.keep_indices) + self.num_timestamp_tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisualSequence:
    """The bounded visual sequence of one clip: all that the language model is shown of it.

    Frame i keeps ``counts[i]`` tokens; their features (sum of counts, hidden) and their ascending
    flat indices among the frame's ``frame_lengths[i]`` unpruned tokens stand one frame after
    another in ``features`` (as ``dtype``, bfloat16 as ``uint16``) and ``keep_indices``.
    ``visual_id`` is a digest of all of it: two sequences of one id are the same. Kept tokens are
    numbered without gaps if ``compact_positions``, else by their place in the unpruned sequence.
    ``fastv_keep`` visual tokens of the whole clip (at most: all of them) go on after the language
    model's layer ``fastv_layer``, chosen anew for each question; all do if None.
    """

    visual_id: str
    features: NDArray[Any]
    dtype: str
    counts: Int64Array
    keep_indices: Int64Array
    frame_lengths: Int64Array
    compact_positions: bool = True
    fastv_keep: int | None = None
    fastv_layer: int = 2

    def __post_init__(self) -> None:
        num_tokens = int(self.counts.sum())
        if not num_tokens == len(self.keep_indices) == len(self.features):
            raise ValueError(
                f"one index and one feature a token: {num_tokens = } {len(self.keep_indices) = } "
                f"{len(self.features) = }"
            )
        if len(self.counts) != len(self.frame_lengths):
            raise ValueError(
                f"one length a frame: {len(self.counts) = } {len(self.frame_lengths) = }"
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.counts)

    def __repr__(self) -> str:
        return f"VisualSequence({self.visual_id}, frames={len(self)}, {self.features.shape})"


def _ranges(counts: Int64Array, places: Int64Array) -> Int64Array:
    """Return the rows of the chosen groups, where group i has ``counts[i]`` rows."""
    stops = np.cumsum(counts)
    parts = [np.arange(stops[place] - counts[place], stops[place]) for place in places]
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
