"""Which volume of a file with more than three axes: a frame of a time series, or a channel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.data.volume import Select


class SeveralVolumesError(DataError):
    """A file that holds several volumes, of which none was chosen.

    Attributes
    ----------
    counts
        How many there are along each axis beyond the three of space; lengths of 1 left out.
    """

    def __init__(self, message: str, remedy: str = "", counts: Sequence[int] = ()) -> None:
        super().__init__(message, remedy)
        self.counts = tuple(counts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.remedy, self.counts)

    def choices(self) -> list[str]:
        """Return every `select` there is, the first axis fastest."""
        ranges = [range(n) for n in reversed(self.counts)]
        return [", ".join(str(i) for i in reversed(index)) for index in itertools.product(*ranges)]


def choose_frame(extra: Sequence[int], select: Select, name: str) -> tuple[int, ...]:
    """Return the index along each axis beyond the three of space.

    Parameters
    ----------
    extra
        Lengths of these axes; those of length 1 need no choice.
    select
        A number from 0, or for several axes one number each, e.g. "2, 0"; see `open_volume`.

    Raises
    ------
    SeveralVolumesError
        When there is a choice and none was made.
    DataError
        When the choice is none of those.
    """
    several = [n for n in extra if n > 1]
    if select is None:
        if not several:
            return (0,) * len(extra)
        count = math.prod(several)
        what = (
            f"holds {count} volumes" if len(several) == 1 else f"has {3 + len(extra)} axes, {count} volumes"
        )
        text = f"{name} {what}; a single 3D volume is needed."
        raise SeveralVolumesError(text, how_to_choose(several), several)
    chosen = _numbers(select)
    wanted = [n for n in extra if n > 1] if len(chosen) == len(several) else list(extra)
    if not wanted and chosen == [0]:
        return (0,) * len(extra)
    if (
        not chosen
        or len(chosen) != len(wanted)
        or any(not 0 <= index < n for index, n in zip(chosen, wanted, strict=False))
    ):
        remedy = how_to_choose(several) if several else "It holds one volume; choose nothing."
        raise DataError(f"{name} has no frame {select}.", remedy)
    if len(wanted) == len(extra):
        return tuple(chosen)
    rest = iter(chosen)
    return tuple(next(rest) if n > 1 else 0 for n in extra)


def how_to_choose(several: Sequence[int]) -> str:
    """Return the remedy: which numbers there are and how one is given."""
    ranges = " and ".join(f"from 0 to {n - 1}" for n in several)
    example = ", ".join("0" for _ in several)
    given = example if len(several) == 1 else f'"{example}"'
    return f"Choose one by its number, {ranges}, with select={given} or --select {given}."


def _numbers(select: int | str) -> list[int]:
    if isinstance(select, int):
        return [select]
    parts = select.split(",")
    return [int(part) for part in parts] if all(part.strip().isdecimal() for part in parts) else []
