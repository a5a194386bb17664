"""Slow, obvious forms of the mathematics: what the fast ones must equal."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from torch import Tensor, tensor

from pruner import Candidates, FrameLayout
from pruner.rounding import significant_bits


def norm(token: list[float]) -> float:
    return math.sqrt(sum(x * x for x in token))


def cosine(one: list[float], two: list[float]) -> float:
    lengths = norm(one) * norm(two)
    return sum(x * y for x, y in zip(one, two, strict=True)) / lengths if lengths > 0 else 0.0


def transition(
    rows: list[list[float]], columns: list[list[float]], similarity: float, temperature: float
) -> list[list[float]]:
    """Softmax over the neighbours of each row; a row without neighbours is all zero."""
    matrix = []
    for row in rows:
        cosines = [cosine(row, column) for column in columns]
        highest = max(cosines, default=0.0)
        exps = [math.exp((c - highest) / temperature) if c >= similarity else 0.0 for c in cosines]
        total = sum(exps)
        matrix.append([e / total if total > 0 else 0.0 for e in exps])
    return matrix


def propagate(
    features: Tensor,
    similarity: float,
    temperature: float,
    num_steps: int,
    *,
    reference: bool = False,
    least: float = 0.0,
) -> tuple[list[float], list[int]]:
    """Scores (w P^n) / d and degrees of one resolution, features (N, D)."""
    tokens = features.double().tolist()
    matrix = transition(tokens, tokens, similarity, temperature)
    degrees = []
    for i, row in enumerate(matrix):
        if sum(row) == 0:  # no neighbour: uniform as published, or on its own
            matrix[i] = (
                [1 / len(row)] * len(row) if reference else [float(j == i) for j in range(len(row))]
            )
        degrees.append(sum(p > least for p in matrix[i]))
    weights = [norm(token) for token in tokens]
    for _ in range(num_steps):
        columns = zip(*matrix, strict=True)
        weights = [sum(w * p for w, p in zip(weights, column, strict=True)) for column in columns]
    return [w / d for w, d in zip(weights, degrees, strict=True)], degrees


def cross(
    base: Tensor,
    grid: Tensor,
    pruned: list[int],
    similarity: float,
    temperature: float,
    *,
    reference: bool = False,
) -> tuple[list[float], list[int]]:
    """Cross-resolution term and degrees of one frame, (N1, D) and (N2, D)."""
    kept_out = [grid[j].double().tolist() for j in pruned]
    weights = [norm(token) for token in kept_out]
    scores, degrees = [], []
    for row in transition(base.double().tolist(), kept_out, similarity, temperature):
        degree = sum(p > 0 for p in row)
        if degree > 0:
            score = sum(p * w for p, w in zip(row, weights, strict=True)) / degree
        elif reference and pruned:
            degree, score = len(pruned), sum(weights) / len(pruned) / len(pruned)
        else:
            score = 0.0
        scores.append(score)
        degrees.append(degree)
    return scores, degrees


def keep_order(
    base_scores: list[float], grid_scores: list[float], base_share: float, layout: FrameLayout
) -> list[int]:
    """Take one content token after the other, and the newline of a row after its first token."""
    base_rank = sorted(range(len(base_scores)), key=lambda i: -base_scores[i])
    grid_rank = sorted(range(len(grid_scores)), key=lambda i: -grid_scores[i])
    order: list[int] = []
    opened: set[int] = set()
    num_base = 0
    for n in range(1, len(base_scores) + len(grid_scores) + 1):
        wanted = max(int(n * base_share), n - len(grid_scores))
        wanted = min(wanted, len(base_scores))
        if wanted > num_base:
            order.append(base_rank[num_base])
            num_base = wanted
            continue
        row, column = divmod(grid_rank[n - 1 - num_base], layout.columns)
        order.append(layout.num_base + row * (layout.columns + 1) + column)
        if row not in opened:
            opened.add(row)
            order.append(layout.num_base + row * (layout.columns + 1) + layout.columns)
    return order


def water_fill(
    weights: list[Fraction], budget: int, floors: list[int], caps: list[int]
) -> list[int]:
    """Search every pair of neighbouring breakpoints, in exact fractions."""
    target = min(budget, sum(caps))
    real = [Fraction(floor) for floor in floors]
    positive = [i for i, w in enumerate(weights) if w > 0]
    zero = [i for i, w in enumerate(weights) if w == 0]
    unit = [w if w > 0 else Fraction(1) for w in weights]
    for group in (positive, zero):
        others = sum(real[i] for i in range(len(weights)) if i not in group)
        wanted = min(Fraction(target) - others, Fraction(sum(caps[i] for i in group)))
        levels = sorted({Fraction(b[i]) / unit[i] for i in group for b in (floors, caps)})
        for low, high in itertools.pairwise(levels):
            at = [pour(level, unit, floors, caps, group) for level in (low, high)]
            if at[0] <= wanted <= at[1] and at[0] < at[1]:
                level = low + (high - low) * (wanted - at[0]) / (at[1] - at[0])
                for i in group:
                    real[i] = min(max(level * unit[i], Fraction(floors[i])), Fraction(caps[i]))
                break
    share = [math.floor(x) for x in real]
    by_remainder = sorted(range(len(real)), key=lambda i: share[i] - real[i])
    for i in by_remainder[: target - sum(share)]:
        share[i] += 1
    return share


def pour(
    level: Fraction, unit: list[Fraction], floors: list[int], caps: list[int], group: list[int]
) -> Fraction:
    return sum(
        (min(max(level * unit[i], Fraction(floors[i])), Fraction(caps[i])) for i in group),
        Fraction(0),
    )


def snapped(x: float) -> float:
    return round(x * 2**20) / 2**20


def coverage(candidates: Candidates, runs: Sequence[range], budget: int) -> list[int]:
    """The candidates that cover all of them best, in the order of choice."""
    frames = [f for f, count in enumerate(candidates.counts) for _ in range(count)]
    tokens = candidates.features.double().tolist()
    flat, runs_of = (
        candidates.order.tolist(),
        [[i in run for i in range(len(tokens))] for run in runs],
    )

    def similarity(i: int, j: int) -> float:
        together = any(own[i] and own[j] for own in runs_of)
        times = [candidates.frame_indices[frames[k]] for k in (i, j)]
        near = max(0.0, 1 - abs(times[0] - times[1]) / 8)
        return snapped(together * near * snapped(max(0.0, cosine(tokens[i], tokens[j]))) ** 4)

    def area(i: int) -> float:
        layout = candidates.layouts[frames[i]]
        is_light = flat[i] >= layout.num_base or layout.rows == 0
        return 1.0 if is_light else layout.num_grid / layout.num_base

    places = range(len(tokens))
    table = [[similarity(i, j) for j in places] for i in places]
    weights = [snapped(area(i) / max(sum(table[i]), 1.0)) for i in places]
    prior = [snapped(0.1 * (k - place) / k) for k in candidates.counts for place in range(k)]
    covered, chosen = [0.0] * len(tokens), list[int]()
    costs = list(candidates.frame_costs) or [0] * len(candidates.counts)
    while len(chosen) < min(budget, len(tokens)):
        gains = [
            prior[j]
            + sum(
                w * max(0.0, row[j] - c) for w, row, c in zip(weights, table, covered, strict=True)
            )
            for j in places
        ]
        free = [j for j in places if j not in chosen]
        keys = significant_bits(tensor(gains)).tolist()
        for frame, cost in enumerate(costs):
            own = [j for j in places if frames[j] == frame]
            first = max(own, key=lambda j: (keys[j], -j))
            sums = itertools.accumulate(sorted((gains[j] for j in own), reverse=True))
            worth = max(total / (k + cost) for k, total in enumerate(sums, 1))
            if cost:
                keys = [-1 if j in own else key for j, key in enumerate(keys)]
                keys[first] = int(significant_bits(tensor([worth])))
        best = max(free, key=lambda j: (keys[j], -j))
        chosen.append(best)
        costs[frames[best]] = 0
        covered = [max(c, row[best]) for c, row in zip(covered, table, strict=True)]
    return chosen
