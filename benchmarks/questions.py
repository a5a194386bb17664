"""What asking several questions of a clip together costs, against one after another.

Both sides use the same model and the same cached prefix, in turns, and must give the same tokens.

Run: python -m benchmarks.questions [--repeats 5] [--json PATH]
     python -m benchmarks.questions --hidden 4096 --layers 2 [--dtype bfloat16]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import numpy as np
import torch

from streaming.bench.hardware import describe_hardware
from streaming.bench.random_checkpoint import write_checkpoint
from workers.arrays import pack
from workers.checkpoint import EMBEDDED, locate
from workers.llm.answer import GeneratedAnswer, SamplingOptions
from workers.llm.chat_template import ChatTemplate
from workers.llm.model import LanguageModel
from workers.process import prepare_process
from workers.visual import VisualSequence

_NUMBERS = (1, 2, 4, 8, 16, 32)
_THINGS = ("circle", "square", "triangle", "number", "plate", "background", "left", "right")


def make_visual(hidden: int, num_tokens: int, num_frames: int = 16) -> VisualSequence:
    """Return a sequence of random features, as many of each frame."""
    generator = torch.Generator().manual_seed(num_tokens)
    each = num_tokens // num_frames
    features = 0.3 * torch.randn(each * num_frames, hidden, generator=generator)
    return VisualSequence(
        visual_id=f"random-{num_tokens}",
        features=pack(features),
        dtype="float32",
        counts=np.full(num_frames, each),
        keep_indices=np.tile(np.arange(each), num_frames),
        frame_indices=np.arange(num_frames),
        frame_lengths=np.full(num_frames, each),
        gaps=np.zeros(num_frames, np.int64),
        num_timestamp_tokens=np.zeros(num_frames, np.int64),
    )


class Clip:
    """A clip that a model has read, and questions about it."""

    def __init__(self, model: LanguageModel, location: str, visual: VisualSequence) -> None:
        self._model, self._visual = model, visual
        template = ChatTemplate.load(location)
        stamps = [""] * len(visual)
        self._prompts = [
            template.build(f"what color is the {thing} {place}?", stamps)
            for place in ("in front", "behind", "above", "below")
            for thing in _THINGS
        ]
        self.sampling = SamplingOptions(max_new_tokens=16)

    def ask(self, number: int) -> GeneratedAnswer:
        """Return the whole answer to one question."""
        *_, answer = self._model.generate(self._visual, self._prompts[number], self.sampling)
        assert isinstance(answer, GeneratedAnswer)
        return answer

    def one_by_one(self, number: int) -> list[GeneratedAnswer]:
        """Ask each question when the one before has been answered."""
        return [self.ask(i) for i in range(number)]

    def together(self, number: int) -> list[GeneratedAnswer]:
        """Ask all questions at once."""
        answers: dict[int, GeneratedAnswer] = {}

        def ask(i: int) -> None:
            answers[i] = self.ask(i)

        threads = [Thread(target=ask, args=(i,)) for i in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answers[i] for i in range(number)]


def compare(clip: Clip, number: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of both sides, and pair by pair how many times as much the first takes.

    The ratio of the process' CPU seconds stands beside that of wall seconds: other work on the same
    cores moves it less.
    """
    times: dict[str, list[float]] = {"one": [], "together": [], "ratio": [], "cpu ratio": []}
    for repeat in range(repeats):
        order = ("one", "together") if repeat % 2 else ("together", "one")
        said, busy = {}, {}
        for side in order:
            begin, busy_begin = time.perf_counter(), time.process_time()
            answers = clip.one_by_one(number) if side == "one" else clip.together(number)
            times[side].append(time.perf_counter() - begin)
            busy[side] = time.process_time() - busy_begin
            said[side] = [answer.token_ids for answer in answers]
        if said["one"] != said["together"]:
            raise RuntimeError(f"other answers to {number} questions together")
        times["ratio"].append(times["one"][-1] / times["together"][-1])
        times["cpu ratio"].append(busy["one"] / busy["together"])
    return times


def main() -> None:
    """Print a table for each length of the visual sequence."""
    prepare_process()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budgets", type=int, nargs="+", default=[160, 3200])
    parser.add_argument("--numbers", type=int, nargs="+", default=_NUMBERS)
    parser.add_argument("--hidden", type=int, help="of a random checkpoint, else the embedded one")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    found: dict[int, dict[int, dict[str, list[float]]]] = {}
    with ExitStack() as stack:
        location = locate(EMBEDDED)
        if options.hidden:
            location = stack.enter_context(tempfile.TemporaryDirectory())
            write_checkpoint(
                Path(location), text_size=options.hidden, num_layers=options.layers, tile_size=28
            )
        model = LanguageModel(location, device="cpu", dtype=getattr(torch, options.dtype))
        hidden = model._decoder.config.hidden_size
        print(describe_hardware())
        for budget in options.budgets:
            clip = Clip(model, location, make_visual(hidden, budget))
            clip.one_by_one(2)
            clip.together(2)
            found[budget] = {n: compare(clip, n, options.repeats) for n in options.numbers}
            print_table(f"hidden {hidden}, {options.dtype}, {budget} visual tokens", found[budget])
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


def print_table(title: str, rows: dict[int, dict[str, list[float]]]) -> None:
    """Print medians with quartiles."""
    print(
        f"\n{title}\n\n| questions | one by one, s | together, s | ratio | ratio of CPU seconds |"
    )
    print("|---|---|---|---|---|")
    for number, times in rows.items():
        cells = " | ".join(map(_spread, times.values()))
        print(f"| {number} | {cells} |", flush=True)


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
