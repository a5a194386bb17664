"""What a clip shows, as plain data: scenes of coloured shapes and number plates, drawn at random.

Positions are in units of the high-resolution canvas (see ``layout``), times are fractions of the
clip. Everything a question asks about follows from this data, so answers are true by construction.
"""

from dataclasses import dataclass

COLORS = {
    "red": (212, 38, 38), "green": (38, 168, 58), "blue": (48, 78, 222), "yellow": (238, 218, 46),
    "orange": (242, 136, 26), "purple": (150, 54, 190), "white": (242, 242, 242),
    "cyan": (60, 206, 222),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
DIRECTIONS = ("left", "right", "up", "down")
BACKGROUNDS = ("gradient", "noise", "stripes", "checks", "blobs", "lines")
PLATE_WIDTH = 9
PLATE_HEIGHT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One coloured shape; ``x``, ``y`` is its centre when the scene begins.

    It moves by ``dx``, ``dy`` units, evenly, until the scene ends.
    """

    kind: str
    color: str
    rgb: tuple[int, int, int]
    size: float
    angle: float
    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0

    @property
    def direction(self) -> str | None:
        """The way it moves, or None where it stands still."""
        if self.dx:
            return "right" if self.dx > 0 else "left"
        if self.dy:
            return "down" if self.dy > 0 else "up"
        return None

    def center(self, progress: float) -> tuple[float, float]:
        """Return the centre when ``progress`` (0 to 1) of the scene has passed."""
        return self.x + progress * self.dx, self.y + progress * self.dy


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A small dark plate with two bright characters; ``x``, ``y`` is its top left corner."""

    text: str
    x: int
    y: int

    @property
    def is_number(self) -> bool:
        """Two digits; otherwise a letter and a digit: a code."""
        return self.text.isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Shapes on a background from ``start`` to ``end``, in fractions of the clip."""

    start: float
    end: float
    background: str
    background_seed: int
    shapes: tuple[Shape, ...]
    plate: Plate | None

    def progress(self, moment: float) -> float:
        """Return how much of the scene has passed at ``moment``, between 0 and 1."""
        return min(max((moment - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A sequence of scenes; ``num_frames`` evenly sampled frames meet every one of them."""

    aspect: str
    num_frames: int
    duration_seconds: float
    scenes: tuple[Scene, ...]

    def scene_at(self, moment: float) -> tuple[int, Scene]:
        """Return the number of the scene shown at ``moment``, and the scene."""
        for index, scene in enumerate(self.scenes):
            if moment < scene.end:
                return index, scene
        return len(self.scenes) - 1, self.scenes[-1]
