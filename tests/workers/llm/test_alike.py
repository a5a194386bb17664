import pytest
import torch
from torch import nn
from torch.nn.functional import linear

import workers.llm.alike
from workers.llm.alike import rows_are_alike


class Model(nn.Module):
    """Layers of two shapes, one of them the last."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 24, bias=False, dtype=dtype) for _ in range(2))
        self.lm_head = nn.Linear(24, 40, bias=False, dtype=dtype)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and columns of every product that was made."""
    made: list[tuple[int, int]] = []

    def exact(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        made.append((len(rows), weight.shape[0]))
        return torch.stack([linear(row, weight) for row in rows])

    monkeypatch.setattr(workers.llm.alike, "linear", exact)
    return made


def test_rows_that_come_out_one_by_one_are_alike(tried: list[tuple[int, int]]) -> None:
    assert rows_are_alike(Model(torch.float32), 8)
    # each shape once; the last layer on no more rows than it gets
    assert sorted({rows for rows, columns in tried if columns == 24}) == [1, 2, 3, 8, 33, 64]
    assert sorted({rows for rows, columns in tried if columns == 40}) == [1, 2, 3, 8]


@pytest.mark.parametrize("columns", [24, 40])
def test_one_layer_whose_rows_depend_on_their_number_is_enough(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    def rounded(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        product = torch.stack([linear(row, weight) for row in rows])
        is_off = weight.shape[0] == columns and len(rows) == 1
        return product.nextafter(torch.tensor(9.0)) if is_off else product

    monkeypatch.setattr(workers.llm.alike, "linear", rounded)
    assert not rows_are_alike(Model(torch.float32), 8)


def test_half_precision_is_not_even_tried(tried: list[tuple[int, int]]) -> None:
    assert not rows_are_alike(Model(torch.bfloat16), 8)
    assert tried == []
