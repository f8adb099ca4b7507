"""The layers of a case in napari: which are ours, how they are made and updated, and volumes read back from layers.

Everything here runs on the main thread and only assigns what `viewmodels.layer_images` has prepared. The
viewer is the user's: a layer deleted or renamed during a run stays so until somebody asks for it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Labels
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import DisplayGrid, Grid
from segexplorer.data.volume import Provenance, Volume
from segexplorer.frontends.napari import theme
from segexplorer.viewmodels.layer_images import LABEL_OPACITIES, Picture
from segexplorer.viewmodels.surfaces import OPACITIES, SurfacePicture


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


METADATA = "segexplorer"
"""Our key in a layer's free metadata."""


@contextmanager
def changing_layers(viewer: Any) -> Iterator[None]:
    """Let layers come and go without a word in napari's status bar about what is under the mouse.

    In 3D napari asks for the direction of view, which it learns when the mouse moves, and raises a TypeError
    where the mouse has rested over the canvas since.
    """
    over = viewer.mouse_over_canvas
    viewer.mouse_over_canvas = False
    try:
        yield
    finally:
        viewer.mouse_over_canvas = over


@dataclass
class _Shown:
    layer: Any
    name: str
    """The name the layer got from us; a different one now was given by the user."""
    picture: Picture | None = None
    """What was shown last; None of a layer that somebody else made."""


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
        self._adding = self._closed = False
        self._fitted: Any = None
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        self._on_inserted()

    def close(self) -> None:
        """Let go of the layers, which stay; the orientation goes with the last volume that needs it."""
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._closed = True
        self._shown.clear()
        self._on_removed()

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

    def show_surface(self, picture: SurfacePicture) -> Any:
        """Show a surface: given to the layer of its key where there is one, else to a new one."""
        layer = self.layer(picture.key)
        if layer is not None:
            shown = self._shown[picture.key]
            give_surface(layer, picture)
            if layer.name == shown.name:
                layer.name = picture.name
                shown.name = layer.name
            return layer
        selected = set(self._viewer.layers.selection)
        self._adding = True
        with changing_layers(self._viewer):
            try:
                layer = self._viewer.add_surface(
                    (picture.vertices, picture.faces), **surface_arguments(picture)
                )
            finally:
                self._adding = False
            self._viewer.layers.selection = selected
        self._shown[picture.key] = _Shown(layer, layer.name)
        self._orient()
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
        if layer is not None and layer.visible != visible:  # napari draws it again even where nothing changes
            layer.visible = visible

    def remove(self, key: str) -> None:
        """Take a layer out of the viewer, if it is there; a later `offer` may bring it back."""
        layer = self.layer(key)
        self._shown.pop(key, None)
        if layer is not None:
            with changing_layers(self._viewer):
                self._viewer.layers.remove(layer)
        self._offered.discard(key)

    def clear(self, keys: Iterable[str] | None = None) -> None:
        """Remove these layers, or all of ours."""
        for key in list(self._shown if keys is None else keys):
            self.remove(key)

    def fit(self, *, anew: bool) -> None:
        """Fit the view to what can be seen, where that lies elsewhere than before; else a zoom by hand stays.

        Parameters
        ----------
        anew
            Whether to fit in any case.
        """
        seen = seen_layers(self._viewer)
        extent = self._viewer.layers.get_extent(seen or self._viewer.layers).world
        before = self._fitted
        moved = before is not None and (before.shape != extent.shape or not np.allclose(before, extent))
        self._fitted = extent
        if anew or moved:
            self._viewer.reset_view(layers=seen)

    def arrange(self, keys: Sequence[str]) -> None:
        """Put our layers into an order from the bottom to the top; all others keep their places."""
        layers = self._viewer.layers
        ours = [layer for key in keys if (layer := self.layer(key)) is not None]
        for below, above in itertools.pairwise(ours):
            if layers.index(above.name) < layers.index(below.name):
                # napari counts the place before the layer is taken out of the list
                layers.move(layers.index(above.name), layers.index(below.name) + 1)

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
            with changing_layers(self._viewer):
                layer = adder(picture.data, **layer_arguments(picture))
        finally:
            self._adding = False
        if picture.contrast_range is not None:
            layer.contrast_limits_range = picture.contrast_range
        _let_edit(layer, picture)
        give_form(layer, picture)
        self._shown[picture.key] = _Shown(layer, layer.name, picture)
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
        _let_edit(layer, picture)
        if not np.allclose(layer.scale, picture.scale) or not np.allclose(layer.translate, picture.translate):
            layer.scale, layer.translate = picture.scale, picture.translate
        if (shown.picture.form if shown.picture else "fill") != picture.form:
            give_form(layer, picture)
        if picture.colours == "pull":
            layer.contrast_limits_range = picture.contrast_range
            layer.contrast_limits = picture.contrast_limits
        elif picture.colour_scale is not None and _quantity(shown.picture) != _quantity(picture):
            layer.colormap = _colormap(picture)
        if picture.kind == "labels" and picture.values and not _has_names(layer, picture):
            layer.features = features_of(picture)
        if layer.name == shown.name and layer.name != picture.name:
            layer.name = picture.name
            shown.name = layer.name
        shown.picture = picture

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
            camera = self._viewer.scene.camera
            found = tuple(str(way) for way in camera.orientation)
            # a dock that was closed before may have left volumes here, and its orientation with them
            left = found in theme.ORIENTATIONS.values()
            self._before = type(camera).model_fields["orientation"].default if left else found
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
        if self._some_of_ours():
            return
        self._restore_orientation()
        if self._closed:
            self._viewer.layers.events.removed.disconnect(self._on_removed)


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
        arguments["colormap"] = _colormap(picture)
        arguments["opacity"] = LABEL_OPACITIES[picture.colours]
        if not picture.editable:
            # with napari's own "translucent", a labels layer below hides all of one above it in the same slice
            arguments["blending"] = "translucent_no_depth"
        return arguments
    arguments["contrast_limits"] = picture.contrast_limits
    if picture.colours == "pull":
        nearest = {"interpolation2d": "nearest", "interpolation3d": "nearest"}
        return arguments | nearest | {"colormap": theme.pull_colormap(), "blending": "translucent_no_depth"}
    arguments |= {"colormap": "gray", "interpolation2d": "linear"}
    return arguments


