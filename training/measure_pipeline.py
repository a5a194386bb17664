"""python -m training.measure_pipeline --clips clips: accuracy through this project's pipeline.

The same table as ``training.measure``, which asks plain transformers, for fractions kept of the
visual tokens. ``--every 5`` takes each fifth clip.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from streaming.config import Options
from streaming.pipeline import ask, open_pool, watch
from streaming.plan import open_source
from streaming.result import Answer
from training.measure import Tally, guesses, table
from workers.run.pool import Pool


def measure(pool: Pool, options: Options, clips: Path, *, every: int = 1) -> Tally:
    """Return right and asked, by question type and number of frames of the clip.

    Args:
        pool: started with these options.
        options: of every run, but for the number of frames, which the questions tell.
        clips: folder with ``questions.jsonl``.
        every: take each so-many-th clip of every number of frames and shape.
    """
    by_clip: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (clips / "questions.jsonl").read_text().splitlines():
        asked = json.loads(line)
        by_clip[asked["clip"]].append(asked)
    tally: Tally = defaultdict(lambda: [0, 0])
    for name in sorted(by_clip)[::every]:
        questions = by_clip[name]
        num_frames = questions[0]["num_frames"]
        run = replace(options, num_frames=num_frames)
        texts = [question["question"] for question in questions]
        source = open_source(str(clips / name), run)
        watched = watch(pool, source, run, texts, started=time.perf_counter())
        for question, text in zip(questions, texts, strict=True):
            said = [x.answer for x in ask(pool, watched, run, text) if isinstance(x, Answer)]
            count = tally[question["type"], num_frames]
            count[0] += said[-1] in question["answers"]
            count[1] += 1
    return tally


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table for each fraction kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--keep-ratios", type=float, nargs="+", default=[1.0, 0.1])
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args(arguments)
    guess = guesses(given.clips / "questions.jsonl")
    options = Options(executor="local", model=given.model, max_new_tokens=5)
    with open_pool(options) as pool:
        for keep_ratio in given.keep_ratios:
            run = replace(options, keep_ratio=keep_ratio)
            tally = measure(pool, run, given.clips, every=given.every)
            print(f"\nkept {keep_ratio:g}\n\n{table(tally, guess)}", flush=True)


if __name__ == "__main__":
    main()
