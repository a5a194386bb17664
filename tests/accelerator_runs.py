"""python -m tests.accelerator_runs pruners|training|mixing: runs on two devices, as JSON lines.

For ``test_accelerator.py``, in a process of its own.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import accelerator

# isort: split
import torch

from pruner import METHODS
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from training.plan import Plan
from training.runner import Pace
from training.train import train
from workers import stages

DEVICES = ("cpu", accelerator.NAME)
QUESTION = "what number is shown?"


def kept_and_answered(
    clip: Path, pruner: str, device: str, dtype: torch.dtype, resize: str = "exact"
) -> Any:
    """Return which tokens a method keeps of a clip, and the answer."""
    stages.prepare_torch = lambda options: (device, dtype)
    keep_ratio = None if pruner == "none" else 0.3
    values = {"num_frames": 8, "pruner": pruner, "keep_ratio": keep_ratio, "resize": resize}
    options = change(Options(), values, source="the test")
    plan = plan_clip(sample_clip(str(clip), options), options, [QUESTION])
    with open_engine(options) as engine:
        (answer,) = answer_clip(engine, plan, [QUESTION])
    return [answer.answer, [frame.keep_indices.tolist() for frame in answer.frames]]


def run_pruners(clip: Path) -> None:
    """Print what each method does on each device; bfloat16 is what accelerators get."""
    for pruner in METHODS:
        for device in DEVICES:
            got = kept_and_answered(clip, pruner, device, torch.float32)
            print(json.dumps([pruner, device, got]))
        got = kept_and_answered(clip, pruner, accelerator.NAME, torch.bfloat16)
        print(json.dumps([pruner, "bfloat16", got]))
    # There it is Pillow's own arithmetic, so that nothing differs from tiles cut by Pillow.
    got = kept_and_answered(clip, "mr_pruner", accelerator.NAME, torch.float32, "fast")
    print(json.dumps(["mr_pruner", "fast", got]))


def run_training() -> None:
    """Print the figures of a few steps of both stages on each device."""
    plan = Plan(
        seed=3, hidden_size=64, vision_size=32, num_layers=2, num_vision_layers=2, vision_steps=2,
        vision_decay=1, vision_batch=4, language_steps=3, language_decay=1, tokens_per_batch=500,
        mixtures=((0, {1: 0.5, 2: 0.5}),),
    )  # fmt: skip
    for device in DEVICES:
        torch.set_default_device(device)
        folder = Path(tempfile.mkdtemp())
        pace = Pace(num_workers=0, log_every=1, check_every=1000, save_seconds=0.0)
        train(plan, folder, pace)
        for stage in ("vision", "language"):
            for line in (folder / f"{stage}.jsonl").read_text().splitlines():
                figures = json.loads(line)
                if "loss" in figures:
                    name = f"{stage} {figures['step']}"
                    print(json.dumps([name, device, [figures["loss"], figures["gradient_norm"]]]))


def run_mixing() -> None:
    """Print what is said where tensors of two devices meet."""
    there = torch.ones(3, device=accelerator.NAME)
    for mix in (lambda: there + torch.ones(3), lambda: torch.ones(3)[there > 0], there.numpy):
        try:
            mix()
        except (RuntimeError, TypeError) as error:
            print(json.dumps(str(error)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "pruners":
        run_pruners(Path(sys.argv[2]))
    else:
        {"training": run_training, "mixing": run_mixing}[sys.argv[1]]()
