import numpy as np
import pytest
import torch

from workers.arrays import pack, unpack

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_comes_back_bit_for_bit(dtype: torch.dtype) -> None:
    tensor = (torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    back = unpack(pack(tensor), str(dtype).removeprefix("torch."))
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_every_bit_pattern_of_bfloat16_survives() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    tensor = torch.from_numpy(bits.copy()).view(torch.bfloat16)
    packed = pack(tensor)
    assert packed.dtype == np.uint16
    np.testing.assert_array_equal(packed, bits)
    back = unpack(packed, "bfloat16")
    np.testing.assert_array_equal(back.view(torch.uint16).numpy(), bits)


def test_packed_arrays_are_contiguous() -> None:
    tensor = torch.arange(12.0).view(3, 4).T
    packed = pack(tensor)
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(packed, tensor.numpy())


def test_tensors_with_gradients_can_be_packed() -> None:
    tensor = torch.ones(3, requires_grad=True) * 2
    np.testing.assert_array_equal(pack(tensor), [2, 2, 2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_unpacked_tensor_is_a_copy(dtype: str) -> None:
    packed = pack(torch.arange(5).to(getattr(torch, dtype)))
    before = packed.copy()
    packed.flags.writeable = False  # as Ray hands it over
    unpack(packed, dtype).add_(1)
    np.testing.assert_array_equal(packed, before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_can_be_packed(dtype: str) -> None:
    empty = torch.empty(0, 4, dtype=getattr(torch, dtype))
    assert unpack(pack(empty), dtype).shape == (0, 4)
