"""The buttons of the Run tab, and when each of them makes sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from qtpy.QtWidgets import QGridLayout, QPushButton, QSpinBox, QWidget

from segexplorer.viewmodels import status


class Commands(Protocol):
    """What the buttons do; `obeyed` calls one of the others and turns refusals into a sentence."""

    def obeyed(self, slot: Callable[[], None]) -> None: ...
    def start(self) -> None: ...
    def choose_run(self) -> None: ...
    def pause_or_resume(self) -> None: ...
    def step(self) -> None: ...
    def stop(self) -> None: ...
    def predict_now(self) -> None: ...
    def extend(self) -> None: ...


class RunButtons(QWidget):  # type: ignore[misc, unused-ignore]
    """Start, open, hold, step, stop, predict and extend."""

    def __init__(self, commands: Commands) -> None:
        super().__init__()

        def button(text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(lambda _=False: commands.obeyed(slot))
            return made

        self.start = button("Start", "Begin a new run in a new folder", commands.start)
        self.pause = button("Pause", "Hold before the next step", commands.pause_or_resume)
        self.step = button("Step", "One training step, then predict the slice shown", commands.step)
        self.stop = button("Stop", "Finish this step, save, and end", commands.stop)
        self.predict = button("Predict now", "Predict the watched cases now", commands.predict_now)
        self.open = button(
            "Open run…", "Show a run that was made earlier, and go on with it", commands.choose_run
        )
        self.extend = button("Extend", "Train longer, at the schedule's floor", commands.extend)
        self.epochs = QSpinBox()
        self.epochs.setRange(1, 10_000)
        self.epochs.setValue(10)
        self.epochs.setSuffix(" epochs")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        rows = (
            (self.start, self.pause, self.step),
            (self.stop, self.predict, self.open),
        )
        for row, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                layout.addWidget(widget, row, column)
                layout.setColumnStretch(column, 1)
        layout.addWidget(self.extend, 2, 0)
        layout.addWidget(self.epochs, 2, 1, 1, 2)

    def follow(self, run: Any, *, busy: bool, making: bool, ready: bool) -> None:
        """Enable what makes sense now.

        Parameters
        ----------
        run
            The current run or None.
        busy
            Whether it is being iterated, or the next one is being made.
        making
            Whether a run is being made or opened.
        ready
            Whether the tabs hold an experiment that can be run.
        """
        can = status.buttons(run.accepts if run is not None else None)
        goes_on = run is not None and not busy and run.accepts("start")
        self.start.setEnabled(ready and not busy)
        self.open.setEnabled(not busy)
        self.pause.setEnabled(goes_on or (busy and can.pause))
        self.pause.setText("Go on" if goes_on else can.pause_label)
        self.step.setEnabled(busy and can.step)
        self.stop.setEnabled(busy and can.stop)
        self.predict.setEnabled(busy and run is not None and run.accepts("predict_now"))
        self.extend.setEnabled(can.extend and not making)
        self.epochs.setEnabled(self.extend.isEnabled())
