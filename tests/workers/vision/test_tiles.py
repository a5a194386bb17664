import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlavaImageProcessorPil, LlavaNextImageProcessorPil

from tests.workers.vision.pictures import draw_picture
from workers.arrays import UInt8Array
from workers.frames import PictureChunk
from workers.vision.geometry import DEFAULT_PINPOINTS, Fit, TileGeometry
from workers.vision.normalize import Normalization, normalize
from workers.vision.tiles import cut_chunk, cut_pictures, cut_tiles
from workers.vision.tower import read_geometry

ROOT = Path(__file__).parents[3]
# (height, width): 16:9, 4:3, portrait, square, panorama, tiny, one pixel, and odd ones between.
SIZES = [
    (72, 128),
    (96, 128),
    (128, 72),
    (100, 100),
    (40, 300),
    (5, 7),
    (1, 1),
    (56, 112),
    (113, 57),
    (97, 211),
]


def geometry_of(checkpoint: Path) -> TileGeometry:
    return read_geometry(json.loads((checkpoint / "config.json").read_text()))


def cut(checkpoint: Path, picture: UInt8Array) -> UInt8Array:
    return cut_tiles(picture, geometry_of(checkpoint).frame(*picture.shape[:2]))


def pixel_values(picture: UInt8Array, geometry: TileGeometry) -> torch.Tensor:
    """(1 + tiles, 3, size, size) float32."""
    tiles = torch.from_numpy(cut_tiles(picture, geometry.frame(*picture.shape[:2])))
    return normalize(tiles, Normalization(), torch.float32)


def reference(processor: Any, picture: UInt8Array) -> torch.Tensor:
    options = {"return_tensors": "pt", "input_data_format": "channels_last"}
    pixels: torch.Tensor = processor(images=[picture], **options)["pixel_values"][0]
    return pixels


def make_chunk(pictures: list[UInt8Array]) -> PictureChunk:
    places = np.arange(len(pictures))
    return PictureChunk(
        clip_id="clip",
        frame_indices=places + 3,
        pts_seconds=places / 10,
        pictures=tuple(pictures),
        warnings=("frame 2 is missing",),
    )


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(checkpoint: Path, size: tuple[int, int]) -> None:
    picture = draw_picture(*size)
    expected = reference(LlavaNextImageProcessorPil.from_pretrained(checkpoint), picture)
    actual = pixel_values(picture, geometry_of(checkpoint))
    assert actual.shape == expected.shape
    # Exact up to the rounding of float32: one 8-bit level would be 0.015.
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(st.integers(1, 400), st.integers(1, 400)), seed=st.integers(0, 9))
def test_pixels_of_any_size_are_those_of_transformers(size: tuple[int, int], seed: int) -> None:
    geometry = TileGeometry(
        tile_size=28, patch_size=14, pinpoints=((28, 56), (56, 28), (56, 56), (84, 28), (28, 84))
    )
    processor = LlavaNextImageProcessorPil(
        image_grid_pinpoints=[list(pinpoint) for pinpoint in geometry.pinpoints],
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
    )
    picture = draw_picture(*size, seed=seed)
    frame = geometry.frame(*size)
    expected = reference(processor, picture)[: frame.num_tiles]  # thin ones have no grid here
    torch.testing.assert_close(pixel_values(picture, geometry), expected, atol=1e-5, rtol=0)


BASES = {
    fit: TileGeometry(tile_size=28, patch_size=14, pinpoints=(), fit=fit) for fit in get_args(Fit)
}


