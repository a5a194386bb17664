import pytest
import torch

from pruner import FrameLayout, random_order, uniform_order
from tests.pruner import golden

LAYOUT = FrameLayout(num_base=16, rows=4, columns=7)
BIG = FrameLayout(num_base=64, rows=16, columns=16)
COUNTS = golden.load_all("random")


def grid_part(layout, order, share):
    kept = order[:share]
    return int(((kept >= layout.num_base) & ~layout.is_newline(kept)).sum())


@pytest.mark.parametrize("order", [random_order(LAYOUT, [0, 1, 2], 7), uniform_order(LAYOUT, 3)])
def test_an_order_is_a_permutation_of_every_frame(order):
    assert order.sort(dim=1).values.tolist() == [list(range(LAYOUT.num_tokens))] * 3


def test_a_draw_depends_on_seed_and_frame_only():
    together = random_order(LAYOUT, [3, 4, 5], 1)
    alone = random_order(LAYOUT, [4], 1)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(random_order(LAYOUT, [4], 2), alone)


def test_every_token_is_drawn_equally_often():
    draws = 4000
    order = random_order(LAYOUT, range(draws), 0)
    first = order[:, :11]  # 4 base and 5 or more grid tokens, and their newlines
    counts = torch.bincount(first[first < 16], minlength=16).float() / draws
    grid = torch.bincount(first.flatten(), minlength=LAYOUT.num_tokens).float()
    grid = grid[LAYOUT.grid_indices()] / draws
    # Five standard errors of a share: a fault in the draw is far larger.
    assert (counts - counts.mean()).abs().max() < 5 * (0.25 / draws) ** 0.5
    assert (grid - grid.mean()).abs().max() < 5 * (0.25 / draws) ** 0.5


@pytest.mark.parametrize("case", COUNTS, ids=repr)
def test_the_split_is_that_of_the_published_budget_rule(case):
    info = case.info
    layout = FrameLayout(num_base=info["n_low"], rows=info["rows"], columns=info["cols"])
    (order,) = random_order(layout, [0], 0)
    content = order[~layout.is_newline(order)]
    num_content = int(case["k_low"] + case["k_high"])
    num_base = int((content[:num_content] < layout.num_base).sum())
    assert abs(num_base - int(case["k_low"])) <= 1


@pytest.mark.parametrize("level", [1, 2, 3])
def test_four_to_the_n_tokens_lie_one_in_each_cell(level):
    (order,) = uniform_order(BIG, 1)
    grid = order[(order >= BIG.num_base) & ~BIG.is_newline(order)][: 4**level]
    cell = 16 // 2**level
    columns = (grid - BIG.num_base) % (BIG.columns + 1)
    cells = BIG.row_of(grid) // cell * 2**level + columns // cell
    assert sorted(cells.tolist()) == list(range(4**level))


def test_the_second_token_is_far_from_the_first():
    (order,) = uniform_order(BIG, 1)
    base = order[order < 64][:2]
    assert (base // 8).diff().abs() == 4
    assert (base % 8).diff().abs() == 4


def test_a_base_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match=r"base tile is a square: layout\.num_base = 12"):
        uniform_order(FrameLayout(num_base=12, rows=2, columns=2), 1)
