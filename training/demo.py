"""python -m training.demo, or make demo: a drawn clip, five questions, and the true answers."""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np

from streaming.asking import summarize
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import ask, watch
from streaming.plan import plan_clip
from streaming.report.page import write_report
from streaming.result import Answer
from streaming.sample import sample_clip
from training.compose import Recipe, compose_clip
from training.make_set import write_clip
from training.questions import Question, questions_of
from training.scene import Clip

SEED = 29
_FOLDER = Path("out")
_TYPES = ("color", "number", "motion", "order", "appear")
_DRAWN_FRAMES, _NUM_FRAMES, _DURATION_SECONDS, _KEEP_RATIO = 8, 32, 20.0, 0.1


def choose_clip(seed: int) -> tuple[Clip, list[Question]]:
    """Return the first clip of this seed that has a question of every type, and one of each."""
    generator = np.random.default_rng(seed)
    while True:
        clip = compose_clip(generator, "16:9", _DRAWN_FRAMES, Recipe(max_shapes=3))
        clip = dataclasses.replace(clip, duration_seconds=_DURATION_SECONDS)
        by_type = {question.type: question for question in questions_of(clip, timed=True)}
        if all(name in by_type for name in _TYPES):
            return clip, [by_type[name] for name in _TYPES]


def main() -> None:
    """Draw, ask at 90 % pruning, and print what was answered beside what is true."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    _FOLDER.mkdir(exist_ok=True)
    video, report = _FOLDER / "demo.mp4", _FOLDER / "demo.html"
    clip, questions = choose_clip(SEED)
    write_clip(clip, video)
    texts = [question.text for question in questions]
    command = ["python", "-m", "streaming.ask", str(video), *texts]
    command += ["--num-frames", str(_NUM_FRAMES), "--keep-ratio", str(_KEEP_RATIO)]
    command += ["--timestamps", "--report", str(report)]
    print("$", shlex.join(command), file=sys.stderr)
    settings = {"num_frames": _NUM_FRAMES, "keep_ratio": _KEEP_RATIO, "timestamps": True}
    options = change(Options(), settings, source="the demo")
    plan = plan_clip(sample_clip(str(video), options), options, texts, thumbnail_width=448)
    answers: list[Answer] = []
    with open_engine(options) as engine:
        watched = watch(engine, plan)
        for text in texts:
            pieces = ask(engine, watched, text)
            answers += [piece for piece in pieces if isinstance(piece, Answer)]
    write_report(report, answers)
    print(summarize(answers[0]), file=sys.stderr)
    width = max(map(len, texts))
    print(f"{'question':{width}}  {'answer':10}  true")
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question.text:{width}}  {answer.answer:10}  {question.answer}")
    print(f"what the model was shown: {report}", file=sys.stderr)


if __name__ == "__main__":
    main()
