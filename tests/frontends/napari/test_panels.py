"""Panels: the order of the tabs, panels of plug-ins, and one that cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QLabel

from segexplorer.core.errors import RunStateError
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.dock import SegmentationExplorer, panels
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.workers import Machine
from segexplorer.session import Session


class First(PanelSpec):
    display_name: ClassVar[str] = "Before all others"
    position: ClassVar[float] = 5
    kind: Literal["test_first"] = "test_first"

    def build(self, context: PanelContext) -> Any:
        label = QLabel("here")
        label.closing = lambda: label.setText("closed")
        return label


class Broken(PanelSpec):
    display_name: ClassVar[str] = "Broken"
    kind: Literal["test_broken"] = "test_broken"

    def build(self, context: PanelContext) -> Any:
        raise KeyError("what it needs")


class Circular(PanelSpec):
    display_name: ClassVar[str] = "Circular"
    kind: Literal["test_circular"] = "test_circular"

    def build(self, context: PanelContext) -> Any:
        return context.panel("test_circular")


@pytest.fixture
def registered() -> Iterator[None]:
    panels()  # ours first, as the dock does
    for spec in (First, Broken, Circular):
        registry.register(spec)
    yield
    for kind in ("test_first", "test_broken", "test_circular"):
        registry.unregister(kind)


def test_tabs_are_in_the_order_of_their_positions(registered: None) -> None:
    kinds = [kind for kind, _ in panels()]
    assert kinds[:5] == ["test_first", "cases", "experiment", "run", "inspect"]
    assert set(kinds[5:]) == {"why", "test_broken", "test_circular"}


def test_a_panel_is_built_once_and_two_that_need_each_other_are_refused(registered: None, qtbot: Any) -> None:
    viewer = ViewerModel()
    bridge, layers = RunBridge(), CaseLayers(viewer)
    context = PanelContext(
        Session(), viewer, bridge, layers, Machine("CPU", ""), Display(viewer, bridge, layers)
    )
    panel = context.panel("test_first")
    qtbot.addWidget(panel)
    assert context.panel("test_first") is panel and context.built == (panel,)
    with pytest.raises(RunStateError, match="test_circular need each other"):
        context.panel("test_circular")


@pytest.mark.gui
def test_a_panel_of_a_plugin_that_cannot_be_built_is_named_and_the_others_open(
    registered: None, viewer: Any, qtbot: Any
) -> None:
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    assert isinstance(dock, SegmentationExplorer)
    qtbot.waitUntil(lambda: dock.tabs is not None)
    assert dock.tabs is not None
    titles = [dock.tabs.tabText(i) for i in range(dock.tabs.count())]
    assert titles == ["Before all others", "Cases", "Experiment", "Run", "Inspect", "Why"]
    shown = [label.text() for label in dock.findChildren(QLabel)]
    assert any("The panel Broken could not be opened" in text for text in shown)
    first = dock.tabs.widget(0)
    dock.closing()
    assert first.text() == "closed"
