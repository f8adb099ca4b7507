"""A race in the tab Why: what it would cost, the button that begins it, and the card of the one that is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import QProgressBar, QPushButton, QSpinBox, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.legend import Legend
from segexplorer.frontends.napari.panels import widgets
from segexplorer.study.race import DEFAULT_STEPS
from segexplorer.viewmodels.screen import Screen

ABOUT = (
    "Lanes leave this step with the same weights. A goes on as the run did; B sees the same batches under the loss "
    "chosen above; the control is A with other batches, so that it shows what chance alone changes."
)
PLAY_MS = 700
"""How long a frame stays while the race is played, once its picture is there."""


class RaceOfferBox(QWidget):  # type: ignore[misc, unused-ignore]
    """How far the lanes train, what that costs, and the button that begins the race.

    Parameters
    ----------
    display
        What the window displays.
    parent_folder
        Returns the folder in which the race makes its own.

    Attributes
    ----------
    steps, begin
        How far each lane trains, and the button.
    cost, why_not
        What is said before anything is trained, and why it cannot begin.
    """

    def __init__(self, display: Display, parent_folder: Callable[[], Path]) -> None:
        super().__init__()
        self._display, self._parent_folder = display, parent_folder
        self.steps = QSpinBox()
        self.steps.setRange(1, 100_000)
        self.steps.setValue(DEFAULT_STEPS)
        self.steps.setSuffix(" steps")
        self.steps.setAccessibleName("Steps of each lane")
        self.begin = QPushButton()
        self.begin.setAccessibleName("Begin the race")
        self.cost = widgets.guidance()
        self.why_not = widgets.guidance("", widgets.AMBER)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(widgets.guidance(ABOUT))
        layout.addWidget(widgets.row(self.steps, self.begin))
        layout.addWidget(self.cost)
        layout.addWidget(self.why_not)
        self._refused = ""
        self.steps.valueChanged.connect(lambda steps: self._ask(steps))
        self.begin.clicked.connect(lambda _=False: self._begin())

    def ask(self, asks: bool) -> None:
        """Begin or end to ask what a race from here would cost."""
        self._display.issue("look_at_race", self.steps.value() if asks else None)

    def _ask(self, steps: int) -> None:
        self._refused = ""
        self._display.issue("look_at_race", steps)

    def _begin(self) -> None:
        try:
            self._display.races.begin(self._parent_folder())
            self._refused = ""
        except SegExplorerError as error:
            self._refused = str(error)
        self.draw(self._display.screen)

    def draw(self, screen: Screen) -> None:
        """Show what is offered."""
        wanted = screen.displayed.race_steps
        if wanted is not None and wanted != self.steps.value():
            with QSignalBlocker(self.steps):
                self.steps.setValue(wanted)
        control = screen.controls["race"]
        self.begin.setText(f"{self.steps.value()} steps from here: A, B, control")
        widgets.enable(self.begin, control.enabled, "Trains in the background; can be stopped", control.why)
        offer = screen.offer
        widgets.say(self.cost, "" if offer is None else "\n".join(offer.sentences))
        widgets.say(self.why_not, self._refused or ("" if control.enabled else control.why), widgets.AMBER)


class RaceCard(QWidget):  # type: ignore[misc, unused-ignore]
    """What the race that is displayed, or trained, says: sentences, legend, and what can be done with it.

    Attributes
    ----------
    head, sentences, words
        Where the lanes begin, what is said of them at the displayed step, and what is being trained.
    legend, bar
        The colours, and how much is trained.
    play, stop, go_on, show_race, leave
        The buttons.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.head = widgets.guidance()
        self.head.setStyleSheet("font-weight: bold;")
        self.words = widgets.guidance()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.sentences = widgets.guidance()
        self.legend = Legend()

        def button(text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(lambda _=False: self._obey(slot))
            return made

        races = display.races
        self.play = button("Play", "Show one recorded step after the other, in all lanes", self._play)
        self.stop = button("Stop the race", "Every lane ends after its step and is saved", races.stop)
        self.go_on = button("Go on", "Train the lanes that are not at their end", self._go_on)
        self.show_race = button("Show the race", "Look at its lanes", self._show)
        self.leave = button("Back to the run", "Look at the run again", lambda: display.issue("leave_race"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.head, self.words, self.bar, self.sentences, self.legend):
            layout.addWidget(widget)
        layout.addWidget(widgets.row(self.play, self.leave, self.show_race))
        layout.addWidget(widgets.row(self.stop, self.go_on))
        self._timer = QTimer(self)
        self._timer.setInterval(PLAY_MS)
        self._timer.timeout.connect(self._next)

    def _obey(self, slot: Callable[[], None]) -> None:
        try:
            slot()
        except SegExplorerError as error:
            widgets.say(self.words, str(error), widgets.RED)

    def _play(self) -> None:
        if self._timer.isActive():
            self._timer.stop()
        else:
            history = self._display.screen.history
            if history is not None and history.place == len(history.steps) - 1:
                self._display.issue("scrub", float(history.steps[0]))
            self._timer.start()
        self.draw(self._display.screen)

    def _next(self) -> None:
        screen = self._display.screen
        history = screen.history
        if screen.race is None or history is None or history.place == len(history.steps) - 1:
            self._timer.stop()
            self.draw(screen)
        elif screen.request is None:  # not before the picture of this step is there
            self._display.issue("move_in_history", 1)

    def _go_on(self) -> None:
        race = self._display.screen.race
        if race is not None:
            self._display.races.go_on(Path(race.key))

    def _show(self) -> None:
        racing = self._display.reality.racing
        if racing is not None:
            self._display.races.open(Path(racing.key))

    def draw(self, screen: Screen) -> None:
        """Show the race that is displayed; of one that is only trained, what it does."""
        race, racing, controls = screen.race, screen.racing, screen.controls
        self.setVisible(race is not None or bool(screen.racing_words))
        widgets.say(self.head, "" if race is None else race.head)
        failed = racing is not None and racing.failed
        widgets.say(self.words, screen.racing_words, widgets.RED if failed else widgets.GREY)
        self.bar.setVisible(racing is not None and racing.running)
        if racing is not None:
            self.bar.setValue(round(1000 * racing.share))
        widgets.say(self.sentences, "" if race is None else "\n".join(race.sentences))
        self.legend.draw(() if race is None else race.legend)
        several = screen.history is not None and len(screen.history.steps) > 1
        self.play.setVisible(race is not None and several)
        self.play.setText("Hold" if self._timer.isActive() else "Play")
        shown: dict[Any, str] = {
            self.stop: "stop_race",
            self.go_on: "go_on_race",
            self.show_race: "show_race",
            self.leave: "leave_race",
        }
        for button, command in shown.items():
            button.setVisible(controls[command].enabled)

    def closing(self) -> None:
        """Play no longer."""
        self._timer.stop()
