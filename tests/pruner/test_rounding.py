import pytest
import torch

from pruner.rounding import significant_bits, snap


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_snap_gives_the_nearest_multiple_half_to_even(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 0.3, 0.625, 0.875, -0.375, 1.1], dtype=dtype)
    snapped = snap(x, 2)
    assert snapped.tolist() == [0.0, 0.25, 0.5, 1.0, -0.5, 1.0]
    assert snapped.dtype == dtype


def test_snap_makes_equal_what_arithmetic_told_apart() -> None:
    x = torch.tensor([0.5, 0.5 - 6e-8, 0.5 + 6e-8, 0.5 + 2e-6])
    first, below, above, other = snap(x).tolist()
    assert first == below == above == 0.5
    assert other > 0.5


def test_snap_leaves_its_input_alone() -> None:
    x = torch.tensor([0.3])
    snap(x, 0)
    assert x.tolist() == pytest.approx([0.3])


@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**100])
def test_significant_bits_keep_the_order_at_every_scale(scale: float) -> None:
    ladder = scale * torch.full((500,), 1.0001).double().cumprod(0)  # steps of 1e-4
    assert (significant_bits(ladder).diff() > 0).all()
    noise = 1 + 2e-6 * (torch.rand(500, generator=torch.Generator().manual_seed(0)) - 0.5)
    plain = scale * torch.arange(1.0, 501)
    assert torch.equal(significant_bits(plain * noise), significant_bits(plain))


def test_significant_bits_of_negative_numbers_are_those_of_zero() -> None:
    assert significant_bits(torch.tensor([-1.0, -0.0, 0.0])).tolist() == [0, 0, 0]
