"""*Explain these layers* in the tab Why: label, probabilities and image of the user's become its subject."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QFormLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import METADATA, volume_from_layer
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.own_layers import results_of_layers
from segexplorer.viewmodels.reality import Results

ABOUT = (
    "A label, and an image layer with probabilities from 0 to 1: of four axes with one volume per class and the "
    "background first, or of three axes for a single class."
)
NO_IMAGE = "none"


class OwnLayersBox(QWidget):  # type: ignore[misc, unused-ignore]
    """Which layers are meant, and the button that asks about them.

    Attributes
    ----------
    label, probabilities, image
        What to choose from: layers of the viewer by their names.
    explain, problem
        The button, and why it failed.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.label = widgets.ElidedComboBox("Label")
        self.probabilities = widgets.ElidedComboBox("Probabilities")
        self.image = widgets.ElidedComboBox("Image")
        self.explain = QPushButton("Explain these layers")
        self.explain.clicked.connect(lambda _=False: self._explain())
        self.problem = widgets.guidance()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        for title, box in (
            ("Label", self.label),
            ("Probabilities", self.probabilities),
            ("Image", self.image),
        ):
            form.addRow(title, box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(widgets.guidance(ABOUT))
        layout.addLayout(form)
        layout.addWidget(self.explain)
        layout.addWidget(self.problem)
        self._work = LatestWork(self._on_ready, self._on_refused, newest_only=True)
        events = display.viewer.layers.events
        for signal in (events.inserted, events.removed):
            signal.connect(self._list)
        self._list()

    @property
    def busy(self) -> bool:
        """Whether layers are being read."""
        return self._work.busy

    def _list(self, _: Any = None) -> None:
        """Offer the layers that the viewer has; what was chosen stays while it is there."""
        ours = self._display.layers
        others = [
            layer
            for layer in self._display.viewer.layers
            if not any(layer == ours.layer(key) for key in ours.keys)
        ]
        sorts = {str(layer.name): layer.as_layer_data_tuple()[2] for layer in others}
        labels = [name for name, sort in sorts.items() if sort == "labels"]
        images = [name for name, sort in sorts.items() if sort == "image"]
        for box, names in (
            (self.label, labels),
            (self.probabilities, images),
            (self.image, [NO_IMAGE, *images]),
        ):
            before = box.currentText()
            with QSignalBlocker(box):
                box.clear()
                box.addItems(names)
                box.setCurrentIndex(max(0, box.findText(before)))
        possible = bool(labels and images)
        widgets.enable(
            self.explain,
            possible,
            "Ask what a loss wants at every voxel of this prediction",
            "Open a label and an image layer with probabilities first",
        )

    def _explain(self) -> None:
        layers = self._display.viewer.layers
        try:
            label, given = layers[self.label.currentText()], layers[self.probabilities.currentText()]
            volumes = (
                [volume_from_layer(given, frame=number) for number in range(len(given.data))]
                if given.ndim == 4
                else [volume_from_layer(given)]
            )
            chosen = self.image.currentText()
            image = None if chosen == NO_IMAGE else volume_from_layer(layers[chosen])
            truth = volume_from_layer(label)
        except SegExplorerError as error:
            self._on_refused(error)
            return
        name, known = str(given.name), (label.metadata.get(METADATA) or {}).get("classes", {})
        names = {int(value): str(title) for value, title in known.items()}
        widgets.say(self.problem, "Reading the layers…")
        self._work.send(lambda: results_of_layers(name, truth, volumes, image, names))

    def _on_ready(self, results: Results) -> None:
        widgets.say(self.problem, "")
        self._display.open_results(results)
        if self._display.displayed.question.look is None:
            self._display.issue("look_at", "asked")

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self.problem, str(error), widgets.RED)

    def closing(self) -> None:
        """Let go of the viewer."""
        self._work.close()
        events = self._display.viewer.layers.events
        for signal in (events.inserted, events.removed):
            signal.disconnect(self._list)
