"""All commands under one name: ``mr-stream COMMAND ...``, or ``python -m streaming COMMAND ...``.

Exit status: the command's own; 2 for a command that there is not.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from streaming.command import leave, run_command, say, suggest
from workers.version import package_version

COMMANDS = {
    "ask": ("streaming.ask", "ask questions of one clip"),
    "batch": (
        "streaming.batch.command",
        "ask questions of a data set of clips",
    ),
    "bench": ("streaming.bench.command", "measure what answers cost as the frame count grows"),
    "evaluate": ("streaming.evaluate.command", "measure what pruning costs, on a question set"),
    "serve": ("streaming.serve.command", "answer over HTTP, in OpenAI's language"),
    "watch": ("streaming.watch.command", "ask a camera or a stream again and again"),
}
"""By name: the module whose ``main`` takes the arguments, and what the command is for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status.

    Nothing but the module of the command is loaded.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = words[0] if words else ""
    if name in COMMANDS:
        status: int = importlib.import_module(COMMANDS[name][0]).main(words[1:])
        return status
    if name in ("-h", "--help"):
        return _print(_list())
    if name == "--version":
        return _print(f"mr-stream {package_version()}")
    if not name:
        say(_list())
    else:
        say(f"error: no command {name!r}{suggest(name, [*COMMANDS, '--help', '--version'])}")
    return 2


def run() -> NoReturn:
    """Run a command and end the process with its exit status: the console script."""
    leave(main())


def _list() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mr-stream COMMAND ...",
            "",
            *lines,
            "",
            "mr-stream COMMAND --help tells its options.",
        ]
    )


def _print(text: str) -> int:
    return run_command(lambda _: text, lambda line, output: print(line, file=output), None)


if __name__ == "__main__":
    run()
