"""What the window shows: one frozen `Displayed`, and `resolve`, which gives everything drawn from it.

A `Displayed` is what the user wants to look at; `Reality` is what exists now: the run, its frames, the picture that
a worker has finished, the layers in the viewer, the mouse. Commands are pure functions that return another
`Displayed`. `resolve` is pure too and gives a `Screen`; the window draws the difference between two of them, and
nothing on the screen has any other source. So nothing of an earlier run, case or class can stay behind.

Slow work is described by the `Request` of a screen. What a worker brings for another request than the present one
is used only where run, case, role, class and threshold are the same: then everything drawn says the step of the
picture that is there, and the slider names the step that is being prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from segexplorer.core import colours
from segexplorer.core.events import CaseScore, Role, ValidationDone
from segexplorer.data.case import CaseRef
from segexplorer.losses.base import LossSpec
from segexplorer.study.race import A
from segexplorer.training.doctor import Diagnosis
from segexplorer.training.explanation import Explanation, explain_patch
from segexplorer.training.history import HistoryFrame
from segexplorer.training.scores import SplitScores
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels import errors, watched_case
from segexplorer.viewmodels.absences import Absence, absences
from segexplorer.viewmodels.caption import CONVENTIONS, Caption
from segexplorer.viewmodels.decision import REACH, Counts, DecisionCurve, rest_text
from segexplorer.viewmodels.error_navigator import (
    Chosen,
    ErrorNavigator,
    Judged,
    Life,
    Listing,
    Moment,
    Since,
    Suspicion,
    arranged,
)
from segexplorer.viewmodels.error_pieces import ErrorPiece
from segexplorer.viewmodels.errors import LegendEntry
from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.outlines import MarkOutlines, Outlines
from segexplorer.viewmodels.race import (
    RaceFacts,
    RaceOffer,
    RaceQuestion,
    RaceShown,
    Racing,
    see_race,
    show_race,
)
from segexplorer.viewmodels.regions import BalanceHistogram, Scale
from segexplorer.viewmodels.surfaces import Part, SurfacePicture
from segexplorer.viewmodels.watched_case import MAPS, SWITCHES, Seen, Switch, Wanted
from segexplorer.viewmodels.why import PULL, Answer, Look, PullScale, Question, Space, WhyRequest

Source = Literal["live", "recorded", "layers", "results", "race"]
"""Where the picture comes from: a run that this window trains, a run folder, layers that the user opened,
predictions that other programs made, or the lanes of a race."""
ScoreSource = Literal["validation", "watched", "test"]
Convention = Literal["radiological", "neurological"]
Extent = Literal["case", "patch"]
EXTENTS: dict[Extent, str] = {"case": "Whole case", "patch": "Last patch"}
"""What of a run is looked at: a watched case as a whole, or the patch that it last trained on."""

ROLES: dict[Role, str] = {"validation": "Validation case", "train": "Training case", "test": "Test case"}
"""Roles of watched cases in the order in which they are preferred."""
_ON_AT_FIRST: frozenset[Switch] = frozenset({"errors", "balance"})


@dataclass(frozen=True)
class Displayed:
    """What the user looks at.

    Attributes
    ----------
    source
        Where the picture comes from.
    run
        Folder of the run, or of the results; None for layers.
    case, role
        Case id, and as what the run watches it.
    step
        Optimiser steps of the prediction; None follows the newest.
    cls
        Index of one class, 1, 2, ...; None for all.
    overlays
        What is drawn over the image; at most one of `MAPS`.
    threshold_ml
        Regions with less error volume are not drawn.
    convention
        On which side of the screen the patient's right is.
    scored_on
        Which scores the table shows.
    listing, error
        How the list of errors is arranged, and which one is looked at.
    question
        What is asked about the loss.
    extent
        Whether the watched case is looked at, or the patch that the run last trained on, once there is one.
    after
        Of the patch: one of a later step than this is wanted; the one that is there is looked at meanwhile.
    bias
        Added to the logit of the chosen class before the decision; 0 is the prediction itself, None: nobody asks
        about the decision.
    bias_moves
        Whether the bias is being dragged, so that only what is counted at once is wanted.
    race_steps
        How far the lanes of a race from the displayed step would train; None: nobody asks about one.
    """

    source: Source = "layers"
    run: str | None = None
    case: str | None = None
    role: Role | None = None
    step: int | None = None
    cls: int | None = None
    overlays: frozenset[Switch] = _ON_AT_FIRST
    threshold_ml: float = 0.0
    convention: Convention = "radiological"
    scored_on: ScoreSource = "validation"
    question: Question = field(default_factory=Question)
    bias: float | None = None
    bias_moves: bool = False
    race_steps: int | None = None
    extent: Extent = "case"
    after: int | None = None
    listing: Listing = field(default_factory=Listing)
    error: Chosen | None = None

    @property
    def subject(self) -> tuple[Any, ...]:
        """What an error belongs to that is looked at."""
        return self.run, self.role, self.case, self.cls


# ---- what exists


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
    judged, since, suspicion, life
        Verdicts on errors, since when the errors are there, how suspect they make the label, and what is known of
        the one that is looked at.
    painting
        The label that is open for painting; None where none is.
    mouse
        (z, y, x) in mm under the mouse; None while it is not over the canvas.
    axes
        Display axes of the slice that is shown (0 = z, 1 = y, 2 = x); None in 3D.
    slice_mm
        Where that slice is along the third axis, mm.
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
    judged: Judged | None = None
    since: Since | None = None
    suspicion: Suspicion | None = None
    life: Life | None = None
    painting: Painting | None = None
    mouse: tuple[float, float, float] | None = None
    axes: tuple[int, ...] | None = None
    slice_mm: float = 0.0
    solid: bool = False
    plan: PlanFacts = PlanFacts()
    accepts: frozenset[str] = frozenset()
    busy: bool = False
    making: str = ""


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


# ---- what is drawn


@dataclass(frozen=True)
class Control:
    """A button: whether it can be pressed, and if not, why; `path` is the setting that has to change first."""

    enabled: bool
    why: str = ""
    path: str = ""


@dataclass(frozen=True)
class Toggle:
    """A switch of an overlay."""

    on: bool
    enabled: bool = True
    why: str = ""


@dataclass(frozen=True)
class HistoryShown:
    """The slider over the predictions of a case: their steps, the place of the handle, and a sentence."""

    steps: tuple[int, ...]
    place: int
    follows: bool
    text: str


@dataclass(frozen=True)
class DecisionShown:
    """The what-if of the decision: the bias, the counts with and without it, its curves, or why there is none."""

    class_name: str
    bias: float
    now: Counts | None = None
    before: Counts | None = None
    curve: DecisionCurve | None = field(default=None, compare=False)
    approximate: bool = False
    problem: str = ""
    at_rest: str = ""


@dataclass(frozen=True)
class Screen:
    """Everything that is drawn. What belongs to no picture is empty while there is none.

    Attributes
    ----------
    displayed
        What was asked for, as far as it exists.
    title
        What is shown: which run, in which state.
    scene
        (run or results, case): what the viewer must not mix with anything else; None without.
    badge, caption
        Which case and whether it was trained on; the same with class and step, for the canvas.
    message
        What is missing, being prepared, or went wrong.
    failed
        Whether the message is an error.
    choices
        (role or case, title) of what may be looked at, and the place of the chosen one.
    class_names
        What may be chosen beside "all classes".
    history
        The slider; None where there is nothing to choose.
    toggles
        Overlay -> its switch.
    layers
        Key -> picture of the overlays that are drawn in slices; none in 3D.
    surfaces
        Part -> surface that is drawn in 3D views.
    image
        (run or results, case) whose image belongs under them; None without.
    scores, scores_of
        The table of scores, and what they were measured on.
    errors, errors_note
        The errors, and why there are none.
    navigator
        The same as they are listed.
    error_text, error_life
        What is said of the error that is looked at, and what became of it through the recorded predictions.
    mark
        Its outline.
    verdict
        Whether something can be said of it, and why not.
    painting
        That the label of this case is open for painting, and that errors are not gone through by keys meanwhile.
    last_patch, patch_note
        Whether the last patch may be looked at and why not, and what is said of it.
    patch
        The training patch that all this is of; None where it is of a whole case.
    patch_request
        That the next step is to keep its patch: of which run, and the step of the one before.
    legend, map
        Colours in use, and the scale of the map of regions, None without.
    outlines
        Lines of truth and prediction, or with a map the rims of the errors; None where neither is drawn.
    absent
        Overlays that are on but draw nothing in this slice.
    cursor
        Step that is marked in the plots.
    read_out
        What is under the mouse; "" while it is elsewhere.
    balance
        Histogram of the balance of the chosen class.
    seen
        The picture that all this is of.
    request
        What a worker has to prepare; None when nothing is missing.
    answer, answer_note
        What the loss asks for, and why there is no answer or that it is being prepared.
    why_request
        What a worker has to answer about the loss; None when nothing is missing.
    decision
        The what-if of the decision; None without a class or a prediction.
    diagnosis, diagnosis_note
        What the loss doctor says of the run, and what it is doing or why it says nothing.
    race
        The lanes of the race that is displayed; None where it is none.
    racing, racing_words
        The race that this window trains or has trained, where it is displayed; and what is said of it.
    offer, race_request
        What a race from the displayed step would cost, and what a worker has to find out for that.
    controls
        Command -> its button.
    """

    displayed: Displayed
    title: str = ""
    scene: tuple[str, str] | None = None
    badge: str = ""
    caption: Caption = field(default_factory=Caption)
    message: str = ""
    failed: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    chosen: int = -1
    class_names: tuple[str, ...] = ()
    history: HistoryShown | None = None
    toggles: Mapping[Switch, Toggle] = field(default_factory=dict)
    layers: Mapping[Switch, Picture] = field(default_factory=dict)
    surfaces: Mapping[Part, SurfacePicture] = field(default_factory=dict)
    image: tuple[str, str] | None = None
    scores: tuple[CaseScore, ...] = ()
    scores_of: str = ""
    scored_on: ScoreSource = "validation"
    score_sources: tuple[ScoreSource, ...] = ("validation", "watched", "test")
    errors: tuple[ErrorPiece, ...] = ()
    errors_note: str = ""
    navigator: ErrorNavigator = field(default_factory=ErrorNavigator)
    error_text: str = ""
    error_life: tuple[Moment, ...] = ()
    mark: MarkOutlines | None = None
    verdict: Control = Control(False)
    painting: str = ""
    legend: tuple[LegendEntry, ...] = ()
    last_patch: Control = Control(False)
    patch_note: str = ""
    patch: TrainedPatch | None = None
    patch_request: tuple[str, int | None] | None = None
    map: Scale | PullScale | None = None
    outlines: Outlines | None = None
    absent: tuple[Absence, ...] = ()
    cursor: int | None = None
    read_out: str = ""
    balance: BalanceHistogram | None = None
    seen: Seen | None = None
    request: Request | None = None
    answer: Answer | None = None
    answer_note: str = ""
    why_request: WhyRequest | None = None
    decision: DecisionShown | None = None
    diagnosis: Diagnosis | None = None
    diagnosis_note: str = ""
    race: RaceShown | None = None
    racing: Racing | None = None
    racing_words: str = ""
    offer: RaceOffer | None = None
    race_request: RaceQuestion | None = None
    controls: Mapping[str, Control] = field(default_factory=dict)


_HEAVY = {
    "seen",
    "balance",
    "layers",
    "errors",
    "navigator",
    "mark",
    "outlines",
    "answer",
    "surfaces",
    "diagnosis",
    "offer",
    "patch",
}
"""Parts of a screen that hold arrays or many objects: they are the same when they are the same object."""


def differences(new: Screen, old: Screen | None) -> frozenset[str]:
    """Return the names of the parts of a screen that have to be drawn anew."""
    names = [part.name for part in fields(Screen)]
    if old is None:
        return frozenset(names)
    return frozenset(name for name in names if not _same(name, getattr(new, name), getattr(old, name)))


def _same(name: str, new: Any, old: Any) -> bool:
    if new is old:
        return True
    if name in ("layers", "surfaces"):
        return bool(new.keys() == old.keys() and all(new[key] is old[key] for key in new))
    if name == "race":
        return bool(new is not None and old is not None and new.same(old))
    if name == "decision":
        return bool(new == old and (new is None or new.curve is old.curve))
    if name in _HEAVY:
        return isinstance(new, tuple) and not new and not old
    return bool(new == old)


# ---- commands

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
    names, known = _class_names(before, reality), run.class_names(role)
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
    patch = _known_patch(now, reality)
    return _elsewhere(replace(now, extent="patch", after=None if patch is None else patch.step))


def _elsewhere(now: Displayed) -> Displayed:
    """Nothing that was chosen for a place or a class of another case stays."""
    return _undecided(replace(now, question=replace(now.question, place=None)))


def _undecided(now: Displayed) -> Displayed:
    """The decision is the network's own again."""
    return replace(now, bias=None if now.bias is None else 0.0, bias_moves=False)


