import pytest
import torch

import pruner.batches
import pruner.nodes
from pruner import Novelty, evs_scores, make_nodes
from pruner.nodes import mean_norms, node_batches, token_norms


def features(dtype: torch.dtype) -> torch.Tensor:
    """Two frames of 150 tokens, one of which is zero."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 150, 40, generator=generator)
    tokens[1, 3] = 0
    return tokens.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_norms_are_those_of_a_float32_copy_to_the_bit(dtype: torch.dtype) -> None:
    tokens = features(dtype)
    exact = tokens if dtype == torch.float64 else tokens.float()
    norms = token_norms(tokens)
    assert norms.dtype == exact.dtype
    assert torch.equal(norms, torch.linalg.vector_norm(exact, dim=-1))
    assert torch.equal(make_nodes(tokens).norms, norms)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_units_have_length_one_and_zero_stays_zero(dtype: torch.dtype) -> None:
    nodes = make_nodes(features(dtype))
    lengths = nodes.units.norm(dim=-1)
    assert nodes.units.dtype == nodes.norms.dtype
    assert lengths[1, 3] == 0
    lengths[1, 3] = 1
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_tokens_that_are_not_contiguous_are_read_in_place() -> None:
    tokens = features(torch.bfloat16)
    assert torch.equal(token_norms(tokens[:, 5:90]), token_norms(tokens)[:, 5:90])


@pytest.mark.parametrize("num_tokens", [1, 7, 150])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_many_tokens_are_cast_together_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, num_tokens: int, dtype: torch.dtype
) -> None:
    tokens = features(dtype)

    def results() -> list[torch.Tensor]:
        novelty = Novelty(150, 40).add(torch.arange(150).repeat(2), tokens.flatten(0, 1), [150] * 2)
        return [token_norms(tokens), evs_scores(tokens), novelty]

    before = results()
    monkeypatch.setattr(pruner.nodes, "_CPU_TOKENS", num_tokens)
    assert all(map(torch.equal, before, results()))


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tokens_have_no_norms(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert token_norms(torch.zeros(shape, dtype=dtype)).shape == shape[:2]


def test_mean_norms_are_of_each_resolution_and_zero_for_an_empty_grid() -> None:
    base = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    means = mean_norms(base, torch.empty(2, 0))
    assert means.tolist() == [[2.0, 0.0], [3.0, 0.0]]
    assert means.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bad_token_is_counted(dtype: torch.dtype) -> None:
    tokens = features(dtype)
    tokens[0, [4, 100], 7] = torch.nan
    tokens[1, 120, 0] = torch.inf
    with pytest.raises(ValueError, match="num_bad = 3"):
        token_norms(tokens)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames_together", [1, 2, 3])
def test_batches_hold_the_nodes_of_all_frames(
    monkeypatch: pytest.MonkeyPatch, frames_together: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(pruner.batches, "_CPU_PAIRS", frames_together * 150**2)
    tokens = features(dtype).repeat(2, 1, 1)
    expected = make_nodes(tokens)
    grid = tokens.unflatten(1, (10, 15))
    # One buffer serves all batches, so what is kept has to be copied.
    found = [(nodes.units.clone(), nodes.norms) for nodes in node_batches(grid)]
    assert [len(units) for units, _ in found[:-1]] == [frames_together] * (len(found) - 1)
    assert torch.equal(torch.cat([units for units, _ in found]), expected.units)
    assert torch.equal(torch.cat([norms for _, norms in found]), expected.norms)
