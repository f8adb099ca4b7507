"""The slider through the predictions of a watched case, from the first to the newest."""

from __future__ import annotations

from collections.abc import Sequence

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QSlider, QWidget

from segexplorer.training.history import Frame


class HistoryRow(QWidget):  # type: ignore[misc, unused-ignore]
    """Chooses a frame; at its right end it follows the run.

    Attributes
    ----------
    moved
        psygnal signal: another frame is to be shown, or the newest again.
    """

    moved = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._frames: tuple[Frame, ...] = ()
        self._follows = True
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setPageStep(1)
        self.slider.setToolTip("Earlier predictions of this case; drag the line in the plots to the same end")
        self.slider.valueChanged.connect(self._on_value)
        self.newest = QPushButton("Newest")
        self.newest.setToolTip("Follow the run again")
        self.newest.clicked.connect(lambda _=False: self.follow())
        self.text = QLabel()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.text, 0, 0, 1, 2)
        layout.addWidget(self.slider, 1, 0)
        layout.addWidget(self.newest, 1, 1)
        layout.setColumnStretch(0, 1)
        self.setVisible(False)

    @property
    def follows(self) -> bool:
        """Whether the newest prediction is shown, and the next one when it comes."""
        return self._follows

    @property
    def frame(self) -> Frame | None:
        """The frame under the slider; None while there is none."""
        return self._frames[self.slider.value()] if self._frames else None

    @property
    def steps(self) -> tuple[int, ...]:
        """Optimiser steps of the frames."""
        return tuple(frame.step for frame in self._frames)

    def set_frames(self, frames: Sequence[Frame]) -> None:
        """Offer these frames; the one shown stays, unless the newest is followed."""
        shown = self.frame
        self._frames = tuple(frames)
        steps = self.steps
        last = max(0, len(frames) - 1)
        if shown is not None and not self._follows and shown.step in steps:
            place = steps.index(shown.step)
        else:
            self._follows, place = True, last
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, last)
            self.slider.setValue(place)
        self.setVisible(len(frames) > 1)
        self._tell()

    def go_to(self, step: float) -> None:
        """Show the frame nearest to a step."""
        if self._frames:
            self.slider.setValue(min(range(len(self.steps)), key=lambda i: abs(self.steps[i] - step)))

    def follow(self) -> None:
        """Show the newest prediction, and the next one when it comes."""
        self._follows = True
        with QSignalBlocker(self.slider):
            self.slider.setValue(self.slider.maximum())
        self._tell()
        self.moved.emit()

    def _on_value(self, value: int) -> None:
        self._follows = value == self.slider.maximum()
        self._tell()
        self.moved.emit()

    def _tell(self) -> None:
        frame = self.frame
        if frame is None:
            return
        place = f"Prediction {self.slider.value() + 1} of {len(self._frames)}, step {frame.step}"
        self.text.setText(f"{place} (newest)" if self._follows else place)
        self.newest.setEnabled(not self._follows)
