"""Each test of this folder runs on the CPU, and where CUDA is, there too."""

import pytest
import torch


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    """Torch's name of the device under test; its results are compared with the CPU's."""
    name: str = request.param
    return name
