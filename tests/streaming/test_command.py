import argparse
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest

import streaming.__main__ as commands
from streaming.command import Parser, check_text, run_command, suggest
from workers.errors import InputError, OutputError, VideoError

ROOT = Path(__file__).parents[2]
RUN = """
import sys, time
from streaming.command import leave, run_command, say, typed_lines
from workers.errors import VideoError

def run(parsed, output):
    {}

leave(run_command(lambda words: None, run, None))
"""
Run = Callable[[object, TextIO], None]


def shell(body: str, script: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command that does ``body``, as ``$command`` of a shell script."""
    return subprocess.run(
        ["bash", "-c", f'command() {{ exec "$PYTHON" -c "$CODE"; }}; {script}'],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable, "CODE": RUN.format(body)} | settings,
        capture_output=True,
        check=False,
    )


def run_in_process(run: Run) -> int:
    return run_command(lambda words: None, run, [])


def raiser(error: BaseException) -> Run:
    def run(parsed: object, output: TextIO) -> None:
        raise error

    return run


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="x", allow_abbrev=False)
    parser.add_argument("video")
    parser.add_argument("questions", nargs="*")
    parser.add_argument("--budget", type=int)
    parser.add_argument("--report")
    return parser


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["v", "--buget", "3"], "unrecognized arguments: --buget 3; did you mean --budget?"),
        (["v", "--buget=3"], "unrecognized arguments: --buget=3; did you mean --budget?"),
        (["v", "--zzz"], "unrecognized arguments: --zzz"),
        (["v", "-x"], "unrecognized arguments: -x"),
        (["v", "--budget", "x"], "argument --budget: invalid int value: 'x'"),
        ([], "the following arguments are required: video"),
    ],
)
def test_a_wrong_word_is_one_line_with_a_hint(
    parser: Parser, words: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}(, questions)?$"):
        parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-dash.mp4"], "-dash.mp4"),
        (["-dash.mp4", "Why?"], "-dash.mp4"),
        (["--dash.mp4", "Why?", "--budget", "3"], "--dash.mp4"),
        (["-clips/a", "Why?"], "-clips/a"),
        (["-there", "Why?"], "-there"),
        (["v", "Why?", "--report", "-page.html"], "-page.html"),
    ],
)
def test_a_path_that_begins_with_a_dash(
    parser: Parser,
    words: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "-there").touch()
    monkeypatch.chdir(tmp_path)
    hint = f"; a path that begins with '-' is written ./{name}, or goes after '--'"
    with pytest.raises(InputError, match=f"{re.escape(hint)}$"):
        parser.parse_args(words)


def test_the_hint_is_true(parser: Parser) -> None:
    assert parser.parse_args(["./-dash.mp4", "Why?"]).video == "./-dash.mp4"
    assert parser.parse_args(["--budget", "3", "--", "-dash.mp4", "Why?"]).video == "-dash.mp4"


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("bugdet", ["budget", "fps"]) == "; did you mean budget?"
    assert suggest("qqq", ["budget", "fps"]) == ""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("--budget 0:\n must"), 2, "--budget 0: must"),
        (VideoError("a.mp4: broken"), 1, "a.mp4: broken"),
        (OutputError("full"), 1, "full"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory; give the process more, or lower --frames-per-chunk"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), 1, "out of memory: Def"),
        (RuntimeError("CUDA out of memory. Tried to"), 1, "out of memory: CUDA out of memory"),
        (RuntimeError("can't start new thread"), 1, "out of memory: can't start new thread"),
        (ImportError("libx.so: failed to map segment from shared object"), 1, "out of memory: lib"),
        (OSError(12, "Cannot allocate memory"), 1, "out of memory: [Errno 12] Cannot allocate"),
        (OSError(30, "Read-only file system", "/x/y"), 1, "/x/y: Read-only file system"),
        (OSError(24, "Too many open files"), 1, "Too many open files"),
        (BrokenPipeError(32, "Broken pipe"), 1, "Broken pipe"),
    ],
)
def test_what_a_run_meets_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    assert run_in_process(raiser(error)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: {re.escape(line)}[^\n]*\n", err)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ZeroDivisionError(), KeyError("x")])
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run_in_process(raiser(error))
    assert caught.value is error


def test_only_answers_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def run(parsed: object, output: TextIO) -> None:
        print("noise of a library")
        print("an answer", file=output, flush=True)

    assert run_in_process(run) == 0
    assert capsys.readouterr() == ("an answer\n", "noise of a library\n")


def test_help_is_an_answer(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    def never(parsed: argparse.Namespace, output: TextIO) -> None:
        raise AssertionError(parsed)

    assert run_command(parser.parse_args, never, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: x ")
    assert err == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("body", ["print('blue', file=output)", "output.write('x' * 100_000)"])
def test_stdout_on_a_full_disk_is_one_line(body: str, unbuffered: str) -> None:
    done = shell(body, "command >/dev/full", PYTHONUNBUFFERED=unbuffered)
    line = b"error: stdout cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_help_on_a_full_disk_is_one_line() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$0" -m streaming --help >/dev/full', sys.executable],
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": ""}, capture_output=True, check=False,
    )  # fmt: skip
    line = b"error: stdout cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_without_a_stdout_nothing_is_run() -> None:
    done = shell("say('it runs')", "command >&-", PYTHONUNBUFFERED="")
    line = b"error: stdout is closed, and answers have nowhere to go\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_a_stdout_that_cannot_be_written_is_one_line() -> None:
    done = shell("print('blue', file=output)", "command 1</dev/null", PYTHONUNBUFFERED="")
    assert done.returncode == 1
    assert done.stderr == b"error: stdout cannot be written: Bad file descriptor\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    body = "[print('blue' * 9999, file=output) for _ in range(99)]"
    script = "command | head -c 1; exit ${PIPESTATUS[0]}"
    done = shell(body, script, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"b", b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    "words",
    [
        "say('a word')",
        "print('noise')",
        "import logging; logging.warning('beware')",
        "from tqdm import tqdm; list(tqdm([1, 2], mininterval=0))",
    ],
)
def test_without_a_stderr_answers_still_come_alone(
    words: str, stderr: str, unbuffered: str
) -> None:
    body = f"{words}; print('blue', file=output)"
    done = shell(body, f"command {stderr}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout) == (0, b"blue\n")


def test_without_a_stderr_a_failure_keeps_its_status() -> None:
    body = "say('a word'); raise VideoError('a.mp4: broken')"
    done = shell(body, "command 2>/dev/full", PYTHONUNBUFFERED="")
    assert (done.returncode, done.stdout) == (1, b"")


def test_letters_that_stdout_lacks_are_replaced() -> None:
    body = r"print('caf\u00e9 \U0001f3ac \udcff', file=output)"
    assert shell(body, "command", PYTHONIOENCODING="ascii").stdout == b"caf? ? ?\n"
    assert shell(body, "command", PYTHONIOENCODING="latin-1").stdout == b"caf\xe9 ? ?\n"
    done = shell(body, "command", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "café \U0001f3ac ?\n"


TYPED = "[print(ascii(line), file=output) for line in typed_lines()]"


def test_typed_lines_end_with_stdin() -> None:
    done = shell(TYPED, r"printf ' one \n\n  \ntwo' | command")
    assert (done.returncode, done.stdout) == (0, b"'one'\n'two'\n")
    assert done.stderr == b"> " * 5


def test_a_closed_stdin_has_ended() -> None:
    done = shell(TYPED, "command <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"> ")


def test_a_typed_byte_that_is_not_utf8_does_not_end_the_lines() -> None:
    done = shell(TYPED, r"printf 'caf\xe9\nblue\n' | command", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, b"'caf\\udce9'\n'blue'\n")


def test_texts_are_checked() -> None:
    check_text("Où est le café? \U0001f3ac", what="the question")
    with pytest.raises(InputError, match=r"^the question is empty$"):
        check_text(" \t", what="the question")
    message = "^the question is not UTF-8 text: byte 0xe9 after 'caf'$"
    with pytest.raises(InputError, match=message):
        check_text("caf\udce9", what="the question")


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGTERM, 143, b"terminated"), (signal.SIGINT, 130, b"interrupted")],
)
def test_a_signal_ends_the_run_with_its_status(number: int, status: int, line: bytes) -> None:
    # a test run in the background ignores SIGINT, and whatever it starts would
    heed = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    kill = f"os.kill(os.getpid(), {int(number)})"
    done = shell(f"import os, signal; {heed}; {kill}; time.sleep(60)", "command")
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"error: " + line + b"\n")


def test_an_address_space_that_is_too_small_is_one_line(clip: str) -> None:
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 600000; exec "$0" -m streaming.ask "$@"', sys.executable,
         clip, "Why?", "--executor", "local", "--num-frames", "2"],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert re.match(r"error: out of memory.*; give the process more", done.stderr.splitlines()[-1])


def test_a_question_that_is_not_utf8_is_refused(clip: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streaming.ask", clip, b"caf\xe9?"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: the question is not UTF-8 text: byte 0xe9 after 'caf'\n"


def test_a_typed_question_that_is_not_utf8_does_not_end_the_session(
    clip: str,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"caf\xe9?\nWhat is shown?\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", typed)
    settings = ["--num-frames", "2", "--max-new-tokens", "2"]
    result = run(clip, "--interactive", "--json", *settings)
    assert [answer["question"] for answer in result.objects] == ["What is shown?"]
    assert result.status == 0
    assert "> error: the question is not UTF-8 text: byte 0xe9 after 'caf'\n> " in result.err


@pytest.mark.parametrize("name", ["clip", "link", "folder", "long"])
def test_a_page_that_cannot_be_written_is_refused_before_the_run(
    clip: str, run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    link = tmp_path / "link.html"
    link.hardlink_to(clip)
    report, reason = {
        "clip": (clip, "is the clip itself"),
        "link": (str(link), "is the clip itself"),
        "folder": (str(tmp_path), "is a directory"),
        "long": (str(tmp_path / ("x" * 300)), "File name too long"),
    }[name]
    before = Path(clip).read_bytes()
    result = run(clip, "Why?", "--report", report)
    assert result == (2, "", f"error: --report {report}: {reason}\n")
    assert Path(clip).read_bytes() == before


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert re.findall(r"^  (\w+)  +\w", out, re.MULTILINE) == list(commands.COMMANDS)
    assert err == ""
    assert commands.main([]) == 2
    assert capsys.readouterr() == ("", out)


@pytest.mark.parametrize("name", list(commands.COMMANDS))
def test_every_command_tells_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([name, "--help"]) == 0
    assert "--resize" in capsys.readouterr().out
    assert commands.main([name, "--num-frams"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "hint"),
    [("aks", "; did you mean ask?"), ("--versoin", "; did you mean --version?"), ("zzz", "")],
)
def test_a_command_that_there_is_not(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main([word, "clip.mp4"]) == 2
    assert capsys.readouterr() == ("", f"error: no command '{word}'{hint}\n")


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["--version"]) == 0
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert capsys.readouterr().out == f"mr-stream {version[1]}\n"


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = (
        "import sys, streaming.__main__; "
        "print(sorted({'numpy', 'av', 'yaml', 'streaming.ask', 'streaming.flags'} & "
        "sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
