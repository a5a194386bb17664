"""This project's own engine as a system of the bench."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streaming.bench.concurrency import Load, load
from streaming.bench.flops import prefill_flops, vision_flops
from streaming.bench.trial import Trial
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import WatchedClip, ask, watch
from streaming.plan import plan_clip
from streaming.result import GPU_STAGES, Answer
from streaming.sample import SampledClip, sample_clip
from workers.checkpoint import locate
from workers.process import prepare_process, prepare_torch


class EngineSystem:
    """Answers on workers that the options ask for.

    Args:
        options: of the run. Prefixes of earlier clips are not kept, so that each trial prefills.
        fill_budget: see no more frames than the budget holds unpruned, with every token of theirs.
    """

    def __init__(self, options: Options, *, fill_budget: bool = False) -> None:
        prepare_process()
        self._options = change(options, {"cache_tokens": 1}, source="")
        self._fill_budget = fill_budget
        self._config = _model_config(options.model.model)
        self._device, _ = prepare_torch(options.model)
        self._exit = ExitStack()
        self._engine = self._exit.enter_context(open_engine(self._options))
        try:
            self._filler = self._watch_filler()
            self._evict()
        except BaseException:
            self._exit.close()
            raise

    def close(self) -> None:
        """Stop the workers."""
        self._exit.close()

    def trial(self, clip: str, num_frames: int, questions: Sequence[str]) -> Trial:
        """See :class:`streaming.bench.trial.System`."""
        self._evict()
        cpu, begin = self._cpu_seconds(), time.perf_counter()
        options, sampled = self._sample(clip, num_frames)
        plan = plan_clip(sampled, options, questions)
        opened = time.perf_counter()
        watched = watch(self._engine, plan)
        first, said, answer = self._ask(watched, questions[0])
        cpu = self._cpu_seconds() - cpu
        asked = time.perf_counter()
        second_first, second_said, _ = self._ask(watched, questions[1])
        seconds = {"open": opened - begin, **answer.seconds}
        on_gpu = self._device == "cuda"
        return Trial(
            num_frames=answer.num_frames,
            video_seconds=plan.source_seconds,
            num_tokens_seen=answer.num_unpruned_tokens,
            num_tokens_entering=answer.num_entering_tokens,
            seconds=seconds,
            first_token_seconds=first - begin,
            elapsed_seconds=said - begin,
            second_first_token_seconds=second_first - asked,
            second_elapsed_seconds=second_said - asked,
            num_answer_tokens=answer.num_answer_tokens,
            cpu_seconds=cpu,
            gpu_seconds=sum(seconds.get(stage, 0.0) for stage in GPU_STAGES) if on_gpu else 0.0,
            vision_flops=vision_flops(
                self._config, _num_layers(self._config), answer.num_encoded_tiles
            ),
            prefill_flops=prefill_flops(
                self._config.text_config,
                answer.num_entering_tokens + answer.num_text_tokens,
                layer=options.pruning.fastv_layer,
                num_keep=answer.num_visual_tokens + answer.num_text_tokens,
            ),
            peak_memory_bytes=answer.peak_memory_bytes,
            remark="; ".join(answer.warnings),
        )

    def answers(self, clip: str, num_frames: int, questions: Sequence[str]) -> list[str]:
        """See :class:`streaming.bench.trial.System`."""
        watched = self._watch(clip, num_frames, questions)
        return [self._ask(watched, question)[2].answer for question in questions]

    def load(
        self, clip: str, num_frames: int, questions: Sequence[str], levels: Sequence[int]
    ) -> list[Load]:
        """See :class:`streaming.bench.trial.System`."""
        watched = self._watch(clip, num_frames, questions)
        return load(lambda question: self._ask(watched, question), questions, levels=levels)

    def _watch(self, clip: str, num_frames: int, questions: Sequence[str]) -> WatchedClip:
        options, sampled = self._sample(clip, num_frames)
        return watch(self._engine, plan_clip(sampled, options, questions))

    def _sample(self, clip: str, num_frames: int) -> tuple[Options, SampledClip]:
        options = change(self._options, {"num_frames": num_frames}, source="")
        sampled = sample_clip(clip, options)
        if not self._fill_budget:
            return options, sampled
        budget = options.budget.budget or int(
            (options.budget.keep_ratio or 1.0) * sampled.lengths.sum()
        )
        fitting = max(1, min(num_frames, budget // int(sampled.lengths.max())))
        changes = {"num_frames": fitting, "pruner": "none", "budget": None, "keep_ratio": None}
        changes["question_aware"] = False
        options = change(options, changes, source="")
        return options, sample_clip(clip, options)

    def _ask(self, watched: WatchedClip, question: str) -> tuple[float, float, Answer]:
        """Return when the first piece of the answer came, when it ended, and the answer."""
        first = 0.0
        for piece in ask(self._engine, watched, question):
            first = first or time.perf_counter()
            if isinstance(piece, Answer):
                return first, time.perf_counter(), piece
        raise RuntimeError("an answer ended without its record")

    def _watch_filler(self) -> WatchedClip:
        """Watch a picture: the language model drops the last clip's prefix for its own."""
        from PIL import Image

        with TemporaryDirectory() as folder:
            path = str(Path(folder, "filler.png"))
            Image.new("RGB", (64, 48), "gray").save(path)
            changes = {"budget": 4, "keep_ratio": None, "pruner": "uniform", "num_frames": 1}
            options = change(self._options, changes, source="")
            return watch(self._engine, plan_clip(sample_clip(path, options), options, ("?",)))

    def _evict(self) -> None:
        self._ask(self._filler, "?")

    def _cpu_seconds(self) -> float:
        """CPU seconds so far of this process and its workers; not those of Ray's own processes."""
        if self._options.run.resolved_executor == "local":
            return time.process_time()
        return time.process_time() + sum(self._engine.cpu_seconds.values())


def _model_config(model: str) -> Any:
    from workers.families import load_config

    return load_config(locate(model))


def _num_layers(config: Any) -> int:
    from workers.vision.weights import feature_layers

    return max(feature_layers(config))
