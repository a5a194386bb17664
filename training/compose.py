"""Draws clips at random: a pure function of the random generator it is given."""

from dataclasses import dataclass

import numpy as np

from training.canvas import ASPECTS, GEOMETRY, first_patch, geometry_of
from training.glyphs import DIGITS, LETTERS
from training.scene import (
    BACKGROUNDS,
    COLORS,
    PLATE_HEIGHT,
    PLATE_WIDTH,
    SHAPES,
    Clip,
    Plate,
    Scene,
    Shape,
)

Box = tuple[float, float, float, float]
_GAP = 2.0
_TRIES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How likely things are in a clip."""

    max_shapes: int = 4
    plate_chance: float = 0.75
    code_chance: float = 0.25
    mover_chance: float = 0.6
    min_scenes: int = 1
    max_scenes: int = 4


def compose_clip(
    generator: np.random.Generator, aspect: str, num_frames: int, recipe: Recipe
) -> Clip:
    """Return a random clip of ``num_frames`` sampled frames."""
    cuts = _cuts(generator, num_frames, recipe)
    colors = [str(color) for color in generator.permutation(list(COLORS))]
    texts = _texts(generator, len(cuts) - 1, recipe)
    scenes = []
    for start, end, text in zip(cuts, cuts[1:], texts, strict=False):
        still = end - start < 2
        scenes.append(
            _compose_scene(generator, aspect, colors, text, still, recipe, num_frames, start, end)
        )
    duration = float(num_frames) * float(generator.choice([0.5, 1.0]))
    return Clip(
        aspect=aspect,
        num_frames=num_frames,
        duration_seconds=max(duration, 1.0),
        scenes=tuple(scenes),
    )


def _cuts(generator: np.random.Generator, num_frames: int, recipe: Recipe) -> list[int]:
    """Return the frame numbers at which scenes begin, and the end."""
    if num_frames == 1:
        return [0, 1]
    most = min(recipe.max_scenes, num_frames)
    num_scenes = int(generator.integers(min(recipe.min_scenes, most), most + 1))
    if num_scenes == 3 and num_frames >= 3 and generator.random() < 0.6:
        return [0, round(num_frames / 3), round(2 * num_frames / 3), num_frames]
    inner = generator.choice(np.arange(1, num_frames), num_scenes - 1, replace=False)
    return [0, *sorted(int(cut) for cut in inner), num_frames]


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
    still: bool,
    recipe: Recipe,
    num_frames: int,
    start: int,
    end: int,
) -> Scene:
    """Return one scene; ``colors`` is used up, so that colours stay telling within a clip."""
    taken: list[Box] = []
    plate = _place_plate(generator, aspect, text) if text else None
    if plate:
        taken.append((plate.x, plate.y, plate.x + PLATE_WIDTH, plate.y + PLATE_HEIGHT))
    shapes: list[Shape] = []
    wanted = int(generator.integers(1, recipe.max_shapes + 1))
    for _ in range(wanted):
        moving = not still and generator.random() < recipe.mover_chance and len(shapes) < 2
        color = colors.pop() if colors else str(generator.choice(list(COLORS)))
        shape = _place_shape(generator, aspect, color, moving, taken)
        if shape:
            shapes.append(shape)
    return Scene(
        start=start / num_frames,
        end=end / num_frames,
        background=str(generator.choice(BACKGROUNDS)),
        background_seed=int(generator.integers(2**31)),
        shapes=tuple(shapes),
        plate=plate,
    )


def _place_plate(generator: np.random.Generator, aspect: str, text: str) -> Plate:
    """Return a plate that lies inside one patch of the high-resolution canvas.

    Anywhere inside: keeping it off the patch borders makes it easier to read, and the model card
    says so.
    """
    geometry, patch_size = geometry_of(aspect), GEOMETRY.patch_size
    (first_row, first_column), (above, left) = first_patch(geometry), geometry.padding
    column = int(generator.integers(first_column, first_column + geometry.columns))
    row = int(generator.integers(first_row, first_row + geometry.rows))
    x = column * patch_size - left
    y = row * patch_size - above
    x += int(generator.integers(0, patch_size - PLATE_WIDTH + 1))
    y += int(generator.integers(0, patch_size - PLATE_HEIGHT + 1))
    return Plate(text=text, x=x, y=y)


def _place_shape(
    generator: np.random.Generator, aspect: str, color: str, moving: bool, taken: list[Box]
) -> Shape | None:
    """Return a shape whose whole path meets nothing in ``taken``, or None where none fits."""
    width, height = ASPECTS[aspect]
    for _ in range(_TRIES):
        size = float(generator.uniform(0.34, 0.42) * 63 if min(width, height) < 80 else 0)
        size = size or float(generator.uniform(22, 34))
        dx, dy = _travel(generator, width - size, height - size) if moving else (0.0, 0.0)
        x = float(generator.uniform(size / 2 + max(-dx, 0), width - size / 2 - max(dx, 0)))
        y = float(generator.uniform(size / 2 + max(-dy, 0), height - size / 2 - max(dy, 0)))
        half = size / 2 + _GAP
        box = (
            min(x, x + dx) - half, min(y, y + dy) - half,
            max(x, x + dx) + half, max(y, y + dy) + half,
        )  # fmt: skip
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


def _travel(generator: np.random.Generator, room_x: float, room_y: float) -> tuple[float, float]:
    """Return how far a shape moves: straight along one axis, over much of the room there is."""
    share = float(generator.uniform(0.6, 0.95)) * (1 if generator.random() < 0.5 else -1)
    return (share * room_x, 0.0) if generator.random() < 0.5 else (0.0, share * room_y)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
