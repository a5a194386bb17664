"""A job over a data set, from its manifest to its summary."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from streaming.batch.answering import Answering, EngineFailedError
from streaming.batch.clips import ClipTask, clip_tasks
from streaming.batch.fingerprint import settings_of
from streaming.batch.folder import Done, open_folder, resume, settle, write_summary
from streaming.batch.manifest import read_manifest
from streaming.batch.record import Record
from streaming.batch.shards import ShardWriter
from streaming.engine import open_engine
from streaming.flags import change, read_options
from streaming.options import Options
from streaming.pipeline import in_flight
from streaming.sample import check_run
from workers.disk.store import open_store
from workers.errors import FailedRowsError

_LOG_SECONDS = 10.0
"""Between two lines of progress where no terminal shows a bar."""


def run(arguments: argparse.Namespace, output: TextIO) -> None:
    """Answer what has no row yet, and sum up.

    Raises:
        FailedRowsError: more rows failed than ``--max-failure-rate`` allows.
        StreamError: nothing more can be answered; what is done is kept.
    """
    started = time.perf_counter()
    options = settled(read_options(arguments))
    manifest = read_manifest(
        arguments.manifest, options, ignored=arguments.ignore, form=arguments.format
    )
    form = arguments.format or ("openai" if manifest.is_openai else "jsonl")
    folder = Path(arguments.output)
    with open_folder(folder):
        fingerprint = settle(folder, settings_of(options), arguments.on_change)
        done = resume(
            folder,
            form,
            manifest.items,
            fingerprint,
            retry_failed=arguments.retry_failed,
            on_change=arguments.on_change,
        )
        tasks = list(clip_tasks(manifest.items, done.names))
        num_before = len(done.names)
        try:
            if tasks:
                writer = ShardWriter(
                    folder, form, rows=arguments.shard_rows, seconds=arguments.shard_seconds
                )
                _answer(tasks, options, fingerprint, done, writer, len(manifest.items))
        finally:
            on_gpu = options.model.device == "cuda"
            summary = done.summary.to_json(on_gpu=on_gpu)
            summary |= {"pending": len(manifest.items) - done.summary.num_rows}
            write_summary(folder, summary)
    total, failed = done.summary.num_rows, done.summary.num_failed
    elapsed = time.perf_counter() - started
    print(
        f"{total} rows in {folder}: {total - failed} answered, {failed} failed; "
        f"{total - num_before} of them now, in {elapsed:.1f} s",
        file=output,
        flush=True,
    )
    if done.summary.failure_rate > arguments.max_failure_rate:
        stages = ", ".join(f"{stage} {n}" for stage, n in done.summary.failed.items())
        raise FailedRowsError(
            f"{failed} of {total} rows failed ({stages}): see error_message in {folder}; "
            "--retry-failed asks them again"
        )


def settled(options: Options) -> Options:
    """Return the options with what a job does by itself: join RAY_ADDRESS, else run on Ray here.

    A clip that crashes a decoder must not end the job, so nothing is decoded in this process unless
    that is asked for.
    """
    run = options.run
    address = os.environ.get("RAY_ADDRESS")
    if run.address is None and run.executor != "local" and address:
        options = change(options, {"address": address}, source="RAY_ADDRESS")
    if run.executor == "auto":
        options = change(options, {"executor": "ray"}, source="")
    return options


def _answer(
    tasks: Iterable[ClipTask],
    options: Options,
    fingerprint: str,
    done: Done,
    writer: ShardWriter,
    num_items: int,
) -> None:
    """Answer clips side by side; rows are written as they come."""
    check_run(options)
    kept = options.store
    store = None if kept.bank is None else open_store(kept.bank, kept.bank_gib)
    lock = threading.Lock()
    is_shown = sys.stderr.isatty()
    bar = tqdm(
        total=num_items,
        initial=len(done.names),
        unit="row",
        file=sys.stderr,
        mininterval=0.1 if is_shown else _LOG_SECONDS,
        smoothing=0.1,
    )

    def write(record: Record) -> None:
        with lock:
            if writer.write(record):
                done.summary.add(record)
                bar.set_postfix(failed=done.summary.num_failed, refresh=False)
                bar.update()

    # The writer is closed before the engine, whose end would fail what is still being answered.
    with bar, open_engine(options) as engine, writer:
        answering = Answering(
            engine=engine,
            options=options,
            fingerprint=fingerprint,
            attempts=done.attempts,
            write=write,
            store=store,
        )
        try:
            for _ in in_flight(answering.answer, tasks, limit=options.run.clips_in_flight):
                pass
        except EngineFailedError as error:
            raise error.error from None
