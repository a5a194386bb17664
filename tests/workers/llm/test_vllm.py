import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.llm.visual import GREEDY, QUESTIONS, Asker, random_frames, show_frames
from tests.workers.llm.vllm_server import Served, serving
from workers.errors import InputError, ModelError
from workers.llm.answer import GeneratedAnswer
from workers.llm.vllm import VllmServer, connect
from workers.process import ModelOptions
from workers.visual import VisualSequence


@pytest.fixture(scope="module")
def served(checkpoint: Path) -> Iterator[Served]:
    with serving(checkpoint) as server:
        yield server


@pytest.fixture
def quiet(served: Served) -> Iterator[Served]:
    """The server with nothing asked of it yet, and nothing wrong with it."""
    served.requests.clear()
    yield served
    served.breaks_after = served.refusal = served.finish_reason = None


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0), step=3)


@pytest.fixture(scope="module")
def asker(checkpoint: Path) -> Asker:
    return Asker(checkpoint)


def connected(checkpoint: Path, server: Served) -> VllmServer:
    return connect(ModelOptions(model=str(checkpoint), llm_server=server.url))


def answer_of(pieces: Iterator[str | GeneratedAnswer]) -> tuple[str, GeneratedAnswer]:
    *texts, whole = pieces
    assert isinstance(whole, GeneratedAnswer)
    return "".join(str(text) for text in texts), whole


def test_a_served_model_answers_as_one_in_this_process(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    model = connected(checkpoint, quiet)
    for question in QUESTIONS:
        expected = asker.whole(clip, question)
        text, answer = answer_of(model.generate(clip, asker.prompt(clip, question), GREEDY))
        assert (answer.token_ids, answer.text) == (expected.token_ids, expected.text)
        assert answer.num_text_tokens == expected.num_text_tokens
        assert text.strip() == answer.text
        assert answer.seconds.keys() == expected.seconds.keys()
        assert answer.is_cut == expected.is_cut


def test_the_request_is_the_one_that_is_documented(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    prompt = asker.prompt(clip, QUESTIONS[0])
    answer_of(connected(checkpoint, quiet).generate(clip, prompt, GREEDY))
    (request,) = quiet.requests
    assert request.pop("prompt_embeds")
    assert request == {
        "model": "language-half",
        "max_tokens": GREEDY.max_new_tokens,
        "temperature": 0.0,
        "seed": 0,
        "stream": True,
        "return_token_ids": True,
    }


def test_choices_become_structured_outputs_and_another_answer_is_an_error(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    prompt = asker.template.build("which?", [""] * len(clip), ["red", "blue"])
    with pytest.raises(ModelError, match=r"answered '.*', which is none of the choices"):
        answer_of(connected(checkpoint, quiet).generate(clip, prompt, GREEDY))
    assert quiet.requests[0]["structured_outputs"] == {"choice": ["red", "blue"]}


def test_a_schema_becomes_structured_outputs_and_what_is_no_json_an_error(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    prompt = asker.prompt(clip, QUESTIONS[0])
    model = connected(checkpoint, quiet)
    schema = '{"type": "object"}'
    cut = answer_of(model.generate(clip, prompt, replace(GREEDY, json_schema=schema)))[1]
    assert cut.is_cut
    assert quiet.requests[0]["structured_outputs"] == {"json": schema}
    quiet.finish_reason = "stop"
    with pytest.raises(ModelError, match=r"answered '.*', which is no JSON"):
        answer_of(model.generate(clip, prompt, replace(GREEDY, json_schema=schema)))


def test_a_refusal_is_one_line(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    model = connected(checkpoint, quiet)
    prompt = asker.prompt(clip, QUESTIONS[0])
    quiet.refusal = 400, b'{"error": {"message": "too\\nlong"}}'
    with pytest.raises(ModelError, match=rf"^--llm-server {quiet.url}: too long \(400\)$"):
        answer_of(model.generate(clip, prompt, GREEDY))
    quiet.refusal = 503, b"<html>"
    with pytest.raises(ModelError, match=r": Service Unavailable \(503\)$"):
        answer_of(model.generate(clip, prompt, GREEDY))


def test_an_answer_that_breaks_off_is_no_answer(
    checkpoint: Path, quiet: Served, asker: Asker, clip: VisualSequence
) -> None:
    quiet.breaks_after = 2
    with pytest.raises(ModelError, match="broke off in the middle of an answer"):
        answer_of(
            connected(checkpoint, quiet).generate(clip, asker.prompt(clip, QUESTIONS[0]), GREEDY)
        )


def test_a_key_is_shown_where_one_is_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    with serving(checkpoint, key="secret") as server:
        options = ModelOptions(model=str(checkpoint), llm_server=server.url, llm_key_file=str(key))
        with pytest.raises(InputError, match="--llm-key-file: cannot be read"):
            connect(options)
        key.write_text("another")
        with pytest.raises(ModelError, match=r"Unauthorized \(401\)$"):
            connect(options)
        key.write_text("secret\n")
        connect(options)


class _Elsewhere(BaseHTTPRequestHandler):
    """Leads whoever asks to another path, where it answers."""

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        body = b'{"data": [{"id": "m"}]}'
        self.send_response(307 if self.path == "/v1/models" else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_nobody_is_followed_elsewhere_with_the_key() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ModelError, match=r"\(307\)$"):
            VllmServer(url, torch.zeros(1, 1), key="secret")
        server.shutdown()


def test_nobody_there_and_no_url_are_told_apart() -> None:
    with pytest.raises(ModelError, match=r"--llm-server http://127.0.0.1:9: cannot be reached"):
        VllmServer("http://127.0.0.1:9", torch.zeros(1, 1))
    with pytest.raises(InputError, match="begins with http:// or https://"):
        VllmServer("file:///etc/passwd", torch.zeros(1, 1))
