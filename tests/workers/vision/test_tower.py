from typing import Any

import pytest

from workers.errors import ModelError
from workers.vision.geometry import DEFAULT_PINPOINTS, TileGeometry
from workers.vision.tower import read_geometry

CONFIG: dict[str, Any] = {
    "model_type": "llava_next",
    "vision_config": {"image_size": 56, "patch_size": 14},
    "image_grid_pinpoints": [[56, 112], [112, 56]],
}
SIGLIP = {"vision_config": {"model_type": "siglip_vision_model", "image_size": 384}}
FULL = {"vision_feature_select_strategy": "full"}


def test_geometry_is_read_from_the_configuration() -> None:
    geometry = read_geometry(CONFIG)
    assert geometry == TileGeometry(tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56)))
    assert (geometry.tokens_per_side, geometry.num_base) == (4, 16)


def test_what_the_configuration_leaves_out_is_as_published() -> None:
    published = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
    assert read_geometry({"model_type": "llava_next"}) == published


def test_no_pinpoints_leave_the_base_tile_alone() -> None:
    geometry = read_geometry(CONFIG | {"image_grid_pinpoints": []})
    assert geometry.frame(72, 128).num_tiles == 1


def test_a_class_without_tiles_has_no_pinpoints_whatever_is_stated() -> None:
    geometry = read_geometry(CONFIG | {"model_type": "llava"})
    assert geometry == TileGeometry(tile_size=56, patch_size=14, pinpoints=(), fit="crop")


def test_a_video_s_patches_are_pooled() -> None:
    geometry = read_geometry({"model_type": "llava_next_video"})
    assert (geometry.pinpoints, geometry.pool, geometry.fit) == ((), 2, "crop")
    assert (geometry.tokens_per_side, geometry.token_size, geometry.num_base) == (12, 28, 144)


def test_what_of_a_tile_makes_no_patch_is_not_seen() -> None:
    vision = SIGLIP["vision_config"] | {"patch_size": 14}
    geometry = read_geometry(CONFIG | FULL | {"image_grid_pinpoints": [], "vision_config": vision})
    assert (geometry.tokens_per_side, geometry.num_base) == (27, 729)


def test_a_margin_has_the_colour_that_is_subtracted() -> None:
    settings = {"do_pad": True, "image_mean": [0.48145466, 0.4578275, 0.40821073]}
    geometry = read_geometry(CONFIG | {"model_type": "llava"}, settings)
    assert (geometry.fit, geometry.background) == ("pad", (122, 116, 104))


SUPPORTED = "give one of llava, llava_next or llava_next_video"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "llava_onevision"},
            rf"^a checkpoint of class 'llava_onevision'.*{SUPPORTED}",
        ),
        ({"model_type": "qwen2_vl"}, rf"^a checkpoint of class 'qwen2_vl' .*{SUPPORTED}"),
        ({"model_type": None}, rf"^a checkpoint of class None .*{SUPPORTED}"),
        (
            {"vision_config": {"model_type": "pixtral"}},
            r"^the vision tower is a 'pixtral'; .* clip_vision_model or siglip_vision_model$",
        ),
        (SIGLIP, r"^vision_feature_select_strategy 'default' is not supported with a siglip"),
        (FULL, r"^vision_feature_select_strategy 'full' is not supported with a clip"),
        (
            {"vision_config": {"image_size": 13, "patch_size": 14}},
            r"13 px is smaller than .* 14 px$",
        ),
        (
            {"image_grid_pinpoints": [[56, 112], [56, 100]]},
            r"\(56, 100\): no multiple of the 56 px",
        ),
        (
            {"model_type": "llava_next_video", "spatial_pool_mode": "conv"},
            r"'conv' is not supported",
        ),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_geometry(CONFIG | change)
