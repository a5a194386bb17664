"""``--bank``, and entries asked without their videos, as a user meets them."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pruner import METHODS
from streaming.batch import command
from tests.checkpoints import rewrite_checkpoint
from tests.clips import draw_clip
from tests.streaming.test_ask_errors import check_failure
from tests.test_imports import loaded_by
from tests.workers.disk.entries import damage
from workers.disk.entry import read_entry, write_entry

QUESTION = "What color is the cat?"
FRAMES = ["--num-frames", "4", "--max-new-tokens", "5"]


@pytest.fixture
def bank(tmp_path: Path) -> str:
    return str(tmp_path / "bank")


@pytest.fixture
def keep(run: Any, clip: str, tmp_path: Path, bank: str) -> Callable[..., tuple[str, Any]]:
    """Ask about a clip that is gone afterwards; returns its entry, and the answer."""

    def make(*arguments: str) -> tuple[str, Any]:
        copied = shutil.copyfile(clip, tmp_path / "gone.mp4")
        settings = ["--bank", bank, "--json", *FRAMES, *arguments]
        (answer,) = run(str(copied), QUESTION, *settings).objects
        copied.unlink()
        (entry,) = Path(bank).glob("*.safetensors")
        return str(entry.rename(tmp_path / "an entry.mp4")), answer

    return make


def without_cost(answer: dict[str, Any]) -> dict[str, Any]:
    names = ("seconds", "elapsed_seconds", "peak_memory_bytes", "bank", "num_encoded_tiles")
    return {name: value for name, value in answer.items() if name not in names}


def test_the_second_question_comes_from_the_bank(run: Any, clip: str, bank: str) -> None:
    settings = [*FRAMES, "--budget", "40"]
    plain = run(clip, QUESTION, *settings)
    first, second = (run(clip, QUESTION, *settings, "--bank", bank) for _ in range(2))
    assert plain.out == first.out == second.out
    assert plain.err.splitlines()[-1].endswith(" s in all")
    assert first.err.splitlines()[-1].endswith(" s in all; not from the bank")
    assert second.err.splitlines()[-1].endswith(" s in all; from the bank")
    assert "encode: 100%" in first.err
    assert "encode" not in second.err
    less = run(clip, QUESTION, *FRAMES, "--budget", "20", "--bank", bank)
    assert less.err.splitlines()[-1].endswith("; from the bank, made for a budget of 40")


def test_what_is_stored_depends_on_no_question(run: Any, clip: str, bank: str) -> None:
    settings = [*FRAMES, "--budget", "40", "--json"]
    run(clip, QUESTION, *settings, "--bank", bank)
    plain = run(clip, QUESTION, "Why?", *settings, "--question-aware").objects
    stored = run(clip, QUESTION, "Why?", *settings, "--question-aware", "--bank", bank).objects
    assert [each["bank"]["hit"] for each in stored] == [True, True]
    assert [{**without_cost(each), "num_encoded_tiles": 0} for each in stored] == [
        {**without_cost(each), "num_encoded_tiles": 0} for each in plain
    ]


def test_json_tells_of_the_bank(run: Any, clip: str, bank: str) -> None:
    settings = [*FRAMES, "--budget", "40", "--json"]
    told = [run(clip, QUESTION, *settings, *more).objects[0] for more in ([], ["--bank", bank])]
    again = run(clip, QUESTION, *settings, "--bank", bank).objects[0]
    assert [each["bank"] for each in (*told, again)] == [
        None, {"hit": False, "made_for_budget": 40}, {"hit": True, "made_for_budget": 40},
    ]  # fmt: skip
    assert [each["num_encoded_tiles"] for each in (*told, again)] == [20, 20, 0]
    assert without_cost(told[0]) == without_cost(again)


@pytest.mark.parametrize("pruner", METHODS)
def test_an_entry_is_asked_without_its_video(run: Any, keep: Any, bank: str, pruner: str) -> None:
    budget = [] if pruner == "none" else ["--budget", "60"]
    entry, made = keep("--pruner", pruner, *budget)
    (answer,) = run(entry, QUESTION, "--json", "--max-new-tokens", "5").objects
    assert without_cost(answer) == without_cost(made)
    assert answer["bank"] == {"hit": True, "made_for_budget": made["budget"]}


def test_an_entry_is_asked_with_the_options_it_was_made_with(run: Any, keep: Any) -> None:
    options = [
        "--pruner=random", "--seed=5", "--start=0.4", "--newlines=last", "--timestamps",
        "--no-novelty", "--high-resolution=none", "--attention=proportional", "--keep-ratio=0.5",
    ]  # fmt: skip
    entry, made = keep(*options)
    settings = [entry, QUESTION, "--json", "--max-new-tokens", "5"]
    (plain,) = run(*settings).objects
    (said_again,) = run(*settings, *FRAMES[:2], *options[:-1]).objects
    assert without_cost(plain) == without_cost(said_again) == without_cost(made)


def test_a_smaller_budget_is_served_down_to_fewer_frames(run: Any, keep: Any) -> None:
    entry, _ = keep("--pruner", "uniform", "--budget", "100")
    for budget, frames in ((99, 4), (30, 4), (3, 3), (1, 1)):
        settings = ["--json", "--max-new-tokens", "1", "--budget", str(budget)]
        (answer,) = run(entry, QUESTION, *settings).objects
        assert (answer["num_visual_tokens"], answer["num_frames"]) == (budget, frames)
    times = [frame["pts_seconds"] for frame in answer["frames"]]
    assert times == pytest.approx([1.0])


def test_fewer_frames_of_an_entry_are_those_of_the_video(run: Any, keep: Any, clip: str) -> None:
    entry, _ = keep("--pruner", "uniform", "--budget", "100", "--no-novelty")
    settings = ["--json", *FRAMES, "--pruner", "uniform", "--budget", "3", "--no-novelty"]
    (asked,), (fresh,) = (run(each, QUESTION, *settings).objects for each in (entry, clip))
    assert [asked[name] for name in ("answer", "frames")] == [fresh["answer"], fresh["frames"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--num-frames", "5"], "--num-frames 5: ENTRY was made with --num-frames 4; leave it"),
        (["--fps", "2"], "--fps 2.0: ENTRY was made with no --fps; leave it out, or ask the video"),
        (["--start", "1"], "--start 1.0: ENTRY was made with no --start"),
        (["--resize", "fast"], "--resize fast: ENTRY was made with --resize exact"),
        (
            ["--high-resolution=gated"],
            "--high-resolution gated: ENTRY was made with --high-resolution all",
        ),
        (["--pruner", "gprune"], "--pruner gprune: ENTRY was made with --pruner mr_pruner"),
        (["--pruner", "evs"], "--pruner evs: ENTRY was made with --pruner mr_pruner"),
        (["--newlines", "last"], "--newlines last: ENTRY was made with --newlines row"),
        (["--pruner-beta", "0.2"], "--pruner-beta 0.2: ENTRY was made with --pruner-beta 0.5"),
        (["--pruner-steps", "3"], "--pruner-steps 3: ENTRY was made with no --pruner-steps"),
        (["--dtype", "bfloat16"], "--dtype bfloat16: ENTRY was made with --dtype float32"),
        (["--budget", "66"], "ENTRY: serves a --budget of at most 60 so; lower it, or ask the vid"),
        (["--keep-ratio", "1"], "ENTRY: serves a --budget of at most 60 so"),
    ],
)
def test_what_an_entry_cannot_be_asked_is_one_line(
    run: Any, keep: Any, given: list[str], message: str
) -> None:
    entry, _ = keep("--budget", "60", "--headroom", "2")
    check_failure(run(entry, QUESTION, *given), 2, re.escape(message.replace("ENTRY", entry)))


def test_an_entry_is_asked_as_it_was_not_before(run: Any, keep: Any, clip: str) -> None:
    entry, _ = keep("--budget", "60")
    for extra in (["--attention=proportional"], ["--attention=proportional", "--question-aware"]):
        settings = [QUESTION, "--json", "--max-new-tokens", "5", "--budget", "60", *extra]
        (answer,) = run(entry, *settings).objects
        (expected,) = run(clip, *settings, *FRAMES).objects
        for name in ("answer", "frames", "num_visual_tokens", "num_entering_tokens"):
            assert answer[name] == expected[name]


def test_an_entry_that_knows_no_stand_ins_is_asked_plainly(run: Any, keep: Any) -> None:
    entry, _ = keep("--budget", "60")
    held = read_entry(entry, clip_id="")
    manifest = replace(held.manifest, pruning=replace(held.manifest.pruning, stand_ins=False))
    os.remove(entry)
    older = replace(held, manifest=manifest, ranked=replace(held.ranked, stand_ins=None))
    write_entry(Path(entry), older)
    told = f"{re.escape(entry)}: does not tell which tokens stand for others; use --attention plain"
    check_failure(run(entry, QUESTION, "--attention=proportional"), 2, told)
    assert run(entry, QUESTION, "--json", "--max-new-tokens", "1").objects


def test_more_headroom_than_an_entry_has_is_one_line(run: Any, keep: Any) -> None:
    entry, _ = keep("--budget", "8", "--no-novelty")
    result = run(entry, QUESTION, "--novelty", "--budget", "4")
    check_failure(result, 2, "holds at most 2 tokens of a frame; lower --headroom")


def test_another_model_is_one_line(run: Any, keep: Any, checkpoint: Path, tmp_path: Path) -> None:
    entry, made = keep("--budget", "60")

    def changed(name: str) -> str:
        def change(tensors: dict[str, Any]) -> dict[str, Any]:
            return {k: v * 1.5 if name in k else v for k, v in tensors.items()}

        return str(rewrite_checkpoint(checkpoint, tmp_path / name, changes=change))

    vision = run(entry, QUESTION, model=changed("vision_tower"))
    check_failure(vision, 2, "was made with another vision tower or projector than --model has")
    tiles = rewrite_checkpoint(
        checkpoint, tmp_path / "tiles", config={"image_grid_pinpoints": [[56, 112]]}
    )
    other = run(entry, QUESTION, model=str(tiles))
    check_failure(other, 2, "was made by a model that cuts other tiles than --model")
    language = run(entry, QUESTION, "--json", "--max-new-tokens", "5", model=changed("lm_head"))
    assert language.objects[0]["frames"] == made["frames"]


@pytest.mark.parametrize("name", ["cut in the data", "flip in the data", "flip in the name"])
def test_a_damaged_entry_is_one_line(run: Any, keep: Any, tmp_path: Path, name: str) -> None:
    entry, _ = keep("--budget", "60")
    content = Path(entry).read_bytes().replace(b"gone.mp4", b"the clip")
    Path(entry).write_bytes(content)
    damage(Path(entry), name)
    check_failure(run(entry, QUESTION), 1, "an entry.mp4: cannot be used as stored tokens")


def test_the_bank_is_refused_before_anything_is_done(run: Any, clip: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("missing.mp4", QUESTION, "--bank", str(tmp_path / "file"))
    check_failure(result, 2, "--bank .*file: is a file; give a folder")
    check_failure(run(clip, QUESTION, "--bank-gib", "0"), 2, "--bank-gib 0: must be above 0")


def test_a_bank_that_holds_nothing_so_large_costs_a_line(run: Any, clip: str, bank: str) -> None:
    result = run(clip, QUESTION, *FRAMES, "--bank", bank, "--bank-gib", "0.000001")
    assert result.status == 0
    assert result.out.strip()
    assert re.search(r"--bank .* takes [0-9.e-]+ GiB, more than --bank-gib 9.99e-07", result.err)


def test_the_report_of_an_entry_shows_its_pictures(run: Any, keep: Any, tmp_path: Path) -> None:
    entry, _ = keep("--budget", "60")
    page = tmp_path / "page.html"
    run(entry, QUESTION, "--report", str(page), "--max-new-tokens", "1")
    assert page.read_text(encoding="utf-8").count("data:image/jpeg;base64,") >= 4


def test_what_a_job_has_stored_answers_unless_its_pictures_are_wanted(
    run: Any, clip: str, bank: str, checkpoint: Path, tmp_path: Path
) -> None:
    settings = [*FRAMES, "--budget", "40", "--bank", bank]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"id": "a", "video": clip, "question": QUESTION}))
    model = ["--executor", "local", "--device", "cpu", "--model", str(checkpoint)]
    assert command.main([str(manifest), "--output", str(tmp_path / "out"), *model, *settings]) == 0
    report = ["--report", str(tmp_path / "page.html")]
    asked = [run(clip, QUESTION, "--json", *settings, *more) for more in ([], report, report)]
    assert [each.objects[0]["bank"]["hit"] for each in asked] == [True, False, True]


def test_an_entry_is_planned_before_anything_heavy_is_loaded(keep: Any) -> None:
    entry, _ = keep("--budget", "60")
    code = f"""
