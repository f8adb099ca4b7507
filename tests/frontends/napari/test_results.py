"""The case table in the window: from a folder to the worst error, several sets, what is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QFontMetrics

from segexplorer.data.cache_folder import VARIABLE as CACHE_VARIABLE
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.results import Asked, ResultsButton, ResultsDock
from segexplorer.training.result_scores import Scoring
from segexplorer.training.verdicts import RESULT_VERDICTS, read_verdict_file
from segexplorer.viewmodels.case_table import MEAN
from tests.data.results.layouts import label, nnunet, predictions, write


class Opened:
    """A dock of results over a viewer without a window."""

    def __init__(self, qtbot: Any) -> None:
        self.viewer, self.bridge, self.qtbot = ViewerModel(), RunBridge(), qtbot
        self.display = Display(self.viewer, self.bridge, CaseLayers(self.viewer))
        self.dock = ResultsDock(self.viewer, self.display)
        self.dock.scoring = Scoring(surfaces=False)
        qtbot.addWidget(self.dock)
        self.dock.show()

    def open(self, *folders: Path) -> None:
        self.dock.add([Asked(folder) for folder in folders])
        self.settle()

    def settle(self) -> None:
        self.qtbot.waitUntil(lambda: not self.dock.busy)

    def look_at(self, label: str, case: str) -> None:
        self.dock.look_at(label, case)
        self.wait_for(case)

    def wait_for(self, case: str) -> None:
        def there() -> bool:
            seen = self.display.seen
            return seen is not None and seen.snapshot.case == case and not self.display.busy

        self.qtbot.waitUntil(there)

    @property
    def cases(self) -> list[str]:
        return [row.case for row in self.dock.rows.cells.rows]

    def closing(self) -> None:
        self.dock.closing()
        self.display.closing()
        self.bridge.close()


@pytest.fixture
def opened(qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Opened]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)
    made = Opened(qtbot)
    yield made
    made.closing()


def test_the_worst_case_is_one_click_away(opened: Opened, tmp_path: Path) -> None:
    opened.open(nnunet(tmp_path))
    assert opened.cases == ["hippo_003", "hippo_002", "hippo_001", "hippo_000"]
    opened.dock.rows.selectRow(0)
    opened.wait_for("hippo_003")
    screen = opened.display.screen
    assert {piece.class_name for piece in screen.errors} == {"posterior"}
    assert "hippo_003, predicted elsewhere" in screen.caption.text and "step" not in screen.caption.text
    names = [layer.name for layer in opened.viewer.layers if layer.visible]
    assert names == ["image (hippo_003)", "errors, all classes (hippo_003, predicted elsewhere)"]
    assert screen.displayed.cls is None and not screen.toggles["balance"].enabled
    assert screen.score_sources == ("watched",) and {score.case for score in screen.scores} == {"hippo_003"}
    opened.dock.rows.selectRow(3)
    opened.wait_for("hippo_000")
    assert not any("hippo_003" in layer.name for layer in opened.viewer.layers)
    assert opened.display.screen.errors == ()


def test_sorting_by_a_class_shows_that_class_with_further_metrics(opened: Opened, tmp_path: Path) -> None:
    opened.open(nnunet(tmp_path))
    cells = opened.dock.rows.cells
    titles = [column.title for column in cells.columns]
    opened.dock.rows.horizontalHeader().sectionClicked.emit(titles.index("anterior"))
    assert opened.dock.table is not None and opened.dock.table.class_name == "anterior"
    assert opened.cases[0] == "hippo_000", "all are right: by name"
    assert "True ml" in [column.title for column in cells.columns]
    opened.look_at(opened.dock.table.labels[0], "hippo_002")
    assert opened.display.displayed.cls == 1 and opened.display.screen.errors == ()
    opened.dock.sort("sensitivity", MEAN, worst_first=False)
    assert opened.cases == ["hippo_000", "hippo_001", "hippo_002", "hippo_003"]


def test_filters_leave_rows_and_dots_out(opened: Opened, tmp_path: Path) -> None:
    opened.open(nnunet(tmp_path))
    dock = opened.dock
    assert len(dock.scatter.points) == 8
    dock.text.setText("_002")
    assert opened.cases == ["hippo_002"] and len(dock.scatter.points) == 2
    dock.text.setText("")
    dock.high.setText("0,85")
    assert opened.cases == ["hippo_003", "hippo_002"]
    dock.high.setText("")
    dock.failures.setChecked(True)
    assert opened.cases == []


def test_a_dot_opens_its_case(opened: Opened, tmp_path: Path) -> None:
    opened.open(nnunet(tmp_path))
    scatter = opened.dock.scatter
    scatter.across.setCurrentIndex(scatter.across.findData("false_positive_ml"))
    scatter.up.setCurrentIndex(scatter.up.findData("sensitivity"))
    worst = min(scatter.dots.points(), key=lambda spot: spot.pos().y())
    scatter.dots.sigClicked.emit(scatter.dots, [worst], None)
    opened.wait_for("hippo_003")
    assert opened.dock.shown == (opened.dock.table.labels[0], "hippo_003")  # type: ignore[union-attr]
    ringed = [(spot.pos().x(), spot.pos().y()) for spot in scatter.ring.points()]
    assert (worst.pos().x(), worst.pos().y()) in ringed
    scatter.log.setChecked(True)
    assert all(point.x > 0 for point in scatter.points) and len(scatter.points) == 3


def test_two_sets_are_compared_and_the_same_case_changes_its_prediction(
    opened: Opened, tmp_path: Path
) -> None:
    opened.open(predictions(tmp_path / "a", range(3)), predictions(tmp_path / "b", range(3), moved=1))
    dock = opened.dock
    table = dock.side_by_side.table
    rows = [[table.item(r, c).text() for c in range(4)] for r in range(2)]
    assert [row[1] for row in rows] == ["a/predictions", "b/predictions"]
    assert rows[0][3] == "reference" and rows[1][3].startswith("-")
    assert "no difference has a star" in dock.side_by_side.notes.text()
    opened.look_at("a/predictions", "case_2")
    first = opened.display.seen.snapshot.prediction  # type: ignore[union-attr]
    opened.look_at("b/predictions", "case_2")
    opened.qtbot.waitUntil(
        lambda: np.array_equal(opened.display.seen.snapshot.prediction, label(2, moved=3)),  # type: ignore[union-attr]
        timeout=60_000,
    )
    assert (
        np.array_equal(first, label(2, moved=2)) and opened.display.screen.title == "Results: b/predictions"
    )
    dock.set_box.setCurrentIndex(dock.set_box.findData("a/predictions"))
    assert {row.label for row in dock.rows.cells.rows} == {"a/predictions"}


def test_the_case_that_is_looked_at_stays_when_another_folder_comes(opened: Opened, tmp_path: Path) -> None:
    opened.open(nnunet(tmp_path))
    assert "click a case or a dot" in opened.dock.message.text()
    opened.dock.rows.selectRow(0)
    opened.wait_for("hippo_003")
    assert "click" not in opened.dock.message.text()
    opened.open(predictions(tmp_path / "another", range(3)))
    opened.wait_for("hippo_003")
    assert opened.dock.shown is not None and opened.dock.shown[1] == "hippo_003"
    assert len(opened.dock.folders) == 2


def test_titles_of_the_sorted_column_and_of_metrics_can_be_read_whole(opened: Opened, tmp_path: Path) -> None:
    opened.open(predictions(tmp_path / "a", range(3)), predictions(tmp_path / "b", range(3), moved=1))
    font = QFont(opened.dock.rows.font())
    font.setBold(True)
    title = opened.dock.rows.cells.headerData(1, Qt.Orientation.Horizontal)
    assert opened.dock.rows.columnWidth(1) > QFontMetrics(font).horizontalAdvance(title)
    opened.qtbot.waitUntil(lambda: opened.dock.comparison is not None)
    table = opened.dock.side_by_side.table
    widest = max(
        table.fontMetrics().horizontalAdvance(table.item(r, 0).text()) for r in range(table.rowCount())
    )
    assert table.columnWidth(0) > widest


def test_scores_are_remembered_and_scoring_can_be_stopped(opened: Opened, tmp_path: Path) -> None:
    folder = predictions(tmp_path / "a", range(4))
    opened.dock.add([Asked(folder)])
    opened.qtbot.waitUntil(lambda: bool(opened.dock.events))
    opened.dock.stop()
    opened.settle()
    done = len(opened.dock.events)
    opened.dock.clear()
    assert opened.dock.table is None and opened.cases == []
    opened.open(folder)
    assert sum(event.remembered for event in opened.dock.events) >= done
    assert len(opened.dock.events) == 4 and not opened.dock.bar.isVisible()


def test_labels_and_images_can_be_named_afterwards(opened: Opened, tmp_path: Path) -> None:
    write(tmp_path / "out/p1.nii.gz", label(0, moved=2))
    opened.open(tmp_path / "out")
    assert "no labels were found" in opened.dock.message.text()
    opened.look_at("out", "p1")
    assert opened.display.screen.errors_note.startswith("This case has no label")
    write(tmp_path / "truth/p1.nii.gz", label(0))
    opened.dock.set_place("labels", str(tmp_path / "truth"))
    opened.settle()
    assert opened.dock.message.text() == "1 of 1 cases scored; no images were found: Actions, Images…"
    opened.look_at("out", "p1")
    assert opened.display.screen.errors and [layer.name for layer in opened.viewer.layers] == [
        "errors, all classes (p1, predicted elsewhere)"
    ]


def test_what_cannot_be_scored_says_why_and_a_wrong_folder_leaves_what_is_open(
    opened: Opened, tmp_path: Path
) -> None:
    folder = predictions(tmp_path / "a", range(2))
    (folder / "case_1.nii.gz").write_bytes(b"no image")
    opened.open(folder)
    assert opened.cases == ["case_0", "case_1"]
    assert opened.dock.rows.cells.rows[1].remark and "case_1" in opened.dock.problems.text()
    (tmp_path / "empty").mkdir()
    opened.open(tmp_path / "empty")
    assert "empty" in opened.dock.problems.text() and opened.cases == ["case_0", "case_1"]


def test_the_dock_leaves_room_on_a_small_screen_whatever_the_classes_are_called(
    opened: Opened, tmp_path: Path
) -> None:
    folder = predictions(tmp_path / "a", range(2), moved=3)
    opened.open(folder)
    names = {n: f"left superior segment of the lower lobe of the lung, part {n:03}" for n in range(1, 5)}
    opened.dock.scatter.key.setText("&nbsp; ".join(f"●&nbsp;{n}" for n in names.values()))
    assert opened.dock.minimumSizeHint().width() <= 300, "beside napari's panels and the tabs in 1024 pixels"
    assert opened.dock.scatter._short(names[1]).endswith("001") and "…" in opened.dock.scatter._short(
        names[1]
    )


def test_verdicts_are_kept_beside_the_predictions(opened: Opened, tmp_path: Path) -> None:
    folder = predictions(tmp_path / "a", range(2), moved=3)
    opened.open(folder)
    opened.look_at("predictions", "case_1")
    display = opened.display
    assert display.screen.errors
    display.issue("choose_error", 1)
    opened.qtbot.waitUntil(lambda: display.screen.verdict.enabled)
    display.review.judge("label_error", note="the reader of 2019")
    opened.qtbot.waitUntil(lambda: next(iter(folder.rglob(RESULT_VERDICTS)), None) is not None)
    file = next(iter(folder.rglob(RESULT_VERDICTS)))
    (kept,) = read_verdict_file(file)
    assert (kept.case, kept.judgement, kept.note) == ("case_1", "label_error", "the reader of 2019")
    opened.look_at("predictions", "case_0")
    opened.look_at("predictions", "case_1")
    display.issue("choose_error", 1)
    opened.qtbot.waitUntil(
        lambda: (
            display.screen.navigator.entry is not None
            and display.screen.navigator.entry.state == "label_error"
        ),
    )


def test_closing_results_gives_the_viewer_back(opened: Opened, tmp_path: Path) -> None:
    mine = opened.viewer.add_image(np.zeros((4, 4, 4)), name="mine")
    opened.open(predictions(tmp_path / "a", range(2)))
    opened.look_at("predictions", "case_1")
    assert not mine.visible
    opened.dock.clear()
    assert mine.visible and [layer.name for layer in opened.viewer.layers] == ["mine"]
    assert opened.display.displayed.source == "layers"


def test_the_displayed_case_is_written_for_slicer(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.frontends.napari.panels.slicer_button.find_slicer", lambda: None)
    opened.open(nnunet(tmp_path))
    assert not opened.dock.slicer.isEnabled()
    opened.look_at(opened.dock.table.labels[0], "hippo_003")  # type: ignore[union-attr]
    told: list[str] = []
    opened.dock.slicer.tell = told.append
    opened.dock.slicer.write(tmp_path)
    opened.qtbot.waitUntil(lambda: bool(told))
    assert "3D Slicer was not found" in told[0]
    assert {path.name for path in (tmp_path / "slicer-hippo_003").iterdir()} == {
        "image.nrrd",
        "truth.seg.nrrd",
        "prediction.seg.nrrd",
        "errors.seg.nrrd",
        "errors.mrk.json",
    }


@pytest.mark.gui
def test_the_button_puts_the_table_below_the_canvas(
    viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    bridge = RunBridge()
    display = Display(viewer, bridge, CaseLayers(viewer))
    button = ResultsButton(viewer, display)
    qtbot.addWidget(button)
    dock = button.open([Asked(predictions(tmp_path / "a", range(2)))], Scoring(surfaces=False))
    qtbot.waitUntil(lambda: not dock.busy)
    assert dock.isVisible() and [row.case for row in dock.rows.cells.rows] == ["case_1", "case_0"]
    viewer.window.remove_dock_widget(dock)
    assert dock.parent() is None
    assert button.show_dock() is dock and dock.isVisible()
    button.closing()
    display.closing()
    bridge.close()
