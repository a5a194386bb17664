"""Number plates: where the two characters of a caption are put."""

import numpy as np
from numpy.typing import NDArray

from training.canvas import COARSE, GEOMETRY, geometry_of, patches_of
from training.glyphs import GLYPH_HEIGHT, GLYPH_WIDTH, glyph
from training.scene import Plate

HEIGHT = 7
_COMPACT_WIDTH = 9


def place_plate(
    generator: np.random.Generator, aspect: str, text: str, *, compact: bool = False
) -> Plate:
    """Return a plate of which each character lies inside a patch of its own.

    Keeping characters off the patch borders makes them easier to read, and the model card says so.

    Args:
        generator: Where to, and where in their patches the characters are.
        aspect: Of the clip.
        text: Two characters.
        compact: Close together instead, inside one patch of the ``COARSE`` geometry.
    """
    tiles = COARSE if compact else GEOMETRY
    rows, columns = patches_of(aspect, tiles)
    above, left = geometry_of(aspect).padding
    size = tiles.patch_size
    last = columns.stop if compact else columns.stop - 1
    x = int(generator.integers(columns.start, last)) * size - left
    y = int(generator.integers(rows.start, rows.stop)) * size - above
    if compact:
        x += int(generator.integers(0, size - _COMPACT_WIDTH + 1))
        y += int(generator.integers(0, size - HEIGHT + 1))
        return Plate(text=text, x=x, y=y, width=_COMPACT_WIDTH, columns=(1, 5), row=1)
    first = int(generator.integers(1, size - GLYPH_WIDTH))
    row = int(generator.integers(0, size - GLYPH_HEIGHT + 1))
    return Plate(text=text, x=x, y=y, width=2 * size, columns=(first, first + size), row=row)


def plate_pixels(plate: Plate) -> NDArray[np.bool_]:
    """Return the pixels (7, width) of a plate that are lit."""
    pixels = np.zeros((HEIGHT, plate.width), dtype=bool)
    for character, column in zip(plate.text, plate.columns, strict=True):
        place = np.s_[plate.row : plate.row + GLYPH_HEIGHT, column : column + GLYPH_WIDTH]
        pixels[place] = glyph(character)
    return pixels
