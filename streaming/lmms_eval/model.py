"""The model ``mr_stream`` of lmms-eval; imported by lmms-eval only, and needs it."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NoReturn

from lmms_eval.api.instance import (  # type: ignore[import-not-found]
    GenerationResult,
    TokenCounts,
)
from lmms_eval.api.model import lmms  # type: ignore[import-not-found]
from tqdm import tqdm

from streaming.lmms_eval.requests import (
    EvalRequest,
    read_model_args,
    read_request,
    unknown_settings,
)
from streaming.pipeline import ask, open_engine, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import sample_source
from workers.errors import ContextError, InputError, VideoError
from workers.run.engine import Engine
from workers.video.images import open_images
from workers.video.source import open_source


class MrStream(lmms):  # type: ignore[misc]
    """Answers the requests of lmms-eval one after another with this project's pipeline.

    Where a video cannot be read, or questions do not fit the context, the answers are empty texts,
    named on stderr and counted there at the end; everything else that goes wrong ends the
    evaluation.

    Args:
        batch_size: 1; questions are answered one at a time.
        max_batch_size: None.
        model_args: options of ``streaming.ask`` by name.

    Raises:
        InputError: an argument is not valid.
    """

    is_simple = False

    def __init__(
        self, batch_size: int | str = 1, max_batch_size: int | None = None, **model_args: object
    ) -> None:
        super().__init__()
        if str(batch_size) != "1" or max_batch_size is not None:
            raise InputError(f"requests are answered one at a time: {batch_size = } must be 1")
        self._options = read_model_args(model_args)
        self._named: set[str] = set()

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests; those in a row about the same clip share one watching of it.

        ``max_new_tokens``, ``temperature``, ``do_sample`` and ``until`` of the task are honoured,
        the last by cutting the answer once it is complete. A request that comes more than once is
        drawn with another seed each time.

        Args:
            requests: instances with the arguments (context, doc_to_messages, generation options,
                document id, task, split).

        Returns:
            One ``GenerationResult`` a request, in order, with the tokens of its prompt.

        Raises:
            InputError: a request that is no question about images or one video.
            StreamError: the model or the run failed.
        """
        turns: Counter[int] = Counter()
        results: list[Any] = []
        with (
            open_engine(self._options) as engine,
            tqdm(total=len(requests), desc="mr_stream") as bar,
        ):
            for _, group in groupby(map(self._read, requests), key=EvalRequest.clip_key):
                same_clip = list(group)
                asked = requests[len(results) : len(results) + len(same_clip)]
                seeds = []
                for instance in asked:
                    seeds.append(self._options.generation.seed + turns[id(instance)])
                    turns[id(instance)] += 1
                results += _answer(engine, same_clip, seeds)
                bar.update(len(same_clip))
        num_empty = sum(result.token_counts is None for result in results)
        if num_empty:
            reason = "their video cannot be read, or not be asked about in this context"
            _say(f"{num_empty} of {len(results)} answers are empty: {reason}")
        return results

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Raise: the pipeline generates text and tells no likelihoods."""
        raise NotImplementedError("mr_stream answers generate_until tasks, not loglikelihood")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Raise: a clip is asked independent questions."""
        raise NotImplementedError("mr_stream answers single questions, no rounds")

    def _read(self, instance: Any) -> EvalRequest:
        _, doc_to_messages, generation, doc_id, task, split = instance.args
        for name in set(unknown_settings(generation)) - self._named:
            self._named.add(name)
            _say(f"the generation option {name} of {task} means nothing here")
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        return read_request(messages, generation, self._options)


def _answer(engine: Engine, requests: Sequence[EvalRequest], seeds: Iterable[int]) -> list[Any]:
    """Watch the clip that the requests share and answer them."""
    first = requests[0]
    try:
        source = open_images(first.pictures) if first.pictures else open_source(first.video)
        sampled = sample_source(source, first.options)
        plan = plan_clip(sampled, first.options, [request.question for request in requests])
        clip = watch(engine, plan)
    except (VideoError, ContextError) as error:
        _say(f"{error}; answered with nothing")
        return [GenerationResult(text="") for _ in requests]
    for warning in (*plan.warnings, *clip.visual.encoded.warnings):
        _say(warning)
    results = []
    for request, seed in zip(requests, seeds, strict=True):
        sampling = replace(request.options.generation, seed=seed)
        for piece in ask(engine, clip, request.question, sampling):
            if isinstance(piece, Answer):
                results.append(_result(request, piece))
    return results


def _result(request: EvalRequest, answer: Answer) -> Any:
    counts = TokenCounts(
        input_tokens=answer.num_text_tokens + answer.num_visual_tokens,
        output_tokens=answer.num_answer_tokens,
    )
    return GenerationResult(text=request.cut_answer(answer.answer), token_counts=counts)


def _say(text: str) -> None:
    tqdm.write(f"mr_stream: {text}", file=sys.stderr)
