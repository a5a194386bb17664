"""What a clip shows, as plain data: scenes of coloured shapes and number plates, drawn at random.

Positions are in units of the high-resolution canvas (see ``canvas``), times are fractions of the
clip. Everything a question asks about follows from this data, so answers are true by construction.
"""

from dataclasses import dataclass, replace

from training.camera import Camera, Point

COLORS = {
    "red": (212, 38, 38), "green": (38, 168, 58), "blue": (48, 78, 222), "yellow": (238, 218, 46),
    "orange": (242, 136, 26), "purple": (150, 54, 190), "white": (242, 242, 242),
    "cyan": (60, 206, 222),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
DIRECTIONS = ("left", "right", "up", "down")
_SEEN_TO_MOVE, _SEEN_TO_REST = 0.24, 0.05
"""Of the frame's width or height."""
_CLEARLY = 1.5


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

    def center(self, progress: float) -> Point:
        """Return the centre when ``progress`` (0 to 1) of the scene has passed."""
        return self.x + progress * self.dx, self.y + progress * self.dy


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A small dark caption of two bright characters; ``x``, ``y`` is its top left corner.

    It stays where it is while the camera moves. ``columns`` and ``row`` are where its characters
    begin, ``width`` is its own; both characters have half of it.
    """

    text: str
    x: int
    y: int
    width: int
    columns: tuple[int, int]
    row: int

    @property
    def is_number(self) -> bool:
        """Two digits; otherwise a letter and a digit: a code."""
        return self.text.isdigit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Shapes on a background, seen by a camera in one shot or several, each from start to end.

    What moves rests while other scenes are shown.
    """

    shots: tuple[tuple[float, float], ...]
    background: str
    background_seed: int
    shapes: tuple[Shape, ...]
    plate: Plate | None
    camera: Camera | None = None

    @property
    def start(self) -> float:
        """When it is seen first."""
        return self.shots[0][0]

    @property
    def end(self) -> float:
        """When its last shot ends."""
        return self.shots[-1][1]

    def shows(self, moment: float) -> bool:
        """Return whether it is shown at ``moment``."""
        return any(start <= moment < end for start, end in self.shots)

    def progress(self, moment: float) -> float:
        """Return how much of the scene has passed at ``moment``, between 0 and 1."""
        shown = sum(min(max(moment - start, 0.0), end - start) for start, end in self.shots)
        return min(shown / sum(end - start for start, end in self.shots), 1.0)

    def look(self, shape: Shape, moment: float) -> Shape:
        """Return a shape as it is seen at ``moment``, at rest: where, and how large."""
        progress = self.progress(moment)
        x, y = shape.center(progress)
        size = shape.size
        if self.camera:
            view = self.camera.view(progress, moment)
            (x, y), size = view.project((x, y)), size * view.zoom
        return Shape(
            kind=shape.kind,
            color=shape.color,
            rgb=shape.rgb,
            size=size,
            angle=shape.angle,
            x=x,
            y=y,
        )

    def seen_direction(self, shape: Shape, frame: Point) -> str | None:
        """Return the way a shape moves in the scene and in the picture, ``"still"`` if in neither.

        None where the camera makes it hard to tell.

        Args:
            shape: One of the scene's.
            frame: Width and height of the picture in units.
        """
        steady = replace(self, camera=self.camera and replace(self.camera, shake=0.0))
        begin, end = (steady.look(shape, moment) for moment in (self.start, self.end))
        across, down = (end.x - begin.x) / frame[0], (end.y - begin.y) / frame[1]
        less, more = sorted((abs(across), abs(down)))
        if shape.direction is None:
            return "still" if more < _SEEN_TO_REST else None
        if more < max(_SEEN_TO_MOVE, _CLEARLY * less):
            return None
        seen = ("left", "right")[across > 0] if more == abs(across) else ("up", "down")[down > 0]
        return seen if seen == shape.direction else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Scenes in the order in which they are first seen; every shot meets a sampled frame.

    ``num_frames`` is how many evenly sampled frames that holds for.
    """

    aspect: str
    num_frames: int
    duration_seconds: float
    scenes: tuple[Scene, ...]

    def scene_at(self, moment: float) -> tuple[int, Scene]:
        """Return the number of the scene shown at ``moment``, and the scene."""
        for index, scene in enumerate(self.scenes):
            if scene.shows(moment):
                return index, scene
        last = max(range(len(self.scenes)), key=lambda index: self.scenes[index].end)
        return last, self.scenes[last]

    def shown(self) -> list[Scene]:
        """Return the scene of every shot, in order."""
        shots = [(start, scene) for scene in self.scenes for start, _ in scene.shots]
        return [scene for _, scene in sorted(shots, key=lambda shot: shot[0])]
