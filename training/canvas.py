"""The geometry of the tiny LLaVA-NeXT, and the sizes of its clips.

One *unit* is one pixel of the high-resolution canvas (112 x 112: a 2x2 grid of 56-pixel tiles).
Clips are drawn in units times a whole scale, so every clip size below fits the grid exactly.
"""

from workers.vision.geometry import FrameGeometry, TileGeometry

GEOMETRY = TileGeometry(
    tile_size=56,
    patch_size=7,
    pinpoints=((56, 112), (112, 56), (112, 112), (168, 56), (56, 168)),
)
NUM_TILES = 5
"""Tiles of every picture: the base and four of the canvas."""

ASPECTS = {
    "square": (112, 112),
    "4:3": (112, 84),
    "16:9": (112, 63),
    "3:4": (84, 112),
    "9:16": (63, 112),
}
"""Width and height of a clip in units."""


def geometry_of(aspect: str) -> FrameGeometry:
    """Return how pictures of a named aspect ratio are cut; the same at every scale."""
    width, height = ASPECTS[aspect]
    return GEOMETRY.frame(height, width)


def patches_of(aspect: str) -> tuple[range, range]:
    """Return the canvas' rows and columns of patches that have tokens and lie in the picture."""
    geometry, size = geometry_of(aspect), GEOMETRY.patch_size
    target, resized = geometry.target, geometry.resized
    inside = []
    for length, side, pad, number in zip(
        target, resized, geometry.padding, (geometry.rows, geometry.columns), strict=True
    ):
        first = (length // size - number) // 2
        inside.append(range(max(first, -(-pad // size)), min(first + number, (pad + side) // size)))
    return inside[0], inside[1]
