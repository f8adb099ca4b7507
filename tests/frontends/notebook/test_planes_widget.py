"""What the browser is sent: each volume once, and after a change only what changed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.frontends.notebook import planes


def listened(explorer: Any) -> list[tuple[str, str, int]]:
    """Note what is sent: kind, key and bytes of every message."""
    sent: list[tuple[str, str, int]] = []
    explorer.planes._on_message(None, {"kind": "ready", "webgl": True}, [])

    def send(content: Any, buffers: Any = None) -> None:
        sent.append((content["kind"], content.get("key", ""), sum(map(len, buffers or ()))))

    explorer.planes.send = send
    return sent


def test_only_what_changed_is_sent(explored: Any, finished: Path) -> None:
    explorer = explored.volume(finished)
    explorer.display.wait(60)
    sent = listened(explorer)
    explorer.show.history.value = 2
    explorer.display.wait(60)
    parts = [(kind, key) for kind, key, _ in sent if kind in {"layer", "lines"}]
    assert parts == [("layer", "errors"), ("lines", "outlines")]
    sent.clear()
    explorer.go_to([p + 3 for p in explorer.planes.place])
    assert not any(size for _, _, size in sent)
    explorer.show.overlays["errors"].value = False
    explorer.display.wait(60)
    assert not any(size for _, _, size in sent), "hiding an overlay needs no volume"


def test_a_page_that_is_loaded_anew_gets_everything(explored: Any, finished: Path) -> None:
    explorer = explored.volume(finished)
    explorer.display.wait(60)
    content: dict[str, Any] = {}

    def send(message: Any, buffers: Any = None) -> None:
        content[message.get("key") or message["kind"]] = (message, buffers)

    explorer.planes.send = send
    explorer.planes._on_message(None, {"kind": "ready", "webgl": False}, [])
    assert set(content) == {"image", "errors", "outlines", "scene", "text"}
    message, (whole,) = content["image"]
    data = np.frombuffer(zlib.decompress(whole[: message["sizes"][0]]), np.uint8).reshape(message["shape"])
    np.testing.assert_array_equal(data, explorer._scene.layers[0].data)
    assert explorer.planes.webgl is False


def test_a_large_volume_comes_in_pieces(
    explored: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = explored.volume(finished)
    explorer.display.wait(60)
    monkeypatch.setattr(planes, "_MOST_BYTES", 1000)
    sent: list[tuple[Any, Any]] = []
    explorer.planes.send = lambda content, buffers=(): sent.append((content, buffers))
    explorer.planes._on_message(None, {"kind": "ready", "webgl": False}, [])
    (place,) = (n for n, (content, _) in enumerate(sent) if content.get("key") == "image")
    content, _ = sent[place]
    assert place > 1 and all(c["kind"] == "piece" for c, _ in sent[:place])
    assert all(len(buffer) <= 1000 for _, buffers in sent for buffer in buffers)
    whole = b"".join(buffer for _, buffers in sent[: place + 1] for buffer in buffers)
    assert len(whole) == sum(content["sizes"])
    data = np.frombuffer(zlib.decompress(whole[: content["sizes"][0]]), np.uint8)
    np.testing.assert_array_equal(data.reshape(content["shape"]), explorer._scene.layers[0].data)


def test_volumes_are_not_part_of_the_saved_state(explored: Any, finished: Path) -> None:
    explorer = explored.volume(finished)
    explorer.display.wait(60)
    state = explorer.planes.get_state()
    kept = {key: value for key, value in state.items() if not key.startswith("_") and key not in {"layout"}}
    assert set(kept) <= {"uid", "place", "tabbable", "tooltip"}


def test_a_click_asks_there(explored: Any, finished: Path) -> None:
    explorer = explored.volume(finished)
    explorer.display.wait(60)
    place = list(explorer.planes.place)
    explorer.planes._on_message(None, {"kind": "click", "place": place}, [])
    assert explorer.display.reality.mouse == tuple(place)
    assert explorer.planes._words["read"]


def test_without_webgl_the_planes_stay_and_3d_says_why(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    explorer.display.wait(60)
    explorer.planes._on_message(None, {"kind": "ready", "webgl": False}, [])
    explorer.tab("3D")
    assert "no WebGL" in explorer._solid_box.children[0].value and explorer._scene.layers


def test_3d_shows_truth_and_errors(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    explorer.display.wait(60)
    explorer.tab("3D")
    explorer.display.wait(60)
    assert {trace.opacity for trace in explorer.solid.figure.data} == {0.25, 1.0}
