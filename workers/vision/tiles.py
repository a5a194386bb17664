"""Pictures to tiles, with the very pixels of transformers' PIL processor.

The picture is resized whole to one base tile, and scaled, padded and cut into high-resolution
tiles as :mod:`workers.vision.geometry` says. This runs where frames are decoded: it needs neither
torch nor a checkpoint's weights, and tiles are smaller than the pictures of most clips (1.7 MB
against 6.2 MB for 1920 x 1080 and LLaVA-NeXT's 336 px tiles). :mod:`workers.vision.resize` does
the same on the vision tower's device.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from workers.arrays import UInt8Array
from workers.frames import PictureChunk, TileChunk
from workers.vision.geometry import FrameGeometry, TileGeometry


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
    image = Image.fromarray(picture)
    base = _resize(image, (size, size))[None]
    down, across = geometry.grid
    if down * across == 0:
        return base
    canvas = np.zeros((*geometry.target, 3), np.uint8)
    (above, left), (height, width) = geometry.padding, geometry.resized
    canvas[above : above + height, left : left + width] = _resize(image, geometry.resized)
    grid = canvas.reshape(down, size, across, size, 3).swapaxes(1, 2)
    return np.concatenate([base, grid.reshape(-1, size, size, 3)])


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
    frames = [geometry.frame(*picture.shape[:2]) for picture in pictures]
    size = geometry.tile_size
    tiles = np.empty((sum(frame.num_tiles for frame in frames), size, size, 3), np.uint8)
    start = 0
    for picture, frame in zip(pictures, frames, strict=True):
        tiles[start : start + frame.num_tiles] = cut_tiles(picture, frame)
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


def _resize(image: Image.Image, size: tuple[int, int]) -> UInt8Array:
    """Resize to (height, width)."""
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))
