"""A small finished run, made once; the widgets of a test, which have to be gone at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anywidget", reason="needs the notebook extra")
pytest.importorskip("plotly", reason="needs the notebook extra")

from ipywidgets.widgets.widget import _instances  # ipywidgets has no public name for it

EXPERIMENT: dict[str, Any] = {
    "data": {"kind": "phantom", "anatomy": "ct_abdomen", "count": 3, "size": 32, "seed": 0},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "squared_dice_ce_adaptive_region",
    "optimiser": {"kind": "adamw", "learning_rate": 3.0e-3},
    "schedule": {"epochs": 2},
    "validation": {"every_epochs": 1, "overlap": 0.25},
    "compute": {"threads": 1},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of four steps with two validations."""
    import segexplorer

    return segexplorer.train(EXPERIMENT, tmp_path_factory.mktemp("runs") / "finished").folder


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("segexplorer notebook", "run "))]


@pytest.fixture
def explored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`segexplorer.explore`; everything made by it is closed, and nothing of it may be left."""
    from segexplorer.frontends.notebook import entry

    made: list[Any] = []
    before = set(_instances)
    make = entry._made

    def kept(*things: Any, **settings: Any) -> Any:
        made.append(make(*things, **settings))
        return made[-1]

    monkeypatch.setattr(entry, "_made", kept)
    yield entry.explore
    for one in made:
        one.close()
        run = one._subject.run
        if run is not None and run.accepts("stop"):
            run.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("run "):
            thread.join(60)
    assert own_threads() == []
    left = [_instances[key] for key in set(_instances) - before]
    assert [(type(one).__name__, getattr(one, "value", "")) for one in left] == []
