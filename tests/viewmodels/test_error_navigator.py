"""The list of errors: sorting, filters, search, verdicts by overlap, and errors through time."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

import numpy as np
import pytest

from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.verdicts import Verdict
from segexplorer.viewmodels.error_navigator import (
    ErrorNavigator,
    Filter,
    assign_verdicts,
    biography,
    csv_text,
    first_steps,
    records,
    samples_of,
    share_wrong,
    verdict_on,
)
from segexplorer.viewmodels.error_pieces import ErrorPiece, error_pieces

AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])
NAMES = ("liver", "spleen")
SHAPE = (14, 10, 8)


@dataclass(frozen=True)
class Recorded:
    """A frame of history."""

    step: int
    values: np.ndarray

    def prediction(self) -> np.ndarray:
        return self.values


def truth() -> np.ndarray:
    made = np.zeros(SHAPE, np.uint8)
    made[1:5, 1:5, 1:5] = 1
    made[9:12, 1:4, 1:4] = 2
    return made


def pieces_of(prediction: np.ndarray, **rest: int) -> tuple[ErrorPiece, ...]:
    return error_pieces(prediction, truth(), NAMES, AFFINE, **rest)


def snapshot(prediction: np.ndarray, step: int = 9) -> WatchedSnapshot:
    return WatchedSnapshot(
        case="phantom_001", role="validation", step=step, index=0, class_names=NAMES, affine=AFFINE,
        prediction=prediction, truth=truth(),
    )  # fmt: skip


def several() -> np.ndarray:
    """Too little liver (16 ml), a missed spleen (27 ml), spurious liver (2 ml)."""
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[2:5, 1:5, 1:5] = 1
    prediction[7:9, 8, 7] = 1
    return prediction


def listed(**rest: object) -> ErrorNavigator:
    navigator = ErrorNavigator(**rest).with_pieces(pieces_of(several()), (), "phantom_001")  # type: ignore[arg-type]
    assert [entry.number for entry in navigator.entries] == [1, 2, 3]
    return navigator


def shown(navigator: ErrorNavigator) -> list[str]:
    return [entry.piece.kind for entry in navigator.shown]


def test_orders() -> None:
    navigator = listed()
    assert shown(navigator) == ["missed_object", "too_little", "spurious_object"]
    assert shown(replace(navigator, order="kind")) == ["missed_object", "spurious_object", "too_little"]
    assert shown(replace(navigator, order="class")) == ["too_little", "spurious_object", "missed_object"]
    assert shown(replace(navigator, order="place"))[0] == "spurious_object"
    assert shown(replace(navigator, order="depth"))[0] == "missed_object"
    dated = navigator.with_since([30, 10, 20])
    assert shown(replace(dated, order="since")) == ["too_little", "spurious_object", "missed_object"]


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (Filter(kinds=frozenset({"too_little"})), ["too_little"]),
        (Filter(class_names=frozenset({"spleen"})), ["missed_object"]),
        (Filter(smallest_ml=10), ["missed_object", "too_little"]),
        (Filter(states=frozenset({"done"})), []),
        (Filter(text="LIVER boundary"), ["too_little"]),
        (Filter(text="volume slice 7"), ["spurious_object"]),
        (Filter(text="liver kidney"), []),
    ],
)
def test_filters(wanted: Filter, kinds: list[str]) -> None:
    assert shown(listed(filter=wanted)) == kinds


def test_next_and_previous_go_round_what_is_shown() -> None:
    navigator = listed(filter=Filter(class_names=frozenset({"liver"})))
    first = navigator.go(1)
    assert first.chosen == 2
    assert first.go(1).chosen == 3
    assert first.go(1).go(1).chosen == 2
    assert navigator.go(-1).chosen == 3
    assert ErrorNavigator().go(1).chosen is None
    assert ErrorNavigator().entry is None


def test_the_chosen_error_stays_chosen_in_another_prediction() -> None:
    navigator = listed().choose(2)
    later = several()
    later[9:12, 1:4, 1:4] = 2  # the spleen is found, so the liver's error is the largest now
    later = later.copy()
    moved = navigator.with_pieces(pieces_of(later), (), "phantom_001")
    assert moved.entry is not None
    assert (moved.chosen, moved.entry.piece.kind) == (1, "too_little")
    assert navigator.with_pieces(pieces_of(truth()), (), "phantom_001").chosen is None


def test_verdicts_find_their_errors_at_another_step() -> None:
    missed, too_little, spurious = pieces_of(several())
    verdict = verdict_on(missed, snapshot(several())).model_copy(update={"judgement": "label_error"})
    assert (verdict.family, verdict.class_name, verdict.voxels) == ("missing", "spleen", 27)
    other = verdict_on(spurious, snapshot(several())).model_copy(update={"done": True})
    later = several()
    later[9, 1:4, 1:4] = 2  # a third of the spleen is found
    later[7, 8, 7] = 0
    given = assign_verdicts(pieces_of(later), (other, verdict), "phantom_001")
    kinds = {p.kind: v for p, v in zip(pieces_of(later), given, strict=True)}
    assert kinds["too_little"] in (verdict, None)
    by_class = {(p.class_name, p.family): v for p, v in zip(pieces_of(later), given, strict=True)}
    assert by_class["spleen", "missing"] == verdict
    assert by_class["liver", "extra"] == other
    assert by_class["liver", "missing"] is None
    assert assign_verdicts(pieces_of(later), (verdict,), "phantom_002") == [None] * 3
    # an error that holds it and everything else is another one
    everything = truth()
    everything[:] = 0
    assert too_little.voxels == 16
    giant = np.ones(SHAPE, np.uint8)
    extra = error_pieces(giant, truth(), NAMES, AFFINE)
    assert assign_verdicts(extra, (other,), "phantom_001").count(other) == 0


def test_a_verdict_moves_with_its_error() -> None:
    (missed, *_) = pieces_of(several())
    first = verdict_on(missed, snapshot(several())).model_copy(update={"note": "faint"})
    again = verdict_on(missed, snapshot(several(), 12), first)
    assert (again.id, again.note, again.step) == (first.id, "faint", 12)


def test_samples_are_voxels_of_the_error_in_either_order() -> None:
    prediction = several()
    for order in (np.ascontiguousarray, np.asfortranarray):
        (missed, *_) = error_pieces(order(prediction), order(truth()), NAMES, AFFINE)
        assert (truth().reshape(-1)[samples_of(missed)] == 2).all()
        assert len(set(samples_of(missed))) == 27


def test_verdicts_of_another_grid_are_nobodys() -> None:
    missed = pieces_of(several())[0]
    verdict = verdict_on(missed, snapshot(several())).model_copy(update={"shape": (99, 10, 8)})
    assert assign_verdicts([missed], [verdict], "phantom_001") == [None]
    beyond = verdict_on(missed, snapshot(several())).model_copy(update={"samples": [10**9]})
    assert assign_verdicts([missed], [beyond], "phantom_001") == [None]


def frames() -> list[Recorded]:
    nothing, half, right, wrong = np.zeros(SHAPE, np.uint8), several(), truth(), several()
    half[9, 1:4, 1:4] = 2
    return [
        Recorded(2, nothing),
        Recorded(4, right),
        Recorded(6, half),
        Recorded(8, nothing),
        Recorded(9, wrong),
    ]


def test_since_when_an_error_is_there() -> None:
    missed, too_little, spurious = pieces_of(several())
    assert first_steps([missed, too_little, spurious], 9, frames()) == [6, 6, 9]
    assert first_steps([missed], 5, frames()) == [5]
    assert first_steps([missed], 3, frames()) == [2]
    assert first_steps([missed], 9, []) == [9]
    other_grid = [Recorded(1, np.zeros((2, 2, 2), np.uint8))]
    assert first_steps([missed], 9, other_grid) == [9]


def test_frames_that_cannot_matter_are_not_read() -> None:
    class Unreadable(Recorded):
        def prediction(self) -> np.ndarray:
            raise AssertionError("read")

    missed = pieces_of(several())[0]
    assert first_steps([missed], 9, [Unreadable(2, truth()), Recorded(4, truth())]) == [9]


def test_the_biography_of_a_missed_object() -> None:
    missed = pieces_of(several())[0]
    moments = biography(missed, truth(), (10, 10, 10), frames())
    assert [moment.step for moment in moments] == [2, 4, 6, 8, 9]
    assert [moment.dice for moment in moments] == pytest.approx([0, 1, 0.5, 0, 0])
    assert [moment.wrong for moment in moments] == pytest.approx([1, 0, 2 / 3, 1, 1])


def test_the_biography_of_a_spurious_object_is_perfect_without_it() -> None:
    spurious = pieces_of(several())[2]
    moments = biography(spurious, truth(), (10, 10, 10), frames())
    assert [moment.dice for moment in moments] == pytest.approx([1, 1, 0, 1, 0])


def test_a_wrong_organ_is_wrong_in_the_same_way_only_under_the_same_name() -> None:
    taken = truth()
    taken[9:12] = np.where(truth()[9:12] == 2, 1, 0)
    (piece,) = pieces_of(taken)
    assert piece.kind == "wrong_organ"
    assert share_wrong(piece, taken) == 1
    assert share_wrong(piece, np.zeros(SHAPE, np.uint8)) == 0


def test_rows_and_csv() -> None:
    pieces = pieces_of(several())
    said = verdict_on(pieces[0], snapshot(several())).model_copy(
        update={"judgement": "label_error", "note": "=1+1, faint"}
    )
    navigator = ErrorNavigator().with_pieces(pieces, (said,), "phantom_001").with_since([6, 6, 9])
    rows = records(navigator, snapshot(several()), "run")
    assert (rows[0].verdict, rows[0].since_step, rows[0].class_name) == ("label_error", 6, "spleen")
    assert rows[0].place.startswith("central")
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [row["kind"] for row in read] == ["missed_object", "too_little", "spurious_object"]
    assert read[0]["note"] == "'=1+1, faint"
    assert read[1]["verdict"] == ""
    assert len(csv_text([]).splitlines()) == 1


def test_states_and_summary() -> None:
    pieces = pieces_of(several())
    unclear = verdict_on(pieces[1], snapshot(several())).model_copy(update={"judgement": "unclear"})
    ticked = verdict_on(pieces[2], snapshot(several())).model_copy(update={"done": True})
    verdicts: tuple[Verdict, ...] = (unclear, ticked)
    navigator = listed().with_verdicts(verdicts, "phantom_001")
    assert [entry.state for entry in navigator.entries] == ["open", "unclear", "done"]
    assert navigator.summary == "3 errors, 45 ml; 2 seen"
    assert shown(replace(navigator, filter=Filter(states=frozenset({"open"})))) == ["missed_object"]
    assert replace(navigator, filter=Filter(smallest_ml=10)).summary.startswith("2 of 3 errors, 43 ml")
    assert shown(replace(navigator, order="state")) == ["missed_object", "spurious_object", "too_little"]
