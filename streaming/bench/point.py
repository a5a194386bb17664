"""A row of a bench: one system at one number of frames, over all trials."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from streaming.bench.trial import STAGES, Trial


@dataclass(slots=True, kw_only=True)
class Point:
    """The trials of one system at one number of frames, and why there are no more of them.

    ``peak_flops`` is what the machine was measured to do, in operations a second.
    """

    system: str
    method: str
    executor: str
    num_frames: int
    budget: int | None
    start_seconds: float
    peak_flops: float
    trials: list[Trial] = field(default_factory=list)
    error: str = ""
    accuracy: float | None = None

    @property
    def name(self) -> str:
        """Which line of a plot it is on."""
        return f"{self.system}, {self.method}, {self.executor}"

    @property
    def remark(self) -> str:
        """What is unusual about it."""
        return self.error or next((trial.remark for trial in self.trials if trial.remark), "")

    def spread(self, figure: Callable[[Trial], float]) -> tuple[float, float, float]:
        """Return the median of a figure over the trials, and its quartiles."""
        return spread([figure(trial) for trial in self.trials])

    def median(self, figure: Callable[[Trial], float]) -> float:
        """Return the median of a figure over the trials."""
        return statistics.median(figure(trial) for trial in self.trials)

    def stage_seconds(self) -> Mapping[str, float]:
        """Return the median busy seconds of every stage that there was."""
        seen = [trial.seconds for trial in self.trials]
        names = [name for name in STAGES if any(name in seconds for seconds in seen)]
        return {
            name: statistics.median(seconds.get(name, 0.0) for seconds in seen) for name in names
        }

    def utilization(self) -> Mapping[str, float]:
        """Return which share of the machine's peak the vision tower and the prefill came to."""
        vision = self.median(lambda trial: _rate(trial.vision_flops, trial.seconds["encode"]))
        prefill = self.median(lambda trial: _rate(trial.prefill_flops, trial.seconds["prefill"]))
        peak = self.peak_flops or math.inf
        return {"vision": vision / peak, "prefill": prefill / peak}

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values, every trial with it."""
        row: dict[str, Any] = {
            "system": self.system, "method": self.method, "executor": self.executor,
            "frames": self.num_frames, "budget": self.budget, "start_seconds": self.start_seconds,
            "accuracy": self.accuracy, "remark": self.remark,
        }  # fmt: skip
        if self.trials:
            row |= self._figures()
        return row | {"trials": [asdict(trial) for trial in self.trials]}

    def _figures(self) -> dict[str, Any]:
        stages, times = self.stage_seconds(), [trial.elapsed_seconds for trial in self.trials]
        trial = self.trials[0]
        hours = trial.video_seconds / 3600 or math.nan  # a picture lasts no time
        memory = self.trials[-1].peak_memory_bytes
        return {
            "frames_seen": trial.num_frames,
            "video_seconds": trial.video_seconds,
            "tokens_seen": trial.num_tokens_seen,
            "tokens_entering": trial.num_tokens_entering,
            "stage_seconds": stages,
            "stage_seconds_sum": sum(stages.values()),
            "critical_path_seconds": spread(times),
            "first_token_seconds": self.spread(lambda t: t.first_token_seconds),
            "second_first_token_seconds": self.spread(lambda t: t.second_first_token_seconds),
            "answer_seconds_p50": float(np.percentile(times, 50)),
            "answer_seconds_p95": float(np.percentile(times, 95)),
            "frames_per_second": self.median(lambda t: t.num_frames / t.elapsed_seconds),
            "questions_per_second": self.median(lambda t: 1 / t.second_elapsed_seconds),
            "utilization": self.utilization(),
            "cpu_seconds": self.spread(lambda t: t.cpu_seconds),
            "cpu_seconds_per_video_hour": self.median(lambda t: t.cpu_seconds) / hours,
            "gpu_seconds_per_video_hour": self.median(lambda t: t.gpu_seconds) / hours,
            "peak_memory_bytes": dict(memory),
            "peak_memory_bytes_sum": sum(memory.values()),
        }


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def _rate(flops: float, seconds: float) -> float:
    return flops / seconds if seconds else 0.0