@pytest.mark.parametrize("fit", BASES)
@settings(max_examples=40, deadline=None)
@given(size=st.tuples(st.integers(7, 400), st.integers(7, 400)), seed=st.integers(0, 9))
def test_bases_of_any_fit_are_those_of_transformers(
    fit: str, size: tuple[int, int], seed: int
) -> None:
    processor = LlavaImageProcessorPil(
        size={"height": 28, "width": 28} if fit == "stretch" else {"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        do_pad=fit == "pad",
    )
    background = (122, 116, 104) if fit == "pad" else (0, 0, 0)
    picture = draw_picture(*size, seed=seed)
    actual = pixel_values(picture, replace(BASES[fit], background=background))
    torch.testing.assert_close(actual[0], reference(processor, picture), atol=1e-5, rtol=0)


def test_a_picture_of_any_length_is_cropped_in_little_memory() -> None:
    frame = BASES["crop"].frame(2, 100_000)
    assert (frame.base, frame.cropped) == ((28, 28 * 64), (0, 28 * 63 // 2))
    assert cut_tiles(np.zeros((2, 100_000, 3), np.uint8), frame).shape == (1, 28, 28, 3)


def test_pixels_are_those_of_transformers_at_full_size() -> None:
    picture = draw_picture(360, 640)
    geometry = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
    processor = LlavaNextImageProcessorPil(
        image_grid_pinpoints=[list(pinpoint) for pinpoint in DEFAULT_PINPOINTS],
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
    )
    expected = reference(processor, picture)
    torch.testing.assert_close(pixel_values(picture, geometry), expected, atol=1e-5, rtol=0)


def test_pictures_are_not_modified_and_may_be_read_only(checkpoint: Path) -> None:
    picture = draw_picture(72, 128)
    before = picture.copy()
    picture.flags.writeable = False
    cut(checkpoint, picture)
    np.testing.assert_array_equal(picture, before)


def test_tiles_stand_where_they_were_cut(checkpoint: Path) -> None:
    picture = np.zeros((112, 112, 3), np.uint8)
    picture[:56, 56:] = 90
    picture[56:, :56] = 180
    picture[56:, 56:] = 250
    inner = cut(checkpoint, picture)[1:, 8:-8, 8:-8]
    assert [np.unique(tile).tolist() for tile in inner] == [[0], [90], [180], [250]]


def test_padding_is_black_before_normalization(checkpoint: Path) -> None:
    tiles = cut(checkpoint, np.full((40, 300, 3), 200, np.uint8))
    across = np.concatenate(list(tiles[1:]), axis=1)
    geometry = geometry_of(checkpoint).frame(40, 300)
    above, height = geometry.padding[0], geometry.resized[0]
    assert np.unique(across[above : above + height]).tolist() == [200]
    assert np.unique(across[:above]).tolist() == np.unique(across[above + height :]).tolist() == [0]


@pytest.mark.parametrize(
    ("without_grid", "size"), [(True, (72, 128)), (False, (2, 900)), (False, (900, 2))]
)
def test_some_pictures_have_their_base_tile_only(
    checkpoint: Path, without_grid: bool, size: tuple[int, int]
) -> None:
    geometry = geometry_of(checkpoint)
    frame = (geometry.without_grid() if without_grid else geometry).frame(*size)
    picture = draw_picture(*size)
    tiles = cut_tiles(picture, frame)
    assert (tiles.shape, frame.num_tiles) == ((1, 56, 56, 3), 1)
    expected = cut_tiles(picture, geometry.frame(*size))[:1]
    np.testing.assert_array_equal(tiles, expected)


def test_a_chunk_of_mixed_sizes_holds_the_tiles_of_each_picture(checkpoint: Path) -> None:
    sizes = [(72, 128), (72, 128), (128, 72), (2, 900), (100, 100), (72, 128)]
    pictures = [draw_picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    geometry, chunk = geometry_of(checkpoint), make_chunk(pictures)
    cut = cut_chunk(chunk, geometry)
    assert (cut.clip_id, cut.frame_indices.tolist()) == ("clip", [3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(cut.pts_seconds, chunk.pts_seconds)
    assert cut.sizes.tolist() == [list(size) for size in sizes]
    assert cut.num_tiles.tolist() == [5, 5, 5, 1, 5, 5]
    for number, picture in enumerate(pictures):
        alone = cut_tiles(picture, geometry.frame(*picture.shape[:2]))
        np.testing.assert_array_equal(cut[number : number + 1].tiles, alone)
    assert len(np.unique(cut.tiles.reshape(len(cut.tiles), -1), axis=0)) > 20


def test_geometries_follow_from_the_sizes_a_chunk_tells(checkpoint: Path) -> None:
    geometry = geometry_of(checkpoint)
    chunk = make_chunk([draw_picture(72, 128), draw_picture(100, 100), draw_picture(2, 900)])
    _, frames = cut_pictures(chunk.pictures, geometry)
    cut = cut_chunk(chunk, geometry)
    assert [geometry.frame(*size) for size in cut.sizes.tolist()] == frames


def test_a_chunk_of_no_picture_has_no_tile(checkpoint: Path) -> None:
    cut = cut_chunk(make_chunk([]), geometry_of(checkpoint))
    assert (len(cut), cut.tiles.shape, cut.sizes.shape) == (0, (0, 56, 56, 3), (0, 2))


def test_cutting_needs_no_torch() -> None:
    code = "import sys, workers.vision.tiles; print('torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True\n"
