"""What `explore` is given: each thing is found out, and what cannot be shown is said in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import segexplorer
from segexplorer.core.errors import DataError, MissingExtraError, SpecError


@pytest.mark.parametrize("package", ["ipywidgets", "anywidget", "plotly"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'{package}.*pip install "segexplorer\[notebook\]"'):
        segexplorer.explore("anything")


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (3, "A int cannot be explored. Give a run"),
        ("no-such-thing", "There is no no-such-thing. Give a run"),
        ((), "0 things cannot be shown as one case."),
        ((None, None), "things cannot be shown as one case."),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_sentence(thing: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        segexplorer.explore(thing)


def test_a_folder_that_is_neither_run_nor_results(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        segexplorer.explore(tmp_path)


@pytest.mark.parametrize(
    ("plots", "told"), [(["losss"], "Did you mean loss"), (["nothing at all"], "no plot")]
)
def test_a_plot_that_is_not_known_is_reported(plots: list[str], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        segexplorer.explore.curves("run", plots)


def test_an_experiment_with_a_mistake_names_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("loss: tverski\n")
    with pytest.raises(SpecError, match="tversky"):
        segexplorer.explore(path)


def test_importing_explore_loads_neither_torch_nor_widgets() -> None:
    code = (
        "import segexplorer, sys; segexplorer.explore; "
        "print([m for m in ('torch', 'ipywidgets', 'plotly', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
