"""What the form of an answer may be, refused before any worker is asked."""

from collections.abc import Sequence

from workers.errors import InputError
from workers.llm.answer import SamplingOptions
from workers.llm.schema_trial import try_schema


def check_form(sampling: SamplingOptions, choices: Sequence[str]) -> None:
    """Refuse a schema beside choices, and one that no answer can follow.

    Raises:
        InputError: says which; see :func:`workers.llm.schema_trial.try_schema`.
    """
    if sampling.json_schema is None:
        return
    if choices:
        raise InputError("choices and --json-schema both say what an answer may be: give one")
    try_schema(sampling.json_schema)