@_command
def next_case(now: Displayed, reality: Reality, way: int = 1) -> Displayed:
    """Look at the next case (1) or the previous one (-1), after the last the first."""
    keys, place = _choices(effective(now, reality), reality)
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
    steps = _steps(effective(now, reality), reality)
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
    steps = _steps(now, reality)
    if not steps:
        return now
    place = steps.index(now.step) if now.step in steps else len(steps) - 1
    return scrub(now, reality, steps[min(max(place + frames, 0), len(steps) - 1)])


@_command
def choose_class(now: Displayed, reality: Reality, cls: int | None) -> Displayed:
    """Look at one class, or at all."""
    return _undecided(replace(now, cls=cls))


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


# ---- from what is wanted to what there is


def run_of(now: Displayed, reality: Reality) -> RunFacts | None:
    """Return the run that is displayed, of a race its lane A; None where there is none or another one is open."""
    if now.source == "race":
        race = _race(now, reality)
        return None if race is None else _lane_a(race)
    run = reality.run
    wanted = now.source in ("live", "recorded") and run is not None and run.key == now.run
    return run if wanted else None


def _race(now: Displayed, reality: Reality) -> RaceFacts | None:
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


def _known_patch(now: Displayed, reality: Reality) -> TrainedPatch | None:
    """Return the training patch that the displayed run has kept; None where there is none."""
    run = run_of(now, reality)
    found = None if run is None else run.trained
    return found if isinstance(found, TrainedPatch) else None


