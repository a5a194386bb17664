"""A whole question about a clip on a device, against the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from tests.clips import draw_clip

QUESTION = "how many shapes are there?"


@pytest.fixture
def clip(tmp_path: Path) -> str:
    path = tmp_path / "clip.mp4"
    draw_clip(path)
    return str(path)


def ask(device: str, clip: str, **settings: object) -> Any:
    values = {"device": device, "dtype": "float32", "num_frames": 6, "budget": 60, **settings}
    options = change(Options(), values, source="the test")
    plan = plan_clip(sample_clip(clip, options), options, [QUESTION])
    with open_engine(options) as engine:
        (answer,) = answer_clip(engine, plan, [QUESTION])
    return answer


@pytest.mark.parametrize("pruner", ["mr_pruner", "fastv", "evs"])
def test_asking(device: str, clip: str, pruner: str) -> None:
    here, there = ask("cpu", clip, pruner=pruner), ask(device, clip, pruner=pruner)
    assert there.answer == here.answer
    for one, two in zip(there.frames, here.frames, strict=True):
        np.testing.assert_array_equal(one.keep_indices, two.keep_indices)


def test_asking_in_bfloat16_keeps_the_budget(device: str, clip: str) -> None:
    answer = ask(device, clip, dtype="bfloat16")
    assert answer.num_visual_tokens == 60
    assert answer.num_answer_tokens >= 1
