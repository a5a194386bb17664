"""Pictures to tiles on the vision tower's device: ``--resize fast``.

The same tiles as :mod:`workers.vision.tiles` cuts where frames are decoded, but for the resizing:

- on an accelerator it is Pillow's own fixed-point arithmetic as matrix products, and gives its very
  bits. (torch's antialiased bicubic in floating point rounds and clips once, Pillow after each of
  its two passes: beside hard edges up to 17 of 255 levels lie between them.)
- on a CPU it is torch's antialiased bicubic for ``uint8``, several times as fast as Pillow; its
  weights are coarser, so some pixels differ by a level or two. It has no form for accelerators.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch.nn import functional

from workers.arrays import Float64Array, Int64Array, UInt8Array
from workers.vision.geometry import FrameGeometry, TileGeometry
from workers.vision.tiles import Resizer, cut_pictures_with, squared
from workers.vision.transfer import stack_on

_PRECISION_BITS = 22
"""Pillow's weights are whole multiples of 2 ** -22."""
_BLOCK = 16
"""Resized lines that are computed from one common window of the picture's."""


def cut_pictures_on(
    device: torch.device, pictures: Sequence[UInt8Array], geometry: TileGeometry
) -> tuple[torch.Tensor, list[FrameGeometry]]:
    """Return what :func:`workers.vision.tiles.cut_pictures` does, made on ``device``.

    Args:
        device: where the vision tower is.
        pictures: (height, width, 3) uint8 RGB each; they may differ in size. Not modified.
        geometry: of the checkpoint.

    Returns:
        (sum of num_tiles, tile_size, tile_size, 3) uint8 on ``device``, and each picture's
        geometry. A picture's tiles do not depend on those beside it.
    """
    if device.type == "cpu":
        tiles, frames = cut_pictures_with(_fast_resizer, pictures, geometry)
        return torch.from_numpy(tiles), frames
    frames = [geometry.frame(*picture.shape[:2]) for picture in pictures]
    pictures = [squared(picture, geometry) for picture in pictures]
    size = geometry.tile_size
    parts = [torch.empty((0, size, size, 3), dtype=torch.uint8, device=device)]
    for _, group in groupby(pictures, key=lambda picture: picture.shape):
        batch = stack_on(device, list(group))
        parts.append(cut_batch(batch, geometry.frame(*batch.shape[1:3])).flatten(0, 1))
    return torch.cat(parts), frames


def cut_batch(pictures: torch.Tensor, geometry: FrameGeometry) -> torch.Tensor:
    """Return each picture's exact base tile, then its high-resolution tiles, row-major.

    Args:
        pictures: (n, height, width, 3) uint8, all of the size ``geometry`` was made for.
        geometry: from ``TileGeometry.frame(height, width)``.

    Returns:
        (n, num_tiles, tile_size, tile_size, 3) uint8 on the pictures' device.
    """
    size, (top, left) = geometry.tiles.tile_size, geometry.cropped
    resized = _resize_all(pictures, geometry.base)
    base = resized[:, None, top : top + size, left : left + size]
    down, across = geometry.grid
    if down * across == 0:
        return base
    canvas = pictures.new_zeros((len(pictures), *geometry.target, 3))
    (above, left), (height, width) = geometry.padding, geometry.resized
    canvas[:, above : above + height, left : left + width] = _resize_all(pictures, geometry.resized)
    grid = canvas.view(-1, down, size, across, size, 3).transpose(2, 3)
    return torch.cat([base, grid.flatten(1, 2)], dim=1)


