"""Many questions at once about one clip that stands ready: how many a second, and how long each."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What some clients came to, each of which asks its next question when it has an answer."""

    num_clients: int
    num_questions: int
    questions_per_second: float
    seconds_p50: float
    seconds_p95: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self)


def load(
    ask: Callable[[str], object],
    questions: Sequence[str],
    *,
    levels: Sequence[int],
) -> list[Load]:
    """Ask questions of a clip from some threads at a time, for each of some numbers of them.

    Args:
        ask: answers one question; called from many threads.
        questions: asked in turn.
        levels: numbers of clients; together they ask two questions each, at least 8.
    """
    ask(questions[0])
    return [_load(ask, questions, level, max(8, 2 * level)) for level in levels]


def _load(
    ask: Callable[[str], object],
    questions: Sequence[str],
    num_clients: int,
    num_questions: int,
) -> Load:
    def seconds(number: int) -> float:
        begin = time.perf_counter()
        ask(questions[number % len(questions)])
        return time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as threads:
        times = list(threads.map(seconds, range(num_questions)))
    elapsed = time.perf_counter() - begin
    p50, p95 = np.percentile(times, [50, 95]).tolist()
    return Load(
        num_clients=num_clients,
        num_questions=num_questions,
        questions_per_second=num_questions / elapsed,
        seconds_p50=p50,
        seconds_p95=p95,
    )
