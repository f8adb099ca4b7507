"""The label of a case, open for painting in a layer of napari's own, and saved as a new version.

The layer belongs to the user: it is never assigned to, it is hidden while another case is shown, and it stays
in the viewer when the dock closes. Only one label is open at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_error, show_info

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.data.case import CaseRef
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.label_versions import LabelVersion, save_version
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import changing_layers, layer_arguments
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.error_navigator import ErrorEntry
from segexplorer.viewmodels.error_pieces import KINDS
from segexplorer.viewmodels.layer_images import Picture, label_picture
from segexplorer.viewmodels.reality import Painting
from segexplorer.viewmodels.watched_case import Switch

BRUSH = 5
"""Voxels of the brush at first; napari's own is too wide for the rim of an organ."""


@dataclass(frozen=True)
class _Opened:
    """A label as it was read."""

    painting: Painting
    reason: dict[str, str]
    path: Path
    volume: Volume
    picture: Picture
    value: int
    entry: ErrorEntry
    snapshot: WatchedSnapshot
    overlays: frozenset[Switch]


def open_label(
    find: Callable[[str], CaseRef | None], case: str, classes: dict[str, tuple[int, ...]]
) -> tuple[Path, Volume, Picture]:
    """Return the file of a case's label, the label on the grid of the image, and its picture.

    Raises
    ------
    DataError
        When the case has no label, or one that is not a single file.
    """
    ref = find(case)
    if ref is None or ref.label is None:
        raise DataError(f"{case} has no label.", "Choose a case with one.")
    if not isinstance(ref.label, Path) or not ref.label.is_file():
        raise DataError(
            f"The label of {case} is not one file, so it cannot be painted here.",
            "Save it as one file first, and list that one.",
        )
    volume = ref.open().label
    assert volume is not None
    values = {value: name for name, several in classes.items() for value in several}
    picture = label_picture(volume, f"label of {case}, being corrected", values, key="painted label")
    return ref.label, volume, replace(picture, open_at=None)  # the viewer stays where the error is


class LabelPainter:
    """Opens a label for painting and saves what was painted.

    Parameters
    ----------
    display
        What the window displays.

    Attributes
    ----------
    layer
        The layer that is painted; None while no label is open.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.layer: Any = None
        self._opened: _Opened | None = None
        self._then: Callable[[], None] | None = None
        self._opening = LatestWork(self._on_opened, self._on_refused)
        self._saving = LatestWork(self._on_saved, self._on_not_saved)
        display.viewer.layers.events.removed.connect(self._on_removed)
        display.changed.connect(self._on_changed)

    def open(self) -> None:
        """Open the label of the case that is shown, at the error that is looked at."""
        screen, find = self.display.screen, self.display.finder
        entry, scene, seen = screen.navigator.entry, screen.scene, screen.seen
        if self.layer is not None or entry is None or scene is None or seen is None or find is None:
            return
        if screen.displayed.source == "results":
            return  # it is said, and kept; the labels of others' results may be on another grid than the image
        piece, snapshot = entry.piece, seen.snapshot
        reason = {
            "case": scene[1],
            "run": Path(scene[0]).name,
            "step": str(snapshot.step),
            "error": f"{KINDS[piece.kind]}, {piece.class_name}, {piece.place.words}",
        }
        values, overlays = self.display.class_values, screen.displayed.overlays

        def work() -> _Opened:
            classes = values()
            path, volume, picture = open_label(find, scene[1], classes)
            value = (*classes.get(piece.class_name, ()), 1)[0]
            painting = Painting(scene, f"The label of {scene[1]} is open for painting.")
            return _Opened(painting, reason, path, volume, picture, value, entry, snapshot, overlays)

        self._opening.send(work)

    def _on_opened(self, opened: _Opened) -> None:
        if self.display.screen.scene != opened.painting.scene or self.layer is not None:
            return  # another case is shown by now
        self._opened = opened
        for overlay in opened.overlays:  # the scan and the label, and the outline of the error
            self.display.issue("toggle", overlay, False)
        viewer = self.display.viewer
        with self.display.own_drawing(), changing_layers(viewer):
            layer = viewer.add_labels(opened.picture.data.copy(), **layer_arguments(opened.picture))
        self.layer = layer
        layer.brush_size = BRUSH
        layer.selected_label = opened.value
        layer.mode = "paint"
        with changing_layers(viewer):
            viewer.layers.selection.active = layer
        self.display.leave_alone(layer)
        self.display.learn(painting=opened.painting)

    @property
    def painted(self) -> bool:
        """Whether a voxel was changed."""
        return (
            self.layer is not None
            and self._opened is not None
            and not np.array_equal(self.layer.data, self._opened.picture.data)
        )

    def save(self, then: Callable[[], None] | None = None) -> None:
        """Save the label as a new version, with where it comes from; the file that it was read from stays.

        Parameters
        ----------
        then
            Called when it is saved; never where that failed, which is told.
        """
        self._then = then
        opened, layer = self._opened, self.layer
        if opened is None or layer is None:
            return
        now = np.array(layer.data)  # painting may go on while it is written
        verdict, before = opened.entry.verdict, opened.picture.data
        reason = opened.reason | {"note": "" if verdict is None else verdict.note}

        def work() -> tuple[Path, LabelVersion]:
            made = opened.volume.with_array(DisplayGrid.of(opened.volume).from_display(now))
            changed = int(np.count_nonzero(now != before))
            return save_version(opened.path, made, voxels_changed=changed, reason=reason)

        self._saving.send(work)

    def _on_saved(self, answer: tuple[Path, LabelVersion]) -> None:
        path, version = answer
        opened = self._opened
        then, self._then = self._then, None
        self.close()
        if opened is not None:
            corrected = version.file, version.sha256
            self.display.review.say(
                opened.painting.scene[0], opened.entry, opened.snapshot, corrected=corrected
            )
        show_info(
            f"Saved as {path.name} in {path.parent.name} ({version.voxels_changed} voxels changed). "
            "It is used where the data set's setting Label versions is “newest”."
        )
        if then is not None:
            then()

    def close(self) -> None:
        """Take the layer away; what was not saved is lost."""
        layer, self.layer = self.layer, None
        opened, self._opened = self._opened, None
        if layer is not None and any(layer == other for other in self.display.viewer.layers):
            with changing_layers(self.display.viewer):
                self.display.viewer.layers.remove(layer)
        self.display.leave_alone(None)
        self.display.learn(painting=None)
        if opened is not None and self.display.screen.scene == opened.painting.scene:
            for overlay in opened.overlays:
                self.display.issue("toggle", overlay, True)

    def _on_not_saved(self, error: SegExplorerError) -> None:
        self._then = None
        self._on_refused(error)

    def _on_refused(self, error: SegExplorerError) -> None:
        show_error(str(error))

    def _on_removed(self, _: Any = None) -> None:
        if self.layer is not None and not any(self.layer == layer for layer in self.display.viewer.layers):
            self.close()

    def _on_changed(self, screen: Any, parts: frozenset[str]) -> None:
        """Hide the label while another case is shown."""
        if self.layer is not None and self._opened is not None and "scene" in parts:
            self.layer.visible = screen.scene == self._opened.painting.scene

    def closing(self) -> None:
        """Let go of the viewer; a layer with what was painted stays there."""
        self.display.viewer.layers.events.removed.disconnect(self._on_removed)
        self.display.changed.disconnect(self._on_changed)
        self._opening.close()
        self._saving.close()
