"""Three linked planes in a cell: an anywidget that composes slices in the browser from uint8 volumes.

The kernel sends a volume once, cut to what is in it and deflated, and afterwards only what changed. Volumes are
messages and no traits, so that a saved notebook does not hold them; a page that is loaded anew asks for them again.
Nothing here needs WebGL.
"""

from __future__ import annotations

import threading
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from segexplorer.frontends.notebook.figure import script
from segexplorer.viewmodels.outlines import LINES
from segexplorer.viewmodels.planes import ORDERS, PlaneLayer, PlaneLines, Scene
from segexplorer.viewmodels.screen import Screen

_LEVEL = 1
"""Of compression: the fastest; labels become small anyway, and images hardly smaller with more effort."""
_MOST_BYTES = 8_000_000
"""Of a message; Colab takes 24 MB."""
_CASINGS = {
    1 + place: {
        "truth": "rgba(26,26,26,.5)",
        "prediction": "rgba(255,255,255,.35)",
        "here": "rgba(26,26,26,.5)",
    }[line]
    for place, line in enumerate(LINES)
    if line in {"truth", "prediction", "here"}
}
"""Code of a line -> what is drawn under it, so that it is seen on any background."""


NOTHING_YET = "Press Start: the watched cases appear here with the first prediction."


class PlanesWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """The planes.

    Attributes
    ----------
    uid
        Names the widget in its page; its comm has the same id.
    place
        (z, y, x) in mm of the crosshair; also set by the browser.
    ready
        Whether a browser has asked for the scene; until then nothing is sent.
    sent
        Bytes of volumes sent so far.
    """

    _esm = script("planes.js")
    _css = (Path(__file__).parent / "planes.css").read_text(encoding="utf-8")
    uid = traitlets.Unicode().tag(sync=True)
    place = traitlets.List([0.0, 0.0, 0.0]).tag(sync=True)

    def __init__(self) -> None:
        uid = uuid.uuid4().hex
        super().__init__(uid=uid, model_id=uid)
        self.ready, self.sent = False, 0
        self.webgl: bool | None = None
        """Whether the browser has WebGL; None until it has said so."""
        self.clicked: Callable[[tuple[float, float, float]], object] = lambda place: None
        """Called with (z, y, x) in mm."""
        self.viewed: Callable[[int], object] = lambda count: None
        """Called with how many views there are when one comes or goes."""
        self._scene = Scene()
        self._words: dict[str, Any] = {"kind": "text"}
        self._known: dict[str, Any] = {}
        self._sending = threading.Lock()
        self.on_msg(self._on_message)

    def show(self, scene: Scene) -> None:
        """Draw another scene; what the browser has already is not sent again."""
        self._scene = scene
        if self.ready:
            self._send_new()

    def _send_new(self) -> None:
        with self._sending:  # a page asks in another thread than pictures come from
            scene = self._scene
            for part in scene.parts:
                if self._known.get(part.key) is not part:
                    self._send_part(part)
            kept = {part.key for part in scene.parts}
            self._known = {key: part for key, part in self._known.items() if key in kept}
            self._send_scene()

    def say(self, **words: Any) -> None:
        """Show other words: caption, legend, bar, absent, read, message, failed."""
        new = {**self._words, **words}
        if new != self._words:
            self._words = new
            if self.ready:
                self.send(new)

    def go_to(self, place: Sequence[float]) -> None:
        """Move the crosshair."""
        self.place = list(self._scene.inside(place))

    def _send_part(self, part: PlaneLayer | PlaneLines) -> None:
        self._known[part.key] = part
        where = {"key": part.key, "scale": list(part.scale), "translate": list(part.translate)}
        if isinstance(part, PlaneLayer):
            content = {"kind": "layer", "shape": list(part.data.shape), "smooth": part.smooth, **where}
            buffers = [_deflated(part.data), np.ascontiguousarray(part.table).tobytes()]
        else:
            inks = {str(code): ink for code, ink in part.inks.items()}
            casing = _CASINGS if part.key in {"outlines", "mark"} else {}
            content = {"kind": "lines", "shape": list(part.faces[0].shape), "inks": inks, **where}
            content["casing"] = {str(code): ink for code, ink in casing.items()}
            buffers = [_deflated(faces) for faces in part.faces]
        self.sent += sum(map(len, buffers))
        pieces, content["sizes"] = _pieces(buffers), list(map(len, buffers))
        for piece in pieces[:-1]:
            self.send({"kind": "piece"}, [piece])
        self.send(content, pieces[-1:])

    def _send_scene(self) -> None:
        scene = self._scene
        letters = {plane: scene.letters(plane) for plane in ORDERS}
        self.send(
            {
                "kind": "scene",
                "layers": [layer.key for layer in scene.layers],
                "lines": [lines.key for lines in scene.lines],
                "neurological": scene.neurological,
                "letters": {plane: [e.left, e.right, e.top, e.bottom] for plane, e in letters.items()},
            }
        )

    def _on_message(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        kind = content.get("kind")
        if kind == "ready":
            self.webgl, self.ready, self._known = bool(content.get("webgl")), True, {}
            self._send_new()
            self.send(self._words)
        elif kind == "views":
            self.viewed(int(content.get("count", 0)))
        elif kind == "click":
            z, y, x = (float(v) for v in content["place"])
            self.clicked((z, y, x))


def _pieces(buffers: Sequence[bytes]) -> list[bytes]:
    """Return buffers one behind the other, cut into messages that every server and proxy lets through."""
    whole = b"".join(buffers)
    return [whole[begin : begin + _MOST_BYTES] for begin in range(0, len(whole), _MOST_BYTES)] or [b""]


def _deflated(data: NDArray[np.uint8]) -> bytes:
    return zlib.compress(np.ascontiguousarray(data).data, _LEVEL)


def words_of(screen: Screen) -> dict[str, Any]:
    """Return what a screen says beside its planes, as `PlanesWidget.say` takes it."""
    caption = screen.caption
    said = [
        ("case", caption.case),
        ("fact" if caption.held == "not trained on" else "held", caption.held),
        ("class", caption.class_name),
        ("step", caption.step),
        ("convention", caption.convention),
        ("remark", caption.remark),
    ]
    return {
        "caption": [list(pair) for pair in said],
        "legend": [[entry.name, entry.colour, entry.form] for entry in screen.legend],
        "bar": bar_of(screen),
        "absent": [absence.text for absence in screen.absent],
        "read": screen.read_out,
        # the window's own sentence is of data sets and results as well
        "message": NOTHING_YET if screen.displayed.source == "layers" else screen.message,
        "failed": screen.failed,
    }


def bar_of(screen: Screen) -> dict[str, Any] | None:
    """Return the colour bar of the map that is drawn."""
    scale = screen.map
    if scale is None:
        return None
    inks = np.rint(np.asarray(scale.colours) * 255).astype(int).tolist()
    return {
        "title": scale.title,
        "scope": scale.scope,
        "colours": inks,
        "ticks": list(scale.ticks),
        "ends": list(scale.ends),
        "note": scale.note,
    }
