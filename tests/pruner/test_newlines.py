import torch

from pruner import FrameLayout, newlines_last, random_order

LAYOUT = FrameLayout(num_base=16, rows=4, columns=7)


def test_newlines_last_leaves_the_rest_in_order() -> None:
    order = random_order(LAYOUT, [0, 1], 3)
    moved = newlines_last(order, LAYOUT)
    content = [row[~LAYOUT.is_newline(row)].tolist() for row in order]
    assert moved[:, : -LAYOUT.rows].tolist() == content
    newlines = moved[:, -LAYOUT.rows :].sort(dim=1).values
    assert newlines.tolist() == [LAYOUT.newline_indices().tolist()] * 2


def test_a_single_tile_has_none_to_move() -> None:
    order = torch.tensor([[2, 0, 1]])
    assert torch.equal(newlines_last(order, FrameLayout(num_base=3, rows=0, columns=0)), order)
