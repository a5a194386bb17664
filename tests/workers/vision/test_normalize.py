import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.errors import ModelError
from workers.vision.normalize import Normalization, normalize
from workers.vision.normalize import read_normalization as read_settings

CLIP = Normalization()


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
