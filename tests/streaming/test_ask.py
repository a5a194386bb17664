import io
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from pruner import METHODS
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import watch
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from tests.clips import draw_clip, paint_frame
from tests.workers.vision.pictures import draw_picture

QUESTION = "What color is the cat?"
LENGTH = 52  # visual tokens of an unpruned frame of the clip


def test_the_answer_and_nothing_else_goes_to_stdout(run: Any, clip: str) -> None:
    result = run(clip, QUESTION, "--num-frames", "4", "--max-new-tokens", "6")
    assert result.status == 0
    (answer,) = result.out.splitlines()
    assert len(answer.split()) == 6
    assert "decode: 100%" in result.err
    assert "encode: 100%" in result.err
    assert re.search(r"\n4 frames, 208 -> 208 visual tokens \(budget 4,096\); decode ", result.err)


def test_each_question_gets_its_line(run: Any, clip: str) -> None:
    settings = ["--num-frames", "4", "--max-new-tokens", "12"]
    both = run(clip, QUESTION, "How many people?", *settings)
    alone = [run(clip, question, *settings).out for question in (QUESTION, "How many people?")]
    assert both.out == "".join(alone)
    assert alone[0] != alone[1]


def test_with_choices_the_answer_is_one_of_them(
    run: Any, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is it?"))
    choices = ["two dogs on the street", "</s>", "12"]
    flags = [word for choice in choices for word in ("--choice", choice)]
    settings = ["--num-frames", "2", "--max-new-tokens", "1", "--interactive"]
    result = run(clip, QUESTION, *flags, *settings, "--temperature", "9")
    said = result.out.splitlines()
    assert (result.status, len(said)) == (0, 2)
    assert set(said) <= set(choices)
    (first, second) = run(clip, QUESTION, "Why?", *flags, "--num-frames", "2", "--json").objects
    assert (first["question"], second["question"]) == (QUESTION, "Why?")
    assert {first["answer"], second["answer"]} <= set(choices)


def test_with_a_schema_the_answer_is_json(run: Any, clip: str) -> None:
    schema = '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], '
    schema += '"additionalProperties": false}'
    result = run(clip, QUESTION, "Why?", "--num-frames", "2", "--json-schema", schema)
    assert result.status == 0
    assert len(result.out.splitlines()) == 2
    assert {line.strip() for line in result.out.splitlines()} <= {'{"n": 1}', '{"n": 2}'}


def test_json_tells_everything_in_one_object_a_question(run: Any, clip: str) -> None:
    settings = ["--num-frames", "4", "--budget", "30", "--max-new-tokens", "5"]
    result = run(clip, QUESTION, "Why?", "--json", *settings)
    first, second = result.objects
    assert first["video"] == clip
    assert (first["question"], second["question"]) == (QUESTION, "Why?")
    assert len(first["answer"].split()) == 5
    assert (first["num_frames"], first["budget"], first["num_visual_tokens"]) == (4, 30, 30)
    assert first["num_unpruned_tokens"] == 4 * LENGTH
    times = [frame["pts_seconds"] for frame in first["frames"]]
    assert times == pytest.approx([0.2, 0.6, 1.0, 1.4])
    assert sum(frame["num_visual_tokens"] for frame in first["frames"]) == 30
    stages = {"decode", "tile", "encode", "prune", "allocate", "prefill", "generate"}
    assert set(first["seconds"]) == stages
    assert min(first["seconds"].values()) >= 0
    assert first["elapsed_seconds"] > first["seconds"]["generate"]
    assert first["peak_memory_bytes"]["local"] > 50_000_000
    assert first["warnings"] == []
    assert first["answer"] == run(clip, QUESTION, *settings).out.strip()


def test_each_question_keeps_its_own_tokens_of_what_entered(run: Any, clip: str) -> None:
    settings = ["--question-aware", "--num-frames", "4", "--budget", "30", "--max-new-tokens", "5"]
    both = run(clip, QUESTION, "Why?", "--json", *settings).objects
    assert [each["num_entering_tokens"] for each in both] == [120, 120]
    assert [each["num_visual_tokens"] for each in both] == [30, 30]
    alone = [run(clip, each, "--json", *settings).objects[0] for each in ("Why?", QUESTION)]
    for name in ("answer", "frames", "num_visual_tokens"):
        assert [each[name] for each in both] == [each[name] for each in alone[::-1]]
    assert both[0]["frames"] != both[1]["frames"]
    closing = run(clip, QUESTION, *settings).err
    assert "208 -> 120 -> 30 visual tokens (budget 30)" in closing


def test_a_question_that_need_not_choose_gets_the_answer_of_the_clip(run: Any, clip: str) -> None:
    settings = ["--json", "--num-frames", "4", "--budget", "208", "--max-new-tokens", "5"]
    (plain,) = run(clip, QUESTION, *settings).objects
    (aware,) = run(clip, QUESTION, *settings, "--question-aware").objects
    for name in ("answer", "frames", "num_visual_tokens", "num_entering_tokens"):
        assert plain[name] == aware[name]


def test_keyframes_are_shown_once_and_with_their_own_times(run: Any, clip: str) -> None:
    settings = ["--precision", "keyframe", "--num-frames", "9", "--max-new-tokens", "1"]
    (answer,) = run(clip, QUESTION, "--json", *settings).objects
    times = [frame["pts_seconds"] for frame in answer["frames"]]
    assert times == pytest.approx([0.0, 0.48, 0.96, 1.44])
    assert answer["num_unpruned_tokens"] == 4 * LENGTH


OPTIONS = [
    "--precision=keyframe",
    "--no-novelty", "--timestamps", "--newlines=last", "--high-resolution=none", "--resize=fast",
    "--shares=informative", "--position-ids=compact", "--fps=5", "--question-aware",
    "--attention=proportional",
    *(f"--pruner={name}" for name in METHODS if name not in ("none", "fastv")),
]  # fmt: skip


@pytest.mark.parametrize("extra", OPTIONS)
def test_the_cap_holds_with_every_option(run: Any, clip: str, extra: str) -> None:
    frames = [] if extra == "--fps=5" else ["--num-frames", "9"]
    for budget in (8, 64, 512, 100_000):
        settings = ["--json", "--max-new-tokens", "1", *frames, extra]
        (answer,) = run(clip, QUESTION, "--budget", str(budget), *settings).objects
        tokens = [frame["num_visual_tokens"] for frame in answer["frames"]]
        assert sum(tokens) == answer["num_visual_tokens"] <= answer["budget"] == budget
        assert answer["num_frames"] == sum(count > 0 for count in tokens)


def test_a_budget_is_used_to_the_last_token(run: Any, clip: str) -> None:
    settings = ["--json", "--num-frames", "9", "--max-new-tokens", "1"]
    used = {
        budget: run(clip, QUESTION, "--budget", str(budget), *settings).objects[0]
        for budget in (1, 7, 64, 9 * LENGTH, 100_000)
    }
    tokens = {budget: answer["num_visual_tokens"] for budget, answer in used.items()}
    assert tokens == {1: 1, 7: 7, 64: 64, 9 * LENGTH: 9 * LENGTH, 100_000: 9 * LENGTH}
    frames = {budget: answer["num_frames"] for budget, answer in used.items()}
    assert frames == {1: 1, 7: 7, 64: 9, 9 * LENGTH: 9, 100_000: 9}


@pytest.mark.parametrize(("keep_ratio", "kept"), [("1", 9 * LENGTH), ("0.1", 46)])
def test_a_ratio_keeps_that_part(run: Any, clip: str, keep_ratio: str, kept: int) -> None:
    settings = ["--json", "--num-frames", "9", "--max-new-tokens", "1"]
    (answer,) = run(clip, QUESTION, "--keep-ratio", keep_ratio, *settings).objects
    assert answer["num_visual_tokens"] == answer["budget"] == kept


def test_chunks_change_neither_the_tokens_kept_nor_the_answer(
    run: Any, clip: str, checkpoint: Path
) -> None:
    def kept(size: int) -> list[list[int]]:
        options = change(
            Options(),
            {
                "model": str(checkpoint),
                "num_frames": 9,
                "budget": 80,
                "frames_per_chunk": size,
            },
            source="the test",
        )
        plan = plan_clip(sample_clip(clip, options), options, [QUESTION])
        with open_engine(options) as engine:
            watched = watch(engine, plan)
        return [frame.keep_indices.tolist() for frame in watched.visual.frames]

    assert kept(1) == kept(3) == kept(8)
    settings = ["--num-frames", "9", "--budget", "80", "--frames-per-chunk"]
    answers = {run(clip, QUESTION, *settings, size).out for size in ("1", "3", "8")}
    assert len(answers) == 1


def test_keeping_everything_answers_as_transformers_does(
    run: Any, clip: str, checkpoint: Path
) -> None:
    settings = ["--num-frames", "3", "--keep-ratio", "1", "--max-new-tokens", "24", "--json"]
    (answer,) = run(clip, QUESTION, *settings).objects
    numbers = [round(frame["pts_seconds"] * 25) for frame in answer["frames"]]
    assert numbers == [6, 20, 33]
    frames = decode(clip, numbers)
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()
    content = [{"type": "image"}] * 3 + [{"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(images=frames, text=text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    tokens = ids[0, inputs["input_ids"].shape[1] :]
    expected = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert answer["answer"] == expected
    assert len(expected.split()) > 10
    other = run(clip, QUESTION, *settings[:4], "--max-new-tokens", "24", "--start", "0.5")
    assert other.out.strip() != expected


def decode(clip: str, numbers: list[int]) -> list[Any]:
    """Return pictures of a clip by a plain sequential decode."""
    with av.open(clip) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(shown[numbers[0]].astype(int) - paint_frame(numbers[0])).mean() < 16
    return [shown[number] for number in numbers]


def test_more_questions_can_be_typed(run: Any, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is it?\n\n   Where is the dog?  \n"))
    result = run(clip, QUESTION, "--interactive", "--json", "--num-frames", "2")
    questions = [answer["question"] for answer in result.objects]
    assert questions == [QUESTION, "Who is it?", "Where is the dog?"]
    assert result.status == 0
    assert result.err.count("> ") >= 4


def test_questions_may_all_be_typed(run: Any, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(QUESTION))
    settings = ["--num-frames", "2", "--max-new-tokens", "9"]
    typed = run(clip, "--interactive", *settings)
    assert typed.out == run(clip, QUESTION, *settings).out
    assert typed.out.strip()


def test_the_report_shows_clip_questions_and_answers(run: Any, clip: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    settings = ["--num-frames", "3", "--max-new-tokens", "6", "--report", str(page)]
    result = run(clip, QUESTION, "Why?", *settings)
    source = page.read_text(encoding="utf-8")
    assert source.count("data:image/jpeg;base64,") >= 3
    answers = [line.strip() for line in result.out.splitlines()]
    assert all(text in source for text in (QUESTION, "Why?", *answers))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_options_come_from_a_file_and_flags(run: Any, clip: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("budget: 20\nnum_frames: 5\nmax_new_tokens: 2\n")
    (answer,) = run(clip, QUESTION, "--json", "--config", str(config), "--budget", "11").objects
    assert (answer["budget"], answer["num_frames"]) == (11, 5)
    assert len(answer["answer"].split()) == 2


def test_drawn_answers_follow_the_seed(run: Any, clip: str) -> None:
    settings = ["--num-frames", "2", "--max-new-tokens", "9", "--temperature", "1.5", "--seed"]
    answers = [run(clip, QUESTION, *settings, seed).out for seed in ("1", "1", "2")]
    assert answers[0] == answers[1] != answers[2]


def test_every_number_of_workers_gives_the_same_answer(run: Any, clip: str) -> None:
    settings = ["--num-frames", "9", "--budget", "80", "--frames-per-chunk", "2", "--json"]
    answers = [
        run(clip, QUESTION, *settings, "--num-decoders", decoders, "--num-encoders", encoders)
        for decoders, encoders in (("1", "1"), ("3", "2"))
    ]
    first, second = (each.objects[0] for each in answers)
    assert (first["answer"], first["frames"]) == (second["answer"], second["frames"])


def test_a_still_picture_is_a_clip_of_one_frame(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(draw_picture(97, 150)).save(path)
    (answer,) = run(str(path), QUESTION, "--json", "--budget", "20").objects
    assert (answer["num_frames"], answer["num_visual_tokens"]) == (1, 20)
    assert answer["frames"][0]["pts_seconds"] == 0
    assert answer["video"] == str(path)


@pytest.mark.parametrize(
    ("arguments", "times"),
    [
        ([], [4.0, 4.5, 5.0, 5.5]),
        (["--start", "4.6"], [4.5, 5.0, 5.5]),
        (["--start", "1"], [4.0, 4.5, 5.0, 5.5]),
        (["--end", "5"], [4.0, 4.5]),
        (["--start", "5", "--end", "5.5"], [5.0]),
    ],
)
def test_times_are_those_of_the_source_in_and_out(
    run: Any, tmp_path: Path, arguments: list[str], times: list[float]
) -> None:
    path = draw_clip(tmp_path / "late.mkv", times_ms=[4000, 4500, 5000, 5500], num_frames=4)
    settings = ["--json", "--max-new-tokens", "1", "--num-frames", "4"]
    (answer,) = run(str(path), QUESTION, *settings, *arguments).objects
    assert [frame["pts_seconds"] for frame in answer["frames"]] == pytest.approx(times)


def test_a_question_may_spell_special_tokens(run: Any, clip: str) -> None:
    settings = ["--json", "--num-frames", "2", "--budget", "40", "--max-new-tokens", "5"]
    questions = ["What is <image>?", "<image><image>", "a </s> b <s> c", QUESTION]
    result = run(clip, *questions, *settings)
    assert result.status == 0, result.err
    assert [answer["question"] for answer in result.objects] == questions
    assert {answer["num_visual_tokens"] for answer in result.objects} == {40}
    assert all(answer["num_answer_tokens"] == 5 for answer in result.objects)


TOO_LONG = "why " * 40_000


def test_a_typed_question_that_does_not_fit_does_not_end_the_session(
    run: Any, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = f"Who?\n{TOO_LONG}\nWhat is <image>?\n{QUESTION}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    settings = ["--json", "--num-frames", "2", "--max-new-tokens", "5"]
    result = run(clip, "--interactive", *settings)
    assert result.status == 0
    assert [answer["question"] for answer in result.objects] == [
        "Who?", "What is <image>?", QUESTION,
    ]  # fmt: skip
    (said,) = re.findall(r"^(?:> )?error: .*$", result.err, re.MULTILINE)
    assert "model's context holds 32768" in said
    assert "ask a question shorter by " in said
    assert len(said) < 400
    (alone,) = run(clip, QUESTION, *settings).objects
    assert result.objects[2]["answer"] == alone["answer"]


def test_a_typed_question_of_other_bytes_does_not_end_the_session(
    run: Any, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"caf\xe9?\nWho?\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    result = run(clip, "--interactive", "--json", "--num-frames", "2", "--max-new-tokens", "1")
    assert result.status == 0
    assert [answer["question"] for answer in result.objects] == ["Who?"]
    assert "error: the question is not UTF-8 text: byte 0xe9 after 'caf'" in result.err


class Interrupted(io.StringIO):
    """One question, then ctrl-c."""

    def readline(self, size: int = -1) -> str:
        line = super().readline(size)
        if not line:
            raise KeyboardInterrupt
        return line


def test_an_interrupted_session_leaves_the_report_of_what_was_answered(
    run: Any, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Interrupted("Who is it?\n"))
    page = tmp_path / "page.html"
    settings = ["--num-frames", "2", "--max-new-tokens", "3", "--budget", "9"]
    result = run(clip, QUESTION, "--interactive", "--report", str(page), *settings)
    assert (result.status, len(result.out.splitlines())) == (130, 2)
    source = page.read_text(encoding="utf-8")
    assert all(text in source for text in (QUESTION, "Who is it?", "numbers.mp4"))
