import pytest
import torch

from pruner import FrameLayout
from tests.pruner import golden

GEOMETRY = golden.load("layout_geometry")


def test_flat_order_is_base_then_rows_with_newlines():
    layout = FrameLayout(num_base=4, rows=2, columns=3)
    assert layout.num_grid == 6
    assert layout.num_tokens == 12
    assert layout.grid_indices().tolist() == [4, 5, 6, 8, 9, 10]
    assert layout.newline_indices().tolist() == [7, 11]


def test_every_flat_index_is_classified():
    layout = FrameLayout(num_base=2, rows=2, columns=2)
    flat = torch.arange(layout.num_tokens)
    assert layout.row_of(flat).tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]
    assert layout.is_newline(flat).nonzero().flatten().tolist() == [4, 7]


@pytest.mark.parametrize("columns", [0, 5])
def test_single_tile_has_base_tokens_only(columns):
    layout = FrameLayout(num_base=3, rows=0, columns=columns)
    assert layout.num_tokens == 3
    assert layout.num_grid == 0
    assert layout.grid_indices().shape == (0,)
    assert layout.newline_indices().shape == (0,)
    assert layout.row_of(torch.arange(3)).tolist() == [-1, -1, -1]


def test_lengths_equal_the_golden_lengths():
    lengths = [
        FrameLayout(num_base=576, rows=rows, columns=columns).num_tokens
        for rows, columns in GEOMETRY["rows_cols"].tolist()
    ]
    assert lengths == GEOMETRY["flat_len"].tolist()


@pytest.mark.parametrize("case", golden.load_all("mrpruner"), ids=repr)
def test_indices_equal_the_golden_indices(case):
    rows, columns, _ = case["hires"].shape
    layout = FrameLayout(num_base=case["base"].shape[0], rows=rows, columns=columns)
    assert layout.num_tokens == case.info["flat_len"]
    assert torch.equal(layout.newline_indices(), case["newline_idx"])
    assert torch.isin(case["keep_high"], layout.grid_indices()).all()
    assert not layout.is_newline(case["keep_high"]).any()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 2, 2), r"num_base = 0"),
        ((4, -1, 2), r"rows = -1"),
        ((4, 2, 0), r"columns = 0"),
        ((4, 0, -1), r"columns = -1"),
    ],
)
def test_impossible_counts_are_refused(counts, message):
    num_base, rows, columns = counts
    with pytest.raises(ValueError, match=message):
        FrameLayout(num_base=num_base, rows=rows, columns=columns)
