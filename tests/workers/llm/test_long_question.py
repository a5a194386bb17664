"""A question of any length attends under masks of bounded size, and is read as if under one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tests.workers.llm.test_fastv import make_model
from tests.workers.llm.visual import Asker, identified, random_frames, show_frames
from workers.llm.rows import Row
from workers.visual import VisualSequence

MOST = 7
LONG = "What color is the cat that sits on the red car in the street?"
SHORT = "Where is the red car?"


@pytest.fixture(scope="module")
def clip(checkpoint: Path) -> VisualSequence:
    return show_frames(checkpoint, random_frames(0))


def read(asker: Asker, clip: VisualSequence, texts: list[str]) -> tuple[list[torch.Tensor], Any]:
    """Return the logits behind questions and behind a token more, and what each row kept."""
    decoder = asker.model._decoder
    prompts = [asker.prompt(clip, text) for text in texts]
    prefix = decoder.prefill(clip, prompts[0])
    rows = [Row(slot=slot) for slot in range(len(texts))]
    logits = [
        decoder.read(prefix, rows, [prompt.question for prompt in prompts]),
        decoder.read(prefix, rows, [(7,)] * len(rows)),
    ]
    return logits, [row.kept for row in rows]


@pytest.fixture
def heights(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every mask of a question, whose tokens see more than each other."""
    found: list[int] = []

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        if mask is not None and query.shape[2] < key.shape[2]:
            found.append(mask.shape[2])
        return sdpa_attention_forward(module, query, key, value, mask, **options)

    monkeypatch.setattr("workers.llm.row_attention.sdpa_attention_forward", attend)
    return found


@pytest.mark.parametrize(
    ("kind", "texts"),
    [("llama", [LONG]), ("llama", [SHORT, LONG, LONG[5:]]), ("mistral_window", [LONG])],
    ids=["alone", "together", "window"],
)
@pytest.mark.parametrize("prune_layer", [None, 2])
def test_reading_under_small_masks_changes_nothing(
    checkpoint: Path, clip: VisualSequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    heights: list[int], kind: str, texts: list[str], prune_layer: int | None,
) -> None:  # fmt: skip
    asker = make_model(checkpoint, tmp_path / kind, kind)
    shown = identified(clip, prune_layer=prune_layer, num_keep=20)
    whole, kept = read(asker, shown, texts)
    assert max(heights) > MOST
    heights.clear()
    for module in ("row_attention", "decoder"):
        monkeypatch.setattr(f"workers.llm.{module}.MOST_QUERIES", MOST)
    parts, kept_of_parts = read(asker, shown, texts)
    assert 0 < max(heights) <= MOST
    for some, all_at_once in zip(parts, whole, strict=True):
        torch.testing.assert_close(some, all_at_once, rtol=1e-4, atol=1e-5)
    if prune_layer is not None:
        assert all(map(torch.equal, kept_of_parts, kept))
