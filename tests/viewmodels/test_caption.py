"""The caption: long names shrink in the middle, facts never; and overlays that draw nothing in a slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.absences import absences
from segexplorer.viewmodels.caption import Caption, elided
from segexplorer.viewmodels.errors import class_legend
from segexplorer.viewmodels.layer_images import filled_slices
from segexplorer.viewmodels.watched_case import Wanted

LONG = "segmental bronchus of the left upper lobe, apicoposterior B1+2"
CAPTION = Caption(
    "s0011_portal_venous_phase_thin_slices",
    "not trained on",
    LONG,
    "step 4000",
    "radiological (R on the left)",
)


@pytest.mark.parametrize("room", [12, 20, 30, 44, 60, 90, 200])
def test_lines_fit_and_keep_the_facts(room: int) -> None:
    lines = CAPTION.lines(room, len)
    assert all(len(line) <= max(room, len(CAPTION.convention)) for line in lines)
    assert len(lines) <= 5
    said = "\n".join(lines)
    for fact in (CAPTION.held, CAPTION.step, "radiological"):
        assert fact in said
    assert CAPTION.case[:3] in said and said.splitlines()[0].startswith("s00")
    assert (LONG in said) == (room >= len(LONG))


@pytest.mark.parametrize("room", [28, 44, 60, 90, 140, 300])
def test_across_all_views_the_caption_takes_few_lines_and_keeps_the_facts(room: int) -> None:
    lines = CAPTION.flowing(room, len)
    assert all(len(line) <= room for line in lines)
    assert len(lines) <= len(CAPTION.lines(room, len))
    for fact in (CAPTION.held, CAPTION.step, "radiological"):
        assert fact in " ".join(lines)
    assert len(lines) == 1 or room < len(CAPTION.text)
    narrow = Caption("case", "training case, not held out").flowing(16, len)
    assert narrow == ("case", "training case,", "not held out"), "broken between words, not cut"


def test_a_remark_is_wrapped_not_cut() -> None:
    remark = "what if: bias +0.5; not of this case: 104 boxes, old CT"
    told = replace(CAPTION, remark=remark).lines(30, len)[-2:]
    assert " ".join(told) == remark
    many = replace(CAPTION, remark=f"not of this case: {', '.join(f'scan {n}' for n in range(40))}")
    last = many.lines(30, len)[-3:]
    assert last[0].startswith("not of this case: scan 0") and last[-1].endswith(" …")


def test_an_empty_caption_has_no_lines() -> None:
    assert (
        not Caption()
        and Caption().lines(100, len) == Caption().flowing(100, len) == ()
        and Caption().text == ""
    )


def test_both_ends_of_a_shortened_text_stay() -> None:
    assert elided("abcdefghijklmnop", 9, len) == "abcd…mnop"
    assert elided("abc", 1, len) == "abc"
    assert len(elided(LONG, 0, len)) == 7


def test_a_legend_of_many_classes_has_each_once_in_its_own_colour() -> None:
    names = tuple(f"{LONG} {number}" for number in range(104))
    entries = class_legend(names, range(1, 105), "fill")
    assert [entry.name for entry in entries] == list(names)
    assert len({entry.colour for entry in entries}) == 104


def test_what_is_not_in_a_slice_is_said_with_the_nearest_where_it_is() -> None:
    prediction = np.zeros((6, 5, 9), np.uint8)
    prediction[2, 2, [1, 7]] = 1
    affine = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 3.0, -10], [0, 0, 0, 1]])
    snapshot = WatchedSnapshot("c", "train", 1, 0, ("vessel",), affine, prediction, np.zeros_like(prediction))
    seen = watched_case.see(snapshot, None, Wanted(frozenset({"errors"}), 1))

    def here(axis: int, world: float) -> tuple[object, ...]:
        return tuple(
            (a.text, a.axis, a.world) for a in absences(snapshot, seen.pictures, "vessel", axis, world)
        )

    assert here(0, -10 + 3 * 7) == ()
    assert here(0, -10 + 3 * 5) == (("No vessel error in this slice; nearest: 7", 0, 11.0),)
    assert here(0, -500.0) == (("No vessel error in this slice; nearest: 1", 0, -7.0),)
    assert here(1, 4.0) == (("No vessel error in this slice; nearest: 2", 1, 2.0),)
    nothing = watched_case.see(
        WatchedSnapshot("c", "train", 1, 0, ("vessel",), affine, prediction, prediction.copy()),
        None,
        Wanted(frozenset({"errors"}), 1),
    )
    (absence,) = absences(snapshot, nothing.pictures, "all classes", 0, 0.0)
    assert absence.text == "No error in this case." and absence.world is None


def test_filled_slices_are_found_along_each_axis() -> None:
    data = np.zeros((2, 3, 4), np.uint8)
    data[1, 0, 2] = 5
    assert [np.flatnonzero(found).tolist() for found in filled_slices(data)] == [[1], [0], [2]]
