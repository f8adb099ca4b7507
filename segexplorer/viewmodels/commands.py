"""What the user can do to what is displayed: pure functions from one `Displayed` to the next, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from segexplorer.losses.base import LossSpec
from segexplorer.viewmodels.decision import REACH
from segexplorer.viewmodels.displayed import ROLES, Convention, Displayed, Extent, ScoreSource, Source
from segexplorer.viewmodels.error_navigator import Chosen, ErrorNavigator, Listing
from segexplorer.viewmodels.reality import (
    Reality,
    choices_of,
    class_names_of,
    effective,
    known_patch,
    run_of,
    steps_of,
)
from segexplorer.viewmodels.resolve import resolve
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.watched_case import MAPS, Switch
from segexplorer.viewmodels.why import PULL, Look, Question, Space

C = TypeVar("C", bound=Callable[..., Displayed])
COMMANDS: dict[str, Callable[..., Displayed]] = {}
"""Name -> command, of all there are; each takes what is displayed and what exists, and returns what is displayed
next."""


def _command(function: C) -> C:
    COMMANDS[function.__name__] = function
    return function


def _afresh(now: Displayed, source: Source, run: str | None) -> Displayed:
    """Nothing of the present subject stays; how the user likes to look at things does."""
    return Displayed(
        source,
        run,
        question=Question(now.question.look, space=now.question.space, against=now.question.against),
        overlays=now.overlays,
        threshold_ml=now.threshold_ml,
        convention=now.convention,
        scored_on=now.scored_on,
        bias=None if now.bias is None else 0.0,  # the section of the decision stays open
        listing=Listing(now.listing.order),
        race_steps=now.race_steps,
    )


@_command
def open_run(now: Displayed, reality: Reality, run: str) -> Displayed:
    """Look at a run folder that was made earlier."""
    return _afresh(now, "recorded", run)


@_command
def start_run(now: Displayed, reality: Reality, run: str) -> Displayed:
    """Look at a run that this window trains; one that goes on stays as it is looked at."""
    if now.run == run:
        return replace(now, source="live")
    return _afresh(now, "live", run)


@_command
def open_results(now: Displayed, reality: Reality, key: str, case: str | None = None) -> Displayed:
    """Look at predictions that other programs made, at one case or at the first."""
    return replace(_afresh(now, "results", key), case=case)


@_command
def open_race(now: Displayed, reality: Reality, key: str) -> Displayed:
    """Look at the lanes of a race; the case and the class that are looked at stay, where it has them."""
    found = _afresh(now, "race", key)
    return _kept(found, now, reality)


@_command
def leave_race(now: Displayed, reality: Reality) -> Displayed:
    """Look at the run again that is open, or at the user's layers; case and class stay, where it has them."""
    if now.source != "race":
        return now
    if reality.run is None:
        return _afresh(now, "layers", None)
    found = _afresh(now, "live" if reality.busy else "recorded", reality.run.key)
    return _kept(found, now, reality)


def _kept(found: Displayed, before: Displayed, reality: Reality) -> Displayed:
    """Keep the case and, by its name, the class that were looked at; another run's class may be another thing."""
    run = run_of(found, reality)
    if run is None or before.case is None:
        return found
    role = next((r for r in run.roles if run.case(r) == before.case), None)
    names, known = class_names_of(before, reality), run.class_names(role)
    if role is None or names != known:
        return found
    return replace(found, role=role, case=before.case, cls=before.cls)


@_command
def look_at_race(now: Displayed, reality: Reality, steps: int | None) -> Displayed:
    """Begin to ask what a race of so many steps from here would cost; None: ask no more."""
    return replace(now, race_steps=None if steps is None else max(1, int(steps)))


@_command
def close(now: Displayed, reality: Reality) -> Displayed:
    """Look at no run any more, but at the user's own layers."""
    return _afresh(now, "layers", None)


@_command
def choose_case(now: Displayed, reality: Reality, key: str) -> Displayed:
    """Look at another case: of a run by its role, otherwise by its id."""
    if now.source in ("live", "recorded", "race"):
        run = run_of(now, reality)
        role = next((r for r in ROLES if r == key), None)
        case = run.case(role) if run is not None and role is not None else None
        found = now if case is None else replace(now, role=role, case=case, step=None)
    else:
        found = replace(now, case=key, step=None)
    found = replace(found, extent="case", after=None)
    if (found.case, found.extent) == (now.case, now.extent):
        return found
    return _elsewhere(replace(found, listing=Listing(now.listing.order)))


@_command
def choose_extent(now: Displayed, reality: Reality, extent: Extent) -> Displayed:
    """Look at the whole case, or at the patch that the run last trained on; chosen again, at a newer one."""
    if extent == "case":
        return now if now.extent == "case" else _elsewhere(replace(now, extent="case", after=None))
    patch = known_patch(now, reality)
    return _elsewhere(replace(now, extent="patch", after=None if patch is None else patch.step))


def _elsewhere(now: Displayed) -> Displayed:
    """Nothing that was chosen for a place or a class of another case stays."""
    return replace(now, question=replace(now.question, place=None)).undecided()


@_command
def next_case(now: Displayed, reality: Reality, way: int = 1) -> Displayed:
    """Look at the next case (1) or the previous one (-1), after the last the first."""
    keys, place = choices_of(effective(now, reality), reality)
    if not keys:
        return now
    return choose_case(now, reality, keys[(place + way) % len(keys)][0])


@_command
def remove_case(now: Displayed, reality: Reality, case: str) -> Displayed:
    """A case was taken out of the Cases tab; of a run nothing changes."""
    return replace(now, case=None) if now.source == "layers" and now.case == case else now


