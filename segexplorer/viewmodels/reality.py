"""What exists now, and what of it is displayed: the run, the picture that a worker has finished, the mouse.

Slow work is described by the `Request` of a screen. What a worker brings for another request than the present one
is used only where run, case, role, class and threshold are the same: then everything drawn says the step of the
picture that is there, and the slider names the step that is being prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.events import Role, ValidationDone
from segexplorer.data.case import CaseRef
from segexplorer.study.race import A
from segexplorer.training.doctor import Diagnosis
from segexplorer.training.explanation import Explanation
from segexplorer.training.history import HistoryFrame
from segexplorer.training.scores import SplitScores
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.displayed import ROLES, Displayed
from segexplorer.viewmodels.error_navigator import Judged, Life, Since, Suspicion
from segexplorer.viewmodels.race import RaceFacts, RaceOffer, RaceQuestion, Racing, see_race
from segexplorer.viewmodels.watched_case import MAPS, Seen, Wanted
from segexplorer.viewmodels.why import Answer, WhyRequest


@dataclass(frozen=True)
class RunFacts:
    """What is known of the current run.

    Attributes
    ----------
    key, title
        Its folder, and how it is called on the screen.
    planned
        Role -> case that will be watched, known before the first prediction.
    newest
        Role -> newest prediction that the run itself has brought.
    frames
        Role -> predictions in its history, in order of steps.
    load
        Reads a frame; called by a worker.
    explain
        Makes the explanation of a prediction, of the next one (None: there is none) and of what is known of the
        case already; called by a worker.
    patch
        The regions of the last training patch.
    trained
        The last training patch that was asked for, as its loss saw it, or why it is not kept.
    validations
        Step -> validation.
    tests
        What is recorded of its test cases, the last record at the end.
    owner
        Which other process trains it; "" where none does.
    penalties
        Least and greatest alpha and beta under its loss: the limits of their maps in every frame. None where it
        does not say.
    """

    key: str
    title: str = ""
    planned: Mapping[Role, str] = field(default_factory=dict)
    newest: Mapping[Role, WatchedSnapshot] = field(default_factory=dict)
    frames: Mapping[Role, tuple[HistoryFrame, ...]] = field(default_factory=dict)
    load: Callable[[HistoryFrame], WatchedSnapshot] | None = None
    explain: Callable[[WatchedSnapshot, WatchedSnapshot | None, Explanation | None], Explanation] | None = (
        None
    )
    patch: PatchSnapshot | None = None
    trained: TrainedPatch | str | None = None
    validations: Mapping[int, ValidationDone] = field(default_factory=dict)
    tests: tuple[SplitScores, ...] = ()
    owner: str = ""
    penalties: tuple[float, float] | None = None

    def case(self, role: Role) -> str | None:
        """Return the case watched in a role, None where none is."""
        if role in self.newest:
            return self.newest[role].case
        if self.frames.get(role):
            return self.frames[role][-1].facts.case
        return self.planned.get(role)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles that have a case, those with a prediction first."""
        known = [role for role in ROLES if self.case(role) is not None]
        return tuple(sorted(known, key=lambda role: not self.steps(role)))

    def steps(self, role: Role | None) -> tuple[int, ...]:
        """Return the steps of which there is a prediction, in order."""
        if role is None:
            return ()
        found = {frame.step for frame in self.frames.get(role, ())}
        if role in self.newest:
            found.add(self.newest[role].step)
        return tuple(sorted(found))

    def class_names(self, role: Role | None) -> tuple[str, ...]:
        """Return the foreground classes, () before they are known."""
        if role is not None and role in self.newest:
            return self.newest[role].class_names
        if role is not None and self.frames.get(role):
            return tuple(self.frames[role][-1].facts.class_names)
        return ()


@dataclass(frozen=True)
class Results:
    """Predictions that other programs made.

    Attributes
    ----------
    key, title
        Their folder, and how they are called on the screen.
    cases, class_names
        Ids of the cases, and the foreground classes.
    load, find
        Return the prediction of a case and its `CaseRef` (None where there is no image); called by a worker.
    explain
        Returns the explanation of a case; None where the results hold no probabilities.
    folder
        Where verdicts on them are kept; None where there is no such place.
    """

    key: str
    cases: tuple[str, ...]
    class_names: tuple[str, ...]
    load: Callable[[str], WatchedSnapshot]
    find: Callable[[str], CaseRef | None]
    title: str = ""
    explain: Callable[[str], Explanation] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class PlanFacts:
    """What became of the plan of the experiment that the tabs show.

    Attributes
    ----------
    state
        "unknown" before anything was planned, "planning", "fits", or "refused".
    problem
        Why it is refused, in the words of the forms.
    path
        Dotted path of the setting at fault; "" where it is none.
    """

    state: Literal["unknown", "planning", "fits", "refused"] = "unknown"
    problem: str = ""
    path: str = ""


@dataclass(frozen=True)
class Painting:
    """A label that is open for painting: of which scene, and what is said of it."""

    scene: tuple[str, str]
    text: str


