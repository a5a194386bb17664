"""The plug-in without lmms-eval: a few of its classes are faked, the pipeline is real."""

import importlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from tests.clips import draw_clip, paint_frame
from tests.lmms_eval.fake_lmms_eval import GREEDY, QUESTION, Evaluation, install
from tests.workers.vision.pictures import draw_picture
from workers.checkpoint import read_config
from workers.errors import InputError, ModelError
from workers.vision.tower import read_geometry


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch)
    return importlib.import_module("streaming.lmms_eval.model")


@pytest.fixture
def evaluation(module: Any, checkpoint: Path) -> Evaluation:
    return Evaluation(
        module, model=str(checkpoint), executor="local", device="cpu", num_frames=4, keep_ratio=0.5
    )


@pytest.fixture
def watched(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The questions of each watching."""
    calls: list[list[str]] = []
    planned: dict[int, list[str]] = {}
    plan_clip, watch = module.plan_clip, module.watch

    def noted(sampled: Any, options: Any, questions: list[str]) -> Any:
        plan = plan_clip(sampled, options, questions)
        planned[id(plan)] = questions
        return plan

    def counted(engine: Any, plan: Any) -> Any:
        calls.append(planned[id(plan)])
        return watch(engine, plan)

    monkeypatch.setattr(module, "plan_clip", noted)
    monkeypatch.setattr(module, "watch", counted)
    return calls


def test_videos_are_answered_as_the_command_answers(
    evaluation: Evaluation, run: Any, clip: str
) -> None:
    evaluation.add(clip)
    evaluation.add(clip, "How many people?", max_new_tokens=3)
    settings = ["--num-frames", "4", "--keep-ratio", "0.5", "--json", "--max-new-tokens"]
    (first,) = run(clip, QUESTION, *settings, "9").objects
    (second,) = run(clip, "How many people?", *settings, "3").objects
    results = evaluation.model.generate_until(evaluation.requests)
    assert [result.text for result in results] == [first["answer"], second["answer"]]
    assert [result.token_counts.input_tokens for result in results] == [
        answer["num_text_tokens"] + answer["num_visual_tokens"] for answer in (first, second)
    ]


def test_an_unpruned_image_is_answered_as_transformers_does(module: Any, checkpoint: Path) -> None:
    evaluation = Evaluation(
        module, model=str(checkpoint), executor="local", device="cpu", keep_ratio=1.0
    )
    image = Image.radial_gradient("L").resize((150, 97)).convert("RGB")
    evaluation.add(image, max_new_tokens=24)
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = LlavaNextForConditionalGeneration.from_pretrained(checkpoint).eval()
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(images=image, text=text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    length = inputs["input_ids"].shape[1]
    (result,) = evaluation.model.generate_until(evaluation.requests)
    assert result.text == processor.decode(ids[0, length:], skip_special_tokens=True).strip()
    assert len(result.text.split()) > 10
    assert result.token_counts.input_tokens == length
    assert result.token_counts.output_tokens == ids.shape[1] - length


def test_what_is_asked_in_a_row_about_one_clip_is_watched_once(
    evaluation: Evaluation, watched: list[list[str]], clip: str
) -> None:
    image, other = (Image.fromarray(paint_frame(number)) for number in (5, 6))
    asked = [(clip, "A?"), (clip, "B?"), (image, "C?"), (image.copy(), "D?"), (other, "E?")]
    for media, question in [*asked, (clip, "F?")]:
        evaluation.add(media, question)
    together = evaluation.texts()
    assert sorted(watched) == [["A?", "B?"], ["C?", "D?"], ["E?"], ["F?"]]
    evaluation.requests = evaluation.requests[1:4:2]
    assert evaluation.texts() == [together[1], together[3]]


def test_a_video_that_cannot_be_read_is_answered_with_nothing(
    evaluation: Evaluation, clip: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing" * 99)
    for media in (clip, str(broken), str(broken), str(tmp_path / "missing.mp4"), clip):
        evaluation.add(media)
    texts = evaluation.texts()
    assert texts[0] == texts[4] != ""
    assert texts[1:4] == ["", "", ""]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mr_stream: ")]
    said = [line for line in lines if "frame" in line or "answer" in line]
    assert "broken.mp4: is not a video" in min(said[:2])
    assert "missing.mp4: No such file" in max(said[:2])
    assert said[2] == (
        "mr_stream: 3 of 5 answers are empty: their video cannot be read, or not be asked about "
        "with these options"
    )
    assert len(said) == 3


def test_clips_are_watched_side_by_side_and_answered_in_order(
    evaluation: Evaluation, module: Any, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [Image.fromarray(paint_frame(number)) for number in (5, 6)]
    for media, question in ((clip, "A?"), (clip, "B?"), (images[0], "C?"), (images[1], "D?")):
        evaluation.add(media, question)
    expected = evaluation.texts()
    assert len(set(expected)) == 4
    done = threading.Barrier(3)  # the first clip waits for the two after it
    before, after = {"A?": done.wait}, {"C?": done.wait, "D?": done.wait}
    ask = module.ask

    def no_wait(seconds: float) -> int:
        return 0

    def slowly(engine: Any, watched: Any, question: str, sampling: Any) -> Any:
        before.get(question, no_wait)(60)
        yield from ask(engine, watched, question, sampling)
        after.get(question, no_wait)(60)

    monkeypatch.setattr(module, "ask", slowly)
    assert evaluation.texts() == expected


def test_options_that_do_not_suit_one_clip_leave_only_that_unanswered(
    module: Any,
    checkpoint: Path,
    clip: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    evaluation = Evaluation(module, model=str(checkpoint), num_frames=2, budget=50, start=1.0)
    for media in (clip, str(draw_clip(tmp_path / "short.mp4", num_frames=10)), clip):
        evaluation.add(media)
    first, short, last = evaluation.texts()
    assert first == last != ""
    assert short == ""
    said = capfd.readouterr().err
    assert "--start 1 s is outside" in said
    assert "1 of 3 answers are empty" in said


def test_an_image_that_cannot_be_read_is_answered_with_nothing(
    evaluation: Evaluation, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(paint_frame(3)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")

    def messages(name: str) -> Any:
        image = {"type": "image", "url": str(tmp_path / name)}
        return [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}]

    names = ["bad.png", "good.png", "bad.png"]
    evaluation.model.task_dict = {"task": {"test": names}}
    evaluation.requests = [
        SimpleNamespace(args=("", messages, GREEDY, number, "task", "test")) for number in range(3)
    ]
    texts = evaluation.texts()
    assert [bool(text) for text in texts] == [False, True, False]
    assert "bad.png: not a readable image" in capfd.readouterr().err


def test_what_no_clip_can_be_asked_with_ends_the_evaluation(
    module: Any, checkpoint: Path, clip: str
) -> None:
    evaluation = Evaluation(module, model=str(checkpoint), pruner="fastv", fastv_layer=3)
    evaluation.add(clip)
    with pytest.raises(InputError, match=r"^--fastv-layer 3 is out of range"):
        evaluation.texts()


def test_other_troubles_end_the_evaluation(
    evaluation: Evaluation, module: Any, clip: str, tmp_path: Path
) -> None:
    evaluation.add(clip, num_beams=4)
    with pytest.raises(InputError, match="the generation option num_beams=4 is not supported"):
        evaluation.texts()
    missing = Evaluation(module, model=str(tmp_path), executor="local")
    missing.add(clip)
    with pytest.raises(ModelError, match=r"config\.json"):
        missing.texts()


def test_a_drawn_answer_differs_each_time_it_is_asked_for(
    evaluation: Evaluation, watched: list[list[str]], clip: str
) -> None:
    request = evaluation.add(clip, do_sample=True, temperature=1.5)
    evaluation.requests = [request] * 3
    drawn = evaluation.texts()
    assert len(set(drawn)) == 3
    assert evaluation.texts() == drawn
    assert len(watched) == 2


def test_the_answer_is_cut_and_foreign_options_are_named_once(
    evaluation: Evaluation, clip: str, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluation.add(clip, image_aspect_ratio="original")
    (whole,) = evaluation.texts()
    words = whole.split()
    evaluation.add(clip, until=[words[3]], image_aspect_ratio="original")
    assert evaluation.texts() == [whole, whole.partition(words[3])[0].strip()]
    assert capfd.readouterr().err.count("image_aspect_ratio of task means nothing here") == 1


def test_several_images_are_frames_in_order(module: Any, evaluation: Evaluation) -> None:
    images = [Image.fromarray(paint_frame(number)) for number in (1, 2, 3)]
    content = [{"type": "image", "url": image} for image in images]
    content.append({"type": "text", "text": QUESTION})

    def messages(document: Any) -> Any:
        return [{"role": "user", "content": content[document] + content[3:]}]

    evaluation.model.task_dict = {"task": {"test": [slice(0, 3), slice(2, None, -1)]}}
    evaluation.requests = [
        SimpleNamespace(args=("", messages, GREEDY, number, "task", "test")) for number in (0, 1)
    ]
    forward, backward = evaluation.model.generate_until(evaluation.requests)
    assert forward.text != backward.text
    assert forward.token_counts == backward.token_counts


def test_a_question_may_spell_special_tokens(evaluation: Evaluation, clip: str) -> None:
    for question in ("What is <image>?", "a </s> b", QUESTION):
        evaluation.add(clip, question)
    *odd, plain = evaluation.texts()
    assert all(odd)
    evaluation.requests = evaluation.requests[2:]
    assert evaluation.texts() == [plain]


def test_questions_that_do_not_fit_are_answered_with_nothing(
    evaluation: Evaluation, clip: str, capfd: pytest.CaptureFixture[str]
) -> None:
    image = Image.fromarray(paint_frame(5))
    evaluation.add(image, "why " * 40_000)
    evaluation.add(clip)
    texts = evaluation.texts()
    assert texts[0] == ""
    assert texts[1]
    said = capfd.readouterr().err
    assert "ask a question shorter by" in said
    assert "1 of 2 answers are empty" in said


def test_images_of_several_sizes_are_one_request(module: Any, checkpoint: Path) -> None:
    evaluation = Evaluation(module, model=str(checkpoint), device="cpu", keep_ratio=0.5)
    images = [Image.fromarray(draw_picture(*size)) for size in ((96, 160), (40, 40), (160, 96))]
    content = [{"type": "image", "url": image} for image in images]
    content.append({"type": "text", "text": QUESTION})

    def messages(document: Any) -> Any:
        return [{"role": "user", "content": content}]

    evaluation.model.task_dict = {"task": {"test": [0]}}
    evaluation.requests = [SimpleNamespace(args=("", messages, GREEDY, 0, "task", "test"))]
    (result,) = evaluation.model.generate_until(evaluation.requests)
    assert result.text
    tiles = read_geometry(read_config(str(checkpoint)))
    tokens = sum(tiles.frame(image.height, image.width).num_tokens for image in images)
    assert result.token_counts.input_tokens > tokens // 2
