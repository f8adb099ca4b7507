"""From a screen to what its planes draw; what has not changed keeps its objects, so that it is not sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.planes import (
    PlaneLayer,
    PlaneLines,
    Scene,
    compact,
    image_layer,
    outline_lines,
    overlay,
)
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.watched_case import LAYER_ORDER, prediction_picture
from segexplorer.viewmodels.why import PULL

Part = PlaneLayer | PlaneLines
T = TypeVar("T")
_ORDER: tuple[str, ...] = (PULL, *LAYER_ORDER)


class SceneMaker:
    """Makes scenes, one after the other."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, Any]] = {}

    def of_screen(self, screen: Screen, image: Picture | None) -> Scene:
        """Return the image of the case with everything that a screen draws over it."""
        drawn: list[Part] = [] if image is None else [self._image(image)]
        if image is None and screen.seen is not None:
            drawn.append(self._blank(screen))
        for key in _ORDER:
            picture = screen.layers.get(key)  # type: ignore[call-overload]
            # over a map the rims of errors are among the outlines
            if picture is not None and not (key == "errors" and picture.form == "outline"):
                drawn.append(self._known(key, picture, overlay, picture))
        rims = screen.rims
        for name, outlines in (("outlines", screen.outlines), ("mark", screen.mark)):
            if outlines is not None:
                make = partial(outline_lines, key=name, rims=rims)
                drawn.append(self._known(name, (outlines, rims), make, outlines))
        return _scene(drawn, neurological=screen.displayed.convention == "neurological")

    def of_pictures(self, pictures: Sequence[Picture]) -> Scene:
        """Return an image with its labels."""
        drawn: list[Part] = []
        for picture in pictures:
            if picture.kind == "image":
                drawn.append(self._image(picture))
            else:
                drawn.append(self._known(picture.key, picture, lambda p: overlay(compact(p)), picture))
        return _scene(drawn, neurological=False)

    def _image(self, image: Picture) -> PlaneLayer:
        return self._known("image", image, image_layer, image)

    def _blank(self, screen: Screen) -> PlaneLayer:
        """Return black where a case has no image, so that its errors have something to be on."""
        assert screen.seen is not None
        snapshot = screen.seen.snapshot

        def made(_: Any) -> PlaneLayer:
            picture = prediction_picture(snapshot, key="image")
            black = picture.data * 0
            return image_layer(_replaced(picture, black))

        found: PlaneLayer = self._known("blank", snapshot.prediction.shape, made, None)
        return found

    def _known(self, key: str, source: Any, make: Callable[[Any], T], argument: Any) -> T:
        kept = self._made.get(key)
        if kept is not None and _is_same(kept[0], source):
            found: T = kept[1]
            return found
        made = make(argument)
        self._made[key] = (source, made)
        return made


def _replaced(picture: Picture, data: Any) -> Picture:
    return replace(picture, kind="image", data=data, colours="grey", contrast_limits=(0.0, 1.0))


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(a is b or (isinstance(a, (bool, int)) and a == b) for a, b in zip(one, other, strict=True))
    return one is other


def _scene(drawn: Sequence[Part], *, neurological: bool) -> Scene:
    return Scene(
        tuple(part for part in drawn if isinstance(part, PlaneLayer)),
        tuple(part for part in drawn if isinstance(part, PlaneLines)),
        neurological,
    )
