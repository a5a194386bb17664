"""A 3 x 5 pixel font: the digits, and the letters that codes are made of."""

import numpy as np
from numpy.typing import NDArray

DIGITS = "0123456789"
LETTERS = "ACEFHJLPTU"
CHARACTERS = DIGITS + LETTERS
GLYPH_WIDTH = 3
GLYPH_HEIGHT = 5

_ROWS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71222", "8": "75757", "9": "75717",
    "A": "25755", "C": "74447", "E": "74647", "F": "74644", "H": "55755",
    "J": "11157", "L": "44447", "P": "75744", "T": "72222", "U": "55557",
}  # fmt: skip
"""Five octal digits per character: the pixels of each row, leftmost in the highest bit."""


def glyph(character: str) -> NDArray[np.bool_]:
    """Return the pixels (5, 3) of a character that are lit."""
    rows = [int(row) for row in _ROWS[character]]
    return np.array([[row >> shift & 1 for shift in (2, 1, 0)] for row in rows], dtype=bool)
