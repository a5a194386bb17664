"""A language model that vLLM serves, in a process and on a machine of its own.

It is sent what a prompt comes to before the first layer, as ``prompt_embeds`` of vLLM's completions
API (``vllm serve MODEL --enable-prompt-embeds``): the embeddings of the text, which are looked up
here, and the visual tokens between them. So it needs the language half of the checkpoint only.
Its positions have no gaps, and which tokens it keeps between layers is its own affair.
"""

import base64
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import torch
from torch.nn.functional import embedding

from workers.arrays import unpack
from workers.checkpoint import LANGUAGE_MODEL, locate, read_tensors
from workers.errors import InputError, ModelError
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.positions import visual_mask
from workers.llm.prompt import Prompt
from workers.process import ModelOptions, prepare_torch
from workers.visual import VisualSequence

_EMBEDDINGS = "model.embed_tokens.weight"
_STALL_SECONDS = 600.0
"""Seconds without a sign of the server after which it counts as dead."""


class _NoRedirects(HTTPRedirectHandler):
    """Has a redirection be an error: who is led to another host would show it the key."""

    def redirect_request(self, *_: Any) -> None:
        """Go nowhere."""


_OPENER = build_opener(_NoRedirects)


def connect(options: ModelOptions) -> "VllmServer":
    """Return the language model behind ``options.llm_server``.

    Raises:
        InputError: its key file cannot be read.
        ModelError: it does not answer, or the checkpoint lacks the embeddings of its text.
    """
    assert options.llm_server is not None
    _, dtype = prepare_torch(options)
    location = locate(options.model)
    tensors = read_tensors(
        location, LANGUAGE_MODEL, dtype=dtype, wanted=lambda name: name == _EMBEDDINGS
    )
    return VllmServer(options.llm_server, tensors[_EMBEDDINGS], key=_read_key(options))


