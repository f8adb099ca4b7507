"""The image of the watched case, shown once below everything that a run draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segexplorer.core.errors import SegExplorerError
from segexplorer.faces.napari import watching
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.layers import CaseLayers


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
            return None if ref is None else watching.image_of(ref.open, case, there)

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