@dataclass(frozen=True)
class Reality:
    """What exists now.

    Attributes
    ----------
    run, results, race
        The run, the results and the race that are open; None without.
    racing
        The race that this window trains, or has trained last; None without.
    offer
        What a race would cost, with what was asked.
    cases
        Cases that the Cases tab has collected from layers.
    seen
        The last picture that a worker has finished, with its request.
    refusal
        Why the last request failed, with the request.
    answer
        The last answer about the loss, with what was asked.
    diagnosis
        What the loss doctor says of a run, or why it cannot say anything, with the key of the run.
    examined
        Key of the run that the loss doctor is looking at; None while it looks at none.
    image_of
        (key of run or results, case) whose image is in the viewer, or was found not to be there.
    image_problem
        Why the image of the case cannot be shown.
    others
        Names of visible layers of the user's that do not belong to the case that is displayed.
    gone
        Whether nothing of the case that is displayed can be seen, since its layers were deleted or hidden.
    judged, since, suspicion, life
        Verdicts on errors, since when the errors are there, how suspect they make the label, and what is known of
        the one that is looked at.
    painting
        The label that is open for painting; None where none is.
    mouse
        (z, y, x) in mm under the mouse; None while it is not over the canvas.
    axes
        Display axes of the slice that is shown (0 = z, 1 = y, 2 = x); None in 3D.
    point
        (z, y, x) in mm: where the planes that are shown meet.
    planes
        Axes across which further views show slices.
    solid
        Whether a further view shows 3D.
    plan
        Whether the experiment in the tabs could be started.
    accepts
        Commands that the run accepts now.
    busy
        Whether the run is being iterated in this window.
    making
        What is under way before a run is there ("Making the run folder…"); "" otherwise.
    """

    run: RunFacts | None = None
    results: Results | None = None
    race: RaceFacts | None = None
    racing: Racing | None = None
    offer: tuple[RaceQuestion, RaceOffer] | None = None
    cases: tuple[str, ...] = ()
    seen: tuple[Request, Seen] | None = None
    refusal: tuple[Request, str] | None = None
    answer: tuple[WhyRequest, Answer] | None = None
    diagnosis: tuple[str, Diagnosis | str] | None = None
    examined: str | None = None
    image_of: tuple[str, str] | None = None
    image_problem: str = ""
    others: tuple[str, ...] = ()
    gone: bool = False
    judged: Judged | None = None
    since: Since | None = None
    suspicion: Suspicion | None = None
    life: Life | None = None
    painting: Painting | None = None
    mouse: tuple[float, float, float] | None = None
    axes: tuple[int, ...] | None = None
    point: tuple[float, float, float] = (0.0, 0.0, 0.0)
    planes: tuple[int, ...] = ()
    solid: bool = False
    plan: PlanFacts = PlanFacts()
    accepts: frozenset[str] = frozenset()
    busy: bool = False
    making: str = ""

    @property
    def slices(self) -> tuple[tuple[int, float], ...]:
        """Axis and place, mm, of the slices that are seen, that of the main view first; it has none in 3D."""
        own = () if self.axes is None else tuple({0, 1, 2} - set(self.axes))
        return tuple((axis, self.point[axis]) for axis in dict.fromkeys((*own, *self.planes)))


@dataclass(frozen=True)
class Request:
    """What a worker is to prepare. Equal requests have equal answers.

    Attributes
    ----------
    run, role, case, step
        Which prediction.
    partial
        Whether only a slab of it was predicted anew.
    threshold_ml, wanted, patch_step
        What is drawn of it, and which training patch.
    load, patch
        Where prediction and patch come from.
    lanes
        Reads lane -> prediction of the other lanes of a race at that step; None where it is of no race.
    trained
        Whether it is of the patch that was trained on in that step, and not of the whole case.
    """

    run: str
    role: Role
    case: str
    step: int
    partial: bool
    threshold_ml: float
    wanted: Wanted
    patch_step: int | None
    load: Callable[[], WatchedSnapshot] = field(compare=False, repr=False)
    patch: PatchSnapshot | None = field(default=None, compare=False, repr=False)
    lanes: Callable[[], Mapping[str, WatchedSnapshot]] | None = field(default=None, compare=False, repr=False)
    trained: bool = False

    @property
    def subject(self) -> tuple[Any, ...]:
        """What a picture must have in common with the request to be shown for it, until its own is ready."""
        of = self.run, self.role, self.case, self.trained and self.step
        return *of, self.wanted.class_index, self.threshold_ml

    def is_same_prediction(self, other: Request) -> bool:
        """Whether both are of the same voxels, whatever is drawn of them."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("run", "role", "case", "step", "partial", "trained")
        )

    def answer(self, before: tuple[Request, Seen] | None = None) -> Seen:
        """Prepare it; slow, for a worker.

        Parameters
        ----------
        before
            What was prepared last: the same voxels are not read again.

        Raises
        ------
        SegExplorerError
            When the prediction or its case cannot be read.
        """
        known = before[1] if before is not None and self.is_same_prediction(before[0]) else None
        decision = None
        if known is not None and known.wanted.class_index == self.wanted.class_index:
            decision = known.decision
        found = watched_case.see(
            self.load() if known is None else known.recorded,
            self.patch,
            self.wanted,
            threshold_ml=self.threshold_ml,
            known=known,
            decision=decision,
        )
        if self.lanes is None:
            return found
        return see_race(found, self.lanes, threshold_ml=self.threshold_ml, known=known)


# ---- from what is wanted to what there is


def run_of(now: Displayed, reality: Reality) -> RunFacts | None:
    """Return the run that is displayed, of a race its lane A; None where there is none or another one is open."""
    if now.source == "race":
        race = race_of(now, reality)
        return None if race is None else _lane_a(race)
    run = reality.run
    wanted = now.source in ("live", "recorded") and run is not None and run.key == now.run
    return run if wanted else None


def race_of(now: Displayed, reality: Reality) -> RaceFacts | None:
    found = reality.race
    return found if now.source == "race" and found is not None and found.key == now.run else None


def _lane_a(race: RaceFacts) -> RunFacts:
    """Return lane A as a run of the race's folder, with the frames that every lane has."""
    return RunFacts(
        race.key,
        title=f"Race from step {race.step} of {race.source}",
        frames={role: tuple(lanes[A] for lanes in found.values()) for role, found in race.frames.items()},
        load=race.load,
        explain=race.explain,
        validations=race.validations,
        penalties=race.penalties,
    )


