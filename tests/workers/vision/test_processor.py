import json
from pathlib import Path
from typing import Any

import pytest

from workers.errors import ModelError
from workers.families import FAMILIES
from workers.vision.processor import read_fit, read_processor

TILES, PLAIN, VIDEO = (FAMILIES[name] for name in ("llava_next", "llava", "llava_next_video"))
SETTINGS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}
OTHERS = SETTINGS | {"image_mean": [0.1, 0.1, 0.1]}


def write(folder: Path, **files: dict[str, Any]) -> str:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def test_settings_under_the_name_of_transformers_4(tmp_path: Path) -> None:
    location = write(tmp_path, preprocessor_config=SETTINGS, processor_config={"patch_size": 14})
    assert read_processor(location, TILES) == SETTINGS


def test_settings_under_the_name_of_transformers_5(tmp_path: Path) -> None:
    location = write(tmp_path, processor_config={"image_processor": SETTINGS})
    assert read_processor(location, PLAIN) == SETTINGS


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config": OTHERS, "video_preprocessor_config": SETTINGS},
        {"processor_config": {"image_processor": OTHERS, "video_processor": SETTINGS}},
        {"preprocessor_config": SETTINGS},
        {"processor_config": {"image_processor": SETTINGS}},
    ],
)
def test_those_of_a_video_go_first_for_videos(tmp_path: Path, files: dict[str, Any]) -> None:
    assert read_processor(write(tmp_path, **files), VIDEO) == SETTINGS


@pytest.mark.parametrize("files", [{}, {"processor_config": {"patch_size": 14}}])
def test_missing_settings_are_an_error(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"no image processor settings \(preprocessor_config"):
        read_processor(write(tmp_path, **files), TILES)


def test_another_way_of_resizing_is_refused(tmp_path: Path) -> None:
    location = write(tmp_path, preprocessor_config=SETTINGS | {"resample": 2})
    with pytest.raises(ModelError, match="does not resize bicubically"):
        read_processor(location, TILES)


def test_broken_settings_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"preprocessor_config\.json: not valid JSON"):
        read_processor(str(tmp_path), TILES)


SQUARE = {"height": 56, "width": 56}
SHORTER = {"shortest_edge": 56, "height": None}


@pytest.mark.parametrize(
    ("family", "settings", "fit"),
    [
        (TILES, {"size": SHORTER, "do_pad": True}, "stretch"),
        (PLAIN, {}, "crop"),
        (PLAIN, {"size": 56, "crop_size": 56, "do_center_crop": True}, "crop"),
        (PLAIN, {"size": SHORTER, "crop_size": SQUARE, "do_pad": False}, "crop"),
        (PLAIN, {"size": SHORTER, "crop_size": SQUARE, "do_pad": True}, "pad"),
        (PLAIN, {"size": SHORTER, "do_center_crop": False, "do_pad": True}, "pad"),
        (PLAIN, {"size": SQUARE, "do_center_crop": None, "crop_size": {"height": 9}}, "stretch"),
        (PLAIN, {"size": SQUARE, "do_center_crop": True, "crop_size": SQUARE}, "stretch"),
        (VIDEO, {"size": SHORTER, "crop_size": SQUARE, "do_pad": True}, "crop"),
    ],
)
def test_how_a_picture_becomes_the_base_tile(family: Any, settings: Any, fit: str) -> None:
    assert read_fit(settings, family, 56) == fit


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 28}},
        {"size": SHORTER, "crop_size": {"height": 56, "width": 28}},
        {"size": SHORTER, "do_center_crop": False},
        {"size": {"height": 56, "width": 112}},
    ],
)
def test_a_processor_that_makes_other_pictures_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"^its vision tower takes squares of 56 px, which its"):
        read_fit(settings, PLAIN, 56)
