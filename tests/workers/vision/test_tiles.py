import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaNextImageProcessorPil

from workers.errors import ModelError
from workers.messages import UInt8Array
from workers.vision.geometry import DEFAULT_PINPOINTS, FrameGeometry, TileGeometry, read_geometry
from workers.vision.tiles import CLIP_MEAN, CLIP_STD, Normalization, cut_tiles, normalize
from workers.vision.tiles import read_normalization as read_settings

CLIP = Normalization(mean=CLIP_MEAN, std=CLIP_STD)
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


def picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """Draw smooth colours with hard edges, so that resizing rings and clips at both ends."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases, rates = rng.uniform(0, 6, 3), rng.uniform(0.05, 0.6, (3, 2))
    waves = np.sin(y[..., None] * rates[:, 0] + x[..., None] * rates[:, 1] + phases)
    blocks = rng.integers(0, 2, (height // 9 + 1, width // 7 + 1, 3)) * 2 - 1
    edges = blocks[y // 9, x // 7]
    return ((waves + edges + 2) * 63.75).astype(np.uint8)


def geometry_of(checkpoint: Path, frames: UInt8Array) -> FrameGeometry:
    config = json.loads((checkpoint / "config.json").read_text())
    return read_geometry(config).frame(*frames.shape[1:3])


def pixel_values(frames: UInt8Array, geometry: FrameGeometry) -> torch.Tensor:
    """(n, 1 + tiles, 3, size, size) float32."""
    tiles = torch.from_numpy(cut_tiles(frames, geometry))
    pixels = normalize(tiles.flatten(0, 1), CLIP, torch.float32)
    return pixels.view(*tiles.shape[:2], *pixels.shape[1:])


def reference(processor: LlavaNextImageProcessorPil, frames: UInt8Array) -> torch.Tensor:
    settings = {"return_tensors": "pt", "input_data_format": "channels_last"}
    pixels: torch.Tensor = processor(images=list(frames), **settings)["pixel_values"]
    return pixels


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(checkpoint: Path, size: tuple[int, int]) -> None:
    frames = picture(*size)[None]
    processor = LlavaNextImageProcessorPil.from_pretrained(checkpoint)
    expected = reference(processor, frames)
    actual = pixel_values(frames, geometry_of(checkpoint, frames))
    assert actual.shape == expected.shape
    # Exact up to the rounding of float32: one 8-bit level would be 0.015.
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_pixels_are_those_of_transformers_at_full_size() -> None:
    frames = picture(360, 640)[None]
    geometry = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
    processor = LlavaNextImageProcessorPil(
        image_grid_pinpoints=[list(pinpoint) for pinpoint in DEFAULT_PINPOINTS],
        size={"shortest_edge": 336},
        crop_size={"height": 336, "width": 336},
    )
    expected = reference(processor, frames)
    actual = pixel_values(frames, geometry.frame(360, 640))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(72, 128), (128, 72)])
def test_a_batch_equals_its_frames_one_by_one(checkpoint: Path, size: tuple[int, int]) -> None:
    frames = np.stack([picture(*size, seed=seed) for seed in range(5)])
    geometry = geometry_of(checkpoint, frames)
    together = cut_tiles(frames, geometry)
    assert together.shape == (5, 1 + geometry.grid[0] * geometry.grid[1], 56, 56, 3)
    alone = [cut_tiles(frames[i : i + 1], geometry) for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert len(np.unique(together.reshape(5, -1), axis=0)) == 5


def test_frames_are_not_modified_and_may_be_read_only(checkpoint: Path) -> None:
    frames = picture(72, 128)[None]
    before = frames.copy()
    frames.flags.writeable = False
    cut_tiles(frames, geometry_of(checkpoint, frames))
    np.testing.assert_array_equal(frames, before)


def test_tiles_stand_where_they_were_cut(checkpoint: Path) -> None:
    frames = np.zeros((1, 112, 112, 3), np.uint8)
    frames[0, :56, 56:] = 90
    frames[0, 56:, :56] = 180
    frames[0, 56:, 56:] = 250
    tiles = cut_tiles(frames, geometry_of(checkpoint, frames))
    inner = tiles[0, 1:, 8:-8, 8:-8]
    assert [np.unique(tile).tolist() for tile in inner] == [[0], [90], [180], [250]]


def test_padding_is_black_before_normalization(checkpoint: Path) -> None:
    frames = np.full((1, 40, 300, 3), 200, np.uint8)
    geometry = geometry_of(checkpoint, frames)
    tiles = cut_tiles(frames, geometry)
    across = np.concatenate(list(tiles[0, 1:]), axis=1)
    above, height = geometry.padding[0], geometry.resized[0]
    assert np.unique(across[above : above + height]).tolist() == [200]
    assert np.unique(across[:above]).tolist() == np.unique(across[above + height :]).tolist() == [0]


def test_normalize_casts_and_puts_channels_first() -> None:
    tiles = torch.arange(2 * 2 * 3 * 3, dtype=torch.uint8).view(2, 2, 3, 3)
    settings = Normalization(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    pixels = normalize(tiles, settings, torch.float32)
    expected = [
        (tiles[..., 0] / 255).float(),
        (tiles[..., 1] / 255 - 0.5) / 0.5,
        (tiles[..., 2] / 255 - 1) / 2,
    ]
    torch.testing.assert_close(pixels, torch.stack(expected, dim=1))
    assert pixels.is_contiguous()
    assert normalize(tiles, settings, torch.bfloat16).dtype == torch.bfloat16


def write_settings(folder: Path, name: str, settings: dict[str, Any]) -> str:
    (folder / name).write_text(json.dumps(settings))
    return str(folder)


def test_settings_of_the_checkpoint(checkpoint: Path) -> None:
    assert read_settings(str(checkpoint)) == CLIP


def test_settings_under_the_name_of_transformers_4(tmp_path: Path) -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}
    location = write_settings(tmp_path, "preprocessor_config.json", settings)
    assert read_settings(location) == Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_settings_under_the_name_of_transformers_5(tmp_path: Path) -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    location = write_settings(tmp_path, "processor_config.json", {"image_processor": settings})
    assert read_settings(location) == Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_missing_settings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no image processor settings \(preprocessor_config"):
        read_settings(str(tmp_path))


def test_settings_of_something_else_do_not_count(tmp_path: Path) -> None:
    location = write_settings(tmp_path, "processor_config.json", {"patch_size": 14})
    with pytest.raises(ModelError, match="no image processor settings"):
        read_settings(location)


def test_another_way_of_resizing_is_refused(tmp_path: Path) -> None:
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    location = write_settings(tmp_path, "preprocessor_config.json", settings)
    with pytest.raises(ModelError, match="does not resize bicubically"):
        read_settings(location)


def test_broken_settings_are_an_error_that_names_the_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint, folder)
    (folder / "preprocessor_config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"preprocessor_config\.json: not valid JSON"):
        read_settings(str(folder))
