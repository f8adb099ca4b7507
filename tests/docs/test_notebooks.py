"""Every notebook of the documentation runs from start to end, as a reader would run it; none holds outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs nbclient (dependency group dev)")
pytest.importorskip("anywidget", reason="needs the notebook extra")

import nbformat  # noqa: E402  it comes with nbclient

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TRAINING = {"tour", "adaptive-weights", "compare-losses", "same-mistake", "threshold-or-loss"}
"""They train for a while."""
MOST_S = 120
"""A notebook takes at most so long on two cores that nobody else uses; there is room for a busy machine."""


def names() -> list[object]:
    slow = pytest.mark.slow
    return [
        pytest.param(path, id=path.stem, marks=slow if path.stem in TRAINING else ()) for path in NOTEBOOKS
    ]


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= TRAINING


@pytest.mark.parametrize("path", names())
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=4 * MOST_S, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    html = [
        output["data"]["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    if path.stem == "compare-losses":
        assert any("Dice again" in one and "<table" in one for one in html)
    elif path.stem != "own-loss":  # the others show something, which is seen without a kernel, too
        assert any("data:image/png;base64," in one or "<svg" in one for one in html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_before_it_answers_and_holds_no_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert texts[0].startswith("# ") and any("**" in text and "?**" in text for text in texts)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
