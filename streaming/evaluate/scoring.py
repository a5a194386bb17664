"""From recorded answers to accuracies, intervals and differences."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.evaluate.records import Failure, Record

Interval = tuple[float, float]
_RESAMPLES = 2000
_LEVEL = 0.95
ALL = "all"
MEAN = "mean of types"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row at one budget, over all clips and seeds.

    ``accuracy`` and ``interval`` are by question type, of ``all`` questions, and the ``mean of
    types`` in which each type counts alike: shares with their 95 % intervals. ``change`` is of all
    questions, against the baseline at the same budget, or unpruned. ``num_visual_tokens`` is the
    mean a clip of what was kept, ``num_entering_tokens`` of what entered the language model,
    ``kept_share`` the first one's part of the unpruned ones. ``seconds`` are means a question,
    ``questions_per_second`` what the stages took one after another, decoding and encoding counted
    once a clip.
    """

    row: str
    kept: str
    accuracy: Mapping[str, float]
    interval: Mapping[str, Interval]
    num_questions: Mapping[str, int]
    change: float | None
    change_interval: Interval | None
    num_visual_tokens: float
    num_entering_tokens: float
    kept_share: float
    seconds: Mapping[str, float]
    questions_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The whole table; ``failures`` tell of clips that were left out, in every row."""

    baseline: str
    types: tuple[str, ...]
    scores: tuple[Score, ...]
    num_clips: int
    failures: tuple[Failure, ...]


def score(
    records: Sequence[Record], *, rows: Sequence[str], baseline: str, failures: Sequence[Failure]
) -> Result:
    """Return the table of recorded answers.

    Intervals are by bootstrap over clips, since questions about one clip stand or fall together;
    the same resamples serve every cell, so that differences are paired.
    """
    clips = sorted({record.clip for record in records})
    types = sorted({name for record in records for name in record.asked})
    grouped: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        grouped[record.key[:2]].append(record)
    # The most kept first, then the order in which the rows were asked for.
    kept = {key: _kept_share(group) for key, group in grouped.items()}
    most = {column: max(kept[key] for key in kept if key[1] == column) for _, column in grouped}
    columns = sorted(most, key=lambda column: -most[column])
    counts = {key: _count(group, clips, types) for key, group in grouped.items()}
    weights = _resample(len(clips))
    scores = []
    for column in columns:
        for row in rows:
            if (row, column) not in grouped:
                continue
            against = next((k for k in ((baseline, column), (baseline, "1")) if k in grouped), None)
            change, spread = None, None
            if against is not None and against != (row, column):
                change, spread = _change(counts[row, column], counts[against], weights)
            scores.append(
                _score(
                    (row, column),
                    grouped[row, column],
                    counts[row, column],
                    types,
                    weights,
                    change,
                    spread,
                )
            )
    return Result(
        baseline=baseline,
        types=tuple(types),
        scores=tuple(scores),
        num_clips=len(clips),
        failures=tuple(failures),
    )


Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


def _count(group: Sequence[Record], clips: Sequence[str], types: Sequence[str]) -> Counts:
    """Return right and asked, (clips, types + 1) with the sum last."""
    place = {clip: index for index, clip in enumerate(clips)}
    right, asked = np.zeros((2, len(clips), len(types) + 1))
    for record in group:
        for index, name in enumerate(types):
            right[place[record.clip], index] += record.right.get(name, 0)
            asked[place[record.clip], index] += record.asked.get(name, 0)
    right[:, -1], asked[:, -1] = right.sum(1), asked.sum(1)
    return right, asked


def _resample(num_clips: int) -> NDArray[np.float64]:
    """Return how often each clip is drawn in each resample, (resamples, clips)."""
    generator = np.random.default_rng(0)
    even = np.full(num_clips, 1 / num_clips)
    return generator.multinomial(num_clips, even, size=_RESAMPLES).astype(np.float64)


def _shares(counts: Counts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    right, asked = weights @ counts[0], weights @ counts[1]
    return np.divide(right, asked, out=np.full_like(right, np.nan), where=asked > 0)


def _with_mean(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the mean over types to (n, types + 1), of those that are asked about."""
    by_type = shares[:, :-1]
    asked = ~np.isnan(by_type)
    mean = np.where(asked, by_type, 0).sum(1) / np.maximum(asked.sum(1), 1)
    return np.column_stack((shares, mean))


def _interval(values: NDArray[np.float64]) -> Interval:
    tail = 100 * (1 - _LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _change(counts: Counts, other: Counts, weights: NDArray[np.float64]) -> tuple[float, Interval]:
    once = np.ones((1, len(counts[0])))
    change = float((_shares(counts, once) - _shares(other, once))[0, -1])
    return change, _interval((_shares(counts, weights) - _shares(other, weights))[:, -1])


def _kept_share(group: Sequence[Record]) -> float:
    unpruned = sum(record.num_unpruned_tokens for record in group)
    return sum(record.num_visual_tokens for record in group) / unpruned


def _score(
    key: tuple[str, str],
    group: Sequence[Record],
    counts: Counts,
    types: Sequence[str],
    weights: NDArray[np.float64],
    change: float | None,
    change_interval: Interval | None,
) -> Score:
    names = [*types, ALL, MEAN]
    (shares,) = _with_mean(_shares(counts, np.ones((1, len(counts[0])))))
    spread = _with_mean(_shares(counts, weights))
    num_questions = counts[1].sum(0)
    seconds: dict[str, float] = defaultdict(float)
    for record in group:
        for stage, value in record.seconds.items():
            seconds[stage] += value
    total = sum(seconds.values())
    return Score(
        row=key[0],
        kept=key[1],
        accuracy={name: float(value) for name, value in zip(names, shares, strict=True)},
        interval={name: _interval(spread[:, index]) for index, name in enumerate(names)},
        num_questions={name: int(n) for name, n in zip(names[:-1], num_questions, strict=True)},
        change=change,
        change_interval=change_interval,
        num_visual_tokens=sum(r.num_visual_tokens for r in group) / len(group),
        num_entering_tokens=sum(r.num_entering_tokens for r in group) / len(group),
        kept_share=_kept_share(group),
        seconds={name: value / num_questions[-1] for name, value in seconds.items()},
        questions_per_second=float(num_questions[-1] / total) if total else 0.0,
    )
