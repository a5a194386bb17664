import json
import shlex
from pathlib import Path

import pytest

from streaming.bench.concurrency import Load
from streaming.bench.plots import draw
from streaming.bench.report import describe_run, to_markdown, write_report
from streaming.bench.run import Outcome
from streaming.options import Options
from tests.streaming.bench.conftest import MakePoint
from workers.errors import InputError

DESCRIBED = describe_run(Options(), ["--output", "out"])


@pytest.fixture
def outcome(make_point: MakePoint) -> Outcome:
    load = Load(
        num_clients=4, num_questions=16, questions_per_second=2.5, seconds_p50=1.0, seconds_p95=3.5
    )
    return Outcome(
        peak_flops=1e10,
        points=[
            make_point(1.0, 2.0, 3.0, accuracy=0.75),
            make_point(3.0, 5.0, 9.0, system="transformers"),
            make_point(2.0, num_frames=16),
            make_point(system="transformers", num_frames=16, error="out | of memory"),
        ],
        loads=[("mr-stream, mr_pruner, local", load)],
    )


def rows(text: str, beginning: str) -> list[list[str]]:
    """Return the cells of the rows of the table whose head begins so."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {beginning}"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line[1:-1].replace("\\|", "/").split("|")])
    return [found[0], *found[2:]]


def test_the_first_table_tells_what_one_waits_for(outcome: Outcome) -> None:
    head, ours, theirs, more, none = rows(to_markdown(DESCRIBED, outcome), "frames | system")
    table = [dict(zip(head, row, strict=True)) for row in (ours, theirs, more, none)]
    assert table[0]["answer p50, s"] == "2.00"
    assert table[0]["times as long as the first"] == ""
    assert table[0]["accuracy"] == "75.0 %"
    assert table[0]["memory, MiB"] == "4"
    assert table[1]["times as long as the first"] == "3.00 (2.75-3.00)"
    assert table[2]["frames"] == "16"
    assert table[2]["times as long as the first"] == ""
    assert (table[3]["answer p50, s"], table[3]["remark"]) == ("", "out / of memory")


def test_the_second_table_tells_where_it_goes(outcome: Outcome) -> None:
    tables = to_markdown(DESCRIBED, outcome).split("Busy seconds")[1]
    head, *body = rows(tables, "frames | system")
    assert len(body) == 3  # nothing is known of the fourth
    row = dict(zip(head, body[0], strict=True))
    assert (row["decode"], row["sum"], row["wall"]) == ("1.000", "2.00", "2.00")
    assert (row["vision, of peak"], row["prefill, of peak"]) == ("20 %", "40 %")


def test_clients_have_a_table(outcome: Outcome) -> None:
    _, row = rows(to_markdown(DESCRIBED, outcome), "system | clients")
    assert row == ["mr-stream, mr_pruner, local", "4", "2.50", "1.00", "3.50"]


def test_the_json_holds_every_trial_and_what_it_was_measured_on(
    tmp_path: Path, outcome: Outcome
) -> None:
    text = write_report(tmp_path, DESCRIBED, outcome)
    assert (tmp_path / "bench.md").read_text() == text
    values = json.loads((tmp_path / "bench.json").read_text())
    assert values["command"] == "python -m streaming.bench --output out"
    assert values["versions"]["torch"][0].isdigit()
    assert "cores" in values["hardware"]
    assert [len(point["trials"]) for point in values["points"]] == [3, 3, 1, 0]
    assert values["points"][1]["trials"][2]["elapsed_seconds"] == 9.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_the_command_can_be_pasted_into_a_shell() -> None:
    words = ["my clip.mp4", "--output", "it's out"]
    command = describe_run(Options(), words)["command"]
    assert shlex.split(command) == ["python", "-m", "streaming.bench", *words]


def test_four_pictures_where_there_is_everything(tmp_path: Path, outcome: Outcome) -> None:
    pictures = draw(tmp_path, outcome, "python -m streaming.bench --output out")
    assert [picture.name for picture in pictures] == [
        "stages.png", "latency.png", "accuracy.png", "clients.png"
    ]  # fmt: skip
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_two_pictures_where_there_are_neither_answers_nor_clients(
    tmp_path: Path, make_point: MakePoint
) -> None:
    pictures = draw(tmp_path, Outcome(points=[make_point(1.0)]), "")
    assert [picture.name for picture in pictures] == ["stages.png", "latency.png"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, outcome: Outcome) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--output .*file"):
        write_report(tmp_path / "file", DESCRIBED, outcome)
