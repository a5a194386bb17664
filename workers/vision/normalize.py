"""Tiles to ``pixel_values``, as the checkpoint's image processor scales them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """Scale to [0, 1], subtract ``mean`` and divide by ``std`` of each RGB channel."""

    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


def read_normalization(settings: Mapping[str, Any]) -> Normalization:
    """Return the normalization among an image processor's settings; what is missing is CLIP's."""
    return Normalization(
        mean=tuple(settings.get("image_mean", CLIP_MEAN)),
        std=tuple(settings.get("image_std", CLIP_STD)),
    )


def normalize(
    tiles: torch.Tensor, normalization: Normalization, dtype: torch.dtype
) -> torch.Tensor:
    """Return uint8 tiles (n, height, width, 3) as ``pixel_values`` (n, 3, height, width)."""
    mean, std = _constants(normalization, tiles.device)
    channels_first = tiles.permute(0, 3, 1, 2)
    pixels = channels_first.to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.mul_(1 / 255).sub_(mean).div_(std).to(dtype)


@lru_cache(maxsize=8)
def _constants(
    normalization: Normalization, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and std (3, 1, 1) on a device, copied there once: a copy waits for the device."""
    mean, std = torch.tensor([normalization.mean, normalization.std], device=device)
    return mean[:, None, None], std[:, None, None]
