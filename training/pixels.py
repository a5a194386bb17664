"""From a picture to the tiles the vision tower sees, as LLaVA-NeXT's image processor makes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.background import Picture
from training.layout import CANVAS, TILE_SIZE, Layout

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
Tiles = NDArray[np.uint8]


def tiles_of(picture: Picture, layout: Layout) -> Tiles:
    """Return (5, 3, 56, 56): the base, then the high-resolution tiles row by row.

    The base is the whole picture squeezed into a square; the tiles are cut from the picture resized
    to fit the canvas, its aspect ratio kept, black around it. Both bicubic with antialiasing.
    """
    image = Image.fromarray(picture)
    bicubic = Image.Resampling.BICUBIC
    base = np.asarray(image.resize((TILE_SIZE, TILE_SIZE), bicubic))
    canvas = np.zeros((CANVAS, CANVAS, 3), dtype=np.uint8)
    fitted = np.asarray(image.resize((layout.width, layout.height), bicubic))
    canvas[layout.top : layout.top + layout.height, layout.left : layout.left + layout.width] = (
        fitted
    )
    halves = canvas.reshape(2, TILE_SIZE, 2, TILE_SIZE, 3).transpose(0, 2, 1, 3, 4)
    tiles = np.concatenate([base[None], halves.reshape(4, TILE_SIZE, TILE_SIZE, 3)])
    return np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))


def to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors on the device that training runs on, torch's default one."""
    device = torch.get_default_device()
    return {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}


def normalise(tiles: torch.Tensor) -> torch.Tensor:
    """Return uint8 tiles (..., 3, height, width) as the floats the vision tower expects."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    return (tiles.float() / 255 - mean) / std
