"""What a job came to: counts, failures by stage, seconds a clip, hours of video."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streaming.batch.record import FAILED, Record
from streaming.result import GPU_STAGES


@dataclass(slots=True)
class Summary:
    """Adds rows up; holds a number for each clip, whatever the size of its rows."""

    num_rows: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    _clip_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _video_seconds: dict[str, float] = field(default_factory=dict)
    _busy: Counter[str] = field(default_factory=Counter)
    _tokens: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Take a row."""
        self.num_rows += 1
        if record.status == FAILED:
            self.failed[record.error_stage] += 1
        self._clip_seconds[record.video] += record.elapsed_seconds
        video_seconds = self._video_seconds.get(record.video, 0.0)
        self._video_seconds[record.video] = max(video_seconds, record.video_seconds)
        self._busy.update(record.seconds)
        self._tokens["visual"] += record.num_visual_tokens
        self._tokens["unpruned"] += record.num_unpruned_tokens
        self._tokens["answer"] += record.num_answer_tokens

    @property
    def num_failed(self) -> int:
        """Rows without an answer."""
        return sum(self.failed.values())

    @property
    def failure_rate(self) -> float:
        """Rows without an answer among all, 0 for none."""
        return self.num_failed / max(1, self.num_rows)

    def to_json(self, *, on_gpu: bool) -> dict[str, Any]:
        """Return plain values.

        ``busy_seconds`` are those of the workers by stage, of which the models' are those of GPUs
        where ``on_gpu``; ``*_seconds_per_video_hour`` divide them by the hours of video.
        """
        clips = np.array(list(self._clip_seconds.values()) or [0.0])
        hours = sum(self._video_seconds.values()) / 3600
        gpu = sum(self._busy[stage] for stage in GPU_STAGES) if on_gpu else 0.0
        cpu = sum(self._busy.values()) - gpu - self._busy["transfer"]
        return {
            "rows": self.num_rows,
            "ok": self.num_rows - self.num_failed,
            "failed": self.num_failed,
            "failed_by_stage": dict(self.failed),
            "clips": len(self._clip_seconds),
            "clip_seconds": {
                "p50": round(float(np.percentile(clips, 50)), 4),
                "p95": round(float(np.percentile(clips, 95)), 4),
            },
            "video_hours": round(hours, 6),
            "busy_seconds": {stage: round(value, 4) for stage, value in self._busy.items()},
            "cpu_seconds_per_video_hour": round(cpu / hours, 3) if hours else None,
            "gpu_seconds_per_video_hour": round(gpu / hours, 3) if hours else None,
            "tokens": dict(self._tokens),
        }
