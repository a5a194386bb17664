"""What a reading process is told to do."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from workers.video.live.clock import Resume
from workers.video.live.ticks import Ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOrder:
    """Read a source and hand over its sampled pictures, from its beginning or from where it stood.

    ``speed`` is at how many media seconds a second a file is played, 0 for as fast as it is taken.
    Groups of pictures that come more than ``max_lag_seconds`` late are not decoded. The process may
    take ``max_bytes`` of private memory, 0 for any number. After a lost connection ``ticks`` and
    ``resume`` tell where the stream stood, ``num_settled`` how many ticks have their picture, and
    ``last_arrived`` when (``time.monotonic``) its last picture came.
    """

    source: str
    fps: float
    speed: float = 0.0
    max_lag_seconds: float = 10.0
    pipe: int = 0
    """File descriptor of a source that is a pipe."""
    max_bytes: int = 0
    ticks: Ticks | None = None
    resume: Resume | None = None
    num_settled: int = 0
    last_arrived: float = 0.0

    def after(self, told: Mapping[str, Any]) -> "ReadOrder":
        """Return the order to go on from where a message says that the stream stands."""
        return replace(
            self,
            ticks=Ticks(
                first_seconds=told["first_seconds"],
                fps=self.fps,
                tolerance_seconds=told["tolerance_seconds"],
            ),
            resume=Resume(last_seconds=told["last_seconds"], offset_seconds=told["offset_seconds"]),
            num_settled=told["num_settled"],
            last_arrived=told["arrived"],
        )

    def to_text(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "ReadOrder":
        """Return what :meth:`to_text` was made of."""
        fields = json.loads(text)
        ticks, resume = fields.pop("ticks"), fields.pop("resume")
        return cls(ticks=ticks and Ticks(**ticks), resume=resume and Resume(**resume), **fields)
