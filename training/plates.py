"""Number plates: where the two characters of a caption are put."""

import numpy as np
from numpy.typing import NDArray

from training.canvas import GEOMETRY, geometry_of, patches_of
from training.glyphs import GLYPH_HEIGHT, GLYPH_WIDTH, glyph
from training.scene import Plate

HEIGHT = 7


def place_plate(generator: np.random.Generator, aspect: str, text: str) -> Plate:
    """Return a plate of which each character lies inside a patch of its own.

    Keeping characters off the patch borders makes them easier to read, and the model card says so.

    Args:
        generator: Where to, and where in their patches the characters are.
        aspect: Of the clip.
        text: Two characters.
    """
    rows, columns = patches_of(aspect)
    above, left = geometry_of(aspect).padding
    size = GEOMETRY.patch_size
    x = int(generator.integers(columns.start, columns.stop - 1)) * size - left
    y = int(generator.integers(rows.start, rows.stop)) * size - above
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
