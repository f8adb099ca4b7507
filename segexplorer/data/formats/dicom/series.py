"""Which series a folder or archive holds, and which volumes the frames of each form.

Series are listed by facts that name no patient, and one of them is chosen. Frames of one series are split into
volumes: by grid first, then, where several are at one position, by time, echo, b-value and the like. Slices that
are there twice are taken once.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.formats.dicom.files import Opener, find
from segexplorer.data.formats.dicom.header import SEGMENTATION, STRUCTURES, Frame, Header, read_header
from segexplorer.data.formats.dicom.pixels import read_frames
from segexplorer.data.formats.dicom.stack import Stack, collisions, depths, ordered, stacked
from segexplorer.data.grid import grid_notes

SeriesKind = Literal["image", "segmentation", "structures", "other"]


@dataclass(frozen=True)
class Series:
    """One volume of a folder, or one set of labels.

    Attributes
    ----------
    number
        Its position in the listing, from 1; what `select` and `--series` take.
    shape, spacing, orientation
        Of the volume; empty where there is none of its own (contours) or it cannot be put together.
    files
        Number of files that it is made of.
    problem
        Why it cannot be opened, or None.
    headers
        Of its files.
    """

    number: int
    kind: SeriesKind
    modality: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    files: int
    notes: tuple[str, ...]
    problem: DataError | None
    headers: tuple[Header, ...]
    frames: tuple[Frame, ...]

    @property
    def facts(self) -> dict[str, str]:
        """What a table shows."""
        return {
            "series": str(self.number),
            "kind": self.kind,
            "modality": self.modality or "unknown",
            "voxels": " × ".join(map(str, self.shape)),
            "spacing mm": " × ".join(f"{s:.4g}" for s in self.spacing),
            "orientation": self.orientation,
            "files": str(self.files),
            "notes": self.problem.message if self.problem else " ".join(self.notes),
        }

    @property
    def text(self) -> str:
        """The facts in a line."""
        size = f"{' × '.join(map(str, self.shape))} voxels, " if self.shape else ""
        kind = self.modality if self.kind == "image" else f"{self.modality} ({self.kind})"
        return f"{self.number}: {kind}, {size}{self.files} file{'s' if self.files > 1 else ''}"

    def stack(self) -> Stack:
        """Return its slices on one grid.

        Raises
        ------
        DataError
            When they form none.
        """
        for header in self.headers:
            if header.problem is not None:
                raise header.problem
        if not self.frames:
            # a report or a presentation state, chosen by its number
            raise DataError(f"{self.text} holds no voxels.", "Choose an image series.")
        distinct, dropped = without_copies(self.frames)
        stack = stacked(distinct)
        notes = (*stack.notes, *dropped, *grid_notes(stack.affine))
        if any(header.lossy for header in self.headers):
            notes = (*notes, "The images were compressed with loss.")
        if any(f.encoding.photometric == "MONOCHROME1" and not f.encoding.floating for f in distinct):
            notes = (
                *notes,
                "The images are stored with bright for low values (MONOCHROME1), and were inverted.",
            )
        return Stack(stack.frames, stack.affine, stack.sources, notes)


class SeveralSeriesError(DataError):
    """A folder or archive holds several series and none was chosen; `series` are those to choose from."""

    def __init__(self, message: str, remedy: str = "", series: Sequence[Series] = ()) -> None:
        super().__init__(message, remedy)
        self.series = tuple(series)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.remedy, self.series)


def list_series(path: str | Path) -> tuple[Series, ...]:
    """Return the series of a folder, zip archive or file, ordered as the scanner numbered them.

    Raises
    ------
    DataError
        When there is no DICOM file at all, or the archive cannot be trusted.
    """
    path = Path(path)
    headers, broken = _headers(path)
    if not headers:
        if broken:
            raise broken[0]
        what = "is a folder that holds" if path.is_dir() else "holds"
        raise DataError(
            f"{path.name} {what} no DICOM file.", "Name a volume, or the folder of a DICOM series."
        )
    groups: dict[tuple[SeriesKind, str], list[Header]] = {}
    for header in headers:
        kind = kind_of(header)
        # series that lost their UID are distinguished by number; labels are one file each
        bare = f"{header.modality} {header.series_number}"
        key = header.series or bare if kind == "image" else str(header.place)
        groups.setdefault((kind, key), []).append(header)
    by_number = sorted(groups.items(), key=lambda group: (group[1][0].series_number, *group[0]))
    volumes = [
        (kind, members, frames) for (kind, _), members in by_number for frames in _volumes(kind, members)
    ]
    listed = [_series(n, *volume) for n, volume in enumerate(volumes, start=1)]
    if broken:
        first = (
            broken[0].message
            if len(broken) == 1
            else f"{len(broken)} files cannot be read: {broken[0].message}"
        )
        problem = DataError(first, "Copy them again, or take them out of the folder.")
        listed = [replace(one, problem=one.problem or problem) for one in listed]
    return tuple(listed)


def choose(path: Path, *, label: bool = False, select: int | None = None) -> Series:
    """Return the series with this number, or the only one that fits.

    Parameters
    ----------
    label
        Whether a label is wanted: then the only segmentation or set of contours is preferred to an image.

    Raises
    ------
    SeveralSeriesError
        When there are several and none is chosen.
    DataError
        When there is none, or none with this number.
    """
    listed = list_series(path)
    kinds = ("segmentation", "structures") if label else ("image",)
    if select is not None:
        found = [series for series in listed if series.number == select]
        if not found:
            raise DataError(
                f"{path.name} has no series {select}; it holds {_listing(listed)}.",
                "Choose one of these numbers.",
            )
        return found[0]
    # a dose comes in the folder of its CT and is hardly ever meant
    fitting = [series for series in listed if series.kind in kinds and series.modality != "RTDOSE"]
    if not fitting:
        fitting = [series for series in listed if series.kind != "other"]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(f"{path.name} holds no image series.", "Name the folder of an image series.")
    raise SeveralSeriesError(
        f"{path.name} holds {len(fitting)} series: {_listing(fitting)}.",
        f"Choose one by its number, e.g. select={fitting[0].number} or --series {fitting[0].number}.",
        fitting,
    )


LARGEST = "largest"


def choose_by_rule(error: SeveralSeriesError, rule: str) -> Series:
    """Return the one of several series that a rule means.

    Parameters
    ----------
    rule
        "largest" (most voxels), a number of the listing, a modality ("CT"), or a part of the series' description,
        in any case; where several have that modality or description, the largest of them.

    Raises
    ------
    SeveralSeriesError
        When two are equally large: then nothing tells which one is meant.
    DataError
        When there is none.
    """
    wanted = rule.strip().lower()
    if wanted.isdecimal():
        found = [one for one in error.series if one.number == int(wanted)]
    elif wanted == LARGEST:
        found = list(error.series)
    else:
        found = [one for one in error.series if one.modality.lower() == wanted] or [
            one for one in error.series if any(wanted in h.description.lower() for h in one.headers)
        ]
    if not found:
        raise DataError(
            f"No series of modality or description {rule!r}: there are {_listing(error.series)}.",
            "Set data.series to largest, a modality, a number, or a part of the description.",
        )
    sizes = [math.prod(one.shape) for one in found]
    if sizes.count(max(sizes)) > 1:
        raise SeveralSeriesError(
            f"{error.message.removesuffix('.')}; several are equally large.",
            "Set data.series to a modality, a number, or a part of the description.",
            error.series,
        )
    return found[sizes.index(max(sizes))]


def kind_of(header: Header) -> SeriesKind:
    """Return what kind of series a file belongs to."""
    if header.sop_class in SEGMENTATION or header.modality == "SEG":
        return "segmentation"
    if header.sop_class in STRUCTURES or header.modality == "RTSTRUCT":
        return "structures"
    return "image" if header.frames or header.problem else "other"


def _headers(path: Path) -> tuple[list[Header], list[DataError]]:
    headers: list[Header] = []
    broken: list[DataError] = []
    with Opener() as opener:
        for place in find(path):
            try:
                header = read_header(place, opener)
            except DataError as error:
                broken.append(error)
                continue
            if header is not None:
                headers.append(header)
    return headers, broken


def _volumes(kind: SeriesKind, members: Sequence[Header]) -> list[list[Frame]]:
    """Split the frames of a series by grid, then by time, echo, b-value ... where positions repeat."""
    if kind != "image":
        return [[]]
    volumes: list[list[Frame]] = []
    for frames in grouped_by_grid(frame for header in members for frame in header.frames):
        try:
            volumes += split_by_phase(frames)
        except DataError:
            volumes.append(frames)  # stacking them says what is wrong
    return volumes or [[]]


def _series(number: int, kind: SeriesKind, members: Sequence[Header], frames: Sequence[Frame]) -> Series:
    used = {frame.place for frame in frames}
    own = tuple(header for header in members if kind != "image" or header.place in used or header.problem)
    files = {header.place for header in own}
    bare = Series(number, kind, own[0].modality, (), (), "", len(files), (), None, own, tuple(frames))
    if kind != "image":
        return bare
    try:
        stack = bare.stack()
    except DataError as error:
        return replace(bare, problem=error)
    affine = stack.affine
    return replace(
        bare,
        shape=stack.shape,
        spacing=geometry.spacing(affine),
        orientation=geometry.orientation(affine),
        notes=stack.notes,
    )


def _listing(series: Sequence[Series]) -> str:
    shown = "; ".join(one.text for one in series[:12])
    return shown if len(series) <= 12 else f"{shown}; and {len(series) - 12} more"


# --- frames into volumes ---

_ROUNDING = 1e-3
"""Cosines and mm by which the headers of slices of one volume may differ."""
_STATED = 5
"""The first phases (time point, echo, b-value, type, acquisition) may split a series unevenly; times may not."""


def without_copies(frames: Sequence[Frame]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """Return the frames without those whose position and voxels are those of another, and a note about them."""
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


def grouped_by_grid(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Group frames by size, orientation and pixel spacing, up to rounding in the headers."""
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
    # frames without a position belong to their file, single slices without one to their series
    if not a.placed and a.place != b.place and max(a.encoding.frames, b.encoding.frames) > 1:
        return False
    return _near(a.across, b.across) and _near(a.spacing, b.spacing)


