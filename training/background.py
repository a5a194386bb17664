"""Backgrounds: muted, so that nothing in them can be taken for one of the coloured shapes.

``MUTED`` are greys with a pattern. ``SCENERY`` looks like a picture of somewhere: regions with
uneven borders, each with a colour and a grain, in uneven light. Any other kind is a file of
pictures (see ``photographs``).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.photographs import Picture, cut_photograph

MUTED = ("gradient", "noise", "stripes", "checks", "blobs", "lines")
SCENERY = ("scenery",) * len(MUTED)
"""As many times as there are others: half of all backgrounds."""


def draw_background(kind: str, seed: int, width: int, height: int) -> Picture:
    """Return a picture (height, width, 3) of kind ``kind``."""
    generator = np.random.default_rng(seed)
    if kind in SCENERY:
        return _scenery(generator, width, height)
    if kind not in MUTED:
        return cut_photograph(kind, generator, width, height)
    level = float(generator.uniform(45, 135))
    tint = generator.uniform(-14, 14, 3)
    shade = _PATTERNS[kind](generator, width, height)
    noise = generator.normal(0, generator.uniform(0, 5), (height, width, 1))
    picture = level + tint + shade[..., None] + noise
    return np.clip(picture, 0, 180).astype(np.uint8)


def _gradient(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    across = np.linspace(-1, 1, width) * generator.uniform(-30, 30)
    down = np.linspace(-1, 1, height) * generator.uniform(-30, 30)
    shade: NDArray[np.float64] = across[None, :] + down[:, None]
    return shade


def _noise(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    cells = int(generator.integers(6, 40))
    coarse = generator.integers(0, 256, (cells, cells), dtype=np.uint8)
    fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    shade: NDArray[np.float64] = (np.asarray(fine, dtype=np.float64) - 128) / 128 * 26
    return shade


def _stripes(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    angle = generator.uniform(0, np.pi)
    period = generator.uniform(0.06, 0.3) * width
    across, down = np.arange(width)[None, :], np.arange(height)[:, None]
    wave = np.sin((across * np.cos(angle) + down * np.sin(angle)) * 2 * np.pi / period)
    height_of_wave = float(generator.uniform(6, 22))
    return np.where(wave > 0, height_of_wave, -height_of_wave)


def _checks(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    side = int(generator.uniform(0.05, 0.2) * width) + 2
    shift = int(generator.integers(0, side))
    across, down = (np.arange(width) + shift) // side, (np.arange(height) + shift) // side
    odd = (across[None, :] + down[:, None]) % 2
    step = float(generator.uniform(5, 20))
    return np.where(odd > 0, step, -step)


def _blobs(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    return _clutter(generator, width, height, lines=False)


def _lines(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    return _clutter(generator, width, height, lines=True)


def _clutter(
    generator: np.random.Generator, width: int, height: int, *, lines: bool
) -> NDArray[np.float64]:
    """Return overlapping grey boxes and ellipses, or lines, slightly blurred."""
    image = Image.new("L", (width, height), 128)
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(6, 24))):
        x0, x1 = (float(value) for value in np.sort(generator.uniform(-0.1, 1.1, 2)) * width)
        y0, y1 = (float(value) for value in np.sort(generator.uniform(-0.1, 1.1, 2)) * height)
        grey = int(generator.integers(96, 162))
        if lines:
            flip = generator.random() < 0.5
            draw.line((x0, y1 if flip else y0, x1, y0 if flip else y1), fill=grey, width=3)
        elif generator.random() < 0.5:
            draw.rectangle((x0, y0, x1, y1), fill=grey)
        else:
            draw.ellipse((x0, y0, x1, y1), fill=grey)
    blurred = image.filter(ImageFilter.GaussianBlur(width / 224))
    shade: NDArray[np.float64] = np.asarray(blurred, dtype=np.float64) - 128
    return shade


_PATTERNS = {
    "gradient": _gradient, "noise": _noise, "stripes": _stripes, "checks": _checks,
    "blobs": _blobs, "lines": _lines,
}  # fmt: skip


def _scenery(generator: np.random.Generator, width: int, height: int) -> Picture:
    """Return two to four regions, the upper ones lighter more often than not, and a few things.

    Drawn at half the size: nothing in it is sharp.
    """
    size = (width // 2, height // 2)
    slope = np.linspace(-1, 1, size[1])[:, None] * generator.uniform(0.0, 1.5)
    borders = np.sort(generator.uniform(-0.8, 0.8, int(generator.integers(1, 4))))
    region = np.digitize(_fractal(generator, size, first=2, octaves=5) + slope, borders)
    number = len(borders) + 1
    levels = generator.uniform(30, 150, (number, 1))
    if generator.random() < 0.7:
        levels = -np.sort(-levels, axis=0)
    colors = (levels + generator.uniform(-22, 22, (number, 3))).astype(np.float32)
    grains = generator.uniform(3, 26, number).astype(np.float32)
    shade = grains[region] * _fractal(generator, size, first=8, octaves=4)
    shade += _blobs(generator, *size).astype(np.float32) * np.float32(generator.random())
    light = 1 + np.float32(generator.uniform(0, 0.25)) * _fractal(generator, size, first=2)
    picture = (colors[region] + shade[..., None]) * light[..., None]
    small = Image.fromarray(np.clip(picture, 0, 180).astype(np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


def _fractal(
    generator: np.random.Generator, size: tuple[int, int], *, first: int, octaves: int = 2
) -> NDArray[np.float32]:
    """Return noise of which every octave, from ``first`` cells on, is weaker; mostly -1 to 1."""
    total = np.zeros(size[::-1], dtype=np.float32)
    for octave in range(octaves):
        cells = first << octave
        coarse = generator.standard_normal((cells, cells), dtype=np.float32)
        fine = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(fine) * np.float32(0.7 * 0.6**octave)
    return total
