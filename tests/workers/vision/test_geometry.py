import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlavaNextImageProcessorPil, LlavaNextProcessor
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.modeling_llava_next import unpad_image

from pruner.layout import FrameLayout
from workers.vision.geometry import (
    DEFAULT_PINPOINTS,
    TileGeometry,
    choose_pinpoint,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "layout_geometry.npz"
LLAVA = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
# Another tile, another patch, and pinpoints up to 4 x 1 in an order of their own.
OTHER = TileGeometry(
    tile_size=56,
    patch_size=8,
    pinpoints=tuple((56 * a, 56 * b) for a, b in ((2, 2), (1, 4), (4, 1), (1, 2), (2, 1), (3, 3))),
)
# Granite-Vision's: tiles of no whole number of patches, up to ten in a row.
GRANITE = TileGeometry(
    tile_size=384,
    patch_size=14,
    pinpoints=tuple(
        (384 * a, 384 * b) for a in range(1, 11) for b in range(1, 11) if 1 < a * b <= 10
    ),
)


def random_sizes(seed: int, count: int) -> list[tuple[int, int]]:
    """(height, width) from one pixel to 8K, even on a log scale, then all small ones."""
    sizes = np.exp(np.random.default_rng(seed).uniform(0, np.log(8192), (count, 2))).astype(int)
    return [(int(height), int(width)) for height, width in sizes]


SIZES = random_sizes(0, 2500) + [(h, w) for h in range(1, 90, 4) for w in range(1, 90, 3)]
# A picture thinner than a token leaves transformers with newlines and nothing between them.
THINNEST = 1 / 7  # one token of the shortest side of OTHER


def thick(sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [size for size in sizes if min(size) / max(size) > THINNEST]


def canvas(geometry: TileGeometry, target: tuple[int, int]) -> torch.Tensor:
    side = geometry.tokens_per_side
    return torch.empty(1, *(length // geometry.tile_size * side for length in target))


@pytest.mark.parametrize("geometry", [LLAVA, OTHER, GRANITE])
def test_pinpoint_and_resized_size_are_those_of_transformers(geometry: TileGeometry) -> None:
    pinpoints = [list(pinpoint) for pinpoint in geometry.pinpoints]
    for size in SIZES:
        frame = geometry.frame(*size)
        target = tuple(select_best_resolution(size, pinpoints))
        assert frame.target == target, size
        # transformers takes the picture's size from an array, here one that holds no pixels.
        picture = np.broadcast_to(np.uint8(0), (3, *size))
        resized = get_patch_output_size(picture, target, input_data_format="channels_first")
        assert frame.resized == tuple(resized), size


@pytest.mark.parametrize("geometry", [LLAVA, OTHER, GRANITE])
def test_rows_and_columns_are_those_of_transformers(geometry: TileGeometry) -> None:
    for size in thick(SIZES):
        frame = geometry.frame(*size)
        unpadded = unpad_image(canvas(geometry, frame.target), size)
        assert (frame.rows, frame.columns) == tuple(unpadded.shape[1:]), size


@pytest.mark.parametrize("geometry", [LLAVA, OTHER, GRANITE])
def test_number_of_tokens_is_what_the_processor_expands_a_placeholder_to(
    checkpoint: Path, geometry: TileGeometry
) -> None:
    tokenizer = LlavaNextProcessor.from_pretrained(checkpoint).tokenizer
    pinpoints = [list(pinpoint) for pinpoint in geometry.pinpoints]
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        patch_size=geometry.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    tile = (geometry.tile_size, geometry.tile_size)
    for size in thick(SIZES):
        expected = processor._get_number_of_features(*size, *tile) - 1  # the class token
        assert geometry.frame(*size).layout.num_tokens == expected, size


@pytest.mark.parametrize("size", [(1024, 16), (16, 1024), (1, 8000)])
def test_a_picture_thinner_than_a_token_has_base_tokens_only(size: tuple[int, int]) -> None:
    geometry = TileGeometry(tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56)))
    frame = geometry.frame(*size)
    assert (frame.rows, frame.columns, frame.layout.num_tokens) == (0, 0, 16)
    assert (frame.grid, frame.num_tiles) == ((0, 0), 1)


def test_a_picture_without_grid_is_its_base_tile_whatever_its_size() -> None:
    wide, tall = (LLAVA.without_grid().frame(*size) for size in ((720, 1280), (1280, 720)))
    assert wide == tall
    assert (wide.num_tiles, wide.layout) == (1, FrameLayout(num_base=576, rows=0, columns=0))


def test_golden_rows_and_columns() -> None:
    with np.load(GOLDEN, allow_pickle=False) as golden:
        params = json.loads(str(golden["meta_json"]))["params"]
        sizes, expected = golden["image_wh"], golden["hf5_rows_cols"]
    pinpoints = tuple((height, width) for height, width in params["pinpoints"])
    geometry = TileGeometry(tile_size=params["tile_px"], patch_size=14, pinpoints=pinpoints)
    assert geometry.tokens_per_side == params["tile_side"]
    frames = [geometry.frame(int(height), int(width)) for width, height in sizes]
    np.testing.assert_array_equal([(frame.rows, frame.columns) for frame in frames], expected)


def test_known_counts() -> None:
    wide = LLAVA.frame(720, 1280)
    assert (wide.target, wide.grid, wide.resized) == ((672, 672), (2, 2), (378, 672))
    assert (wide.padding, wide.rows, wide.columns) == ((147, 0), 28, 48)
    assert wide.layout == FrameLayout(num_base=576, rows=28, columns=48)
    assert wide.num_tiles == 5
    assert LLAVA.frame(336, 336).layout.num_tokens == 576 + 24 * 25
    assert LLAVA.frame(672, 672).layout.num_tokens == 576 + 48 * 49


@pytest.mark.parametrize("geometry", [LLAVA, OTHER])
def test_what_is_cut_off_is_padding_only(geometry: TileGeometry) -> None:
    for size in thick(SIZES):
        frame = geometry.frame(*size)
        (above, left), (height, width) = frame.padding, frame.resized
        assert 0 <= above <= frame.target[0] - height - above <= above + 1
        assert 0 <= left <= frame.target[1] - width - left <= left + 1
        assert 0 <= frame.rows * geometry.patch_size <= frame.target[0]
        assert 0 <= frame.columns * geometry.patch_size <= frame.target[1]
        assert frame.rows * geometry.patch_size >= height - geometry.patch_size
        assert frame.columns * geometry.patch_size >= width - geometry.patch_size


def test_the_first_of_equal_pinpoints_wins() -> None:
    assert choose_pinpoint((100, 100), ((336, 672), (672, 336))) == (336, 672)
    assert choose_pinpoint((100, 100), ((672, 336), (336, 672))) == (672, 336)
