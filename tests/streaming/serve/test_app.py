"""The API, asked by the clients that people have, about the embedded model."""

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import openai
import pydantic
import pytest
from PIL import Image

from streaming import ask
from tests.clips import draw_clip, paint_frame, read_frame_number
from tests.streaming.serve.conftest import Running, about, asked_and_left, data_url


def picture_url(number: int) -> str:
    data = io.BytesIO()
    Image.fromarray(paint_frame(number)).save(data, "JPEG")
    return data_url(data.getvalue(), "image/jpeg")


def user(*parts: dict[str, Any], text: str = "What is it?") -> dict[str, Any]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def record_of(server: Running, *messages: Any, **more: Any) -> dict[str, Any]:
    answer = server.chat(*messages, **more)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()["mr_stream"]
    return record


def test_the_client_of_openai_gets_the_same_whole_and_streamed(
    client: openai.OpenAI, video: Path
) -> None:
    asked: Any = {"model": "embedded", "messages": [about(data_url(video.read_bytes()))]}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    *pieces, last = chunks
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text.strip() == whole.choices[0].message.content != ""
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert last.choices == []
    details: Any = last.usage and last.usage.prompt_tokens_details
    assert details.video_tokens == details.cached_tokens == 128
    assert whole.usage is not None
    assert last.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


