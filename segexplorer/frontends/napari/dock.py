"""The dock: Cases, Experiment, Run and Inspect in the order of work, and the plots below the canvas.

`show_replay` opens the same dock on a finished run, whose curves grow and whose predictions change as they
did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from psygnal import Signal
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QStackedLayout,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.plugins import discover
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.napari import keys, theme, workers
from segexplorer.frontends.napari import panels as panel_folder
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.leaving import Leaving
from segexplorer.frontends.napari.linked_views import EdgeLetters, canvas_in
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.workers import LatestWork, Machine
from segexplorer.study.race import open_race
from segexplorer.training.ownership import holder_of
from segexplorer.training.remote import RemoteCopy
from segexplorer.training.replay import Replay
from segexplorer.training.watch import Watch
from segexplorer.viewmodels.board import is_run
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.watched_case import frame_loader

DISCLAIMER = "For research and teaching; not a medical device."
LOADING = "Loading torch and MONAI…"
MOST_WIDTH = 400


def panels() -> list[tuple[str, type[PanelSpec]]]:
    """Return kind and declaration of every panel, ours and those of plug-ins, in the order of the tabs."""
    discover(panel_folder.__name__, panel_folder.__path__)
    return sorted(registry.specs().items(), key=lambda item: item[1].position)


class SegmentationExplorer(QWidget):  # type: ignore[misc, unused-ignore]
    """The whole plug-in in one viewer. napari makes it and passes its viewer.

    Parameters
    ----------
    napari_viewer
        napari recognises the parameter by this name.

    Attributes
    ----------
    ready
        psygnal signal: torch and MONAI are there, and so are the tabs.
    """

    ready = Signal()

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.bridge = RunBridge(self)
        self.layers = CaseLayers(napari_viewer)
        self.display = Display(napari_viewer, self.bridge, self.layers)
        self.tabs: QTabWidget | None = None
        self.plots: Any = None
        self.cases: Any = None
        self.experiment: Any = None
        self.run: Any = None
        self.inspect: Any = None
        self.why: Any = None
        self.view_menu: Any = None
        self.workbench: Any = None
        self.notes: Any = None
        self.lanes: Any = None
        self.presenter: Any = None
        self.lectures: Any = None
        self.lecture_menu: Any = None
        self._frozen: Any = None
        self._rhythm: tuple[Any, ...] = ()
        self._context: Any = None
        self._closed = False
        self._window: Any = None
        self._window_asked_to_close = False
        self.leaving = Leaving(self, self.bridge)
        self._loading = LatestWork(self._on_loaded, self._on_refused)
        self.message = QLabel(LOADING)
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.message.setWordWrap(True)
        self._plugins = widgets.guidance("", widgets.AMBER)
        place = QWidget()
        self._place = QStackedLayout(place)
        self._place.addWidget(self.message)
        note = QLabel(DISCLAIMER)
        note.setStyleSheet("font-size: 11px;")
        appearance.set_tone(note, widgets.GREY)
        note.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._foot = QHBoxLayout()
        self._foot.addWidget(note, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(place, 1)
        layout.addWidget(self._plugins)
        layout.addLayout(self._foot)
        self.setMinimumWidth(372)
        napari_viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        napari_viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._loading.send(workers.load)

    def sizeHint(self) -> Any:
        """Prefer a column that leaves the canvas its room."""
        hint = super().sizeHint()
        hint.setWidth(MOST_WIDTH)
        return hint

    # -- loading ------------------------------------------------------------------------------------------

    def _on_loaded(self, machine: Machine) -> None:
        from segexplorer.frontends.napari.canvas_notes import CanvasNotes
        from segexplorer.frontends.napari.garbage import FrozenImports, QuietCollector
        from segexplorer.frontends.napari.lectures import LectureGuide, LectureMenu
        from segexplorer.frontends.napari.lull import Frames
        from segexplorer.frontends.napari.plots import PlotDock
        from segexplorer.frontends.napari.presenter import Presenter
        from segexplorer.frontends.napari.race_views import RaceViews
        from segexplorer.frontends.napari.view_menu import ViewMenu
        from segexplorer.frontends.napari.workbench import Workbench
        from segexplorer.session import Session

        self._context = PanelContext(Session(), self.viewer, self.bridge, self.layers, machine, self.display)
        tabs = self.tabs = QTabWidget()
        failures = list(machine.plugin_failures)
        for kind, declared in panels():
            try:
                panel = self._context.panel(kind)
            except Exception as error:
                if declared.__module__.startswith(f"{__package__}."):
                    raise
                failures.append(f"The panel {declared.display_name} could not be opened: {error}")
                continue
            tabs.addTab(panel, declared.display_name)
            _let_tab_leave(panel)
        self.cases, self.experiment, self.run, self.inspect, self.why = (
            self._context.panel(kind) for kind in ("cases", "experiment", "run", "inspect", "why")
        )
        self.run.race_opened.connect(lambda: self.show_tab("why"))
        self.leaving.painter, self.leaving.races = self.inspect.errors.painter, self.display.races
        self._place.addWidget(tabs)
        self._place.setCurrentWidget(tabs)
        widgets.say(self._plugins, "\n".join(failures), widgets.AMBER)
        canvas = canvas_in(self.window())
        frames = None if canvas is None else Frames(self.viewer, canvas)
        self.plots = PlotDock(self.viewer, self.bridge, frames)
        self.plots.step_dragged.connect(lambda step: self.display.issue("scrub", step))
        self.display.changed.connect(self._on_changed)
        self.workbench = Workbench(self.viewer, self.layers, self.display.point_at, self.display.ask_at)
        self.display.flown.connect(self.workbench.look_at)
        self.presenter = Presenter(self.workbench, self.display, self.bridge)
        self.view_menu = ViewMenu(self.viewer, self.layers, self.plots, self.workbench, self.presenter)
        tabs.setCornerWidget(self.view_menu)
        self.view_menu.show()
        self.workbench.attach(self.window())
        if canvas is not None and frames is not None:
            self.display.watch_canvas(canvas)
            self.notes = CanvasNotes(self.display, self.workbench, canvas, frames)
            self._rhythm = (QuietCollector(frames), frames)
        self.lanes = RaceViews(self.display, self.workbench)
        self.view_menu.show_plots(True)
        self.lectures = LectureGuide(self)
        self.lecture_menu = LectureMenu(self.lectures)
        self._foot.insertWidget(0, self.lecture_menu)
        keys.follow(self)
        self._frozen = FrozenImports(self.viewer)
        self.ready.emit()

    def show_tab(self, kind: str) -> None:
        """Bring a panel to the front, by its kind; only when the dock is ready."""
        assert self.tabs is not None
        self.tabs.setCurrentWidget(self._context.panel(kind))

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if "cursor" in parts:
            self.plots.show_step(screen.cursor)
        if "seen" in parts:
            self.plots.show_prediction(screen.seen)
        if "race" in parts:
            self.plots.show_race(screen.race)

    def _on_refused(self, error: SegExplorerError) -> None:
        self.message.setText(str(error))

    def _on_ndisplay(self, _: Any = None) -> None:
        self.bridge.set_refresh_interval(self.viewer.dims.ndisplay == 3)

    def _on_theme(self, _: Any = None) -> None:
        self.setStyleSheet(appearance.style_sheet(dark=theme.is_dark(self.viewer)))

    # -- closing ------------------------------------------------------------------------------------------

    def closing(self) -> None:
        """Stop the run at its next boundary and let go of the viewer."""
        if self._closed:
            return
        self._closed = True
        if self.workbench is not None:
            keys.leave(self)
        self.leaving.closing()
        self.bridge.close()
        self._loading.close()
        self.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        self.viewer.events.theme.disconnect(self._on_theme)
        parts = (self.lectures, self.presenter, self.lanes, self.notes, self.workbench, self.plots)
        for part in (*parts, self._frozen, *self._rhythm):
            if part is not None:
                part.closing()
        for panel in self._context.built if self._context is not None else ():
            if hasattr(panel, "closing"):
                panel.closing()
        self.display.closing()

    def closeEvent(self, event: Any) -> None:
        """Let go when the widget is closed by itself."""
        self.closing()
        super().closeEvent(event)

    def event(self, event: Any) -> bool:
        """Let go when napari takes the widget out of its dock."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and self._window is not None:
            if self.lectures is not None:
                self.lectures.leave()
            self._take_plots_away()
            self.closing()
            # later: napari is taking the dock apart, and layers that vanish now would be drawn meanwhile
            QTimer.singleShot(0, self._leave_viewer)
        return bool(super().event(event))

    def _leave_viewer(self) -> None:
        """Leave the user's own volumes in the viewer the right way up, with the letters that say so."""
        self.display.leave_viewer()
        canvas = canvas_in(self._window)
        if self.layers.oriented and canvas is not None:
            EdgeLetters(self.viewer, canvas, self.layers)

    def showEvent(self, event: Any) -> None:
        """Watch the window: a widget in a dock gets no close event."""
        super().showEvent(event)
        # first what follows the window's end, then what asks before it: Qt calls the newest filter first
        if self._window is not self.window():
            self._window = self.window()
            self._window.installEventFilter(self)
        self.leaving.follow()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Let go once the window has closed: asked to, and hidden, so that nobody said no in between."""
        if event.type() == QEvent.Type.Close:
            self._window_asked_to_close = True
        elif event.type() == QEvent.Type.Hide and self._window_asked_to_close and not event.spontaneous():
            self.closing()
        elif event.type() == QEvent.Type.Show:
            self._window_asked_to_close = False
        return False

    def _take_plots_away(self) -> None:
        if self.plots is not None and self.plots.parent() is not None:
            self.viewer.window.remove_dock_widget(self.plots)


def _let_tab_leave(panel: QWidget) -> None:
    """Let Tab go from tables, lists and texts to the next control; inside them, the arrows move."""
    for view in panel.findChildren(QAbstractItemView):
        view.setTabKeyNavigation(False)
    for text in panel.findChildren(QPlainTextEdit):
        text.setTabChangesFocus(True)


def show_replay(folder: Path, speed: float) -> Any:
    """Open the window, replay a run folder in it, and wait until it is closed.

    Raises
    ------
    DataError
        When the folder is no run folder, or nothing happened in it yet; no window is opened then.
    """
    replay = replay_for_viewer(folder, speed)
    viewer = napari.Viewer(title=f"Segmentation Explorer: replay of {folder.name}")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")

    def begin() -> None:
        dock.show_tab("run")
        dock.run.begin(replay)

    dock.ready.connect(begin)
    napari.run()
    return viewer


def show_race(folder: Path) -> Any:
    """Open the window on a race, and wait until it is closed.

    Raises
    ------
    DataError
        When there is no race in the folder, or it is damaged; no window is opened then.
    """
    open_race(folder)
    viewer = napari.Viewer(title=f"Segmentation Explorer: race {folder.name}")
    show_race_in(viewer, folder)
    napari.run()
    return viewer


def show_race_in(viewer: Any, folder: Path) -> None:
    """Show a race in the dock of a viewer, which is opened where it is not."""
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    if dock.tabs is not None:
        dock.run.obeyed(lambda: dock.run.open_run(folder))
    else:
        dock.ready.connect(lambda: dock.run.obeyed(lambda: dock.run.open_run(folder)))


def show_watched(folder: Path, copy: RemoteCopy | None) -> Any:
    """Open the window on a run, or a board of runs, that other processes train, and wait until it is closed.

    Parameters
    ----------
    copy
        The copy that the folder is part of, where the runs are on another computer.

    Raises
    ------
    DataError
        When the folder is a run of an older version; no window is opened then.
    """
    run = None
    if is_run(folder):
        if copy is not None:
            copy.pull("run")
        pull = (lambda: copy.pull("run")) if copy is not None else None
        run = Watch(folder, load=frame_loader(folder), pull=pull)
    viewer = napari.Viewer(title="Segmentation Explorer: watching")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")

    def begin() -> None:
        dock.show_tab("run")
        if run is not None:
            dock.run.watch(run, holder_of(folder))
        else:
            dock.run.board.show_board().watch(folder, copy.pull if copy is not None else None)

    dock.ready.connect(begin)
    napari.run()
    return viewer


def replay_for_viewer(folder: Path, speed: float) -> Replay:
    """Return the replay of a run folder with the watched cases, and their labels where the data is here."""
    return Replay(folder, speed, load=frame_loader(folder))