from streaming.served import entry_options
from workers.video.source import open_source
source = open_source({entry!r})
assert entry_options(source).budget.budget == 60
"""
    assert loaded_by(code) == "[]"


def test_a_long_clip_keeps_its_index_bar_and_its_warnings(
    run: Any, tmp_path: Path, bank: str
) -> None:
    path = draw_clip(tmp_path / "late.mkv", num_frames=30, gop=5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 900] = bytes(900)
    path.write_bytes(content)
    settings = ["--num-frames", "30", "--budget", "60", "--json", "--max-new-tokens", "1"]
    (made,) = run(str(path), QUESTION, *settings, "--bank", bank).objects
    path.unlink()
    (entry,) = Path(bank).glob("*.safetensors")
    (asked,) = run(str(entry), QUESTION, *settings).objects
    assert made["warnings"]
    assert asked["warnings"] == made["warnings"]
    assert len(asked["frames"]) < 30


def test_an_entry_is_used_wherever_it_is_asked_from(
    run: Any, clip: str, bank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(clip, QUESTION, *FRAMES, "--bank", bank)
    (entry,) = Path(bank).glob("*.safetensors")
    for arguments, used in (([], False), (["--bank", bank], True)):
        os.utime(entry, (0, 0))
        monkeypatch.chdir(bank)
        assert run(entry.name, QUESTION, "--max-new-tokens", "1", *arguments).status == 0
        assert (entry.stat().st_mtime > 0) == used
