"""Questions about the loss without a toolkit: maps, limits of colours, sentences, and what cannot be answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.losses.base import registry as losses
from segexplorer.training import explanation as module
from segexplorer.training.explanation import MOST_KEPT, Explanation, explain_arrays
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import watched_case, why
from segexplorer.viewmodels.decision import AT_REST
from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.watched_case import Wanted
from segexplorer.viewmodels.why import (
    Answer,
    Look,
    PullScale,
    Question,
    ShareRow,
    WhyRequest,
    most_wrong,
    voxel_at,
)

SHAPE = (12, 10, 9)
AFFINE = np.array([[0, 2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def explanation(seed: int = 0, step: int = 10) -> Explanation:
    label = np.zeros(SHAPE, np.uint8)
    label[3:8, 3:8, 3:7] = 1
    rng = np.random.default_rng(seed)
    before, after = (rng.normal(size=(2, *SHAPE)).astype(np.float32) for _ in range(2))
    found = explain_arrays(
        label,
        logits=before,
        later=after,
        loss="dice_cross_entropy",
        class_names=("lesion",),
        affine=AFFINE,
    )
    return replace(found, case="case 1", role="validation", step=step, later_step=step + 10)


def ask(
    question: Question, *, of: Explanation | None = None, before: Any = None, **more: Any
) -> tuple[WhyRequest, Answer]:
    found = explanation() if of is None else of
    given: dict[str, Any] = {"class_index": None, "later": 20, "step": found.step, **more}
    request = WhyRequest("run", "validation", "case 1", question=question, load=lambda _: found, **given)
    return request, request.answer(before)


@pytest.mark.parametrize("look", ["asked", "got", "both"])
def test_each_map_shows_its_field_on_the_grid_of_the_case(look: Look) -> None:
    _, found = ask(Question(look))
    of = found.explanation
    assert of is not None and found.picture is not None
    expected = {"asked": of.asked(1), "got": of.got(1), "both": of.followed(1).field}[look]
    assert np.sort(found.picture.data.ravel()) == pytest.approx(np.sort(expected.values.ravel()))
    # a voxel of the map is where it is in the patient
    voxel = (2, 7, 4)
    world = (AFFINE @ (*voxel, 1))[:3][::-1]
    place = np.rint((world - found.picture.translate) / found.picture.scale).astype(int)
    assert found.picture.data[tuple(place)] == pytest.approx(expected.values[voxel])
    # one scale for the loss and the one that it is compared with
    limit = max(expected.limit, of.asked(1, "cross_entropy").limit) if look == "asked" else expected.limit
    assert found.picture.contrast_limits == (-limit, limit) and found.limit == limit
    assert found.picture.colour_scale.scope == "case 1, not trained on, step 10, whole case"
    assert [row.title for row in found.shares][-1] == "Cross entropy"
    assert sum(
        (found.shares[0].inside, found.shares[0].boundary, found.shares[0].elsewhere)
    ) == pytest.approx(1)


def test_limits_stay_while_frames_and_parameters_move() -> None:
    first = ask(Question("asked"))
    other = losses.parse({"kind": "tversky", "alpha": 0.9, "beta": 0.1})
    second = ask(Question("asked", loss=other), before=first)
    third = ask(Question("asked"), of=explanation(5, 20), before=second, step=20)
    assert first[1].limit == second[1].limit == third[1].limit
    assert third[1].explanation is not None
    assert third[1].limit != third[1].explanation.asked(1).limit
    softmaxed = ask(Question("asked", space="probabilities"), before=third)
    assert softmaxed[1].limit != first[1].limit


def test_the_colours_of_a_small_structure_do_not_end_where_those_around_it_do() -> None:
    label = np.zeros((24, 24, 24), np.uint8)
    label[10:12, 10:12, 10:12] = 1
    logits = np.random.default_rng(0).normal(size=(2, *label.shape)).astype(np.float32)
    logits[0] += 3
    of = explain_arrays(label, logits=logits, loss="dice_cross_entropy", class_names=("lesion",))
    inside = {
        kind: np.abs(of.asked(1, kind).values[label == 1]) for kind in ("dice_cross_entropy", "cross_entropy")
    }
    found = ask(Question("asked"), of=of)
    assert found[1].limit == pytest.approx(max(np.percentile(values, 99) for values in inside.values()))
    around = np.abs(of.asked(1).values[label == 0])
    assert found[1].limit > 3 * np.percentile(around, 99), "what is asked of the lesion can be told apart"
    for term in ("cross_entropy", "dice"):
        again = ask(Question("asked", term=term), of=of, before=found)
        assert again[1].limit == found[1].limit
        # with nothing kept from before, the colours go as far as the term that is looked at
        anew = ask(Question("asked", term=term), of=of)[1]
        assert anew.limit == max(found[1].limit, of.asked(1, term=term).limit)


def _seen(whole: Picture, axis: int, index: int) -> tuple[int, float]:
    """Return a slice of the picture of a map, by its axis and its place in mm."""
    return axis, whole.translate[axis] + index * whole.scale[axis]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_a_large_case_the_visible_slices_come_first_and_are_marked(
    axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(Question("asked"))[1].picture
    assert whole is not None
    monkeypatch.setattr(module, "SLICES_FIRST", 1)
    of, index = explanation(), 5
    visible = (_seen(whole, axis, index),)
    first = ask(Question("asked"), of=of, visible=visible)
    assert first[1].partial and first[1].picture is not None and not first[1].shares
    drawn = np.moveaxis(first[1].picture.data, axis, 0)
    assert drawn[index].any() and not np.delete(drawn, index, axis=0).any()
    shown, expected = drawn[index], np.moveaxis(whole.data, axis, 0)[index]
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] == pytest.approx(1, abs=1e-5)
    assert first[1].picture.colour_scale.note == "the slices that are seen; the rest follows"
    rest = ask(Question("asked"), of=of, before=first, visible=visible)[1]
    assert not rest.partial and rest.picture is not None and rest.shares
    np.testing.assert_allclose(rest.picture.data, whole.data, rtol=1e-4)
    # in a later question the end of the colours is that of the whole map
    other = losses.parse({"kind": "tversky", "alpha": 0.9, "beta": 0.1})
    again = ask(Question("asked", loss=other), of=of, before=(first[0], rest), visible=visible)
    assert again[1].partial and again[1].limit == rest.limit
    last = ask(Question("asked", loss=other), of=of, before=again, visible=visible)[1]
    assert last.limit == rest.limit and not last.partial
    outside = ((axis, 1e6),)
    assert not ask(Question("asked"), visible=outside)[1].partial, "no slice of the case is seen"


def test_what_comes_into_sight_is_answered_next_and_each_view_says_what_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = ask(Question("asked"))[1].picture
    assert whole is not None
    monkeypatch.setattr(module, "SLICES_FIRST", 1)
    monkeypatch.setattr(why, "PIECE_S", 0.0)
    monkeypatch.setattr("segexplorer.losses.pull.PART_BYTES", 1)  # one slice at a time
    of = explanation()
    three = tuple(_seen(whole, axis, 4) for axis in range(3))
    asked = ask(Question("asked"), of=of, visible=three)
    assert asked[1].slice_notes(three) == dict.fromkeys(range(3), why.THERE)
    assert "0 %" in asked[1].progress
    moved = (three[0], _seen(whole, 1, 6), three[2])
    notes = asked[1].slice_notes(moved)
    assert notes == {0: why.THERE, 1: "this slice follows", 2: why.THERE}
    asked = ask(Question("asked"), of=of, before=asked, visible=moved)
    assert asked[1].slice_notes(moved)[1] == why.THERE and asked[1].done == 0
    assert asked[1].picture is not None
    there = np.zeros(whole.data.shape, bool)
    there[4], there[:, [4, 6]], there[:, :, 4] = True, True, True
    drawn = asked[1].picture.data
    assert not drawn[~there].any()
    ratio = float(np.median(drawn[there] / whole.data[there]))
    np.testing.assert_allclose(drawn[there], ratio * whole.data[there], rtol=1e-3)
    # nothing new is in sight: the rest goes on, and nothing has to be drawn anew
    pictures, shares = [asked[1].picture], []
    while asked[1].partial:
        asked = ask(Question("asked"), of=of, before=asked, visible=moved)
        pictures.append(asked[1].picture)
        shares.append(asked[1].done)
    assert len(shares) > 20 and shares[:-1] == sorted(shares[:-1])
    assert all(picture is pictures[0] for picture in pictures[:-1])
    assert asked[1].slice_notes(moved) == {} and asked[1].progress == ""
    assert pictures[-1] is not None
    np.testing.assert_allclose(pictures[-1].data, whole.data, rtol=1e-4)


def test_a_loss_that_looks_at_all_voxels_at_once_is_named_while_its_map_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICES_FIRST", 1)
    spec = losses.parse("lovasz_softmax")
    of, visible = explanation(), ((0, 20.0), (1, 5.0))
    first = ask(Question("asked", loss=spec), of=of, visible=visible)
    assert first[1].partial and first[1].picture is None
    assert first[1].progress.startswith(f"{spec.display_name} looks at all voxels at once")
    assert set(first[1].slice_notes(visible).values()) == {"all voxels at once: being computed"}
    rest = ask(Question("asked", loss=spec), of=of, before=first, visible=visible)[1]
    assert not rest.partial and rest.picture is not None and rest.slice_notes(visible) == {}
    # the ends of the colours stay while it is waited for
    again = ask(
        Question("asked", loss=losses.parse("hausdorff")), of=of, before=(first[0], rest), visible=visible
    )
    last = ask(Question("asked", loss=losses.parse("hausdorff")), of=of, before=again, visible=visible)
    assert again[1].all_at_once and last[1].limit == rest.limit


def test_shares_of_a_small_structure_are_written_with_the_digits_that_tell_them_apart() -> None:
    texts = ShareRow("Dice", 0.00012, 0.0066, 0.9933).texts
    assert texts == ("Dice", "0.012 %", "0.66 %", "99.3 %")
    assert ShareRow("", float("nan"), 0.25, 1.0).texts == ("", "none", "25 %", "100 %")


def test_the_same_prediction_is_read_once() -> None:
    first = ask(Question("asked"))

    def refuse(_: Any) -> Explanation:
        raise AssertionError("read again")

    again = replace(first[0], question=Question("got"), load=refuse)
    assert again.answer(first).explanation is first[1].explanation
    known: list[Any] = []
    later = replace(first[0], step=20, load=lambda of: known.append(of) or explanation(5, 20))  # type: ignore[func-returns-value]
    later.answer(first)
    assert known == [first[1].explanation], "its label serves for another step"
    other = replace(first[0], case="case 2", load=lambda of: known.append(of) or explanation(5, 20))  # type: ignore[func-returns-value]
    other.answer(first)
    assert known[1] is None


def test_a_voxel_is_explained_where_it_was_clicked() -> None:
    world = (AFFINE @ (5, 5, 5, 1))[:3][::-1]
    _, found = ask(Question(place=tuple(world)))  # type: ignore[arg-type]
    of = found.explanation
    assert of is not None and found.sentence == of.why((5, 5, 5), 1)
    assert voxel_at(AFFINE, world, SHAPE) == (5, 5, 5)
    _, outside = ask(Question("asked", place=(900.0, 0.0, 0.0)))
    assert outside.picture is not None and "Click inside the case" in outside.problem


def test_the_scale_says_what_is_known_of_the_case() -> None:
    lone = replace(explanation(), badge="training case, not held out")
    scope = ask(Question("asked"), of=lone)[1].picture.colour_scale.scope  # type: ignore[union-attr]
    assert "training case, not held out, step 10" in scope and "not trained on" not in scope
    foreign = replace(explanation(), role="test", step=0, badge="predicted elsewhere")
    scope = ask(Question("asked"), of=foreign)[1].picture.colour_scale.scope  # type: ignore[union-attr]
    assert scope == "case 1, predicted elsewhere, whole case"


def test_many_losses_do_not_fill_the_memory() -> None:
    of = explanation()
    first = of.pull_of()
    for alpha in np.linspace(0.1, 0.9, 12):
        of.pull_of({"kind": "tversky", "alpha": float(alpha), "beta": 0.5})
        assert of.pull_of() is first, "what is used between is kept"
    assert len(of._pulls) <= MOST_KEPT


def test_what_cannot_be_answered_is_a_sentence() -> None:
    last = replace(explanation(), later=None)
    _, found = ask(Question("got"), of=last)
    assert found.picture is None and "no later prediction" in found.problem

    def fail(_: Any) -> Explanation:
        raise DataError("The label is gone.", "Bring it back.")

    assert (
        replace(ask(Question("asked"))[0], load=fail).answer().problem == "The label is gone. Bring it back."
    )
    # a term that the loss does not have is none
    _, whole = ask(Question("asked", term="boundary"))
    assert whole.picture is not None and not whole.problem


def test_without_a_class_the_one_with_the_most_wrong_voxels_is_explained() -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[:4], label[8:] = 1, 2
    logits = np.zeros((3, *SHAPE), np.float32)
    logits[0] = 1
    logits[2][label == 2] = 5
    assert most_wrong(explain_arrays(label, logits=logits)) == 1
    logits[1][label == 1], logits[2][label == 2] = 5, 0
    assert most_wrong(explain_arrays(label, logits=logits)) == 2


def test_colours_of_a_pull_are_transparent_in_the_middle_and_no_colours_of_errors() -> None:
    table = colours.pull()
    assert table[127, 3] < 0.02 and table[0, 3] == table[-1, 3] == 1
    for end in (table[0], table[-1]):
        for error in colours.ERRORS.values():
            assert np.abs(end[:3] - np.asarray(colours.rgba(error)[:3])).max() > 0.15


def test_colours_of_a_pull_go_by_its_square_root_and_the_bar_is_numbered_so() -> None:
    assert colours.pull_strength(np.array([-2, -0.25, 0, 0.01, 1])).tolist() == pytest.approx(
        [-1, -0.5, 0, 0.1, 1]
    )
    scale = PullScale("", "", 140.0, ("less", "more"))
    assert scale.ticks == ("−140", "−35", "0", "+35", "+140")


# ---- the decision


def snapshot(**more: Any) -> WatchedSnapshot:
    of = explanation()
    probabilities = np.round(of.probabilities * 255).astype(np.uint8)
    given: dict[str, Any] = {"probabilities": probabilities, "truth": of.labels}
    return WatchedSnapshot(
        case="case 1",
        role="validation",
        step=10,
        index=0,
        class_names=("lesion",),
        affine=AFFINE,
        prediction=of.logits.argmax(0).astype(np.uint8),
        **{**given, **more},
    )


def test_a_bias_moves_prediction_scores_and_errors_and_0_is_the_prediction() -> None:
    of = explanation()
    shown = snapshot(logits=of.logits.astype(np.float16), logits_affine=AFFINE)
    switches: Any = frozenset({"prediction", "errors"})
    plain = watched_case.see(shown, None, Wanted(switches, 1))
    at_0 = watched_case.see(shown, None, Wanted(switches, 1, bias=0.0))
    more = watched_case.see(shown, None, Wanted(switches, 1, bias=1.0), decision=at_0.decision)
    assert plain.decision is None and at_0.decision is more.decision is not None
    assert at_0.snapshot is shown and more.recorded is shown
    expected = (of.logits.astype(np.float16).astype(np.float32)[1] + 1 >= of.logits[0]).astype(np.uint8)
    assert np.mean(more.snapshot.prediction != expected) < 0.01  # float16 ties
    assert more.counts is not None and at_0.counts == at_0.counts_before == more.counts_before
    assert more.counts.tp + more.counts.fp == int(more.snapshot.prediction.sum())
    assert more.scores[0].metrics["dice"] == pytest.approx(more.counts.dice)
    assert at_0.scores == plain.scores
    moving = watched_case.see(shown, None, Wanted(switches, 1, bias=1.0, settled=False))
    assert moving.counts == more.counts and not moving.scores and not moving.pieces
    assert [p.key for p in moving.pictures] == ["prediction", "errors"]
    # surfaces and lesions come when the slider rests
    assert more.rest.keys() == set(AT_REST) and more.rest != more.rest_before == at_0.rest == at_0.rest_before
    assert not moving.rest and not plain.rest


def test_penalties_of_the_regions_follow_the_parameters_while_the_sums_stay() -> None:
    loss = losses.parse({"kind": "adaptive_region_tversky", "a": 0.3, "b": 0.4, "box_size": 6})
    of = replace(explanation(), loss=loss)
    first = ask(Question("penalties"), of=of)
    report = of.regions(loss)
    assert report is not None and first[1].picture is not None
    alpha, beta = (np.nan_to_num(report.paint(name)[1]) for name in ("alpha", "beta"))
    assert np.sort(first[1].picture.data.ravel()) == pytest.approx(np.sort((beta - alpha).ravel()))
    assert np.abs(beta - alpha).max() > 0
    assert first[1].finding.startswith("FN penalty less FP penalty over 8 regions: from ")
    milder = losses.parse({"kind": "adaptive_region_tversky", "a": 0.45, "b": 0.1, "box_size": 6})
    second = ask(Question("penalties", loss=milder), of=of, before=first)
    changed = of.regions(milder)
    assert changed is not None and second[1].picture is not None
    for name in ("fp", "fn"):
        np.testing.assert_array_equal(changed.values[name], report.values[name])
    assert np.abs(second[1].picture.data).max() < np.abs(first[1].picture.data).max()
    assert second[1].limit == first[1].limit
    none = ask(Question("penalties", loss=losses.parse("dice")), of=of)[1]
    assert none.picture is None and "no penalties per region" in none.problem


def test_a_decision_from_8_bits_is_approximate_and_without_anything_it_says_so() -> None:
    found = watched_case.see(snapshot(), None, Wanted(frozenset(), 1, bias=0.5))
    assert found.decision is not None and found.decision.approximate
    none = watched_case.see(snapshot(probabilities=None), None, Wanted(frozenset(), 1, bias=0.5))
    assert none.decision is None and "Keep probabilities" in none.no_decision
    assert none.snapshot.prediction is none.recorded.prediction


# ---- what the last steps paid


def frame(step: int, extra: tuple[float, ...], missed: tuple[float, ...]) -> WatchedSnapshot:
    """A prediction with these errors (voxels) in two halves along the first axis, for the lesion."""
    zeros = [0.0, 0.0]
    report = RegionReport(
        {
            "fp": np.array([zeros, extra], np.float32),
            "fn": np.array([zeros, missed], np.float32),
        },
        ((0, 6, 12), (0, 10), (0, 9)),
    )
    return WatchedSnapshot(
        case="case 1",
        role="validation",
        step=step,
        index=step,
        class_names=("lesion",),
        affine=AFFINE,
        prediction=np.zeros(SHAPE, np.uint8),
        truth=np.zeros(SHAPE, np.uint8),
        regions=report,
        regions_affine=AFFINE,
    )


def paid(early: WatchedSnapshot, late: WatchedSnapshot, before: Any = None) -> tuple[WhyRequest, Answer]:
    def refuse(_: Any) -> Explanation:
        raise AssertionError("what was paid needs no loss")

    request = WhyRequest(
        "run",
        "validation",
        "case 1",
        late.step,
        None,
        None,
        Question("paid"),
        refuse,
        earlier=early.step,
        steps=(early.step,),
        pair=lambda: (early, late),
    )
    return request, request.answer(before)


def test_regions_that_improved_and_paid_are_drawn_and_listed() -> None:
    # a voxel has 9 mm3: the first half mends 200 of its voxels, the second makes 50 more errors
    early, late = frame(10, (300, 20), (100, 40)), frame(30, (150, 60), (50, 50))
    request, found = paid(early, late)
    assert found.picture is not None and not found.problem
    drawn = found.picture.data
    values = sorted({round(float(v), 4) for v in np.unique(drawn)})
    assert values == [pytest.approx(-0.45), pytest.approx(1.8)], "teal, positive, is where errors went away"
    world = (AFFINE @ (2, 5, 4, 1))[:3][::-1]
    place = np.rint((world - found.picture.translate) / found.picture.scale).astype(int)
    assert drawn[tuple(place)] == pytest.approx(1.8)
    assert [c.change_ml for c in found.changes] == [pytest.approx(-1.8), pytest.approx(0.45)]
    assert found.finding.startswith(
        "From step 10 to 30, lesion has 1.8 ml fewer errors in 1 region and 0.45 ml more"
    )
    assert found.picture.colour_scale.ends == ("more errors", "fewer errors")
    assert found.picture.colour_scale.note == "ml of errors per region"
    # the same colours for another pair of steps
    _, again = paid(frame(5, (900, 0), (900, 0)), late, before=(request, found))
    assert again.limit == found.limit


def test_what_was_paid_needs_an_earlier_prediction_of_the_same_division() -> None:
    request, _ = paid(frame(10, (1, 1), (1, 1)), frame(20, (1, 1), (1, 1)))
    assert "no earlier prediction" in replace(request, pair=None, earlier=None).answer().problem
    other = replace(frame(10, (1, 1), (1, 1)), regions=None)
    assert "no numbers per region" in paid(other, frame(20, (1, 1), (1, 1)))[1].problem


def test_a_voxel_can_be_asked_while_it_is_shown_what_was_paid() -> None:
    early, late = frame(10, (300, 20), (100, 40)), frame(30, (150, 60), (50, 50))
    world = (AFFINE @ (5, 5, 5, 1))[:3][::-1]
    request = replace(
        paid(early, late)[0],
        question=Question("paid", place=tuple(world)),  # type: ignore[arg-type]
        load=lambda _: explanation(),
    )
    found = request.answer()
    assert found.sentence == explanation().why((5, 5, 5), 1)
    assert found.picture is not None and len(found.changes) == 2
