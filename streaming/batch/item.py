"""One question of a manifest: what is asked of which clip, and under which name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One question, and so one row of the output.

    ``row_id`` is unique in the manifest, ``question_index`` the place among the row's questions.
    ``video`` is where the clip is, ``named`` how the row writes that.
    ``choices`` are the answers to choose from, none for a free answer; ``changes`` the options by
    flat name that hold for this row only; ``meta`` JSON that is handed on as it is.
    """

    row_id: str
    question_index: int
    video: str
    named: str
    question: str
    choices: tuple[str, ...] = ()
    changes: Mapping[str, object] = field(default_factory=dict)
    meta: str = ""

    @property
    def name(self) -> tuple[str, int]:
        """What an output row is found by."""
        return self.row_id, self.question_index

    @property
    def key(self) -> str:
        """Digest of all that decides the answer but the options of the run.

        The clip is told by what the row writes, wherever the manifest is and however it is named.
        """
        what = (*self.name, self.named, self.question, self.choices, sorted(self.changes.items()))
        return hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()