def _near(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(x - y) < _ROUNDING for x, y in zip(a, b, strict=True))


def split_by_phase(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames of one grid that share positions by the first header value that distinguishes them."""
    if not collisions(ordered(frames)):
        return [list(frames)]
    phases = range(len(frames[0].phase))
    for phase in phases[:_STATED]:
        if parts := _by_value_of(frames, phase, smallest=2):
            return parts
    distinct, _ = without_copies(frames)
    if not collisions(distinct):
        return [list(frames)]
    for phase in phases[_STATED:]:
        if parts := _by_value_of(distinct, phase, smallest=len(frames)):
            return parts
    return _by_number(distinct)


def _by_value_of(frames: Sequence[Frame], phase: int, *, smallest: int) -> list[list[Frame]]:
    """Split frames by a phase if every part has each position once, or none twice and `smallest` frames or more."""
    parts: dict[str, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(frame.phase[phase], []).append(frame)
    groups = list(parts.values())
    if len(groups) < 2 or any(collisions(ordered(group)) for group in groups):
        return []
    even = len({_levels(group) for group in groups}) == 1
    return groups if even or min(map(len, groups)) >= smallest else []


def _levels(frames: Iterable[Frame]) -> tuple[float, ...]:
    own = ordered(list(frames))
    return tuple(round(float(d), 2) for d in sorted(depths(own)))


def _by_number(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames by the order of their numbers if every position has equally many; else keep them together."""
    levels = [round(float(depth), 2) for depth in depths(frames)]
    counts = Counter(levels)
    if len(set(counts.values())) != 1:
        return [list(frames)]
    volumes: list[list[Frame]] = [[] for _ in range(counts[levels[0]])]
    seen: Counter[float] = Counter()
    for level, frame in zip(levels, frames, strict=True):
        volumes[seen[level]].append(frame)
        seen[level] += 1
    return volumes
