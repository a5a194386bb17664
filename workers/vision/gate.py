"""Which high-resolution tiles are worth encoding: those whose low-resolution twin has changed.

A tile's twin are the base tokens over its part of the picture. Where all of them still resemble the
anchor's, the tile's features are the anchor's. What has plainly changed to the eye is encoded with
the base, in one pass. A frame's features depend on the frame and on its anchor alone.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from workers.arrays import Int64Array, UInt8Array
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.geometry import FrameGeometry, TileGeometry

LEAST_SIMILARITY = 0.9
"""Cosine to the anchor's below which a base token has changed (measured: docs/measurements.md)."""
MOST_DIFFERENCE = 24.0
"""Mean difference of a base patch from the anchor's, of 255 levels, above which it surely has."""
_LONE_TILES = 5
"""Lone tiles of one pass: the fifteen bases of a group that stands still fill three."""

BoolArray = NDArray[np.bool_]


@torch.inference_mode()
def encode_gated(
    encoder: VisionEncoder,
    tiles: torch.Tensor | UInt8Array,
    geometries: Sequence[FrameGeometry],
    *,
    keep_anchor: bool,
) -> tuple[list[FrameFeatures], int]:
    """Encode frames of which the first is the anchor of the others.

    The anchor and frames of another geometry are encoded in full; of the others the base and tiles
    of which the pixels have changed, and then those over which a base token has.

    Args:
        encoder: of the checkpoint.
        tiles: as for :meth:`VisionEncoder.encode`, the anchor's first.
        geometries: of each frame, as its tiles were cut; at least the anchor's.
        keep_anchor: whether the anchor is asked for itself.

    Returns:
        The frames as :meth:`VisionEncoder.encode` gives them, without the anchor unless it is kept,
        and how many tiles were encoded, the anchor's always included.
    """
    anchor, rows = geometries[0], _rows_of(geometries)
    tokens = encoder.newline.new_empty(len(tiles), anchor.tiles.num_base, len(encoder.newline))
    at_once = _chosen_by_pixels(tiles, rows, geometries)
    first = [own[chosen] for own, chosen in zip(rows, at_once, strict=True)]
    _encode_rows(encoder, tiles, first, tokens)
    second = [
        _reuse(tokens, own, chosen, anchor)
        for own, chosen in zip(rows, at_once, strict=True)
        if not chosen.all()
    ]
    _encode_rows(encoder, tiles, second, tokens)
    start = 0 if keep_anchor else 1
    frames = encoder.split(tokens[start and anchor.num_tiles :], geometries[start:])
    return list(frames), sum(map(len, [*first, *second]))


def _chosen_by_pixels(
    tiles: torch.Tensor | UInt8Array,
    rows: Sequence[Int64Array],
    geometries: Sequence[FrameGeometry],
) -> list[BoolArray]:
    """Return which tiles of each frame are encoded at once: the base, and what has moved."""
    anchor = geometries[0]
    return [
        tiles_over(anchor, moved_patches(tiles[own[:1]], tiles[rows[0][:1]], anchor.tiles))
        if each == anchor and own[0] > 0
        else np.ones(len(own), bool)
        for own, each in zip(rows, geometries, strict=True)
    ]


def _reuse(
    tokens: torch.Tensor, own: Int64Array, encoded: BoolArray, anchor: FrameGeometry
) -> Int64Array:
    """Give a frame the anchor's tokens where it resembles it; return the rows of the other tiles.

    The anchor's are the first rows; ``own`` are the frame's, of which some are ``encoded``.
    """
    changed = encoded | tiles_over(anchor, turned_tokens(tokens[own[0]], tokens[0]))
    tokens[own[~changed]] = tokens[np.flatnonzero(~changed)]
    return own[changed & ~encoded]


