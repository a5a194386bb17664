"""Answer questions about clips over HTTP, in OpenAI's language: ``python -m streaming.serve``.

The models stay loaded and clips stay encoded. POST /v1/chat/completions with a clip as a data: URL
or uploaded to /v1/files; see docs/server.md. The address goes to stdout once the server listens.
Clips are decoded by workers on Ray that are killed for what they take, unless --executor local asks
for one process. Exit status: 1 the address cannot be had or the model not be used; 2 usage;
130 interrupted, 143 terminated.
"""

import argparse
from collections.abc import Sequence
from typing import TextIO

from streaming.command import Parser, leave, run_command
from streaming.flags import add_options
from streaming.serve.options import ServerOptions
from workers.errors import InputError

_HELPS = {
    "budget": "visual tokens that a clip is encoded for and gets where a request says nothing "
    "(default: half the model's context, at most 4096)",
    "executor": "in actors on Ray, or all in this process, where nothing ends a decoder that hangs "
    "(auto: ray)",
    "decode_seconds": "--stall-seconds of decode workers, on Ray (default: 20)",
    "decoder_gib": "memory that a decode worker may hold of its own, on Ray (default: 2)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_parse, _run, arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m streaming.serve", description=__doc__, allow_abbrev=False)
    add_options(parser, make=ServerOptions, helps=_HELPS)
    return parser.parse_args(arguments)


def _run(arguments: argparse.Namespace, output: TextIO) -> None:
    try:
        from streaming.serve.serving import run
    except ModuleNotFoundError as error:
        raise InputError(
            f"the server needs {error.name} (pip install 'mr-stream[server]')"
        ) from None
    run(arguments, output)


if __name__ == "__main__":
    leave(main())