@_command
def scrub(now: Displayed, reality: Reality, step: float) -> Displayed:
    """Look at the prediction nearest to a step; at the last one, follow the newest."""
    steps = steps_of(effective(now, reality), reality)
    if not steps:
        return now
    nearest = min(steps, key=lambda s: abs(s - step))
    return replace(now, step=None if nearest == steps[-1] else nearest)


@_command
def follow_newest(now: Displayed, reality: Reality) -> Displayed:
    """Look at the newest prediction, and at the next when it comes."""
    return replace(now, step=None)


@_command
def move_in_history(now: Displayed, reality: Reality, frames: int) -> Displayed:
    """Look at a prediction so many frames later, or earlier where it is negative."""
    now = effective(now, reality)
    steps = steps_of(now, reality)
    if not steps:
        return now
    place = steps.index(now.step) if now.step in steps else len(steps) - 1
    return scrub(now, reality, steps[min(max(place + frames, 0), len(steps) - 1)])


@_command
def choose_class(now: Displayed, reality: Reality, cls: int | None) -> Displayed:
    """Look at one class, or at all."""
    return replace(now, cls=cls).undecided()


@_command
def toggle(now: Displayed, reality: Reality, overlay: Switch, on: bool) -> Displayed:
    """Switch an overlay; a map of regions takes the place of the one that was on."""
    others = now.overlays - {overlay}
    if overlay == PULL:
        return look_at(now, reality, (now.question.look or "asked") if on else None)
    if not on:
        return replace(now, overlays=others)
    if overlay in MAPS:
        others = others - set(MAPS)
        now = look_at(now, reality, None)
    return replace(now, overlays=others | {overlay})


@_command
def delete_layer(now: Displayed, reality: Reality, key: str) -> Displayed:
    """The user has taken a layer out of the viewer: its overlay is off."""
    if key == PULL:
        return look_at(now, reality, None)
    return replace(now, overlays=frozenset(o for o in now.overlays if o != key))


@_command
def set_threshold(now: Displayed, reality: Reality, millilitres: float) -> Displayed:
    """Draw regions from this error volume on."""
    return replace(now, threshold_ml=max(0.0, millilitres))


@_command
def choose_convention(now: Displayed, reality: Reality, convention: Convention) -> Displayed:
    """Show the patient's right on the left of the screen (radiological) or on the right (neurological)."""
    return replace(now, convention=convention)


@_command
def choose_scores(now: Displayed, reality: Reality, scored_on: ScoreSource) -> Displayed:
    """Show the scores of all validation cases, of the watched case, or of the test cases."""
    return replace(now, scored_on=scored_on)


@_command
def look_at(now: Displayed, reality: Reality, look: Look | None) -> Displayed:
    """Draw what the loss asks for, what training did, or both; it takes the place of a map of regions."""
    overlays = now.overlays if look is None else now.overlays - set(MAPS)
    return replace(now, overlays=overlays, question=replace(now.question, look=look))


@_command
def ask_at(now: Displayed, reality: Reality, place: tuple[float, float, float] | None) -> Displayed:
    """Ask why at a point, (z, y, x) in mm; None: at none."""
    return replace(now, question=replace(now.question, place=place))


@_command
def ask_since(now: Displayed, reality: Reality, step: int | None) -> Displayed:
    """Ask what was paid since an earlier prediction; None: since the one before."""
    return replace(now, question=replace(now.question, since=step))


@_command
def ask_loss(now: Displayed, reality: Reality, loss: LossSpec | None) -> Displayed:
    """Ask another loss, or the run's own with other parameters; None: its own as it was."""
    return replace(now, question=replace(now.question, loss=loss, term=""))


@_command
def ask_term(now: Displayed, reality: Reality, term: str) -> Displayed:
    """Ask one term of a compound; "": their sum."""
    return replace(now, question=replace(now.question, term=term))


@_command
def ask_space(now: Displayed, reality: Reality, space: Space) -> Displayed:
    """Ask with respect to the logits, or to the probabilities."""
    return replace(now, question=replace(now.question, space=space))


@_command
def ask_against(now: Displayed, reality: Reality, loss: LossSpec | None) -> Displayed:
    """Compare with another loss; None: cross entropy."""
    return replace(now, question=replace(now.question, against=loss))


@_command
def look_at_decision(now: Displayed, reality: Reality, on: bool) -> Displayed:
    """Begin or end to look at the decision of the chosen class."""
    return replace(now, bias=(now.bias or 0.0) if on else None, bias_moves=False)


@_command
def move_bias(now: Displayed, reality: Reality, bias: float, moves: bool = False) -> Displayed:
    """Add a bias to the chosen class before the decision; `moves` while the slider is held."""
    return replace(now, bias=min(max(float(bias), -REACH), REACH), bias_moves=moves)


@_command
def arrange_errors(now: Displayed, reality: Reality, listing: Listing) -> Displayed:
    """Sort and filter the list of errors."""
    return replace(now, listing=listing)


@_command
def choose_error(now: Displayed, reality: Reality, number: int | None) -> Displayed:
    """Look at an error, by its number in the list; None at none."""
    screen = resolve(now, reality)
    return _looking_at(screen, screen.navigator.choose(number))


@_command
def next_error(now: Displayed, reality: Reality, way: int = 1) -> Displayed:
    """Look at the next error of the list (1) or the previous one (-1), after the last the first.

    Not while a label is open for painting, since napari's keys of painting are beside these.
    """
    if reality.painting is not None:
        return now
    screen = resolve(now, reality)
    return _looking_at(screen, screen.navigator.go(way))


def _looking_at(screen: Screen, navigator: ErrorNavigator) -> Displayed:
    now, entry, seen = screen.displayed, navigator.entry, screen.seen
    if entry is None or seen is None:
        return replace(now, error=None)
    return replace(now, error=Chosen(entry.piece, seen.snapshot.step, now.subject))
