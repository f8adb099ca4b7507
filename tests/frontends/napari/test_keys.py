"""Keys of the window: declared once, none that napari uses, and pressed in the real window."""

from __future__ import annotations

from html import escape
from typing import Any

import pytest
from app_model.types import KeyBinding
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QPlainTextEdit

from segexplorer.frontends.napari import keys
from segexplorer.frontends.napari.keys import GESTURES, KEYS, NAMESPACE
from segexplorer.frontends.napari.linked_views import canvas_in
from tests.frontends.napari.scripted import snapshot

ALT, SHIFT = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ShiftModifier


def test_no_key_is_declared_twice_and_none_is_used_by_napari_itself(qapp: Any) -> None:
    from napari._app_model import get_app_model
    from napari._qt._qapp_model.qactions import init_qactions
    from napari.utils.shortcuts import default_shortcuts

    init_qactions()
    ours = [str(KeyBinding.from_str(key.key)) for key in KEYS]
    assert len(set(ours)) == len(ours)
    assert len({key.name for key in KEYS}) == len(KEYS)
    theirs = {str(binding) for bindings in default_shortcuts.values() for binding in bindings}
    theirs |= {str(rule.keybinding) for rule in get_app_model().keybindings}
    assert "Alt+S" in theirs and "V" in theirs, "the actions and the menus of napari were looked at"
    # P paints labels: the list of errors listens to it only while no label is open for painting
    assert set(ours) & theirs == {"P"}
    assert next(key for key in KEYS if key.key == "P").run is None
    menus = {f"Alt+{letter}" for letter in "FVLPWH"}
    assert not set(ours) & menus


@pytest.mark.gui
def test_keys_act_in_every_view_and_are_free_again_without_the_dock(viewer: Any, qtbot: Any) -> None:
    from napari.components import ViewerModel

    before = set(ViewerModel.class_keymap)
    _, dock = viewer.window.add_plugin_dock_widget(NAMESPACE)
    qtbot.waitUntil(lambda: dock.tabs is not None, timeout=180_000)
    window = viewer.window._qt_window
    canvas = canvas_in(window.centralWidget())
    qtbot.keyClick(canvas, Qt.Key.Key_E, ALT)
    assert not dock.display.displayed.overlays - {"errors", "balance"}, (
        "nothing is shown, so nothing is toggled"
    )
    run = type(
        "Run", (), {"folder": "", "experiment": None, "plan": None, "accepts": lambda self, command: False}
    )()
    dock.display._take(run, "")
    dock.display.learn(run=None)
    dock.display._on_watched({"validation": snapshot(1)})
    qtbot.waitUntil(lambda: dock.display.seen is not None)
    assert "errors" in dock.display.displayed.overlays
    qtbot.keyClick(canvas, Qt.Key.Key_E, ALT)
    assert "errors" not in dock.display.displayed.overlays
    qtbot.keyClick(canvas, Qt.Key.Key_Q, ALT)
    assert dock.workbench.layout == "four"
    coronal = dock.workbench.views["coronal"].canvas
    qtbot.keyClick(coronal, Qt.Key.Key_E, ALT)
    assert "errors" in dock.display.displayed.overlays, "keys hold in the other views"
    layer = dock.display.layers.layer("errors")
    viewer.layers.selection.active = layer
    voxels = layer.data.copy()
    for key in (Qt.Key.Key_1, Qt.Key.Key_2, Qt.Key.Key_4, Qt.Key.Key_E, Qt.Key.Key_P):
        qtbot.keyClick(canvas, key)
        assert layer.mode == "pan_zoom", f"{key} has armed a tool of napari on what was predicted"
    dock.display.issue("toggle", "errors", False)
    dock.display.issue("toggle", "errors", True)
    assert not layer.editable and (layer.data == voxels).all()
    flown: list[int] = []
    dock.display.look_at_next_error = lambda way=1: flown.append(way)
    qtbot.keyClick(dock.run.buttons.start, Qt.Key.Key_N, ALT)
    assert dock.workbench.folded, "and where a control of the dock has no use for them"
    qtbot.keyClick(coronal, Qt.Key.Key_N)
    assert flown == [1]
    viewer.layers.selection.active = dock.display.layers.layer("errors")
    qtbot.keyClick(canvas, Qt.Key.Key_P)
    assert flown == [1, -1], "P is napari's own in a labels layer, but not over what was predicted"
    qtbot.keyClick(canvas, Qt.Key.Key_F1)
    shown = dock.view_menu.findChild(type(dock.view_menu._keys))
    assert shown.isVisible() and all(escape(key.title) in shown.text.text() for key in KEYS)
    assert all(title in shown.text.text() for _, title in GESTURES)
    for table in dock.tabs.findChildren(QAbstractItemView):
        assert not table.tabKeyNavigation(), f"Tab does not leave {table.accessibleName() or table}"
    assert all(text.tabChangesFocus() for text in dock.tabs.findChildren(QPlainTextEdit))
    qtbot.keyClick(canvas, Qt.Key.Key_Q, ALT)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    assert set(ViewerModel.class_keymap) == before and keys._docks == []
