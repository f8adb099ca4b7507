"""Where the chosen image lies, how far its label lies apart from it, and the one button that mends that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.data.geometry import GridVerdict
from segexplorer.data.verdict import apart, describe
from segexplorer.data.volume import Volume
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.layer_volumes import volume_from_layer
from segexplorer.faces.napari.layers import layer_arguments
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.pairs import names_in
from segexplorer.faces.napari.pictures import Picture, label_picture

BRING = "Bring the label onto the image's grid"


class GeometryNote(QWidget):  # type: ignore[misc, unused-ignore]
    """The verdict on the chosen image and label, in words.

    Parameters
    ----------
    viewer
        Where the resampled label is added.
    frame_of
        Layer -> which of its volumes is meant.

    Attributes
    ----------
    brought
        psygnal signal with the new labels layer, which lies on the image's grid.
    refused
        psygnal signal with the error that says why the label cannot be resampled.
    """

    brought = Signal(object)
    refused = Signal(object)

    def __init__(self, viewer: Any, frame_of: Callable[[Any], int | None]) -> None:
        super().__init__()
        self._viewer, self._frame_of = viewer, frame_of
        self._image: Any = None
        self._label: Any = None
        self.place, self.distance = parts.guidance(), parts.guidance()
        self.bring = QPushButton(BRING)
        self.bring.setToolTip(
            "Adds a new label layer with the image's voxels: each takes the value of the label's nearest voxel."
        )
        self.bring.clicked.connect(self._bring)
        self.bring.hide()
        self.errand = LatestWork(self._add, self._fail, newest_only=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.place, self.distance, self.bring):
            layout.addWidget(widget)

    def tell(self, image: Any | None, label: Any | None) -> None:
        """Describe the chosen layers; one that is no volume is refused when the pair is added, with the reason."""
        self._image, self._label = image, label
        seen, drawn = self._volume(image), self._volume(label)
        parts.say(self.place, "" if seen is None else _place(seen))
        text, touching = "", False
        if seen is not None and drawn is not None:
            grids, remedy = apart(seen, drawn)
            text, touching = _distance(grids, remedy), "do not touch" not in remedy
        parts.say(self.distance, text, parts.AMBER)
        self.bring.setVisible(bool(text) and touching)
        self.bring.setEnabled(not self.errand.busy)

    def _volume(self, layer: Any | None) -> Volume | None:
        if layer is None:
            return None
        try:
            return volume_from_layer(layer, frame=self._frame_of(layer))
        except SegExplorerError:
            return None  # a slice or a colour picture: "Add pair" says so, in words

    def _bring(self) -> None:
        image, label, source = self._volume(self._image), self._volume(self._label), self._label
        if image is None or label is None:
            return
        names, title = names_in(source), f"{source.name} on the image's grid"
        self.bring.setEnabled(False)
        self.errand.send(
            lambda: label_picture(label.resampled(image, order=0), title, names, key="resampled")
        )

    def _add(self, picture: Picture) -> None:
        self._label.visible = False
        self.brought.emit(self._viewer.add_labels(picture.data, **layer_arguments(picture)))

    def _fail(self, error: SegExplorerError) -> None:
        self.bring.setEnabled(True)
        self.refused.emit(error)


def _place(volume: Volume) -> str:
    found = describe(volume)
    size = " × ".join(map(str, found.shape[:3]))
    return " ".join((f"{size} voxels, {found.text}.", *found.assumed))


def _distance(grids: GridVerdict, remedy: str) -> str:
    if grids.same:
        return ""
    far = f"Image and label lie on different grids: {grids.text.rstrip('.')}."
    if "do not touch" in remedy:
        return f"{far} {remedy}"
    return f"{far} {remedy.partition(';')[0].rstrip('.')}." if remedy else far
