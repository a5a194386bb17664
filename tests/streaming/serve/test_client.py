"""``ask --server``: the output and the exit statuses of ``ask``, the work is the server's."""

from pathlib import Path

import pytest

from streaming import ask
from tests.streaming.conftest import Result
from tests.streaming.serve.conftest import KEY, Running

QUESTION = "What number is shown?"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MR_STREAM_API_KEY", KEY)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Result:
    capsys.readouterr()
    status = ask.main(words)
    return Result(status, *capsys.readouterr())


def test_the_output_is_that_of_ask(
    server: Running, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(video), QUESTION, QUESTION, "--num-frames", "3", "--max-new-tokens", "8"]
    whole = run(capsys, *asked, "--json", "--server", server.url)
    alone = run(capsys, *asked, "--json", "--budget", "128", "--device", "cpu")
    assert whole.status == alone.status == 0
    same = ("video", "question", "answer", "frames", "num_visual_tokens", "budget", "model")
    for ours, theirs in zip(whole.objects, alone.objects, strict=True):
        assert ours.keys() == theirs.keys()
        assert [ours[name] for name in same] == [theirs[name] for name in same]
    text = run(capsys, *asked, "--server", f"{server.url}/v1")
    assert text.out == "".join(f"{answer['answer']}\n" for answer in whole.objects)
    assert "128 visual tokens (budget 128); prefill" in text.err


def test_a_clip_is_sent_once(
    server: Running, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'a "quoted"\n name.mp4'
    copy.write_bytes(video.read_bytes() + b"\0\0\0")
    for _ in range(2):
        assert run(capsys, str(copy), QUESTION, "--server", server.url).status == 0
    names = [file["filename"] for file in server.http.get("/v1/files").json()["data"]]
    assert names.count("a _quoted__ name.mp4") == 1


def test_choices_are_kept_to(
    server: Running, uploaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--choice", "a cat", "--choice", "a dog", "--json"]
    (answer,) = run(capsys, uploaded, QUESTION, *words, "--server", server.url).objects
    assert answer["answer"] in ("a cat", "a dog")


def test_a_schema_is_followed(
    server: Running, uploaded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--json-schema", '{"type": "boolean"}', "--server", server.url]
    assert run(capsys, uploaded, QUESTION, *words).out.strip() in ("true", "false")


def test_a_key_may_stand_in_a_file(
    server: Running, uploaded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text("another")
    words = [uploaded, QUESTION, "--server", server.url, "--api-key-file", str(file)]
    refused = run(capsys, *words)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == f"error: {server.url}: the API key is missing or wrong\n"
    file.write_text(KEY)
    assert run(capsys, *words).status == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--executor", "local"], 2, "--executor is the server's own"),
        (["--report", "x.html"], 2, "--report is drawn where the clip is watched"),
        (["--num-frames", "99"], 1, "at most 16 frames are looked at here"),
        (["--budget", "0"], 2, "--budget 0: must be"),
        (["--server", "nowhere"], 2, "give http://HOST:PORT"),
        (["--server", "http://127.0.0.1:1"], 1, "cannot be reached (Connection refused)"),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_status(
    server: Running,
    video: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    told: str,
) -> None:
    ended = run(capsys, str(video), QUESTION, "--server", server.url, *words)
    assert (ended.status, ended.out) == (status, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("size", [0, 100, 6_000_000])
def test_a_clip_that_is_not_taken_is_a_line(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(bytes(size))
    ended = run(capsys, str(file), QUESTION, "--server", server.url)
    assert (ended.status, ended.err.count("\n")) == (1, 1)


def test_stdin_is_read_too(
    server: Running,
    uploaded: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = iter(["What is it?\n", "why " * 25_000 + "\n", "Why?\n", ""])
    monkeypatch.setattr("sys.stdin.readline", lambda: next(lines))
    ended = run(capsys, uploaded, "--interactive", "--json", "--server", server.url)
    assert ended.status == 0
    assert [answer["question"] for answer in ended.objects] == ["What is it?", "Why?"]
