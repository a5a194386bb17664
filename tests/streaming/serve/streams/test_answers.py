"""What is answered about a stream: at a time what ``streaming.watch`` answers of the file then."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from streaming import ask
from streaming.watch import command
from tests.streaming.conftest import Result
from tests.streaming.serve.conftest import KEY, Running, about, asked_and_left
from tests.streaming.serve.streams.conftest import file_url, read_events, wait_for

QUESTION = "What number is shown?"
CHOICE = "Is it odd?"
WATCHED = {"fps": 5, "window": 4}
WORDS = ["--fps", "5", "--window", "4", "--budget", "128", "--max-new-tokens", "8", "--device"]
Cut = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cut:
    """Return what ``watch --at`` answers of the file at some times."""

    def answers(*seconds: float) -> list[dict[str, Any]]:
        capsys.readouterr()
        times = [word for time in seconds for word in ("--at", repr(time))]
        words = [*WORDS, "cpu", "--executor", "local", "--json"]
        status = command.main([str(folder / "numbers.mkv"), QUESTION, *words, *times])
        return Result(status, *capsys.readouterr()).objects

    return answers


@pytest.fixture(scope="module")
def ended(server: Running, folder: Path) -> Iterator[dict[str, Any]]:
    """A stream that has ended, with the events that there were."""
    questions = [
        {"question": QUESTION, "every": 1.5},
        {"question": CHOICE, "every": 3, "choices": ["yes", "no"]},
    ]
    body = {"url": file_url(folder), "questions": questions, "mr_stream": {**WATCHED, "speed": 0}}
    stream = server.http.post("/v1/streams", json=body).json()
    events = read_events(server.http, stream["id"])
    yield {**server.http.get(f"/v1/streams/{stream['id']}").json(), "events": events}
    server.http.delete(f"/v1/streams/{stream['id']}")


def record_of(server: Running, stream_id: str, **ours: Any) -> dict[str, Any]:
    answer = server.chat(about(stream_id, QUESTION), mr_stream=ours)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()["mr_stream"]
    return record


def standing_answers(ended: dict[str, Any], question: str) -> list[dict[str, Any]]:
    answers = [value for kind, value in ended["events"] if kind == "answer"]
    return [answer for answer in answers if answer["question"] == question]


def said(answer: Mapping[str, Any]) -> tuple[str, list[Any], int]:
    return answer["answer"].strip(), answer["frames"], answer["budget"]


def test_answers_are_those_of_the_file_cut_there(
    server: Running, folder: Path, ended: dict[str, Any], cut: Cut
) -> None:
    """Of one that is being played, of one that has ended, and of its standing questions."""
    body = {"url": file_url(folder), "mr_stream": {**WATCHED, "speed": 0.2}}
    live = server.http.post("/v1/streams", json=body).json()["id"]
    wait_for(server.http, live, lambda told: told["num_seen_frames"] > 1)
    records = [record_of(server, live), record_of(server, ended["id"])]
    assert server.http.get(f"/v1/streams/{live}").json()["status"] == "live"
    assert 0.2 < records[0]["reached_seconds"] < records[1]["reached_seconds"] == 4.0
    free = standing_answers(ended, QUESTION)
    assert [answer["media_seconds"] for answer in free] == [1.5, 3.0, 4.0]
    times = [each["reached_seconds"] for each in records] + [a["media_seconds"] for a in free]
    printed = dict(zip(dict.fromkeys(times), cut(*dict.fromkeys(times)), strict=True))
    expected = [said(printed[seconds]) for seconds in times]
    assert [said(answer) for answer in (*records, *free)] == expected
    assert free[0].keys() == printed[1.5].keys()
    server.http.delete(f"/v1/streams/{live}")


def test_each_standing_question_has_its_own_times_and_choices(ended: dict[str, Any]) -> None:
    chosen = standing_answers(ended, CHOICE)
    assert [answer["media_seconds"] for answer in chosen] == [3.0, 4.0]
    assert {answer["answer"] for answer in chosen} <= {"yes", "no"}
    assert {answer["source"] for answer in chosen} == {ended["name"]} == {"numbers.mkv"}
    assert ended["events"][-1][0] == "end"


def test_it_is_the_same_streamed(server: Running, ended: dict[str, Any]) -> None:
    whole = server.chat(about(ended["id"])).json()
    streamed = server.chat(about(ended["id"]), stream=True).text
    assert streamed.endswith("data: [DONE]\n\n")
    assert '"reached_seconds":4.0' in streamed
    assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 128, "video_tokens": 128}
    assert whole["mr_stream"]["warm"]
    assert whole["mr_stream"]["model"] == "embedded"
    assert whole["mr_stream"]["seconds"].keys() == {"prefill", "generate"}


def test_a_smaller_budget_is_answered_from_what_is_held(
    server: Running, ended: dict[str, Any]
) -> None:
    record = record_of(server, ended["id"], budget=50, choices=["a cat", "a dog"], evidence=True)
    assert record["num_visual_tokens"] == record["budget"] == 50
    assert record["bank"] == {"hit": True, "made_for_budget": 128}
    assert record["answer"] in ("a cat", "a dog")
    assert sum(frame["share"] for frame in record["frames"]) == pytest.approx(1)


def test_a_question_that_waits_for_the_model_hears_its_client_leave(
    server: Running, ended: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_and_left(server, ended["id"], monkeypatch)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "other frames": ({"num_frames": 3}, "mr_stream.num_frames is not taken with a stream: it was"),
    "another method": ({"pruner": "gprune"}, "what is held depends on it"),
    "a larger budget": ({"budget": 129}, "the stream is held for a budget of 128"),
    "no token a frame": ({"budget": 5}, "mr_stream.budget 5 does not pay for each of the"),
    "a longer answer": ({"max_new_tokens": 2000}, "max_tokens must be at most 1024 here"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_what_is_held_is_refused(
    server: Running, ended: dict[str, Any], what: str
) -> None:
    ours, words = REFUSED[what]
    refused = server.chat(about(ended["id"]), mr_stream=ours)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]


def test_media_options_are_refused_too(server: Running, ended: dict[str, Any]) -> None:
    media = {"media_io_kwargs": {"video": {"fps": 3}}}
    assert server.chat(about(ended["id"]), **media).status_code == 400


def test_one_of_which_nothing_is_seen_yet_says_so(server: Running, folder: Path) -> None:
    body = {"url": file_url(folder), "name": "door", "mr_stream": {"fps": 0.01}}
    stream_id = server.http.post("/v1/streams", json=body).json()["id"]
    refused = server.chat(about(stream_id))
    assert refused.status_code == 422
    assert refused.json()["error"]["message"] == "door: nothing has been seen of it"
    server.http.delete(f"/v1/streams/{stream_id}")


def test_ask_is_its_client(
    server: Running,
    ended: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MR_STREAM_API_KEY", KEY)
    expected = record_of(server, ended["id"])
    capsys.readouterr()
    assert ask.main([ended["id"], QUESTION, "--server", server.url, "--json"]) == 0
    (answer,) = Result(0, *capsys.readouterr()).objects
    assert said(answer) == said(expected)
    assert (answer["video"], answer["reached_seconds"]) == (ended["id"], 4.0)
