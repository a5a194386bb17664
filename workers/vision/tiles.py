"""Pictures to tiles, with the very pixels of transformers' PIL processor.

The picture is resized to one base tile, whole or but for its ends, and scaled, padded and cut into
high-resolution tiles as :mod:`workers.vision.geometry` says. This runs where frames are decoded: it
needs neither torch nor a checkpoint's weights, and tiles are smaller than the pictures of most
clips (1.7 MB against 6.2 MB for 1920 x 1080 and LLaVA-NeXT's 336 px tiles).
:mod:`workers.vision.resize` does the same on the vision tower's device.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from workers.arrays import UInt8Array
from workers.frames import PictureChunk, TileChunk
from workers.vision.geometry import FrameGeometry, TileGeometry

Resizer = Callable[[tuple[int, int]], UInt8Array]
"""Returns one picture resized to a (height, width), as (height, width, 3) uint8."""


def cut_tiles(picture: UInt8Array, geometry: FrameGeometry) -> UInt8Array:
    """Return a picture's base tile followed by its high-resolution tiles, row-major.

    Args:
        picture: (height, width, 3) uint8 RGB of the size ``geometry`` was made for; not modified.
        geometry: from ``TileGeometry.frame(height, width)``.

    Returns:
        (num_tiles, tile_size, tile_size, 3) uint8.

    Cost: O(height * width).
    """
    size = geometry.tiles.tile_size
    tiles = np.empty((geometry.num_tiles, size, size, 3), np.uint8)
    _lay_out(tiles, _resizer(squared(picture, geometry.tiles)), geometry)
    return tiles


def squared(picture: UInt8Array, geometry: TileGeometry) -> UInt8Array:
    """Return a picture with the margin that makes it square, itself where it needs none.

    Cost: O(longer side squared), as for transformers.
    """
    height, width = picture.shape[:2]
    if geometry.fit != "pad" or height == width:
        return picture
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = geometry.background
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _lay_out(tiles: UInt8Array, resize: Resizer, geometry: FrameGeometry) -> None:
    """Write a picture's base tile, then its high-resolution tiles, row-major, into ``tiles``."""
    size, (top, left) = geometry.tiles.tile_size, geometry.cropped
    _place(tiles[0], resize(geometry.base), -top, -left)
    if len(tiles) == 1:
        return
    scaled, (above, left) = resize(geometry.resized), geometry.padding
    for tile, (row, column) in zip(tiles[1:], np.ndindex(geometry.grid), strict=True):
        _place(tile, scaled, above - row * size, left - column * size)


def _place(tile: UInt8Array, scaled: UInt8Array, top: int, left: int) -> None:
    """Copy what a tile sees of a picture whose corner lies at (top, left), black around it."""
    height, width = scaled.shape[:2]
    rows, columns = _overlap(top, height, len(tile)), _overlap(left, width, len(tile))
    inside, seen = (rows[0], columns[0]), (rows[1], columns[1])
    if tile[inside].shape != tile.shape:
        tile.fill(0)
    tile[inside] = scaled[seen]


def _overlap(offset: int, length: int, size: int) -> tuple[slice, slice]:
    """Return where [0, size) and a run at ``offset`` overlap, as places in each."""
    start, stop = (min(max(place, 0), size) for place in (offset, offset + length))
    return slice(start, stop), slice(start - offset, stop - offset)


def cut_pictures(
    pictures: Sequence[UInt8Array], geometry: TileGeometry
) -> tuple[UInt8Array, list[FrameGeometry]]:
    """Return the tiles of pictures one after another, and how each picture was cut.

    Args:
        pictures: (height, width, 3) uint8 RGB each; they may differ in size.
        geometry: of the checkpoint.

    Returns:
        (sum of num_tiles, tile_size, tile_size, 3) uint8, and the geometry of each picture: what
        ``VisionEncoder.encode`` takes.
    """
    return cut_pictures_with(_resizer, pictures, geometry)


def cut_pictures_with(
    make_resizer: Callable[[UInt8Array], Resizer],
    pictures: Sequence[UInt8Array],
    geometry: TileGeometry,
) -> tuple[UInt8Array, list[FrameGeometry]]:
    """Return what :func:`cut_pictures` does, resized in a way of one's own."""
    frames = [geometry.frame(*picture.shape[:2]) for picture in pictures]
    size = geometry.tile_size
    tiles = np.empty((sum(frame.num_tiles for frame in frames), size, size, 3), np.uint8)
    start = 0
    for picture, frame in zip(pictures, frames, strict=True):
        resize = make_resizer(squared(picture, geometry))
        _lay_out(tiles[start : start + frame.num_tiles], resize, frame)
        start += frame.num_tiles
    return tiles, frames


def cut_chunk(chunk: PictureChunk, geometry: TileGeometry) -> TileChunk:
    """Return the tiles of a chunk's pictures, which may differ in size.

    Args:
        chunk: any number of pictures; not modified.
        geometry: of the checkpoint; ``without_grid()`` of it cuts base tiles only.
    """
    tiles, frames = cut_pictures(chunk.pictures, geometry)
    sizes = [picture.shape[:2] for picture in chunk.pictures]
    return TileChunk(
        clip_id=chunk.clip_id,
        frame_indices=chunk.frame_indices,
        pts_seconds=chunk.pts_seconds,
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        num_tiles=np.array([frame.num_tiles for frame in frames], np.int64),
        tiles=tiles,
    )


def _resizer(picture: UInt8Array) -> Resizer:
    image = Image.fromarray(picture)

    def resize(size: tuple[int, int]) -> UInt8Array:
        return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))

    return resize
