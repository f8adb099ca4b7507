"""The list of pieces of error, and flying to them by click or key."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QListWidget, QVBoxLayout, QWidget

from segexplorer.faces.napari.panels import parts
from segexplorer.viewmodels.errors import ErrorPiece

_SOME = "Pieces of error, the largest first; click one, or press N or P, to go there."
_KEYS = {"n": 1, "p": -1}
"""Keys that fly to the next and the previous piece of error."""


class ErrorList(QWidget):  # type: ignore[misc, unused-ignore]
    """Lists pieces of error and moves the viewer to them.

    Parameters
    ----------
    viewer
        The viewer that flies.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self._pieces: tuple[ErrorPiece, ...] = ()
        self.note = parts.guidance(_SOME)
        self.rows = QListWidget()
        self.rows.setMinimumHeight(120)
        self.rows.itemClicked.connect(lambda _: self.fly(self.rows.currentRow()))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addWidget(self.rows)
        for key, way in _KEYS.items():
            viewer.bind_key(key, lambda _, w=way: self.fly_on(w), overwrite=True)

    def show_pieces(self, pieces: tuple[ErrorPiece, ...], *, labelled: bool) -> None:
        """List pieces; where there are none, say why."""
        chosen = self.rows.currentRow()
        self._pieces = pieces
        self.rows.clear()
        self.rows.addItems([piece.sentence for piece in pieces])
        if 0 <= chosen < len(pieces):
            self.rows.setCurrentRow(chosen)
        none = "No error of 0.05 ml or more." if labelled else "This case has no label."
        parts.say(self.note, _SOME if pieces else none)

    def fly(self, row: int) -> None:
        """Move the viewer to a piece of error."""
        if not 0 <= row < len(self._pieces):
            return
        z_y_x = self._pieces[row].world[::-1]
        for axis, position in enumerate(z_y_x, start=self.viewer.dims.ndim - 3):
            self.viewer.dims.set_point(axis, position)
        self.viewer.scene.camera.center = z_y_x

    def fly_on(self, way: int) -> None:
        """Fly to the next (1) or previous (-1) piece of error in the list."""
        count = self.rows.count()
        if count == 0:
            return
        chosen = self.rows.currentRow()
        row = (0 if way > 0 else count - 1) if chosen < 0 else (chosen + way) % count
        self.rows.setCurrentRow(row)
        self.fly(row)

    def closing(self) -> None:
        """Give the keys back."""
        for key in _KEYS:
            self.viewer.bind_key(key, None, overwrite=True)
