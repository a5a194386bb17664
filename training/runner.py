"""The training loop of one stage: resumable after a kill at any moment, equal to an unbroken run.

A batch is a pure function of its number and the seed, so the state on disk is the weights, the
optimizer's moments and the number of steps done. It is written to a temporary file and renamed.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

Tensors = dict[str, torch.Tensor]
Arrays = Mapping[str, NDArray[Any]]
_LARGEST = 0.03
"""Norm of a weight's gradient in a step; Adam divides by what is usual, so it hardly matters."""
MakeBatch = Callable[[int], dict[str, NDArray[Any]]]


def to_tensors(arrays: Arrays) -> Tensors:
    """Return arrays as tensors on the device that training runs on, torch's default one."""
    device = torch.get_default_device()
    return {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether products are faster in bfloat16 than in float32: on a GPU, a CPU with AMX.

    On other CPUs they are emulated or no faster (``docs/measurements.md``); with AVX2 alone a step
    takes ten times as long.
    """
    return device.type != "cpu" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRate:
    """How it goes over the steps of a stage: warm-up, level, then a straight line to nothing.

    ``decay_from`` is the step at which the decline begins; it may be brought forward in a run
    under way, without changing what was done before.
    """

    peak: float
    warmup: int
    steps: int
    decay_from: int

    def factor(self, step: int) -> float:
        """Return the share of ``peak`` used at ``step``."""
        up = min((step + 1) / max(self.warmup, 1), 1.0)
        down = (self.steps - step) / max(self.steps - self.decay_from, 1)
        return up * min(max(down, 0.0), 1.0)


class TrainingStage(Protocol):
    """What a stage gives the loop."""

    name: str
    learning_rate: LearningRate
    module: nn.Module
    """Everything that is saved; what is trained is in ``groups``."""

    def groups(self) -> list[dict[str, Any]]:
        """Return AdamW's parameter groups; ``scale`` multiplies the peak."""

    def make_batch(self) -> MakeBatch:
        """Return a picklable function from a step number to the arrays of its batch."""

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Return the loss to minimise and the figures to log."""

    def after_step(self) -> None:
        """Do what follows every change of the weights."""

    def check(self) -> dict[str, float]:
        """Return figures on held-out data."""


class _Numbered(Dataset[dict[str, NDArray[Any]]]):
    """Batches from ``start`` up to ``end``, by number."""

    def __init__(self, make_batch: MakeBatch, start: int, end: int) -> None:
        self._make_batch, self._start, self._end = make_batch, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        return self._make_batch(self._start + index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the loop logs, checks and saves; none of it changes the result."""

    log_every: int = 5
    check_every: int = 400
    save_seconds: float = 60.0
    num_workers: int = 1
    stop_after: int | None = None
    """Stop, state saved, once this many steps of the stage are done."""


def run_stage(stage: TrainingStage, folder: Path, pace: Pace) -> bool:
    """Train ``stage`` to its end, from where its state in ``folder`` left off.

    Returns:
        Whether the stage is finished, rather than stopped by ``pace.stop_after``.

    Raises:
        FloatingPointError: a gradient is not finite; nothing of that step is kept.
    """
    optimizer = torch.optim.AdamW(stage.groups(), betas=(0.9, 0.98), lr=stage.learning_rate.peak)
    state_path, log_path = folder / f"{stage.name}.pt", folder / f"{stage.name}.jsonl"
    step = _restore(stage, optimizer, state_path)
    _cut_log(log_path, step)
    end = min(stage.learning_rate.steps, pace.stop_after or stage.learning_rate.steps)
    saved_at = time.monotonic()
    device = torch.get_default_device()
    batches = _loader(stage.make_batch(), step, end, pace.num_workers)
    # None: shown on a terminal only.
    bar = tqdm(batches, desc=stage.name, unit="step", initial=step, total=end, disable=None)
    for batch in bar:
        peak, factor = stage.learning_rate.peak, stage.learning_rate.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = peak * group["scale"] * factor
        on_device = {name: value.to(device) for name, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device)):
            loss, figures = stage.loss(on_device)
        loss.backward()
        trained = [weight for group in optimizer.param_groups for weight in group["params"]]
        norm = _clip(trained)
        if not bool(norm.isfinite()):
            raise FloatingPointError(f"{stage.name}: the gradient is {float(norm)} at step {step}")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        stage.after_step()
        step += 1
        if step % pace.log_every == 0 or step == end:
            figures = {"loss": loss.detach(), "gradient_norm": norm, **figures}
            _log(log_path, step, {name: float(value) for name, value in figures.items()})
            bar.set_postfix(loss=f"{float(figures['loss']):.3f}")
        if step % pace.check_every == 0 or step == stage.learning_rate.steps:
            _log(log_path, step, {f"check/{name}": v for name, v in stage.check().items()})
        if time.monotonic() - saved_at > pace.save_seconds or step == end:
            _save(stage, optimizer, state_path, step)
            saved_at = time.monotonic()
    return step >= stage.learning_rate.steps


def _loader(make_batch: MakeBatch, start: int, end: int, num_workers: int) -> DataLoader[Any]:
    dataset = _Numbered(make_batch, start, end)
    if not num_workers:
        return DataLoader(dataset, batch_size=None)
    return DataLoader(
        dataset, batch_size=None, num_workers=num_workers, prefetch_factor=6,
        multiprocessing_context="spawn",
    )  # fmt: skip


def _clip(weights: Sequence[nn.Parameter]) -> torch.Tensor:
    """Bound every weight's gradient by itself; return the norm of all of them together before.

    Clipped together they are scaled by the largest, and a rare loss that is large in a few weights
    keeps all others from learning.
    """
    norms = [nn.utils.clip_grad_norm_([weight], _LARGEST) for weight in weights]
    total: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _restore(stage: TrainingStage, optimizer: torch.optim.Optimizer, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=torch.get_default_device())
    stage.module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(stage: TrainingStage, optimizer: torch.optim.Optimizer, path: Path, step: int) -> None:
    state = {
        "module": stage.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _log(path: Path, step: int, figures: dict[str, float]) -> None:
    rounded = {name: float(np.format_float_positional(v, 4, fractional=False))
               for name, v in figures.items()}  # fmt: skip
    line = {"step": step, "seconds": round(time.time()), **rounded}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _cut_log(path: Path, step: int) -> None:
    """Drop log lines of steps that were lost with the kill and are done again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(kept))
