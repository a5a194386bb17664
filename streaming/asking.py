"""What ``streaming.ask`` does once its words are read: apart from them, so that --help is quick."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

from streaming.command import check_text, say, typed_lines
from streaming.engine import open_engine
from streaming.flags import read_options
from streaming.pipeline import ahead, ask, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import sample_source
from streaming.served import entry_options
from workers.checkpoint import EMBEDDED
from workers.disk.store import open_store
from workers.errors import ContextError, InputError
from workers.run.clip_job import Progress
from workers.video.entry_source import EntrySource
from workers.video.source import Source, open_source

_THUMBNAIL_WIDTH = 448
_FALLBACK_QUESTION = "What happens in this video, and in which order? Describe it in detail."


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Watch the clip, and answer what is asked and typed."""
    options = read_options(arguments)
    kept = options.store
    store = None if kept.bank is None else open_store(kept.bank, kept.bank_gib)
    source = _open(arguments.video)
    if isinstance(source, EntrySource):
        options = read_options(arguments, entry_options(source))
    plan = plan_clip(
        sample_source(source, options),
        options,
        arguments.questions or [_FALLBACK_QUESTION],
        choices=arguments.choices,
        thumbnail_width=_THUMBNAIL_WIDTH if arguments.report or store else 0,
    )
    if options.model.model == EMBEDDED:
        say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
    answers: list[Answer] = []
    is_stored = store is not None or isinstance(source, EntrySource)
    with open_engine(options, lazy_vision=is_stored) as engine:
        with _Bars(plan.clip.num_frames, wait=is_stored) as bars:
            is_shown = bool(arguments.report)
            clip = watch(engine, plan, bars.show, store=store, need_thumbnails=is_shown)
        for warning in (*plan.warnings, *clip.visual.encoded.warnings):
            say(warning)
        try:
            asked = partial(ask, engine, clip, choices=arguments.choices)
            for pieces in ahead(map(asked, arguments.questions)):
                answers.append(_answer(pieces, arguments, output))
            for line in typed_lines() if arguments.interactive else ():
                try:
                    check_text(line, what="the question")
                    answers.append(_answer(asked(line), arguments, output))
                except (ContextError, InputError) as error:
                    say(f"error: {error}")
        finally:
            if arguments.report and answers:
                from streaming.report.page import write_report

                write_report(arguments.report, answers)


def _open(video: str) -> Source:
    """Open a clip, with a bar for one so long that listing its pictures takes a while."""
    with tqdm(total=100, desc="index", unit="%", delay=2, file=sys.stderr) as bar:
        return open_source(video, progress=lambda share: bar.update(int(100 * share) - bar.n))


def _answer(
    pieces: Iterator[str | Answer], arguments: argparse.Namespace, output: TextIO
) -> Answer:
    """Print one answer, as text while it comes or as one JSON object."""
    blank = True
    for piece in pieces:
        if isinstance(piece, Answer):
            print(json.dumps(piece.to_json()) if arguments.json else "", file=output, flush=True)
            say(summarize(piece))
            return piece
        if not arguments.json:
            print(piece.lstrip() if blank else piece, end="", file=output, flush=True)
            blank = blank and not piece.strip()
    raise RuntimeError("an answer ended without its record")


def summarize(answer: Answer) -> str:
    """Return the closing line of an answer."""
    return summarize_record(answer.to_json())


def summarize_record(record: Mapping[str, Any]) -> str:
    """Return the closing line of an answer as ``--json`` prints it."""
    entering = ""
    if record["num_entering_tokens"] > record["num_visual_tokens"]:
        entering = f"{record['num_entering_tokens']:,} -> "
    stages = ", ".join(f"{stage} {value:.2f} s" for stage, value in record["seconds"].items())
    return (
        f"{record['num_frames']} frame{'s' * (record['num_frames'] != 1)}, "
        f"{record['num_unpruned_tokens']:,} -> {entering}{record['num_visual_tokens']:,} "
        "visual tokens "
        f"(budget {record['budget']:,}); {stages}; {record['elapsed_seconds']:.1f} s in all"
        f"{_bank_words(record)}"
    )


def _bank_words(record: Mapping[str, Any]) -> str:
    if record["bank"] is None:
        return ""
    if not record["bank"]["hit"]:
        return "; not from the bank"
    made = record["bank"]["made_for_budget"]
    other = "" if made == record["budget"] else f", made for a budget of {made:,}"
    return f"; from the bank{other}"


class _Bars:
    """Two progress bars on stderr: frames decoded, frames encoded and pruned.

    Args:
        num_frames: of the clip.
        wait: show nothing until there is something: stored tokens are neither.
    """

    def __init__(self, num_frames: int, *, wait: bool) -> None:
        self._num_frames = num_frames
        self._bars: list[tqdm[NoReturn]] = []
        if not wait:
            self._open()

    def show(self, progress: Progress) -> None:
        """Advance the bars."""
        if not self._bars:
            self._open()
        self._bars[0].update(progress.num_read)
        self._bars[1].update(progress.num_encoded)

    def _open(self) -> None:
        self._bars = [
            tqdm(total=self._num_frames, desc=name, unit="frame", position=row, file=sys.stderr)
            for row, name in enumerate(("decode", "encode"))
        ]

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._bars:
            bar.close()
