"""Where the visual tokens of one frame stand in its flat sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLayout:
    """Flat order of one LLaVA-NeXT frame: base, then per grid row its tokens and one newline.

    Grid token (r, c) has flat index `num_base + r * (columns + 1) + c`; the newline of row r
    follows the last token of that row. A frame that is a single tile has `rows = 0`: no grid and
    no newline.

    Attributes:
        num_base: tokens of the base tile, at least 1.
        rows: rows of the high-resolution grid after unpadding, at least 0.
        columns: tokens in a grid row, newline not counted; at least 1 where there are rows.
    """

    num_base: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        """Refuse counts that describe no frame."""
        num_base, rows, columns = self.num_base, self.rows, self.columns
        if num_base < 1:
            raise ValueError(f"a frame has at least one base token: {num_base = }")
        if rows < 0 or columns < min(rows, 1):
            raise ValueError(f"a grid has rows >= 0 and columns >= 1: {rows = }, {columns = }")

    @property
    def num_grid(self) -> int:
        """High-resolution tokens, newlines not counted."""
        return self.rows * self.columns

    @property
    def num_tokens(self) -> int:
        """All visual tokens of the frame: base, grid and newlines."""
        return self.num_base + self.rows * (self.columns + 1)

    def grid_indices(self) -> Tensor:
        """Flat index of each grid token, (rows * columns,) int64, row-major, ascending."""
        import torch

        grid = torch.arange(self.num_grid)
        return grid + self.num_base + grid // max(self.columns, 1)

    def newline_indices(self) -> Tensor:
        """Flat index of the newline of each row, (rows,) int64, ascending."""
        import torch

        return self.num_base + torch.arange(1, self.rows + 1) * (self.columns + 1) - 1

    def row_of(self, flat: Tensor) -> Tensor:
        """Grid row of each flat index (any shape, int64), newlines included; -1 for base."""
        offset = flat - self.num_base
        row = offset.div(self.columns + 1, rounding_mode="floor")
        return row.masked_fill(offset < 0, -1)

    def is_newline(self, flat: Tensor) -> Tensor:
        """Whether each flat index (any shape, int64) is the newline of a row."""
        offset = flat - self.num_base
        return (offset >= 0) & (offset % (self.columns + 1) == self.columns)


def frame_layout(base: Tensor, grid: Tensor) -> FrameLayout:
    """Layout shared by all frames of base (F, N1, D) and grid (F, rows, columns, D) tokens.

    Raises:
        ValueError: axes, numbers of frames, widths or dtypes that do not fit together.
    """
    base_shape, grid_shape = tuple(base.shape), tuple(grid.shape)
    if base.ndim != 3 or grid.ndim != 4:
        raise ValueError(
            f"need (F, N1, D) and (F, R, C, D) tokens: {base_shape = }, {grid_shape = }"
        )
    if (base_shape[0], base_shape[2]) != (grid_shape[0], grid_shape[3]):
        raise ValueError(f"frames or widths of the tokens differ: {base_shape = }, {grid_shape = }")
    if base.dtype != grid.dtype:
        raise ValueError(f"base and grid come from one model: {base.dtype = }, {grid.dtype = }")
    return FrameLayout(num_base=base_shape[1], rows=grid_shape[1], columns=grid_shape[2])
