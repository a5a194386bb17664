"""What the commands share: their parser, their exit statuses, their words on stderr."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from types import FrameType
from typing import NoReturn, TextIO

from streaming.config import suggest
from workers.errors import InputError, StreamError


class Parser(argparse.ArgumentParser):
    """Names the nearest valid option, and says so in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        unknown = message.removeprefix("unrecognized arguments: ").split()
        options = [name for action in self._actions for name in action.option_strings]
        hint = suggest(unknown[0].split("=")[0], options) if unknown else ""
        raise InputError(message + (hint if message.startswith("unrecognized") else ""))


def run_command(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    run: Callable[[argparse.Namespace, TextIO], None],
    arguments: Sequence[str] | None,
) -> int:
    """Parse, run and return the exit status; only what ``run`` is handed goes to stdout.

    0 done; 1 an input or the run failed, with one line on stderr; 2 usage; 130 interrupted, 143
    terminated.
    """
    terminated: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        terminated.append(number)
        raise KeyboardInterrupt  # the one exception that comes through Ray as it is

    signal.signal(signal.SIGTERM, terminate)
    output = sys.stdout
    try:
        parsed = parse(arguments)
        with redirect_stdout(sys.stderr):  # whatever a library prints is no answer
            run(parsed, output)
        output.flush()
    except InputError as error:
        return _fail(str(error), 2)
    except StreamError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        if terminated:
            return _fail("terminated", 128 + terminated[0])
        return _fail("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return 1
    return 0


def leave(status: int) -> NoReturn:
    """End the process with this exit status."""
    if status >= 128:  # Ray interrupted while it starts can crash the interpreter's way out
        os._exit(status)
    sys.exit(status)


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, status: int) -> int:
    say(f"error: {' '.join(text.split())}")
    return status
