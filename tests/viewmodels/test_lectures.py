"""Lectures ask before they answer, and know what an empty window does not show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segexplorer.core.errors import SpecError
from segexplorer.viewmodels.displayed import Displayed
from segexplorer.viewmodels.lectures import LECTURES, Lecture, Place, lecture_named
from segexplorer.viewmodels.screen import Screen

EACH = pytest.mark.parametrize("lecture", LECTURES.values(), ids=list(LECTURES))


@EACH
def test_every_step_asks_says_what_to_click_and_answers(lecture: Lecture) -> None:
    assert lecture_named(lecture.name) is lecture and lecture.about[-1] in ".?"
    for step in lecture.steps:
        assert "?" in step.predict and "?" not in step.do
        assert step.do.count("**") >= 2 and step.do.count("**") % 2 == 0
        assert len(step.answer) > 40


@EACH
def test_a_window_that_shows_nothing_has_reached_no_step(lecture: Lecture) -> None:
    empty = Screen(Displayed())
    asking = replace(empty, displayed=Displayed(cls=1, step=100))
    for step in lecture.steps:
        assert not step.reached(empty) and not step.reached(asking)


@EACH
def test_going_on_hides_the_answer_and_ends_at_both_ends(lecture: Lecture) -> None:
    place = Place(lecture)
    assert place.moved(-1) is place and place.heading == f"Step 1 of {len(lecture.steps)}"
    assert place.revealed().answered and not place.revealed().moved(1).answered
    for _ in lecture.steps:
        place = place.moved(1)
    assert place.is_last and place.moved(1) is place and place.step is lecture.steps[-1]


def test_an_unknown_lecture_is_answered_with_those_that_exist() -> None:
    with pytest.raises(SpecError, match=f"Choose one of {', '.join(LECTURES)}"):
        lecture_named("nonsense")
