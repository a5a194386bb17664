"""What a bench measures beside answers: the machine's peak, and fast pruners against plain ones."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from streaming.bench.flops import peak_flops
from streaming.bench.pictures import read_pictures
from streaming.bench.point import spread
from streaming.flags import change
from streaming.options import Options
from streaming.sample import sample_clip
from workers.checkpoint import locate
from workers.process import prepare_process, prepare_torch, set_num_threads

if TYPE_CHECKING:
    from workers.vision.encoder import FrameFeatures

_NUM_FRAMES = 4
_KEEP_RATIO = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerTimes:
    """Seconds a frame of a method, as it is run and in its straightforward form."""

    method: str
    fast_seconds: tuple[float, ...]
    plain_seconds: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Plain over fast, pair by pair."""
        pairs = zip(self.plain_seconds, self.fast_seconds, strict=True)
        return [plain / fast for plain, fast in pairs]

    def to_json(self) -> Mapping[str, Any]:
        """Return the figures as plain values."""
        return asdict(self) | {"ratio": spread(self.ratios)}


class Laboratory:
    """Measures in a process of its own, on the device and in the dtype of a run."""

    def __init__(self, options: Options) -> None:
        prepare_process()
        self._options = options
        self._device, self._dtype = prepare_torch(options.model)

    def close(self) -> None:
        """Nothing runs."""

    def peak_flops(self) -> float:
        """Return the operations a second of a matrix product here."""
        return peak_flops(self._device, self._dtype)

    def time_pruners(self, methods: tuple[str, ...], clip: str, repeats: int) -> list[PrunerTimes]:
        """Time methods in turns with their plain forms, on frames of a clip, a tenth of it kept.

        Those of which there is no plain form are left out.
        """
        from streaming.bench.plain_pruners import PLAIN

        features = self._encode(clip)
        return [self._time(method, features, repeats) for method in methods if method in PLAIN]

    def _time(self, method: str, features: "FrameFeatures", repeats: int) -> PrunerTimes:
        from streaming.bench.plain_pruners import PLAIN

        num_keep = max(1, int(_KEEP_RATIO * features.layout.num_tokens))

        def fast() -> object:
            return _prune(method, features, num_keep)

        def plain() -> object:
            return PLAIN[method](features.base, features.grid, num_keep)

        fast(), plain()
        pairs = [(self._seconds(fast), self._seconds(plain)) for _ in range(repeats)]
        return PrunerTimes(
            method=method,
            fast_seconds=tuple(pair[0] for pair in pairs),
            plain_seconds=tuple(pair[1] for pair in pairs),
        )

    def _seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds a frame that some work takes, the device's included."""
        import torch

        begin = time.perf_counter()
        with torch.inference_mode():
            work()
        if self._device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / _NUM_FRAMES

    def _encode(self, clip: str) -> "FrameFeatures":
        from workers.vision.encoder import VisionEncoder
        from workers.vision.tiles import cut_pictures

        options = change(self._options, {"num_frames": _NUM_FRAMES}, source="")
        sampled = sample_clip(clip, options)
        encoder = VisionEncoder(locate(options.model.model), device=self._device, dtype=self._dtype)
        if encoder.is_small:  # as a run does
            set_num_threads(1)
        pictures = read_pictures(clip, sampled.frame_indices.tolist())
        (features,) = encoder.encode(*cut_pictures(pictures, sampled.tiles))
        return features


def _prune(method: str, features: "FrameFeatures", num_keep: int) -> object:
    """Choose what each of some frames keeps, as a run does."""
    from pruner import METHODS, Task, choose, rank

    base, grid, newline = features.base, features.grid, features.newline
    if METHODS[method].scope == "frame":
        task = Task(num_keep=num_keep, frame_indices=list(range(len(base))))
        return rank(method, base, grid, task).order[:, :num_keep]
    return choose(method, base, grid, newline, [num_keep] * len(base))
