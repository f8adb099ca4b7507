"""The segments of a .seg.nrrd: names and values in its header, layers where they overlap.

Definition: slicer.readthedocs.io, developer guide, "Segmentation labelmap file format (.seg.nrrd)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.colours import ClassColours, rgba
from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.data.formats.voxels import Frame, RawArray
from segexplorer.data.volume import Select

_KEY = re.compile(r"Segment(\d{1,6})_(Name|LabelValue|Layer)")


@dataclass(frozen=True)
class Segment:
    """One structure: its name, its value, and the layer in which that value means it."""

    name: str
    value: int
    layer: int


def segments_of(pairs: Mapping[str, str], layered: bool) -> tuple[Segment, ...]:
    """Return the segments that a header names, in their order.

    Where a header has no values (older files), each segment is its own layer with value 1.
    """
    raw: dict[int, dict[str, str]] = {}
    for key, text in pairs.items():
        if found := _KEY.fullmatch(key):
            raw.setdefault(int(found[1]), {})[found[2]] = text.strip()
    segments = []
    for place, number in enumerate(sorted(raw)):
        facts = raw[number]
        value, layer = facts.get("LabelValue", "1"), facts.get("Layer", str(place if layered else 0))
        if value.isdecimal() and layer.isdecimal():
            name = facts.get("Name") or f"segment {number}"
            segments.append(Segment(name, int(value[:10]), int(layer[:10])))
    places = {(segment.value, segment.layer) for segment in segments}
    return tuple(segments) if len(places) == len(segments) else ()


@dataclass(frozen=True)
class Layers:
    """Reads segments that may overlap into one label: 1, 2, ... in order, the later one where they do.

    `axis` is that of the layers, or None where there is but one.
    """

    stored: RawArray
    axis: int | None
    segments: tuple[Segment, ...]

    @classmethod
    def choose(
        cls, stored: RawArray, axis: int | None, segments: tuple[Segment, ...], select: Select, name: str
    ) -> Self:
        """Take the segments that `select` names, in its order, or all.

        Raises
        ------
        DataError
            When there is none of a name, or the file lacks a layer.
        """
        stored.check()
        layers = 1 if axis is None else stored.shape[axis]
        if any(segment.layer >= layers for segment in segments):
            raise DataError(f"{name} names a segment in a layer that it has not.", "Export it again.")
        if select is None:
            return cls(stored, axis, segments)
        known = {segment.name: segment for segment in segments}
        wanted = [part.strip() for part in str(select).split(",")]
        for want in wanted:
            if want not in known:
                raise DataError(f"{name} has no segment {want!r}.", did_you_mean(want, known))
        return cls(stored, axis, tuple(known[want] for want in wanted))

    @property
    def names(self) -> dict[int, str]:
        """Value in the label -> name."""
        return {value: segment.name for value, segment in enumerate(self.segments, start=1)}

    def __call__(self) -> NDArray[Any]:
        """Return the label in the smallest type that holds its values."""
        kind = np.uint8 if len(self.segments) < 256 else np.uint16
        label: NDArray[Any] | None = None
        loaded: dict[int, NDArray[Any]] = {}
        for value, segment in enumerate(self.segments, start=1):
            if segment.layer not in loaded:
                index: list[int | None] = [None] * len(self.stored.shape)
                if self.axis is not None:
                    index[self.axis] = segment.layer
                loaded = {segment.layer: Frame(self.stored, tuple(index), label=True)()}
            layer = loaded[segment.layer]
            label = np.zeros(layer.shape, kind, order="F") if label is None else label
            label[layer == segment.value] = value
        assert label is not None
        return label


def pairs_of(names: Mapping[int, str], shape: Iterable[int]) -> dict[str, str]:
    """Return the key/value pairs by which 3D Slicer knows the segments of a label."""
    extent = " ".join(f"0 {n - 1}" for n in shape)
    pairs = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    ordered = dict(sorted(names.items()))
    palette = ClassColours.of_values(ordered)
    for number, (value, name) in enumerate(ordered.items()):
        colour = rgba(palette.colour(name))[:3]
        pairs |= {
            f"Segment{number}_ID": f"Segment_{value}",
            f"Segment{number}_Name": name,
            f"Segment{number}_Color": " ".join(f"{part:.3f}" for part in colour),
            f"Segment{number}_LabelValue": str(value),
            f"Segment{number}_Layer": "0",
            f"Segment{number}_Extent": extent,
            f"Segment{number}_Tags": "|",
        }
    return pairs
