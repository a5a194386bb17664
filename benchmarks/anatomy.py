"""python -m benchmarks.anatomy QUESTIONS: what tokens are like, and which of them methods keep.

Prints cosines between the tokens of one resolution against MR-Pruner's threshold, feature norms,
and how each method that ranks inside a frame splits a frame's share.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from pruner import METHODS, FrameLayout, Settings, Task, make_nodes, propagate, rank
from streaming.evaluate.questions import read_questions
from streaming.flags import change
from streaming.options import Options
from streaming.plan import plan_clip
from streaming.sample import sample_clip
from workers.checkpoint import locate
from workers.video.decode import read_pictures
from workers.vision.encoder import FrameFeatures, VisionEncoder
from workers.vision.tiles import cut_pictures

_KEPT = (0.5, 0.3, 0.1, 0.05)
_QUANTILES = (0.1, 0.5, 0.9)


def encode_clips(questions: Path, model: str, num_clips: int) -> list[FrameFeatures]:
    """Return the features of up to eight frames of some clips of a question set."""
    encoder = VisionEncoder(locate(model), device="cpu", dtype=torch.float32)
    groups = read_questions(questions, limit=10**6, seed=0)
    found = []
    for group in groups[:num_clips]:
        num_frames = min(group[0].num_frames or 8, 8)
        settings = {"model": model, "num_frames": num_frames}
        options = change(Options(), settings, source="the benchmark")
        plan = plan_clip(sample_clip(group[0].clip, options), options, ["?"])
        for segment in plan.clip.segments:
            for chunk in read_pictures(segment):
                found += encoder.encode(*cut_pictures(chunk.pictures, plan.clip.tiles))
    return found


def print_similarities(clips: Sequence[FrameFeatures]) -> None:
    """Print quantiles of the cosine of two tokens of a resolution, and what lies above 0.5."""
    print("| resolution | cosine 10/50/90 % | pairs from 0.5 | neighbours of a token | norm |")
    print("|---|---|---|---|---|")
    for name in ("base", "grid"):
        cosines, degrees, norms = [], [], []
        for clip in clips:
            nodes = make_nodes(getattr(clip, name).flatten(1, -2))
            cosine = nodes.units @ nodes.units.transpose(1, 2)
            above = torch.ones(cosine.shape[1:], dtype=torch.bool).triu(1)
            cosines.append(cosine[:, above].flatten())
            degrees.append(propagate(nodes)[1].float().flatten() / nodes.units.shape[1])
            norms.append(nodes.norms.flatten())
        values = torch.cat(cosines)
        spread = torch.quantile(values[:: max(1, len(values) // 10**6)], torch.tensor(_QUANTILES))
        print(
            f"| {name} | {' / '.join(f'{value:.2f}' for value in spread.tolist())} "
            f"| {100 * float((values >= 0.5).float().mean()):.0f} % "
            f"| {100 * float(torch.cat(degrees).mean()):.0f} % of all "
            f"| {float(torch.cat(norms).mean()):.2f} |"
        )


def print_splits(clips: Sequence[FrameFeatures]) -> None:
    """Print which part of an equal share is base, grid and newline tokens."""
    print("\n| kept | method | base | grid | newline | tokens a frame |")
    print("|---|---|---|---|---|---|")
    for keep_ratio in _KEPT:
        for name in sorted(name for name, each in METHODS.items() if each.scope == "frame"):
            parts, num_frames = torch.zeros(3), 0
            for clip in clips:
                frames, rows, columns = clip.grid.shape[:3]
                layout = FrameLayout(num_base=clip.base.shape[1], rows=rows, columns=columns)
                share = max(1, int(keep_ratio * layout.num_tokens))
                settings = Settings(num_steps=METHODS[name].num_steps)
                task = Task(num_keep=share, frame_indices=range(frames), settings=settings)
                kept = rank(name, clip.base, clip.grid, task).order[:, :share]
                base, newline = kept < layout.num_base, layout.is_newline(kept)
                parts += torch.stack([base.sum(), (~base & ~newline).sum(), newline.sum()])
                num_frames += frames
            cells = " | ".join(f"{100 * float(part / parts.sum()):.0f} %" for part in parts)
            print(f"| {keep_ratio:g} | {name} | {cells} | {float(parts.sum()) / num_frames:.1f} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--clips", type=int, default=40)
    options = parser.parse_args()
    clips = encode_clips(options.questions, options.model, options.clips)
    print_similarities(clips)
    print_splits(clips)


if __name__ == "__main__":
    main()
