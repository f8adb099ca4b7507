"""What the Cases tab collects: pairs of layers or files, a data set on disk, and how their grids agree."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
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
from segexplorer.core.events import Role
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.datasets import recognise, recognised_dataset, registry
from segexplorer.data.datasets.base import DatasetSpec, Recognition
from segexplorer.data.formats.registry import readable_suffixes
from segexplorer.data.geometry import GridComparison
from segexplorer.data.grid import aligned, compare_grids, describe
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.splits import Split
from segexplorer.data.volume import Volume
from segexplorer.frontends.forms import SpecForm
from segexplorer.frontends.napari.layers import METADATA, changing_layers, layer_arguments, volume_from_layer
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.layer_images import Examination, Picture, examine, label_picture
from segexplorer.viewmodels.watched_case import SWITCHES

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
        psygnal signal with the new labels layer, which is on the image's grid.
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
        self.place, self.distance = widgets.guidance(), widgets.guidance()
        self.bring = QPushButton(BRING)
        self.bring.setToolTip(
            "Adds a new label layer with the image's voxels: without loss where the label is on the image's "
            "lattice, else each takes the value of the label's nearest voxel."
        )
        self.bring.clicked.connect(self._bring)
        self.bring.hide()
        self.job = LatestWork(self._add, self._fail, newest_only=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.place, self.distance, self.bring):
            layout.addWidget(widget)

    def compare(self, image: Any | None, label: Any | None) -> None:
        """Describe the chosen layers; one that is no volume is refused when the pair is added, with the reason."""
        self._image, self._label = image, label
        seen, drawn = self._volume(image), self._volume(label)
        widgets.say(self.place, "" if seen is None else _place(seen))
        text, touching = "", False
        if seen is not None and drawn is not None:
            grids, remedy = compare_grids(seen, drawn)
            text, touching = _distance(grids, remedy), "do not touch" not in remedy
        widgets.say(self.distance, text, widgets.AMBER)
        self.bring.setVisible(bool(text) and touching)
        self.bring.setEnabled(not self.job.busy)

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
        self.job.send(
            lambda: label_picture(
                aligned(label, image, label=True, resample=True), title, names, key="resampled"
            )
        )

    def _add(self, picture: Picture) -> None:
        self._label.visible = False
        with changing_layers(self._viewer):
            layer = self._viewer.add_labels(picture.data, **layer_arguments(picture))
        self.brought.emit(layer)

    def _fail(self, error: SegExplorerError) -> None:
        self.bring.setEnabled(True)
        self.refused.emit(error)


def _place(volume: Volume) -> str:
    found = describe(volume)
    size = " × ".join(map(str, found.shape[:3]))
    return " ".join((f"{size} voxels, {found.text}.", *found.assumed))


def _distance(grids: GridComparison, remedy: str) -> str:
    if grids.same:
        return ""
    if not remedy:
        return f"Image and label: {grids.text}. The label is brought onto the image's grid without loss."
    far = f"Image and label are on different grids: {grids.text.rstrip('.')}."
    if "do not touch" in remedy:
        return f"{far} {remedy}"
    return f"{far} {remedy.partition(';')[0].rstrip('.')}."


@dataclass(frozen=True)
class CasePair:
    """One case: image and label as volumes in memory, with the files they came from where there are any."""

    case: str
    image: Volume
    label: Volume
    image_path: Path | None
    label_path: Path | None
    names: Mapping[int, str]
    role: Role | None = None

    def examined(self) -> Examination:
        """Compare and measure the pair; slow, for a worker."""
        return examine(self.image, self.label)


def stored_dataset(pairs: Sequence[CasePair], settings: Mapping[str, object], folder: Path) -> DatasetSpec:
    """Return the data set of these pairs; what has no file, or was painted since, is saved into `folder`.

    File names carry a hash of what is in them, so the same picture is written once. For a worker.

    Parameters
    ----------
    settings
        Of the data set beside its pairs: its classes, what other labels become, whether classes overlap.

    Raises
    ------
    DataError
        When there is no pair, or a file cannot be written.
    """
    if not pairs:
        raise DataError("No case is chosen yet.", "Add an image and its label in the Cases tab.")
    listed = [
        {
            "case": pair.case,
            "image": str(_stored(pair.image, pair.image_path, folder, f"{pair.case}-image", integer=False)),
            "label": str(_stored(pair.label, pair.label_path, folder, f"{pair.case}-label", integer=True)),
            "role": pair.role,
        }
        for pair in pairs
    ]
    return registry.spec("pairs").of({"pairs": listed, **settings})


def _stored(volume: Volume, path: Path | None, folder: Path, name: str, *, integer: bool) -> Path:
    if path is not None and path.is_file() and _same(volume, path, label=integer):
        return path.resolve()
    digest = hashlib.sha256(np.ascontiguousarray(volume.array).tobytes() + volume.affine.tobytes())
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    target = folder / f"{safe}-{digest.hexdigest()[:12]}.nii.gz"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_volume(volume, target, integer=integer)
    return target.resolve()


def _same(volume: Volume, path: Path, *, label: bool) -> bool:
    stored = open_volume(path, label=label)
    return stored.shape == volume.shape and bool(np.array_equal(stored.array, volume.array))


def case_name(image_name: str, taken: Sequence[str]) -> str:
    """Return a name for a case after its image, never one that is taken."""
    base = "".join(c if c.isalnum() or c in "-_. " else "-" for c in image_name).strip() or "case"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base} {count}"
    return name


def names_in(layer: Any) -> dict[int, str]:
    """Return label value -> class name of a labels layer's feature table, without the background."""
    features = layer.features
    if "index" not in features or "class" not in features:
        return {}
    pairs = zip(features["index"], features["class"], strict=True)
    return {int(i): str(name) for i, name in pairs if int(i) != 0}


