"""What every token of a picture shows: the dense labels of the vision stage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.canvas import ASPECTS, GEOMETRY, NUM_TILES, geometry_of
from training.draw import PLATE_ID, draw_map
from training.glyphs import CHARACTERS, DIGITS
from training.scene import COLORS, DIRECTIONS, SHAPES, Clip

Int64Array = NDArray[np.int64]
IGNORE = -100
NOTHING = len(COLORS)
PLATE = NOTHING + 1
NUM_KINDS = PLATE + 1
NO_SHAPE = len(SHAPES)
STILL = len(DIRECTIONS)
NUM_BINS = 8
_COVERED = 0.15
_TOUCHED = 0.04


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenLabels:
    """Labels of the 5 x 16 tokens of one picture, in the order of its tiles.

    ``item``: index of the shape in its scene, -1 nothing, ``PLATE_ID`` the plate, ``IGNORE`` not
    clear.
    ``x``, ``y``: where the shape's centre is in the frame, in eighths of it. ``motion``: the way it
    moves, ``STILL`` if it does not. All but ``item`` and ``color`` are ``IGNORE`` off the shapes.
    """

    item: Int64Array
    color: Int64Array
    shape: Int64Array
    first_character: Int64Array
    second_character: Int64Array
    x: Int64Array
    y: Int64Array
    motion: Int64Array


def label_tokens(clip: Clip, moment: float) -> TokenLabels:
    """Return what each token of the picture at ``moment`` shows."""
    item = _items(clip, moment)
    _, scene = clip.scene_at(moment)
    width, height = ASPECTS[clip.aspect]
    nothing = item == -1
    fields = {name: np.full(item.shape, IGNORE) for name in (
        "color", "shape", "first_character", "second_character", "x", "y", "motion")}  # fmt: skip
    fields["color"][nothing] = NOTHING
    fields["shape"][nothing] = NO_SHAPE
    for index, shape in enumerate(scene.shapes):
        here = item == index
        x, y = shape.center(scene.progress(moment))
        fields["color"][here] = list(COLORS).index(shape.color)
        fields["shape"][here] = SHAPES.index(shape.kind)
        fields["x"][here] = min(int(x / width * NUM_BINS), NUM_BINS - 1)
        fields["y"][here] = min(int(y / height * NUM_BINS), NUM_BINS - 1)
        direction = shape.direction
        fields["motion"][here] = DIRECTIONS.index(direction) if direction else STILL
    if scene.plate:
        here = item == PLATE_ID
        fields["color"][here] = PLATE
        fields["first_character"][here] = CHARACTERS.index(scene.plate.text[0])
        fields["second_character"][here] = DIGITS.index(scene.plate.text[1])
    return TokenLabels(item=item, **fields)


def _items(clip: Clip, moment: float) -> Int64Array:
    """Return (5, 16): what covers enough of each patch."""
    geometry = geometry_of(clip.aspect)
    size, patch, side = GEOMETRY.tile_size, GEOMETRY.patch_size, GEOMETRY.tokens_per_side
    places = draw_map(clip, moment)
    squeezed = Image.fromarray(places).resize((size, size), Image.Resampling.NEAREST)
    canvas = np.zeros(geometry.target, dtype=np.uint8)
    (above, left), (height, width) = geometry.padding, geometry.resized
    canvas[above : above + height, left : left + width] = places
    down, across = geometry.grid
    grid = canvas.reshape(down, size, across, size).swapaxes(1, 2).reshape(-1, size, size)
    tiles = np.concatenate([np.asarray(squeezed)[None], grid])
    patches = tiles.reshape(NUM_TILES, side, patch, side, patch).swapaxes(2, 3)
    return _winner(patches.reshape(NUM_TILES, GEOMETRY.num_base, patch * patch))


def _winner(patches: NDArray[np.uint8]) -> Int64Array:
    """Return per patch the item that covers most of it, -1 for none, ``IGNORE`` for too little."""
    item = np.full(patches.shape[:2], -1)
    best = np.zeros(patches.shape[:2])
    for value in np.unique(patches[patches > 0]):
        share = (patches == value).mean(-1)
        # A plate is small in the base, but there it is not read either.
        enough = share >= (_COVERED if value != PLATE_ID else 0.3)
        better = enough & (share > best)
        item[better] = PLATE_ID if value == PLATE_ID else int(value) - 1
        best = np.where(better, share, best)
        item[~enough & (share > _TOUCHED) & (item == -1)] = IGNORE
    return item
