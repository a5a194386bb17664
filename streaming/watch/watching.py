"""What ``streaming.watch`` does once its words are read: apart, so that --help is quick."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from streaming.command import say
from streaming.engine import open_engine
from streaming.flags import change, read_options
from streaming.options import Options
from streaming.watch.asker import Asker
from streaming.watch.cut import hold_cut
from streaming.watch.defaults import DEFAULT_FPS
from streaming.watch.held import watch_held
from streaming.watch.live_clip import LiveClip, warm_up
from streaming.watch.plan import LivePlan, plan_live
from streaming.watch.record import clock
from workers.checkpoint import EMBEDDED
from workers.errors import InputError, VideoOpenError
from workers.video.limits import check_file
from workers.video.live.address import parse_address
from workers.video.live.events import Away, End, Event, Gap, LiveFrame
from workers.video.live.source import LiveSource, Patience
from workers.video.source import open_source
from workers.video.video_index import VideoIndex

_WAIT_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0
"""Without an answer for so long, one is asked for though it is late: or none might ever be."""


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Watch the source to its end, or answer at some times of a file."""
    options = read_options(arguments)
    if options.frames.fps is None:
        options = change(options, {"fps": DEFAULT_FPS}, source="")
    plan = plan_live(
        parse_address(arguments.source).name,
        options,
        arguments.questions,
        choices=arguments.choices,
        window=arguments.window,
    )
    if options.model.model == EMBEDDED:
        say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
    if arguments.at:
        _answer_cuts(arguments, options, plan, output)
    else:
        _follow(arguments, options, plan, output)


def _answer_cuts(
    arguments: argparse.Namespace, options: Options, plan: LivePlan, output: TextIO
) -> None:
    source = open_source(arguments.source)
    if not isinstance(source, VideoIndex):
        raise InputError(f"{source.name}: --at is for videos")
    with open_engine(options) as engine:
        asker = Asker(engine, plan, arguments, output)
        for seconds in arguments.at:
            held = hold_cut(engine, plan, source, seconds)
            asker.ask(watch_held(engine, plan, held), held, seconds)


def _follow(
    arguments: argparse.Namespace, options: Options, plan: LivePlan, output: TextIO
) -> None:
    patience = Patience(silence=arguments.silence, give_up=arguments.give_up)
    address = parse_address(arguments.source)
    if address.kind == "file":
        check_file(address.url)  # rather now than when the models are loaded
    source = LiveSource(
        address,
        fps=plan.fps,
        speed=arguments.speed,
        max_lag_seconds=arguments.max_lag,
        pipe=os.dup(sys.stdin.fileno()) if address.kind == "pipe" else 0,
        patience=patience,
    )
    with open_engine(options) as engine:
        warm_up(engine, plan)
        asker = Asker(engine, plan, arguments, output)
        watching = Watching(source, LiveClip(engine, plan), asker, every=arguments.every)
        with source:
            try:
                watching.run()
            finally:
                say(watching.summary())


class Watching:
    """Feeds a clip from a source, and has it asked whenever that is due.

    Frames and questions are in the order of media time: at a time t the clip holds the frames shown
    before t, and no other. Where nothing new was seen since the last answer, the visual sequence
    would be the same, and so would the answer: nothing is asked. Of a source that does not wait,
    what is due is left out while what comes after it is due as well.

    Args:
        source: is being read.
        clip: is fed.
        asker: asks.
        every: media seconds from one answer to the next.
    """

    def __init__(self, source: LiveSource, clip: LiveClip, asker: Asker, *, every: float) -> None:
        self._source = source
        self._clip = clip
        self._asker = asker
        self._every = every
        self._num_due = 1
        self._num_asked_frames = 0
        self._asked_at = time.monotonic()
        self._reached: float | None = None
        self._num_gaps = 0
        self._gap_seconds = 0.0

    def run(self) -> None:
        """Go on to the end of the source.

        Raises:
            VideoOpenError: it was given up.
            StreamError: a model or a worker failed.
        """
        end: End | None = None
        while end is None:
            events, reached = self._source.take(_WAIT_SECONDS)
            end = self._take(events)
            if reached is not None:
                self._reach(reached)
        if end.error is not None:
            raise VideoOpenError(end.error)
        if self._reached is not None:
            self._ask(self._reached)

    def summary(self) -> str:
        """Return in one line what was seen."""
        held, source = self._clip.hold(), self._source
        seen = 0.0
        if self._reached is not None and source.ticks is not None:
            seen = self._reached - source.ticks.first_seconds
        return (
            f"seen {clock(seen)} in {held.num_frames:,} frames ({source.num_dropped:,} dropped, "
            f"{self._num_gaps:,} gaps of {self._gap_seconds:.1f} s), {self._asker.num_answers:,} "
            f"answers; held are {len(held.frames):,} frames with {held.num_tokens:,} tokens (at "
            f"most {self._clip.plan.max_held_tokens:,})"
        )

    def _take(self, events: Sequence[Event]) -> End | None:
        frames: list[LiveFrame] = []
        for event in events:
            if isinstance(event, LiveFrame):
                frames = self._ask_before(event, frames)
                frames.append(event)
            elif isinstance(event, Gap):
                self._num_gaps += 1
                self._gap_seconds += event.end_seconds - event.start_seconds
                self._asker.note(event)
            elif isinstance(event, Away):
                say(f"{event.reason}; opened again in {event.pause_seconds:.1f} s")
        self._clip.feed(frames)
        return next((event for event in events if isinstance(event, End)), None)

    def _ask_before(self, frame: LiveFrame, waiting: list[LiveFrame]) -> list[LiveFrame]:
        """Ask what is due before a frame is shown; return the frames that still wait."""
        ticks = self._source.ticks
        while ticks is not None and ticks.before(self._due) <= frame.tick:
            self._clip.feed(waiting)
            waiting = []
            self._ask_due()
        return waiting

    def _reach(self, seconds: float) -> None:
        self._reached = seconds
        while self._due <= seconds:
            self._ask_due()

    @property
    def _due(self) -> float:
        """The media time of the next answer."""
        ticks = self._source.ticks
        return float("inf") if ticks is None else ticks.first_seconds + self._num_due * self._every

    def _ask_due(self) -> None:
        due = self._due
        self._num_due += 1
        if not (self._source.may_drop and self._is_late()):
            self._ask(due)

    def _is_late(self) -> bool:
        """Return whether what is due next is due as well, and an answer has been given of late."""
        newest, asked = self._source.newest_seconds, time.monotonic() - self._asked_at
        is_due = newest is not None and newest >= self._due
        return is_due and asked < max(self._every, _PATIENCE_SECONDS)

    def _ask(self, media_seconds: float) -> None:
        held = self._clip.hold()
        if held.num_frames > self._num_asked_frames and held.frames:
            self._num_asked_frames = held.num_frames
            self._asker.ask(self._clip.watch(), held, media_seconds, self._source)
            self._asked_at = time.monotonic()
