"""Where LLaVA-NeXT cuts a picture into tiles, and how many tokens that gives.

Plain arithmetic on sizes: the driver plans a clip with it and loads neither torch nor a model. It
follows transformers' ``llava_next`` exactly, its choice of pinpoint and its rounding included
(published LLaVA differs on a few small sizes). Sizes are (height, width) in pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pruner.layout import FrameLayout
from workers.errors import ModelError

DEFAULT_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGeometry:
    """What a checkpoint's vision tower does with any picture.

    ``tile_size`` and ``patch_size`` are in pixels, ``pinpoints`` the (height, width) resolutions a
    picture may be fitted into, in the checkpoint's order, which breaks ties; without any, a picture
    is its base tile alone.
    """

    tile_size: int
    patch_size: int
    pinpoints: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if self.tile_size % self.patch_size:
            raise ModelError(
                f"the vision tower's tile of {self.tile_size} px is no multiple of its patch of "
                f"{self.patch_size} px"
            )
        for pinpoint in self.pinpoints:
            if len(pinpoint) != 2 or any(side % self.tile_size for side in pinpoint):
                raise ModelError(
                    f"image_grid_pinpoints {pinpoint}: no multiple of the {self.tile_size} px tile"
                )

    @property
    def tokens_per_side(self) -> int:
        """Visual tokens along one side of a tile."""
        return self.tile_size // self.patch_size

    @property
    def num_base(self) -> int:
        """Base tokens of a picture."""
        return self.tokens_per_side**2

    def without_grid(self) -> "TileGeometry":
        """Return the same tower seeing base tiles only."""
        return replace(self, pinpoints=())

    def frame(self, height: int, width: int) -> "FrameGeometry":
        """Return how a picture of this size is resized, padded and cut."""
        if not self.pinpoints:
            return FrameGeometry(tiles=self, target=(0, 0), resized=(0, 0), rows=0, columns=0)
        target = choose_pinpoint((height, width), self.pinpoints)
        rows, columns = _unpad((height, width), target, self.tokens_per_side, self.tile_size)
        if 0 in (rows, columns):  # thinner than a token: nothing of the picture is on the grid
            rows = columns = 0
        return FrameGeometry(
            tiles=self,
            target=target,
            resized=_fit((height, width), target),
            rows=rows,
            columns=columns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameGeometry:
    """How a picture of one size becomes tiles and tokens.

    The picture is scaled to ``resized`` keeping its aspect ratio, centred on a black ``target``
    canvas and cut into tiles; of the canvas' tokens the ``rows`` x ``columns`` on the picture stay,
    none where the picture is thinner than a token.
    """

    tiles: TileGeometry
    target: tuple[int, int]
    resized: tuple[int, int]
    rows: int
    columns: int

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


def read_geometry(config: Mapping[str, Any]) -> TileGeometry:
    """Read the tile geometry from a checkpoint's ``config.json``.

    Raises:
        ModelError: the checkpoint is no LLaVA-NeXT with a CLIP vision tower.
    """
    if config.get("model_type") != "llava_next":
        raise ModelError(f"model_type is {config.get('model_type')!r}; a llava_next is needed")
    vision = config.get("vision_config") or {}
    kind = vision.get("model_type", "clip_vision_model")
    if kind != "clip_vision_model":
        raise ModelError(f"the vision tower is a {kind!r}; a clip_vision_model is needed")
    strategy = config.get("vision_feature_select_strategy", "default")
    if strategy != "default":
        raise ModelError(f"vision_feature_select_strategy {strategy!r} is not supported")
    pinpoints = config.get("image_grid_pinpoints")
    if pinpoints is None:
        pinpoints = DEFAULT_PINPOINTS
    return TileGeometry(
        tile_size=vision.get("image_size", 336),
        patch_size=vision.get("patch_size", 14),
        pinpoints=tuple((int(height), int(width)) for height, width in pinpoints),
    )
