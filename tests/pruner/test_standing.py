import pytest
import torch
from torch import Tensor

from pruner import prefix_sizes, stand_ins, standing, token_sizes
from tests.pruner.loop_reference import cosine, snapped

DIM = 5


def draw(num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clustered tokens, some twice and some zero, of frames that lie apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, DIM, generator=generator)
    cluster = torch.randint(4, (num,), generator=generator)
    spread = 0.3 * torch.randint(0, 2, (num, 1), generator=generator)
    features = centres[cluster] + spread * torch.randn(num, DIM, generator=generator)
    features[torch.rand(num, generator=generator) < 0.05] = 0
    times = torch.randint(0, 24, (num,), generator=generator).sort().values
    return features * (0.5 + torch.rand(num, 1, generator=generator)), times


def stands(one: list[float], other: list[float], apart: int) -> float:
    near = max(0.0, 1 - apart / 8)
    return snapped(near * snapped(max(0.0, cosine(one, other))) ** 4)


def best_of(shares: list[float]) -> int | None:
    """The first of the largest, if that stands at all."""
    best = max(shares, default=0.0)
    return shares.index(best) if best > 0 else None


def slow_sizes(features: Tensor, times: Tensor, kept: list[int], sizes: list[int]) -> list[int]:
    tokens, frames = features.double().tolist(), times.tolist()
    found = [sizes[place] for place in kept]
    for i in set(range(len(tokens))) - {*kept}:
        own = [stands(tokens[i], tokens[j], abs(frames[i] - frames[j])) for j in kept]
        if (best := best_of(own)) is not None:
            found[best] += sizes[i]
    return found


@pytest.mark.parametrize("rows", [3, 1024])
@pytest.mark.parametrize("num_kept", [1, 2, 9, 40, 89, 90])
def test_every_token_counts_for_the_kept_one_that_stands_best_for_it(
    num_kept: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_ROWS", rows)
    features, times = draw(90)
    generator = torch.Generator().manual_seed(num_kept)
    kept = torch.randperm(90, generator=generator)[:num_kept].sort().values
    sizes = torch.randint(1, 5, (90,), generator=generator)
    found = token_sizes(features, times, kept, sizes)
    assert found.tolist() == slow_sizes(features, times, kept.tolist(), sizes.tolist())
    assert found.dtype == torch.int64
    assert (found >= sizes[kept]).all()


def test_equal_tokens_count_for_the_first_that_is_kept_and_kept_ones_for_themselves() -> None:
    features = torch.ones(6, DIM)
    sizes = torch.ones(6, dtype=torch.int64)
    same = torch.zeros(6, dtype=torch.int64)
    assert token_sizes(features, same, torch.tensor([1, 4]), sizes).tolist() == [5, 1]
    apart = torch.tensor([0, 0, 1, 2, 3, 4])  # the nearer stands further
    assert token_sizes(features, apart, torch.tensor([1, 4]), sizes).tolist() == [3, 3]


def test_tokens_for_which_none_stands_count_for_none() -> None:
    axes = torch.eye(3)
    features = torch.stack([axes[0], axes[1], -axes[0], axes[0] * 0, axes[0], axes[0]])
    times = torch.tensor([0, 0, 0, 0, 7, 8])
    sizes = torch.tensor([1, 10, 100, 1000, 10_000, 100_000])
    assert token_sizes(features, times, torch.tensor([0]), sizes).tolist() == [10_001]
    assert token_sizes(features, times, torch.tensor([3]), sizes).tolist() == [1000]


@pytest.mark.parametrize("rows", [7, 1024])
def test_stand_ins_are_the_best_of_those_ranked_before(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_ROWS", rows)
    features, _ = draw(60, seed=1)
    tokens = features.double().tolist()
    expected = [
        best_of([stands(tokens[i], tokens[j], 0) for j in range(i)]) for i in range(len(tokens))
    ]
    found = stand_ins(features)
    assert found.tolist() == [-1 if each is None else each for each in expected]
    assert {-1} < set(found.tolist())
    assert found.dtype == torch.int32


def test_prefixes_count_what_is_behind_them() -> None:
    features, _ = draw(60, seed=2)
    found = stand_ins(features)
    for num_kept in (1, 2, 7, 31, 59, 60):
        expected = [0] * num_kept
        for place in range(60):
            while place >= num_kept:
                place = int(found[place])
            if place >= 0:
                expected[place] += 1
        sizes = prefix_sizes(found, num_kept)
        assert sizes.tolist() == expected
        assert sizes.dtype == torch.int64
    assert prefix_sizes(found, 60).tolist() == [1] * 60


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features, times = draw(20)
    features[7, 2] = value
    with pytest.raises(ValueError, match="finite"):
        stand_ins(features)
    with pytest.raises(ValueError, match="finite"):
        token_sizes(features, times, torch.tensor([3]), torch.ones(20, dtype=torch.int64))
