"""One clip a row, for those who live in Ray Data: docs/ray-data.md. It does not import ray."""

import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streaming.command import check_text
from streaming.engine import open_engine
from streaming.flags import change
from streaming.options import Options
from streaming.pipeline import answer_clip, in_flight
from streaming.plan import plan_clip
from streaming.result import Answer
from streaming.sample import check_run, sample_clip
from workers.errors import InputError, StreamError

if TYPE_CHECKING:
    import pyarrow

_ADDED = ("answers", "error", "seconds", "num_visual_tokens")


class AskClips:
    """Asks questions of clips, with one engine that stays warm as long as its actor lives.

    ``ds.map_batches(AskClips, batch_size=1, batch_format="pyarrow", max_restarts=2,
    max_task_retries=2, fn_constructor_kwargs={"options": {"budget": 512}},
    compute=ray.data.ActorPoolStrategy(size=2))``

    Without the two limits a clip that kills its actor does so for ever. With checkpoints: read by
    ``read_json`` or ``read_parquet`` (after ``from_items`` a second run doubles the rows), keep ids
    unique in the output, leave a CPU free for the filter (or a second run stalls), and put into
    ``checkpoint_path`` whatever the answers depend on (or those of other options pass for done).

    Args:
        options: of ``streaming.ask``, by name with underscores; the engine runs in the actor.

    Raises:
        StreamError: an option is not valid, or the model cannot be used.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        settled = change(Options(), options, source="options")
        if settled.run.executor == "ray" or settled.run.address is not None:
            raise InputError("options: leave out executor and address: an actor asks by itself")
        self._options = replace(settled, run=replace(settled.run, executor="local"))
        check_run(self._options)
        running = ExitStack()
        self._engine = running.enter_context(open_engine(self._options))
        self.close = weakref.finalize(self, running.close)

    def __call__(self, batch: "pyarrow.Table | Mapping[str, Any]") -> "pyarrow.Table":
        """Return the rows of a batch, worked on side by side, at most ``clips_in_flight``.

        Args:
            batch: columns ``id``, ``video`` and ``questions`` (lists of texts) or ``question``.

        Returns:
            The batch with ``answers``, ``error`` ("" or the text of what kept the row from being
            asked; ``answers`` are empty then), ``seconds`` of the row, and ``num_visual_tokens``.
        """
        import pyarrow as pa

        kinds = [pa.list_(pa.string()), pa.string(), pa.float64(), pa.int64()]
        added = pa.schema(list(zip(_ADDED, kinds, strict=True)))
        table: Any = batch
        if not isinstance(batch, pa.Table):
            table = pa.table({name: list(column) for name, column in batch.items()})
        if taken := [name for name in _ADDED if name in table.column_names]:
            raise InputError(f"the rows have a column {taken[0]!r} already: rename it")
        rows, limit = table.to_pylist(), self._options.run.clips_in_flight
        done = dict(in_flight(lambda n: self._ask(rows[n]), range(len(rows)), limit=limit))
        columns = pa.Table.from_pylist([done[n] for n in range(len(rows))], schema=added)
        for name in _ADDED:
            table = table.append_column(name, columns[name])
        return table

    def _ask(self, row: Mapping[str, Any]) -> dict[str, object]:
        started, error = time.perf_counter(), ""
        answers: list[Answer] = []
        try:
            questions = _questions(row)
            plan = plan_clip(sample_clip(row["video"], self._options), self._options, questions)
            answers = answer_clip(self._engine, plan, questions)
        except StreamError as failure:
            error = str(failure)
        return {
            "answers": [answer.answer for answer in answers],
            "error": error,
            "seconds": time.perf_counter() - started,
            "num_visual_tokens": answers[0].num_visual_tokens if answers else 0,
        }


def _questions(row: Mapping[str, Any]) -> list[str]:
    questions = row.get("questions") or [row.get("question")]
    for text in (row.get("video"), *questions):
        if not isinstance(text, str):
            raise InputError(f"a row needs a video and questions, as texts, not {text!r}")
        check_text(text, what="the video or a question")
    return questions
