"""*Open results…*: what other programs predicted, as a case table below the canvas, worst first.

Scoring goes on in the background and is remembered, so that a folder opens at once the second time. A click on a
row or a dot displays the case as any other, through `Displayed`, so that nothing of the one before stays.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QEvent, QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QMenu,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
    QWidgetAction,
)

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SegExplorerError
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import expanded
from segexplorer.data.results import open_results
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.case_table import CaseScatter, CaseTableView, SideBySide
from segexplorer.frontends.napari.panels.inspect import InspectPanel
from segexplorer.frontends.napari.panels.slicer_button import SlicerButton
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.metrics import ALL_METRICS
from segexplorer.study.result_comparison import SetComparison, compare_sets
from segexplorer.training.explanation import Explanation
from segexplorer.training.result_cases import image_of_result, open_result
from segexplorer.training.result_scores import (
    CaseScored,
    ResultSet,
    ScoredSet,
    Scoring,
    ScoringJob,
    cache_folder,
    collect,
    open_sets,
)
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.case_table import MEAN, CaseTable, Filter, problem_texts
from segexplorer.viewmodels.reality import Results
from segexplorer.viewmodels.screen import Screen

NAME = "Segmentation Explorer: results"
TITLE = "Open results…"
_TICK_MS = 250
_SHARE = 4.0
"""Redrawing the table while cases come in takes at most about a fifth of the time."""
_HEIGHT = 300


@dataclass(frozen=True)
class Asked:
    """A folder of results, and where its labels and images are; "" lets its kind look for them."""

    folder: Path
    labels: str = ""
    images: str = ""
    kind: str = ""
    pattern: str = ""
    settings: tuple[tuple[str, Any], ...] = ()

    def sets(self) -> tuple[Any, ...]:
        """Return the result sets of the folder; for a worker."""
        found = open_results(
            self.folder,
            kind=self.kind,
            labels=self.labels,
            images=self.images,
            pattern=self.pattern,
            **dict(self.settings),
        )
        return tuple(found)


class ResultsButton(QPushButton):  # type: ignore[misc, unused-ignore]
    """Opens the dock of results, and asks for the first folder.

    Parameters
    ----------
    viewer
        The napari viewer.
    display
        What the window displays; None where nothing can be shown.

    Attributes
    ----------
    dock
        The results; None before any were opened.
    """

    def __init__(self, viewer: Any, display: Display | None) -> None:
        super().__init__(TITLE)
        self.setToolTip(
            "Predictions of nnU-Net, MONAI, TotalSegmentator or any program: score them, and look at the worst"
        )
        self._viewer, self._display = viewer, display
        self.dock: ResultsDock | None = None
        self.setEnabled(display is not None)
        self.clicked.connect(lambda _=False: self.ask())

    def ask(self) -> None:
        """Ask for a folder, unless results are open already: then show them."""
        if self.dock is not None and self.dock.folders:
            self.show_dock()
            return
        folder = QFileDialog.getExistingDirectory(self, "Folder of predictions")
        if folder:
            self.open([Asked(Path(folder))])

    def open(self, asked: Sequence[Asked], scoring: Scoring | None = None) -> ResultsDock:
        """Open folders of results beside those that are open."""
        dock = self.show_dock()
        if scoring is not None:
            dock.scoring = scoring
        dock.add(asked)
        return dock

    def show_dock(self) -> ResultsDock:
        """Show the results below the canvas, also after their dock was closed."""
        assert self._display is not None
        if self.dock is None:
            self.dock = ResultsDock(self._viewer, self._display)
            self.dock.looked_at.connect(self._show_inspect)
        dock = self.dock
        if dock.parent() is None:
            self._viewer.window.add_dock_widget(
                dock, name=NAME, area="bottom", add_vertical_stretch=False, tabify=True
            )
            _make_room(dock)
        holder = dock.parent()
        holder.setVisible(True)
        dock.setVisible(True)
        holder.raise_()
        return dock

    def _show_inspect(self) -> None:
        """Bring the errors of the case that was chosen to the front."""
        inspect = self.window().findChild(InspectPanel)
        if inspect is not None:
            widgets.bring_to_front(inspect)

    def closing(self) -> None:
        """Stop scoring and let go of the viewer."""
        if self.dock is not None:
            self.dock.closing()


class ResultsDock(QWidget):  # type: ignore[misc, unused-ignore]
    """The case table with its scatter, the sets side by side, and what is asked of them.

    Parameters
    ----------
    viewer
        The napari viewer.
    display
        What the window displays.

    Attributes
    ----------
    looked_at
        psygnal signal: a case was chosen here.
    folders
        What is open.
    table
        The `CaseTable` that is drawn; None before the first folder is listed.
    scoring
        How cases are scored.
    rows, scatter, side_by_side
        The three views of it.
    """

    looked_at = Signal()

    def __init__(self, viewer: Any, display: Display) -> None:
        super().__init__()
        self.viewer, self.display = viewer, display
        self.folders: tuple[Asked, ...] = ()
        self.scoring = Scoring()
        self.table: CaseTable | None = None
        self.comparison: SetComparison | None = None
        self._sets: tuple[ResultSet, ...] = ()
        self._events: list[CaseScored] = []
        self._job: ScoringJob | None = None
        self._results: dict[str, Results] = {}
        self._opened = 0
        self._again: tuple[str, str] | None = None
        self._closed = False
        self._listing = LatestWork(self._on_listed, self._on_refused, newest_only=True)
        self._scorer = LatestWork(self._on_scored, self._on_refused)
        self._comparing = LatestWork(self._on_compared, self._on_not_compared, newest_only=True)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._on_tick)
        self._build()
        display.changed.connect(self._on_screen)
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._draw()

    # -- widgets ------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.add_button = _button(
            "Add results…", "Another folder, beside those that are open", self._ask_folder
        )
        self.actions = QToolButton()
        self.actions.setText("Actions")
        self.actions.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.actions)
        menu.addAction("Labels…").triggered.connect(lambda _=False: self._ask_where("labels"))
        menu.addAction("Images…").triggered.connect(lambda _=False: self._ask_where("images"))
        menu.addAction("Save CSV…").triggered.connect(lambda _=False: self._ask_csv())
        menu.addAction("Close results").triggered.connect(lambda _=False: self.clear())
        self.actions.setMenu(menu)
        self.actions.setToolTip("Where labels and images are, the scores as CSV, close the results")
        self.stop_button = _button(
            "Stop", "Stop scoring after the case in hand; what is done stays", self.stop
        )
        self.slicer = SlicerButton(self.display)
        self.bar = QProgressBar()
        self.bar.setFixedWidth(80)
        self.bar.setFixedHeight(16)
        self.message = widgets.ElidedLabel()
        self.problems = widgets.guidance("", widgets.AMBER)
        self.metric_box = widgets.ElidedComboBox("Metric that cases are sorted by")
        self.class_box = widgets.ElidedComboBox("Class that cases are sorted by")
        self.set_box = widgets.ElidedComboBox("Results shown")
        self.text = QLineEdit()
        self.text.setPlaceholderText("Find a case")
        self.text.setAccessibleName("Find a case")
        self.text.setMinimumWidth(64)
        self.low, self.high = QLineEdit(), QLineEdit()
        for field, name in ((self.low, "from"), (self.high, "to")):
            field.setPlaceholderText(name)
            field.setAccessibleName(f"Values {name}")
            field.setMaximumWidth(64)
        self.failures = QCheckBox("Only cases with a structure missed or made up")
        self.filters = QToolButton()
        self.filters.setText("Filter")
        self.filters.setToolTip("Cases between two values, or with a structure that was missed or made up")
        self.filters.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        chosen = QWidget()
        column = QVBoxLayout(chosen)
        column.addLayout(_line((QLabel("Value"), 0), (self.low, 0), (self.high, 0)))
        column.addWidget(self.failures)
        holder = QWidgetAction(self.filters)
        holder.setDefaultWidget(chosen)
        filter_menu = QMenu(self.filters)
        filter_menu.addAction(holder)
        self.filters.setMenu(filter_menu)
        for box in (self.metric_box, self.class_box, self.set_box):
            box.setMinimumWidth(64)
        for button in (self.actions, self.filters):
            button.setStyleSheet("QToolButton { padding: 2px 16px 2px 8px; }")
        self.rows, self.scatter, self.side_by_side = CaseTableView(), CaseScatter(self.viewer), SideBySide()
        for signal in (self.metric_box.currentIndexChanged, self.class_box.currentIndexChanged):
            signal.connect(lambda _: self.sort(self.metric_box.currentData(), self.class_box.currentData()))
        for edited in (self.text.textChanged, self.low.textChanged, self.high.textChanged):
            edited.connect(lambda _: self._on_filter())
        self.set_box.currentIndexChanged.connect(lambda _: self._on_filter())
        self.failures.toggled.connect(lambda _: self._on_filter())
        self.rows.chosen.connect(self.look_at)
        self.scatter.chosen.connect(self.look_at)
        self.rows.sort_asked.connect(self._on_header)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(self.rows)
        split.addWidget(self.scatter)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setChildrenCollapsible(False)
        split.setSizes([600, 400])
        self.pages = QTabWidget()
        self.pages.addTab(split, "Cases")
        self.pages.addTab(self.side_by_side, "Side by side")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(3)
        # below the canvas of a small screen there is little width: what is rarer is in two menus
        layout.addLayout(
            _line(
                (self.add_button, 0), (self.message, 1), (self.bar, 0), (self.stop_button, 0), (self.slicer, 0),
                (self.actions, 0),
            )
        )  # fmt: skip
        layout.addLayout(
            _line(
                (self.metric_box, 2), (self.class_box, 2), (self.set_box, 2), (self.text, 2), (self.filters, 0),
            )
        )  # fmt: skip
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.problems)

    def sizeHint(self) -> Any:
        """Prefer a third of a small screen."""
        hint = super().sizeHint()
        hint.setHeight(_HEIGHT)
        return hint

    # -- what is open -------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether folders are being listed, or cases scored or compared."""
        return self._listing.busy or self._scorer.busy or self._comparing.busy or self._timer.isActive()

    @property
    def events(self) -> tuple[CaseScored, ...]:
        """The cases that are done."""
        return tuple(self._events)

    def add(self, asked: Sequence[Asked]) -> None:
        """Open folders of results beside those that are open; one that is open is listed anew."""
        new = {one.folder: one for one in asked}
        kept = [new.pop(one.folder, one) for one in self.folders]
        self._list((*kept, *new.values()))

    def clear(self) -> None:
        """Close all results; the user's own layers come back."""
        self.stop()
        self.folders, self._sets, self._events, self.table, self.comparison = (), (), [], None, None
        self._results = {}
        if self.display.displayed.source == "results":
            self.display.issue("close")
        widgets.say(self.problems, "")
        self._draw()

    def _list(self, folders: tuple[Asked, ...]) -> None:
        self.stop()
        widgets.say(self.message, "Looking at the folder…")
        self._listing.send(lambda: (folders, open_sets([spec for one in folders for spec in one.sets()])))

    def _on_listed(self, answer: tuple[tuple[Asked, ...], tuple[ResultSet, ...]]) -> None:
        shown = self.shown
        spec = next((one.spec for one in self._sets if shown is not None and one.label == shown[0]), None)
        self.folders, self._sets = answer
        # names of sets depend on which others there are
        label = next((one.label for one in self._sets if spec is not None and one.spec == spec), None)
        self._again = None if shown is None or label is None else (label, shown[1])
        self._opened += 1
        self._events, self._results, self.comparison = [], {}, None
        if self.display.displayed.source == "results":
            self.display.issue("close")
        metric = "dice" if self.table is None else self.table.metric
        self.table = CaseTable(collect(self._sets, ()), metric)
        job = self._job = ScoringJob(self._sets, self.scoring, workers=_threads(), cache=cache_folder())
        if job.total:
            self._scorer.send(lambda: _scored(job))
            self._timer.start(_TICK_MS)
        else:
            self._job = None
        self._draw()

    def _on_refused(self, error: SegExplorerError) -> None:
        self._draw()
        widgets.say(self.problems, str(error), widgets.RED)

    # -- scores come in -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop scoring after the cases in hand; what is done is remembered."""
        if self._job is not None:
            self._job.stop()

    def _on_tick(self) -> None:
        job = self._job
        if job is None or self._closed:
            return
        begun = time.monotonic()
        self._take(job)
        spent = 1000 * (time.monotonic() - begun)
        self._timer.start(int(max(_TICK_MS, _SHARE * spent)))

    def _take(self, job: ScoringJob) -> None:
        new = job.take()
        if new:
            self._events += new
            self._retabulate()
        again = self._again
        if again is not None and any((e.label, e.case) == again for e in self._events):
            self._again = None  # what was looked at before another folder came
            if self.display.displayed.source != "results":
                self.look_at(*again)
        self._draw_progress()

    def _on_scored(self, job: ScoringJob) -> None:
        if job is not self._job:
            return
        self._timer.stop()
        self._take(job)
        self._job = None
        self._compare()
        self._draw()

    def _retabulate(self) -> None:
        assert self.table is not None
        table = CaseTable(
            collect(self._sets, self._events),
            self.table.metric,
            self.table.class_name,
            self.table.worst_first,
            self.table.filter,
        )
        if table.metrics and table.metric not in table.metrics:
            table = replace(table, metric=table.metrics[0])
        if table.class_name != MEAN and table.class_name not in table.class_names:
            table = replace(table, class_name=MEAN)
        self.table = table
        self._draw_table()

    def _compare(self) -> None:
        if self.table is None or len(self._sets) < 2:
            return
        sets: tuple[ScoredSet, ...] = self.table.sets
        self._comparing.send(lambda: compare_sets(sets))

    def _on_compared(self, found: SetComparison) -> None:
        self.comparison = found
        self.side_by_side.show_comparison(found)

    def _on_not_compared(self, error: SegExplorerError) -> None:
        self.side_by_side.show_comparison(None, str(error))

    # -- sorting and filtering ----------------------------------------------------------------------------

    def sort(self, metric: str | None, class_name: str | None, *, worst_first: bool = True) -> None:
        """Sort by a metric of a class, or of the mean of classes."""
        if self.table is None or not metric:
            return
        self.table = replace(
            self.table, metric=metric, class_name=class_name or MEAN, worst_first=worst_first
        )
        self._draw_table()

    def _on_header(self, class_name: str) -> None:
        if self.table is not None:
            same = class_name in ("", self.table.class_name)
            self.sort(
                self.table.metric,
                class_name or self.table.class_name,
                worst_first=not self.table.worst_first if same else True,
            )

    def _on_filter(self) -> None:
        if self.table is None:
            return
        label = self.set_box.currentData()
        self.table = self.table.filtered(
            Filter(
                text=self.text.text().strip(),
                labels=frozenset([label] if label else ()),
                low=_number(self.low.text(), -math.inf),
                high=_number(self.high.text(), math.inf),
                failures_only=self.failures.isChecked(),
            )
        )
        narrowed = replace(self.table.filter, text="", labels=frozenset()) != Filter()
        self.filters.setText("Filter •" if narrowed else "Filter")
        self._draw_table()

    # -- one case -----------------------------------------------------------------------------------------

    def look_at(self, label: str, case: str) -> None:
        """Display a case of a result set."""
        one = next((one for one in self._sets if one.label == label), None)
        if one is None or all(found.id != case for found in one.listing.cases):
            return
        now = self.display.displayed
        results = self._results_of(one)
        known = self.display.reality.results
        if now.source != "results" or known is None or known.key != results.key:
            self.display.open_results(results, case)
        elif now.case != case:
            if known != results:
                self.display.learn(results=results)
            self.display.issue("choose_case", case)
        table = self.table
        if table is not None and table.class_name != MEAN and table.class_name in results.class_names:
            self.display.issue("choose_class", results.class_names.index(table.class_name) + 1)
        self.looked_at.emit()

    def _results_of(self, one: ResultSet) -> Results:
        """Return what the window displays of a set: its cases as they are sorted, and what opens them."""
        assert self.table is not None
        names = self.table.class_names
        known = self._results.get(one.label)
        if known is not None and known.class_names == names:
            return known
        listing, scoring = one.listing, self.scoring
        classes, resample = scoring.classes, scoring.resample

        def load(case: str) -> WatchedSnapshot:
            return open_result(listing, case, classes=classes, names=names, resample=resample).snapshot

        def find(case: str) -> CaseRef | None:
            return image_of_result(listing, case)

        def explain(case: str) -> Explanation:
            return open_result(listing, case, classes=classes, names=names, resample=resample).explanation()

        sorted_now = [row.case for row in self.table.rows() if row.label == one.label]
        every = dict.fromkeys([*sorted_now, *(found.id for found in listing.cases)])
        there = {found.id for found in listing.cases}
        key = f"{self._opened}: {one.label}"
        cases = tuple(c for c in every if c in there)
        made = Results(key, cases, names, load, find, one.label, explain, expanded(one.spec.root))
        self._results[one.label] = made
        return made

    @property
    def shown(self) -> tuple[str, str] | None:
        """Result set and case that the viewer shows; None while it shows something else."""
        now = self.display.displayed
        if now.source != "results" or now.case is None:
            return None
        label = next((label for label, made in self._results.items() if made.key == now.run), None)
        return None if label is None else (label, now.case)

    def _on_screen(self, screen: Screen, parts: frozenset[str]) -> None:
        if "displayed" in parts:
            self.rows.mark(self.shown)
            self.scatter.mark(self.shown)
            self._draw_progress()

    # -- drawing ------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        there = bool(self._sets)
        self.actions.setEnabled(there)
        several = len(self._sets) > 1
        self.pages.tabBar().setVisible(several)
        if not several:
            self.pages.setCurrentIndex(0)
        if several and self.comparison is None:
            self.side_by_side.show_comparison(None, "The sets are compared when their cases are scored.")
        self._draw_table()
        self._draw_progress()
        if self.table is not None and self._job is None:
            widgets.say(self.problems, "\n".join(problem_texts(self.table.sets)[:2]), widgets.AMBER)
            self.problems.setToolTip("\n".join(problem_texts(self.table.sets)))

    def _draw_table(self) -> None:
        table = self.table
        names = () if table is None else table.class_names
        metrics = () if table is None else table.metrics
        labels = () if table is None else table.labels
        metric = "" if table is None else table.metric
        _fill(self.metric_box, [(ALL_METRICS[n].display_name, n) for n in metrics], metric)
        _fill(self.class_box, [(n, n) for n in (MEAN, *names)], MEAN if table is None else table.class_name)
        every = [("all results", ""), *((label, label) for label in labels)]
        _fill(self.set_box, every, self.set_box.currentData() or "")
        self.set_box.setVisible(len(labels) > 1)
        self.class_box.setVisible(len(names) > 1)
        self.rows.show_table(table, self.shown)
        self.scatter.show_table(table, self.shown)

    def _draw_progress(self) -> None:
        job, table = self._job, self.table
        self.bar.setVisible(job is not None)
        self.stop_button.setVisible(job is not None)
        self.slicer.setVisible(job is None)  # a small screen has no room for both
        if job is not None:
            self.bar.setRange(0, job.total)
            self.bar.setValue(len(self._events))
            stopping = "; stopping…" if job.stopped else ""
            widgets.say(self.message, f"{len(self._events)} of {job.total} cases scored{stopping}")
            return
        if table is None:
            widgets.say(self.message, "" if self._listing.busy else "Open a folder of predictions.")
            return
        cases = sum(len(one.listing.cases) for one in self._sets)
        scorable = sum(len(one.listing.scorable) for one in self._sets)
        images = sum(bool(case.images) for one in self._sets for case in one.listing.cases)
        texts = [f"{sum(e.problem is None for e in self._events)} of {cases} cases scored"]
        if not scorable:
            texts = [f"{cases} predictions; no labels were found: say where they are: Actions, Labels…"]
        if not images:
            texts.append("no images were found: Actions, Images…")
        elif scorable and self.shown is None:
            texts.append("click a case or a dot to see it")
        widgets.say(self.message, "; ".join(texts), widgets.GREY if scorable else widgets.AMBER)

    def _on_theme(self, _: Any = None) -> None:
        self.setStyleSheet(appearance.style_sheet(dark=theme.is_dark(self.viewer)))
        self.scatter.follow_theme()

    # -- what is asked for --------------------------------------------------------------------------------

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of predictions")
        if folder:
            self.add([Asked(Path(folder))])

    def _ask_where(self, what: str) -> None:
        folder = QFileDialog.getExistingDirectory(self, f"Folder of the {what}")
        if folder:
            self.set_place(what, folder)

    def set_place(self, what: str, place: str) -> None:
        """Say where the labels or the images of all folders are, and list them anew."""
        if what == "labels":
            self._list(tuple(replace(one, labels=place) for one in self.folders))
        else:
            self._list(tuple(replace(one, images=place) for one in self.folders))

    def _ask_csv(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the scores", "scores.csv", "*.csv")
        if path and self.table is not None:
            try:
                atomic_write(Path(path).with_suffix(".csv"), self.table.csv().encode())
            except SegExplorerError as error:
                widgets.say(self.problems, str(error), widgets.RED)

    def event(self, event: Any) -> bool:
        """Show no case of results whose dock was closed for good."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and not self._closed:
            self.stop()
        return bool(super().event(event))

    def closing(self) -> None:
        """Stop scoring and let go of the viewer."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        self._timer.stop()
        self.slicer.closing()
        for work in (self._listing, self._scorer, self._comparing):
            work.close()
        self.display.changed.disconnect(self._on_screen)
        self.viewer.events.theme.disconnect(self._on_theme)
        if self.parent() is not None and self.parent().parent() is not None:
            self.viewer.window.remove_dock_widget(self)


def _make_room(dock: ResultsDock) -> None:
    """Give a table that has just come a third of the window, which is more than the plots beside it ask for."""
    main, holder = dock.window(), dock.parent()
    if isinstance(main, QMainWindow):

        def settle() -> None:
            if dock.parent() is holder:
                main.resizeDocks([holder], [_HEIGHT], Qt.Orientation.Vertical)

        QTimer.singleShot(0, dock, settle)


def _scored(job: ScoringJob) -> ScoringJob:
    job.run()
    return job


def _threads() -> int:
    """Return how many cases are scored at once, so that a machine can still be used."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def _button(text: str, tip: str, done: Any) -> QPushButton:
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda _=False: done())
    return made


def _line(*parts: tuple[QWidget, int]) -> QHBoxLayout:
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    for widget, stretch in parts:
        made.addWidget(widget, stretch)
    return made


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return otherwise


def _fill(box: Any, items: Sequence[tuple[str, str]], chosen: str | None) -> None:
    with QSignalBlocker(box):
        if [(box.itemText(i), box.itemData(i)) for i in range(box.count())] != list(items):
            box.clear()
            for title, key in items:
                box.addItem(title, key)
        box.setCurrentIndex(max(0, box.findData(chosen)))