def surface_arguments(picture: SurfacePicture) -> dict[str, Any]:
    """Return napari's arguments for a new layer of a surface."""
    return {
        "name": picture.name,
        "vertex_colors": picture.colours,
        "opacity": OPACITIES[picture.part],
        "shading": "none",  # the colours are lit already
        # what is clear would otherwise hide what lies behind it
        "blending": "translucent" if OPACITIES[picture.part] == 1 else "translucent_no_depth",
        "units": theme.UNITS,
        "axis_labels": theme.AXIS_LABELS,
        "metadata": {METADATA: {"key": picture.key, "colours": picture.part}},
    }


def give_surface(layer: Any, picture: SurfacePicture) -> None:
    """Give a layer another surface: a layer of its own would take napari a second to put in and out."""
    with layer.events.blocker_all():  # the last assignment tells of all three
        layer.vertex_colors = None  # those of the old vertices would be too many, or too few
        layer.data = (picture.vertices, picture.faces)
    layer.vertex_colors = picture.colours


def seen_layers(viewer: Any) -> list[Any] | None:
    """Return the layers that a view is fitted to: those that can be seen, all (None) where none can.

    Scans of other cases stay in the viewer, hidden and anywhere in the world.
    """
    seen = [layer for layer in viewer.layers if layer.visible]
    # napari cannot fit to volumes alone while a hidden layer of four axes gives the viewer a slider more
    return seen if seen and max(layer.ndim for layer in seen) == viewer.dims.ndim else None


@dataclass(frozen=True)
class SliceRow:
    """The slices of what can be seen across one axis of a viewer.

    Attributes
    ----------
    first, distance
        Where the first one is, and from one to the next, mm.
    count
        How many there are.
    """

    first: float
    distance: float
    count: int

    def place(self, world: float) -> int:
        """Return the number of the slice at a position in mm, from 0; beyond the ends it is no slice's."""
        return round((world - self.first) / self.distance)

    def move(self, world: float, steps: int) -> float:
        """Return the position so many slices further, at most at an end."""
        return self.first + min(max(self.place(world) + steps, 0), self.count - 1) * self.distance


def slice_row(viewer: Any, axis: int) -> SliceRow:
    """Return the slices of the image that can be seen across an axis of the viewer.

    napari's sliders count in the finest steps over all layers. Scans of other cases stay in the viewer, hidden and
    anywhere in the world, so its numbers are not those of the case.
    """
    seen = [layer for layer in viewer.layers if layer.visible and isinstance(layer, (Image, Labels))]
    seen.sort(key=lambda layer: not isinstance(layer, Image))  # overlays may be coarser than the image
    for layer in seen:
        own = axis - (viewer.dims.ndim - layer.ndim)
        if own >= 0:
            first, last = (float(end) for end in layer.extent.world[:, own])
            distance = float(layer.extent.step[own])
            return SliceRow(first, distance, round((last - first) / distance) + 1)
    start, _, step = viewer.dims.range[axis]
    return SliceRow(float(start), float(step) or 1.0, int(viewer.dims.nsteps[axis]))


def _let_edit(layer: Any, picture: Picture) -> None:
    """Let the user paint in their own labels alone: a stray key must not arm an eraser on what was predicted."""
    if picture.kind == "labels":
        layer.editable = picture.editable


def give_form(layer: Any, picture: Picture) -> None:
    """Draw a labels layer filled or as an outline.

    napari's own contour is as thick as a voxel, so that of a lesion of four voxels across it would leave hardly
    anything of the map below to be seen. Errors over a map have no colour therefore: they are lines
    (`canvas_notes.CanvasOutlines`), while the layer still names them under the mouse.
    """
    if picture.colours == "errors":
        layer.colormap = _colormap(picture)
    elif picture.kind == "labels":  # napari takes no contour when a layer is made
        layer.contour = int(picture.form == "outline")


def _colormap(picture: Picture) -> Any:
    if picture.colour_scale is not None:
        return theme.map_colormap(picture.colour_scale.quantity)
    if picture.colours == "lanes":
        return theme.lane_colormap()
    if picture.colours == "errors":
        return theme.error_colormap(filled=picture.form == "fill")
    return theme.label_colormap(picture.values)


def _quantity(picture: Picture | None) -> str:
    return "" if picture is None or picture.colour_scale is None else picture.colour_scale.quantity


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
