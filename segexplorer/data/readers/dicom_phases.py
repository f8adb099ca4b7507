"""Frames of one series parted into volumes by time, echo, b-value ...; slices that are there twice left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from segexplorer.data.readers.dicom_frames import Frame
from segexplorer.data.readers.dicom_pixels import read_frames
from segexplorer.data.readers.dicom_stack import collisions, depths, ordered

_ROUNDING = 1e-3
"""Cosines and mm by which the headers of slices of one volume may differ."""
_STATED = 5
"""The first phases (time point, echo, b-value, type, acquisition) may part a series unevenly; the times may not."""


def without_copies(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Leave out slices that lie where another lies and hold the same voxels; and say so."""
    sorted_frames = ordered(frames)
    twice = collisions(sorted_frames)
    if not twice:
        return sorted_frames, ()
    involved = sorted({i for pair in twice for i in pair})
    digests: dict[int, bytes] = {}
    for n, raw in read_frames([sorted_frames[i] for i in involved]):
        digests[involved[n]] = hashlib.sha256(raw.tobytes()).digest()
    drop = {b for a, b in twice if digests[a] == digests[b]}
    note = f"{len(drop)} slices were there twice, with the same voxels; each was taken once."
    if len(drop) == 1:
        note = "One slice was there twice, with the same voxels; it was taken once."
    return tuple(f for i, f in enumerate(sorted_frames) if i not in drop), (note,) if drop else ()


def together(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Part frames by size, orientation and pixel spacing, rounding of the header allowed for."""
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((group for group in groups if _alike(frame, group[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _alike(a: Frame, b: Frame) -> bool:
    if (a.encoding.rows, a.encoding.columns, a.placed) != (b.encoding.rows, b.encoding.columns, b.placed):
        return False
    # what does not say where it lies belongs to its file, or as a slice to its series
    if not a.placed and a.place != b.place and max(a.encoding.frames, b.encoding.frames) > 1:
        return False
    return _near(a.across, b.across) and _near(a.spacing, b.spacing)


def _near(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(x - y) < _ROUNDING for x, y in zip(a, b, strict=True))


def parted(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Part frames of one grid that lie at the same places by the first header fact that tells them apart."""
    if not collisions(ordered(frames)):
        return [list(frames)]
    facts = range(len(frames[0].phase))
    for fact in facts[:_STATED]:
        if parts := _by_fact(frames, fact, smallest=2):
            return parts
    distinct, _ = without_copies(frames)
    if not collisions(distinct):
        return [list(frames)]
    for fact in facts[_STATED:]:
        if parts := _by_fact(distinct, fact, smallest=len(frames)):
            return parts
    return _by_number(distinct)


def _by_fact(frames: Sequence[Frame], fact: int, *, smallest: int) -> list[list[Frame]]:
    """Part frames by a fact where each part has every place once, or none twice and at least `smallest` frames."""
    parts: dict[str, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(frame.phase[fact], []).append(frame)
    groups = list(parts.values())
    if len(groups) < 2 or any(collisions(ordered(group)) for group in groups):
        return []
    even = len({_levels(group) for group in groups}) == 1
    return groups if even or min(map(len, groups)) >= smallest else []


def _levels(frames: Iterable[Frame]) -> tuple[float, ...]:
    own = ordered(list(frames))
    return tuple(round(float(d), 2) for d in sorted(depths(own)))


def _by_number(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Part frames by the order of their numbers where every place has as many; else leave them together."""
    level = [round(frame_depth, 2) for frame_depth in depths(frames)]
    counts = Counter(level)
    if len(set(counts.values())) != 1:
        return [list(frames)]
    volumes: list[list[Frame]] = [[] for _ in range(counts[level[0]])]
    seen: Counter[float] = Counter()
    for place, frame in zip(level, frames, strict=True):
        volumes[seen[place]].append(frame)
        seen[place] += 1
    return volumes
