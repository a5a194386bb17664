"""Draws the frames of a clip, and the map of what is where that dense labels are made from."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.background import draw_background
from training.camera import MARGIN, View
from training.canvas import ASPECTS
from training.photographs import Picture
from training.plates import plate_pixels
from training.scene import Clip, Plate, Scene, Shape

FIRST_ID, SECOND_ID = 254, 255
"""The two halves of a plate on a map."""
_DARK = np.array([14, 14, 18], dtype=np.uint8)
_BRIGHT = np.array([246, 246, 246], dtype=np.uint8)


def frame_moments(num_frames: int, phase: float) -> list[float]:
    """Return evenly spaced moments, as fractions of the clip; ``phase`` in [0, 1) shifts them."""
    return [(index + phase) / num_frames for index in range(num_frames)]


def draw_frame(clip: Clip, moment: float, scale: int = 2) -> Picture:
    """Return the picture (height, width, 3) shown at ``moment``, a fraction of the clip.

    Args:
        clip: What is shown.
        moment: Between 0 and 1.
        scale: Pixels per unit.
    """
    width, height = ASPECTS[clip.aspect]
    _, scene = clip.scene_at(moment)
    image = _ground(scene, moment, width, height, scale)
    draw = ImageDraw.Draw(image)
    for shape in scene.shapes:
        draw_shape(draw, scene.look(shape, moment), scale, shape.rgb)
    picture = np.array(image)
    if scene.plate:
        _draw_plate(picture, scene.plate, scale)
    return picture


def draw_map(clip: Clip, moment: float) -> NDArray[np.uint8]:
    """Return (height, width) in units of what is where.

    0 background, 1 + i shape i of the scene, ``FIRST_ID`` and ``SECOND_ID`` the plate.
    """
    width, height = ASPECTS[clip.aspect]
    _, scene = clip.scene_at(moment)
    image = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(image)
    for index, shape in enumerate(scene.shapes):
        draw_shape(draw, scene.look(shape, moment), 1, index + 1)
    places = np.array(image)
    if scene.plate:
        pixels = plate_pixels(scene.plate)
        x, y = scene.plate.x, scene.plate.y
        on_plate = places[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        on_plate[:] = FIRST_ID
        on_plate[:, pixels.shape[1] // 2 :] = SECOND_ID
    return places


def _ground(scene: Scene, moment: float, width: int, height: int, scale: int) -> Image.Image:
    """Return the background as the camera sees it."""
    kind, seed = scene.background, scene.background_seed
    if not scene.camera:
        return Image.fromarray(_background(kind, seed, width * scale, height * scale))
    view = scene.camera.view(scene.progress(moment), moment)
    wide = _background(kind, seed, (width + 2 * MARGIN) * scale, (height + 2 * MARGIN) * scale)
    return _cut(wide, view, (width * scale, height * scale), scale)


def _cut(wide: Picture, view: View, size: tuple[int, int], scale: int) -> Image.Image:
    """Return what a view sees of a background that goes ``MARGIN`` units beyond the frame."""
    left, top, right, bottom = ((MARGIN + side) * scale for side in view.box)
    return Image.fromarray(wide).resize(
        size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )


@lru_cache(maxsize=16)
def _background(kind: str, seed: int, width: int, height: int) -> Picture:
    return draw_background(kind, seed, width, height)


def _draw_plate(picture: Picture, plate: Plate, scale: int) -> None:
    lit = np.kron(plate_pixels(plate), np.ones((scale, scale), dtype=bool))
    y, x = plate.y * scale, plate.x * scale
    region = picture[y : y + lit.shape[0], x : x + lit.shape[1]]
    region[:] = np.where(lit[..., None], _BRIGHT, _DARK)


def draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: Shape,
    scale: int,
    fill: tuple[int, int, int] | int,
) -> None:
    """Draw one shape where it is to begin with."""
    x, y = (value * scale for value in (shape.x, shape.y))
    radius = shape.size * scale / 2
    if shape.kind == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape.kind == "ring":
        width = max(round(radius * 0.42), 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=fill, width=width)
    else:
        corners = _CORNERS[shape.kind]
        turn = np.array(
            [[np.cos(shape.angle), -np.sin(shape.angle)],
             [np.sin(shape.angle), np.cos(shape.angle)]]
        )  # fmt: skip
        points = corners @ turn.T * radius + np.array([x, y])
        draw.polygon([(float(px), float(py)) for px, py in points], fill=fill)


def _star() -> NDArray[np.float64]:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.42, 1.05)
    corners: NDArray[np.float64] = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    return corners


def _cross() -> NDArray[np.float64]:
    a, b = 0.32, 0.95
    return np.array(
        [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
         (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    )  # fmt: skip


_CORNERS = {
    "square": np.array([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]),
    "triangle": np.array([(0, -1.0), (0.95, 0.8), (-0.95, 0.8)]),
    "star": _star(),
    "cross": _cross(),
}


def frames_of(clip: Clip, moments: list[float], scale: int = 2) -> list[Picture]:
    """Return the pictures shown at ``moments``."""
    return [draw_frame(clip, moment, scale) for moment in moments]
