"""What an entry of stored tokens says of itself: one JSON object with a digest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pruner import FrameLayout, Settings
from workers.frames import Pruning

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """What is known of an entry without its arrays: enough to plan a run without the video.

    ``key`` tells what its tokens were made of, in plain JSON values, but for how many are held:
    ``pruning.num_keep`` and ``pruning.max_keep``, which follow from ``made_for_budget``. ``sizes``
    are the displayed (height, width) of all sampled frames; ``frame_indices``, ``pts_seconds`` and
    ``layouts`` are of those that could be ranked. ``options`` are those of the run, by flat name,
    that decide how a budget is spent. ``arrays_digest`` is set when the entry is written.
    """

    key: Mapping[str, Any]
    pruning: Pruning
    made_for_budget: int
    name: str
    sizes: tuple[tuple[int, int], ...]
    options: Mapping[str, Any]
    source_warnings: tuple[str, ...]
    warnings: tuple[str, ...]
    frame_indices: tuple[int, ...] = ()
    pts_seconds: tuple[float, ...] = ()
    layouts: tuple[FrameLayout, ...] = ()
    arrays_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with the format and a digest of the rest of it."""
        content = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in self.__slots__},
            "pruning": asdict(self.pruning),
            "layouts": [[each.num_base, each.rows, each.columns] for each in self.layouts],
        }
        return {**content, "manifest_digest": _digest_json(content)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Manifest":
        """Return the manifest that :meth:`to_json` wrote.

        Raises:
            ValueError: another format, or not what was written.
        """
        values = dict(content)
        digest = values.pop("manifest_digest", None)
        if values.get("format") != FORMAT:
            raise ValueError(f"format {values.get('format')!r}, and {FORMAT} is read here")
        if digest != _digest_json(values):
            raise ValueError("its manifest is damaged")
        del values["format"]
        pruning = values["pruning"]
        pruning["settings"] = Settings(**pruning["settings"])
        values["pruning"] = Pruning(**pruning)
        values["sizes"] = tuple((height, width) for height, width in values["sizes"])
        values["layouts"] = tuple(
            FrameLayout(num_base=base, rows=rows, columns=columns)
            for base, rows, columns in values["layouts"]
        )
        for name in ("source_warnings", "warnings", "frame_indices", "pts_seconds"):
            values[name] = tuple(values[name])
        return cls(**values)


def _digest_json(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(canonical(content), digest_size=32).hexdigest()


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return one text for equal JSON objects, whatever the order of their keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
