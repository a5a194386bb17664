"""What the language model's first layers cost where each question chooses behind them.

Each side reads a clip, once, and then a question about it, from there: a budget of tokens in all
layers; several budgets of them in the first K, of which the question keeps one (--question-aware);
ten of them, as FastV does. The sides take turns on one thread; ratios are to the first, of one
turn.

Run: python -m benchmarks.question_aware [--repeats 9] [--budget 280] [--hidden 4096 --layers 8]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.questions import make_visual
from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint
from workers.checkpoint import EMBEDDED, locate
from workers.llm.chat_template import ChatTemplate
from workers.llm.decoder import Decoder
from workers.llm.prompt import Prompt
from workers.llm.rows import Row
from workers.process import prepare_process
from workers.visual import VisualSequence

_TIMES = (1, 2, 4, 8, 10)
Seconds = tuple[float, float]
"""CPU seconds of reading the clip, and of reading a question behind it."""


def make_side(hidden: int, budget: int, times: int, layer: int) -> VisualSequence:
    """Return a clip of which ``times`` budgets enter; 10 of them as with FastV."""
    visual = make_visual(hidden, times * budget)
    if times == 1:
        return visual
    visual = replace(visual, prune_layer=layer, num_keep=len(visual.features) // times)
    if times == 10:
        return visual
    priority = np.random.default_rng(0).permutation(len(visual.features))
    return replace(visual, priority=priority, reserve=0.5)


def read(decoder: Decoder, visual: VisualSequence, prompt: Prompt) -> Seconds:
    """Return the CPU seconds of reading a clip and a question: other work moves them less."""
    begin = time.process_time()
    prefix = decoder.prefill(visual, prompt)
    read_clip = time.process_time()
    decoder.read(prefix, [Row(slot=0)], [prompt.question])
    return read_clip - begin, time.process_time() - read_clip


def main() -> None:
    """Print a row for each number of budgets that enter."""
    prepare_process()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--budget", type=int, default=280)
    parser.add_argument("--layer", type=int, default=2, help="K")
    parser.add_argument("--hidden", type=int, help="of a random checkpoint, else the embedded one")
    parser.add_argument("--layers", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        location = locate(EMBEDDED)
        if options.hidden:
            location = stack.enter_context(tempfile.TemporaryDirectory())
            write_checkpoint(
                Path(location), text_size=options.hidden, num_layers=options.layers, tile_size=28
            )
        decoder = Decoder(location, device="cpu", dtype=torch.float32)
        hidden = decoder.config.hidden_size
        sides = {n: make_side(hidden, options.budget, n, options.layer) for n in _TIMES}
        prompt = ChatTemplate.load(location).build("what color is the circle?", [""] * 16)
        found: dict[int, list[Seconds]] = {times: [] for times in _TIMES}
        for _ in range(options.repeats + 1):  # of which the first warms up
            for times, visual in sides.items():
                found[times].append(read(decoder, visual, prompt))
    num_layers = decoder.config.num_hidden_layers
    print(describe_hardware())
    print(f"\nhidden {hidden}, {num_layers} layers, K = {options.layer}, B = {options.budget}\n")
    print_table({times: seconds[1:] for times, seconds in found.items()})


def print_table(found: dict[int, list[Seconds]]) -> None:
    """Print medians with quartiles."""
    print("| enter | clip, CPU s | of B's | question, CPU s | of B's |\n|---|---|---|---|---|")
    for times, seconds in found.items():
        cells = [f"{times} B" + " (FastV)" * (times == 10)]
        for part in (0, 1):
            own = [each[part] for each in seconds]
            plain = [each[part] for each in found[1]]
            cells += [_spread(own), _spread([a / b for a, b in zip(own, plain, strict=True)])]
        print("| " + " | ".join(cells) + " |")


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


if __name__ == "__main__":
    main()
