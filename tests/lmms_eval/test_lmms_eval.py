"""The real lmms-eval evaluates the embedded checkpoint on drawn images and videos.

Runs only where lmms-eval is installed beside this project, which no environment of the Makefile is;
docs/lmms-eval.md tells how to make one. In it, from the root of this project::

    python -m pytest -m slow tests/lmms_eval
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from training.compose import Recipe, compose_clip
from training.draw import draw_frame
from training.make_set import draw_set
from training.questions import questions_of

TASKS = Path(__file__).parent / "tasks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("lmms_eval") is None,
        reason="lmms-eval is not installed here: docs/lmms-eval.md tells how to test the plug-in",
    ),
]


class Evaluation(NamedTuple):
    """What a run of lmms-eval wrote, and its samples by task."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]
    output: str


def draw_images(folder: Path) -> list[dict[str, str]]:
    """Draw three pictures; the last two documents ask about one and the same."""
    generator = np.random.default_rng(7)
    documents = []
    for number, aspect in enumerate(("16:9", "square", "3:4")):
        clip = compose_clip(generator, aspect, 1, Recipe(max_shapes=2))
        path = folder / f"{number}.png"
        Image.fromarray(draw_frame(clip, 0.5, 4)).save(path)
        documents += [
            {"image": str(path), "question": question.text, "answer": question.answer}
            for question in questions_of(clip)[:2]
        ]
    return documents


def draw_videos(folder: Path) -> list[dict[str, str]]:
    """Draw clips of four moments, and put one after them that is none."""
    asked = draw_set(folder, seed=11, clips_per_kind=1, num_frames=(4,), num_questions=2)
    lines = [json.loads(line) for line in asked.read_text().splitlines()]
    documents = [
        {
            "video": str(folder / line["clip"]),
            "question": line["question"],
            "answer": line["answers"][0],
        }
        for line in lines
    ]
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no clip at all" * 100)
    question = "what color is the circle?"
    return [*documents, {"video": str(broken), "question": question, "answer": "red"}]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Run both tasks offline. lmms-eval exits with 0 whatever happened, so its files tell."""
    folder = tmp_path_factory.mktemp("lmms-eval")
    tasks = shutil.copytree(TASKS, folder / "tasks")
    for name, draw in (("images", draw_images), ("videos", draw_videos)):
        (folder / name).mkdir()
        lines = [json.dumps(document) + "\n" for document in draw(folder / name)]
        (tasks / f"{name}.jsonl").write_text("".join(lines))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, "-m", "lmms_eval", "--model", "mr_stream", "--log_samples"]
    command += ["--model_args", "executor=local,num_frames=4,keep_ratio=1.0,device=cpu"]
    command += ["--tasks", "drawn_images,drawn_videos", "--include_path", str(tasks)]
    command += ["--output_path", str(folder / "out")]
    done = subprocess.run(
        command, env=os.environ | offline, cwd=folder, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    (results,) = [*(folder / "out").rglob("*_results.json")] or [pytest.fail(output)]
    samples = {
        name: [
            json.loads(line)
            for path in (folder / "out").rglob(f"*_samples_{name}.jsonl")
            for line in path.read_text().splitlines()
        ]
        for name in ("drawn_images", "drawn_videos")
    }
    return Evaluation(json.loads(results.read_text()), samples, output)


def test_both_tasks_are_scored(evaluation: Evaluation) -> None:
    scores = {
        name: task["accuracy,none"]
        for name, task in evaluation.results["results"].items()
        if name.startswith("drawn_")
    }
    assert set(scores) == {"drawn_images", "drawn_videos"}
    assert min(scores.values()) >= 0.7
    assert evaluation.results["config"]["model_backend"].endswith("MrStream (chat)")


def test_every_document_has_an_answer_of_its_own(evaluation: Evaluation) -> None:
    images, videos = evaluation.samples["drawn_images"], evaluation.samples["drawn_videos"]
    assert [len(images), len(videos)] == [6, 11]
    answers = [sample["filtered_resps"] for sample in [*images, *videos[:-1]]]
    assert all(answers)
    assert len(set(answers)) > 3
    counts = [sample["token_counts"][0]["input_tokens"] for sample in [*images, *videos[:-1]]]
    assert min(counts) > 234


def test_a_broken_video_is_no_answer_and_is_told(evaluation: Evaluation) -> None:
    broken = evaluation.samples["drawn_videos"][-1]
    assert broken["filtered_resps"] == ""
    assert "broken.mp4: is not a video" in evaluation.output
    assert "1 of 17 answers are empty: their video cannot be read" in evaluation.output
