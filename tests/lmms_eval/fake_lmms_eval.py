"""A stand-in for the few classes of lmms-eval that the plug-in uses, and a run with them."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

QUESTION = "What color is the cat?"
GREEDY = {"max_new_tokens": 9, "temperature": 0, "do_sample": False}


@dataclass
class FakeCounts:
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass
class FakeResult:
    text: str
    token_counts: FakeCounts | None = None


@dataclass
class FakeManifest:
    model_id: str
    chat_class_path: str


class FakeModel:
    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fakes in place of lmms-eval, installed or not."""
    fakes: dict[str, dict[str, Any]] = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.instance": {"GenerationResult": FakeResult, "TokenCounts": FakeCounts},
        "lmms_eval.api.model": {"lmms": FakeModel},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": FakeManifest},
    }
    for name, content in fakes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "streaming.lmms_eval.model", raising=False)


class Evaluation:
    """A model with its requests, as lmms-eval holds them."""

    def __init__(self, module: Any, **model_args: object) -> None:
        self.model = module.MrStream(**model_args)
        self.requests: list[Any] = []

    def add(self, media: Any, question: str = QUESTION, **generation: Any) -> Any:
        kind = "video" if isinstance(media, str) else "image"
        document = {"media": media, "question": question}
        documents = self.model.task_dict.setdefault("task", {}).setdefault("test", [])
        documents.append(document)
        arguments = ("", messages_of(kind), GREEDY | generation, len(documents) - 1, "task", "test")
        self.requests.append(SimpleNamespace(args=arguments))
        return self.requests[-1]

    def texts(self) -> list[str]:
        return [result.text for result in self.model.generate_until(self.requests)]


def messages_of(kind: str) -> Any:
    def messages(document: dict[str, Any]) -> list[dict[str, Any]]:
        media = {"type": kind, "url": document["media"]}
        return [
            {"role": "user", "content": [media, {"type": "text", "text": document["question"]}]}
        ]

    return messages
