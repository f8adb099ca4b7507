"""Choosing an image and a label among the layers of the viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.data.readers import readable_suffixes
from segexplorer.faces.napari.layer_volumes import volume_from_layer
from segexplorer.faces.napari.layers import METADATA
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.geometry_note import GeometryNote
from segexplorer.faces.napari.panels.pairs import CasePair, case_name, names_in

_EMPTY = (
    "Nothing is open yet. Open an image and its label here, drop files on the canvas, or start with the phantom: "
    "a CT-like volume with organs, a small lesion and a thin vessel."
)
_NO_LABEL = "Open or draw a label of this image: training needs both."
_FRAME = "This file holds several volumes; the one shown in the viewer is taken: {name} {index}."


class LayerSource(QWidget):  # type: ignore[misc, unused-ignore]
    """Two combo boxes that follow the viewer's layers, and a button that adds the pair.

    Attributes
    ----------
    added
        psygnal signal with the `CasePair`, without role.
    refused
        psygnal signal with the error that says why a layer cannot be used.
    """

    added = Signal(object)
    refused = Signal(object)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._image, self._label = QComboBox(), QComboBox()
        for box in (self._image, self._label):
            box.setMinimumContentsLength(12)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._hint = parts.guidance()
        self._add, opener, phantom = (
            QPushButton("Add pair"),
            QPushButton("Open"),
            QPushButton("CT phantom"),
        )
        self._add.clicked.connect(self.add)
        menu = QMenu(opener)
        menu.addAction("Files…").triggered.connect(lambda _=False: self._open())
        menu.addAction("DICOM folder…").triggered.connect(lambda _=False: self._open_folder())
        opener.setMenu(menu)
        phantom.clicked.connect(self._open_phantom)
        form = QFormLayout()
        form.addRow("Image", self._image)
        form.addRow("Label", self._label)
        self.geometry = GeometryNote(viewer, lambda layer: frame_shown(viewer, layer))
        self.geometry.brought.connect(self._choose_label)
        self.geometry.refused.connect(self.refused.emit)
        buttons = QHBoxLayout()
        for button in (opener, phantom, self._add):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._hint)
        layout.addLayout(form)
        layout.addWidget(self.geometry)
        layout.addLayout(buttons)
        events = viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.connect(self.refresh)
        viewer.dims.events.point.connect(self._tell)
        for box in (self._image, self._label):
            box.currentIndexChanged.connect(self._on_choice)
        self.refresh()

    def close_source(self) -> None:
        """Let go of the viewer."""
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self.refresh)
        self._viewer.dims.events.point.disconnect(self._tell)
        self.geometry.errand.close()

    def refresh(self, event: Any = None) -> None:
        """Fill the boxes anew, keeping what was chosen."""
        _refill(self._image, [layer for layer in self._viewer.layers if _is_scan(layer)])
        _refill(self._label, [layer for layer in self._viewer.layers if _is_label(layer)])
        self._add.setEnabled(bool(self._image.count() and self._label.count()))
        self._on_choice()

    def _on_choice(self, _: Any = None) -> None:
        self._tell()
        self.geometry.tell(self._chosen(self._image), self._chosen(self._label))

    def _choose_label(self, layer: Any) -> None:
        self._label.setCurrentText(layer.name)

    def _tell(self, _: Any = None) -> None:
        """Say what is missing, or which volume of a file with several is meant."""
        image = self._chosen(self._image)
        if image is None:
            text = _EMPTY
        elif image.ndim == 4:
            text = _FRAME.format(name=image.axis_labels[0], index=frame_shown(self._viewer, image))
        else:
            text = "" if self._label.count() else _NO_LABEL
        parts.say(self._hint, text)

    def add(self) -> None:
        """Add the chosen pair."""
        try:
            self.added.emit(self._pair())
        except SegExplorerError as error:
            self.refused.emit(error)

    def _pair(self) -> CasePair:
        image, label = self._chosen(self._image), self._chosen(self._label)
        if image is None or label is None:
            raise DataError("Image or label is missing.", "Choose one of each.")
        return CasePair(
            case=case_name(image.name, ()),
            image=volume_from_layer(image, frame=frame_shown(self._viewer, image)),
            label=volume_from_layer(label, frame=frame_shown(self._viewer, label)),
            image_path=_file_of(image),
            label_path=_file_of(label),
            names=names_in(label),
        )

    def _chosen(self, box: QComboBox) -> Any | None:
        return next((layer for layer in self._viewer.layers if layer.name == box.currentText()), None)

    def _open(self) -> None:
        known = " ".join(f"*{suffix}" for suffix in readable_suffixes())
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Open image and label", "", f"Volumes ({known});;All files (*)"
        )
        if paths:
            self._viewer.open(paths, plugin="segexplorer")

    def _open_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a folder of DICOM files")
        if folder:
            self._viewer.open(folder, plugin="segexplorer")

    def _open_phantom(self) -> None:
        self._viewer.open_sample("segexplorer", "ct_phantom")


def _refill(box: QComboBox, layers: list[Any]) -> None:
    chosen = box.currentText()
    box.blockSignals(True)
    box.clear()
    box.addItems([layer.name for layer in layers])
    box.setCurrentIndex(max(0, box.findText(chosen)) if layers else -1)
    box.blockSignals(False)


def frame_shown(viewer: Any, layer: Any) -> int | None:
    """Return which volume of a layer with several the viewer shows; None for a layer with one."""
    if layer.ndim != 4 or viewer.dims.ndim != 4:
        return None
    return int(min(max(round(viewer.dims.point[0]), 0), len(layer.data) - 1))


def _is_ours_alone(layer: Any) -> bool:
    """Whether a layer only shows what a run has computed."""
    key = layer.metadata.get(METADATA, {}).get("key", "")
    return key.partition("/")[0] in {"prediction", "errors", "balance", "patch", "truth"}


def _is_scan(layer: Any) -> bool:
    return type(layer).__name__ == "Image" and not _is_ours_alone(layer)


def _is_label(layer: Any) -> bool:
    return type(layer).__name__ == "Labels" and not _is_ours_alone(layer)


def _file_of(layer: Any) -> Path | None:
    remembered = layer.metadata.get(METADATA, {}).get("path") if layer.ndim == 3 else None
    return Path(remembered) if remembered else None
