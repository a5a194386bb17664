"""Asks the questions about one clip of every cell of an evaluation."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from streaming.config import Options
from streaming.evaluate.cells import Cell
from streaming.evaluate.questions import Question, is_right
from streaming.pipeline import EncodedClip, ask, choose, encode, num_segments
from streaming.plan import ClipPlan, Source, open_source, plan_clip
from streaming.result import Answer
from workers.run.pool import Pool


def clip_name(question: Question) -> str:
    """Return what a clip's answers are recorded under."""
    frames = "" if question.num_frames is None else f"@{question.num_frames}"
    return f"{question.clip}{frames}"


def answer_clip(
    pool: Pool, questions: Sequence[Question], cells: Sequence[Cell]
) -> Iterator[dict[str, Any]]:
    """Yield one record for each cell; cells that look at the same pictures share their encoding."""
    texts = [question.text for question in questions]
    planned = [_plan(pool, questions[0], cell, texts) for cell in cells]
    groups: dict[Any, list[int]] = {}
    for number, (_, plan) in enumerate(planned):
        pts = tuple(int(t) for segment in plan.segments for t in segment.pts)
        groups.setdefault((pts, plan.prune.base_only), []).append(number)
    for numbers in groups.values():
        before = _busy(pool)
        plans = [planned[number][1] for number in numbers]
        clip = encode(pool, planned[numbers[0]][0], plans, started=time.perf_counter())
        shared = {k: v - before[k] for k, v in _busy(pool).items() if k in ("decode", "encode")}
        for place, number in enumerate(numbers):
            yield _answer_cell(pool, clip, place, cells[number], questions, shared)


def _plan(
    pool: Pool, question: Question, cell: Cell, texts: Sequence[str]
) -> tuple[Source, ClipPlan]:
    """Plan a clip for a cell, whose budget counts tokens of both resolutions."""
    whole = _open(
        question.clip, _sampling(replace(cell, frame_factor=1.0), question, base_only=False)
    )
    seen = _sampling(cell, question, base_only=cell.options.base_only)
    source = _open(question.clip, seen)
    budget = cell.budget_for(len(whole.frame_indices) * whole.geometry.num_tokens)
    options = replace(cell.options, num_frames=seen.num_frames, fps=seen.fps, budget=budget)
    plan = plan_clip(
        source, options, texts, pool.measure, num_segments=num_segments(options), thumbnail_width=0
    )
    return source, plan


@lru_cache(maxsize=8)
def _open(clip: str, sampling: Options) -> Source:
    return open_source(clip, sampling)


def _sampling(cell: Cell, question: Question, *, base_only: bool) -> Options:
    """Return a cell's options with everything left out that does not choose frames."""
    options = cell.sampling(question.num_frames)
    return Options(
        model=options.model, num_frames=options.num_frames, fps=options.fps,
        start=options.start, end=options.end, base_only=base_only,
    )  # fmt: skip


def _busy(pool: Pool) -> dict[str, float]:
    """Return busy seconds by stage, summed over the workers."""
    seconds: dict[str, float] = defaultdict(float)
    for usage in pool.usage().values():
        for stage, value in usage.seconds.items():
            seconds[stage] += value
    return seconds


def _answer_cell(
    pool: Pool,
    encoded: EncodedClip,
    place: int,
    cell: Cell,
    questions: Sequence[Question],
    shared: dict[str, float],
) -> dict[str, Any]:
    before = _busy(pool).get("select", 0.0)
    clip = choose(pool, encoded, place)
    seconds = defaultdict(float, shared)
    seconds["prune"] = _busy(pool)["select"] - before + sum(f.prune_seconds for f in clip.frames)
    said = []
    for question in questions:
        (answer,) = (
            x for x in ask(pool, clip, cell.options, question.text) if isinstance(x, Answer)
        )
        for stage in ("prefill", "generate"):
            seconds[stage] += answer.seconds[stage]
        right = is_right(answer.answer, question.answers)
        said.append({"type": question.type, "question": question.text, "answer": answer.answer,
                     "right": right})  # fmt: skip
    return {
        "row": cell.row, "kept": cell.kept, "seed": cell.options.seed,
        "clip": clip_name(questions[0]),
        "budget": clip.plan.budget.budget,
        "num_visual_tokens": answer.num_visual_tokens,
        "num_unpruned_tokens": clip.plan.num_unpruned_tokens,
        "num_frames": clip.plan.num_frames,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "answers": said,
    }  # fmt: skip
