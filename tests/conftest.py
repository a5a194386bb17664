"""Fixtures for every test."""

import os
from pathlib import Path

import pytest

from streaming.bench.random_checkpoint import write_checkpoint

# As every stage does for its process; here torch is imported before the first stage is made.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads only contend
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised LLaVA-NeXT with 56 px tiles of 4 x 4 tokens, saved by transformers."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, tile_size=56, vision_size=32, text_size=64, num_layers=3)
    return folder
