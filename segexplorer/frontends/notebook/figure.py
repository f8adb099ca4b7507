"""A plotly figure in a cell, whose code is sent once for a page, and as long as it takes.

plotly's own widget carries its code of 5 MB in each figure, and stays empty in a browser that needs more than two
seconds for it: over a slow line, or beside a training. This one sends the code, deflated, to a page that asks.
"""

from __future__ import annotations

import functools
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from segexplorer.core.errors import require

_LEVEL = 1
_HERE = Path(__file__).parent


def script(name: str) -> str:
    """Return the code of a widget as text, since anywidget may watch the file of a path in a thread."""
    return "".join((_HERE / part).read_text(encoding="utf-8") for part in ("listen.js", name))


@functools.cache
def _code() -> bytes:
    """Return plotly.js, deflated."""
    offline = require("plotly.offline", "notebook", "Figures in a notebook")
    return zlib.compress(offline.get_plotlyjs().encode(), 6)


class FigureWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """Shows a figure; `draw` after it has changed.

    Parameters
    ----------
    figure
        A `plotly.graph_objects.Figure` with a height.

    Attributes
    ----------
    uid
        Names the widget in its page; its comm has the same id.
    viewed
        Called with how many views there are when one comes or goes.
    ready
        Whether a browser has asked for the figure; until then nothing is sent.
    sent
        Bytes of figures sent so far, without plotly's code.
    """

    _esm = script("figure.js")
    uid = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int().tag(sync=True)

    def __init__(self, figure: Any) -> None:
        uid = uuid.uuid4().hex
        super().__init__(uid=uid, model_id=uid, height=int(figure.layout.height))
        self.figure = figure
        self.viewed: Callable[[int], object] = lambda count: None
        self.ready, self.sent = False, 0
        self.on_msg(self._on_message)

    def draw(self) -> None:
        """Send the figure to the browsers that show it; zoom and camera of a reader stay."""
        if self.ready:
            made = zlib.compress(self.figure.to_json(validate=False).encode(), _LEVEL)
            self.sent += len(made)
            self.send({"kind": "figure"}, [made])

    def _on_message(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if content.get("kind") == "views":
            self.viewed(int(content.get("count", 0)))
        elif content.get("kind") == "ready":
            self.ready = True
            if content.get("code"):
                self.send({"kind": "code"}, [_code()])
            self.draw()
