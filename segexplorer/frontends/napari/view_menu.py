"""The menu "View" of the dock: views, plots, napari's panels, orientation of the patient, CT windows."""

from __future__ import annotations

from html import escape
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtGui import QActionGroup
from qtpy.QtWidgets import QDialog, QLabel, QMenu, QToolButton, QVBoxLayout, QWidget

from segexplorer.frontends.napari.keys import GESTURES, KEYS, chosen
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.mouse import image_to_window, set_limits
from segexplorer.frontends.napari.presenter import Presenter
from segexplorer.frontends.napari.theme import Convention
from segexplorer.frontends.napari.workbench import LAYOUTS, Workbench
from segexplorer.viewmodels import layer_images


def apply_window(layer: Any, name: str) -> None:
    """Show an image in a CT window by name, one of `pictures.WINDOWS`."""
    level, width = layer_images.WINDOWS[name]
    set_limits(layer, level - width / 2, level + width / 2)


PLOTS_NAME = "Plots (Segmentation Explorer)"
_CONVENTIONS: dict[Convention, str] = {
    "radiological": "Radiological (patient's right on the left)",
    "neurological": "Neurological (patient's right on the right)",
}
_DRAG = "Shift and drag with the left button: to the right wider, up higher"


class KeyList(QDialog):  # type: ignore[misc, unused-ignore]
    """The keys, and what the mouse does over slices."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys and mouse")
        rows = [(" or ".join(chosen(key)), key.title) for key in KEYS]
        cells = ["<tr><td colspan=2><b>Keys</b></td></tr>", *map(_row, rows)]
        cells += ["<tr><td colspan=2><br><b>Mouse over slices</b></td></tr>", *map(_row, GESTURES)]
        self.text = QLabel(f"<table cellspacing=4>{''.join(cells)}</table>")
        note = QLabel("Keys with a modifier can be changed in napari: File, Preferences, Shortcuts.")
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(note)


def _row(row: tuple[str, str]) -> str:
    return f"<tr><td><b>{escape(row[0])}</b>&nbsp;&nbsp;</td><td>{escape(row[1])}</td></tr>"


class ViewMenu(QToolButton):  # type: ignore[misc, unused-ignore]
    """Shows and hides what belongs to looking.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        Its case layers, which know the convention.
    plots
        The plot dock; shown again from here once it was closed.
    workbench
        The views of the window.
    presenter
        Shows them on a wall.
    """

    def __init__(
        self, viewer: Any, layers: CaseLayers, plots: QWidget, workbench: Workbench, presenter: Presenter
    ) -> None:
        super().__init__()
        self._viewer, self._layers, self._plots = viewer, layers, plots
        self._workbench = workbench
        self.setText("View")
        self.setToolTip("Views, plots, napari's panels, orientation, CT windows")
        self.setStyleSheet("QToolButton { padding: 2px 16px 2px 8px; margin-right: 4px; }")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        views = QActionGroup(menu)
        self.layouts = {layout: menu.addAction(title) for layout, title in LAYOUTS.items()}
        self.layouts["four"].setText(_with_key(LAYOUTS["four"], "four_views"))
        for layout, action in self.layouts.items():
            action.setCheckable(True)
            views.addAction(action)
            action.triggered.connect(lambda _=False, chosen=layout: workbench.arrange(chosen))
        menu.addSeparator()
        self.plots_action = menu.addAction("Plots")
        self.plots_action.setCheckable(True)
        self.plots_action.triggered.connect(self.show_plots)
        self.panels_action = menu.addAction(_with_key("napari's layer list and controls", "fold_panels"))
        self.panels_action.setCheckable(True)
        self.panels_action.triggered.connect(lambda shown: workbench.fold(not shown))
        menu.addSeparator()
        self.presenter_action = menu.addAction(_with_key("Presenter mode", "presenter"))
        self.presenter_action.setCheckable(True)
        self.presenter_action.triggered.connect(presenter.toggle)
        self._presenter = presenter
        menu.addSeparator()
        self.conventions = {name: menu.addAction(title) for name, title in _CONVENTIONS.items()}
        group = QActionGroup(menu)
        for name, action in self.conventions.items():
            action.setCheckable(True)
            action.setChecked(name == layers.convention)
            group.addAction(action)
            action.triggered.connect(lambda _=False, n=name: layers.set_convention(n))
        menu.addSeparator()
        windows = menu.addMenu("CT window")
        windows.setToolTipsVisible(True)
        windows.setToolTip(_DRAG)
        self.windows = {name: windows.addAction(_window_title(name)) for name in layer_images.WINDOWS}
        for window, action in self.windows.items():
            action.triggered.connect(lambda _=False, w=window: self.apply_window(w))
        windows.addSeparator()
        hint = windows.addAction(_DRAG)
        hint.setEnabled(False)
        menu.addSeparator()
        self.keys_action = menu.addAction(_with_key("Keys and mouse…", "list_keys"))
        self.keys_action.triggered.connect(self.show_keys)
        self._keys: KeyList | None = None
        menu.aboutToShow.connect(self._on_about_to_show)
        self.setMenu(menu)

    def show_plots(self, shown: bool) -> None:
        """Show the plot dock, also after it was closed; or hide it."""
        if self._plots.parent() is None and shown:
            self._viewer.window.add_dock_widget(
                self._plots, name=PLOTS_NAME, area="bottom", add_vertical_stretch=False
            )
        if self._plots.parent() is not None:
            self._plots.parent().setVisible(shown)
        self._plots.setVisible(True)
        if shown:
            self._plots.parent().raise_()

    def apply_window(self, name: str) -> None:
        """Show the image in a CT window by name."""
        layer = image_to_window(self._viewer)
        if layer is None:
            show_info("There is no image to show in a CT window.")
            return
        apply_window(layer, name)

    def show_keys(self) -> None:
        """Open the list of keys and of what the mouse does."""
        if self._keys is None:
            self._keys = KeyList(self)
        self._keys.show()
        self._keys.raise_()

    def _on_about_to_show(self) -> None:
        self.plots_action.setChecked(self._plots.parent() is not None and self._plots.parent().isVisible())
        self.presenter_action.setChecked(self._presenter.on)
        self.panels_action.setChecked(not self._workbench.folded)
        self.layouts["lanes"].setVisible(bool(self._workbench.lanes))
        self.layouts[self._workbench.layout].setChecked(True)


def _with_key(title: str, name: str) -> str:
    """Return the title of a menu entry with its key at the right; the key itself belongs to napari's canvas."""
    key = next(key for key in KEYS if key.name == name)
    return f"{title}\t{' '.join(chosen(key))}"


def _window_title(name: str) -> str:
    level, width = layer_images.WINDOWS[name]
    return f"{name.capitalize()}  (level {level:g}, width {width:g} HU)"