def _patch(now: Displayed, reality: Reality) -> TrainedPatch | None:
    """Return the training patch that is looked at; None where it is a whole case, also until there is a patch."""
    return _known_patch(now, reality) if now.extent == "patch" else None


def _asks_for_patches(now: Displayed, reality: Reality) -> bool:
    """Whether the displayed run can be asked to keep its next patch."""
    return now.source == "live" and reality.busy and "show_patch" in reality.accepts


def _of_extent(now: Displayed, reality: Reality) -> dict[str, Any]:
    """Return whether the last patch may be looked at, which one is, and whether a newer one is to be kept."""
    run = run_of(now, reality)
    patch, asks = _known_patch(now, reality), _asks_for_patches(now, reality)
    if run is None or (patch is None and not asks):
        why = "The last patch is kept on request, while a run trains in this window."
        return {"last_patch": Control(False, why)}
    found: dict[str, Any] = {"last_patch": Control(True), "patch": _patch(now, reality)}
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


def _results(now: Displayed, reality: Reality) -> Results | None:
    found = reality.results
    return found if now.source == "results" and found is not None and found.key == now.run else None


def _steps(now: Displayed, reality: Reality) -> tuple[int, ...]:
    run = run_of(now, reality)
    return () if run is None else run.steps(now.role)