class VllmServer:
    """The language half of a checkpoint, served by vLLM.

    Args:
        url: of the server, for example ``http://127.0.0.1:8000``.
        embeddings: (vocabulary, hidden), of the same checkpoint's text.
        key: that it asks for, "" for none.

    Raises:
        InputError: the URL is none of a server.
        ModelError: it does not answer, or serves no model.
    """

    def __init__(self, url: str, embeddings: torch.Tensor, *, key: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"--llm-server {url}: give a URL that begins with http:// or https://")
        self._url = url.rstrip("/").removesuffix("/v1")
        self._embeddings = embeddings
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {key}"} if key else {}
        self._name = self._served_model()

    def generate(
        self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions
    ) -> Iterator[str | GeneratedAnswer]:
        """Yield the answer's text as it comes, then the whole; closing the iterator ends it there.

        Raises:
            ModelError: the server cannot be reached, refuses, breaks off, or answers neither with a
                choice nor with JSON where it is to.
        """
        start = time.perf_counter()
        with closing(self._post("/v1/completions", self._request(visual, prompt, sampling))) as got:
            answer = _Answer()
            for chunk in self._chunks(got):
                answer.first_seconds = answer.first_seconds or time.perf_counter() - start
                yield from answer.take(chunk)
        text = answer.text.strip()
        if prompt.choices and text not in [choice.text for choice in prompt.choices]:
            raise ModelError(f"{self._url}: answered {text!r}, which is none of the choices")
        if sampling.json_schema is not None and not answer.is_cut and not _is_json(text):
            raise ModelError(f"{self._url}: answered {text!r}, which is no JSON")
        seconds = time.perf_counter() - start
        yield GeneratedAnswer(
            text=text,
            token_ids=tuple(answer.token_ids),
            num_text_tokens=prompt.num_text_tokens,
            seconds={"prefill": answer.first_seconds, "generate": seconds - answer.first_seconds},
            is_cut=answer.is_cut and not prompt.choices,
        )

    def _request(
        self, visual: VisualSequence, prompt: Prompt, sampling: SamplingOptions
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._name,
            "prompt_embeds": encode_tensor(self._embed(visual, prompt)),
            "max_tokens": prompt.num_answer_tokens(sampling.max_new_tokens),
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "stream": True,
            "return_token_ids": True,
        }
        if prompt.choices:
            choices = [choice.text for choice in prompt.choices]
            request["structured_outputs"] = {"choice": choices}
        elif sampling.json_schema is not None:
            request["structured_outputs"] = {"json": sampling.json_schema}
        return request

    def _embed(self, visual: VisualSequence, prompt: Prompt) -> torch.Tensor:
        """Return text and frames in turn (length, hidden), the question last."""
        segments = (*prompt.frame_segments, prompt.question)
        is_visual = torch.from_numpy(visual_mask(segments, visual.counts))
        tokens = torch.tensor([token for segment in segments for token in segment])
        embeds = self._embeddings.new_empty(len(is_visual), self._embeddings.shape[1])
        embeds[~is_visual] = embedding(tokens, self._embeddings)
        embeds[is_visual] = unpack(visual.features, visual.dtype).to(embeds.dtype)
        return embeds

    def _served_model(self) -> str:
        with closing(self._open(Request(f"{self._url}/v1/models", headers=self._headers))) as got:
            try:
                return str(json.load(got)["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                raise ModelError(f"--llm-server {self._url}: names no model it serves") from None

    def _post(self, path: str, body: Mapping[str, Any]) -> HTTPResponse:
        data = json.dumps(body).encode()
        return self._open(Request(self._url + path, data=data, headers=self._headers))

    def _open(self, request: Request) -> HTTPResponse:
        try:
            response: HTTPResponse = _OPENER.open(request, timeout=_STALL_SECONDS)
        except HTTPError as error:
            with closing(error):
                raise ModelError(f"--llm-server {self._url}: {_reason(error)}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise ModelError(f"--llm-server {self._url}: cannot be reached ({error})") from None
        return response

    def _chunks(self, response: HTTPResponse) -> Iterator[Mapping[str, Any]]:
        """Yield the objects of a stream of server-sent events up to its end."""
        try:
            for line in response:
                name, _, value = line.strip().partition(b":")
                if name != b"data":
                    continue
                if value.strip() == b"[DONE]":
                    return
                chunk = json.loads(value)
                if "error" in chunk:
                    raise ModelError(f"--llm-server {self._url}: {_message(chunk)}")
                yield chunk
        except (OSError, HTTPException, ValueError) as error:
            raise ModelError(f"--llm-server {self._url}: broke off ({error})") from None
        raise ModelError(f"--llm-server {self._url}: broke off in the middle of an answer")


@dataclass(slots=True)
class _Answer:
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    first_seconds: float = 0.0
    is_cut: bool = False

    def take(self, chunk: Mapping[str, Any]) -> Iterator[str]:
        """Take what a chunk adds, and yield its text if there is any."""
        for choice in chunk.get("choices", []):
            self.token_ids += choice.get("token_ids") or []
            self.text += choice["text"]
            self.is_cut |= choice.get("finish_reason") == "length"
            if choice["text"]:
                yield choice["text"]


def encode_tensor(tensor: torch.Tensor) -> str:
    """Return a tensor as vLLM takes it: what ``torch.save`` writes, in base64."""
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _read_key(options: ModelOptions) -> str:
    if options.llm_key_file is None:
        return ""
    try:
        return Path(options.llm_key_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"--llm-key-file: cannot be read ({error})") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _reason(error: HTTPError) -> str:
    try:
        return f"{_message(json.load(error))} ({error.code})"
    except (ValueError, AttributeError):
        return f"{error.reason} ({error.code})"


def _message(body: Mapping[str, Any]) -> str:
    """Return what an error says, in one line."""
    error = body.get("error", body)
    text = error.get("message", "") if isinstance(error, dict) else error
    return " ".join(str(text).split()) or "an error without a message"
