"""The geometry of the tiny LLaVA-NeXT: tiles, patches, and where an image's tokens lie on it.

One *unit* is one pixel of the high-resolution canvas (112 x 112: a 2x2 grid of 56-pixel tiles).
Clips are drawn in units times a whole ``scale``, so every clip size below fits the grid exactly.
"""

from dataclasses import dataclass

TILE_SIZE = 56
PATCH_SIZE = 14
SIDE = TILE_SIZE // PATCH_SIZE
CANVAS = 2 * TILE_SIZE
PINPOINTS = ((56, 112), (112, 56), (112, 112), (168, 56), (56, 168))

ASPECTS = {
    "square": (112, 112),
    "4:3": (112, 84),
    "16:9": (112, 63),
    "3:4": (84, 112),
    "9:16": (63, 112),
}
"""Width and height of a clip in units."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of one picture of ``width`` x ``height`` units lie.

    The canvas is padded around the picture; ``skip_rows`` and ``skip_columns`` patches are cut off
    again on each side, as LLaVA-NeXT's unpadding does.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if max(self.width, self.height) != CANVAS:
            raise ValueError(f"a picture must fill the canvas: {self.width = } {self.height = }")

    @property
    def left(self) -> int:
        """Units of padding left of the picture."""
        return (CANVAS - self.width) // 2

    @property
    def top(self) -> int:
        """Units of padding above the picture."""
        return (CANVAS - self.height) // 2

    @property
    def skip_columns(self) -> int:
        """Columns of patches that unpadding removes on each side."""
        return (2 * SIDE - 2 * SIDE * self.width // CANVAS) // 2

    @property
    def skip_rows(self) -> int:
        """Rows of patches that unpadding removes above and below."""
        return (2 * SIDE - 2 * SIDE * self.height // CANVAS) // 2

    @property
    def columns(self) -> int:
        """Columns of high-resolution tokens that are left."""
        return 2 * SIDE - 2 * self.skip_columns

    @property
    def rows(self) -> int:
        """Rows of high-resolution tokens that are left, each closed by a newline token."""
        return 2 * SIDE - 2 * self.skip_rows

    @property
    def num_tokens(self) -> int:
        """Visual tokens of one picture: base, high-resolution, newlines."""
        return SIDE * SIDE + self.rows * (self.columns + 1)


def layout_of(aspect: str) -> Layout:
    """Return the token layout of a named aspect ratio."""
    return Layout(*ASPECTS[aspect])
