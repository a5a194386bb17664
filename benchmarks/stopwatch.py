"""Seconds of a call on any device, several times, under a limit for all of them together."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median and quartiles of ``num`` measured values."""

    median: float
    low: float
    high: float
    num: int

    @staticmethod
    def of(values: list[float]) -> "Spread":
        """Return that of at least one value."""
        low, _, high = (
            statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        )
        return Spread(median=statistics.median(values), low=low, high=high, num=len(values))

    def show(self, scale: float = 1.0, digits: int = 1) -> str:
        """Return the values times ``scale``, as text."""
        low, median, high = (scale * each for each in (self.low, self.median, self.high))
        return f"{median:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


class Stopwatch:
    """Measures while there is time.

    Args:
        device: torch device name; what is queued on it is waited for.
        minutes: for all measurements together, from now on.
    """

    def __init__(self, device: str, minutes: float) -> None:
        self._device = torch.device(device)
        self._end = time.perf_counter() + 60 * minutes

    @property
    def seconds_left(self) -> float:
        """Return what is left of the minutes, at least 0."""
        return max(0.0, self._end - time.perf_counter())

    def once(self, call: Callable[[], object]) -> float:
        """Return the seconds of one call."""
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - start

    def measure(self, call: Callable[[], object], *, repeats: int) -> Spread:
        """Return the seconds of a call: one to warm up, then ``repeats`` or what there is time for.

        The first counts where there is no time for a second.
        """
        values = [self.once(call)]
        while len(values) <= repeats and values[-1] * 2 < self.seconds_left:
            values.append(self.once(call))
        return Spread.of(values[1:] or values)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
