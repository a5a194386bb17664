"""A row of the output: what became of one question."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow

OK, FAILED = "ok", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The answer to one question, or why there is none.

    ``id`` and ``question_index`` tell which question; ``key`` and ``fingerprint`` are digests of
    the question and of the options it was asked with. Of a failed row the error columns say where
    (``error_stage``: open, sample, plan, decode, encode, allocate, generate), the type and the
    message; of any other they are empty. ``finish_reason`` is ``length`` where an answer ended for
    its length, else ``stop``, and empty where there is none. ``attempts`` counts this row's runs.
    ``seconds`` is the busy time of workers for this row by stage; what was done once for a clip
    (reading, encoding) stands in the first row of the clip. ``elapsed_seconds`` is wall time in the
    same way, each second in one row of a clip. ``video_seconds`` is the length of the clip between
    its first and its last picture. ``bank`` tells whether stored tokens were used (hit) or stored
    (made), ``bank_budget`` the budget that they were made for.
    """

    id: str
    question_index: int
    video: str
    question: str
    answer: str = ""
    finish_reason: str = ""
    status: str = OK
    error_stage: str = ""
    error_type: str = ""
    error_message: str = ""
    attempts: int = 1
    model: str = ""
    budget: int = 0
    num_frames: int = 0
    num_unpruned_tokens: int = 0
    num_visual_tokens: int = 0
    num_text_tokens: int = 0
    num_answer_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    video_seconds: float = 0.0
    bank: str = ""
    bank_budget: int = 0
    warnings: tuple[str, ...] = ()
    meta: str = ""
    key: str = ""
    fingerprint: str = ""

    @property
    def name(self) -> tuple[str, int]:
        """What the row is found by."""
        return self.id, self.question_index

    def to_json(self) -> dict[str, Any]:
        """Return plain values by column."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        seconds = {stage: round(value, 6) for stage, value in self.seconds.items()}
        return values | {"warnings": list(self.warnings), "seconds": seconds}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the record of plain values; raises TypeError where a column is unknown."""
        seconds, warnings = values.get("seconds", {}), values.get("warnings", ())
        return cls(**{**values, "seconds": dict(seconds), "warnings": tuple(warnings)})


def parse_line(line: bytes) -> Record | None:
    """Return the record of a line of JSON, in our form or OpenAI's; None for a torn one."""
    try:
        values = json.loads(line)
        return Record.from_json(values.get("mr_stream", values))
    except (ValueError, TypeError, AttributeError):
        return None


def schema() -> "pyarrow.Schema":
    """Return the one schema of every Parquet shard: no column changes its type, none is null."""
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    others = {
        "seconds": pa.map_(pa.string(), pa.float64()),
        "warnings": pa.list_(pa.string()),
    }
    columns = []
    for each in dataclasses.fields(Record):
        kind = others.get(each.name) or kinds[getattr(each.type, "__name__", str(each.type))]
        columns.append(pa.field(each.name, kind, nullable=False))
    return pa.schema(columns)
