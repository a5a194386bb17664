"""python -m training.make_set --output clips --seed 7: draws H.264 clips with questions.

They are of the kind that the embedded checkpoint was trained on, with ``--backgrounds DIR`` before
pictures of your own.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from training.arguments import count, new_folder
from training.canvas import ASPECTS
from training.compose import Recipe, compose_clip, most_shapes
from training.draw import draw_frame, frame_moments
from training.language_data import aspects_of, choose
from training.photographs import find_photographs
from training.questions import Question, questions_of
from training.scene import Clip
from workers.errors import InputError

PICTURES_PER_FRAME = 4
"""Pictures in the file per frame that is meant to be sampled."""
SCALE = 4
NUM_FRAMES = (1, 2, 4, 8, 16, 32, 64)
"""Lengths of clips if no others are asked for: those that training knows. Up to 256 make sense."""


def write_clip(clip: Clip, path: Path, *, scale: int = SCALE, crf: int = 20) -> None:
    """Write ``clip`` as an H.264 file.

    Args:
        clip: What is shown.
        path: The ``.mp4`` file.
        scale: Pixels per unit; even, so that every clip has an even width and height.
        crf: x264's quality, lower is better.
    """
    num_pictures = clip.num_frames * PICTURES_PER_FRAME
    rate = Fraction(num_pictures) / Fraction(clip.duration_seconds)
    width, height = ASPECTS[clip.aspect]
    # So that the file's bytes depend on the clip alone: with x264's macroblock tree two runs give
    # two files (seen with PyAV 18).
    options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width * scale, height * scale, "yuv420p"
        for moment in frame_moments(num_pictures, 0.5):
            picture = draw_frame(clip, moment, scale)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def draw_set(
    output: Path,
    seed: int,
    clips_per_kind: int,
    num_frames: Sequence[int] = NUM_FRAMES,
    num_questions: int = 10,
    *,
    photographs: Sequence[str] = (),
) -> Path:
    """Write clips of every aspect ratio and length, and ``questions.jsonl``; return its path.

    Clips of 32 frames and more are wide or tall, as in training. Times are asked for too; their
    answers take prompts with timestamps.

    Args:
        output: Folder, made if need be.
        seed: Of all clips and questions.
        clips_per_kind: How many of every length and aspect ratio.
        num_frames: Lengths.
        num_questions: The most about one clip.
        photographs: Files whose pictures are the backgrounds; drawn ones if there is none.
    """
    output.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(backgrounds=tuple(photographs)) if photographs else Recipe()
    kinds = [(frames, aspect) for frames in num_frames for aspect in aspects_of(frames)]
    lines: list[dict[str, object]] = []
    for kind, (frames, aspect) in enumerate(kinds):
        for number in range(clips_per_kind):
            generator = np.random.default_rng([seed, 3, kind, number])
            chosen = replace(recipe, max_shapes=most_shapes(frames))
            clip = compose_clip(generator, aspect, frames, chosen)
            name = f"f{frames:02d}-{aspect.replace(':', 'x')}-{number:03d}.mp4"
            write_clip(clip, output / name)
            questions = choose(generator, questions_of(clip, timed=True), num_questions)
            lines.extend(_line(clip, name, question) for question in questions)
    path = output / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _line(clip: Clip, name: str, question: Question) -> dict[str, object]:
    line: dict[str, object] = {
        "clip": name, "question": question.text, "answers": [question.answer],
        "type": question.type, "num_frames": clip.num_frames, "aspect": clip.aspect,
        "start_seconds": round(question.start * clip.duration_seconds, 3),
        "end_seconds": round(question.end * clip.duration_seconds, 3),
    }  # fmt: skip
    return line | ({"tolerance": question.tolerance} if question.tolerance else {})


def main() -> None:
    """Draw one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=new_folder, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clips-per-kind", type=count, default=4)
    parser.add_argument("--num-frames", type=count, nargs="+", default=list(NUM_FRAMES))
    parser.add_argument(
        "--backgrounds", type=Path, metavar="DIR", help="a folder of videos or pictures"
    )
    options = parser.parse_args()
    try:
        photographs = find_photographs(options.backgrounds) if options.backgrounds else ()
    except InputError as error:
        parser.error(str(error))
    draw_set(
        options.output, options.seed, options.clips_per_kind, options.num_frames,
        photographs=photographs,
    )  # fmt: skip


if __name__ == "__main__":
    main()
