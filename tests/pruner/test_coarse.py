import pytest
import torch
from torch import Tensor

import pruner.coarse
from pruner import Settings, cross_scores, make_nodes, propagate
from pruner.coarse import Coarse, coarsen

ALL = slice(None)


@pytest.fixture(autouse=True)
def _small_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner.coarse, "_LEAST_TOKENS", 64)
    monkeypatch.setattr(pruner.coarse, "_LEAST_DIM", 8)
    monkeypatch.setattr(pruner.coarse, "_multiplies_bytes", lambda: True)


def clustered(num_tokens: int, *, noise: float = 0.9, dim: int = 96, seed: int = 0) -> Tensor:
    """(1, N, D) tokens of nine groups, a zero vector and one of a single channel among them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(9, dim, generator=torch.Generator().manual_seed(9))
    cluster = torch.randint(9, (num_tokens,), generator=generator)
    tokens = centres[cluster] + noise * torch.randn(num_tokens, dim, generator=generator)
    tokens[5], tokens[6] = 0.0, 0.0
    tokens[6, 3] = -20.0
    tokens[7, 3] += 30.0
    return tokens[None]


def scattered(num_tokens: int) -> Tensor:
    """(1, N, 96) tokens with neighbours everywhere and no groups."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, num_tokens, 6, generator=generator) @ torch.randn(
        6, 96, generator=generator
    )


def coarse_of(tokens: Tensor) -> Coarse:
    coarse = make_nodes(tokens).coarse
    assert coarse is not None
    return coarse


@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("noise", [0.6, 0.9])
def test_no_neighbour_is_out_of_reach(noise: float, similarity: float) -> None:
    base, grid = clustered(130, noise=noise, seed=1), clustered(300, noise=noise)
    units = [make_nodes(tokens.double()).units[0] for tokens in (base, grid)]
    near = units[0] @ units[1].T >= similarity
    rows, others = coarse_of(base), coarse_of(grid)
    for start in range(0, 130, 32):
        strip, places = slice(start, start + 32), slice(40, 300)
        found = set(rows.reach(strip, others, places, similarity).tolist())
        neighbours = near[rows.order[strip]].any(dim=0)
        expected = {token for token in others.order[places].tolist() if neighbours[token]}
        assert expected <= found
        assert found <= set(others.order[places].tolist())


def test_most_tokens_of_other_groups_are_out_of_reach() -> None:
    coarse = coarse_of(clustered(576, noise=0.5))
    assert len(coarse.reach(slice(0, 32), coarse, ALL, 0.5)) < 576 / 3


def test_cosines_lie_within_what_rounding_left_over() -> None:
    units = make_nodes(clustered(200)).units
    coarse = coarse_of(clustered(200))
    exact = units[0, coarse.order].double()
    rounded = coarse.scales[:, None].double() * coarse.digits.double()
    lengths = (exact - rounded).norm(dim=1)
    torch.testing.assert_close(lengths, coarse.errors.double(), rtol=1e-3, atol=1e-6)
    assert torch.equal(coarse.order.sort().values, torch.arange(200))


def test_similar_tokens_stand_side_by_side() -> None:
    tokens = clustered(576, noise=0.3)
    cosines = make_nodes(tokens).units[0] @ make_nodes(tokens).units[0].T
    order = coarse_of(tokens).order

    def mean_next(places: Tensor) -> float:
        return float(cosines[places[1:], places[:-1]].mean())

    assert mean_next(order) > 0.8 > 0.4 > mean_next(torch.arange(576))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_steps": 3},
        {"similarity": 0.7, "cross_similarity": 0.3},
        {"temperature": 0.004},
        {"half_precision_degree": True},
        {"similarity": 1.5, "cross_similarity": 1.5},
    ],
)
@pytest.mark.parametrize("reference", [False, True])
def test_scores_are_those_without_a_look_ahead(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, float], reference: bool
) -> None:
    base, grid = clustered(150, seed=1), clustered(420)
    pruned = (torch.arange(420) % 5 > 0)[None]
    settings = Settings(**changes)

    def scores() -> list[Tensor]:
        nodes = make_nodes(base), make_nodes(grid)
        inside = [propagate(own, settings=settings, reference=reference) for own in nodes]
        across = cross_scores(*nodes, pruned, settings=settings, reference=reference)
        return [tensor for pair in (*inside, across) for tensor in pair]

    found = scores()
    monkeypatch.setattr(pruner.coarse, "_LEAST_TOKENS", 10_000)
    for one, two in zip(found, scores(), strict=True):
        torch.testing.assert_close(one, two, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.03, 0.003])
def test_resolutions_that_share_nothing_hand_nothing_over(temperature: float) -> None:
    base, grid = torch.zeros(1, 150, 96), torch.zeros(1, 420, 96)
    base[:, :, :48], grid[:, :, 48:] = clustered(150, dim=48), clustered(420, dim=48)
    settings = Settings(temperature=temperature)
    nodes, pruned = (make_nodes(base), make_nodes(grid)), torch.ones(1, 420, dtype=torch.bool)
    scores, degrees = cross_scores(*nodes, pruned, settings=settings)
    assert scores.eq(0).all()
    assert degrees.eq(0).all()


def test_what_gains_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    units = make_nodes(clustered(100)).units
    assert coarsen(units) is not None
    assert coarsen(units.double()) is None
    assert coarsen(units.expand(2, -1, -1)) is None
    assert coarsen(units[:, :63]) is None
    assert coarsen(units[:, :, :7]) is None
    assert coarsen(make_nodes(clustered(100) + 3.0).units) is None  # nearly all are neighbours
    assert coarsen(make_nodes(scattered(300)).units) is None
    monkeypatch.setattr(pruner.coarse, "_multiplies_bytes", lambda: False)
    assert coarsen(units) is None
