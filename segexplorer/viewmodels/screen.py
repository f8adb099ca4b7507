"""The screen: everything that is drawn, as one frozen `Screen`, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from segexplorer.core.events import CaseScore
from segexplorer.training.doctor import Diagnosis
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels.absences import Absence
from segexplorer.viewmodels.caption import Caption
from segexplorer.viewmodels.decision import Counts, DecisionCurve
from segexplorer.viewmodels.displayed import Displayed, ScoreSource
from segexplorer.viewmodels.error_navigator import ErrorNavigator, Moment
from segexplorer.viewmodels.error_pieces import ErrorPiece
from segexplorer.viewmodels.errors import LegendEntry
from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.outlines import MarkOutlines, Outlines
from segexplorer.viewmodels.race import RaceOffer, RaceQuestion, RaceShown, Racing
from segexplorer.viewmodels.reality import Request
from segexplorer.viewmodels.regions import BalanceHistogram, Scale
from segexplorer.viewmodels.surfaces import Part, SurfacePicture
from segexplorer.viewmodels.watched_case import Seen, Switch
from segexplorer.viewmodels.why import Answer, PullScale, WhyRequest


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
    slice_notes
        Axis (0 = z, 1 = y, 2 = x) -> what must be known of the map of the loss in the view across it, while the
        map is not there as a whole.
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
    slice_notes: Mapping[int, str] = field(default_factory=dict)
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

    @property
    def rims(self) -> bool:
        """Whether errors are drawn as their rims, since a map of the loss is below or is asked for."""
        errors = self.layers.get("errors")
        return errors is not None and errors.form == "outline"


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
