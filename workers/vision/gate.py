"""Which high-resolution tiles are worth encoding: those whose low-resolution twin has changed.

A tile's twin are the base tokens over its part of the picture. Where all of them still resemble the
anchor's, the tile's features are the anchor's. So a frame's features depend on the frame and on its
anchor alone.
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
"""Cosine to the anchor's below which a base token has changed; measured in docs/evaluation.md."""

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

    The anchor and frames of another geometry are encoded in full; of the others the base, and then
    those tiles over which a base token has changed.

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
    first = [own[:1] if each == anchor else own for own, each in zip(rows, geometries, strict=True)]
    first[0] = rows[0]
    encoded = _encode_rows(encoder, tiles, first)
    tokens = encoded.new_empty(len(tiles), *encoded.shape[1:])
    tokens[np.concatenate(first)] = encoded

    second = []
    for own in (own for own, done in zip(rows, first, strict=True) if len(done) < len(own)):
        changed = changed_tiles(tokens[own[0]], tokens[0], anchor)
        tokens[own[1:][~changed]] = tokens[rows[0][1:][~changed]]
        second += [own[1:][changed]] * bool(changed.any())
    if second:
        tokens[np.concatenate(second)] = _encode_rows(encoder, tiles, second)

    start = 0 if keep_anchor else 1
    frames = encoder.split(tokens[start and anchor.num_tiles :], geometries[start:])
    return list(frames), sum(map(len, [*first, *second]))


def changed_tiles(base: torch.Tensor, anchor: torch.Tensor, geometry: FrameGeometry) -> BoolArray:
    """Return which tiles of a frame are over a base token that no longer resembles the anchor's.

    Args:
        base: (num_base, hidden) base tokens of the frame.
        anchor: those of its anchor.
        geometry: of both.

    Returns:
        (num_tiles - 1,) for each high-resolution tile, row-major.
    """
    cosine = cosine_similarity(base.double(), anchor.double(), dim=1)
    changed = ~(cosine >= LEAST_SIMILARITY).cpu().numpy()
    over: BoolArray = (twins(geometry) & changed).any(axis=1)
    return over


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
    tokens = np.arange(tiles.tokens_per_side) * length
    places = edges[:, None] * tiles.tokens_per_side
    return (tokens + length > places[:-1]) & (tokens < places[1:])


def _rows_of(geometries: Sequence[FrameGeometry]) -> list[Int64Array]:
    """Return which rows of all tiles are those of each frame."""
    stops = np.cumsum([each.num_tiles for each in geometries])
    return np.split(np.arange(stops[-1]), stops[:-1])


def _encode_rows(
    encoder: VisionEncoder, tiles: torch.Tensor | UInt8Array, rows: Sequence[Int64Array]
) -> torch.Tensor:
    """Return the tokens of some tiles of each of some frames."""
    return encoder.encode_tiles(tiles[np.concatenate(rows)], [len(own) for own in rows])
