"""An answer in the shapes of OpenAI's chat completions, whole and in chunks."""

import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from streaming.serve.chat import Chat
from streaming.serve.evidence import show_frames
from streaming.serve.progress import EncodeProgress
from streaming.serve.served import Served

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Writes the answer to one request."""

    chat: Chat
    reply_id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, served: Served) -> dict[str, Any]:
        """Return the body of a response that is not streamed."""
        message = {"role": "assistant", "content": served.answer.answer, "refusal": None}
        end = served.answer.finish_reason
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end}
        return {
            **self._head("chat.completion", served.answer.model),
            "choices": [choice],
            "usage": usage(served),
            "mr_stream": self._record(served),
        }

    def first(self, model: str) -> bytes:
        """Return the chunk that begins an answer."""
        return self._chunk(model, {"role": "assistant", "content": ""})

    def piece(self, model: str, text: str) -> bytes:
        """Return a chunk of text."""
        return self._chunk(model, {"content": text})

    def progress(self, model: str, progress: EncodeProgress) -> bytes:
        """Return a chunk without choices that tells how far the clip is."""
        head = self._head("chat.completion.chunk", model)
        return event({**head, "choices": [], "mr_stream": {"progress": asdict(progress)}})

    def last(self, served: Served) -> bytes:
        """Return the chunks that end an answer: its record, and its usage where that is wanted."""
        answer = served.answer
        model, reason = answer.model, answer.finish_reason
        end = self._chunk(
            model, {}, finish_reason=reason, extra={"mr_stream": self._record(served)}
        )
        if not self.chat.include_usage:
            return end
        head = self._head("chat.completion.chunk", model)
        return end + event({**head, "choices": [], "usage": usage(served)})

    def _chunk(
        self,
        model: str,
        delta: dict[str, str],
        *,
        finish_reason: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.chat.include_usage else {}
        head = self._head("chat.completion.chunk", model)
        return event({**head, "choices": [choice], **usage, **(extra or {})})

    def _head(self, kind: str, model: str) -> dict[str, Any]:
        return {"id": self.reply_id, "object": kind, "created": self.created, "model": model}

    def _record(self, served: Served) -> dict[str, Any]:
        record = served.answer.to_json() | {"warm": served.warm}
        if served.reached_seconds is not None:
            record["reached_seconds"] = served.reached_seconds
        if self.chat.evidence:
            answer = served.answer
            record["frames"] = show_frames(answer.frames, answer.fit, served.pictures)
        return record


def event(value: dict[str, Any]) -> bytes:
    """Return an object as a server-sent event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def usage(served: Served) -> dict[str, Any]:
    """Return the tokens of a request; of a clip that was not encoded for it they are cached."""
    answer = served.answer
    prompt = answer.num_text_tokens + answer.num_visual_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.num_answer_tokens,
        "total_tokens": prompt + answer.num_answer_tokens,
        "prompt_tokens_details": {
            "cached_tokens": served.num_cached_tokens,
            "video_tokens": answer.num_visual_tokens,
        },
    }
