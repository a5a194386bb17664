import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.checkpoints import rewrite_checkpoint
from tests.clips import draw_clip

QUESTION = "What color is the cat?"


def check_failure(result: Any, status: int, message: str) -> None:
    assert (result.status, result.out) == (status, "")
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", result.err), result.err


CLIP_ERRORS = {
    "missing.mp4": "missing.mp4: No such file or directory",
    "text.mp4": "text.mp4: is not a video",
    "empty.mp4": "the file is empty",
    ".": "is a directory",
}


@pytest.mark.parametrize("name", CLIP_ERRORS)
def test_a_clip_that_cannot_be_read_is_one_line(run: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("this is text\n" * 99)
    (tmp_path / "empty.mp4").touch()
    check_failure(run(str(tmp_path / name), QUESTION), 1, re.escape(CLIP_ERRORS[name]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the question is empty"),
        (["Why?", "  "], "the question is empty"),
        ([], "no question: give one after the video, or --interactive"),
        (["Why?", "--choice", "red"], "a single choice is none: give another beside 'red'"),
        (["Why?", "--choice", "a", "--choice", " "], "--choice is empty"),
        (["Why?", "--choice", "a", "--choice", "a"], "choice 'a' is given twice: leave one out"),
        (["Why?", "--choice", "a", "--choice", "a "], "choices 'a' and 'a ' are the same tokens"),
        (["Why?", "--json-schema", "seen.json"], "--json-schema: not a JSON object: give the"),
        (["Why?", "--json-schema", '{"not": {}}'], '--json-schema: Unimplemented keys: ["not"]'),
        (
            ["Why?", "--json-schema", "{}", "--choice", "a", "--choice", "b"],
            "choices and --json-schema both say what an answer may be: give one",
        ),
        (["Why?", "--buget", "3"], "unrecognized arguments: --buget 3; did you mean --budget?"),
        (["Why?", "--clips-in-flight", "3"], "unrecognized arguments: --clips-in-flight 3"),
        (["Why?", "--num-fram=3"], "unrecognized arguments: --num-fram=3; did you mean --num-fr"),
        (["Why?", "--num-frames", "0"], "--num-frames 0: must be at least 1 and at most"),
        (["Why?", "--num-frames", "x"], "argument --num-frames: invalid int value: 'x'"),
        (["Why?", "--num-frames", "3", "--fps", "1"], "give --num-frames or --fps, not both"),
        (["Why?", "--budget", "0"], "--budget 0: must be at least 1"),
        (["Why?", "--budget", "3", "--keep-ratio", "1"], "give --budget or --keep-ratio, not both"),
        (["Why?", "--keep-ratio", "1.01"], "--keep-ratio 1.01: must be above 0 and at most 1"),
        (["Why?", "--fps", "0"], "--fps 0: must be above 0 and at most 100,000"),
        (["Why?", "--fps", "nan"], "--fps nan: must be a finite number"),
        (["Why?", "--start", "9"], "--start 9 s is outside the clip, which is shown from 0.000"),
        (["Why?", "--start", "1", "--end", "0.5"], "--end 0.5 s is not after --start 1 s"),
        (["Why?", "--decoder", "vlc"], "argument --decoder: invalid choice: 'vlc'"),
        (["Why?", "--headroom", "inf"], "--headroom inf: "),
        (["Why?", "--temperature", "nan"], "--temperature nan: "),
        (["Why?", "--config", "no.yaml"], "--config no.yaml: No such file or directory"),
        (["Why?", "--report", "no/page.html"], "--report no/page.html: its folder does not exist"),
    ],
)
def test_a_wrong_command_is_one_line(
    run: Any, clip: str, arguments: list[str], message: str
) -> None:
    check_failure(run(clip, *arguments), 2, re.escape(message))


def test_a_wrong_file_of_options_is_one_line(run: Any, clip: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("num_frame: 3\n")
    result = run(clip, QUESTION, "--config", str(config))
    check_failure(result, 2, "unknown option 'num_frame'; did you mean num_frames")


def test_a_flag_can_put_right_what_a_file_contradicts(run: Any, clip: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("budget: 0\n")
    settings = ["--num-frames", "2", "--max-new-tokens", "1"]
    assert run(clip, QUESTION, "--config", str(config), "--budget", "9", *settings).status == 0


@pytest.mark.parametrize("longest", ["40000", "100000"])
def test_an_answer_that_cannot_fit_is_one_line(run: Any, clip: str, longest: str) -> None:
    result = run(clip, QUESTION, "--max-new-tokens", longest)
    message = (
        rf"the question takes \d+ tokens and the answer up to {longest}, which leaves no room for "
        r"a frame in the model's context of 32768: shorten the question or lower --max-new-tokens"
    )
    check_failure(result, 1, message)


@pytest.mark.parametrize("settings", [[], ["--budget", "9"], ["--pruner", "none"]])
def test_a_question_that_cannot_fit_is_one_line(run: Any, clip: str, settings: list[str]) -> None:
    result = run(clip, "why " * 20_000, "--num-frames", "2", *settings)
    check_failure(result, 1, r"4\d{4} tokens .* context (of|holds) 32768: .*question")


def test_a_budget_that_cannot_fit_is_one_line_before_any_work(
    run: Any, clip: str, checkpoint: Path, tmp_path: Path
) -> None:
    config = {"text_config": small_context(checkpoint, 300)}
    folder = rewrite_checkpoint(checkpoint, tmp_path / "small", config=config)
    settings = ["--max-new-tokens", "5", "--num-frames", "9"]
    result = run(clip, QUESTION, "--budget", "400", *settings, model=str(folder))
    check_failure(result, 1, r"400 visual \+ 5 of the answer make 4\d\d, but .* lower --budget")
    result = run(clip, QUESTION, "--pruner", "none", *settings, model=str(folder))
    check_failure(result, 1, r"468 visual \+ 5 of the answer make \d+, but .* lower --num-frames")


def small_context(checkpoint: Path, length: int) -> dict[str, Any]:
    config = json.loads((checkpoint / "config.json").read_text())["text_config"]
    return dict(config) | {"max_position_embeddings": length}


@pytest.mark.parametrize("model", ["no such model", "/no/such/folder"])
def test_an_unknown_model_is_one_line(run: Any, clip: str, model: str) -> None:
    check_failure(run(clip, QUESTION, model=model), 1, f"unknown model '{model}'")


def test_a_folder_that_is_no_checkpoint_is_one_line(run: Any, clip: str, tmp_path: Path) -> None:
    check_failure(run(clip, QUESTION, model=str(tmp_path)), 1, r"no config\.json")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("layers.1.mlp.fc1.weight", "for the CLIPVisionModel"),
        ("image_newline", "no image_newline"),
        ("linear_2.weight", "projector: "),
    ],
)
def test_a_checkpoint_with_gaps_is_one_line(
    run: Any, clip: str, checkpoint: Path, tmp_path: Path, without: str, message: str
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "gap", without=without)
    result = run(clip, QUESTION, model=str(folder))  # frames are read while models are loaded
    check_failure(result._replace(err=result.err.splitlines(keepends=True)[-1]), 1, message)
    assert "Traceback" not in result.err


def test_a_checkpoint_with_broken_settings_is_one_line(
    run: Any, clip: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint, folder)
    (folder / "processor_config.json").write_text("{")
    check_failure(run(clip, QUESTION, model=str(folder)), 1, r"processor_config\.json")


@pytest.mark.parametrize(("width", "height"), [(16, 1024), (1024, 16)])
def test_a_clip_as_narrow_as_a_line_is_answered_or_one_line(
    run: Any, tmp_path: Path, width: int, height: int
) -> None:
    path = draw_clip(tmp_path / "line.mp4", num_frames=3, width=width, height=height)
    result = run(str(path), QUESTION, "--max-new-tokens", "3")
    assert (result.status, result.out != "") in {(0, True), (1, False)}


def test_a_budget_below_one_timestamp_is_one_line(run: Any, clip: str) -> None:
    result = run(clip, QUESTION, "--budget", "1", "--timestamps")
    check_failure(result, 2, r"--budget 1 does not pay for one frame and its timestamp of \d+ tok")


def test_a_layer_that_the_model_does_not_have_is_one_line(run: Any, clip: str) -> None:
    result = run(clip, QUESTION, "--pruner", "fastv", "--budget", "50", "--fastv-layer", "99")
    check_failure(result, 2, "--fastv-layer 99 is out of range")


def test_unpruned_takes_no_budget(run: Any, clip: str) -> None:
    result = run(clip, QUESTION, "--pruner", "none", "--budget", "50")
    check_failure(result, 2, "leave out --budget and --keep-ratio")


@pytest.mark.parametrize("pruner", ["evs", "vidcom2", "tome", "vcast", "floc", "flashvid"])
def test_a_method_that_keeps_to_the_cap_takes_a_still_picture(
    run: Any, tmp_path: Path, pruner: str
) -> None:
    path = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((150, 97)).convert("RGB").save(path)
    result = run(str(path), QUESTION, "--pruner", pruner, "--budget", "20", "--json")
    assert [answer["num_visual_tokens"] for answer in result.objects] == [20]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "https://example.org/a.mp4",
            "is an address that is not read; give a path, or a URI of s3:",
        ),
        (
            "rtsp://camera/1",
            "is an address that is not read; give a path, or a URI of s3://, gs://",
        ),
        ("file:///no/such.mp4", "file:///no/such.mp4: no file is there"),
        ("data:x,y", "only paths of local files are taken here"),
    ],
)
def test_an_address_is_one_line(run: Any, address: str, message: str) -> None:
    check_failure(run(address, QUESTION), 1, message)
