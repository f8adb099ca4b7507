"""What a cell shows of our objects: the facts that matter, and nothing of a file as markup."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from tests.frontends.notebook.conftest import EXPERIMENT


@pytest.fixture
def shown() -> Any:
    """IPython's own way from an object to its HTML."""
    pytest.importorskip("IPython")
    from IPython.core.formatters import DisplayFormatter

    from segexplorer.frontends.notebook.reprs import register

    class Shell:
        display_formatter = DisplayFormatter()

    register(Shell())

    def html(thing: Any) -> str:
        found, _ = Shell.display_formatter.format(thing)
        return str(found.get("text/html", ""))

    return html


def test_volumes_cases_and_data_sets(shown: Any) -> None:
    experiment = Experiment.of(EXPERIMENT)
    case = experiment.data.cases()[0].open()
    image = shown(case.images[0])
    assert "32 × 32 × 32 voxels" in image and "data:image/png;base64," in image
    assert "label 1" in shown(case) and "Volume (ml)" in shown(case)
    assert "3 cases" in shown(experiment.data) and case.id in shown(experiment.data)
    empty = Volume.from_array(np.ones((4, 4, 4), np.uint8), affine=np.eye(4))
    label = empty.with_array(empty.array, label_names={1: "<b>x</b>"})
    assert "data:image/png" in shown(label) and "<b>x</b>" not in shown(label)


def test_an_experiment_shows_what_differs(shown: Any) -> None:
    html = shown(Experiment.of(EXPERIMENT))
    assert "sampling.patch_size" in html and "<details>" in html
    assert "validation.overlap" in html and "validation.select_best" not in html.partition("<details>")[0]


def test_runs_and_scores(shown: Any, finished: Path) -> None:
    html = shown(segexplorer.open_run(finished))
    assert "finished" in html and "<svg" in html and "Dice" in html


def test_a_loss_shows_its_terms(shown: Any) -> None:
    import torch

    loss = segexplorer.losses.create("dice_cross_entropy")
    output = loss.evaluate(torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4, dtype=torch.long))
    assert "cross_entropy" in shown(output) and "Product" in shown(output)


def test_importing_the_package_in_ipython_is_enough_and_loads_nothing_heavy() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell as S; s = S.instance();"
        "import segexplorer, sys;"
        "f = s.display_formatter.formatters['text/html'];"
        "print(('segexplorer.data.volume', 'Volume') in f.deferred_printers,"
        " [m for m in ('torch', 'ipywidgets', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "True []"
