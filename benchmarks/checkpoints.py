"""One table of evaluations of the same question set with several checkpoints, side by side.

``python -m benchmarks.checkpoints FOLDER FOLDER ...``, each of which ``streaming.evaluate`` wrote:
of each row at each budget the share of questions answered right with its interval, the difference
from the baseline of the same run, and the mean over question types, by checkpoint. A difference
that lies on one side of 0 with its whole interval, and that with every checkpoint, is set in bold.
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
    runs = [{(s["row"], s["kept"]): s for s in table["scores"]} for table in tables]
    places = [list(run) for run in runs]
    baselines = {table["baseline"] for table in tables}
    if len(baselines) > 1 or any(set(each) != set(places[0]) for each in places):
        raise ValueError(f"evaluations of other rows, budgets or baselines: {places} {baselines}")
    head = ["kept", "method", "all", f"against {baselines.pop()}", "mean of types", "entering"]
    lines = [_line(head), _line(["---"] * len(head))]
    return "\n".join([*lines, *(_line(_cells(runs, place)) for place in places[0])]) + "\n"


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
    signs = {_sign(score["change_interval"]) for score in known}
    is_clear = len(signs) == 1 and signs != {0}
    return " / ".join(f"**{text}**" if is_clear else text for text in texts)


def _change(change: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * change:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _sign(interval: Sequence[float]) -> int:
    """Return the side of 0 on which an interval lies, 0 for both."""
    low, high = interval
    return (low > 0) - (high < 0)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="that streaming.evaluate wrote")
    folders = parser.parse_args().folders
    tables = [json.loads((folder / "table.json").read_text()) for folder in folders]
    print(to_markdown(tables), end="")


if __name__ == "__main__":
    main()
