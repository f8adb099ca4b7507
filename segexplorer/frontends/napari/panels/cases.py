"""The tab "Cases": what is trained on, what for, and which classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from psygnal import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QStackedWidget,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import DataError, SegExplorerError, SpecError
from segexplorer.core.events import Role
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.splits import Split
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.case_sources import (
    CasePair,
    DiskSource,
    LayerSource,
    case_name,
    stored_dataset,
)
from segexplorer.frontends.napari.panels.class_table import ClassTable
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.layer_images import Examination, offered_classes

ONE_CASE = "Train and validate on this one case (figures are badged: training case, not held out)"
_ROLES = ("train", "validation", "test")
_NO_PAIRS = "No case yet. Choose an image and its label above and add the pair."
DatasetMaker = Callable[[], tuple[DatasetSpec, Split]]


class CasesPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Collects cases from layers, or names a data set on the disk.

    Parameters
    ----------
    session
        The window's session.
    viewer
        The napari viewer.
    folder
        Where layers without a file are saved when they are trained on.

    Attributes
    ----------
    changed
        psygnal signal: other cases, roles or classes.
    source_box
        Chooses between layers (`layer_source`) and a data set on the disk (`disk_source`).
    table
        The pairs: case, geometry, role.
    one_case
        Check box that is shown while there is one pair alone.
    class_table
        The classes of the pairs.
    message
        Why something was refused.
    """

    changed = Signal()

    def __init__(self, session: Any, viewer: Any, folder: Path | None = None) -> None:
        super().__init__()
        self.session, self.viewer = session, viewer
        self.folder = folder if folder is not None else Path.home() / "segexplorer-runs" / "cases"
        self._pairs: list[tuple[CasePair, Examination | None]] = []
        self._classes_edited = False
        self._job = LatestWork(self._on_examined, self._on_refused, newest_only=True)
        self.source_box = QComboBox()
        self.source_box.addItems(["Layers in the viewer", "A data set on the disk, or phantoms"])
        self._pages = QStackedWidget()
        self._pages.addWidget(self._layers_page())
        self.disk_source = DiskSource()
        self.disk_source.changed.connect(self.changed.emit)
        self.disk_source.refused.connect(self._on_refused)
        self._pages.addWidget(self.disk_source)
        self.source_box.currentIndexChanged.connect(self._on_source)
        self.message = widgets.guidance()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(widgets.heading("Cases from"), self.source_box, self._pages, self.message)
        )
        self._redraw()

    # -- pages --------------------------------------------------------------------------------------------

    def _layers_page(self) -> QWidget:
        self.layer_source = LayerSource(self.viewer)
        self.layer_source.added.connect(self.add_pair)
        self.layer_source.refused.connect(self._on_refused)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Case", "Geometry", "Role"])
        self.table.verticalHeader().setVisible(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Fixed)
        self.table.setColumnWidth(2, 104)
        self._no_pairs = widgets.guidance(_NO_PAIRS)
        self._remove = QPushButton("Remove case")
        self._remove.clicked.connect(self._remove_selected)
        self.one_case = QCheckBox()
        self._one_case_text = widgets.guidance(ONE_CASE)
        self.one_case.toggled.connect(lambda _: self.changed.emit())
        self._one_case_row = QWidget()
        row = QHBoxLayout(self._one_case_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.one_case)
        row.addWidget(self._one_case_text, 1)
        self.class_table = ClassTable()
        self.class_table.changed.connect(self._on_classes)
        self._unselected = QComboBox()
        self._unselected.addItem("Other labels become background", "background")
        self._unselected.addItem("Other labels are ignored by loss and scores", "ignored")
        self._unselected.currentIndexChanged.connect(lambda _: self.changed.emit())
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.layer_source,
            widgets.heading("Cases"),
            self._no_pairs,
            self.table,
            self._remove,
            self._one_case_row,
            widgets.heading("Classes"),
            self.class_table,
            self._unselected,
        ):
            column.addWidget(widget)
        return page

    # -- what comes out -----------------------------------------------------------------------------------

    def dataset_maker(self) -> DatasetMaker:
        """Return a function for a worker that stores what has no file and returns data set and split.

        Raises
        ------
        SegExplorerError
            When the cases cannot be trained on as they are, in one sentence.
        """
        if self._pages.currentIndex() == 1:
            chosen = self.disk_source.chosen
            return lambda: chosen
        self._check_pairs()
        pairs = [pair for pair, _ in self._pairs]
        classes, other_labels, folder = (
            self.class_table.classes(),
            str(self._unselected.currentData()),
            self.folder,
        )
        split = Split(self_validation=self.one_case.isChecked() and len(pairs) == 1)
        return lambda: (stored_dataset(pairs, classes, other_labels, folder), split)

    def set_dataset(self, dataset: DatasetSpec, split: Split) -> None:
        """Show the data of an experiment that was loaded."""
        self.disk_source.set(dataset, split)
        self.source_box.setCurrentIndex(1)

    def _check_pairs(self) -> None:
        if not self._pairs:
            raise DataError("No case is chosen yet.", "Add an image and its label in the Cases tab.")
        for pair, seen in self._pairs:
            if seen is not None and seen.severity == "error":
                raise DataError(f"{pair.case}: {seen.verdict}", seen.remedy)
        if not self.class_table.classes():
            raise SpecError("No class is chosen.", "Add a class in the Cases tab.")
        if len(self._pairs) == 1 and not self.one_case.isChecked():
            raise DataError(
                "One case alone cannot be held out.",
                "In the Cases tab, add another case or tick “Train and validate on this one case”.",
            )

    # -- pairs --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether pairs are being examined."""
        return self._job.busy

    @property
    def pairs(self) -> tuple[CasePair, ...]:
        """The pairs added."""
        return tuple(pair for pair, _ in self._pairs)

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the pairs added."""
        return tuple(pair.case for pair, _ in self._pairs)

    def add_pair(self, pair: CasePair) -> None:
        """Add a pair; it is examined in the background."""
        pair = replace(pair, case=case_name(pair.case, self.cases))
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
        volumes: dict[int, float] = {}
        names: dict[int, str] = {}
        total = 0.0
        for pair, seen in self._pairs:
            names |= dict(pair.names)
            total += seen.total_ml if seen else 0.0
            for value, volume in ((seen and seen.volumes_ml) or {}).items():
                volumes[value] = volumes.get(value, 0.0) + volume
        classes = self.class_table.classes() if self._classes_edited else offered_classes(volumes, names)
        self.class_table.set_classes(classes, volumes, total)

    def _on_classes(self) -> None:
        self._classes_edited = True
        self.changed.emit()

    def _remove_selected(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()} or {len(self._pairs) - 1}
        self._pairs = [entry for row, entry in enumerate(self._pairs) if row not in rows]
        self._redraw()
        self._offer_classes()
        self.changed.emit()

    def _set_role(self, row: int, text: str) -> None:
        pair, seen = self._pairs[row]
        role: Role | None = text if text in get_args(Role) else None  # type: ignore[assignment]
        self._pairs[row] = (replace(pair, role=role), seen)
        self.changed.emit()

    # -- drawing ------------------------------------------------------------------------------------------

    def _on_source(self, index: int) -> None:
        self._pages.setCurrentIndex(index)
        widgets.say(self.message, "")
        self.changed.emit()

    def _redraw(self) -> None:
        some = bool(self._pairs)
        self._no_pairs.setVisible(not some)
        self.table.setVisible(some)
        self._remove.setVisible(some)
        self._one_case_row.setVisible(len(self._pairs) == 1)
        self.table.setRowCount(len(self._pairs))
        for row, (pair, seen) in enumerate(self._pairs):
            self._draw(row, pair, seen)
        self.table.setFixedHeight(28 + 28 * max(1, min(6, len(self._pairs))))

    def _draw(self, row: int, pair: CasePair, seen: Examination | None) -> None:
        size = " × ".join(map(str, pair.image.shape))
        spacing = " × ".join(f"{s:.3g}" for s in pair.image.spacing)
        name = QTableWidgetItem(pair.case)
        name.setToolTip(f"{size} voxels of {spacing} mm, {pair.image.orientation}, {pair.image.modality}")
        self.table.setItem(row, 0, name)
        verdict = QTableWidgetItem("looking…" if seen is None else seen.verdict)
        if seen is not None:
            verdict.setToolTip(f"{seen.verdict} {seen.remedy}".strip())
        self.table.setItem(row, 1, verdict)
        role = QComboBox()
        role.addItems(["by split", *_ROLES])
        role.setCurrentText(pair.role or "by split")
        role.currentTextChanged.connect(lambda text, r=row: self._set_role(r, text))
        self.table.setCellWidget(row, 2, role)
        self.table.setRowHeight(row, 28)

    def closing(self) -> None:
        """Let go of the viewer and of work under way."""
        self._job.close()
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
        return CasesPanel(context.session, context.viewer)
