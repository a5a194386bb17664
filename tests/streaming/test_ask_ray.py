"""The command on Ray, as a user meets it: what is left behind, and clusters that are there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming.bench.clip import draw_clip
from tests.clusters import ray_head

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "ball.mp4"
    draw_clip(path, duration_seconds=20)
    return path


@pytest.fixture(scope="module")
def command(clip: Path, checkpoint: Path) -> list[str]:
    arguments = [str(clip), "What moves?", "--model", str(checkpoint), "--max-new-tokens", "8"]
    return [sys.executable, "-m", "streaming.ask", *arguments, "--budget", "300"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of its own."""
    with ray_head(6411, num_cpus=4) as address:
        yield address


def ray_processes_of(session: int) -> str:
    """Living Ray processes of a session of processes, as ps shows them."""
    shown = subprocess.run(["ps", "-eo", "sid=,stat=,args="], check=True, capture_output=True)
    lines = [line.split(None, 2) for line in shown.stdout.decode().splitlines()]
    return "\n".join(
        args
        for sid, state, args in lines
        if int(sid) == session and not state.startswith("Z") and "ray" in args
    )


def run(command: list[str]) -> dict[str, object]:
    done = subprocess.run([*command, "--json"], check=True, capture_output=True)
    answer = json.loads(done.stdout)  # and so nothing else is on stdout
    assert isinstance(answer, dict)
    return answer


def test_every_executor_gives_the_same_answer(command: list[str], cluster: str) -> None:
    local = run([*command, "--executor", "local"])
    private = run([*command, "--executor", "ray"])
    joined = run([*command, "--address", cluster])
    again = run([*command, "--address", cluster, "--num-decoders", "1", "--num-encoders", "2"])
    for answer in (private, joined, again):
        assert answer["answer"] == local["answer"]
        assert answer["frames"] == local["frames"]


def test_an_answer_by_a_schema_is_the_same_on_ray(command: list[str]) -> None:
    """The schema travels as text; the grammar is made where the language model is."""
    schema = {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2}
    words = [*command, "--json-schema", json.dumps(schema), "--max-new-tokens", "60"]
    answers = [run([*words, "--executor", executor])["answer"] for executor in ("local", "ray")]
    assert answers[0] == answers[1]
    assert isinstance(json.loads(str(answers[0])), list)


def test_a_home_that_cannot_be_written_is_no_hindrance(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment["HOME"] = "/proc"  # where not even root can make a file
    ray = [*command, "--json", "--executor", "ray"]
    done = subprocess.run(ray, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"] == run([*command, "--executor", "local"])["answer"]


def test_a_cluster_that_is_too_small_is_one_line(command: list[str], cluster: str) -> None:
    arguments = ["--address", cluster, "--num-encoders", "8"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().splitlines()[-1] == (
        "error: 2 decoders, 8 encoders and 1 language model need 11 CPUs, the cluster has 4: "
        "lower --num-decoders, --num-encoders or --num-llms"
    )


def read_until(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Read a process' stderr until the text has come."""
    assert process.stderr is not None
    seen = b""
    while text not in seen:
        piece = os.read(process.stderr.fileno(), 65536)
        assert piece, seen
        seen += piece


@pytest.mark.parametrize(
    ("send", "number", "moment", "delay_seconds"),
    [
        (os.killpg, signal.SIGINT, b"the embedded model is tiny", 1),
        (os.killpg, signal.SIGINT, b"encode:", 0),
        (os.kill, signal.SIGTERM, b"encode:", 0),
    ],
    ids=["ctrl-c while Ray starts", "ctrl-c", "terminated"],
)
def test_an_interrupted_run_leaves_nothing_behind(
    clip: Path,
    send: Callable[[int, int], None],
    number: signal.Signals,
    moment: bytes,
    delay_seconds: float,
) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streaming.ask",
            str(clip),
            "What?",
            "--num-frames",
            "288",
            "--executor",
            "ray",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    read_until(process, moment)
    time.sleep(delay_seconds)
    send(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (128 + number, b"")
    assert b"Traceback" not in stderr
    deadline = time.monotonic() + 60  # Ray's agents look for their parent every few seconds
    while ray_processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(1)
    assert ray_processes_of(process.pid) == ""
