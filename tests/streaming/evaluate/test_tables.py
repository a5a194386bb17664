import sys
from pathlib import Path

import pytest

from streaming.evaluate.scoring import Result
from streaming.evaluate.tables import draw_tradeoff
from workers.errors import InputError


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = Result(scores=(), types=(), baseline="none", num_clips=0, failures=())
    message = r"^tradeoff\.png cannot be drawn without matplotlib: pip install 'mr-stream\[plot\]'$"
    with pytest.raises(InputError, match=message):
        draw_tradeoff(tmp_path / "tradeoff.png", result)
