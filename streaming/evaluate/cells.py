"""The rows and columns of an evaluation: which methods or variants, at which budgets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import yaml

from pruner import METHODS
from streaming.command import suggest
from streaming.flags import change, flat
from streaming.option_groups import BudgetOptions, FrameOptions
from streaming.options import Options
from streaming.sample import DEFAULT_NUM_FRAMES
from workers.errors import InputError

UNPRUNED = "none"
DEFAULT_KEEP_RATIOS = (1.0, 0.5, 0.3, 0.1, 0.05)
_SETTLED = ("budget", "keep_ratio", "num_frames", "fps", "seed", "model", "device", "dtype",
            "bank", "bank_gib")  # fmt: skip


CellKey = tuple[str, str, int]
"""Row, column and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row at one budget: a fraction of the unpruned tokens of both resolutions, or a number.

    ``frame_factor`` is how many times the question set's frames the row looks at, at that same
    budget.
    """

    row: str
    options: Options
    keep_ratio: float | None = None
    budget: int | None = None
    frame_factor: float = 1.0

    @property
    def kept(self) -> str:
        """Name of the column."""
        return f"{self.keep_ratio:g}" if self.budget is None else f"{self.budget} tokens"

    @property
    def key(self) -> CellKey:
        """What tells this cell's answers from others'."""
        return self.row, self.kept, self.options.generation.seed

    def frames(self, num_frames: int | None) -> FrameOptions:
        """Return which frames are looked at of a clip for which the set wants ``num_frames``.

        A number or a rate that the options give goes before that of the question set.
        """
        frames = self.options.frames
        if frames.fps is not None:
            return replace(frames, fps=frames.fps * self.frame_factor)
        wanted = frames.num_frames or num_frames or DEFAULT_NUM_FRAMES
        return replace(frames, num_frames=max(1, round(wanted * self.frame_factor)))

    def budgeted(self, num_tokens: int, own_tokens: int) -> BudgetOptions:
        """Return the options of the budget for a clip that has ``num_tokens`` unpruned.

        A fraction is that of ``ask``: of visual tokens, with timestamps paid on top of it.

        Args:
            num_tokens: of both resolutions of the question set's frames.
            own_tokens: of the frames that this row looks at, above 0.
        """
        budget = self.options.budget
        if self.options.pruning.pruner == UNPRUNED:
            return budget
        if self.budget is not None:
            return replace(budget, budget=self.budget)
        share = (self.keep_ratio or 1.0) * num_tokens / own_tokens
        return replace(budget, keep_ratio=min(1.0, share))


def make_cells(
    options: Options,
    *,
    pruners: Sequence[str],
    variants: Sequence[str],
    keep_ratios: Sequence[float],
    budgets: Sequence[int],
    num_seeds: int,
) -> list[Cell]:
    """Return every cell, a row for each pruner and then for each variant.

    ``none`` is asked once and stands at the fraction 1, which other pruners then leave out;
    ``random`` is asked once for each seed.

    Raises:
        InputError: a variant or a fraction is not valid.
    """
    for ratio in keep_ratios:
        if not 0 < ratio <= 1:
            raise InputError(f"--keep-ratios {ratio:g}: must be above 0 and at most 1")
    for budget in budgets:
        if budget < 1:
            raise InputError(f"--budgets {budget}: must be at least 1")
    rows = [(name, change(options, {"pruner": name}, source="--pruners"), 1.0) for name in pruners]
    rows += [_variant(options, text) for text in variants]
    if len({row for row, _, _ in rows}) < len(rows):
        raise InputError("a row is named twice: give each pruner or variant once")
    has_unpruned = any(chosen.pruning.pruner == UNPRUNED for _, chosen, _ in rows)
    cells = []
    for row, chosen, factor in rows:
        columns: list[tuple[float | None, int | None]] = [(1.0, None)]
        if chosen.pruning.pruner != UNPRUNED:
            ratios = [ratio for ratio in keep_ratios if not (has_unpruned and ratio == 1)]
            columns = [*((r, None) for r in ratios), *((None, b) for b in budgets)]
        first = options.generation.seed
        draws = num_seeds if METHODS[chosen.pruning.pruner].is_random else 1
        cells += [
            Cell(
                row=row,
                options=change(chosen, {"seed": seed}, source="--seed"),
                keep_ratio=ratio,
                budget=budget,
                frame_factor=factor,
            )
            for ratio, budget in columns
            for seed in range(first, first + draws)
        ]
    return cells


def _variant(options: Options, text: str) -> tuple[str, Options, float]:
    """Read ``option=value,option=value``, or the same behind ``name:``, on top of the options."""
    name_of_row, colon, settings = text.partition(":")
    row, settings = (name_of_row.strip(), settings) if colon else (text, text)
    valid = [name for name in flat(options) if name not in _SETTLED]
    changes: dict[str, object] = {}
    factor = 1.0
    for part in settings.split(","):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        if name == "frame_factor" and equals:
            factor = _factor(value)
        elif equals and name in valid:
            changes[name] = yaml.safe_load(value)
        else:
            hint = suggest(name, [*valid, "frame_factor"])
            raise InputError(f"--variant {text}: {name!r} cannot be varied{hint}")
    return row, change(options, changes, source="--variant"), factor


def _factor(value: str) -> float:
    try:
        factor = float(value)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise InputError(f"--variant frame_factor={value}: must be a number above 0")
    return factor
