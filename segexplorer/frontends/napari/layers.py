"""The layers of a case in napari: which are ours, how they are made and updated, and volumes read back from layers.

Everything here runs on the main thread and only assigns what `viewmodels.layer_images` has prepared. The
viewer is the user's: a layer deleted or renamed during a run stays so until somebody asks for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.data.geometry import DisplayGrid, Grid
from segexplorer.data.volume import Provenance, Volume
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels import displayed
from segexplorer.viewmodels.layer_images import Picture


def volume_from_layer(layer: Any, *, frame: int | None = None) -> Volume:
    """Return the volume that an Image or Labels layer shows, whichever reader made it.

    A layer of ours gives back its own index order and true affine. Of any other, napari's world is taken as
    (z, y, x) in RAS mm, as readers of medical images for napari have it; other lengths are converted.

    Parameters
    ----------
    frame
        Which volume of a layer with four axes, along its first.

    Raises
    ------
    DataError
        When the layer is no image or label, or is not exactly 3D with one channel.
    """
    sort = layer.as_layer_data_tuple()[2]
    if sort not in {"image", "labels"}:
        raise DataError(f"The layer {layer.name!r} is of type {sort}.", "Choose an image or a labels layer.")
    if getattr(layer, "rgb", False):
        raise DataError(f"The layer {layer.name!r} is a colour image.", "Choose an image of one channel.")
    if layer.ndim != 3 and (layer.ndim != 4 or frame is None):
        what = "a single slice" if layer.ndim == 2 else f"{layer.ndim}D (time points or channels)"
        remedy = (
            "Choose a volume." if layer.ndim == 2 else "Split it first: right-click the layer, Split Stack."
        )
        raise DataError(f"The layer {layer.name!r} is {what}; a volume has three axes.", remedy)
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if layer.ndim == 4:
        data = data[frame]
    own = layer.metadata.get(METADATA)
    if own is not None:
        volume = _own_volume(data, own)
        if volume is not None:
            return volume
    return Volume.from_array(data, affine=layer_affine(layer))


def _own_volume(data: NDArray[Any], own: dict[str, Any]) -> Volume | None:
    """Undo what `pictures` did; None when the layer's data no longer have the shape they were shown with."""
    shape, affine = tuple(own["shape"]), np.asarray(own["affine"], dtype=np.float64)
    grid = DisplayGrid.of(Grid(shape, affine))
    if sorted(data.shape) != sorted(shape):
        return None
    array = grid.from_display(data)
    if array.shape != shape:
        return None
    facts = Provenance(None, own.get("format", ""), tuple(own.get("notes", ())), dict(own.get("header", {})))
    return Volume(shape, affine, array=array, provenance=facts)


