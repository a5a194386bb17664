"""Frames on their way: pictures, tiles, ranked tokens, in batches that name their clip.

Arrays come to the reader as read-only views of shared memory, so nobody writes into a message; a
stage returns a new one. numpy has no bfloat16: such features travel as ``uint16`` bit patterns
beside the name of their dtype.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruner import FrameLayout, Settings
from workers.arrays import Float64Array, Int64Array, UInt8Array


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

    def behind(self, other: "PictureChunk") -> "PictureChunk":
        """Return the frames of another chunk followed by these."""
        return replace(
            self,
            frame_indices=np.concatenate([other.frame_indices, self.frame_indices]),
            pts_seconds=np.concatenate([other.pts_seconds, self.pts_seconds]),
            pictures=other.pictures + self.pictures,
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
            tiles=self.tiles[_rows_of(self.num_tiles, places)],
        )

    def __repr__(self) -> str:
        return f"TileChunk({self.clip_id}, {self.frame_indices.tolist()}, {self.tiles.shape})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """How every frame of a clip is ranked, before any other frame is known.

    ``method`` is a name in :data:`pruner.methods.METHODS`. ``num_keep`` is a frame's nominal share
    of the budget, 0 for methods that do not ask; ``max_keep`` the most it may be handed and
    therefore what it sends on. ``seed`` is that of random choices; ``newlines_last``
    ranks newlines behind all other tokens; ``stand_ins`` has it found out which token stands for
    each other.
    """

    method: str
    num_keep: int
    max_keep: int
    seed: int = 0
    newlines_last: bool = False
    stand_ins: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedFrames:
    """The best tokens of some frames of one clip, in the order in which a growing share keeps them.

    ``counts[i]`` tokens belong to frame ``frame_indices[i]`` of layout ``layouts[i]``; their flat
    indices and features (sum of counts, hidden) stand one frame after another in ``order`` and
    ``features``, the latter as ``dtype``, bfloat16 as ``uint16``. ``informativeness[i]`` is the
    mean norm of (base, grid). ``stand_ins``, where asked for, are of every token of each frame, in
    the order of its ranking, those among them that are not here: see :func:`pruner.stand_ins`.
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
    stand_ins: NDArray[np.int32] | None = None

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
        tokens = _rows_of(self.counts, places)
        stand_ins = self.stand_ins
        if stand_ins is not None:
            lengths = np.array([layout.num_tokens for layout in self.layouts], np.int64)
            stand_ins = stand_ins[_rows_of(lengths, places)]
        return replace(
            self,
            frame_indices=self.frame_indices[places],
            pts_seconds=self.pts_seconds[places],
            layouts=tuple(self.layouts[place] for place in places),
            counts=self.counts[places],
            order=self.order[tokens],
            features=self.features[tokens],
            informativeness=self.informativeness[places],
            stand_ins=stand_ins,
        )

    def shortened(self, most: int) -> "RankedFrames":
        """Return one frame with no more than the first tokens of its ranking, without a copy.

        Rankings nest: the same frame ranked for ``most`` tokens would hold these.
        """
        return replace(
            self,
            counts=np.minimum(self.counts, most),
            order=self.order[:most],
            features=self.features[:most],
        )

    def __repr__(self) -> str:
        frames = self.frame_indices.tolist()
        return f"RankedFrames({self.clip_id}, {frames}, {self.features.shape})"


def _rows_of(counts: Int64Array, places: Int64Array) -> slice | Int64Array:
    """Return the rows of the chosen groups, group i having ``counts[i]``: a slice if it can be."""
    stops = np.cumsum(counts)
    starts = stops - counts
    if len(places) and np.array_equal(places, np.arange(places[0], places[-1] + 1)):
        return slice(int(starts[places[0]]), int(stops[places[-1]]))
    parts = [np.arange(starts[place], stops[place]) for place in places]
    return np.concatenate([np.empty(0, np.int64), *parts])