class _OnDisk(Spec):
    """Any registered data set, and how it is divided."""

    data: Annotated[DatasetSpec, registry.late_bound] = parameter(
        title="Data set", description="Where the cases are."
    )
    split: Split = parameter(
        default_factory=Split, title="Split", description="Which cases train and validate."
    )


class DiskSource(QWidget):  # type: ignore[misc, unused-ignore]
    """The form of a data set, and a button that fills it by looking at a folder.

    Attributes
    ----------
    changed
        psygnal signal: another data set or split.
    refused
        psygnal signal with the error that says why a folder is not recognised.
    """

    changed = Signal()
    refused = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._form: SpecForm[_OnDisk] = SpecForm(_OnDisk)
        self._form.changed.connect(lambda _: self.changed.emit())
        self.finder = finder = QPushButton("Find out from a folder…")
        finder.setToolTip("Choose the folder of a data set; its layout is recognised by the names in it.")
        finder.clicked.connect(lambda _=False: self._choose_folder())
        self.job = LatestWork(self._on_recognised, self._on_refused, newest_only=True)
        self.message = widgets.guidance()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(finder)
        column.addWidget(self.message)
        column.addWidget(self._form.native)
        column.addStretch(1)

    @property
    def chosen(self) -> tuple[DatasetSpec, Split]:
        """The data set and split of the form."""
        value = self._form.value
        return value.data, value.split

    def label(self, path: str) -> str:
        """Return what the form calls a setting of data set or split."""
        return self._form.label(path)

    def focus(self, path: str) -> bool:
        """Unfold, scroll to and focus the field of a setting; False where there is none."""
        return self._form.focus(path)

    def set(self, dataset: DatasetSpec, split: Split) -> None:
        """Show a data set and its split."""
        widgets.say(self.message, "")
        self._form.set(_OnDisk(data=dataset, split=split))

    def recognise(self, folder: Path) -> None:
        """Find out, off the main thread, which data set a folder is, show it, and say by what it was recognised."""

        def work() -> tuple[Recognition, DatasetSpec]:
            found = recognise(folder)
            return found, recognised_dataset(found)

        widgets.say(self.message, f"Looking at {folder.name}…")
        self.job.send(work)

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open the folder of a data set")
        if folder:
            self.recognise(Path(folder))

    def _on_recognised(self, answer: tuple[Recognition, DatasetSpec]) -> None:
        found, dataset = answer
        self.set(dataset, self.chosen[1])
        name = type(dataset).display_name
        widgets.say(
            self.message,
            f"{found.folder.name} was recognised as “{name}”, because there is {found.reason}.",
        )
        self.changed.emit()

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self.message, "")
        self.refused.emit(error)


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
    image_box, label_box
        Combo boxes of the layers that may be an image or a label.
    add_button
        Enabled once there is one of each.
    hint
        What is missing, or which volume of a file with several is taken.
    """

    added = Signal(object)
    refused = Signal(object)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._used: weakref.WeakSet[Any] = weakref.WeakSet()
        self.image_box, self.label_box = widgets.ElidedComboBox("Image"), widgets.ElidedComboBox("Label")
        self.hint = widgets.guidance()
        self.add_button, opener, phantom = (
            QPushButton("Add pair"),
            QPushButton("Open"),
            QPushButton("CT phantom"),
        )
        self.add_button.clicked.connect(self.add)
        menu = QMenu(opener)
        menu.addAction("Files…").triggered.connect(lambda _=False: self._open())
        menu.addAction("DICOM folder…").triggered.connect(lambda _=False: self._open_folder())
        opener.setMenu(menu)
        phantom.clicked.connect(self._open_phantom)
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.addRow("Image", self.image_box)
        form.addRow("Label", self.label_box)
        self.geometry = GeometryNote(viewer, lambda layer: frame_shown(viewer, layer))
        self.geometry.brought.connect(self._choose_label)
        self.geometry.refused.connect(self.refused.emit)
        buttons = QHBoxLayout()
        for button in (opener, phantom, self.add_button):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.hint)
        layout.addLayout(form)
        layout.addWidget(self.geometry)
        layout.addLayout(buttons)
        events = viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.connect(self.refresh)
        viewer.dims.events.point.connect(self._tell)
        for box in (self.image_box, self.label_box):
            box.currentIndexChanged.connect(self._on_choice)
        self.refresh()

    def close_source(self) -> None:
        """Let go of the viewer."""
        events = self._viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self.refresh)
        self._viewer.dims.events.point.disconnect(self._tell)
        self.geometry.job.close()

    def refresh(self, event: Any = None) -> None:
        """Fill the boxes anew, keeping what was chosen; after a pair that was added, the newest layers follow."""
        self._refill(self.image_box, [layer for layer in self._viewer.layers if _is_scan(layer)])
        self._refill(self.label_box, [layer for layer in self._viewer.layers if _is_label(layer)])
        widgets.enable(
            self.add_button,
            bool(self.image_box.count() and self.label_box.count()),
            "Add the chosen image and its label as a case.",
            "Open an image and its label first.",
        )
        self._on_choice()

    def _on_choice(self, _: Any = None) -> None:
        self._tell()
        self.geometry.compare(self._chosen(self.image_box), self._chosen(self.label_box))

    def _choose_label(self, layer: Any) -> None:
        self.label_box.setCurrentText(layer.name)

    def _tell(self, _: Any = None) -> None:
        """Say what is missing, or which volume of a file with several is meant."""
        image = self._chosen(self.image_box)
        if image is None:
            text = _EMPTY
        elif image.ndim == 4:
            text = _FRAME.format(name=image.axis_labels[0], index=frame_shown(self._viewer, image))
        else:
            text = "" if self.label_box.count() else _NO_LABEL
        widgets.say(self.hint, text)

    def add(self) -> None:
        """Add the chosen pair."""
        try:
            pair = self._pair()
        except SegExplorerError as error:
            self.refused.emit(error)
            return
        self._used |= {self._chosen(box) for box in (self.image_box, self.label_box)}
        self.added.emit(pair)

    def _pair(self) -> CasePair:
        image, label = self._chosen(self.image_box), self._chosen(self.label_box)
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

    def _refill(self, box: QComboBox, layers: list[Any]) -> None:
        chosen = next((layer for layer in layers if layer.name == box.currentText()), None)
        if chosen is None or chosen in self._used:
            fresh = [layer for layer in layers if layer not in self._used]
            chosen = fresh[-1] if fresh and self._used else chosen
        box.blockSignals(True)
        box.clear()
        box.addItems([layer.name for layer in layers])
        box.setCurrentIndex(layers.index(chosen) if chosen is not None else 0 if layers else -1)
        box.blockSignals(False)

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


def frame_shown(viewer: Any, layer: Any) -> int | None:
    """Return which volume of a layer with several the viewer shows; None for a layer with one."""
    if layer.ndim != 4 or viewer.dims.ndim != 4:
        return None
    return int(min(max(round(viewer.dims.point[0]), 0), len(layer.data) - 1))


def _is_ours_alone(layer: Any) -> bool:
    """Whether a layer only shows what a run has computed."""
    key = layer.metadata.get(METADATA, {}).get("key", "")
    return key.partition("/")[0] in {*SWITCHES, "truth", "preview"}


def _is_scan(layer: Any) -> bool:
    return type(layer).__name__ == "Image" and not _is_ours_alone(layer)


def _is_label(layer: Any) -> bool:
    return type(layer).__name__ == "Labels" and not _is_ours_alone(layer)


def _file_of(layer: Any) -> Path | None:
    remembered = layer.metadata.get(METADATA, {}).get("path") if layer.ndim == 3 else None
    return Path(remembered) if remembered else None
