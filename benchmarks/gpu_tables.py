"""The measurements of ``benchmarks.gpu``, a table each."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_runs import FRAMES_PER_CHUNK, Runs
from benchmarks.stopwatch import Spread, Stopwatch
from workers.arrays import UInt8Array
from workers.vision.normalize import Normalization, normalize

_PRUNED = (0.0, 0.5, 0.7, 0.9)
_CLIPS = (1, 8, 32, 64)
_TILES = (5, 10, 20, 40, 80)
_GOAL = {"peak": 0.6, "prune": 0.05, "speed": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A finished part of the report."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: tuple[str, ...], **values: Any) -> None:
        """Add a row as shown, and its figures."""
        self.rows.append(row)
        self.values.append(values)

    def to_markdown(self) -> str:
        """Return the table under its title."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join(
            [f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]
        )


class Bench:
    """All measurements on one device, most wanted first.

    Args:
        runs: the model and its frames.
        watch: with what is left of the time.
        small: fewer and smaller of everything.
    """

    def __init__(self, runs: Runs, watch: Stopwatch, *, dtype: torch.dtype, small: bool) -> None:
        self._runs, self._watch, self._dtype, self._small = runs, watch, dtype, small
        self._repeats = 2 if small else 7
        self._peak = 0.0

    def tables(self) -> Iterator[Table]:
        """Yield each part as it is done, while there is time."""
        for part in (self.peak, self.tower, self.pruner, self.images, self.clips, self.compiled):
            if self._watch.seconds_left > 0:
                yield part()

    def peak(self) -> Table:
        """Measure what one large matrix product reaches."""
        size = 256 if self._small else 8192
        left, right = torch.randn(2, size, size, device=self._runs.device, dtype=self._dtype)
        seconds = self._watch.measure(lambda: left @ right, repeats=3 * self._repeats)
        self._peak = 2 * size**3 / seconds.median
        table = Table(title="Matrix product", head=("size", "ms", "TFLOP/s"))
        shown = f"{self._peak / 1e12:.1f}"
        table.add((str(size), seconds.show(1e3, 2), shown), size=size, seconds=asdict(seconds))
        return table

    def tower(self) -> Table:
        """Measure the vision tower with its projector by the number of tiles in a pass."""
        head = ("tiles a pass", "ms", "frames/s", f"of the peak (goal {_GOAL['peak']:.0%})")
        table = Table(title="Vision tower and projector", head=head)
        for num_tiles in _TILES[:2] if self._small else _TILES:
            seconds, share = self._time_pass(num_tiles, self._runs.encoder._encode_pass)
            rate = num_tiles / self._runs.frame.num_tiles / seconds.median
            row = (str(num_tiles), seconds.show(1e3), f"{rate:.1f}", f"{share:.1%}")
            table.add(row, tiles=num_tiles, seconds=asdict(seconds), frames_per_s=rate, peak=share)
        return table

    def _time_pass(
        self, num_tiles: int, encode: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[Spread, float]:
        """Return the seconds of a pass, and its share of the peak."""
        tiles = torch.from_numpy(self._runs.tiles(-(-num_tiles // 5))[:num_tiles])
        tiles = tiles.to(self._runs.device)
        with torch.inference_mode():
            with FlopCounterMode(display=False) as flops:
                self._runs.encoder._encode_pass(tiles)
            seconds = self._watch.measure(lambda: encode(tiles), repeats=self._repeats)
        return seconds, flops.get_total_flops() / seconds.median / self._peak

    def _forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        encoder = self._runs.encoder
        projected: torch.Tensor = encoder._projector(encoder._features(pixel_values))
        return projected

    def pruner(self) -> Table:
        """Measure what ranking takes of the encode stage, in chunks of eight frames."""
        head = ("pruner", "frames/s", f"pruner's share (goal {_GOAL['prune']:.0%})")
        table = Table(title="Encode stage", head=head)
        chunks = list(self._runs.chunks(2 if self._small else FRAMES_PER_CHUNK))
        num_frames = sum(map(len, chunks))
        for method in ("mr_pruner", "gprune", "uniform"):
            budget = self._runs.frame.num_tokens * num_frames // 10
            parts = [
                self._runs.watch(chunks, method=method, budget=budget)[1]
                for _ in range(self._repeats + 1)
            ][1:]
            totals = [sum(each.values()) for each in parts]
            share = Spread.of([each["prune"] / sum(each.values()) for each in parts])
            rate = num_frames / Spread.of(totals).median
            row = (method, f"{rate:.1f}", share.show(100) + " %")
            table.add(row, method=method, frames_per_s=rate, share=asdict(share))
        return table

    def images(self) -> Table:
        """Measure answers about single images by the part of their tokens that is pruned."""
        table = Table(title="Single images", head=("pruned", "images/s", "ratio to unpruned"))
        chunks, num_tokens = list(self._runs.chunks(1)), self._runs.frame.num_tokens
        unpruned = 0.0
        for pruned in _PRUNED:
            method = "mr_pruner" if pruned else "none"
            budget = num_tokens - int(pruned * num_tokens)
            ask = partial(self._runs.ask, chunks, method=method, budget=budget)
            seconds = self._watch.measure(ask, repeats=self._repeats)
            unpruned = unpruned or seconds.median
            ratio = unpruned / seconds.median
            row = (f"{pruned:.0%}", f"{1 / seconds.median:.2f}", f"{ratio:.2f}")
            table.add(row, pruned=pruned, seconds=asdict(seconds), ratio=ratio)
        return table

    def clips(self) -> Table:
        """Measure clips to their answers against transformers on all tokens of the same frames."""
        head = ("frames", "this, s", "transformers, s", f"ratio (goal {_GOAL['speed']} at 64)", "")
        table = Table(title="Clip to answer", head=head)
        expected = 0.0
        for num_frames in _CLIPS[:2] if self._small else _CLIPS:
            chunks, tiles = list(self._runs.chunks(num_frames)), self._runs.tiles(num_frames)
            num_tokens = num_frames * self._runs.frame.num_tokens
            budget = min(4096, num_tokens)
            ask = partial(self._runs.ask, chunks, method="mr_pruner", budget=budget)
            ours = self._watch.measure(ask, repeats=self._repeats)
            theirs, remark = self._time_transformers(tiles, num_tokens, expected)
            expected = 4 * theirs.median if theirs else expected
            shown = theirs.show(digits=2) if theirs else "-"
            ratio = theirs.median / ours.median if theirs else None
            row = (str(num_frames), ours.show(digits=2), shown, f"{ratio:.1f}" if ratio else "-")
            figures = {"this": asdict(ours), "transformers": asdict(theirs) if theirs else None}
            table.add((*row, remark), frames=num_frames, ratio=ratio, remark=remark, **figures)
        return table

    def _time_transformers(
        self, tiles: UInt8Array, num_tokens: int, expected: float
    ) -> tuple[Spread | None, str]:
        """Return the seconds of transformers' generate, None where there are none, and a remark.

        That is where it runs out of memory, or of the time that ``expected`` seconds need.
        """
        length = self._runs.model.config.text_config.max_position_embeddings
        remark = f"{num_tokens:,} tokens"
        remark += f", beyond the context of {length:,}" if num_tokens > length else ""
        if self._watch.seconds_left <= expected:
            return None, f"{remark}; no time left"
        try:
            ask = partial(self._runs.ask_transformers, tiles)
            return self._watch.measure(ask, repeats=1 if expected > 10 else 3), remark
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return None, f"{remark}; out of memory"

    def compiled(self) -> Table:
        """Measure the tower through ``torch.compile``, or say why there is none."""
        table = Table(title="Vision tower, compiled", head=("tiles a pass", "ms", "of the peak"))
        num_tiles = 5 if self._small else 40
        try:
            forward = torch.compile(self._forward, dynamic=False)
            seconds, share = self._time_pass(
                num_tiles, lambda tiles: forward(normalize(tiles, Normalization(), self._dtype))
            )
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            table.add((str(num_tiles), f"none: {type(error).__name__}: {reason}", "-"))
            return table
        row = (str(num_tiles), seconds.show(1e3), f"{share:.1%}")
        table.add(row, tiles=num_tiles, seconds=asdict(seconds), peak=share)
        return table
