import sys
from pathlib import Path

import pytest

from training import demo, export, make_set, measure, plot, train


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (make_set, "--output FILE", "FILE: is a file; give a folder"),
        (make_set, "--output sets --num-frames 0", "'0': must be a whole number of at least 1"),
        (make_set, "--output sets --clips-per-kind -1", "'-1': must be a whole number"),
        (measure, "--model none --clips .", "none: must be a folder with config.json"),
        (measure, "--model . --clips none", "none: must be a folder with questions.jsonl"),
        (export, "--run none --output model", "none: must be a folder with language.pt"),
        (plot, "--run none --output a.svg", "none: must be a folder with language.jsonl"),
        (train, "--folder FILE", "FILE: is a file; give a folder"),
        (train, "--folder run --plan none.json", "none.json: no such file"),
        (train, "--folder run --device nosuch", "nosuch: cannot be used (Expected one of cpu"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    module: object,
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FILE", "config.json"):
        Path(name).touch()
    monkeypatch.setattr(sys, "argv", ["command", *words.split()])
    with pytest.raises(SystemExit, match="2"):
        module.main()  # type: ignore[attr-defined]
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["FILE", "config.json"]


def test_help_draws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    with pytest.raises(SystemExit, match="0"):
        demo.main()
    assert "make demo" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())
