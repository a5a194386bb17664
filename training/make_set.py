"""python -m training.make_set --output clips --seed 7: draws H.264 clips with questions."""

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from training.canvas import ASPECTS
from training.compose import Recipe, compose_clip
from training.draw import draw_frame, frame_moments
from training.language_data import choose
from training.questions import questions_of
from training.scene import Clip

PICTURES_PER_FRAME = 4
"""Pictures in the file per frame that is meant to be sampled."""
SCALE = 4
NUM_FRAMES = (1, 2, 4, 8, 16, 32)


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
    # One thread, so that the file's bytes depend on the clip alone.
    options = {"crf": str(crf), "preset": "medium", "threads": "1"}
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
) -> Path:
    """Write clips of every aspect ratio and length, and ``questions.jsonl``; return its path."""
    output.mkdir(parents=True, exist_ok=True)
    lines = []
    kinds = [(frames, aspect) for frames in num_frames for aspect in ASPECTS]
    for kind, (frames, aspect) in enumerate(kinds):
        for number in range(clips_per_kind):
            generator = np.random.default_rng([seed, 3, kind, number])
            recipe = Recipe(max_shapes=4 if frames < 3 else 3)
            clip = compose_clip(generator, aspect, frames, recipe)
            name = f"f{frames:02d}-{aspect.replace(':', 'x')}-{number:03d}.mp4"
            write_clip(clip, output / name)
            lines.extend(_lines(generator, clip, name, num_questions))
    path = output / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _lines(
    generator: np.random.Generator, clip: Clip, name: str, num_questions: int
) -> list[dict[str, object]]:
    return [
        {
            "clip": name, "question": question.text, "answers": [question.answer],
            "type": question.type, "num_frames": clip.num_frames, "aspect": clip.aspect,
            "start_seconds": round(question.start * clip.duration_seconds, 3),
            "end_seconds": round(question.end * clip.duration_seconds, 3),
        }
        for question in choose(generator, questions_of(clip), num_questions)
    ]  # fmt: skip


def main() -> None:
    """Draw one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clips-per-kind", type=int, default=4)
    options = parser.parse_args()
    draw_set(options.output, options.seed, options.clips_per_kind)


if __name__ == "__main__":
    main()