def _resize_all(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.stack([resize_exactly(picture, size) for picture in pictures])


def _fast_resizer(picture: UInt8Array) -> Resizer:
    """Return what resizes a picture with torch's antialiased bicubic on the CPU."""
    writable = picture if picture.flags.writeable else picture.copy()
    image = torch.from_numpy(writable)[None].permute(0, 3, 1, 2)  # channels last

    def resize(size: tuple[int, int]) -> UInt8Array:
        resized = image
        for target in _steps(picture.shape[:2], size):
            resized = functional.interpolate(resized, target, mode="bicubic", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()

    return resize


def _steps(before: Sequence[int], after: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes to which torch, which resamples the width first, resizes one by one."""
    if _axes(before, after) == (1, 0):
        return [after]
    return [(after[0], before[1]), after]


def resize_exactly(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize a picture (height, width, 3) uint8 to ``size`` with Pillow's very bits, on any device.

    Cost: O(height * width) memory, 8 bytes a value; a product for each value of the first axis'
    result and each line or column in its window, which is what ``_BLOCK`` of the result see.
    """
    for axis in _axes(picture.shape[:2], size):
        lines = picture.transpose(0, axis)
        resampled = _resample(lines.flatten(1), size[axis]).unflatten(1, lines.shape[1:])
        picture = resampled.transpose(0, axis)
    return picture


def _axes(before: Sequence[int], after: Sequence[int]) -> tuple[int, int]:
    """Return 0 (height) and 1 (width) in the order in which the installed Pillow resamples them.

    Up to Pillow 12 that is the width first; of Pillow 13 it was found by trying 2,000 sizes. Each
    result is rounded to 8 bits, so the order shows: by up to 8 levels beside hard edges.
    """
    fewer_lines, fewer_columns = before[0] - after[0], before[1] - after[1]
    by_size = int(PIL.__version__.partition(".")[0]) >= 13
    height_first = by_size and fewer_lines > max(0, 2 * fewer_columns)
    return (0, 1) if height_first else (1, 0)


def _resample(lines: torch.Tensor, num_lines: int) -> torch.Tensor:
    """Resample lines (length, m) uint8 to (num_lines, m)."""
    if len(lines) == num_lines:
        return lines
    source, weights = _blocks(len(lines), num_lines, lines.device)
    # Whole numbers far below 2 ** 53: doubles add them exactly, in whatever order.
    sums = torch.bmm(weights, lines[source].double())  # (blocks, _BLOCK, m)
    half = 1 << (_PRECISION_BITS - 1)
    levels = sums.add_(half).mul_(2.0**-_PRECISION_BITS).floor_().clamp_(0, 255)
    return levels.to(torch.uint8).flatten(0, 1)[:num_lines]


@lru_cache(maxsize=32)
def _blocks(length: int, num_lines: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which lines each block of resampled ones is made of, and by which weights.

    Returns:
        (blocks, window) int64 indices of lines, and (blocks, _BLOCK, window) float64 weights in
        units of 2 ** -22, on ``device``; those behind the last resampled line are zero.
    """
    first, taps = _bicubic_taps(length, num_lines)
    starts = first[::_BLOCK]
    offsets = first - np.repeat(starts, _BLOCK)[:num_lines]
    window = int(offsets.max()) + taps.shape[1]
    weights = np.zeros((len(starts) * _BLOCK, window))
    places = offsets[:, None] + np.arange(taps.shape[1])
    np.put_along_axis(weights[:num_lines], places, taps, axis=1)
    source = np.minimum(starts[:, None] + np.arange(window), length - 1)
    return (
        torch.from_numpy(source).to(device),
        torch.from_numpy(weights.reshape(len(starts), _BLOCK, window)).to(device),
    )


def _bicubic_taps(length: int, num_lines: int) -> tuple[Int64Array, Float64Array]:
    """Return where each resampled line's weights begin, and they in whole units of 2 ** -22.

    The kernel is Keys' cubic with a = -1/2, stretched by the scale where a picture shrinks. Weights
    of lines outside the picture are left out, and the others scaled to a sum of one.

    Returns:
        (num_lines,) int64, ascending, and (num_lines, taps) float64.
    """
    scale = length / num_lines
    stretch = max(scale, 1.0)
    centers = (np.arange(num_lines) + 0.5) * scale
    first = np.maximum((centers - 2 * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centers + 2 * stretch + 0.5).astype(np.int64), length)
    lines = first[:, None] + np.arange((stop - first).max())
    weights = _keys_cubic(np.abs(lines + 0.5 - centers[:, None]) / stretch)
    weights[lines >= stop[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return first, np.trunc(weights * (1 << _PRECISION_BITS) + np.copysign(0.5, weights))


def _keys_cubic(x: NDArray[np.float64]) -> Float64Array:
    """Return Keys' interpolation kernel with a = -1/2 at distances ``x`` of at least 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
