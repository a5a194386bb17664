from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.llm.visual import QUESTIONS, Asker, random_frames, show_frames
from workers.llm.decoder import Decoder

pytest.importorskip("torchao", reason="the extra quantize is not installed")


def test_every_linear_layer_of_the_language_model_is_held_in_int8(checkpoint: Path) -> None:
    whole = Decoder(str(checkpoint), device="cpu", dtype=torch.float32)
    held = Decoder(str(checkpoint), device="cpu", dtype=torch.float32, weights="int8")
    for (name, linear), (_, quantized) in zip(linears(whole), linears(held), strict=True):
        weight = quantized.weight
        assert weight.qdata.dtype == torch.int8, name
        scale = linear.weight.abs().amax(1, keepdim=True) / 127
        assert ((weight.dequantize() - linear.weight).abs() <= scale * 0.51 + 1e-6).all()


def linears(decoder: Decoder) -> list[tuple[str, torch.nn.Linear]]:
    modules = decoder._model.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, torch.nn.Linear)]


def test_answers_in_int8_do_not_depend_on_their_company(checkpoint: Path) -> None:
    asker = Asker(checkpoint, weights="int8")
    visual = show_frames(checkpoint, random_frames(0))
    alone = [asker.ask(visual, question) for question in QUESTIONS]
    pieces = [asker.pieces(visual, question) for question in QUESTIONS]
    together = [list(list(each)[-1].token_ids) for each in pieces]
    assert together == alone
    assert np.unique([len(answer) for answer in alone]).min() > 0
