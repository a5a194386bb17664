import pytest
import torch

from pruner import prune_packed
from pruner.mr_pruner import mr_pruner


def packed(base: torch.Tensor, grid: torch.Tensor, newline: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([grid, newline.expand(len(grid), 1, -1)], dim=1)
    return torch.cat([base, rows.flatten(0, 1)])


def test_finds_the_grid_by_its_newlines() -> None:
    torch.manual_seed(0)
    base, grid, newline = torch.randn(16, 8), torch.randn(6, 5, 8), torch.randn(8)
    features = packed(base, grid, newline)
    kept = prune_packed(features, newline=newline, num_base=16, keep_ratio=0.3)
    assert torch.equal(kept, mr_pruner(base[None], grid[None], keep_ratio=0.3)[0])
    everything = prune_packed(features, newline=newline, num_base=16, keep_ratio=1.0)
    assert everything.tolist() == list(range(len(features)))


def test_refuses_features_that_are_not_packed() -> None:
    features, newline = torch.randn(20, 8), torch.randn(8)
    with pytest.raises(ValueError, match="no grid of rows that end in newlines"):
        prune_packed(features, newline=newline, num_base=16)
    misplaced = features.clone()
    misplaced[17] = newline
    with pytest.raises(ValueError, match="no grid of rows that end in newlines"):
        prune_packed(misplaced, newline=newline, num_base=16)
