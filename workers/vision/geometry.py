"""Where LLaVA-NeXT cuts a picture into tiles, and how many tokens that gives.

Plain arithmetic on sizes: the driver plans a clip with it and loads neither torch nor a model. It
follows transformers' ``llava_next`` exactly, its choice of pinpoint and its rounding included
(published LLaVA differs on a few small sizes). Sizes are (height, width) in pixels.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pruner.layout import FrameLayout
from workers.errors import ModelError

DEFAULT_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
Fit = Literal["stretch", "crop", "pad"]
"""How a picture becomes square: by other proportions, without its ends, or with a margin."""
_LONGEST = 64
"""Shorter sides to which a picture is squeezed before its ends are cropped, to spare memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGeometry:
    """What a checkpoint's vision tower does with any picture.

    ``tile_size`` and ``patch_size`` are in pixels, ``pinpoints`` the (height, width) resolutions a
    picture may be fitted into, in the checkpoint's order, which breaks ties; without any, a picture
    is its base tile alone. ``pool`` x ``pool`` patches give a token. ``fit`` says how a picture
    becomes the base tile, ``background`` the RGB margin that it may get.
    """

    tile_size: int
    patch_size: int
    pinpoints: tuple[tuple[int, int], ...]
    pool: int = 1
    fit: Fit = "stretch"
    background: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.tokens_per_side < 1:
            raise ModelError(
                f"the vision tower's tile of {self.tile_size} px is smaller than a token of "
                f"{self.token_size} px"
            )
        for pinpoint in self.pinpoints:
            if len(pinpoint) != 2 or any(side % self.tile_size for side in pinpoint):
                raise ModelError(
                    f"image_grid_pinpoints {pinpoint}: no multiple of the {self.tile_size} px tile"
                )

    @property
    def num_patches(self) -> int:
        """Patches of a tile."""
        return (self.tile_size // self.patch_size) ** 2

    @property
    def token_size(self) -> int:
        """Pixels of a tile along one side of a token."""
        return self.patch_size * self.pool

    @property
    def tokens_per_side(self) -> int:
        """Visual tokens along one side of a tile; what is left of it below a token is not seen."""
        return self.tile_size // self.patch_size // self.pool

    @property
    def num_base(self) -> int:
        """Base tokens of a picture."""
        return self.tokens_per_side**2

    def without_grid(self) -> "TileGeometry":
        """Return the same tower seeing base tiles only."""
        return replace(self, pinpoints=())

    def frame(self, height: int, width: int) -> "FrameGeometry":
        """Return how a picture of this size is resized, padded and cut."""
        base = self._base_size(height, width)
        if not self.pinpoints:
            return FrameGeometry(
                tiles=self, base=base, target=(0, 0), resized=(0, 0), rows=0, columns=0
            )
        target = choose_pinpoint((height, width), self.pinpoints)
        rows, columns = _unpad((height, width), target, self.tokens_per_side, self.tile_size)
        if 0 in (rows, columns):  # thinner than a token: nothing of the picture is on the grid
            rows = columns = 0
        return FrameGeometry(
            tiles=self,
            base=base,
            target=target,
            resized=_fit((height, width), target),
            rows=rows,
            columns=columns,
        )

    def _base_size(self, height: int, width: int) -> tuple[int, int]:
        """Return to which size a picture is resized before its middle becomes the base tile."""
        size = self.tile_size
        if self.fit != "crop":
            return size, size
        longer = int(min(size * max(height, width) / min(height, width), size * _LONGEST))
        return (longer, size) if width <= height else (size, longer)

    def to_json(self) -> dict[str, Any]:
        """Return it as it comes back from JSON: lists for tuples."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGeometry:
    """How a picture of one size becomes tiles and tokens.

    Of the picture resized to ``base`` the middle is the base tile. For the others it is scaled to
    ``resized`` keeping its aspect ratio, centred on a black ``target`` canvas and cut into tiles;
    of the canvas' tokens the ``rows`` x ``columns`` on the picture stay, none where the picture is
    thinner than a token.
    """

    tiles: TileGeometry
    base: tuple[int, int]
    target: tuple[int, int]
    resized: tuple[int, int]
    rows: int
    columns: int

    @property
    def cropped(self) -> tuple[int, int]:
        """Pixels of the picture resized for the base (above, left) of the tile."""
        size = self.tiles.tile_size
        return (self.base[0] - size) // 2, (self.base[1] - size) // 2

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles (down, across); none where no token of theirs would stay."""
        if self.rows == 0:
            return 0, 0
        return self.target[0] // self.tiles.tile_size, self.target[1] // self.tiles.tile_size

    @property
    def padding(self) -> tuple[int, int]:
        """Black pixels (above, left) of the resized picture; an odd one goes below or right."""
        return (self.target[0] - self.resized[0]) // 2, (self.target[1] - self.resized[1]) // 2

    @property
    def num_tiles(self) -> int:
        """Tiles that the vision tower sees: the base and the grid's."""
        down, across = self.grid
        return 1 + down * across

    @property
    def layout(self) -> FrameLayout:
        """Where the picture's visual tokens stand in its flat sequence."""
        return FrameLayout(num_base=self.tiles.num_base, rows=self.rows, columns=self.columns)

    @property
    def num_tokens(self) -> int:
        """Unpruned visual tokens: base, grid and a newline for each row."""
        return self.layout.num_tokens


def choose_pinpoint(size: tuple[int, int], pinpoints: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the pinpoint that keeps most of the picture's pixels, then wastes the fewest.

    Args:
        size: picture (height, width).
        pinpoints: candidate (height, width) in the checkpoint's order; the first of equals wins.
    """
    height, width = size

    def merit(pinpoint: tuple[int, int]) -> tuple[int, int]:
        scale = min(pinpoint[1] / width, pinpoint[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - pinpoint[0] * pinpoint[1]

    return max(pinpoints, key=merit)


def _fit(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Scale ``size`` into ``target`` keeping the aspect ratio, the free side rounded up."""
    (height, width), (target_height, target_width) = size, target
    scale_height, scale_width = target_height / height, target_width / width
    if scale_width < scale_height:
        return min(math.ceil(height * scale_width), target_height), target_width
    return target_height, min(math.ceil(width * scale_height), target_width)


def _unpad(
    size: tuple[int, int], target: tuple[int, int], tokens_per_side: int, tile_size: int
) -> tuple[int, int]:
    """Return the token (rows, columns) of the canvas that lie on the picture."""
    height, width = size
    rows = target[0] // tile_size * tokens_per_side
    columns = target[1] // tile_size * tokens_per_side
    if width / height > columns / rows:
        inner = int(round(height * (columns / width), 7))
        return rows - 2 * ((rows - inner) // 2), columns
    inner = int(round(width * (rows / height), 7))
    return rows, columns - 2 * ((columns - inner) // 2)
