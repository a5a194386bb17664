"""What ``streaming.watch`` does once its words are read: apart, so that --help is quick."""

import argparse
import os
import sys
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
from streaming.watch.printing import Printer
from streaming.watch.standing import StandingQuestion
from streaming.watch.watching import Watching
from workers.checkpoint import EMBEDDED
from workers.errors import InputError
from workers.video.limits import check_file
from workers.video.live.address import parse_address
from workers.video.live.source import LiveSource, Patience
from workers.video.source import open_source
from workers.video.video_index import VideoIndex


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Watch the source to its end, or answer at some times of a file."""
    options = read_options(arguments)
    if options.frames.fps is None:
        options = change(options, {"fps": DEFAULT_FPS}, source="")
    name = parse_address(arguments.source).name
    plan = plan_live(name, options, _questions(arguments), window=arguments.window)
    if options.model.model == EMBEDDED:
        say("the embedded model is tiny: it knows drawn clips of shapes and numbers, no real ones")
    if arguments.at:
        _answer_cuts(arguments, options, plan, Printer(arguments, output))
    else:
        _follow(arguments, options, plan, Printer(arguments, output))


def _questions(arguments: argparse.Namespace) -> list[StandingQuestion]:
    return [
        StandingQuestion(
            text=text,
            choices=tuple(arguments.choices),
            every_seconds=arguments.every,
            confirm=arguments.on_change,
        )
        for text in arguments.questions
    ]


def _answer_cuts(
    arguments: argparse.Namespace, options: Options, plan: LivePlan, printer: Printer
) -> None:
    source = open_source(arguments.source)
    if not isinstance(source, VideoIndex):
        raise InputError(f"{source.name}: --at is for videos")
    with open_engine(options) as engine:
        asker = Asker(engine, plan, _questions(arguments), printer.answer)
        for seconds in arguments.at:
            held = hold_cut(engine, plan, source, seconds)
            asker.ask(watch_held(engine, plan, held), held, seconds)


def _follow(
    arguments: argparse.Namespace, options: Options, plan: LivePlan, printer: Printer
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
        asker = Asker(engine, plan, _questions(arguments), printer.answer)
        askers = {arguments.every: asker}
        watching = Watching(source, LiveClip(engine, plan), askers, printer.event)
        with source:
            try:
                watching.run()
            finally:
                say(watching.summary())
