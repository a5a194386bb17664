import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workers.vision.pictures import draw_picture
from workers.arrays import UInt8Array
from workers.vision.geometry import DEFAULT_PINPOINTS, Fit, TileGeometry
from workers.vision.resize import cut_batch, cut_pictures_on, resize_exactly
from workers.vision.tiles import cut_pictures, squared

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
LLAVA = TileGeometry(tile_size=336, patch_size=14, pinpoints=DEFAULT_PINPOINTS)
SMALL = TileGeometry(tile_size=56, patch_size=14, pinpoints=((56, 112), (112, 56), (112, 112)))
SIZES = [(72, 128), (128, 72), (2, 900), (100, 100), (100, 100), (5, 7)]


def random_sizes(count: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(height, width) before and after, from one pixel to 400, even on a log scale."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(0, np.log(400), (count, 4))).astype(int).tolist()
    return [((a, b), (c, d)) for a, b, c, d in sizes]


def with_pillow(picture: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    image = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image)


@pytest.mark.parametrize("number", range(6))
def test_matrix_products_give_the_bits_of_pillow(number: int) -> None:
    for size, target in random_sizes(240)[number::6]:
        rng = np.random.default_rng(number)
        for picture in (draw_picture(*size), rng.integers(0, 256, (*size, 3), np.uint8)):
            actual = resize_exactly(torch.from_numpy(picture), target).numpy()
            np.testing.assert_array_equal(actual, with_pillow(picture, target), f"{size} {target}")


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (1920, 1080), (480, 8000)])
def test_matrix_products_give_the_bits_of_pillow_at_full_size(size: tuple[int, int]) -> None:
    picture = draw_picture(*size)
    actual = resize_exactly(torch.from_numpy(picture), (336, 336)).numpy()
    np.testing.assert_array_equal(actual, with_pillow(picture, (336, 336)))


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (640, 360), (500, 500), (100, 130)])
def test_on_a_cpu_tiles_differ_from_the_exact_ones_by_a_level_or_two(
    size: tuple[int, int],
) -> None:
    pictures = [draw_picture(*size, seed=seed) for seed in range(2)]
    exact, exact_frames = cut_pictures(pictures, LLAVA)
    fast, fast_frames = cut_pictures_on(CPU, pictures, LLAVA)
    assert fast_frames == exact_frames
    distance = np.abs(fast.numpy().astype(int) - exact)
    assert distance.max() <= 2
    assert (distance > 1).mean() < 1e-3
    assert (distance > 0).mean() < 0.02


@pytest.mark.parametrize("geometry", [SMALL, SMALL.without_grid()], ids=["grid", "base only"])
def test_a_picture_s_tiles_do_not_depend_on_those_beside_it(geometry: TileGeometry) -> None:
    pictures = [draw_picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    together, frames = cut_pictures_on(CPU, pictures, geometry)
    alone = [cut_pictures_on(CPU, [picture], geometry) for picture in pictures]
    assert torch.equal(together, torch.cat([tiles for tiles, _ in alone]))
    assert frames == [frame for _, (frame,) in alone]
    exact, _ = cut_pictures(pictures, geometry)
    assert np.abs(together.numpy().astype(int) - exact).max() <= 2


def test_padding_is_black() -> None:
    frame = SMALL.frame(40, 120)
    tiles = cut_batch(torch.full((1, 40, 120, 3), 200, dtype=torch.uint8), frame)[0, 1:]
    above, height = frame.padding[0], frame.resized[0]
    assert above > 0
    assert tiles[:, above : above + height].unique().tolist() == [200]
    assert tiles[:, :above].unique().tolist() == tiles[:, above + height :].unique().tolist() == [0]


def test_read_only_pictures_may_be_given_and_none_at_all() -> None:
    picture = draw_picture(72, 128)
    before = picture.copy()
    picture.flags.writeable = False
    tiles, _ = cut_pictures_on(CPU, [picture], SMALL)
    assert tiles.shape == (5, 56, 56, 3)
    np.testing.assert_array_equal(picture, before)
    tiles, frames = cut_pictures_on(CPU, [], SMALL)
    assert (tiles.shape, frames) == ((0, 56, 56, 3), [])


@pytest.mark.parametrize(
    ("fit", "background"), [("crop", (0, 0, 0)), ("pad", (122, 116, 104)), ("stretch", (0, 0, 0))]
)
def test_a_base_fits_as_the_exact_one_does(fit: Fit, background: tuple[int, int, int]) -> None:
    geometry = replace(SMALL.without_grid(), fit=fit, background=background)
    pictures = [draw_picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    exact, exact_frames = cut_pictures(pictures, geometry)
    fast, frames = cut_pictures_on(CPU, pictures, geometry)
    assert frames == exact_frames
    assert np.abs(fast.numpy().astype(int) - exact).max() <= 2
    for picture, frame, expected in zip(pictures, frames, exact, strict=True):
        batch = torch.from_numpy(squared(picture, geometry))[None]
        np.testing.assert_array_equal(cut_batch(batch, frame)[0, 0].numpy(), expected)


ON_ACCELERATOR = """
from tests import accelerator
import torch
from tests.workers.vision.pictures import draw_picture
from tests.workers.vision.test_resize import SIZES, SMALL
from workers.vision.resize import cut_pictures_on
from workers.vision.tiles import cut_pictures
pictures = [draw_picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
tiles, frames = cut_pictures_on(torch.device(accelerator.NAME), pictures, SMALL)
exact, exact_frames = cut_pictures(pictures, SMALL)
print(tiles.device, (tiles.cpu().numpy() == exact).all(), frames == exact_frames)
"""


@pytest.mark.slow
def test_on_an_accelerator_tiles_are_the_exact_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_ACCELERATOR],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("pretend:0 True True\n", 0), done.stderr[-2000:]
