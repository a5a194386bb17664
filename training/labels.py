"""What every token of a picture shows: the dense labels of the vision stage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.canvas import ASPECTS, GEOMETRY, NUM_TILES, geometry_of
from training.draw import FIRST_ID, SECOND_ID, draw_map
from training.glyphs import CHARACTERS
from training.scene import COLORS, DIRECTIONS, SHAPES, Clip

Int64Array = NDArray[np.int64]
IGNORE = -100
NOTHING = len(COLORS)
FIRST_HALF, SECOND_HALF = NOTHING + 1, NOTHING + 2
NUM_KINDS = SECOND_HALF + 1
NO_SHAPE = len(SHAPES)
STILL = len(DIRECTIONS)
NUM_BINS = 8
_MOTIONS: dict[str | None, int] = {
    **{name: index for index, name in enumerate((*DIRECTIONS, "still"))}, None: IGNORE
}  # fmt: skip
_COVERED = 0.15
_TOUCHED = 0.04


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenLabels:
    """Labels of the 5 x 64 tokens of one picture, in the order of its tiles.

    ``item``: index of the shape in its scene, -1 nothing, ``FIRST_ID`` and ``SECOND_ID`` the halves
    of the plate, ``IGNORE`` not clear. ``color``: that of the shape, or which of the others it is.
    ``character``: the one that a tile shows there.
    ``x``, ``y``: where the shape's centre is in the frame, in eighths of it. ``motion``: the way it
    moves, ``STILL`` if it does not. All but ``item`` and ``color`` are ``IGNORE`` off the shapes.
    """

    item: Int64Array
    color: Int64Array
    shape: Int64Array
    character: Int64Array
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
        "color", "shape", "character", "x", "y", "motion")}  # fmt: skip
    fields["color"][nothing] = NOTHING
    fields["shape"][nothing] = NO_SHAPE
    for index, shape in enumerate(scene.shapes):
        here = item == index
        look = scene.look(shape, moment)
        fields["color"][here] = list(COLORS).index(shape.color)
        fields["shape"][here] = SHAPES.index(shape.kind)
        fields["x"][here] = _bin(look.x / width)
        fields["y"][here] = _bin(look.y / height)
        direction = scene.seen_direction(shape, (width, height))
        fields["motion"][here] = _MOTIONS[direction]
    halves = ((FIRST_ID, FIRST_HALF), (SECOND_ID, SECOND_HALF))
    text = scene.plate.text if scene.plate else ""
    for character, (half_id, half) in zip(text, halves, strict=False):
        here = item == half_id
        fields["color"][here] = half
        fields["character"][here] = CHARACTERS.index(character)
    fields["character"][0] = IGNORE
    return TokenLabels(item=item, **fields)


def _bin(place: float) -> int:
    """Return the eighth of the frame that a place (0 to 1) is in."""
    return min(max(int(place * NUM_BINS), 0), NUM_BINS - 1)


def _items(clip: Clip, moment: float) -> Int64Array:
    """Return (5, 64): what covers enough of each patch."""
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
        enough = share >= _COVERED
        better = enough & (share > best)
        item[better] = int(value) if value >= FIRST_ID else int(value) - 1
        best = np.where(better, share, best)
        item[~enough & (share > _TOUCHED) & (item == -1)] = IGNORE
    return item
