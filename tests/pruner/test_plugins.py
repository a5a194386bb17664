"""Methods of other distributions, of which one is made up on ``sys.path``."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pruner import Method, Task, choose, rank
from pruner.plugins import MethodTable, PluginError

ROOT = Path(__file__).parents[2]
OWN = Method(name="own", scope="frame", function="pruner.baselines:rank_uniform", summary="ours")
MODULE = """
from dataclasses import replace
from pruner import Method

def rank_backward(base, grid, task):
    from pruner.baselines import rank_none
    ranking = rank_none(base, grid)
    return replace(ranking, order=ranking.order.flip(1))

def rank_twice(base, grid, task):
    ranking = rank_backward(base, grid, task)
    return replace(ranking, order=ranking.order.clamp(min=1))

def keep_too_much(base, grid, budget):
    import torch
    return [torch.arange(budget) for _ in base]

def keep_backward(base, grid, budget):
    import torch
    return [torch.arange(budget).flip(0), *(torch.arange(0) for _ in base[1:])]

TWICE = Method(name="twice", scope="frame", function="made_up:rank_twice", summary="wrong")
MUCH = Method(name="much", scope="clip", function="made_up:keep_too_much", summary="wrong")
TURNED = Method(name="turned", scope="clip", function="made_up:keep_backward", summary="wrong")
GOOD = Method(name="backward", scope="frame", function="made_up:rank_backward", summary="last")
OTHER = Method(name="other", scope="frame", function="made_up:rank_backward", summary="last")
INSIDE = Method(name="inside", scope="model", function="made_up:rank_backward", summary="last")
VAIN = Method(name="vain", scope="clip", function="made_up:missing", summary="last")
NO_METHOD = rank_backward
"""


def install(folder: Path, *entries: str, name: str = "made-up") -> None:
    """Write a distribution as an installer leaves it."""
    about = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("\n".join(["[mr_stream.pruners]", *entries]))
    (folder / "made_up.py").write_text(MODULE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("made_up", None)


def test_a_method_stands_behind_ours_and_is_imported_when_it_is_looked_up(folder: Path) -> None:
    install(folder, "backward = made_up:GOOD", "broken = made_up:MISSING")
    table = MethodTable([OWN])
    assert (list(table), len(table)) == (["own", "backward", "broken"], 3)
    assert table["own"] is OWN
    assert "made_up" not in sys.modules
    method = table["backward"]
    assert (method.name, method.origin, OWN.origin) == ("backward", "made-up 1.2", "")
    assert method.load().__name__ == "rank_backward"
    assert table["backward"] is method
    with pytest.raises(KeyError):
        table["forward"]


def test_without_any_importlib_metadata_is_not_loaded() -> None:
    code = "import sys, pruner.methods; print('importlib.metadata' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("broken = made_up:MISSING", r"AttributeError: [^\n]*'MISSING'"),
        ("broken = no_such_module:X", r"ModuleNotFoundError: [^\n]*no_such_module"),
        ("broken = made_up:NO_METHOD", r"TypeError: made_up:NO_METHOD is no pruner\.Method"),
        ("broken = made_up:OTHER", r"ValueError: made_up:OTHER is named 'other'"),
        ("inside = made_up:INSIDE", r"ValueError: method\.scope = 'model' is none of frame, "),
        ("vain = made_up:VAIN", r"AttributeError: [^\n]*'missing'"),
    ],
)
def test_a_broken_one_is_one_line_that_names_it(folder: Path, entry: str, reason: str) -> None:
    install(folder, entry)
    name = entry.partition(" ")[0]
    with pytest.raises(
        PluginError, match=rf"^the method '{name}' that made-up 1\.2 adds cannot be used: {reason}"
    ) as raised:
        MethodTable([OWN])[name]
    assert "\n" not in str(raised.value)


def test_a_name_of_ours_is_not_taken(folder: Path) -> None:
    install(folder, "own = made_up:GOOD")
    table = MethodTable([OWN])
    assert list(table) == ["own"]
    with pytest.raises(PluginError, match=r"'own' that made-up 1\.2 adds is refused: the name is"):
        table["own"]


def test_a_name_is_not_given_twice(folder: Path) -> None:
    install(folder, "backward = made_up:GOOD")
    install(folder, "backward = made_up:GOOD", name="twin")
    with pytest.raises(
        PluginError, match=r"made-up 1\.2 and twin 1\.2 adds is refused: several have that name$"
    ):
        MethodTable([OWN])["backward"]


BASE, GRID = torch.ones(2, 4, 3), torch.ones(2, 2, 5, 3)


@pytest.fixture
def added(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("backward = made_up:GOOD", "twice = made_up:TWICE")
    install(folder, *names, "much = made_up:MUCH", "turned = made_up:TURNED")
    monkeypatch.setattr("pruner.choosing.METHODS", MethodTable([OWN]))


@pytest.mark.usefixtures("added")
def test_it_ranks_as_ours_do() -> None:
    ranking = rank("backward", BASE, GRID, Task(frame_indices=range(2)))
    assert ranking.order.tolist() == [[*reversed(range(4 + 2 * 6))]] * 2


@pytest.mark.usefixtures("added")
def test_a_ranking_of_some_tokens_only_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'twice' that made-up 1\.2 adds does not rank each of"):
        rank("twice", BASE, GRID, Task(frame_indices=range(2)))


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("name", ["much", "turned"])
def test_what_is_kept_beyond_the_budget_or_out_of_order_is_refused(name: str) -> None:
    with pytest.raises(
        PluginError, match=rf"'{name}' that made-up 1\.2 adds does not keep 6 tokens"
    ):
        choose(name, BASE, GRID, torch.zeros(3), [2, 4])


def ask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streaming.ask", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_help_lists_it_and_a_broken_one_is_an_error_of_usage(tmp_path: Path) -> None:
    install(tmp_path, "backward = made_up:GOOD", "broken = made_up:MISSING")
    assert ",backward,broken}" in "".join(ask(tmp_path, "--help").stdout.split())
    broken = ask(tmp_path, "clip.mp4", "what is it?", "--pruner", "broken")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.count("\n") == 1
    assert broken.stderr.startswith("error: --pruner broken: the method 'broken' that made-up 1.2")
