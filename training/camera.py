"""Where the camera looks: pans, zooms and shakes, as plain data."""

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
MARGIN = 26
"""Units of background that must be there beyond every side of the frame."""
_MOST_TRAVEL, _MOST_ZOOM, _MOST_SHAKE = 40.0, 1.25, 3.0
_CYCLES = (97.3, 151.7)
"""Of the shake in a clip, across and down: many, so that sampled frames see no pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a camera does to one picture: zoom about its ``center``, then a shift, in units."""

    center: Point
    shift: Point
    zoom: float

    def project(self, point: Point) -> Point:
        """Return where in the picture a point of the scene is seen."""
        x, y = (
            middle + self.zoom * (place - middle) + shift
            for place, middle, shift in zip(point, self.center, self.shift, strict=True)
        )
        return x, y

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The part of the scene that is seen: left, top, right, bottom in units."""
        low, high = (
            [
                middle + (side * middle - shift) / self.zoom
                for middle, shift in zip(self.center, self.shift, strict=True)
            ]
            for side in (-1, 1)
        )
        return low[0], low[1], high[0], high[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Moves evenly by ``travel`` units while its scene is shown, and zooms.

    ``zooms`` are the factors when it begins and ends, ``shake`` is the amplitude of its trembling
    in units, ``phase`` tells one trembling from another. Half of the travel lies before the middle
    of the scene.
    """

    center: Point
    travel: Point = (0.0, 0.0)
    zooms: Point = (1.0, 1.0)
    shake: float = 0.0
    phase: float = 0.0

    def view(self, progress: float, moment: float) -> View:
        """Return the view when ``progress`` of the scene has passed, at ``moment`` of the clip."""
        begin, end = self.zooms
        trembling = (
            self.shake * math.sin(2 * math.pi * (cycles * moment + self.phase))
            for cycles in _CYCLES
        )
        x, y = (
            way * (progress - 0.5) + tremble
            for way, tremble in zip(self.travel, trembling, strict=True)
        )
        return View(center=self.center, shift=(x, y), zoom=begin * (end / begin) ** progress)


def compose_camera(generator: np.random.Generator, center: Point) -> Camera:
    """Return a camera that pans, zooms or shakes, or pans and shakes, at random."""
    kind = int(generator.integers(4))
    travel, zooms, shake = (0.0, 0.0), (1.0, 1.0), 0.0
    if kind in (0, 3):
        angle = float(generator.uniform(0, 2 * np.pi))
        way = _MOST_TRAVEL * float(generator.uniform(0.4, 1.0))
        # As far as the frame is wide or high: a strip is not panned out of.
        across, down = (way * middle / max(center) for middle in center)
        travel = (across * math.cos(angle), down * math.sin(angle))
    if kind == 1:
        factor = float(generator.uniform(1.1, _MOST_ZOOM))
        zooms = (1.0, factor) if generator.random() < 0.5 else (factor, 1.0)
    if kind in (2, 3):
        shake = float(generator.uniform(1.0, _MOST_SHAKE))
    return Camera(
        center=center, travel=travel, zooms=zooms, shake=shake, phase=float(generator.random())
    )
