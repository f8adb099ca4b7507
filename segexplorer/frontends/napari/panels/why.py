"""The tab "Why": what the loss asks for in the case that is displayed, what training did and who paid, what if.

Two sorts of what-if never mix. The decision (a bias on one class) moves the prediction at once, and needs no
training. Parameters of a loss move what it asks for, while the prediction waits for training.

The panel draws its part of a `Screen` and issues commands; it holds nothing of what is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyqtgraph as pg
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core import colours
from segexplorer.core.errors import SegExplorerError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import SpecForm
from segexplorer.frontends.forms.appearance import Section
from segexplorer.frontends.forms.picker import LongPicker
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.own_layers_box import OwnLayersBox
from segexplorer.frontends.napari.panels.race_box import RaceCard, RaceOfferBox
from segexplorer.losses.base import AnyLoss, LossSpec
from segexplorer.losses.base import registry as losses
from segexplorer.training.doctor import Diagnosis, Finding
from segexplorer.training.paid import RegionChange
from segexplorer.viewmodels import catalogue
from segexplorer.viewmodels.decision import REACH, counts_text
from segexplorer.viewmodels.displayed import EXTENTS, Extent
from segexplorer.viewmodels.screen import DecisionShown, Screen
from segexplorer.viewmodels.why import ENDS, LOOKS, MEANINGS, Answer, ShareRow, pull_ticks

OFF = "Off"
CLICK_HINT = "Click a voxel in the picture, or ask at the crosshair."
CHOOSE_LOOK = "Choose “Asked” above; then click a voxel in the picture."
SENTENCE_FOLLOWS = "What is asked at this voxel is said once the whole map is computed."
WAITS = "The prediction changes only by training."
CHOOSE_LOOK_FIRST = "Choose “Asked” above: the loss of the run is then here, to be changed."
_STEPS = 100
"""Positions of the bias slider per unit."""
_DRAWN = {
    "displayed",
    "answer",
    "answer_note",
    "why_request",
    "decision",
    "diagnosis",
    "diagnosis_note",
    "seen",
    "badge",
    "controls",
    "race",
    "racing",
    "racing_words",
    "offer",
    "history",
    "last_patch",
    "patch",
    "patch_note",
    "patch_request",
}
"""Parts of the screen that the tab draws."""
_REST_MS = 250
"""How long a form rests before its loss is asked."""


class AskedLoss(Spec):
    """The loss that is asked about; the form of the tab is printed from it."""

    loss: AnyLoss = parameter(
        "dice_cross_entropy",
        title="Loss",
        description="The loss whose pull is shown; nothing is trained by it.",
    )


class LookRow(QWidget):  # type: ignore[misc, unused-ignore]
    """Off, Asked, Got, Both, Penalties, Paid: which map is drawn."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.buttons: dict[str | None, QRadioButton] = {None: QRadioButton(OFF)}
        self.buttons[None].setToolTip("Draw no map of the loss")
        for name, title in LOOKS.items():
            self.buttons[name] = QRadioButton(title)
            self.buttons[name].setToolTip(MEANINGS[name])
        self._group = QButtonGroup(self)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        for place, (look, button) in enumerate(self.buttons.items()):
            self._group.addButton(button)
            layout.addWidget(button, place // 3, place % 3)  # two rows, so that a narrow tab has room
            button.clicked.connect(lambda _=False, found=look: display.issue("look_at", found))

    def draw(self, look: str | None, *, possible: bool) -> None:
        """Show which one it is."""
        for key, button in self.buttons.items():
            button.setEnabled(possible)
            with QSignalBlocker(button):
                button.setChecked(key == look)


class ExtentRow(QWidget):  # type: ignore[misc, unused-ignore]
    """Whole case or last patch, and a newer patch.

    Attributes
    ----------
    buttons
        What is looked at -> its button.
    newer
        Has the next training step keep its patch.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        tips: dict[Extent, str] = {
            "case": "The watched case, predicted whole, in evaluation mode",
            "patch": "The patch that the loss last trained on, with the logits of that step: the pull that the "
            "network felt",
        }
        self.buttons = {extent: QRadioButton(title) for extent, title in EXTENTS.items()}
        self.newer = QPushButton("Newer patch")
        self.newer.setToolTip("Look at the patch of the next training step")
        self.newer.clicked.connect(lambda _=False: display.issue("choose_extent", "patch"))
        self._group = QButtonGroup(self)
        self._tips = tips
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for extent, button in self.buttons.items():
            self._group.addButton(button)
            layout.addWidget(button)
            button.clicked.connect(lambda _=False, found=extent: display.issue("choose_extent", found))
        layout.addWidget(self.newer)
        layout.addStretch(1)

    def draw(self, screen: Screen) -> None:
        """Show which one it is, and why there is no patch."""
        shown = screen.displayed.extent
        for extent, button in self.buttons.items():
            able = screen.scene is not None if extent == "case" else screen.last_patch.enabled
            button.setEnabled(able)
            button.setToolTip(self._tips[extent] if able else screen.last_patch.why)
            with QSignalBlocker(button):
                button.setChecked(extent == shown)
        self.newer.setVisible(shown == "patch")
        self.newer.setEnabled(screen.patch is not None and screen.patch_request is None)


class ScaleBar(QWidget):  # type: ignore[misc, unused-ignore]
    """The colours of the map with their numbers, and what the ends mean."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = QLabel(), QLabel()
        self.numbers = [QLabel() for _ in pull_ticks(1.0)]
        bar = QLabel()
        bar.setFixedHeight(10)
        table = colours.pull(21)
        stops = (
            f"stop:{place / 20:.2f} rgba({','.join(str(round(255 * float(c))) for c in colour)})"
            for place, colour in enumerate(table)
        )
        bar.setStyleSheet(f"background: qlineargradient(x1:0, x2:1, {', '.join(stops)});")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(1)
        # two columns per number, so that those between the ends are centred where their colours are
        columns = 2 * len(self.numbers) - 2
        layout.addWidget(bar, 0, 0, 1, columns)
        layout.addWidget(self.numbers[0], 1, 0)
        layout.addWidget(self.numbers[-1], 1, columns - 1, alignment=Qt.AlignmentFlag.AlignRight)
        for place, number in enumerate(self.numbers[1:-1]):
            layout.addWidget(number, 1, 2 * place + 1, 1, 2, alignment=Qt.AlignmentFlag.AlignHCenter)
        for column in range(columns):
            layout.setColumnStretch(column, 1)
        layout.addWidget(self.low, 2, 0, 1, columns // 2)
        layout.addWidget(self.high, 2, columns // 2, 1, columns // 2, alignment=Qt.AlignmentFlag.AlignRight)

    def draw(self, look: Any, found: Answer | None) -> None:
        """Say what the two ends are."""
        self.setVisible(look is not None and found is not None and found.picture is not None)
        if look is not None and found is not None:
            low, high = ENDS[look]
            name = f" {found.class_name}" if look in ("asked", "got") else ""
            unit = ", ml" if look == "paid" else ""
            self.low.setText(f"{low}{name}{unit}")
            self.high.setText(f"{high}{name}{unit}")
            for label, text in zip(self.numbers, pull_ticks(found.limit), strict=True):
                label.setText(text)


class PaidBox(QWidget):  # type: ignore[misc, unused-ignore]
    """Since which prediction, and which regions improved most and paid most; a click on one goes there.

    Attributes
    ----------
    since
        The earlier prediction.
    rows
        A button per region, the most improved first.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.since = QComboBox()
        self.since.setAccessibleName("Compared with step")
        self.since.setToolTip("The earlier prediction of this case that the displayed one is compared with")
        self.since.currentIndexChanged.connect(lambda _: display.issue("ask_since", self.since.currentData()))
        self.rows: list[QPushButton] = []
        self._shown: Any = None
        self._place = QVBoxLayout()
        self._place.setSpacing(2)
        row = QHBoxLayout()
        row.addWidget(QLabel("Since step"))
        row.addWidget(self.since, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(self._place)

    def draw(self, look: str | None, found: Answer | None) -> None:
        """Show the regions of an answer; nothing while something else is looked at."""
        self.setVisible(look == "paid")
        if look != "paid" or found is None:
            return
        steps = [(self.since.itemText(i), self.since.itemData(i)) for i in range(self.since.count())]
        wanted = [(str(step), step) for step in found.steps]
        with QSignalBlocker(self.since):
            if steps != wanted:
                self.since.clear()
                for text, step in wanted:
                    self.since.addItem(text, step)
            self.since.setCurrentIndex(self.since.findData(found.since))
        self.since.setEnabled(len(wanted) > 1)
        if found.changes == self._shown:
            return
        self._shown = found.changes
        for button in self.rows:
            self._place.removeWidget(button)
            button.deleteLater()
        self.rows = [self._row(change) for change in found.changes]

    def _row(self, change: RegionChange) -> QPushButton:
        button = QPushButton(change_text(change))
        button.setToolTip("Go to the middle of this region")
        # reads as a line of a table, and is left by Tab
        button.setStyleSheet("text-align: left; padding: 2px 6px;")
        button.clicked.connect(lambda _=False: self._display.go_to_world(change.world))
        self._place.addWidget(button)
        return button


def change_text(change: RegionChange) -> str:
    """Return a region and what became of its errors in one line."""
    verb = "fewer" if change.change_ml < 0 else "more"
    parts = ", ".join(
        f"{name} {value:+.2g}" for name, value in (("extra", change.extra_ml), ("missed", change.missed_ml))
    )
    return f"{abs(change.change_ml):.2g} ml {verb} ({parts})"


class SharesTable(QWidget):  # type: ignore[misc, unused-ignore]
    """Where the pull of one or two losses is: inside the true structure, at its boundary, elsewhere."""

    HEADINGS = ("Share of the pull", "inside", "boundary", "elsewhere")

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        self.labels: list[list[QLabel]] = []
        for column, text in enumerate(self.HEADINGS):
            label = widgets.guidance(text)
            label.setWordWrap(column == 0)
            self._grid.addWidget(label, 0, column, alignment=_side(column))

    def draw(self, rows: tuple[ShareRow, ...]) -> None:
        """Show the rows; nothing where there are none."""
        self.setVisible(bool(rows))
        while len(self.labels) < len(rows):
            number = len(self.labels) + 1
            made = [QLabel() for _ in self.HEADINGS]
            made[0].setWordWrap(True)
            for column, label in enumerate(made):
                self._grid.addWidget(label, number, column, alignment=_side(column))
            self.labels.append(made)
        for number, made in enumerate(self.labels):
            shown = number < len(rows)
            for label in made:
                label.setVisible(shown)
            if shown:
                row = rows[number]
                for label, text in zip(made, row.texts, strict=True):
                    label.setText(text)


def _side(column: int) -> Any:
    return Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag(0)


class DecisionBox(QWidget):  # type: ignore[misc, unused-ignore]
    """What if the class were predicted more readily: a bias on its logit moves the picture at once.

    Attributes
    ----------
    slider
        The bias, in hundredths.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.message = widgets.guidance()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(round(-REACH * _STEPS), round(REACH * _STEPS))
        self.slider.setSingleStep(10)
        self.slider.setPageStep(100)
        self.slider.setAccessibleName("Bias of the class")
        self.slider.setToolTip(
            "To the right more voxels become this class, to the left fewer; 0 is the prediction"
        )
        self.value = QLabel()
        self.value.setMinimumWidth(44)
        self.value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Back to the prediction as the network made it")
        self.counts = widgets.guidance()
        self.plot = pg.PlotWidget(antialias=True)
        self.plot.setMinimumHeight(130)
        self.plot.setMaximumHeight(170)
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(False, False)
        self.plot.hideButtons()
        self.curve = pg.PlotDataItem()
        self.here = pg.ScatterPlotItem(size=9)
        self.start = pg.ScatterPlotItem(size=9, symbol="o")
        for item in (self.curve, self.start, self.here):
            self.plot.addItem(item)
        self.picker = QComboBox()
        self.picker.addItem("Dice against bias", "dice")
        self.picker.addItem("Precision against sensitivity", "pr")
        self.picker.currentIndexChanged.connect(lambda _: self._draw_curve())
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.value)
        row.addWidget(self.reset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.message)
        layout.addLayout(row)
        layout.addWidget(self.counts)
        layout.addWidget(self.picker)
        layout.addWidget(self.plot)
        self._shown: DecisionShown | None = None
        self.slider.valueChanged.connect(self._on_value)
        self.slider.sliderReleased.connect(self._on_released)
        self.reset.clicked.connect(lambda _=False: display.issue("move_bias", 0.0))

    def _on_value(self, value: int) -> None:
        self._display.issue("move_bias", value / _STEPS, self.slider.isSliderDown())

    def _on_released(self) -> None:
        self._display.issue("move_bias", self.slider.value() / _STEPS)

    def set_ink(self, ink: str, background: str) -> None:
        """Draw in the colours of the theme."""
        self.plot.setBackground(background)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).setPen(ink)
            self.plot.getAxis(side).setTextPen(ink)
        self.curve.setPen(pg.mkPen(ink, width=2))
        self.start.setPen(pg.mkPen(ink, width=2))
        self.start.setBrush(None)
        self.here.setPen(pg.mkPen(ink))
        self.here.setBrush(pg.mkBrush(ink))

    def draw(self, shown: DecisionShown | None, bias: float | None) -> None:
        """Show the bias that is wanted, and the counts of the picture that is drawn."""
        self._shown = shown
        problem = "" if shown is None else shown.problem
        about = (
            ""
            if shown is None or not shown.class_name
            else f"The picture moves now. Add to the logit of {shown.class_name}:"
        )
        widgets.say(self.message, problem or about, widgets.AMBER if problem else widgets.GREY)
        able = shown is not None and shown.now is not None
        for part in (self.slider, self.reset, self.picker):
            part.setEnabled(able)
        self.plot.setVisible(able)
        with QSignalBlocker(self.slider):
            if not self.slider.isSliderDown():
                self.slider.setValue(round((bias or 0.0) * _STEPS))
        self.value.setText(f"{bias or 0.0:+.2f}")
        text = ""
        if shown is not None and shown.now is not None and shown.before is not None:
            text = counts_text(shown.now, shown.before)
            text += f"\n{shown.at_rest}" if shown.at_rest else ""
            if shown.curve is not None:
                at_best = shown.curve.dice[abs(shown.curve.bias - shown.curve.best).argmin()]
                text += (
                    f"\nBest Dice on this case: {at_best:.3f} at {shown.curve.best:+.1f}; found by looking at its "
                    "truth, so flattered."
                )
            if shown.approximate:
                text += "\nApproximate: from probabilities of 8 bits."
        widgets.say(self.counts, text)
        self._draw_curve()

    def _draw_curve(self) -> None:
        shown = self._shown
        if shown is None or shown.curve is None or shown.now is None or shown.before is None:
            self.curve.setData([], [])
            self.here.setData([], [])
            self.start.setData([], [])
            return
        if self.picker.currentData() == "dice":
            self.curve.setData(shown.curve.bias, shown.curve.dice)
            points = (shown.now.bias, shown.now.dice), (0.0, shown.before.dice)
            names = "Bias", "Dice"
            self.plot.setXRange(-REACH, REACH)
        else:
            self.curve.setData(shown.curve.sensitivity, shown.curve.precision)
            points = (
                (shown.now.sensitivity, shown.now.precision),
                (shown.before.sensitivity, shown.before.precision),
            )
            names = "Sensitivity", "Precision"
            self.plot.setXRange(0, 1)
        self.plot.setYRange(0, 1)
        self.plot.setLabel("bottom", names[0])
        self.plot.setLabel("left", names[1])
        for item, point in zip((self.here, self.start), points, strict=True):
            item.setData([point[0]], [point[1]]) if point[1] == point[1] else item.setData([], [])


class LossBox(QWidget):  # type: ignore[misc, unused-ignore]
    """What if another loss, or other parameters, were asked: map and figures follow, the prediction waits."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.form: SpecForm[AskedLoss] = SpecForm(AskedLoss)
        self.waits = widgets.guidance(WAITS)
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Ask the first loss again: that of the run as it was at this step")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.ask)
        self._setting = False
        self.form.changed.connect(lambda _: None if self._setting else self._timer.start(_REST_MS))
        self.reset.clicked.connect(lambda _=False: self._reset())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.waits)
        layout.addWidget(self.form.native)
        layout.addWidget(self.reset)

    def ask(self) -> None:
        """Ask the loss that the form shows, once it is valid."""
        self._timer.stop()
        try:
            spec = self.form.value.loss
        except SegExplorerError:
            return  # the form says it beside the field
        self._display.issue("ask_loss", None if spec == _own_loss(self._display.screen) else spec)

    def _reset(self) -> None:
        self._timer.stop()
        self._display.issue("ask_loss", None)

    def draw(self, screen: Screen) -> None:
        """Show the loss that is asked; what is being typed stays."""
        wanted = screen.displayed.question.loss or _own_loss(screen)
        self.form.native.setVisible(wanted is not None)
        widgets.say(self.waits, WAITS if wanted is not None else CHOOSE_LOOK_FIRST)
        self.reset.setEnabled(screen.displayed.question.loss is not None)
        if wanted is None or self._timer.isActive() or wanted == self._value():
            return
        self._setting = True
        try:
            self.form.set(AskedLoss(loss=wanted))
        finally:
            self._setting = False

    def _value(self) -> LossSpec | None:
        try:
            return self.form.value.loss
        except SegExplorerError:
            return None

    def closing(self) -> None:
        """Ask nothing any more."""
        self._timer.stop()


def _overlap(screen: Screen) -> bool:
    """Whether the classes of what is seen overlap, so that each has a sigmoid of its own."""
    return screen.seen is not None and screen.seen.snapshot.scheme.overlapping


def _own_loss(screen: Screen) -> LossSpec | None:
    """Return the loss that is asked unless another one is chosen; None before anything was answered."""
    found = screen.answer
    return None if found is None or found.explanation is None else found.explanation.loss


class DoctorBox(QWidget):  # type: ignore[misc, unused-ignore]
    """What the loss doctor says of the run: plain sentences, each with a way to its place."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.button = QPushButton("Examine this run")
        self.button.setToolTip(
            "Looks for collapsed classes, silent terms, exploding gradients, plateaus and more"
        )
        self.button.clicked.connect(lambda _=False: display.examine())
        self.note = widgets.guidance()
        self.rows: list[tuple[QLabel, QLabel, QPushButton]] = []
        self._place = QVBoxLayout()
        self._shown: Diagnosis | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addLayout(self._place)
        layout.addWidget(self.note)

    def draw(self, screen: Screen) -> None:
        """Show the findings of the run that is displayed; none of another."""
        run = screen.displayed.source in ("live", "recorded")
        self.button.setEnabled(run)
        self.button.setToolTip("" if run else "Open or start a run first")
        widgets.say(self.note, screen.diagnosis_note)
        if screen.diagnosis is self._shown:
            return
        self._shown = screen.diagnosis
        for parts in self.rows:
            for part in parts:
                self._place.removeWidget(part)
                part.deleteLater()
        self.rows = [self._row(one) for one in (self._shown.findings if self._shown is not None else ())]

    def _row(self, finding: Finding) -> tuple[QLabel, QLabel, QPushButton]:
        sentence, remedy = widgets.guidance(), widgets.guidance()
        widgets.say(
            sentence, finding.sentence, widgets.RED if finding.severity == "problem" else widgets.AMBER
        )
        widgets.say(remedy, finding.remedy)
        at = f"step {finding.step}" if finding.step is not None else "its place"
        show = QPushButton(f"Show {at}")
        show.setAccessibleName(f"Show {at}: {finding.sentence}")
        show.setEnabled(finding.step is not None or finding.place.world is not None)
        show.clicked.connect(lambda _=False: self._display.show_finding(finding))
        for part in (sentence, remedy, show):
            self._place.addWidget(part)
        return sentence, remedy, show


class WhyPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Asked, got, why and what-if of the case in the viewer.

    Parameters
    ----------
    display
        What the window displays.
    output_folder
        Returns the folder in which races make theirs.
    """

    def __init__(self, display: Display, output_folder: Callable[[], Path] = Path.cwd) -> None:
        super().__init__()
        self.display = display
        self._build(output_folder)
        display.changed.connect(self._on_changed)
        display.viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self._draw(display.screen)

    def _build(self, output_folder: Callable[[], Path]) -> None:
        self.about = widgets.guidance("", widgets.AMBER)
        self.race = RaceCard(self.display)
        self.note = widgets.guidance()
        self.extent = ExtentRow(self.display)
        self.patch_note = widgets.guidance()
        self.look = LookRow(self.display)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        room = self.progress.sizePolicy()
        room.setRetainSizeWhenHidden(True)  # what is below it would jump with every move of a slider
        self.progress.setSizePolicy(room)
        self.progress.setAccessibleName("How much of the map is computed")
        self.scale = ScaleBar()
        self.shares = SharesTable()
        self.paid = PaidBox(self.display)
        self.finding = widgets.guidance()
        self.term = widgets.ElidedComboBox("Term of the loss")
        self.term.setToolTip("The whole loss, or one of its terms with its weight")
        self.term.currentIndexChanged.connect(lambda _: self._ask("ask_term", self.term.currentData() or ""))
        self.before_softmax = QCheckBox("Before softmax")
        self.before_softmax.toggled.connect(
            lambda on: self._ask("ask_space", "probabilities" if on else "logits")
        )
        self._offered = {key: found.spec for key, found in catalogue.choices(losses).items()}
        self.against = LongPicker(losses, "Compared with")
        self.against.changed.connect(self._on_against)
        self.sentence = widgets.guidance()
        self.sentence.setMinimumHeight(48)
        self.sentence.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.ask_here = QPushButton("Ask at the crosshair")
        self.ask_here.setToolTip("Why at the point where the three planes meet")
        self.ask_here.clicked.connect(lambda _=False: self._ask_here())
        self.decision = DecisionBox(self.display)
        self.loss = LossBox(self.display)
        self.doctor = DoctorBox(self.display)
        self.doctor_section = widgets.section("Loss doctor", self.doctor, key="why/doctor")
        self.decision_section = Section(
            "What if: the decision",
            self.decision,
            opened=False,
            bold=True,
            indent=0,
            tooltip="A bias on one class moves the threshold of the decision; nothing is trained",
        )
        self.loss_section = Section(
            "What if: the loss",
            self.loss,
            opened=False,
            bold=True,
            indent=0,
            tooltip="Other parameters, or another loss: what would it ask for on this prediction?",
        )
        self.own_layers = OwnLayersBox(self.display)
        self.own_layers_section = Section(
            "Explain layers of your own",
            self.own_layers,
            opened=False,
            bold=True,
            indent=0,
            tooltip="Any label with probabilities, whoever predicted them",
        )
        self.race_offer = RaceOfferBox(self.display, output_folder)
        self.race_section = Section(
            "Train from here: A against B",
            self.race_offer,
            opened=False,
            bold=True,
            indent=0,
            tooltip="Some steps of training under the other loss, beside the run's own and a control",
        )
        self.race_section.button.clicked.connect(
            lambda _=False: self.race_offer.ask(self.race_section.is_open)
        )
        self.decision_section.button.clicked.connect(
            lambda _=False: self._ask("look_at_decision", self.decision_section.is_open)
        )
        self.compared = QWidget()
        row = QHBoxLayout(self.compared)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("against"))
        row.addWidget(self.against.widget.native, 1)
        self.of_loss = widgets.row(self.term, self.before_softmax)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self.about,
                self.race,
                widgets.heading("What the loss asks, and what training did"),
                self.extent,
                self.patch_note,
                self.look,
                self.note,
                self.progress,
                self.scale,
                self.of_loss,
                self.compared,
                self.shares,
                self.finding,
                self.paid,
                widgets.heading("Why this voxel"),
                self.sentence,
                self.ask_here,
                self.decision_section,
                self.loss_section,
                self.race_section,
                self.doctor_section,
                self.own_layers_section,
            )
        )

    def _ask(self, command: str, *arguments: Any) -> None:
        self.display.issue(command, *arguments)

    def _on_against(self, key: str) -> None:
        self._ask("ask_against", self._offered[key])

    def _ask_here(self) -> None:
        point = tuple(float(v) for v in self.display.viewer.dims.point)
        if len(point) == 3:
            self._ask("ask_at", point)

    # -- drawing ------------------------------------------------------------------------------------------

    def _on_theme(self, _: Any = None) -> None:
        dark = theme.is_dark(self.display.viewer)
        self.decision.set_ink("#e6e6e6" if dark else "#303030", "#262930" if dark else "#ffffff")

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if not parts.isdisjoint(_DRAWN):
            self._draw(screen)

    def _draw(self, screen: Screen) -> None:
        question, found = screen.displayed.question, screen.answer
        possible = screen.scene is not None
        about = screen.badge
        if screen.seen is not None:
            name = found.class_name if found is not None else ""
            step = "whole case" if screen.cursor is None else f"step {screen.cursor}; whole case"
            of = step if screen.patch is None else screen.patch.scope
            about += f"{f'; {name}' if name else ''}; {of}"
        widgets.say(
            self.about,
            about
            or "Open or start a run first, or choose layers of your own below: this tab explains the prediction "
            "that is displayed.",
            widgets.AMBER if possible else widgets.GREY,
        )
        self.extent.draw(screen)
        widgets.say(self.patch_note, screen.patch_note)
        self.look.draw(question.look, possible=possible)
        failed = found is not None and bool(found.problem)
        widgets.say(self.note, screen.answer_note, widgets.RED if failed else widgets.GREY)
        self._draw_progress(screen)
        self.scale.draw(question.look, found)
        self._draw_choices(screen)
        # which regions paid is recorded, and penalties are of regions: neither has terms or a softmax
        for part in (self.of_loss, self.compared):
            part.setVisible(question.look not in ("paid", "penalties"))
        self.paid.draw(question.look, found)
        self.shares.draw(() if found is None or question.look is None else found.shares)
        widgets.say(self.finding, "" if found is None or question.look is None else found.finding)
        said = found.sentence if found is not None and question.place is not None else ""
        hint = CLICK_HINT if question.look is not None else CHOOSE_LOOK
        if question.place is not None and screen.why_request is not None:
            hint = SENTENCE_FOLLOWS
        widgets.say(self.sentence, said or (hint if possible else ""))
        self.ask_here.setEnabled(possible)
        if screen.displayed.bias is not None and not self.decision_section.is_open:
            self.decision_section.open()
        self.decision.draw(screen.decision, screen.displayed.bias)
        self.loss.draw(screen)
        self.race.draw(screen)
        if screen.displayed.race_steps is not None and not self.race_section.is_open:
            self.race_section.open()
        self.race_section.setVisible(screen.race is None)
        self.race_offer.draw(screen)
        self.doctor.draw(screen)

    def _draw_progress(self, screen: Screen) -> None:
        """Show that an answer is under way, and how far it is where that is known."""
        found = screen.answer
        self.progress.setVisible(screen.why_request is not None)
        known = found is not None and found.partial and not found.all_at_once
        self.progress.setRange(0, 100 if known else 0)
        if known:
            assert found is not None
            self.progress.setValue(round(100 * found.done))

    def _draw_choices(self, screen: Screen) -> None:
        question, found = screen.displayed.question, screen.answer
        terms = () if found is None else found.terms
        items = [("All terms", ""), *((term.replace("_", " ").capitalize(), term) for term in terms)]
        known = [(self.term.itemText(i), self.term.itemData(i)) for i in range(self.term.count())]
        with QSignalBlocker(self.term):
            if known != items:
                self.term.clear()
                for title, key in items:
                    self.term.addItem(title, key)
            self.term.setCurrentIndex(max(0, self.term.findData(question.term)))
        self.term.setEnabled(bool(terms))
        self.term.setToolTip("" if terms else "This loss is no sum of terms")
        with QSignalBlocker(self.before_softmax):
            self.before_softmax.setChecked(question.space == "probabilities")
        function = "sigmoid" if _overlap(screen) else "softmax"
        self.before_softmax.setText(f"Before {function}")
        self.before_softmax.setToolTip(
            f"What the formula itself asks of the probabilities. After {function} (off) is what reaches the "
            "network: there, voxels that are confidently wrong fade."
        )
        other = question.other
        fitting = [key for key, spec in self._offered.items() if spec == other]
        key = next((key for key in fitting if key.startswith("kind:")), next(iter(fitting), ""))
        if key and key != self.against.value:
            self.against.show(key)

    def closing(self) -> None:
        """Draw nothing any more."""
        self.display.changed.disconnect(self._on_changed)
        self.display.viewer.events.theme.disconnect(self._on_theme)
        self.loss.closing()
        self.race.closing()
        self.own_layers.closing()


@registry.register
class WhyTab(PanelSpec):
    """The tab Why."""

    display_name: ClassVar[str] = "Why"
    position: ClassVar[float] = 50
    kind: Literal["why"] = "why"

    def build(self, context: PanelContext) -> WhyPanel:
        """Return the tab's widget."""
        return WhyPanel(context.display, lambda: Path(context.panel("run").folder))
