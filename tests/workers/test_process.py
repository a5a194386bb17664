import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workers.errors import ModelError
from workers.messages import ModelOptions
from workers.process import prepare_torch


def test_settings_left_to_the_machine() -> None:
    threads = torch.get_num_threads()
    options = ModelOptions(model="embedded", device="auto", dtype="auto")
    expected = {False: ("cpu", torch.float32), True: ("cuda", torch.bfloat16)}
    assert prepare_torch(options) == expected[torch.cuda.is_available()]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_settings_asked_for_are_taken(dtype: str) -> None:
    options = ModelOptions(model="embedded", device="cpu", dtype=dtype)
    assert prepare_torch(options) == ("cpu", getattr(torch, dtype))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"^--device cuda: no GPU can be used here"):
        prepare_torch(ModelOptions(model="embedded", device="cuda", dtype="auto"))


def test_peak_memory_counts_what_was_used_and_given_back() -> None:
    code = """
import numpy as np
from workers.process import peak_memory_bytes
before = peak_memory_bytes()
np.ones(2**26, np.uint8)
print(peak_memory_bytes() - before)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert 0.9 * 2**26 < int(done.stdout) < 1.5 * 2**26
