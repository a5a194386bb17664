"""Where the tokens of high-resolution tiles stand in a frame's grid."""

import torch

from workers.vision.geometry import FrameGeometry


def assemble_grid(tiles: torch.Tensor, geometry: FrameGeometry) -> torch.Tensor:
    """Join the tokens of tiles into the canvas' grid, and cut off those of its padding.

    Args:
        tiles: (n, tiles, num_base, hidden) tokens of n frames' high-resolution tiles, row-major.
        geometry: how the frames were cut.

    Returns:
        (n, rows, columns, hidden); (n, 0, 0, hidden) for frames of one tile.
    """
    side = geometry.tiles.tokens_per_side
    down, across = geometry.grid
    if down * across == 0:
        return tiles.new_empty(len(tiles), 0, 0, tiles.shape[-1])
    split = tiles.view(len(tiles), down, across, side, side, -1)
    grid = split.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (n, down * side, across * side, h)
    top = (grid.shape[1] - geometry.rows) // 2
    left = (grid.shape[2] - geometry.columns) // 2
    return grid[:, top : top + geometry.rows, left : left + geometry.columns]
