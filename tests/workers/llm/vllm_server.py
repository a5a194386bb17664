"""A stand-in for vLLM that takes what its documentation says, and answers with transformers."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlavaNextForConditionalGeneration

PARAMETERS = {
    "model", "prompt_embeds", "max_tokens", "temperature", "seed", "stream", "return_token_ids",
    "structured_outputs",
}  # fmt: skip


class Served:
    """A checkpoint's language model, greedy and without a cache; ``requests`` are those that came.

    ``breaks_after`` tokens the connection ends; ``refusal`` is the status and body for every one;
    ``finish_reason`` is told instead of ``length``.
    """

    def __init__(self, checkpoint: Path, key: str = "") -> None:
        self.model: Any = LlavaNextForConditionalGeneration.from_pretrained(checkpoint)
        self.tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.breaks_after: int | None = None
        self.refusal: tuple[int, bytes] | None = None
        self.finish_reason: str | None = None
        self.url = ""

    @torch.inference_mode()
    def answer(self, request: dict[str, Any]) -> Iterator[int]:
        data = io.BytesIO(base64.b64decode(request["prompt_embeds"], validate=True))
        embeds = torch.load(data, weights_only=True)[None]
        for _ in range(request["max_tokens"]):
            hidden = self.model.model.language_model(inputs_embeds=embeds).last_hidden_state
            token = int(self.model.lm_head(hidden[0, -1]).argmax())
            yield token
            if token == self.model.generation_config.eos_token_id:
                return
            following = self.model.get_input_embeddings()(torch.tensor([[token]]))
            embeds = torch.cat([embeds, following], dim=1)


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        if self._is_stranger():
            return
        self._send(200, json.dumps({"data": [{"id": "language-half"}]}).encode())

    def do_POST(self) -> None:
        assert self.path == "/v1/completions"
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request.keys() <= PARAMETERS
        self.served.requests.append(request)
        if self._is_stranger():
            return
        if self.served.refusal is not None:
            self._send(*self.served.refusal)
        else:
            self._stream(request)

    def _is_stranger(self) -> bool:
        if not self.served.key or self.headers["Authorization"] == f"Bearer {self.served.key}":
            return False
        self._send(401, b'{"error": {"message": "Unauthorized"}}')
        return True

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        said: list[int] = []
        for token in self.served.answer(request):
            if len(said) == self.served.breaks_after:
                return
            before, said = self._text(said), [*said, token]
            text = self._text(said)[len(before) :]
            reason = self._reason(token, len(said), request)
            self._event({"text": text, "token_ids": [token], "finish_reason": reason})
        self.wfile.write(b"data: [DONE]\n\n")

    def _reason(self, token: int, number: int, request: dict[str, Any]) -> str | None:
        if token == self.served.model.generation_config.eos_token_id:
            return "stop"
        if self.served.finish_reason is not None:
            return self.served.finish_reason
        return "length" if number == request["max_tokens"] else None

    def _text(self, tokens: list[int]) -> str:
        return self.served.tokenizer.decode(tokens, skip_special_tokens=True)

    def _event(self, choice: dict[str, Any]) -> None:
        chunk = {"object": "text_completion", "choices": [{"index": 0, **choice}]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()


@contextmanager
def serving(checkpoint: Path, key: str = "") -> Iterator[Served]:
    served = Served(checkpoint, key)
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