def _choices(now: Displayed, reality: Reality) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return (key, title) of the cases that may be looked at, and the place of the one that is."""
    run, results = run_of(now, reality), _results(now, reality)
    if run is not None:
        roles = [role for role in ROLES if run.case(role) is not None]
        keys = tuple((role, f"{run.case(role)} ({ROLES[role].lower()})") for role in roles)
        return keys, roles.index(now.role) if now.role in roles else -1
    cases = results.cases if results is not None else (reality.cases if now.source == "layers" else ())
    return tuple((case, case) for case in cases), cases.index(now.case) if now.case in cases else -1


def _class_names(now: Displayed, reality: Reality) -> tuple[str, ...]:
    run, results = run_of(now, reality), _results(now, reality)
    if results is not None:
        return results.class_names
    return () if run is None else run.class_names(now.role)


def effective(now: Displayed, reality: Reality) -> Displayed:
    """Return what is displayed as far as it exists: a case that is there, a step that was recorded, a class that
    the case has."""
    if len(now.overlays.intersection(MAPS)) > 1:
        kept = next(m for m in MAPS if m in now.overlays)
        now = replace(now, overlays=(now.overlays - set(MAPS)) | {kept})
    run, results = run_of(now, reality), _results(now, reality)
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
    names = _class_names(now, reality)
    if now.cls is not None and not 1 <= now.cls <= len(names):
        now = replace(now, cls=None)
    if now.bias and watched_case.class_of_maps(names, now.cls) is None:
        now = _undecided(now)
    if now.question.look is not None and not now.overlays.isdisjoint(MAPS):
        now = replace(now, overlays=now.overlays - set(MAPS))
    patch = _known_patch(now, reality)
    if now.extent == "patch" and patch is None and not _asks_for_patches(now, reality):
        now = replace(now, extent="case", after=None)
    if now.extent == "patch" and patch is not None:  # errors are gone through in whole cases
        now = replace(now, error=None)
    return now if now.error is None or now.error.subject == now.subject else replace(now, error=None)


def _request(now: Displayed, reality: Reality) -> Request | None:
    """Return what has to be computed for what is displayed; None where there is no prediction of it."""
    run, results = run_of(now, reality), _results(now, reality)
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
    trained = _patch(now, reality)
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
    race = _race(now, reality)
    if race is None or now.role is None or race.load is None:
        return None
    read, frames = race.load, race.frames[now.role][step]
    return lambda: {name: read(frame) for name, frame in frames.items() if name != A}


def _why_request(now: Displayed, reality: Reality, request: Request | None) -> WhyRequest | None:
    """Return what has to be answered about the loss; None where nothing is asked, or there is no prediction."""
    run, results = run_of(now, reality), _results(now, reality)
    if request is None or not now.question.asks:
        return None
    if results is not None and results.explain is not None:
        case, explain_case = request.case, results.explain
        return WhyRequest(
            results.key, "test", case, 0, None, now.cls, now.question, lambda known: explain_case(case)
        )
    trained = _patch(now, reality)
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

    asked = WhyRequest(run.key, now.role, request.case, request.step, step, now.cls, now.question, made)
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
    if of != asked:
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
        return DecisionShown("", 0.0, problem="Choose a class above to move its decision.")
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
    names = _class_names(now, reality)
    choices, chosen = _choices(now, reality)
    screen = Screen(
        displayed=now,
        title=_title(now, reality),
        scene=_scene(now, reality),
        choices=choices,
        chosen=chosen,
        class_names=names,
        history=_history(now, reality, shown, request),
        toggles=_toggles(now, shown, names, _patch(now, reality)),
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


def _of_race(now: Displayed, reality: Reality, shown: Seen | None, request: Request | None) -> dict[str, Any]:
    """Return the lanes of the race that is displayed, what is trained, and what another race would cost."""
    race, racing = _race(now, reality), reality.racing
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
    race, racing = _race(now, reality), reality.racing
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
    elif _patch(now, reality) is not None:
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
    patch = _patch(now, reality)
    if patch is not None and now.run is not None:
        return now.run, f"{patch.case}, patch of step {patch.step}"
    return None if now.run is None or now.case is None else (now.run, now.case)


def _title(now: Displayed, reality: Reality) -> str:
    run, results = run_of(now, reality), _results(now, reality)
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
    snapshot, patch = shown.snapshot, _patch(now, reality)
    flat = reality.axes is not None
    layers = {o: p for p in shown.pictures if flat and (o := p.key) in now.overlays}
    surfaces = _drawn_surfaces(shown, now)
    drawn = next((m for m in MAPS if m in layers), None)
    class_name = watched_case.class_name(snapshot, now.cls)
    where = "" if reality.mouse is None else watched_case.under_cursor(snapshot, now.cls, reality.mouse)
    labelled = snapshot.truth is not None
    results = now.source == "results"
    return {
        "badge": watched_case.badge(snapshot),
        "caption": Caption(
            case=snapshot.case,
            held=watched_case.held(snapshot),
            class_name=class_name,
            step=_step_words(now, shown) if patch is None else patch.scope,
            convention="" if reality.axes is None else CONVENTIONS[now.convention],
            remark=_remark(now, reality, shown),
        ),
        "message": _OF_PATCH_ALREADY if patch is not None and "patch" in now.overlays else shown.note,
        "layers": layers,
        "surfaces": surfaces,
        "errors": shown.pieces,
        "errors_note": "Errors are listed of whole cases."
        if patch is not None
        else _errors_note(shown, labelled, class_name),
        **_of_errors(now, reality, shown),
        "legend": _legend(shown, layers, {} if flat else surfaces, now.cls),
        "map": None if drawn is None else layers[drawn].colour_scale,
        "outlines": shown.outlines if "errors" in layers else None,
        "absent": _absent(shown, layers, class_name, reality),
        "cursor": None if results else snapshot.step,
        "read_out": where,
        "balance": shown.balance,
        "seen": shown,
    }


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
    return absences(shown.snapshot, layers.values(), class_name, axis, reality.slice_mm)


def _remark(now: Displayed, reality: Reality, shown: Seen) -> str:
    patch = _patch(now, reality)
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
    steps = _steps(now, reality)
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
        snapshot, patch = shown.snapshot, _patch(now, reality)
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
