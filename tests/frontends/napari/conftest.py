"""Fixtures of the napari face: tests marked `gui` need a screen with OpenGL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a viewer where there is no screen."""
    screen = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if screen and os.environ.get("QT_QPA_PLATFORM") != "offscreen":
        return
    for item in items:
        if item.get_closest_marker("gui"):
            item.add_marker(pytest.mark.skip(reason="no screen with OpenGL (make test gives a virtual one)"))


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the window's remembered sizes out of the user's own settings, and anew for each test."""
    from qtpy.QtCore import QSettings

    folder = str(tmp_path_factory.mktemp("settings"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)


@pytest.fixture(autouse=True)
def _nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every test end the runs that it iterates: what they say later would reach panels that are gone."""
    from segexplorer.frontends.napari.bridge import RunBridge

    started: list[RunBridge] = []
    start = RunBridge.start

    def remembered(bridge: RunBridge, run: Any) -> None:
        started.append(bridge)
        start(bridge, run)

    monkeypatch.setattr(RunBridge, "start", remembered)
    yield
    assert all(bridge.wait(20) for bridge in started), "a run goes on after its test: close its bridge"


@pytest.fixture
def viewer(qapp: Any) -> Iterator[Any]:
    """A shown napari viewer that is closed at the end."""
    import napari

    made = napari.Viewer(show=True)
    yield made
    made.close()
    qapp.processEvents()
