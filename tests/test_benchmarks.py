"""Every script of benchmarks/ runs for a few steps: nobody else would notice that it calls what was renamed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SCRIPTS = {path.stem: path for path in (Path(__file__).parents[1] / "benchmarks").glob("*.py")}


HEAVY = {"kill", "latency", "many_runs", "metrics", "ownership", "proposals"}
"""They train in several processes or in a window, a minute even for a few steps: `pytest -m study` runs them."""


def needs(name: str) -> list[pytest.MarkDecorator]:
    """Scripts that start processes import everything again in each; those with a window need a screen."""
    source = SCRIPTS[name].read_text(encoding="utf-8")
    marks = [pytest.mark.slow] if "subprocess" in source or "napari" in source else []
    marks += [pytest.mark.study] if name in HEAVY else []
    window = "napari.run" in source or "view_results" in source
    return [*marks, *([pytest.mark.gui] if window else [])]


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in sorted(SCRIPTS)])
def test_a_benchmark_runs_for_a_few_steps(
    name: str, _threads: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = SCRIPTS[name]
    assert f"{path.name} " in (path.read_text(encoding="utf-8").split('"""')[1] + " "), (
        "it says how to run it"
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path.parents[1]), *sys.path]))
    if any(mark.name == "gui" for mark in needs(name)):
        done = subprocess.run(
            [sys.executable, str(path), "--small"], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0 and done.stdout, done.stderr[-3000:]
        return
    monkeypatch.setattr(sys, "argv", [str(path), "--small"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
    assert capsys.readouterr().out.strip(), "it prints what it measured"


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_a_heavy_benchmark_can_at_least_be_imported(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS[name]), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
    assert not end.value.code and "--small" in capsys.readouterr().out
