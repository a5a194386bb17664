"""Ask questions of a data set: ``python -m streaming.batch MANIFEST --output DIR``.

MANIFEST is JSON lines, CSV or Parquet with ``id``, ``video`` and ``question`` (or ``questions``),
or OpenAI batch requests. DIR gets one row a question in ``part-*``, ``manifest.json`` and
``summary.json``. The same command goes on after any end; what has a row is not asked again. Work
is done on Ray, on this machine or the cluster of --address or RAY_ADDRESS, unless --executor local
asks for one process. Exit status: 0 done; 1 more rows failed than --max-failure-rate, or the run
failed; 2 usage; 130 interrupted, 143 terminated: what is done is kept.
"""

import argparse
from collections.abc import Sequence
from typing import TextIO

from streaming.batch.shards import FORMATS
from streaming.command import Parser, leave, run_command
from streaming.flags import add_options
from workers.errors import InputError
from workers.video.fetch import is_uri

_EXECUTOR = "in actors on Ray, or in this process, which a clip can then end (auto: ray)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.batch", description=__doc__, allow_abbrev=False)
    parser.add_argument("manifest", help="path or URI of the questions")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the answers")
    parser.add_argument(
        "--format", choices=FORMATS, help="of the rows (default: as the manifest, jsonl or openai)"
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="COLUMN", help="leave a column alone"
    )
    parser.add_argument(
        "--shard-rows", type=int, default=1000, metavar="N", help="rows of a shard (default: 1000)"
    )
    parser.add_argument(
        "--shard-seconds", type=float, default=60.0, metavar="X",
        help="a shard that is so old is closed with its next row (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask again what failed in earlier runs"
    )
    parser.add_argument(
        "--on-change", choices=("refuse", "keep", "redo"), default="refuse",
        help="what becomes of rows of other settings or questions in DIR (default: refuse)",
    )  # fmt: skip
    parser.add_argument(
        "--max-failure-rate", type=float, default=0.0, metavar="X",
        help="share of rows that may fail with exit status 0 (default: 0)",
    )  # fmt: skip
    add_options(parser, helps={"executor": _EXECUTOR})
    parsed = parser.parse_args(arguments)
    if is_uri(parsed.output):
        raise InputError(f"--output {parsed.output}: must be a folder, for example a mounted one")
    if parsed.shard_rows < 1:
        raise InputError(f"--shard-rows {parsed.shard_rows}: must be at least 1")
    if not parsed.shard_seconds > 0:
        raise InputError(f"--shard-seconds {parsed.shard_seconds:g}: must be above 0")
    if not 0 <= parsed.max_failure_rate <= 1:
        raise InputError(f"--max-failure-rate {parsed.max_failure_rate:g}: must be from 0 to 1")
    return parsed


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    from streaming.batch.job import run

    run(arguments, output)


if __name__ == "__main__":
    leave(main())
