"""The tab "Cases": what is trained on, what for, and which classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import DataError, SegExplorerError, SpecError
from segexplorer.core.events import Role
from segexplorer.core.fields import parameters
from segexplorer.data.case import Case, CaseRef
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.splits import Split
from segexplorer.data.volume import Volume
from segexplorer.frontends.forms.appearance import focus_inside
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.case_previewer import CasePreviewer
from segexplorer.frontends.napari.panels.case_sources import (
    CasePair,
    DiskSource,
    LayerSource,
    case_name,
    stored_dataset,
)
from segexplorer.frontends.napari.panels.class_table import ClassTable, shared_value
from segexplorer.frontends.napari.panels.proposal_box import ProposalBox
from segexplorer.frontends.napari.panels.results import ResultsButton
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.case_preview import CasePreview, preview_case
from segexplorer.viewmodels.layer_images import Examination, clashing_names, offered_classes

ONE_CASE = "Train and validate on this one case (figures are badged: training case, not held out)"
_ROLES = ("train", "validation", "test")
_NO_PAIRS = "No case yet. Choose an image and its label above and add the pair."
_HINT = "Click a case to look at it before any training; the arrow keys go from case to case."
_ROW, _MOST_ROWS, _MOST_LISTED = 28, 6, 2000
DatasetMaker = Callable[[], tuple[DatasetSpec, Split]]
_LAYERS, _DISK = 0, 1
_LOOK_MS = 400
"""How long the form of a data set rests before its cases are listed."""


class CasesPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Collects cases from layers, or names a data set on the disk, and shows each of them before any training.

    Parameters
    ----------
    session
        The window's session.
    viewer
        The napari viewer.
    folder
        Where layers without a file are saved when they are trained on.
    display
        What the window displays; without it, cases are listed and not shown.

    Attributes
    ----------
    changed
        psygnal signal: other cases, roles or classes.
    source_box
        Chooses between layers (`layer_source`) and a data set on the disk (`disk_source`).
    table
        The cases: name, geometry, role. The current one is shown in the viewer.
    remove_button
        Removes the selected pair, or the last one.
    one_case
        Check box that is shown while there is one pair alone.
    class_table
        The classes of the pairs, or of the data set whose case is shown.
    overlap
        Check box: whether a label value may belong to several classes.
    preview
        Draws the case that is looked at.
    message
        Why something was refused.
    proposal
        Proposes an experiment for the cases.
    results
        Opens what other programs predicted.
    """

    changed = Signal()

    def __init__(
        self, session: Any, viewer: Any, folder: Path | None = None, display: Display | None = None
    ) -> None:
        super().__init__()
        self.session, self.viewer = session, viewer
        self.folder = folder if folder is not None else Path.home() / "segexplorer-runs" / "cases"
        self._pairs: list[tuple[CasePair, Examination | None]] = []
        self._edited_for: tuple[Volume, ...] = ()
        self._refs: tuple[CaseRef, ...] = ()
        self._seen: dict[str, Examination] = {}
        self._filling = False
        self._job = LatestWork(self._on_examined, self._on_refused, newest_only=True)
        self._listing = LatestWork(self._on_listed, self._on_not_listed, newest_only=True)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self.list_cases)
        self.preview = CasePreviewer(viewer, display)
        self.preview.opener = self._opener
        self.preview.shown.connect(self._on_preview)
        self.preview.left.connect(self._on_left)
        self.source_box = widgets.ElidedComboBox("Cases from")
        self.source_box.addItems(["Layers in the viewer", "A data set on the disk, or phantoms"])
        self.layer_source = LayerSource(viewer)
        self.layer_source.added.connect(self.add_pair)
        self.layer_source.refused.connect(self._on_refused)
        self.disk_source = DiskSource()
        self.disk_source.changed.connect(self._on_dataset)
        self.disk_source.refused.connect(self._on_refused)
        self.disk_source.hide()
        self.source_box.currentIndexChanged.connect(self._on_source)
        self.message = widgets.guidance()
        self.class_table = ClassTable()
        self.class_table.changed.connect(self._on_classes)
        self._unselected = widgets.ElidedComboBox("Other labels")
        self._unselected.addItem("Other labels become background", "background")
        self._unselected.addItem("Other labels are ignored by loss and scores", "ignored")
        self._unselected.currentIndexChanged.connect(lambda _: self.changed.emit())
        declared = next(p for p in parameters(DatasetSpec) if p.name == "overlapping")
        self.overlap = QCheckBox(declared.title)
        self.overlap.setToolTip(declared.description)
        self.overlap.toggled.connect(lambda _: self.changed.emit())
        self._classes = widgets.section(
            "Classes", self.class_table, self._unselected, self.overlap, key="Cases.classes"
        )
        self.proposal = ProposalBox(session, self.dataset_maker)
        self.results = ResultsButton(viewer, display)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self.results,
                widgets.section(
                    "Cases from",
                    self.source_box,
                    self.layer_source,
                    self.disk_source,
                    self.message,
                    key="Cases.source",
                ),
                widgets.section("Cases", self._cases(), key="Cases.cases"),
                self._classes,
                widgets.section("Settings for these cases", self.proposal, key="Cases.proposal"),
            )
        )
        self._redraw()

    def _cases(self) -> QWidget:
        self.table = widgets.prepare_table(QTableWidget(0, 3), "Cases")
        self.table.setHorizontalHeaderLabels(["Case", "Geometry", "Role"])
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Fixed)
        self.table.setColumnWidth(2, 104)
        self.table.itemSelectionChanged.connect(self._on_selection)
        self._no_pairs = widgets.guidance(_NO_PAIRS)
        self.remove_button = QPushButton("Remove case")
        self.remove_button.clicked.connect(self._remove_selected)
        self.one_case = QCheckBox()
        self.one_case.setAccessibleName(ONE_CASE)
        self._one_case_text = widgets.guidance(ONE_CASE)
        self.one_case.toggled.connect(lambda _: self.changed.emit())
        self._one_case_row = QWidget()
        row = QHBoxLayout(self._one_case_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.one_case)
        row.addWidget(self._one_case_text, 1)
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self._no_pairs, self.table, self.preview, self.remove_button, self._one_case_row):
            column.addWidget(widget)
        return body

    # -- what comes out -----------------------------------------------------------------------------------

    def dataset_maker(self) -> DatasetMaker:
        """Return a function for a worker that stores what has no file and returns data set and split.

        Raises
        ------
        SegExplorerError
            When the cases cannot be trained on as they are, in one sentence.
        """
        if not self.from_layers:
            chosen = self.disk_source.chosen
            return lambda: chosen
        self._check_pairs()
        pairs = [pair for pair, _ in self._pairs]
        settings = {
            "classes": self.class_table.classes(),
            "other_labels": str(self._unselected.currentData()),
            "overlapping": self.overlap.isChecked(),
        }
        folder = self.folder
        split = Split(self_validation=self.one_case.isChecked() and len(pairs) == 1)
        return lambda: (stored_dataset(pairs, settings, folder), split)

    @property
    def from_layers(self) -> bool:
        """Whether the cases are layers, rather than a data set on the disk."""
        return bool(self.source_box.currentIndex() == _LAYERS)

    def set_dataset(self, dataset: DatasetSpec, split: Split) -> None:
        """Show the data of an experiment that was loaded."""
        self.disk_source.set(dataset, split)
        self.source_box.setCurrentIndex(_DISK)
        self._timer.start()

    def focus(self, path: str) -> bool:
        """Focus what a setting of data or split is edited in, by its path in an experiment ("data.root")."""
        if not self.from_layers:
            return self.disk_source.focus(path)
        if path.startswith("data.classes"):
            return focus_inside(self.class_table)
        if path.startswith("split") and self._one_case_row.isVisibleTo(self):
            return focus_inside(self.one_case)
        return focus_inside(
            self.layer_source.add_button if self.layer_source.add_button.isEnabled() else self
        )

    @property
    def problem_path(self) -> str:
        """Path, in an experiment, of what keeps the cases from being trained on; "" where nothing does."""
        try:
            self.dataset_maker()
        except SegExplorerError:
            if not self.from_layers:
                return "data"
            if not self._pairs or any(
                seen is not None and seen.severity == "error" for _, seen in self._pairs
            ):
                return "data.pairs"
            try:
                self._check_classes()
            except SegExplorerError:
                return "data.classes"
            return "split"
        return ""

    def label(self, path: str) -> str:
        """Return what the screen calls a setting of data or split."""
        if not self.from_layers:
            return self.disk_source.label(path)
        return {"data.classes": "Classes", "split": "Cases"}.get(path, "Cases")

    def _check_classes(self) -> None:
        classes = self.class_table.classes()
        if not classes:
            raise SpecError("No class is chosen.", "Add a class in the Cases tab.")
        shared = "" if self.overlap.isChecked() else shared_value(classes)
        if shared:
            raise SpecError(
                shared, f'In the Cases tab, check "{self.overlap.text()}", or give the value to one class.'
            )

    def _check_pairs(self) -> None:
        if not self._pairs:
            raise DataError("No case is chosen yet.", "Add an image and its label in the Cases tab.")
        for pair, seen in self._pairs:
            if seen is not None and seen.severity == "error":
                raise DataError(f"{pair.case}: {seen.verdict}", seen.remedy)
        self._check_classes()
        clash = clashing_names({p.case: p.names for p in self.pairs}, self.class_table.classes())
        if clash:
            raise SpecError(
                clash, "In the Cases tab, remove one of the cases or give the class a name of your own."
            )
        if len(self._pairs) == 1 and not self.one_case.isChecked():
            raise DataError(
                "One case alone cannot be held out.",
                "In the Cases tab, add another case or tick “Train and validate on this one case”.",
            )

    # -- pairs --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether cases are being examined, listed or prepared for the viewer."""
        return self._job.busy or self._listing.busy or self.preview.busy

    @property
    def pairs(self) -> tuple[CasePair, ...]:
        """The pairs added."""
        return tuple(pair for pair, _ in self._pairs)

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases in the table."""
        if not self.from_layers:
            return tuple(ref.id for ref in self._refs)
        return tuple(pair.case for pair, _ in self._pairs)

    def add_pair(self, pair: CasePair) -> None:
        """Add a pair; it is examined in the background."""
        pair = replace(pair, case=case_name(pair.case, [known.case for known in self.pairs]))
        self._pairs.append((pair, None))
        widgets.say(self.message, "")
        self._redraw()
        self._examine()

    def _examine(self) -> None:
        waiting = [pair for pair, seen in self._pairs if seen is None]
        if waiting:
            self._job.send(lambda: [(pair, pair.examined()) for pair in waiting])

    def _on_examined(self, answers: list[tuple[CasePair, Examination]]) -> None:
        seen = {id(pair.image): examination for pair, examination in answers}
        self._pairs = [(pair, seen.get(id(pair.image), known)) for pair, known in self._pairs]
        self._redraw()
        self._offer_classes()
        self.changed.emit()

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self.message, str(error), widgets.RED)

    def _offer_classes(self) -> None:
        """Show the classes of all pairs, with the volumes of the case that is shown, or of all."""
        if not self.from_layers:
            return
        volumes: dict[int, float] = {}
        names: dict[int, str] = {}
        total = 0.0
        for pair, seen in self._pairs:
            names |= dict(pair.names)
            total += seen.total_ml if seen else 0.0
            for value, volume in ((seen and seen.volumes_ml) or {}).items():
                volumes[value] = volumes.get(value, 0.0) + volume
        # what the user wrote into the table is of these cases: without any of them it has no meaning
        if not any(pair.image is image for pair in self.pairs for image in self._edited_for):
            self._edited_for = ()
        classes = self.class_table.classes() if self._edited_for else offered_classes(volumes, names)
        self.class_table.set_classes(classes, volumes, total)
        count = len(self._pairs)
        self._classes.describe(f"Classes, volumes of all {count} cases" if count > 1 else "Classes")

    def _on_classes(self) -> None:
        self._edited_for = tuple(pair.image for pair in self.pairs)
        self.changed.emit()

    def _remove_selected(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()} or {len(self._pairs) - 1}
        self._pairs = [entry for row, entry in enumerate(self._pairs) if row not in rows]
        self._redraw()
        self._offer_classes()
        self.preview.know(self.cases)
        self.changed.emit()

    def _set_role(self, row: int, text: str) -> None:
        pair, seen = self._pairs[row]
        role: Role | None = text if text in get_args(Role) else None  # type: ignore[assignment]
        self._pairs[row] = (replace(pair, role=role), seen)
        self.changed.emit()

    # -- data sets ----------------------------------------------------------------------------------------

    def _on_dataset(self) -> None:
        self._timer.start()
        self.changed.emit()

    def list_cases(self) -> None:
        """List the cases of the data set in the form, by their names alone."""
        self._timer.stop()
        if self.from_layers:
            return
        try:
            dataset, _ = self.disk_source.chosen
        except SegExplorerError:
            self._on_listed((None, []))
            return
        self._listing.send(lambda: (dataset, dataset.cases()))

    def _on_listed(self, answer: tuple[DatasetSpec | None, list[CaseRef]]) -> None:
        dataset, refs = answer
        if self.from_layers or (dataset is not None and not self._is_chosen(dataset)):
            return
        self._refs, self._seen = tuple(refs), {}
        self._no_pairs.setText("This data set has no case yet." if dataset is not None else "")
        self._redraw()
        self.class_table.set_classes({})
        self._classes.describe("Classes")
        self.preview.forget()

    def _on_not_listed(self, error: SegExplorerError) -> None:
        self._on_listed((None, []))
        if not self.from_layers:
            self._on_refused(error)

    def _is_chosen(self, dataset: DatasetSpec) -> bool:
        try:
            return bool(self.disk_source.chosen[0] == dataset)
        except SegExplorerError:
            return False

    # -- looking at a case --------------------------------------------------------------------------------

    def show_case(self, case: str) -> None:
        """Show a case of the table in the viewer, without training."""
        if case in self.cases:
            self.table.selectRow(self.cases.index(case))

    def _on_selection(self) -> None:
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        if self._filling or len(rows) != 1 or rows[0] >= len(self.cases):
            return
        self.preview.look_at(self.cases[rows[0]], self.cases)

    def _opener(self, case: str) -> Callable[[], CasePreview] | None:
        """Return a function for a worker that prepares a case; None where the table has it no more."""
        if case not in self.cases:
            return None
        row = self.cases.index(case)
        if not self.from_layers:
            ref, seen = self._refs[row], self._seen.get(self._refs[row].id)
            dataset = self.disk_source.chosen[0]
            return lambda: preview_case(
                ref.open(),
                dataset.class_values(),
                dataset.other_labels,
                seen,
                overlapping=dataset.overlapping,
            )
        pair, examined = self._pairs[row]
        try:
            classes = self.class_table.classes()
        except SegExplorerError:
            classes = {}  # a name is being typed
        if not self.overlap.isChecked() and shared_value(classes):
            classes = {}  # values are being typed
        other, overlapping = self._unselected.currentData(), self.overlap.isChecked()
        opened = Case(pair.case, (pair.image,), pair.label)
        return lambda: preview_case(opened, classes, other, examined, overlapping=overlapping)

    def _on_preview(self, shown: CasePreview) -> None:
        """The viewer shows a case: its volumes in the table of classes, its verdict beside its name."""
        if shown.case not in self.cases:
            return
        row = self.cases.index(shown.case)
        if shown.examination is not None:
            if not self.from_layers:
                self._seen[shown.case] = shown.examination
                self.class_table.set_classes(shown.classes)
            seen = shown.examination
            self.class_table.measure(seen.volumes_ml or {}, seen.total_ml)
        elif not self.from_layers:
            self.class_table.set_classes(shown.classes)
        self._classes.describe(f"Classes, volumes of {shown.case}")
        self.table.setItem(row, 1, widgets.text_item(shown.verdict))
        self._select(row)

    def _on_left(self) -> None:
        """No case of the table is shown any more."""
        self._filling = True
        self.table.clearSelection()
        self._filling = False
        if self.from_layers:
            self._offer_classes()
        else:
            self.class_table.set_classes({})
            self._classes.describe("Classes")

    def _select(self, row: int) -> None:
        self._filling = True
        self.table.selectRow(row)
        self._filling = False

    # -- drawing ------------------------------------------------------------------------------------------

    def _on_source(self, index: int) -> None:
        self.layer_source.setVisible(index == _LAYERS)
        self.disk_source.setVisible(index == _DISK)
        self._unselected.setVisible(index == _LAYERS)
        self.overlap.setVisible(index == _LAYERS)
        self.class_table.set_editable(index == _LAYERS)
        widgets.say(self.message, "")
        self.preview.forget()
        if index == _LAYERS:
            self._no_pairs.setText(_NO_PAIRS)
            self._redraw()
            self._offer_classes()
        else:
            self._refs = ()
            self._no_pairs.setText("The cases are listed once the data set is known.")
            self._redraw()
            self.class_table.set_classes({})
            self._classes.describe("Classes")
            self._timer.start()
        self.changed.emit()

    def _redraw(self) -> None:
        count = len(self.cases)
        self._no_pairs.setVisible(not count)
        self.table.setVisible(bool(count))
        self.remove_button.setVisible(bool(count) and self.from_layers)
        self._one_case_row.setVisible(count == 1 and self.from_layers)
        self.preview.offer(_HINT if count else "")
        self._filling = True
        self.table.setRowCount(min(count, _MOST_LISTED))
        if not self.from_layers:
            for row, ref in enumerate(self._refs[:_MOST_LISTED]):
                self._draw_ref(row, ref)
        else:
            for row, (pair, seen) in enumerate(self._pairs):
                self._draw(row, pair, seen)
        self._filling = False
        # the frame and the header too, so that a table of few rows does not scroll
        head = self.table.horizontalHeader().sizeHint().height()
        self.table.setFixedHeight(head + _ROW * max(1, min(_MOST_ROWS, count)) + 4)

    def _draw(self, row: int, pair: CasePair, seen: Examination | None) -> None:
        size = " × ".join(map(str, pair.image.shape))
        spacing = " × ".join(f"{s:.3g}" for s in pair.image.spacing)
        facts = f"{size} voxels of {spacing} mm, {pair.image.orientation}, {pair.image.modality}"
        self.table.setItem(row, 0, widgets.text_item(pair.case, f"{pair.case}: {facts}"))
        verdict = "looking…" if seen is None else seen.verdict
        told = "" if seen is None else f"{seen.verdict} {seen.remedy}".strip()
        self.table.setItem(row, 1, widgets.text_item(verdict, told))
        role = QComboBox()
        role.setAccessibleName(f"Role of {pair.case}")
        role.addItems(["by split", *_ROLES])
        role.setCurrentText(pair.role or "by split")
        role.currentTextChanged.connect(lambda text, r=row: self._set_role(r, text))
        self.table.setCellWidget(row, 2, role)
        self.table.setRowHeight(row, _ROW)

    def _draw_ref(self, row: int, ref: CaseRef) -> None:
        seen = self._seen.get(ref.id)
        verdict = seen.verdict if seen is not None else "" if ref.label is not None else "no label"
        self.table.removeCellWidget(row, 2)
        self.table.setItem(row, 0, widgets.text_item(ref.id))
        self.table.setItem(row, 1, widgets.text_item(verdict))
        self.table.setItem(row, 2, widgets.text_item(ref.role or "by split"))
        self.table.setRowHeight(row, _ROW)

    def closing(self) -> None:
        """Let go of the viewer and of work under way."""
        self.proposal.closing()
        self.results.closing()
        self._timer.stop()
        self._job.close()
        self._listing.close()
        self.preview.closing()
        self.disk_source.job.close()
        self.layer_source.close_source()


@registry.register
class CasesTab(PanelSpec):
    """The tab Cases."""

    display_name: ClassVar[str] = "Cases"
    position: ClassVar[float] = 10
    kind: Literal["cases"] = "cases"

    def build(self, context: PanelContext) -> CasesPanel:
        """Return the tab's widget."""
        return CasesPanel(context.session, context.viewer, display=context.display)
