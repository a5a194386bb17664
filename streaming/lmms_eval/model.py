"""The model ``mr_stream`` of lmms-eval; imported by lmms-eval only, and needs it."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, NoReturn

from lmms_eval.api.instance import (  # type: ignore[import-not-found]
    GenerationResult,
    TokenCounts,
)
from lmms_eval.api.model import lmms  # type: ignore[import-not-found]
from tqdm import tqdm

from streaming.engine import open_engine
from streaming.lmms_eval.requests import (
    EvalRequest,
    read_model_args,
    read_request,
    unknown_settings,
)
from streaming.pipeline import WatchedClip, ahead, ask, in_flight, watch
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import check_run, sample_source
from workers.errors import ContextError, InputError, StreamError, VideoError
from workers.run.engine import Engine
from workers.video.images import open_images
from workers.video.source import open_source


class MrStream(lmms):  # type: ignore[misc]
    """Answers the requests of lmms-eval with this project's pipeline, clips side by side.

    Where a clip cannot be read, or not be asked with these options, or questions do not fit the
    context, the answers are empty texts, named on stderr and counted there at the end; everything
    else that goes wrong ends the evaluation.

    Args:
        batch_size: 1; how many clips are worked on at a time is ``clips_in_flight``.
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
            raise InputError(
                f"{batch_size = } must be 1: clips_in_flight of --model_args is how many clips are "
                "worked on at a time"
            )
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
            InputError: a request that is no question about images or one video, or an option that
                no clip can be asked with.
            StreamError: the model or the run failed.
        """
        check_run(self._options)
        results: list[Any] = [None] * len(requests)
        with (
            open_engine(self._options) as engine,
            tqdm(total=len(requests), desc="mr_stream") as bar,
        ):
            limit = self._options.run.clips_in_flight
            groups = in_flight(partial(_answer, engine), self._groups(requests), limit=limit)
            for group, answers in groups:
                if isinstance(answers, StreamError):
                    raise answers
                results[group.first : group.first + len(answers)] = answers
                bar.update(len(answers))
        num_empty = sum(result.token_counts is None for result in results)
        if num_empty:
            reason = "their video cannot be read, or not be asked about with these options"
            _say(f"{num_empty} of {len(results)} answers are empty: {reason}")
        return results

    def _groups(self, requests: Sequence[Any]) -> "Iterator[_Group]":
        """Yield requests in a row about the same clip, read as they are taken."""
        turns: Counter[int] = Counter()
        seeds = []
        for instance in requests:
            seeds.append(self._options.generation.seed + turns[id(instance)])
            turns[id(instance)] += 1
        first = 0
        for _, group in groupby(map(self._read, requests), key=_clip_key):
            same_clip = tuple(group)
            end = first + len(same_clip)
            yield _Group(first=first, requests=same_clip, seeds=tuple(seeds[first:end]))
            first = end

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Raise: the pipeline generates text and tells no likelihoods."""
        raise NotImplementedError("mr_stream answers generate_until tasks, not loglikelihood")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Raise: a clip is asked independent questions."""
        raise NotImplementedError("mr_stream answers single questions, no rounds")

    def _read(self, instance: Any) -> EvalRequest | VideoError:
        _, doc_to_messages, generation, doc_id, task, split = instance.args
        for name in set(unknown_settings(generation)) - self._named:
            self._named.add(name)
            _say(f"the generation option {name} of {task} means nothing here")
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        try:
            return read_request(messages, generation, self._options)
        except VideoError as error:
            return error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Requests about one clip, the first of which is number ``first``; each with its seed."""

    first: int
    requests: tuple[EvalRequest | VideoError, ...]
    seeds: tuple[int, ...]


def _clip_key(request: EvalRequest | VideoError) -> object:
    return request if isinstance(request, VideoError) else request.clip_key()


def _answer(engine: Engine, group: _Group) -> list[Any]:
    """Watch the clip that the requests share and answer them; see :class:`MrStream`."""
    try:
        requests = [_readable(request) for request in group.requests]
        clip = _watch(engine, requests)
    except (VideoError, ContextError, InputError) as error:
        _say(f"{error}; answered with nothing")
        return [GenerationResult(text="") for _ in group.requests]
    for warning in (*clip.plan.warnings, *clip.visual.encoded.warnings):
        _say(warning)
    asked = ahead(
        ask(engine, clip, request.question, replace(request.options.generation, seed=seed))
        for request, seed in zip(requests, group.seeds, strict=True)
    )
    return [
        _result(request, piece)
        for request, pieces in zip(requests, asked, strict=True)
        for piece in pieces
        if isinstance(piece, Answer)
    ]


def _readable(request: EvalRequest | VideoError) -> EvalRequest:
    if isinstance(request, VideoError):
        raise request
    return request


def _watch(engine: Engine, requests: Sequence[EvalRequest]) -> WatchedClip:
    first = requests[0]
    source = open_images(first.pictures) if first.pictures else open_source(first.video)
    sampled = sample_source(source, first.options)
    plan = plan_clip(sampled, first.options, [request.question for request in requests])
    return watch(engine, plan)


def _result(request: EvalRequest, answer: Answer) -> Any:
    counts = TokenCounts(
        input_tokens=answer.num_text_tokens + answer.num_visual_tokens,
        output_tokens=answer.num_answer_tokens,
    )
    return GenerationResult(text=request.cut_answer(answer.answer), token_counts=counts)


def _say(text: str) -> None:
    tqdm.write(f"mr_stream: {text}", file=sys.stderr)
