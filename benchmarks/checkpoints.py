"""One table of evaluations of the same question set with several checkpoints, side by side.

``python -m benchmarks.checkpoints FOLDER FOLDER ...``, each of which ``streaming.evaluate`` wrote:
of each row at each budget the share of questions answered right with its interval, the difference
from the baseline of the same run, and the mean over question types, by checkpoint. A difference
that lies on one side of 0 with its whole interval, and that with every checkpoint, is set in bold.
``--summary`` prints a line a row instead, of shares alone: those above the baseline in that sense
are bold, those below it in italics.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Scores = Mapping[tuple[str, str], Mapping[str, Any]]
"""By row and column, as ``table.json`` tells them."""


def to_markdown(tables: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what ``table.json`` of each checkpoint says.

    Raises:
        ValueError: their rows, columns or baselines are not the same.
    """
    runs = _runs(tables)
    against = f"against {tables[0]['baseline']}"
    head = ["kept", "method", "all", against, "mean of types", "entering"]
    return _table(head, [_cells(runs, place) for place in runs[0]])


def to_summary(tables: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each row, of the shares of all questions answered right.

    Raises:
        ValueError: as in :func:`to_markdown`.
    """
    runs = _runs(tables)
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*runs[0], strict=True))
    cells = [[f"`{row}`", *(_shares(runs, (row, kept)) for kept in columns)] for row in rows]
    return _table(["method", *(f"kept {kept}" for kept in columns)], cells)


def _runs(tables: Sequence[Mapping[str, Any]]) -> list[Scores]:
    runs: list[Scores] = [{(s["row"], s["kept"]): s for s in table["scores"]} for table in tables]
    baselines = {table["baseline"] for table in tables}
    if len(baselines) > 1 or any(set(run) != set(runs[0]) for run in runs):
        places = [list(run) for run in runs]
        raise ValueError(f"evaluations of other rows, budgets or baselines: {places} {baselines}")
    return runs


def _shares(runs: Sequence[Scores], place: tuple[str, str]) -> str:
    if place not in runs[0]:
        return ""
    text = " / ".join(f"{100 * run[place]['accuracy']['all']:.1f}" for run in runs)
    intervals = [run[place]["change_interval"] for run in runs]
    mark = {1: "**", -1: "*"}.get(_common_sign([each for each in intervals if each]), "")
    return f"{mark}{text}{mark}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *rows)) + "\n"


def _cells(runs: Sequence[Scores], place: tuple[str, str]) -> list[str]:
    row, kept = place
    scores = [run[place] for run in runs]
    return [
        kept,
        f"`{row}`",
        " / ".join(_share(score, "all") for score in scores),
        _changes(scores),
        " / ".join(f"{100 * score['accuracy']['mean of types']:.1f}" for score in scores),
        f"{scores[0]['num_entering_tokens']:.0f}",
    ]


def _share(score: Mapping[str, Any], name: str) -> str:
    low, high = score["interval"][name]
    return f"{100 * score['accuracy'][name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _changes(scores: Sequence[Mapping[str, Any]]) -> str:
    known = [score for score in scores if score["change_interval"]]
    texts = [_change(score["change"], score["change_interval"]) for score in known]
    is_clear = _common_sign([score["change_interval"] for score in known]) != 0
    return " / ".join(f"**{text}**" if is_clear else text for text in texts)


def _change(change: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _common_sign(intervals: Sequence[Sequence[float]]) -> int:
    """Return the side of 0 on which all intervals lie, 0 where there is none."""
    signs = {(low > 0) - (high < 0) for low, high in intervals}
    return signs.pop() if len(signs) == 1 else 0


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="that streaming.evaluate wrote")
    parser.add_argument("--summary", action="store_true", help="a line a row, shares alone")
    options = parser.parse_args()
    tables = [json.loads((folder / "table.json").read_text()) for folder in options.folders]
    print(to_summary(tables) if options.summary else to_markdown(tables), end="")


if __name__ == "__main__":
    main()
