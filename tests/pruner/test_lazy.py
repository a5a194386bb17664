import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruner.greedy import choose_greedily
from pruner.lazy import choose_lazily
from pruner.rounding import significant_bits, significant_bits_of, snap
from pruner.runs import make_run
from tests.pruner.test_standing import draw


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [0, 1, 20, 90, 99])
def test_what_is_counted_when_it_may_be_largest_is_chosen_as_if_all_were(
    seed: int, most: int
) -> None:
    features, times = draw(90, seed)
    run = make_run(features, times, slice(0, 90))
    generator = torch.Generator().manual_seed(seed)
    weights = snap(torch.rand(90, generator=generator, dtype=torch.float64) / run.density)
    prior = snap(0.1 * torch.rand(90, generator=generator, dtype=torch.float64))
    prior[::3] = 0
    places, worths = choose_lazily(run, weights, prior=prior, most=most)
    costs = torch.zeros_like(prior)
    expected = choose_greedily(run, weights, prior=prior, costs=costs, most=most)
    assert places.tolist() == expected[0].tolist()
    assert worths.tolist() == expected[1].tolist()
    assert (places.dtype, worths.dtype) == (torch.int64, torch.int32)


@given(st.floats(-1.0, 2.0**20))
def test_one_number_is_rounded_as_many_are(number: float) -> None:
    (expected,) = significant_bits(torch.from_numpy(np.array([number]))).tolist()
    assert significant_bits_of(number) == expected
