"""Pictures to tiles, with the very pixels of transformers' PIL processor.

The picture is resized whole to one base tile, and scaled, padded and cut into high-resolution
tiles as :mod:`workers.vision.geometry` says. Resizing is PIL's bicubic on all cores (it releases
the interpreter lock). torch's antialiased ``uint8`` kernel is several times as fast, but was
measured to differ from PIL by two to four levels on some pixels of real clips, and it has no CUDA
form.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from workers.checkpoint import fetch, read_json
from workers.errors import ModelError
from workers.messages import UInt8Array
from workers.vision.geometry import FrameGeometry

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """Scale to [0, 1], subtract ``mean`` and divide by ``std`` of each RGB channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def read_normalization(location: str) -> Normalization:
    """Read the checkpoint's image processor settings.

    Args:
        location: folder or hub name.

    Raises:
        ModelError: it has none, or one that resizes other than LLaVA-NeXT's processor does.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = fetch(location, name)
        if path is not None:
            settings = read_json(path)
            settings = settings.get("image_processor", settings)
            if "image_mean" in settings:
                break
    else:
        raise ModelError(f"{location}: no image processor settings (preprocessor_config.json)")
    if settings.get("resample", _BICUBIC) != _BICUBIC:
        raise ModelError(f"{location}: its image processor does not resize bicubically")
    return Normalization(
        mean=tuple(settings.get("image_mean", CLIP_MEAN)),
        std=tuple(settings.get("image_std", CLIP_STD)),
    )


def cut_tiles(frames: UInt8Array, geometry: FrameGeometry) -> UInt8Array:
    """Return each frame's base tile followed by its high-resolution tiles, row-major.

    Args:
        frames: (n, height, width, 3) uint8 RGB, all of the size ``geometry`` was made for.
        geometry: from ``TileGeometry.frame(height, width)``.

    Returns:
        (n, 1 + tiles, tile_size, tile_size, 3) uint8.
    """
    size = geometry.tiles.tile_size
    down, across = geometry.grid
    tiles = np.empty((len(frames), 1 + down * across, size, size, 3), np.uint8)

    def cut(index: int) -> None:
        picture = Image.fromarray(frames[index])
        tiles[index, 0] = _resize(picture, (size, size))
        if down * across == 0:
            return
        canvas = np.zeros((*geometry.target, 3), np.uint8)
        (above, left), (height, width) = geometry.padding, geometry.resized
        canvas[above : above + height, left : left + width] = _resize(picture, geometry.resized)
        grid = canvas.reshape(down, size, across, size, 3).swapaxes(1, 2)
        tiles[index, 1:] = grid.reshape(-1, size, size, 3)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(cut, range(len(frames))))
    return tiles


def _resize(picture: Image.Image, size: tuple[int, int]) -> UInt8Array:
    """Resize to (height, width)."""
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))


def normalize(
    tiles: torch.Tensor, normalization: Normalization, dtype: torch.dtype
) -> torch.Tensor:
    """Return uint8 tiles (n, height, width, 3) as ``pixel_values`` (n, 3, height, width)."""
    mean = torch.tensor(normalization.mean, device=tiles.device)
    std = torch.tensor(normalization.std, device=tiles.device)
    pixels = tiles.float().mul_(1 / 255).sub_(mean).div_(std)
    return pixels.permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format)