def known_patch(now: Displayed, reality: Reality) -> TrainedPatch | None:
    """Return the training patch that the displayed run has kept; None where there is none."""
    run = run_of(now, reality)
    found = None if run is None else run.trained
    return found if isinstance(found, TrainedPatch) else None


def patch_of(now: Displayed, reality: Reality) -> TrainedPatch | None:
    """Return the training patch that is looked at; None where it is a whole case, also until there is a patch."""
    return known_patch(now, reality) if now.extent == "patch" else None


def asks_for_patches(now: Displayed, reality: Reality) -> bool:
    """Whether the displayed run can be asked to keep its next patch."""
    return now.source == "live" and reality.busy and "show_patch" in reality.accepts


def results_of(now: Displayed, reality: Reality) -> Results | None:
    found = reality.results
    return found if now.source == "results" and found is not None and found.key == now.run else None


def steps_of(now: Displayed, reality: Reality) -> tuple[int, ...]:
    run = run_of(now, reality)
    return () if run is None else run.steps(now.role)


def choices_of(now: Displayed, reality: Reality) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return (key, title) of the cases that may be looked at, and the place of the one that is."""
    run, results = run_of(now, reality), results_of(now, reality)
    if run is not None:
        roles = [role for role in ROLES if run.case(role) is not None]
        keys = tuple((role, f"{run.case(role)} ({ROLES[role].lower()})") for role in roles)
        return keys, roles.index(now.role) if now.role in roles else -1
    cases = results.cases if results is not None else (reality.cases if now.source == "layers" else ())
    return tuple((case, case) for case in cases), cases.index(now.case) if now.case in cases else -1


def class_names_of(now: Displayed, reality: Reality) -> tuple[str, ...]:
    run, results = run_of(now, reality), results_of(now, reality)
    if results is not None:
        return results.class_names
    return () if run is None else run.class_names(now.role)


def effective(now: Displayed, reality: Reality) -> Displayed:
    """Return what is displayed as far as it exists: a case that is there, a step that was recorded, a class that
    the case has."""
    if len(now.overlays.intersection(MAPS)) > 1:
        kept = next(m for m in MAPS if m in now.overlays)
        now = replace(now, overlays=(now.overlays - set(MAPS)) | {kept})
    run, results = run_of(now, reality), results_of(now, reality)
    if run is not None:
        roles = run.roles
        role = now.role if now.role in roles else next(iter(roles), None)
        case = None if role is None else run.case(role)
        now = replace(now, role=role, case=case, step=now.step if case == now.case else None)
        if now.step not in run.steps(role)[:-1]:
            now = replace(now, step=None)
    elif results is not None:
        case = now.case if now.case in results.cases else next(iter(results.cases), None)
        now = replace(now, role=None, case=case, step=None)
    elif now.source == "layers":
        case = now.case if now.case in reality.cases else next(iter(reality.cases), None)
        now = replace(now, run=None, role=None, case=case, step=None)
    else:
        now = replace(now, role=None, case=None, step=None)
    names = class_names_of(now, reality)
    if now.cls is not None and not 1 <= now.cls <= len(names):
        now = replace(now, cls=None)
    if now.bias and watched_case.class_of_maps(names, now.cls) is None:
        now = now.undecided()
    if now.question.look is not None and not now.overlays.isdisjoint(MAPS):
        now = replace(now, overlays=now.overlays - set(MAPS))
    patch = known_patch(now, reality)
    if now.extent == "patch" and patch is None and not asks_for_patches(now, reality):
        now = replace(now, extent="case", after=None)
    if now.extent == "patch" and patch is not None:  # errors are gone through in whole cases
        now = replace(now, error=None)
    return now if now.error is None or now.error.subject == now.subject else replace(now, error=None)
