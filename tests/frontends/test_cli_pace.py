"""The time left is right for work whose pace is steady, from the second case on to the second."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from segexplorer.frontends.cli.predict import WindowDisplay
from segexplorer.frontends.cli.terminal import EtaEstimator

READ, WINDOW, WRITE = 5.0, 2.0, 3.0


def play(windows: list[int]) -> list[tuple[int, int, float | None, float]]:
    """Return (case, windows done in it, time left as told, true time left) after every report of a steady work."""
    total = sum(READ + n * WINDOW + WRITE for n in windows)
    pace, now, told = EtaEstimator(windows, 100.0), 100.0, []

    def note(done: int) -> None:
        told.append((pace.case, done, pace.left(), 100.0 + total - now))

    for count in windows:
        now += READ
        pace.update(0, now)
        note(0)
        for done in range(1, count + 1):
            now += WINDOW
            pace.update(done, now)
            note(done)
        now += WRITE
        pace.tell_case(now)
    assert pace.done == sum(windows)
    assert pace.left() == 0
    return told


def test_nothing_is_reported_before_the_first_window() -> None:
    assert [left for case, done, left, _ in play([4, 2]) if (case, done) == (0, 0)] == [None]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_a_steady_pace_is_told_exactly_once_a_case_is_known(windows: list[int]) -> None:
    for case, _, left, true in play(windows):
        if case:
            assert left == pytest.approx(true)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_the_first_case_lacks_only_what_nobody_can_know(windows: list[int]) -> None:
    for case, done, left, true in play(windows):
        if case == 0 and done:
            assert left is not None
            assert left == pytest.approx(true - WRITE * len(windows))


@pytest.mark.parametrize("width", [80, 120])
def test_bar_tells_windows_of_the_case_and_in_all_on_one_line(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with WindowDisplay(console, [3375, 3375]) as display:
        display.show("predicting", 0)
        display.show("predicting", 1200)
        display.refresh()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line for line in shown.replace("\r", "\n").split("\n") if "1200/3375" in line]
    assert any("case 1/2, predicting" in line and "all 1200/6750" in line for line in lines)
    assert any(line.rstrip().endswith(" left") and "…" not in line for line in lines)