def layer_affine(layer: Any) -> NDArray[np.float64]:
    """Return (4, 4) data index -> RAS mm of a layer's last three axes, by the world positions of its points."""

    def world(point: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = (*(0.0,) * (layer.ndim - 3), *point)
        return np.asarray(layer.data_to_world(padded), dtype=np.float64)[-3:]

    origin = world(np.zeros(3))
    steps = [world(row) - origin for row in np.eye(3)]
    millimetres = np.array([_millimetres(unit) for unit in layer.units[-3:]], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = (np.stack(steps, axis=1) * millimetres[:, np.newaxis])[::-1]
    affine[:3, 3] = (origin * millimetres)[::-1]
    return affine


def _millimetres(unit: Any) -> float:
    """Return how many mm a unit of napari's world is; pixels are taken as mm."""
    quantity = 1.0 * unit
    return float(quantity.to("mm").magnitude) if quantity.check("[length]") else 1.0


class CaseImage:
    """Reads and shows the image of a case, unless the user's own layer shows the same voxels.

    Parameters
    ----------
    viewer, layers
        Where it is shown.
    refused
        Called with an error that a user can act on.
    """

    def __init__(self, viewer: Any, layers: CaseLayers, refused: Callable[[SegExplorerError], None]) -> None:
        self._viewer, self._layers = viewer, layers
        self._case: tuple[Any, str] | None = None
        self._work = LatestWork(self._on_image, refused)

    def show(self, run: Any, case: str, find: Callable[[str], Any]) -> None:
        """Show the image of a case of a run; `find` gives its `CaseRef` or None, and is called by a worker."""
        if self._case == (run, case):
            return
        self._case = (run, case)
        ours = [self._layers.layer(key) for key in self._layers.keys]
        there = [
            layer.data
            for layer in self._viewer.layers
            if layer.as_layer_data_tuple()[2] == "image" and not any(layer == mine for mine in ours)
        ]

        def work() -> Any:
            ref = find(case)
            return None if ref is None else displayed.image_of(ref.open, case, there)

        self._work.send(work)

    def _on_image(self, picture: Any) -> None:
        if picture is None:
            self._layers.remove("image")
            return
        layer = self._layers.show(picture)
        layers = self._viewer.layers
        layers.move(layers.index(layer.name), 0)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._work.close()


METADATA = "segexplorer"
"""Our key in a layer's free metadata."""


@dataclass
class _Shown:
    layer: Any
    name: str
    """The name the layer got from us; a different one now was given by the user."""


class CaseLayers:
    """The layers that show cases in one viewer.

    Parameters
    ----------
    viewer
        A napari viewer (or `ViewerModel`).
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._shown: dict[str, _Shown] = {}
        self._offered: set[str] = set()
        self._before: tuple[Any, ...] | None = None
        self._convention: theme.Convention = "radiological"
        self._adding = False
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        self._on_inserted()

    def close(self) -> None:
        """Let go of the viewer: no more signals, orientation as it was. The layers stay."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._restore_orientation()
        self._shown.clear()

    # -- what is there ------------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the layers that are in the viewer now."""
        return tuple(key for key in self._shown if self.layer(key) is not None)

    def layer(self, key: str) -> Any | None:
        """Return the layer of a key, or None when it was never shown or the user has deleted it."""
        shown = self._shown.get(key)
        # ==, not "is": inside a plug-in's widget napari hands out layers in proxies, each time another
        if shown is None or not any(layer == shown.layer for layer in self._viewer.layers):
            return None
        return shown.layer

    # -- showing ------------------------------------------------------------------------------------------

    def show(self, picture: Picture) -> Any:
        """Show a picture and return its layer: assigned to the key's layer when there is one, else to a new one.

        This is for what the user asks for; what a run brings by itself goes through `offer`.
        """
        layer = self.layer(picture.key)
        if layer is None or not _same_sort(layer, picture):
            self.remove(picture.key)
            return self._add(picture)
        self._assign(self._shown[picture.key], picture)
        return layer

    def offer(self, picture: Picture) -> Any | None:
        """Show a picture that a run brings: made the first time, then updated, and never again once deleted."""
        if picture.key in self._offered and self.layer(picture.key) is None:
            return None
        return self.show(picture)

    def adopt(self, key: str, layer: Any) -> None:
        """Treat a layer that is in the viewer already (from a reader, a sample) as the one of a key."""
        self._offered.add(key)
        self._shown[key] = _Shown(layer, layer.name)
        self._orient()

    def set_visible(self, key: str, visible: bool) -> None:
        """Show or hide a layer, if it is there."""
        layer = self.layer(key)
        if layer is not None:
            layer.visible = visible

    def remove(self, key: str) -> None:
        """Take a layer out of the viewer, if it is there; a later `offer` may bring it back."""
        layer = self.layer(key)
        self._shown.pop(key, None)
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._offered.discard(key)

    def clear(self, keys: Iterable[str] | None = None) -> None:
        """Remove these layers, or all of ours."""
        for key in list(self._shown if keys is None else keys):
            self.remove(key)

    def open_at(self, picture: Picture) -> None:
        """Move the viewer to the slice that shows most of a picture's labels."""
        if picture.open_at is not None:
            world = picture.translate[0] + picture.open_at * picture.scale[0]
            self._viewer.dims.set_point(0, world)

    def _add(self, picture: Picture) -> Any:
        first = not self._viewer.layers
        adder = self._viewer.add_image if picture.kind == "image" else self._viewer.add_labels
        self._adding = True  # whoever shows a picture decides where to open it
        try:
            layer = adder(picture.data, **layer_arguments(picture))
        finally:
            self._adding = False
        if picture.contrast_range is not None:
            layer.contrast_limits_range = picture.contrast_range
        self._shown[picture.key] = _Shown(layer, layer.name)
        self._offered.add(picture.key)
        self._orient()
        if first:
            self._viewer.reset_view()
        return layer

    def _assign(self, shown: _Shown, picture: Picture) -> None:
        """Put new values into a layer; what the user set (name, opacity, colours, visibility) stays."""
        layer = shown.layer
        layer.metadata = {**layer.metadata, METADATA: metadata_of(picture)}
        layer.data = picture.data
        if not np.allclose(layer.scale, picture.scale) or not np.allclose(layer.translate, picture.translate):
            layer.scale, layer.translate = picture.scale, picture.translate
        if picture.colours == "balance" and tuple(layer.contrast_limits) != picture.contrast_limits:
            layer.contrast_limits_range = picture.contrast_range
            layer.contrast_limits = picture.contrast_limits
            layer.colormap = theme.balance_colormap(picture.colour_map)
        if picture.kind == "labels" and picture.values and not _has_names(layer, picture):
            layer.features = features_of(picture)
        if layer.name == shown.name and layer.name != picture.name:
            layer.name = picture.name
            shown.name = layer.name

    # -- orientation --------------------------------------------------------------------------------------

    @property
    def oriented(self) -> bool:
        """Whether volumes in RAS are shown, so that the camera follows the convention."""
        return self._before is not None

    @property
    def convention(self) -> theme.Convention:
        """How the patient is shown."""
        return self._convention

    def set_convention(self, convention: theme.Convention) -> None:
        """Show the patient's right on the left of the screen (radiological) or on the right (neurological)."""
        self._convention = convention
        if self._before is not None:
            self._viewer.scene.camera.orientation = theme.ORIENTATIONS[convention]

    def _orient(self) -> None:
        if self._before is None:
            self._before = tuple(self._viewer.scene.camera.orientation)
            self._viewer.scene.camera.orientation = theme.ORIENTATIONS[self._convention]

    def _restore_orientation(self) -> None:
        if self._before is not None:
            self._viewer.scene.camera.orientation = self._before
            self._before = None

    def _some_of_ours(self) -> bool:
        """Whether a layer is there that we, our reader or our samples made."""
        return bool(self.keys) or any(METADATA in layer.metadata for layer in self._viewer.layers)

    def _on_inserted(self, event: Any = None) -> None:
        """Orient the camera for the volumes of our reader and samples too; open labels at their fullest slice."""
        if self._some_of_ours():
            self._orient()
        layer = getattr(event, "value", None)
        if layer is not None and not self._adding:
            self._open_label(layer)

    def _open_label(self, layer: Any) -> None:
        own = layer.metadata.get(METADATA, {})
        if own.get("open_at") is not None and layer.ndim == self._viewer.dims.ndim == 3:
            self._viewer.dims.set_point(0, layer.data_to_world((own["open_at"], 0, 0))[0])

    def _on_removed(self, event: Any = None) -> None:
        if not self._some_of_ours():
            self._restore_orientation()


def layer_arguments(picture: Picture) -> dict[str, Any]:
    """Return napari's arguments for a new layer of a picture; also what reader and samples return."""
    arguments: dict[str, Any] = {
        "name": picture.name,
        "scale": picture.scale,
        "translate": picture.translate,
        "units": theme.UNITS,
        "axis_labels": theme.AXIS_LABELS,
        "metadata": {METADATA: metadata_of(picture)},
    }
    if picture.kind == "labels":
        arguments["features"] = features_of(picture)
        errors = picture.colours == "errors"
        arguments["colormap"] = (
            theme.error_colormap() if errors else theme.label_colormap(list(picture.values))
        )
        arguments["opacity"] = 0.75 if errors else 0.5
        return arguments
    arguments["contrast_limits"] = picture.contrast_limits
    if picture.colours == "balance":
        arguments |= {
            "colormap": theme.balance_colormap(picture.colour_map),
            "blending": "translucent",
            "opacity": 0.6,
            "interpolation2d": "nearest",
            "interpolation3d": "nearest",
        }
    else:
        arguments |= {"colormap": "gray", "interpolation2d": "linear"}
    return arguments


def metadata_of(picture: Picture) -> dict[str, Any]:
    """Return what a layer remembers of its volume: its true affine, shape, file and header facts."""
    return {
        "affine": picture.affine.tolist(),
        "shape": list(picture.shape),
        "path": picture.path,
        "key": picture.key,
        "format": picture.provenance.format,
        "notes": list(picture.provenance.notes),
        "header": dict(picture.provenance.header),
        "colours": picture.colours,
        "open_at": picture.open_at,
        "caption": picture.caption,
        "classes": {int(value): name for value, name in picture.values.items()},
    }


def features_of(picture: Picture) -> pd.DataFrame:
    """Return the table by which napari's status bar names the class under the cursor."""
    named = {0: "background", **picture.values}
    return pd.DataFrame({"index": list(named), "class": list(named.values())})


def _has_names(layer: Any, picture: Picture) -> bool:
    features = layer.features
    return "class" in features and list(features["class"])[1:] == list(picture.values.values())


def _same_sort(layer: Any, picture: Picture) -> bool:
    return bool(layer.as_layer_data_tuple()[2] == picture.kind)
