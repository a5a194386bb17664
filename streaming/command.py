"""What the commands share: their parser, their exit statuses, their words on stderr."""

import argparse
import difflib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from itertools import takewhile
from types import FrameType
from typing import Any, NoReturn, TextIO, TypeVar, cast

from workers.errors import InputError, OutputError, StreamError, WorkerError

Parsed = TypeVar("Parsed")
_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|failed to map segment"
    r"|can't start new thread|std::bad_alloc",
    re.IGNORECASE,
)
"""What libraries say, in errors of other kinds, when there is no more memory to be had."""
_MOST_NAME_LETTERS = 100


class Parser(argparse.ArgumentParser):
    """Names the nearest valid option, and says so in one line."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Remember the words, so that an error can look at them."""
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        if message.startswith(("unrecognized", "the following arguments are required")) or (
            message.endswith("expected one argument")
        ):
            message += self._hint()
        raise InputError(message)

    def _hint(self) -> str:
        """Return what was meant by the first word that looks like an option and is none."""
        options = [name for action in self._actions for name in action.option_strings]
        for word in takewhile(lambda word: word != "--", self._words):
            name = word.partition("=")[0]
            if not word.startswith("-") or " " in word or name in options:
                continue
            nearest = suggest(name, options) if word.startswith("--") else ""
            if os.path.lexists(word) or (not nearest and re.search(r"[./]", word)):
                return f"; a path that begins with '-' is written ./{word}, or goes after '--'"
            if nearest:
                return nearest
        return ""


def suggest(name: str, valid: Sequence[str]) -> str:
    """Return a hint at the nearest valid name, or nothing: also of a name too long to be meant."""
    if len(name) > _MOST_NAME_LETTERS:
        return ""
    nearest = difflib.get_close_matches(name, valid, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def run_command(
    parse: Callable[[Sequence[str] | None], Parsed],
    run: Callable[[Parsed, TextIO], None],
    arguments: Sequence[str] | None,
) -> int:
    """Parse, run and return the exit status; only what ``run`` is handed goes to stdout.

    0 done; 1 an input or the run failed, with one line on stderr; 2 usage; 130 interrupted, 143
    terminated. A letter that stdout's encoding lacks is written as "?". A closed stdin is as one at
    its end, a stderr that is closed or full as one nobody reads; with stdout closed there is no
    run.
    """
    terminated: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        terminated.append(number)
        raise KeyboardInterrupt  # the one exception that comes through Ray as it is

    signal.signal(signal.SIGTERM, terminate)
    if not _open_streams():
        return _fail("stdout is closed, and answers have nowhere to go", 1)
    output = _Output(sys.stdout)
    try:
        _parse_and_run(parse, run, arguments, output)
        output.flush()
    except KeyboardInterrupt:
        if terminated:
            return _fail("terminated", 128 + terminated[0])
        return _fail("interrupted", 130)
    except _ReaderLeftError:
        output.abandon()
        return 1
    except OutputError as error:
        output.abandon()
        return _fail(str(error), 1)
    except Exception as error:
        status, text = _explain(error)
        return _fail(text, status)
    return 0


def _parse_and_run(
    parse: Callable[[Sequence[str] | None], Parsed],
    run: Callable[[Parsed, TextIO], None],
    arguments: Sequence[str] | None,
    output: "_Output",
) -> None:
    words = _words()
    with redirect_stderr(words):
        try:
            with redirect_stdout(cast(TextIO, output)):
                parsed = parse(arguments)
        except SystemExit:  # of --help and --version, which have printed what was asked for
            return
        with redirect_stdout(words):  # whatever a library prints is no answer
            run(parsed, cast(TextIO, output))


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit status and the one line for what the user can do something about.

    Raises:
        Exception: ``error`` itself where it is a fault of the program: it needs its traceback.
    """
    if isinstance(error, InputError):
        return 2, str(error)
    expected = isinstance(error, StreamError)
    may_be_memory = not expected or isinstance(error, WorkerError)
    if isinstance(error, MemoryError) or (may_be_memory and _NO_MEMORY.search(str(error))):
        reason = f": {error}" if str(error) else ""
        return 1, (
            f"out of memory{reason}; give the process more, or lower --frames-per-chunk, "
            "--num-decoders or --budget"
        )
    if expected:
        return 1, str(error)
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return 1, f"{name}{error.strerror or error}"
    raise error


class _ReaderLeftError(Exception):
    """Whoever read stdout has left, which is no failure worth a word."""


class _Stream:
    """A standard stream, but for what becomes of a failure to write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def abandon(self) -> None:
        """Let what is still buffered go nowhere, or the interpreter would fail once more."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class _Output(_Stream):
    """Stdout for answers: a failure to write is told from that of any other file."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        with self._named():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @staticmethod
    @contextmanager
    def _named() -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise _ReaderLeftError from None
        except OSError as error:
            raise OutputError(f"stdout cannot be written: {error.strerror}") from None


class _Words(_Stream):
    """Stderr for people: where it cannot be written, nobody reads it."""

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self.abandon()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self.abandon()


def _words() -> TextIO:
    _open_streams()
    return cast(TextIO, _Words(sys.stderr))


def _open_streams() -> bool:
    """Open the streams that the shell has closed, for which the interpreter has None.

    Else the next file to be opened would get a standard stream's number, and whatever a library
    prints. Returns whether stdout was open.
    """
    names = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in names:  # each gets the lowest number that is free, its own
        stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, stream)
    return "stdout" not in names


def typed_lines() -> Iterator[str]:
    """Yield what is typed on stdin, a line at a time after a prompt on stderr, until it ends.

    Blank lines are left out. Bytes that are not UTF-8 come as lone surrogates, for
    :func:`check_text` to find.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def check_text(text: str, *, what: str) -> None:
    """Refuse a text that is blank or holds bytes which are not UTF-8.

    Raises:
        InputError: begins with ``what`` the text is, for example "the question".
    """
    if not text.strip():
        raise InputError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) & 0xFF
        raise InputError(
            f"{what} is not UTF-8 text: byte 0x{byte:02x} after {text[: error.start]!r}"
        ) from None


def leave(status: int) -> NoReturn:
    """End the process with this exit status."""
    if status >= 128:  # Ray interrupted while it starts can crash the interpreter's way out
        os._exit(status)
    _words().flush()  # else a failure in the interpreter's own flush would change the status
    sys.exit(status)


def say(text: str) -> None:
    """Print a line for people, on stderr."""
    print(text, file=_words(), flush=True)


def _fail(text: str, status: int) -> int:
    say(f"error: {' '.join(text.split())}")
    return status
