from typing import Any

import pytest

from benchmarks.checkpoints import to_markdown, to_summary


def score(row: str, right: float, change: tuple[float, float, float] | None) -> dict[str, Any]:
    return {
        "row": row, "kept": "0.1", "accuracy": {"all": right, "mean of types": right - 0.01},
        "interval": {"all": [right - 0.02, right + 0.02]}, "num_entering_tokens": 41.6,
        "change": change and change[0], "change_interval": change and change[1:],
    }  # fmt: skip


def table(*changes: tuple[float, float, float]) -> dict[str, Any]:
    rows = [score(f"row {number}", 0.9, change) for number, change in enumerate(changes)]
    return {"baseline": "base", "scores": [score("base", 0.8, None), *rows]}


def test_checkpoints_stand_side_by_side_and_only_what_all_show_is_bold() -> None:
    clear, unclear, against = (0.1, 0.05, 0.15), (0.1, -0.01, 0.2), (-0.1, -0.2, -0.05)
    text = to_markdown([table(clear, clear, clear), table(clear, unclear, against)])
    assert text.splitlines() == [
        "| kept | method | all | against base | mean of types | entering |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 0.1 | `base` | 80.0 [78.0, 82.0] / 80.0 [78.0, 82.0] |  | 79.0 / 79.0 | 42 |",
        "| 0.1 | `row 0` | 90.0 [88.0, 92.0] / 90.0 [88.0, 92.0] "
        "| **+10.0 [+5.0, +15.0]** / **+10.0 [+5.0, +15.0]** | 89.0 / 89.0 | 42 |",
        "| 0.1 | `row 1` | 90.0 [88.0, 92.0] / 90.0 [88.0, 92.0] "
        "| +10.0 [+5.0, +15.0] / +10.0 [-1.0, +20.0] | 89.0 / 89.0 | 42 |",
        "| 0.1 | `row 2` | 90.0 [88.0, 92.0] / 90.0 [88.0, 92.0] "
        "| +10.0 [+5.0, +15.0] / -10.0 [-20.0, -5.0] | 89.0 / 89.0 | 42 |",
    ]


def test_a_summary_marks_what_every_checkpoint_shows() -> None:
    clear, unclear, against = (0.1, 0.05, 0.15), (0.1, -0.01, 0.2), (-0.1, -0.2, -0.05)
    tables = [table(clear, clear, against), table(clear, unclear, against)]
    for each in tables:
        each["scores"].append({**score("none", 0.95, None), "kept": "1"})
    assert to_summary(tables).splitlines() == [
        "| method | kept 0.1 | kept 1 |",
        "| --- | --- | --- |",
        "| `base` | 80.0 / 80.0 |  |",
        "| `row 0` | **90.0 / 90.0** |  |",
        "| `row 1` | 90.0 / 90.0 |  |",
        "| `row 2` | *90.0 / 90.0* |  |",
        "| `none` |  | 95.0 / 95.0 |",
    ]


def test_evaluations_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="evaluations of other rows, budgets or baselines"):
        to_markdown([table(), table((0.0, 0.0, 0.0))])
    with pytest.raises(ValueError, match="evaluations of other rows, budgets or baselines"):
        to_summary([table(), {**table(), "baseline": "other"}])
