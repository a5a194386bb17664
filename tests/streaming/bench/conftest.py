"""Fixtures for the tests of the bench: trials and points of which every figure is known."""

from collections.abc import Callable

import pytest

from streaming.bench.point import Point
from streaming.bench.trial import Trial

MakeTrial = Callable[..., Trial]
MakePoint = Callable[..., Point]


@pytest.fixture
def make_trial() -> MakeTrial:
    def make(elapsed_seconds: float = 2.0, **changes: object) -> Trial:
        values = {
            "num_frames": 8,
            "video_seconds": 36.0,
            "num_tokens_seen": 416,
            "num_tokens_entering": 40,
            "seconds": {"open": 0.25, "decode": 1.0, "encode": 0.5, "prefill": 0.25},
            "first_token_seconds": elapsed_seconds / 2,
            "elapsed_seconds": elapsed_seconds,
            "second_first_token_seconds": 0.125,
            "second_elapsed_seconds": 0.25,
            "num_answer_tokens": 3,
            "cpu_seconds": 3.0,
            "gpu_seconds": 0.0,
            "vision_flops": 1e9,
            "prefill_flops": 1e9,
            "peak_memory_bytes": {"driver": 2**20, "encoder-0": 3 * 2**20},
        }
        return Trial(**(values | changes))

    return make


@pytest.fixture
def make_point(make_trial: MakeTrial) -> MakePoint:
    def make(*elapsed_seconds: float, system: str = "mr-stream", **changes: object) -> Point:
        values = {
            "system": system,
            "method": "mr_pruner",
            "executor": "local",
            "num_frames": 8,
            "budget": 40,
            "start_seconds": 7.5,
            "peak_flops": 1e10,
            "trials": [make_trial(seconds) for seconds in elapsed_seconds],
        }
        return Point(**(values | changes))

    return make
