"""What a checkpoint's files say of its vision tower, read without torch or transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.checkpoint import read_config
from workers.errors import ModelError
from workers.families import family_of
from workers.vision.geometry import DEFAULT_PINPOINTS, TileGeometry
from workers.vision.processor import read_fit, read_processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A kind of vision tower, with transformers' defaults for its sizes in pixels."""

    image_size: int
    patch_size: int
    has_class_token: bool


TOWERS = {
    "clip_vision_model": Tower(image_size=224, patch_size=32, has_class_token=True),
    "siglip_vision_model": Tower(image_size=224, patch_size=16, has_class_token=False),
}
"""By ``model_type`` in ``vision_config``."""
_PUBLISHED: Mapping[str, Any] = {"image_size": 336, "patch_size": 14}
"""LLaVA's, which transformers takes for a checkpoint that says nothing of its tower."""


def load_geometry(location: str) -> TileGeometry:
    """Read the tile geometry of a checkpoint.

    Args:
        location: what :func:`workers.checkpoint.locate` returned.

    Raises:
        ModelError: it lacks a file, or is of a kind that is not supported.
    """
    config = read_config(location)
    family = family_of(config)
    return read_geometry(config, {} if family.has_grid else read_processor(location, family))


def read_geometry(
    config: Mapping[str, Any], processor: Mapping[str, Any] | None = None
) -> TileGeometry:
    """Return the tile geometry that a checkpoint's files describe.

    Args:
        config: content of ``config.json``.
        processor: settings of the image processor; those that are missing are CLIP's.

    Raises:
        ModelError: the class, its vision tower or its processor is not supported.
    """
    family, kind = family_of(config), tower_of(config)
    settings = processor or {}
    vision = config.get("vision_config") or _PUBLISHED
    tile_size = vision.get("image_size", kind.image_size)
    fit = read_fit(settings, family, tile_size)
    red, green, blue = (int(255 * mean) for mean in settings.get("image_mean", (0, 0, 0)))
    return TileGeometry(
        tile_size=tile_size,
        patch_size=vision.get("patch_size", kind.patch_size),
        pinpoints=_read_pinpoints(config) if family.has_grid else (),
        pool=_read_pool(config) if family.is_video else 1,
        fit=fit,
        background=(red, green, blue) if fit == "pad" else (0, 0, 0),
    )


def tower_of(config: Mapping[str, Any]) -> Tower:
    """Return the kind of a checkpoint's vision tower.

    Raises:
        ModelError: of another kind, or other features of it than those of its patches are asked.
    """
    kind = (config.get("vision_config") or _PUBLISHED).get("model_type", "clip_vision_model")
    if kind not in TOWERS:
        raise ModelError(f"the vision tower is a {kind!r}; give one of {' or '.join(TOWERS)}")
    strategy = config.get("vision_feature_select_strategy", "default")
    needed = "default" if TOWERS[kind].has_class_token else "full"
    if strategy != needed:
        raise ModelError(
            f"vision_feature_select_strategy {strategy!r} is not supported with a {kind}, of which "
            f"{needed!r} are all patches and nothing else"
        )
    return TOWERS[kind]


def _read_pinpoints(config: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    pinpoints = config.get("image_grid_pinpoints")
    if pinpoints is None:
        pinpoints = DEFAULT_PINPOINTS
    return tuple((int(height), int(width)) for height, width in pinpoints)


def _read_pool(config: Mapping[str, Any]) -> int:
    """Return along how many patches tokens are pooled."""
    mode = config.get("spatial_pool_mode", "average")
    if mode not in ("average", "max"):
        raise ModelError(f"spatial_pool_mode {mode!r} is not supported: give average or max")
    return int(config.get("spatial_pool_stride", 2))
