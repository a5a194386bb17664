"""The command: what it refuses before anything is loaded, and how it ends."""

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streaming.clip_plan import ClipPlan
from streaming.flags import change
from streaming.options import Options
from streaming.serve import command, warming
from streaming.serve.key import read_key
from streaming.serve.options import ServerOptions
from streaming.serve.serving import settled
from workers.errors import InputError, ModelError
from workers.run.engine import Engine


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MR_STREAM_API_KEY", raising=False)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = command.main(words)
    return status, capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_machines_are_not_listened_to_without_a_key(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    status, told = run(capsys, "--host", host)
    assert status == 2
    assert "give --api-key-file, or set MR_STREAM_API_KEY" in told


@pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"\xff", "k\u00e9y".encode()])
def test_a_file_without_a_key_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    status, told = run(capsys, "--api-key-file", str(file))
    assert (status, told.count("\n")) == (2, 1)
    assert str(file) in told


def test_a_key_is_read_from_the_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    assert read_key(None) is None
    monkeypatch.setenv("MR_STREAM_API_KEY", "from-outside")
    assert read_key(None) == "from-outside"
    monkeypatch.setenv("MR_STREAM_API_KEY", "from-outside\n")
    assert read_key(None) == "from-outside"
    assert read_key(str(file)) == "from-the-file"
    monkeypatch.setenv("MR_STREAM_API_KEY", "")
    assert read_key(None) is None


@pytest.mark.parametrize("value", ["\n", "two words", "k\u00e9y"])
def test_a_key_of_the_environment_is_one_that_can_be_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MR_STREAM_API_KEY", value)
    with pytest.raises(InputError, match="MR_STREAM_API_KEY: must hold one key"):
        read_key(None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-frames", "0"], "--max-frames 0: must be at least 1"),
        (["--max-new-tokens", "2000"], "must be at most --max-answer-tokens 1024"),
        (["--alow-domain", "x"], "did you mean --allow-domain?"),
        (["--media-folder", "nosuch"], "--media-folder nosuch: no such folder"),
        (["--allow-domain", "a.org, http://x"], "--allow-domain 'http://x': must be names of"),
        (["--port", "99999"], "must be at least 0 and at most 65,535"),
    ],
)
def test_options_are_checked(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    status, error = run(capsys, *words)
    assert status == 2
    assert told in error


def test_an_address_in_use_is_told_before_models_are_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, told = run(capsys, "--port", port, "--executor", "local")
    assert (status, told) == (1, f"error: --host 127.0.0.1 --port {port}: Address already in use\n")


def test_clips_are_decoded_where_they_can_be_killed_for_it() -> None:
    run = settled(ServerOptions()).run
    assert (run.executor, run.decode_seconds, run.decoder_gib) == ("ray", 20.0, 2.0)


def test_it_ends_where_the_models_cannot_be_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ModelError("no weights")

    monkeypatch.setattr(warming, "answer_clip", fail)
    status, told = run(capsys, "--port", "0", "--executor", "local", "--device", "cpu")
    assert (status, told) == (1, "error: no weights\n")


def test_what_clips_are_asked_of_does_not_hold_for_the_picture_that_warms_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[ClipPlan] = []
    monkeypatch.setattr(warming, "answer_clip", lambda engine, plan, texts: plans.append(plan))
    options = change(Options(), {"start": 3.0, "end": 9.0, "fps": 2.0}, source="")
    begun = warming.Warming(Engine({}), options)
    for thread in threading.enumerate():
        if thread.name == "warm-up":
            thread.join(60)
    assert begun.is_ready()
    assert begun.failure is None
    assert [plan.clip.num_frames for plan in plans] == [1]


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    words = ["--port", "0", "--executor", "local", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "streaming.serve", *words], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://127.0.0.1:")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 143
