"""A checkpoint's image processor: its settings, and how it makes a picture the base tile."""

from collections.abc import Mapping
from typing import Any

from workers.checkpoint import read_optional
from workers.errors import ModelError
from workers.families import Family
from workers.vision.geometry import Fit

VIDEO_PROCESSOR = "video_preprocessor_config.json"
_BICUBIC = 3


def read_processor(location: str, family: Family) -> dict[str, Any]:
    """Return the settings of the processor that transformers would give frames to.

    Args:
        location: folder or hub name.
        family: of the checkpoint.

    Raises:
        ModelError: there are none, or they ask for other resizing than bicubic.
    """
    names = ["preprocessor_config.json", "processor_config.json"]
    if family.is_video:
        names.insert(0, VIDEO_PROCESSOR)
    for name in names:
        settings = read_optional(location, name)
        nested = settings.get(f"{family.modality}_processor") or settings.get("image_processor")
        settings = nested if isinstance(nested, dict) else settings
        if "image_mean" in settings:
            break
    else:
        raise ModelError(f"{location}: no image processor settings (preprocessor_config.json)")
    if settings.get("resample", _BICUBIC) != _BICUBIC:
        raise ModelError(f"{location}: its image processor does not resize bicubically")
    return settings


def read_fit(settings: Mapping[str, Any], family: Family, tile_size: int) -> Fit:
    """Return how a picture becomes the base tile.

    Args:
        settings: from :func:`read_processor`.
        family: of the checkpoint; with high-resolution tiles the base shows all of a picture.
        tile_size: pixels that the vision tower takes.

    Raises:
        ModelError: the processor makes pictures that are no square tile of this size.
    """
    if family.has_grid:
        return "stretch"
    size = _sides(settings.get("size", tile_size))
    by_shorter_side = len(size) == 1
    crops = settings.get("do_center_crop")
    crops = by_shorter_side if crops is None else crops
    cropped = _sides(settings.get("crop_size", tile_size)) if crops else size
    pads = bool(settings.get("do_pad")) and not family.is_video
    if {*size, *cropped} != {tile_size} or not (crops or pads or len(size) == 2):
        raise ModelError(
            f"its vision tower takes squares of {tile_size} px, which its image processor does not "
            f"make: {size = }, {crops = }, {cropped = }"
        )
    if pads:
        return "pad"
    return "crop" if by_shorter_side else "stretch"


def _sides(size: Any) -> list[int]:
    """Return the sides of a size that are stated: one for the shorter side."""
    sides = size.values() if isinstance(size, dict) else [size]
    return [side for side in sides if side is not None]
