"""From what is wanted and what exists to everything that is drawn: the pure function `resolve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from segexplorer.core import colours
from segexplorer.study.race import A
from segexplorer.training.explanation import Explanation, explain_patch
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels import errors, watched_case
from segexplorer.viewmodels.absences import Absence, absences
from segexplorer.viewmodels.caption import CONVENTIONS, Caption
from segexplorer.viewmodels.decision import rest_text
from segexplorer.viewmodels.displayed import Displayed
from segexplorer.viewmodels.error_navigator import TraceRequest, arranged
from segexplorer.viewmodels.errors import LegendEntry
from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.race import RaceOffer, RaceQuestion, show_race
from segexplorer.viewmodels.reality import (
    Reality,
    Request,
    RunFacts,
    asks_for_patches,
    choices_of,
    class_names_of,
    effective,
    known_patch,
    patch_of,
    race_of,
    results_of,
    run_of,
    steps_of,
)
from segexplorer.viewmodels.screen import Control, DecisionShown, HistoryShown, Screen, Toggle
from segexplorer.viewmodels.surfaces import Part, SurfacePicture
from segexplorer.viewmodels.watched_case import MAPS, SWITCHES, Seen, Switch, Wanted
from segexplorer.viewmodels.why import PULL, WhyRequest


def resolve(displayed: Displayed, reality: Reality) -> Screen:
    """Return everything that is drawn.

    Parameters
    ----------
    displayed
        What the user wants to look at.
    reality
        What exists now.
    """
    now = effective(displayed, reality)
    request = _request(now, reality)
    shown: Seen | None = None
    answered = False
    if request is not None and reality.seen is not None:
        of, seen = reality.seen
        if of.subject == request.subject:
            shown, answered = seen, of == request
    refused = request is not None and reality.refusal is not None and reality.refusal[0] == request
    names = class_names_of(now, reality)
    choices, chosen = choices_of(now, reality)
    screen = Screen(
        displayed=now,
        title=_title(now, reality),
        scene=_scene(now, reality),
        choices=choices,
        chosen=chosen,
        class_names=names,
        history=_history(now, reality, shown, request),
        toggles=_toggles(now, shown, names, patch_of(now, reality)),
        image=_scene(now, reality),
        request=None if answered or refused else request,
        controls=controls(reality),
    )
    if reality.painting is not None and reality.painting.scene == screen.scene:
        screen = replace(screen, painting=reality.painting.text)
    screen = replace(screen, **_of_extent(now, reality), **_scores(now, reality, shown))
    screen = replace(screen, **_diagnosis(now, reality))
    screen = replace(screen, **_of_race(now, reality, shown, request))
    if shown is not None and reality.image_of == screen.scene:
        # only over its own image: what a picture is drawn over must be of the same case
        screen = replace(screen, **_of_picture(now, reality, shown))
        screen = replace(screen, decision=_decision(now, shown, names))
        screen = replace(screen, **_of_answer(now, reality, screen, request))
    if refused:
        assert reality.refusal is not None
        return replace(screen, message=reality.refusal[1], failed=True)
    if not screen.message:
        screen = replace(screen, message=_missing(now, reality, shown, request))
    if reality.image_of == screen.scene and reality.image_problem:
        both = f"{reality.image_problem}\n{screen.message}".strip()
        screen = replace(screen, message=both, failed=True)
    return screen


def trace_request(screen: Screen, reality: Reality) -> TraceRequest | None:
    """Return what is to be found out about the errors on a screen; None where it lists none."""
    now, seen = screen.displayed, screen.seen
    run = run_of(now, reality)
    chosen = None if now.error is None else now.error.piece
    if seen is None or (not seen.pieces and chosen is None):
        return None
    frames = () if run is None or now.role is None else tuple(run.frames.get(now.role, ()))
    asked = TraceRequest(seen.pieces, chosen, seen.snapshot, frames, since_known=False)
    since = reality.since
    known = since is not None and since.pieces is seen.pieces and since.frames == asked.steps
    return replace(asked, since_known=known)


def _request(now: Displayed, reality: Reality) -> Request | None:
    """Return what has to be computed for what is displayed; None where there is no prediction of it."""
    run, results = run_of(now, reality), results_of(now, reality)
    wanted = Wanted(
        now.overlays,
        now.cls,
        penalties=None if run is None else run.penalties,
        over_map=now.question.look is not None,
        bias=now.bias,
        settled=not now.bias_moves,
        solid=reality.solid or reality.axes is None,
    )
    if results is not None and now.case is not None:
        case, load_case = now.case, results.load
        wanted = replace(wanted, switches=now.overlays - set(MAPS))
        return Request(
            results.key, "test", case, 0, False, now.threshold_ml, wanted, None, lambda: load_case(case)
        )
    trained = patch_of(now, reality)
    if run is not None and trained is not None:
        wanted = replace(wanted, switches=now.overlays - {"patch"}, listed=False)
        return Request(
            run.key,
            "train",
            trained.case,
            trained.step,
            False,
            now.threshold_ml,
            wanted,
            None,
            lambda: watched_case.patch_snapshot(trained),
            trained=True,
        )
    if run is None or now.role is None or now.case is None:
        return None
    patch = run.patch if "patch" in now.overlays else None
    newest, steps = run.newest.get(now.role), run.steps(now.role)
    step = now.step if now.step is not None else (steps[-1] if steps else None)
    found: Callable[[], WatchedSnapshot]
    if newest is not None and step == newest.step:
        found, partial = (lambda s=newest: s), newest.partial  # type: ignore[misc]
    else:
        frame = next((f for f in run.frames.get(now.role, ()) if f.step == step), None)
        if frame is None or run.load is None:
            return None
        found, partial = (lambda f=frame, read=run.load: read(f)), False  # type: ignore[misc]
    assert step is not None
    return Request(
        run.key,
        now.role,
        now.case,
        step,
        partial,
        now.threshold_ml,
        wanted,
        None if patch is None else patch.step,
        found,
        patch,
        _other_lanes(now, reality, step),
    )


def _other_lanes(
    now: Displayed, reality: Reality, step: int
) -> Callable[[], Mapping[str, WatchedSnapshot]] | None:
    """Return what reads the other lanes of the race that is displayed; None where it is none."""
    race = race_of(now, reality)
    if race is None or now.role is None or race.load is None:
        return None
    read, frames = race.load, race.frames[now.role][step]
    return lambda: {name: read(frame) for name, frame in frames.items() if name != A}


def _why_request(now: Displayed, reality: Reality, request: Request | None) -> WhyRequest | None:
    """Return what has to be answered about the loss; None where nothing is asked, or there is no prediction."""
    run, results = run_of(now, reality), results_of(now, reality)
    if request is None or not now.question.asks:
        return None
    if results is not None and results.explain is not None:
        case, explain_case = request.case, results.explain
        return WhyRequest(
            results.key,
            "test",
            case,
            0,
            None,
            now.cls,
            now.question,
            lambda known: explain_case(case),
            visible=reality.slices,
        )
    trained = patch_of(now, reality)
    if run is not None and trained is not None:
        return WhyRequest(
            run.key,
            "train",
            trained.case,
            trained.step,
            None,
            now.cls,
            now.question,
            lambda known: explain_patch(trained),
            patch=True,
        )
    if run is None or run.explain is None or now.role is None:
        return None
    frames = run.frames.get(now.role, ())
    after = next((f for f in frames if f.step > request.step), None)
    newest = run.newest.get(now.role)
    later: Callable[[], WatchedSnapshot | None] = lambda: None  # noqa: E731  one of three
    step = None
    if after is not None and run.load is not None:
        later, step = (lambda f=after, read=run.load: read(f)), after.step  # type: ignore[misc]
    elif newest is not None and newest.step > request.step and not newest.partial:
        later, step = (lambda s=newest: s), newest.step  # type: ignore[misc]
    load, explain = request.load, run.explain

    def made(known: Explanation | None) -> Explanation:
        return explain(load(), later(), known)

    asked = WhyRequest(
        run.key,
        now.role,
        request.case,
        request.step,
        step,
        now.cls,
        now.question,
        made,
        visible=reality.slices,
    )
    return _with_pair(asked, run, request) if now.question.look == "paid" else asked


def _with_pair(asked: WhyRequest, run: RunFacts, request: Request) -> WhyRequest:
    """Return the request with the earlier prediction that "paid" compares with."""
    before = [f for f in run.frames.get(asked.role, ()) if f.step < request.step]
    earlier = next((f for f in before if f.step == asked.question.since), before[-1] if before else None)
    if earlier is None or run.load is None:
        return asked
    read, load, of = run.load, request.load, earlier
    return replace(
        asked, earlier=of.step, steps=tuple(f.step for f in before), pair=lambda: (read(of), load())
    )


def _of_answer(now: Displayed, reality: Reality, screen: Screen, request: Request | None) -> dict[str, Any]:
    """Return what is answered about the loss: only of the prediction whose picture is shown."""
    asked = _why_request(now, reality, request)
    if asked is None:
        none = now.question.asks and request is not None
        return {"answer_note": "These predictions hold no probabilities to ask a loss about."} if none else {}
    of, found = reality.answer if reality.answer is not None else (None, None)
    if of is None or found is None or of.subject != asked.subject:
        return {"why_request": asked, "answer_note": f"Asking about {asked.case}, step {asked.step}…"}
    if of.question.place != asked.question.place:
        found = replace(found, sentence="")
    parts: dict[str, Any] = {"answer": found, "answer_note": found.problem}
    if found.partial:
        parts["answer_note"] = found.progress
        parts["slice_notes"] = found.slice_notes(reality.slices)
    if of != asked or found.partial:
        parts |= {"why_request": asked}
        if of.step != asked.step:
            parts["answer_note"] = f"Asking about step {asked.step}; step {of.step} is still shown."
    if found.picture is not None and screen.seen is not None and reality.axes is not None:
        layers: dict[Any, Picture] = {**screen.layers, PULL: found.picture}
        parts |= {"layers": layers, "map": found.picture.colour_scale}
    return parts


def _decision(now: Displayed, shown: Seen, names: Sequence[str]) -> DecisionShown | None:
    index = watched_case.class_of_maps(names, now.cls)
    if index is None:
        return DecisionShown(
            "", 0.0, problem="Choose one class first (not “All classes”): the decision of one class is moved."
        )
    name = names[index - 1]
    if shown.decision is None:
        return DecisionShown(name, now.bias or 0.0, problem=shown.no_decision)
    return DecisionShown(
        name,
        shown.wanted.bias or 0.0,
        shown.counts,
        shown.counts_before,
        shown.curve,
        shown.decision.approximate,
        at_rest=rest_text(shown.rest, shown.rest_before),
    )


def _diagnosis(now: Displayed, reality: Reality) -> dict[str, Any]:
    run = run_of(now, reality)
    if run is None:
        return {}
    if reality.examined == run.key:
        return {"diagnosis_note": "Examining the run…"}
    if reality.diagnosis is None or reality.diagnosis[0] != run.key:
        return {}
    found = reality.diagnosis[1]
    if isinstance(found, str):
        return {"diagnosis_note": found}
    untold = "; ".join(f"{one.title.lower()} ({one.reason})" for one in found.not_checked)
    said = [] if found.findings else ["Nothing wrong was found."]
    if untold:
        said.append(f"Not checked: {untold}.")
    return {"diagnosis": found, "diagnosis_note": " ".join(said)}


def _of_extent(now: Displayed, reality: Reality) -> dict[str, Any]:
    """Return whether the last patch may be looked at, which one is, and whether a newer one is to be kept."""
    run = run_of(now, reality)
    patch, asks = known_patch(now, reality), asks_for_patches(now, reality)
    if run is None or (patch is None and not asks):
        why = "The last patch is kept on request, while a run trains in this window."
        return {"last_patch": Control(False, why)}
    found: dict[str, Any] = {"last_patch": Control(True), "patch": patch_of(now, reality)}
    if now.extent == "case":
        return found
    if isinstance(run.trained, str):
        return found | {"patch_note": run.trained}
    said = [] if patch is None or not patch.remark else [f"{patch.remark[:1].upper()}{patch.remark[1:]}."]
    waits = patch is None or (now.after is not None and patch.step <= now.after)
    if waits and asks:
        found["patch_request"] = (run.key, now.after)
        said.append(f"The next training step brings {'its' if patch is None else 'a newer'} patch.")
    return found | {"patch_note": " ".join(said)}


def _of_race(now: Displayed, reality: Reality, shown: Seen | None, request: Request | None) -> dict[str, Any]:
    """Return the lanes of the race that is displayed, what is trained, and what another race would cost."""
    race, racing = race_of(now, reality), reality.racing
    found: dict[str, Any] = {}
    if race is not None:
        over_image = shown if reality.image_of == _scene(now, reality) else None
        found["race"] = show_race(race, over_image, now.overlays, now.cls, now.role)
    if racing is not None:
        own = now.run in (racing.key, racing.origin)
        found["racing"] = racing if own else None
        found["racing_words"] = racing.words if own else racing.elsewhere
    question = _race_question(now, reality, request)
    offer = reality.offer[1] if reality.offer is not None and reality.offer[0] == question else None
    found |= {"offer": offer, "race_request": question if offer is None else None}
    return found | {"controls": controls(reality) | _race_controls(now, reality, question, offer)}


def _race_question(now: Displayed, reality: Reality, request: Request | None) -> RaceQuestion | None:
    """Return what a race from the displayed step would be; None where nobody asks or there can be none."""
    if now.race_steps is None or now.source not in ("live", "recorded") or request is None:
        return None
    if request.trained:
        return None
    loss = now.question.loss
    return None if loss is None else RaceQuestion(request.run, request.step, loss, now.race_steps)


_RACING = "A race is being trained: stop it first."


def _race_controls(
    now: Displayed, reality: Reality, question: RaceQuestion | None, offer: RaceOffer | None
) -> dict[str, Control]:
    """Return whether a race can begin, stop, go on, be shown, and be left."""
    race, racing = race_of(now, reality), reality.racing
    running = racing is not None and racing.running
    why = "Open or start a run first: the lanes leave one of its steps."
    if running:
        why = _RACING
    elif reality.busy or reality.making:
        why = reality.making or "A run is going on: stop it first."
    elif now.source == "race":
        why = "Go back to the run first: another race leaves that."
    elif now.source == "results":
        why = "Lanes leave a run that was trained here; these are predictions of other programs."
    elif patch_of(now, reality) is not None:
        why = "Lanes leave a step at which a whole case was predicted: look at the whole case."
    elif question is None and now.run is not None:
        why = "Choose the loss of lane B first, under “What if: the loss”."
    elif question is not None:
        why = "Finding out what it costs…" if offer is None else offer.problem
    begins = not running and not reality.busy and offer is not None and offer.plan is not None
    goes_on = race is not None and not race.finished and not running
    held = "A run is going on: stop it first." if reality.busy else ""
    return {
        "race": Control(begins, "" if begins else why),
        "stop_race": Control(running, "" if running else "No race is being trained."),
        "go_on_race": Control(goes_on and not held, held if goes_on else "Nothing is left to train."),
        "show_race": Control(racing is not None and racing.begun and racing.key != now.run),
        "leave_race": Control(now.source == "race"),
    }


def _scene(now: Displayed, reality: Reality) -> tuple[str, str] | None:
    patch = patch_of(now, reality)
    if patch is not None and now.run is not None:
        return now.run, f"{patch.case}, patch of step {patch.step}"
    return None if now.run is None or now.case is None else (now.run, now.case)


def _title(now: Displayed, reality: Reality) -> str:
    run, results = run_of(now, reality), results_of(now, reality)
    if results is not None:
        return f"Results: {results.title or results.key}"
    if run is None:
        return ""
    if now.source == "race":
        trains = reality.racing is not None and reality.racing.running and reality.racing.key == now.run
        return f"{run.title}: {'training in this window' if trains else 'as recorded'}"
    how = "training in this window" if now.source == "live" and reality.busy else "as recorded"
    if run.owner:
        when = "as it goes on" if reality.busy else "as it was when it was opened"
        how = f"in use by {run.owner}; shown {when}"
    return f"Run {run.title or run.key}: {how}"


_OF_PATCH_ALREADY = "Balance, alpha and beta are those of this patch already: choose one of them."


def _of_picture(now: Displayed, reality: Reality, shown: Seen) -> dict[str, Any]:
    """Return all that belongs to the picture that is shown."""
    snapshot, patch = shown.snapshot, patch_of(now, reality)
    flat = reality.axes is not None
    layers = {o: p for p in shown.pictures if flat and (o := p.key) in now.overlays}
    surfaces = _drawn_surfaces(shown, now)
    drawn = next((m for m in MAPS if m in layers), None)
    class_name = watched_case.class_name(snapshot, now.cls)
    where = "" if reality.mouse is None else watched_case.under_cursor(snapshot, now.cls, reality.mouse)
    labelled = snapshot.truth is not None
    results = now.source == "results"
    of_errors = _of_errors(now, reality, shown)
    marked = flat and of_errors.get("mark") is not None
    return {
        "badge": watched_case.badge(snapshot),
        "caption": _caption(now, reality, shown, class_name),
        "message": _OF_PATCH_ALREADY if patch is not None and "patch" in now.overlays else shown.note,
        "layers": layers,
        "surfaces": surfaces,
        "errors": shown.pieces,
        "errors_note": "Errors are listed of whole cases."
        if patch is not None
        else _errors_note(shown, labelled, class_name),
        **of_errors,
        "legend": _legend(shown, layers, {} if flat else surfaces, now.cls) + (_CHOSEN if marked else ()),
        "map": None if drawn is None else layers[drawn].colour_scale,
        "outlines": shown.outlines if "errors" in layers else None,
        "absent": _absent(shown, layers, class_name, reality),
        "cursor": None if results else snapshot.step,
        "read_out": where,
        "balance": shown.balance,
        "seen": shown,
    }


_CHOSEN = (LegendEntry("chosen error", colours.HERE, "outline"),)


def _caption(now: Displayed, reality: Reality, shown: Seen, class_name: str) -> Caption:
    """Return what is written over the canvas; over pictures of something else alone, whose they are not."""
    snapshot, patch = shown.snapshot, patch_of(now, reality)
    convention = "" if reality.axes is None else CONVENTIONS[now.convention]
    if reality.gone and reality.others:
        # as a remark, which goes over several lines: shortened names would not say whose pictures these are
        return Caption(
            f"Not {snapshot.case}", convention=convention, remark=f"shown: {', '.join(reality.others)}"
        )
    return Caption(
        case=snapshot.case,
        held=watched_case.held(snapshot),
        class_name=class_name,
        step=_step_words(now, shown) if patch is None else patch.scope,
        convention=convention,
        remark=_remark(now, reality, shown),
    )


def _step_words(now: Displayed, shown: Seen) -> str:
    """Return the step of a picture of a whole case; predictions of other programs have none."""
    if now.source == "results":
        return ""
    return f"step {shown.snapshot.step}" + (" (this slice)" if shown.snapshot.partial else "")


def _of_errors(now: Displayed, reality: Reality, shown: Seen) -> dict[str, Any]:
    """Return the list of errors, and what is said of the one that is looked at."""
    judged = reality.judged if reality.judged is not None and reality.judged.run == now.run else None
    since = reality.since if reality.since is not None and reality.since.pieces is shown.pieces else None
    asked = now.listing.order == "suspect" and reality.suspicion is not None
    suspicion = reality.suspicion if asked and reality.suspicion.pieces is shown.pieces else None  # type: ignore[union-attr]
    piece = None if now.error is None else now.error.piece
    navigator = arranged(shown.pieces, judged, since, now.listing, piece, shown.snapshot.case, suspicion)
    if now.error is None:
        return {"navigator": navigator, "verdict": Control(False, "Choose an error in the list first.")}
    life = reality.life if reality.life is not None and reality.life.piece is piece else None
    entry = navigator.entry
    if entry is None:
        found = f"{now.error.piece.sentence}. It is not there at step {shown.snapshot.step}."
    else:
        found = (
            f"{entry.piece.sentence}. {entry.piece.place.words[:1].upper()}{entry.piece.place.words[1:]}; "
        )
        found += f"{entry.piece.depth_mm:.1f} mm deep."
        found += f" Suspect label: {entry.why}." if entry.why else ""
    told = "" if life is None else life.sentence(None if entry is None else entry.since)
    return {
        "navigator": navigator,
        "error_text": f"{found} {told}".strip(),
        "error_life": () if life is None else life.moments,
        "mark": None if life is None else life.mark,
        "verdict": _verdict(now, entry is not None, judged is not None),
    }


def _verdict(now: Displayed, there: bool, known: bool) -> Control:
    if now.source == "race":
        return Control(False, "Verdicts are kept with a run: go back to it.")
    if not known:
        return Control(False, "The verdicts on these predictions have not been read.")
    return Control(there, "" if there else "Choose a step at which the error is there.")


def _drawn_surfaces(shown: Seen, now: Displayed) -> dict[Part, SurfacePicture]:
    needs: dict[Part, Switch] = {"truth": "errors", "errors": "errors", "prediction": "prediction"}
    return {part: made for part, made in shown.surfaces.items() if needs[part] in now.overlays}


def _legend(
    shown: Seen,
    layers: Mapping[Switch, Picture],
    surfaces: Mapping[Part, SurfacePicture],
    cls: int | None,
) -> tuple[LegendEntry, ...]:
    """Return the colours of what is drawn: errors with their lines, and the classes of the prediction."""
    found: tuple[LegendEntry, ...] = ()
    classes = shown.snapshot.class_names
    if "errors" in layers:
        found = errors.legend(cls, layers["errors"].form)
    elif "errors" in surfaces:
        found = (*errors.legend(cls, "solid"), LegendEntry("truth", colours.TRUTH_SURFACE))
    if "prediction" in layers:
        found += errors.class_legend(classes, shown.predicted, layers["prediction"].form)
    elif "prediction" in surfaces:
        found += errors.class_legend(classes, shown.predicted if cls is None else (cls,), "fill")
    return found


def _absent(
    shown: Seen, layers: Mapping[Switch, Picture], class_name: str, reality: Reality
) -> tuple[Absence, ...]:
    if reality.axes is None:
        ticked = [overlay for overlay in MAPS if any(p.key == overlay for p in shown.pictures)]
        return tuple(Absence(o, "Maps of regions are drawn in slices, not in 3D.", 0) for o in ticked)
    axis = next(a for a in range(3) if a not in reality.axes)
    return absences(shown.snapshot, layers.values(), class_name, axis, reality.point[axis])


def _remark(now: Displayed, reality: Reality, shown: Seen) -> str:
    patch = patch_of(now, reality)
    said = [patch.remark] if patch is not None and patch.remark else []
    said += [f"what if: bias {shown.wanted.bias:+.2g}"] if shown.wanted.bias else []
    if reality.others:
        said.append(f"not of this case: {', '.join(reality.others)}")
    return "; ".join(said)


def _errors_note(shown: Seen, labelled: bool, class_name: str) -> str:
    if not labelled:
        return "This case has no label, so its errors are unknown."
    if len(shown.pieces) >= watched_case.MOST_LISTED:
        return f"The {watched_case.MOST_LISTED} largest errors are listed."
    return "" if shown.pieces else f"No error of 0.05 ml or more ({class_name})."


def _missing(now: Displayed, reality: Reality, shown: Seen | None, request: Request | None) -> str:
    """Return what is not there yet."""
    if request is not None:
        step = "" if now.source == "results" else f", step {request.step}"
        return "" if shown is not None else f"Preparing {request.case}{step}…"
    if now.source == "layers":
        return (
            "The watched cases appear here after the first prediction of a run, and a case of opened results "
            "once it is clicked."
        )
    if now.case is not None:
        return f"{now.case} is watched; its first prediction comes with the first validation."
    run = run_of(now, reality)
    if run is None:
        return "Nothing is open here yet."
    if now.source == "race":
        return "This race has no prediction of every lane yet; the first comes when each has begun."
    return "This run has no prediction to show yet; the first comes with the first validation."


def _history(
    now: Displayed, reality: Reality, shown: Seen | None, request: Request | None
) -> HistoryShown | None:
    steps = steps_of(now, reality)
    if not steps or request is None or request.trained:
        return None
    place = steps.index(request.step)
    follows = now.step is None
    if shown is None or shown.snapshot.step != request.step:
        still = "" if shown is None else f"; step {shown.snapshot.step} is still shown"
        return HistoryShown(steps, place, follows, f"Preparing step {request.step}{still}")
    newest = " (newest)" if follows else ""
    return HistoryShown(
        steps, place, follows, f"Prediction {place + 1} of {len(steps)}, step {request.step}{newest}"
    )


def _toggles(
    now: Displayed, shown: Seen | None, names: Sequence[str], patch: TrainedPatch | None
) -> dict[Switch, Toggle]:
    """Return the switches; one that can draw nothing of this case stays as it is and says why."""
    reasons = shown.reasons if shown is not None else {}
    found: dict[Switch, Toggle] = {}
    for overlay in SWITCHES:
        why = reasons.get(overlay, "")
        if overlay == "patch" and patch is not None:
            why = _OF_PATCH_ALREADY
        if not why and overlay in MAPS and now.cls is None and len(names) > 1:
            why = "A map of regions is of one class: choose one above."
        foreign = now.source == "results" and overlay in MAPS
        if foreign:
            why = "Predictions of other programs have no regions of a loss."
        found[overlay] = Toggle(overlay in now.overlays, not foreign, why)
    return found


_NOT_TESTED = (
    "The test cases have not been scored. When every choice is made: segexplorer evaluate RUN --split test"
)


def _scores(now: Displayed, reality: Reality, shown: Seen | None) -> dict[str, Any]:
    if now.source == "results":  # the scores of the other cases are in the case table
        alone: dict[str, Any] = {"scored_on": "watched", "score_sources": ("watched",)}
        if shown is not None:
            alone |= {"scores": shown.scores, "scores_of": shown.snapshot.case}
        return alone
    return {"scored_on": now.scored_on} | _scores_of_run(now, reality, shown)


def _scores_of_run(now: Displayed, reality: Reality, shown: Seen | None) -> dict[str, Any]:
    run = run_of(now, reality)
    if now.scored_on == "watched":
        if shown is None:
            return {}
        snapshot, patch = shown.snapshot, patch_of(now, reality)
        of = f"step {snapshot.step}" if patch is None else patch.scope
        return {"scores": shown.scores, "scores_of": f"{snapshot.case}, {of}"}
    if run is None:
        return {}
    if now.scored_on == "test":
        if not run.tests:
            return {"scores_of": _NOT_TESTED}
        record = run.tests[-1]
        times = "once" if record.number == 1 else f"{record.number} times"
        of = f"{record.checkpoint} weights, step {record.step}; {record.when}; scored {times}"
        return {"scores": record.scores, "scores_of": of}
    limit = now.step
    steps = [step for step in run.validations if limit is None or step <= limit]
    if not steps:
        return {}
    return {"scores": run.validations[max(steps)].scores, "scores_of": f"step {max(steps)}"}


# ---- buttons


def controls(reality: Reality) -> dict[str, Control]:
    """Return which buttons can be pressed, and why not.

    `start` is enabled exactly when the plan of the experiment has no error and nothing is going on.
    """
    run, accepts, busy = reality.run, reality.accepts, reality.busy
    waiting = reality.making
    opens_not = waiting or ("A run is going on: stop it first." if busy else "")
    racing = _RACING if reality.racing is not None and reality.racing.running else ""
    occupied = opens_not or racing
    plan = reality.plan
    found: dict[str, Control] = {}
    if occupied:
        found["start"] = Control(False, occupied)
    elif plan.state == "fits":
        found["start"] = Control(True)
    elif plan.state == "refused":
        found["start"] = Control(False, plan.problem, plan.path)
    else:
        found["start"] = Control(
            False, "The experiment is being planned…" if plan.state == "planning" else ""
        )
    found["open"] = Control(not opens_not, opens_not)
    goes_on = run is not None and not busy and not occupied and "start" in accepts
    held = f"This run is in use by {run.owner}." if run is not None and run.owner else racing
    none = "There is no run yet." if run is None else ("" if busy else "The run is not going on.")
    found["go_on"] = Control(goes_on, "" if goes_on else held or none or "The run is going on.")
    for command in ("pause", "unpause", "step", "stop", "predict_now"):
        able = busy and command in accepts
        found[command] = Control(able, "" if able else none or "The run is busy; it can do this in a moment.")
    able = run is not None and "extend" in accepts and not waiting and not racing
    found["extend"] = Control(able, "" if able else none or racing or "The run cannot be extended now.")
    return found