def _encode_rows(
    encoder: VisionEncoder,
    tiles: torch.Tensor | UInt8Array,
    rows: Sequence[Int64Array],
    tokens: torch.Tensor,
) -> None:
    """Encode some tiles of each of some frames, and put their tokens in their rows."""
    passes = _passes(rows)
    if passes:
        together = np.concatenate(passes)
        tokens[together] = encoder.encode_tiles(tiles[together], [len(own) for own in passes])


def moved_patches(
    tile: torch.Tensor | UInt8Array, anchor: torch.Tensor | UInt8Array, geometry: TileGeometry
) -> BoolArray:
    """Return which patches of a base tile (1, tile_size, tile_size, 3) are of other colours.

    Returns:
        (num_base,), row-major.
    """
    side, size = geometry.tokens_per_side, geometry.token_size
    seen = slice(side * size)
    pixels, others = (torch.as_tensor(each)[:, seen, seen].float() for each in (tile, anchor))
    patches = (pixels - others).abs().view(side, size, side, size, 3)
    moved: BoolArray = (patches.mean(dim=(1, 3, 4)) > MOST_DIFFERENCE).flatten().cpu().numpy()
    return moved


def turned_tokens(base: torch.Tensor, anchor: torch.Tensor) -> BoolArray:
    """Return which base tokens (num_base, hidden) no longer resemble the anchor's, (num_base,)."""
    cosine = cosine_similarity(base.double(), anchor.double(), dim=1)
    turned: BoolArray = ~(cosine >= LEAST_SIMILARITY).cpu().numpy()
    return turned


def tiles_over(geometry: FrameGeometry, tokens: BoolArray) -> BoolArray:
    """Return which tiles show what any of the chosen base tokens (num_base,) does.

    Returns:
        (num_tiles,): the base first, which always does.
    """
    return np.concatenate([[True], (twins(geometry) & tokens).any(axis=1)])


@lru_cache(maxsize=32)
def twins(geometry: FrameGeometry) -> BoolArray:
    """Return which base tokens lie, at least in part, on each high-resolution tile's picture.

    Returns:
        (num_tiles - 1, num_base), row-major both; none of a tile that is all padding.
    """
    axes = zip(geometry.grid, geometry.padding, geometry.resized, strict=True)
    rows, columns = (_overlaps(geometry.tiles, *axis) for axis in axes)
    both = rows[:, None, :, None] & columns[:, None, :]  # (down, across, side, side)
    return both.reshape(len(rows) * len(columns), geometry.tiles.num_base)


def _overlaps(tiles: TileGeometry, num_tiles: int, padding: int, length: int) -> BoolArray:
    """Return which of the base tokens along a side lie on each of its tiles, (num_tiles, side).

    The picture is ``length`` pixels of the canvas long, behind ``padding`` pixels of black.
    """
    edges = np.clip(np.arange(num_tiles + 1) * tiles.tile_size - padding, 0, length)
    step = tiles.token_size * length
    tokens, places = np.arange(tiles.tokens_per_side) * step, edges[:, None] * tiles.tile_size
    return (tokens + step > places[:-1]) & (tokens < places[1:])


def _rows_of(geometries: Sequence[FrameGeometry]) -> list[Int64Array]:
    """Return which rows of all tiles are those of each frame."""
    stops = np.cumsum([each.num_tiles for each in geometries])
    return np.split(np.arange(stops[-1]), stops[:-1])


def _passes(rows: Sequence[Int64Array]) -> list[Int64Array]:
    """Return the rows of each pass: several tiles of a frame, or ``_LONE_TILES`` that are alone.

    A pass of one tile costs a large tower on a CPU half as much again for the tile. Of lone tiles a
    pass has a fixed number, some twice if need be, so that its shape tells nothing of the chunk.
    """
    lone = np.concatenate([np.empty(0, np.int64), *(own for own in rows if len(own) == 1)])
    num_passes = -(-len(lone) // _LONE_TILES)
    filled = np.resize(lone, num_passes * _LONE_TILES).reshape(num_passes, _LONE_TILES)
    return [*(own for own in rows if len(own) > 1), *filled]
