import pytest
import torch
from torch import Tensor

from pruner import METHODS, Settings, Task, choose, rank
from streaming.bench.plain_pruners import PLAIN

NEWLINE = torch.ones(24)


def clip(num_frames: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Clustered tokens, of which the frames after the first change a little."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, 24, generator=generator)

    def tokens(*shape: int) -> Tensor:
        cluster = torch.randint(6, shape, generator=generator)
        scale = 0.5 + torch.rand(*shape, 1, generator=generator)
        still = centres[cluster] * scale
        noise = 0.5 * torch.randn(num_frames, *shape, 24, generator=generator)
        return (still + noise).to(dtype)

    return [tokens(36), tokens(8, 10)]


def fast(name: str, base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    method = METHODS[name]
    if method.scope == "frame":
        settings = Settings(num_steps=method.num_steps)
        task = Task(frame_indices=range(len(base)), num_keep=num_keep, settings=settings)
        order = rank(name, base, grid, task).order
        return [own[:num_keep].sort().values for own in order]
    chosen = choose(name, base, grid, NEWLINE, [num_keep] * len(base))
    return [indices for _, indices in chosen]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_keep", [1, 13, 60, 123, 124])
@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_form_keeps_the_same_tokens(name: str, num_keep: int, dtype: torch.dtype) -> None:
    base, grid = clip(dtype=dtype)
    plain = PLAIN[name](base, grid, num_keep)
    expected = fast(name, base, grid, num_keep)
    assert [kept.tolist() for kept in plain] == [kept.tolist() for kept in expected]


@pytest.mark.parametrize("name", PLAIN)
def test_frames_without_grid_keep_the_same_tokens(name: str) -> None:
    base, grid = clip()
    plain, expected = (prune(name, base, grid[:, :0, :0], 9) for prune in (by_plain, fast))
    assert [kept.tolist() for kept in plain] == [kept.tolist() for kept in expected]


def by_plain(name: str, base: Tensor, grid: Tensor, num_keep: int) -> list[Tensor]:
    return PLAIN[name](base, grid, num_keep)


@pytest.mark.parametrize("name", ["mr_pruner", "gprune"])
def test_tokens_without_neighbours_rank_alike(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    base, grid = (torch.randn(*shape, 24, generator=generator) for shape in [(1, 16), (1, 4, 4)])
    grid[0, 1, 2] = 0.0
    (plain,), (expected,) = PLAIN[name](base, grid, 17), fast(name, base, grid, 17)
    assert torch.equal(plain, expected)


def test_every_method_that_looks_at_features_has_a_plain_form() -> None:
    blind, elsewhere = {"none", "uniform", "random"}, {"fastv", "coverage"}
    assert set(PLAIN) == set(METHODS) - blind - elsewhere
