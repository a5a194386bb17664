"""What a bench measures beside answers: the machine's peak, and fast pruners against plain ones."""

from dataclasses import asdict, dataclass
from typing import Any

from streaming.bench.flops import peak_flops
from streaming.bench.point import spread
from streaming.options import Options
from workers.process import prepare_process, prepare_torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerTimes:
    """Seconds a frame of a method, as it is run and in its straightforward form."""

    method: str
    fast_seconds: tuple[float, ...]
    plain_seconds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self) | {"ratio": spread(self.ratios)}

    @property
    def ratios(self) -> list[float]:
        """Plain over fast, pair by pair."""
        pairs = zip(self.plain_seconds, self.fast_seconds, strict=True)
        return [plain / fast for plain, fast in pairs]


class Laboratory:
    """Measures in a process of its own, on the device and in the dtype of a run."""

    def __init__(self, options: Options) -> None:
        prepare_process()
        self._options = options
        self._device, self._dtype = prepare_torch(options.model)

    def close(self) -> None:
        """Nothing runs."""

    def peak_flops(self) -> float:
        """Return the operations a second of a matrix product here."""
        return peak_flops(self._device, self._dtype)

    def time_pruner(self, method: str, clip: str) -> PrunerTimes | None:
        """Return how long a method takes for frames of a clip, None where it has no plain form."""
        return None
