"""Surfaces of truth, prediction and errors in 3D, as plotly meshes; the one part of a cell that needs WebGL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segexplorer.core.errors import require
from segexplorer.frontends.notebook.figure import FigureWidget
from segexplorer.viewmodels.surfaces import OPACITIES, ORDER, Part, SurfacePicture

NO_WEBGL = "This browser has no WebGL, so surfaces cannot be drawn here. The planes show the same case."
EMPTY = "Surfaces are made of a prediction; there is none yet."


class SolidFigure:
    """The surfaces of a screen; made when somebody looks at them.

    Attributes
    ----------
    figure
        A `plotly.graph_objects.Figure`.
    widget
        What shows it.
    """

    def __init__(self) -> None:
        graph = require("plotly.graph_objects", "notebook", "Surfaces in a notebook")
        self._mesh = graph.Mesh3d
        hidden = {"visible": False}
        self.figure = graph.Figure(
            layout={
                "height": 420,
                "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
                "paper_bgcolor": "rgba(0,0,0,0)",
                "uirevision": "kept",
                "hoverlabel": {"namelength": -1},
                "scene": {
                    "xaxis": hidden,
                    "yaxis": hidden,
                    "zaxis": hidden,
                    "aspectmode": "data",
                    # from the front and a little above, the patient's right on the left as in the planes
                    "camera": {"eye": {"x": 0.0, "y": 1.8, "z": 0.5}, "up": {"x": 0, "y": 0, "z": 1}},
                },
            }
        )
        self.widget = FigureWidget(self.figure)
        self._drawn: dict[Part, SurfacePicture] = {}

    def draw(self, surfaces: Mapping[Part, SurfacePicture]) -> None:
        """Draw the surfaces that are new."""
        if all(self._drawn.get(part) is made for part, made in surfaces.items()) and len(self._drawn) == len(
            surfaces
        ):
            return
        self._drawn = dict(surfaces)
        self.figure.data = ()
        for part in ORDER:
            if part in surfaces:
                self.figure.add_trace(self._trace(part, surfaces[part]))
        self.widget.draw()

    def _trace(self, part: Part, made: SurfacePicture) -> Any:
        z, y, x = np.asarray(made.vertices, np.float32).T
        i, j, k = np.asarray(made.faces, np.int32).T
        inks = np.rint(np.asarray(made.colours)[:, :3] * 255).astype(np.uint8)
        return self._mesh(
            x=x,
            y=y,
            z=z,
            i=i,
            j=j,
            k=k,
            vertexcolor=inks,
            opacity=OPACITIES[part],
            name=made.name,
            hoverinfo="name",
            # the colours are lit already
            lighting={"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},
        )