def test_what_comes_over_the_wire_ends_as_openai_ends_it(server: Running, uploaded: str) -> None:
    answer = server.chat(about(uploaded), stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")
    first, *_, last = [line[6:] for line in answer.text.split("\n\n")[:-2]]
    assert "usage" not in json.loads(first)
    assert json.loads(last)["mr_stream"]["num_visual_tokens"] == 128


def test_a_client_that_wants_to_is_told_how_far_a_new_clip_is(
    client: openai.OpenAI, video: Path
) -> None:
    url = data_url(video.read_bytes() + bytes(4))
    asked: Any = {"model": "embedded", "messages": [about(url)], "stream": True}
    more = {"extra_body": {"mr_stream": {"progress": True}}}
    first, *chunks = client.chat.completions.create(**asked, **more)
    assert first.choices[0].delta.role == "assistant"
    told = [chunk.to_dict()["mr_stream"]["progress"] for chunk in chunks if not chunk.choices]
    done = [progress["frames_done"] for progress in told]
    assert (done[0], done[-1], {progress["num_frames"] for progress in told}) == (0, 4, {4})
    assert done == sorted(set(done))
    texts = [
        "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        for answer in (chunks, client.chat.completions.create(**asked))
    ]
    assert texts[0] == texts[1] != ""
    warm = client.chat.completions.create(**asked, **more)
    assert all(chunk.choices for chunk in warm)


def test_it_is_the_answer_of_the_command(
    server: Running, uploaded: str, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(server, about(uploaded))
    words = ["--num-frames", "4", "--budget", "128", "--max-new-tokens", "8", "--device", "cpu"]
    capsys.readouterr()
    assert ask.main([str(video), "What number is shown?", "--json", *words]) == 0
    expected = json.loads(capsys.readouterr().out)
    same = ("question", "answer", "model", "budget", "frames", "num_text_tokens", "num_tiles")
    assert {name: record[name] for name in same} == {name: expected[name] for name in same}
    assert expected.keys() | {"warm"} == record.keys()
    assert record["video"] == "numbers.mp4"


def test_a_smaller_budget_is_answered_without_encoding_again(
    server: Running, uploaded: str
) -> None:
    record_of(server, about(uploaded))
    record = record_of(server, about(uploaded), mr_stream={"budget": 50})
    assert record["warm"]
    assert record["num_visual_tokens"] == 50
    assert record["seconds"].keys() == {"prefill", "generate"}
    assert record["bank"] == {"hit": True, "made_for_budget": 128}
    larger = record_of(server, about(uploaded), mr_stream={"budget": 200})
    assert larger["bank"] == {"hit": False, "made_for_budget": 200}


def test_an_answer_does_not_depend_on_what_was_asked_before(server: Running, video: Path) -> None:
    """Two uploads of one clip, the second a byte longer: asked in another order, the same."""
    records = []
    for ending, budgets in ((b"\0", (60, 128)), (b"\0\0", (128, 60))):
        url = data_url(video.read_bytes() + ending)
        found = {b: record_of(server, about(url), mr_stream={"budget": b}) for b in budgets}
        records.append({b: (found[b]["answer"], found[b]["frames"]) for b in budgets})
    assert records[0] == records[1]


FORMS: dict[str, tuple[Callable[[str, bytes], dict[str, Any]], int]] = {
    "video_url": (lambda file, data: about(file), 4),
    "data url": (lambda file, data: about(data_url(data)), 4),
    "bare url": (lambda file, data: user({"type": "video_url", "video_url": file}), 4),
    "file": (lambda file, data: user({"type": "file", "file": {"file_id": file}}), 4),
    "input_video": (
        lambda file, data: user(
            {
                "type": "input_video",
                "input_video": {"data": base64.b64encode(data).decode(), "format": "mp4"},
            }
        ),
        4,
    ),
    "frames": (
        lambda file, data: user({"type": "video", "video": [picture_url(n) for n in range(5)]}),
        5,
    ),
    "frames as vLLM writes them": (
        lambda file, data: about(
            "data:video/jpeg;base64," + ",".join(picture_url(n)[23:] for n in range(3))
        ),
        3,
    ),
    "a still": (lambda file, data: user(image(picture_url(1))), 1),
    "stills": (lambda file, data: user(image(picture_url(1)), image(picture_url(2))), 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_is_taken_in_every_form_in_use(
    server: Running, uploaded: str, video: Path, form: str
) -> None:
    make, num_frames = FORMS[form]
    record = record_of(server, make(uploaded, video.read_bytes()))
    assert record["num_frames"] == num_frames
    assert record["answer"]


def test_the_evidence_is_what_was_kept(server: Running, uploaded: str) -> None:
    record = record_of(server, about(uploaded), mr_stream={"evidence": True, "budget": 100})
    assert sum(frame["share"] for frame in record["frames"]) == pytest.approx(1)
    for frame in record["frames"]:
        cells = [frame[name] for name in ("base", "grid")]
        kept = sum(len(cell["kept"]) for cell in cells) + frame["num_newlines"]
        assert kept == frame["num_visual_tokens"]
        assert frame["base"]["seen"] == [0, 0, 1, 1]
        assert all(
            0 <= place < cell["rows"] * cell["columns"] for cell in cells for place in cell["kept"]
        )


def test_pictures_are_had_apart_as_long_as_their_clip_is_held(server: Running, video: Path) -> None:
    """However the clip comes, and at whatever budget of the same tokens they are the same ones."""
    content = video.read_bytes() + bytes(3)
    file = server.http.post("/v1/files", files={"file": ("own.mp4", content)}).json()
    records = [
        record_of(server, about(url), mr_stream={"evidence": True, "budget": budget})
        for url, budget in ((data_url(content), 100), (file["id"], 60))
    ]
    shown, again = [[each["thumbnail"] for each in record["frames"]] for record in records]
    assert shown == again
    for number, thumbnail in zip((5, 15, 25, 35), shown, strict=True):
        answer = server.http.get(thumbnail["url"])
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (thumbnail["width"], thumbnail["height"])
            assert read_frame_number(np.asarray(picture)) == number
    for digits in ("9", "9" * 5000, "x"):
        missing = server.http.get(shown[0]["url"] + digits).json()
        assert missing["error"]["code"] == "picture_not_found"
    server.http.delete(f"/v1/files/{file['id']}")
    assert server.http.get(shown[0]["url"]).status_code == 404


def test_turns_go_into_the_prompt(server: Running, uploaded: str) -> None:
    alone = server.chat(about(uploaded)).json()
    earlier = [about(uploaded), {"role": "assistant", "content": "seven"}]
    later = server.chat(*earlier, {"role": "user", "content": "And then?"}).json()
    assert later["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"]
    assert later["mr_stream"]["warm"]
    assert later["mr_stream"]["question"] == "And then?"


def test_turns_may_say_nothing(server: Running, uploaded: str) -> None:
    said = [{"role": "system", "content": ""}, about(uploaded)]
    answered = {"role": "assistant", "content": None}
    later = server.chat(*said, answered, {"role": "user", "content": "And then?"})
    assert later.status_code == 200, later.text
    assert later.json()["mr_stream"]["question"] == "And then?"


def test_an_answer_is_one_of_the_choices(server: Running, uploaded: str) -> None:
    choices = ["a cat", "a dog"]
    record = record_of(server, about(uploaded), mr_stream={"choices": choices})
    assert record["answer"] in choices


class Thing(pydantic.BaseModel):
    label: Annotated[str, pydantic.Field(max_length=6)]
    color: Literal["red", "</s>"] | None


class Seen(pydantic.BaseModel):
    things: Annotated[list[Thing], pydantic.Field(min_length=1, max_length=2)]
    count: Annotated[int, pydantic.Field(ge=0, le=12)]
    moving: bool


def test_an_answer_is_what_the_client_of_openai_parses(
    client: openai.OpenAI, uploaded: str
) -> None:
    asked: Any = {"model": "embedded", "messages": [about(uploaded)], "max_tokens": 120}
    whole = client.chat.completions.parse(**asked, response_format=Seen)
    message = whole.choices[0].message
    assert whole.choices[0].finish_reason == "stop"
    assert isinstance(message.parsed, Seen)
    with client.chat.completions.stream(**asked, response_format=Seen) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert (streamed.content, streamed.parsed) == (message.content, message.parsed)
    drawn = [
        client.chat.completions.parse(**asked, response_format=Seen, temperature=1.5, seed=seed)
        for seed in (1, 2, 1)
    ]
    first, second, again = (each.choices[0].message.content for each in drawn)
    assert first == again != second


def test_json_that_is_cut_says_so(client: openai.OpenAI, uploaded: str) -> None:
    answer = client.chat.completions.create(
        model="embedded",
        messages=[about(uploaded)],  # type: ignore[list-item]
        max_tokens=4,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "seen", "schema": {"const": "a ring and a star"}},
        },
    )
    assert answer.choices[0].finish_reason == "length"
    said = answer.choices[0].message.content or ""
    assert '"a ring and a star"'.startswith(said)
    assert len(said) > 1


def test_a_short_answer_says_that_it_was_cut(server: Running, uploaded: str) -> None:
    answer = server.chat(about(uploaded), max_completion_tokens=1).json()
    assert answer["choices"][0]["finish_reason"] == "length"


def test_clients_that_ask_at_once_have_one_clip_encoded_once(
    server: Running, tmp_path: Path
) -> None:
    clip = draw_clip(tmp_path / "other.mp4", num_frames=9, first_number=50)
    url = data_url(clip.read_bytes())
    questions = [f"Question {number}?" for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        records = list(threads.map(lambda text: record_of(server, about(url, text)), questions))
    assert sorted(record["warm"] for record in records) == [False, *[True] * 5]
    assert [record["question"] for record in records] == questions


def test_a_question_that_waits_for_the_model_hears_its_client_leave(
    server: Running, uploaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_and_left(server, uploaded, monkeypatch)


def test_files_come_and_go(server: Running, video: Path) -> None:
    content = video.read_bytes() + b"\0"
    file = server.http.post("/v1/files", files={"file": ("a/../b.mp4", content)}).json()
    assert (file["filename"], file["bytes"]) == ("b.mp4", len(content))
    path = f"/v1/files/{file['id']}"
    assert server.http.get(path).json() == file
    assert file in server.http.get("/v1/files").json()["data"]
    part = server.http.get(f"{path}/content", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, content[4:8])
    assert part.headers["content-type"] == "video/mp4"
    assert server.http.delete(path).json()["deleted"]
    assert server.http.get(path).status_code == 404
    refused = server.chat(about(file["id"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "file_not_found")


def test_what_is_uploaded_as_a_page_is_not_served_as_one(server: Running) -> None:
    page = b"<script>alert(1)</script>"
    file = server.http.post("/v1/files", files={"file": ("x.html", page, "text/html")}).json()
    answer = server.http.get(f"/v1/files/{file['id']}/content")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_it_tells_of_itself(server: Running, client: openai.OpenAI, uploaded: str) -> None:
    record_of(server, about(uploaded))
    assert [model.id for model in client.models.list()] == ["embedded"]
    assert client.models.retrieve("embedded").owned_by == "mr-stream"
    assert server.http.get("/version").json()["version"]
    text = server.http.get("/metrics").text
    for name in ("num_requests_running", "generation_tokens_total", "request_success_total"):
        assert f"\nmr_stream:{name}" in text
    assert 'mr_stream:visual_tokens_total{state="kept"}' in text
    assert 'mr_stream:e2e_request_latency_seconds_bucket{le="+Inf"}' in text


def by_schema(schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
    return {"response_format": form}


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no clip": ({"messages": [{"role": "user", "content": "What is it?"}]}, 400, "no clip came"),
    "another model": ({"model": "gpt-4o"}, 404, "the model here is 'embedded'"),
    "too many frames": ({"mr_stream": {"num_frames": 17}}, 422, "at most 16 frames"),
    "frames without end": ({"mr_stream": {"fps": 99999}}, 422, "at most 16 frames"),
    "all tokens": ({"mr_stream": {"pruner": "none", "budget": 5}}, 400, "leave out mr_stream.b"),
    "a window outside": ({"mr_stream": {"start": 50}}, 400, "mr_stream.start"),
    "no room": ({"messages": [about("ID", "€" * 30_000)]}, 400, "context holds 65536"),
    "a book": ({"messages": [about("ID", "why " * 50_000)]}, 400, "has 200000 letters"),
    "too long an answer": ({"max_tokens": 1025}, 400, "at most 1024"),
    "a keyword": (by_schema({"not": {}}), 400, 'response_format: Unimplemented keys: ["not"]'),
    "a fetch": (by_schema({"$ref": "http://127.0.0.1/x"}), 400, "leads out of the schema"),
    "too large a schema": (by_schema({"title": "x" * 70_000}), 400, "may take 65,536 bytes"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_line(
    server: Running, uploaded: str, reason: str
) -> None:
    more, status, words = REFUSED[reason]
    body = json.dumps({"model": "embedded", "messages": [about("ID")], **more})
    answer = server.http.post(
        "/v1/chat/completions",
        content=body.replace('"ID"', f'"{uploaded}"'),
        headers={"Content-Type": "application/json"},
    )
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"num_frames": 200, "width": 64, "height": 64, "gop": 250}, "media_too_large"),
        ({"width": 1024, "height": 1024, "num_frames": 1}, "media_too_large"),
    ],
    ids=["too long", "too many pixels"],
)
def test_a_clip_beyond_the_ceilings_is_refused(
    server: Running, tmp_path: Path, settings: dict[str, Any], code: str
) -> None:
    times = [n * 1000 for n in range(200)] if settings["num_frames"] > 1 else None
    clip = draw_clip(tmp_path / "large.mkv", times_ms=times, **settings)
    answer = server.chat(about(data_url(clip.read_bytes())))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code), answer.text


BAD = {"text": b"hello", "zeros": bytes(1000), "head only": b"\0\0\0\x18ftypmp42" + bytes(50)}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_clip_is_a_line_that_names_no_file_of_ours(server: Running, kind: str) -> None:
    answer = server.chat(about(data_url(BAD[kind])))
    error = answer.json()["error"]
    assert answer.status_code == 422, error
    assert error["message"].startswith("the clip: ")
    assert "/" not in error["message"]
    assert "(" not in error["message"]
