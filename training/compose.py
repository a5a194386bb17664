"""Draws clips at random: a pure function of the random generator it is given."""

from dataclasses import dataclass, replace

import numpy as np

from training.background import MUTED, SCENERY
from training.camera import Camera, compose_camera
from training.canvas import ASPECTS
from training.glyphs import DIGITS, LETTERS
from training.plates import HEIGHT, place_plate
from training.scene import COLORS, SHAPES, Clip, Scene, Shape
from training.shots import Shots, compose_shots

Box = tuple[float, float, float, float]
LONGEST_SECONDS = 600.0
_GAP = 2.0
_TRIES = 40
_LOOKS = 5
"""Moments of a path at which is seen where it leads; between them it hardly bends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How likely things are in a clip.

    ``camera_chance`` is that of a camera that moves, ``back_and_forth`` that of scenes that come
    back. ``backgrounds`` are kinds of ``training.background`` or files, ``spacings`` the seconds
    between two sampled frames.
    """

    max_shapes: int = 4
    plate_chance: float = 0.75
    code_chance: float = 0.25
    mover_chance: float = 0.6
    min_scenes: int = 1
    max_scenes: int = 4
    camera_chance: float = 0.5
    back_and_forth: float = 0.4
    backgrounds: tuple[str, ...] = (*MUTED, *SCENERY)
    spacings: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 2.34375, 4.6875, 9.375)


def most_shapes(num_frames: int) -> int:
    """Return how many shapes a scene has at most: fewer where there are more scenes."""
    return 4 if num_frames < 3 else 3


def compose_clip(
    generator: np.random.Generator, aspect: str, num_frames: int, recipe: Recipe
) -> Clip:
    """Return a random clip of ``num_frames`` sampled frames."""
    scenes = compose_shots(
        generator, num_frames, num_scenes=(recipe.min_scenes, recipe.max_scenes),
        back_and_forth=recipe.back_and_forth,
    )  # fmt: skip
    colors = [str(color) for color in generator.permutation(list(COLORS))]
    texts = _texts(generator, len(scenes), recipe)
    composed = tuple(
        _compose_scene(generator, aspect, colors, text, shots, recipe, num_frames)
        for shots, text in zip(scenes, texts, strict=True)
    )
    duration = draw_duration(generator, num_frames, recipe)
    return Clip(aspect=aspect, num_frames=num_frames, duration_seconds=duration, scenes=composed)


def draw_duration(generator: np.random.Generator, num_frames: int, recipe: Recipe) -> float:
    """Return how long a clip of so many sampled frames is: one second to ten minutes."""
    duration = float(num_frames) * float(generator.choice(recipe.spacings))
    return min(max(duration, 1.0), LONGEST_SECONDS)


def _texts(generator: np.random.Generator, num_scenes: int, recipe: Recipe) -> list[str | None]:
    """Return each scene's plate, all different, with numbers more common than codes."""
    texts: list[str | None] = []
    for _ in range(num_scenes):
        first = LETTERS if generator.random() < recipe.code_chance else DIGITS
        text = str(generator.choice(list(first))) + str(generator.choice(list(DIGITS)))
        shown = generator.random() < recipe.plate_chance and text not in texts
        texts.append(text if shown else None)
    return texts


def _compose_scene(
    generator: np.random.Generator,
    aspect: str,
    colors: list[str],
    text: str | None,
    shots: Shots,
    recipe: Recipe,
    num_frames: int,
) -> Scene:
    """Return one scene; ``colors`` is used up, so that colours stay telling within a clip."""
    taken: list[Box] = []
    plate = place_plate(generator, aspect, text) if text else None
    if plate:
        taken.append((plate.x, plate.y, plate.x + plate.width, plate.y + HEIGHT))
    still = sum(end - start for start, end in shots) < 2
    camera = _camera(generator, aspect, recipe)
    shapes: list[Shape] = []
    wanted = int(generator.integers(1, recipe.max_shapes + 1))
    for _ in range(wanted):
        moving = not still and generator.random() < recipe.mover_chance and len(shapes) < 2
        color = colors.pop() if colors else str(generator.choice(list(COLORS)))
        shape = _place_shape(generator, aspect, color, moving, taken, camera)
        if shape:
            shapes.append(shape)
    return Scene(
        shots=tuple((start / num_frames, end / num_frames) for start, end in shots),
        background=str(generator.choice(recipe.backgrounds)),
        background_seed=int(generator.integers(2**31)),
        shapes=tuple(shapes),
        plate=plate,
        camera=camera,
    )


def _camera(generator: np.random.Generator, aspect: str, recipe: Recipe) -> Camera | None:
    if generator.random() >= recipe.camera_chance:
        return None
    width, height = ASPECTS[aspect]
    return compose_camera(generator, (width / 2, height / 2))


def _place_shape(
    generator: np.random.Generator,
    aspect: str,
    color: str,
    moving: bool,
    taken: list[Box],
    camera: Camera | None,
) -> Shape | None:
    """Return a shape whose whole path meets nothing in ``taken``, or None where none fits."""
    width, height = ASPECTS[aspect]
    for _ in range(_TRIES):
        size = float(generator.uniform(0.34, 0.42) * 63 if min(width, height) < 80 else 0)
        size = size or float(generator.uniform(22, 34))
        dx, dy = _travel(generator, width - size, height - size) if moving else (0.0, 0.0)
        x = float(generator.uniform(size / 2 + max(-dx, 0), width - size / 2 - max(dx, 0)))
        y = float(generator.uniform(size / 2 + max(-dy, 0), height - size / 2 - max(dy, 0)))
        box = _seen_box((x, y), (dx, dy), size, camera)
        if camera and not _inside(box, width, height):
            continue
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        rgb = np.clip(np.array(COLORS[color]) + generator.integers(-12, 13, 3), 0, 255)
        red, green, blue = (int(value) for value in rgb)
        return Shape(
            kind=str(generator.choice(SHAPES)), color=color, rgb=(red, green, blue), size=size,
            angle=float(generator.uniform(-0.2, 0.2)), x=x, y=y, dx=dx, dy=dy,
        )  # fmt: skip
    return None


def _seen_box(
    begin: tuple[float, float], way: tuple[float, float], size: float, camera: Camera | None
) -> Box:
    """Return the box around everywhere in the picture that a shape is seen, with a gap."""
    places, half = [begin, (begin[0] + way[0], begin[1] + way[1])], size / 2 + _GAP
    if camera:
        steady = replace(camera, shake=0.0)
        places = [
            steady.view(p, 0.0).project((begin[0] + p * way[0], begin[1] + p * way[1]))
            for p in np.linspace(0, 1, _LOOKS).tolist()
        ]
        half = size / 2 * max(camera.zooms) + _GAP + camera.shake
    across, down = zip(*places, strict=True)
    return min(across) - half, min(down) - half, max(across) + half, max(down) + half


def _inside(box: Box, width: int, height: int) -> bool:
    """Return whether a box with its gap lies in the frame."""
    left, top, right, bottom = box
    return min(left, top) >= -_GAP and right <= width + _GAP and bottom <= height + _GAP


def _travel(generator: np.random.Generator, room_x: float, room_y: float) -> tuple[float, float]:
    """Return how far a shape moves: straight along one axis, over much of the room there is."""
    share = float(generator.uniform(0.6, 0.95)) * (1 if generator.random() < 0.5 else -1)
    return (share * room_x, 0.0) if generator.random() < 0.5 else (0.0, share * room_y)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
