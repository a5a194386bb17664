"""What is told with an answer about a stream."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from streaming.result import Answer
from workers.video.live.events import Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAnswer:
    """An answer about a stream that has come to ``media_seconds``.

    ``lag_seconds`` is how long ago that was when the answer was there, None for a source without
    a pace of its own; ``gaps`` are those since the answer before. ``num_seen_frames`` were
    sampled and encoded since the beginning, ``num_dropped_frames`` not in time; of the former
    ``num_held_frames`` are held, with ``num_held_tokens`` of at most ``max_held_tokens`` tokens.
    """

    answer: Answer
    changed: bool
    media_seconds: float
    wall_time: datetime
    lag_seconds: float | None
    gaps: Sequence[Gap]
    num_seen_frames: int
    num_dropped_frames: int
    num_held_frames: int
    num_held_tokens: int
    max_held_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        lag = self.lag_seconds
        return {
            "source": self.answer.video,
            "question": self.answer.question,
            "answer": self.answer.answer,
            "changed": self.changed,
            "media_seconds": round(self.media_seconds, 3),
            "wall_time": self.wall_time.isoformat(timespec="milliseconds"),
            "lag_seconds": None if lag is None else round(lag, 3),
            "gaps": [asdict(gap) for gap in self.gaps],
            "budget": self.answer.budget,
            "num_visual_tokens": self.answer.num_visual_tokens,
            "num_frames": self.answer.num_frames,
            "num_seen_frames": self.num_seen_frames,
            "num_dropped_frames": self.num_dropped_frames,
            "num_held_frames": self.num_held_frames,
            "num_held_tokens": self.num_held_tokens,
            "max_held_tokens": self.max_held_tokens,
            "frames": [
                {
                    "pts_seconds": round(frame.pts_seconds, 6),
                    "num_visual_tokens": frame.num_visual_tokens,
                }
                for frame in self.answer.frames
            ],
            "elapsed_seconds": round(self.answer.elapsed_seconds, 4),
        }


def clock(seconds: float) -> str:
    """Return a media time as hours, minutes and seconds, or seconds alone below one minute."""
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
