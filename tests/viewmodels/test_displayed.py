"""The displayed state without a toolkit: after every pair of transitions nothing of the old is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segexplorer.core.events import CaseScore, RegionReport, Role, ValidationDone
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.base import registry as losses
from segexplorer.training.doctor import Diagnosis
from segexplorer.training.doctor.base import Finding
from segexplorer.training.explanation import Explanation, explain_arrays
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.training.verdicts import Verdict
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.commands import COMMANDS
from segexplorer.viewmodels.displayed import Displayed
from segexplorer.viewmodels.error_navigator import Filter, Judged, Listing, Since, life_of, verdict_on
from segexplorer.viewmodels.race import (
    DIFFERENCE,
    RaceCurves,
    RaceFacts,
    RaceOffer,
    RaceSeen,
    Racing,
)
from segexplorer.viewmodels.reality import Painting, PlanFacts, Reality, Request, Results, RunFacts
from segexplorer.viewmodels.resolve import controls, resolve
from segexplorer.viewmodels.screen import Control, Screen, differences
from segexplorer.viewmodels.watched_case import MAPS, SWITCHES, Seen
from segexplorer.viewmodels.why import PULL, Answer, WhyRequest

CASES: dict[str, dict[Role, str]] = {
    "run-A": {"validation": "phantom-7", "train": "phantom-8"},
    "run-B": {"validation": "hippocampus-3", "train": "hippocampus-4"},
    "race-Z": {"validation": "phantom-7", "train": "phantom-8"},
    "results-R": {"test": "foreign-1"},
}
OTHER_RESULTS = ("foreign-1", "foreign-2")
LAYERS = ("scan-1", "scan-2")
CLASSES = {
    "run-A": ("liver", "lesion"),
    "run-B": ("anterior", "posterior", "subiculum"),
    "race-Z": ("liver", "lesion"),
    "results-R": ("tumour", "oedema"),
}
STEPS = {"run-A": (10, 20, 40), "run-B": (7, 13), "race-Z": (20, 40), "results-R": (0,)}
INSIDE = (6.0, 6.0, 6.0)


def snapshot(run: str, role: Role, case: str, step: int) -> WatchedSnapshot:
    """Classes in slabs, each shifted by a voxel in the prediction; 2 mm voxels, 8 regions."""
    names = CLASSES[run]
    truth = np.zeros((12, 8, 8), np.uint8)
    for index in range(1, len(names) + 1):
        truth[3 * index - 2 : 3 * index + 1, 2:6, 2:6] = index
    ones = np.ones((len(names) + 1, 8), np.float32)
    values = {"alpha": 0.6 * ones, "beta": 0.4 * ones, "fp": 3 * ones, "fn": ones}
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return WatchedSnapshot(
        case=case,
        role=role,
        step=step,
        index=step,
        class_names=names,
        affine=affine,
        prediction=np.roll(truth, 1, axis=1),
        truth=truth,
        probabilities=np.where(
            np.roll(truth, 1, axis=1) == np.arange(len(names) + 1).reshape(-1, 1, 1, 1), 200, 20
        ).astype(np.uint8),
        regions=RegionReport(values, ((0, 6, 12), (0, 4, 8), (0, 4, 8)), scope=f"whole case, step {step}"),
        regions_affine=affine,
    )


def explanation(of: WatchedSnapshot, after: WatchedSnapshot | None) -> Explanation:
    """What can be asked about a snapshot; its logits favour what it predicts."""
    assert of.truth is not None
    found = explain_arrays(
        of.truth,
        logits=logits_of(of),
        later=None if after is None else logits_of(after),
        loss="dice_cross_entropy",
        class_names=of.class_names,
        affine=of.affine,
    )
    later = 0 if after is None else after.step
    return replace(found, case=of.case, role=of.role, step=of.step, later_step=later)


def logits_of(of: WatchedSnapshot) -> np.ndarray:
    classes = np.arange(len(of.class_names) + 1).reshape(-1, 1, 1, 1)
    return np.where(of.prediction == classes, 1 + of.step / 50, 0).astype(np.float32)


def patch(run: str, step: int) -> PatchSnapshot:
    whole = snapshot(run, "train", CASES[run]["train"], step)
    assert whole.regions is not None
    return PatchSnapshot(
        case=whole.case,
        step=step,
        origin=(0, 0, 0),
        shape=(12, 8, 8),
        affine=whole.affine,
        case_shape=(12, 8, 8),
        case_affine=whole.affine,
        regions=replace(whole.regions, scope=f"this patch, step {step}"),
        class_names=whole.class_names,
    )


@cache
def trained(run: str) -> TrainedPatch:
    """The training patch of the middle step of a run, one of two in its batch."""
    step = STEPS[run][1]
    whole = snapshot(run, "train", CASES[run]["train"], step)
    assert whole.truth is not None
    return TrainedPatch(
        case=whole.case,
        step=step,
        image=np.zeros((1, *whole.truth.shape), np.float32),
        logits=np.stack([logits_of(whole)] * 2),
        labels=np.stack([whole.truth[np.newaxis]] * 2),
        context=LossContext(spacing=np.full((2, 3), 2.0)),
        loss=losses.parse("region_dice"),
        loss_state={},
        affine=whole.affine,
        moved=run == "run-B",
        class_names=whole.class_names,
    )


@dataclass(frozen=True)
class Recorded:
    """A frame of history."""

    step: int
    snapshot: WatchedSnapshot

    def prediction(self) -> Any:
        return self.snapshot.prediction


def said(step: int, cls: int) -> Verdict:
    """A verdict on an error of the validation case of run B."""
    whole = snapshot("run-B", "validation", CASES["run-B"]["validation"], step)
    pieces = watched_case.see(whole, None, watched_case.Wanted(frozenset(), cls)).pieces
    return verdict_on(pieces[0], whole).model_copy(update={"note": "hippocampus-3 was seen"})


def validated(run: str, step: int) -> ValidationDone:
    scores = tuple(
        CaseScore(
            case=CASES[run]["validation"],
            class_name=name,
            role="validation",
            state="scored",
            metrics={"dice": step / 100},
            false_positive_ml=1.0,
            false_negative_ml=1.0,
            truth_ml=3.0,
        )
        for name in CLASSES[run]
    )
    return ValidationDone(
        step=step,
        epoch=1,
        loss=0.5,
        scores=scores,
        mean_dice=0.5,
        class_dice={},
        n_used=2,
        n_absent=0,
        n_missed=0,
        best=False,
        seconds=0.1,
    )


def facts(run: str, *, live: bool) -> RunFacts:
    """A run as it is known: with a history, and with newer predictions where it goes on."""
    steps = STEPS[run]
    frames: dict[Role, Any] = {
        role: tuple(
            SimpleNamespace(role=role, step=s, facts=SimpleNamespace(case=case, class_names=CLASSES[run]))
            for s in (steps[:-1] if live else steps)
        )
        for role, case in CASES[run].items()
    }
    newest = {role: snapshot(run, role, case, steps[-1]) for role, case in CASES[run].items()}
    return RunFacts(
        run,
        title=run,
        planned=CASES[run],
        newest=newest if live else {},
        frames=frames,
        load=lambda frame: snapshot(run, frame.role, frame.facts.case, frame.step),
        explain=lambda of, after, known: explanation(of, after),
        patch=patch(run, steps[-1]),
        validations={step: validated(run, step) for step in steps},
    )


LANES = {"A": "dice", "B": "tversky", "control": "dice, other batches"}
_MOVED = {"A": 0, "B": 2, "control": 0}


def lane_snapshot(lane: str, role: Role, step: int) -> WatchedSnapshot:
    """Lane B predicts two voxels beside lane A; the control differs from A in one voxel."""
    found = snapshot("race-Z", role, CASES["race-Z"][role], step)
    prediction = np.roll(found.prediction, _MOVED[lane], axis=1)
    if lane == "control":
        prediction[1, 2, 2] = 0
    return replace(found, prediction=prediction)


def race_facts() -> RaceFacts:
    """A race from step 20 of run A, with frames of all lanes at steps 20 and 40."""
    frames: dict[Role, Any] = {
        role: {
            step: {
                lane: SimpleNamespace(
                    role=role,
                    step=step,
                    lane=lane,
                    facts=SimpleNamespace(case=case, class_names=CLASSES["race-Z"]),
                )
                for lane in LANES
            }
            for step in STEPS["race-Z"]
        }
        for role, case in CASES["race-Z"].items()
    }
    curves = {
        name: RaceCurves(name or "all classes", {lane: ([20, 40], [0.5, 0.6]) for lane in LANES})
        for name in ("", *CLASSES["race-Z"])
    }
    return RaceFacts(
        "race-Z",
        "run-A",
        20,
        20,
        LANES,
        CLASSES["race-Z"],
        frames,
        dict.fromkeys(frames, curves),
        load=lambda frame: lane_snapshot(frame.lane, frame.role, frame.step),
        explain=lambda of, after, known: explanation(of, after),
    )


RESULTS = Results(
    "results-R",
    OTHER_RESULTS,
    CLASSES["results-R"],
    lambda case: snapshot("results-R", "test", case, 0),
    lambda _: None,
    title="results-R",
)
_ANSWERS: dict[Any, Seen] = {}
_DIAGNOSIS = Diagnosis((Finding("collapsed", "problem", "A class was lost."),))
_WHY: dict[Any, Answer] = {}
_RACING = Racing("race-Z", "run-A", "Lane B of the race of run-A is at step 20.", begun=True)


@dataclass
class World:
    """A window without a window: what its `Display` does with commands and facts."""

    displayed: Displayed = field(default_factory=Displayed)
    reality: Reality = field(default_factory=lambda: Reality(cases=LAYERS, axes=(1, 2)))
    _last: tuple[Any, Any, Any] = (None, None, None)

    @property
    def screen(self) -> Screen:
        if self._last[0] is not self.displayed or self._last[1] is not self.reality:
            self._last = (self.displayed, self.reality, resolve(self.displayed, self.reality))
        found: Screen = self._last[2]
        return found

    def issue(self, command: str, *arguments: Any) -> None:
        self._next(COMMANDS[command](self.displayed, self.reality, *arguments))

    def learn(self, **found: Any) -> None:
        self.reality = replace(self.reality, **found)
        self._next(self.displayed)

    def _next(self, displayed: Displayed) -> None:
        before = self.screen.scene
        self.displayed = displayed
        screen = self.screen
        self.displayed = screen.displayed
        if screen.scene != before:
            self.reality = replace(self.reality, image_of=None)

    def open(self, run: str, *, live: bool = False) -> None:
        known = facts(run, live=live)
        self.reality = replace(
            self.reality,
            run=known,
            seen=None,
            refusal=None,
            answer=None,
            image_of=None,
            results=None,
            race=None,
            busy=live,
            accepts=frozenset({"show_patch"}) if live else frozenset(),
        )
        self.issue("close")
        self.issue("start_run" if live else "open_run", run)

    def open_race(self, *, trains: bool) -> None:
        """A race is opened from its folder, or brings its first frames."""
        self.learn(race=race_facts(), **({"racing": _RACING} if trains else {}))
        self.issue("open_race", "race-Z")

    def open_results(self) -> None:
        self.reality = replace(
            self.reality, results=RESULTS, run=None, busy=False, seen=None, refusal=None, image_of=None
        )
        self.issue("open_results", RESULTS.key)

    def brings(self) -> None:
        """The run brings a newer prediction of both cases."""
        run = self.reality.run
        if run is not None:
            step = STEPS[run.key][-1]
            new = {role: snapshot(run.key, role, case, step) for role, case in CASES[run.key].items()}
            self.learn(run=replace(run, newest=new))

    def keeps_patch(self) -> None:
        """The run that is open has kept the patch of a step, where it was asked for."""
        run = self.reality.run
        if run is not None and self.screen.patch_request is not None:
            self.learn(run=replace(run, trained=trained(run.key)))

    def looks_at_patch(self, run: str) -> None:
        self.open(run, live=True)
        self.issue("choose_extent", "patch")
        self.keeps_patch()

    def refuses_patch(self) -> None:
        """The batch is too large to be kept."""
        run = self.reality.run
        if run is not None and self.screen.patch_request is not None:
            self.learn(run=replace(run, trained="The last patch is not kept: it is too large."))

    def old_answer(self) -> None:
        """A worker comes back with what was asked for run B long ago."""
        known = facts("run-B", live=False)
        other = World(Displayed("recorded", "run-B"), Reality(run=known, axes=(1, 2)))
        request = other.screen.request
        assert request is not None
        self.learn(seen=(request, answer(request)))

    def deletes(self, *keys: str) -> None:
        """The user deletes layers, where they are there."""
        for key in keys:
            if key in self.screen.layers:
                self.issue("delete_layer", key)

    def follow(self) -> None:
        """Workers have followed the errors, and the chosen one, through the history."""
        seen, now = self.screen.seen, self.screen.displayed
        if seen is None:
            return
        step = seen.snapshot.step
        self.learn(since=Since(seen.pieces, (step,) * len(seen.pieces)))
        if now.error is not None:
            self.learn(life=life_of(now.error.piece, seen.snapshot, [Recorded(step, seen.snapshot)]))

    def reopen(self) -> None:
        """The dock is closed and another one opened."""
        new = World()
        self.displayed, self.reality = new.displayed, new.reality

    def settle(self) -> None:
        """The image comes, and the worker is through."""
        screen = self.screen
        if screen.scene is not None:
            self.learn(image_of=screen.scene)
        request = self.screen.request
        if request is not None:
            self.learn(seen=(request, answer(request)))
        asked = self.screen.why_request
        if asked is not None:
            self.learn(answer=(asked, why_answer(asked)))
        question = self.screen.race_request
        if question is not None:
            self.learn(
                offer=(question, RaceOffer(sentences=(f"From step {question.step} of {question.run}.",)))
            )


def why_answer(request: WhyRequest) -> Answer:
    """Answer a question about the loss; equal ones are computed once."""
    if request not in _WHY:
        _WHY[request] = request.answer()
    return _WHY[request]


def answer(request: Request) -> Seen:
    """Answer a request; equal ones are computed once."""
    if request not in _ANSWERS:
        _ANSWERS[request] = request.answer()
    return _ANSWERS[request]


Transition = Callable[[World], None]


def _commands() -> Iterator[tuple[str, Transition]]:
    """Every registered command with arguments that matter."""
    arguments: dict[str, list[tuple[Any, ...]]] = {
        "choose_extent": [("case",), ("patch",)],
        "choose_case": [("validation",), ("train",), ("foreign-2",), ("scan-2",)],
        "next_case": [(), (-1,)],
        "remove_case": [("scan-1",)],
        "scrub": [(0.0,), (19.0,), (1e9,)],
        "move_in_history": [(-1,), (1,)],
        "follow_newest": [()],
        "choose_class": [(None,), (1,), (3,)],
        "toggle": [(overlay, on) for overlay in SWITCHES for on in (True, False)],
        "set_threshold": [(0.0,), (1e6,)],
        "choose_convention": [("neurological",)],
        "choose_scores": [("validation",), ("watched",), ("test",)],
        "arrange_errors": [(Listing("depth", Filter(text="no such word")),)],
        "choose_error": [(1,)],
        "next_error": [(-1,)],
        "look_at": [(None,), ("asked",), ("both",), ("paid",), ("penalties",)],
        "ask_at": [(INSIDE,)],
        "ask_since": [(None,), (10,)],
        "ask_loss": [(losses.parse("tversky"),)],
        "ask_term": [("dice",)],
        "ask_space": [("probabilities",)],
        "ask_against": [(losses.parse("dice"),)],
        "look_at_decision": [(True,)],
        "move_bias": [(1.5,), (-1.5, True)],
        "look_at_race": [(50,), (None,)],
        "leave_race": [()],
        "close": [()],
        # these come with facts: a run or results that are open, a layer that is gone
        "open_run": [],
        "start_run": [],
        "open_results": [],
        "open_race": [],
        "delete_layer": [],
    }
    assert arguments.keys() == COMMANDS.keys(), "a new command needs a transition here"
    for command, several in arguments.items():
        for given in several:
            name = f"{command}{given}"
            yield name, lambda w, c=command, g=given: w.issue(c, *g)  # type: ignore[misc]


TRANSITIONS: dict[str, Transition] = dict(_commands()) | {
    "open run A": lambda w: w.open("run-A"),
    "open run B": lambda w: w.open("run-B"),
    "start run A": lambda w: w.open("run-A", live=True),
    "start run B": lambda w: w.open("run-B", live=True),
    "open results": lambda w: w.open_results(),
    "open a race": lambda w: w.open_race(trains=False),
    "begin a race": lambda w: w.open_race(trains=True),
    "a race of run A trains": lambda w: w.learn(racing=_RACING),
    "the race is over": lambda w: w.learn(racing=replace(_RACING, running=False, words="It is over.")),
    "delete the lane's layers": lambda w: w.deletes("errors", "prediction"),
    "the run brings a prediction": lambda w: w.brings(),
    "run A trains and its last patch is looked at": lambda w: w.looks_at_patch("run-A"),
    "run B trains and its last patch is looked at": lambda w: w.looks_at_patch("run-B"),
    "the patch that was asked for comes": lambda w: w.keeps_patch(),
    "patches are not kept": lambda w: w.refuses_patch(),
    "an old answer comes": lambda w: w.old_answer(),
    "the doctor comes": lambda w: w.learn(diagnosis=(w.displayed.run or "", _DIAGNOSIS), examined=None),
    "the run ends": lambda w: w.learn(busy=False, accepts=frozenset({"start", "extend"})),
    "delete the errors": lambda w: w.deletes("errors"),
    "delete the map": lambda w: w.deletes(*MAPS, PULL),
    "close and reopen the dock": lambda w: w.reopen(),
    "the mouse leaves": lambda w: w.learn(mouse=None),
    "the mouse comes": lambda w: w.learn(mouse=INSIDE),
    "look at the coronal plane": lambda w: w.learn(axes=(0, 2)),
    "look in 3D": lambda w: w.learn(axes=None),
    "a label of run A is open": lambda w: w.learn(
        painting=Painting(("run-A", "phantom-7"), "phantom-7 is open")
    ),
    "verdicts of run B come": lambda w: w.learn(judged=Judged("run-B", (said(7, 2),))),
    "what became of the chosen error is known": lambda w: w.follow(),
    "a layer is no case any more": lambda w: w.learn(cases=LAYERS[1:]),
    "the image cannot be read": lambda w: w.learn(image_of=w.screen.scene, image_problem="The file is gone."),
    "the plan fits": lambda w: w.learn(plan=PlanFacts("fits")),
    "the plan is refused": lambda w: w.learn(plan=PlanFacts("refused", "Too few cases.", "split")),
}


# ---- the invariant


def texts(part: Any) -> Iterator[str]:
    """Return every piece of text in a part of a screen."""
    if isinstance(part, str):
        yield part
    elif part is None or isinstance(part, (int, float, np.ndarray)):
        return
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(part, (tuple, list, frozenset)):
        for member in part:
            yield from texts(member)
    elif is_dataclass(part) and not isinstance(part, type):
        for declared in fields(part):
            yield from texts(getattr(part, declared.name))


def names_of(key: str | None, source: str) -> set[str]:
    """Return the words that may be read while a run, or results, or nothing but layers are displayed."""
    if source == "results":
        return {"results-R", *OTHER_RESULTS, *CLASSES["results-R"]}
    if key is None:
        return set(LAYERS)
    origin = {"run-A"} if key == "race-Z" else set()
    return {key, *CASES[key].values(), *CLASSES[key], *origin}


ALL_NAMES = set[str]().union(*(names_of(key, "live") for key in CASES), OTHER_RESULTS, LAYERS)


def check(world: World) -> None:
    """Everything that the screen says agrees with what is displayed."""
    screen = world.screen
    now, seen = screen.displayed, screen.seen
    own = names_of(now.run, now.source)
    # the list holds the errors too
    parts = [f.name for f in fields(Screen) if f.name not in ("request", "seen", "errors", "race_request")]
    if now.run == "run-A" and screen.racing is not None:
        own |= {"race-Z"}  # its own lanes are being trained
    everything = list(texts([getattr(screen, name) for name in parts]))
    said = "\n".join(everything)
    for foreign in ALL_NAMES - own:
        assert foreign not in said, f"{foreign} is left of something else"
    steps = {int(s) for s in re.findall(r"\bstep (\d+)", said)}
    assert steps <= set(STEPS.get(now.run or "", ())), "a step of another run"
    assert resolve(now, world.reality).displayed == now, "what exists is displayed as it is"
    assert len(now.overlays & set(MAPS)) <= 1
    assert {o for o, t in screen.toggles.items() if t.on} == now.overlays, "a switch without its overlay"
    assert (screen.class_names == CLASSES[now.run]) if now.run and now.case else not screen.class_names
    plan = world.reality.plan.state
    start = screen.controls["start"]
    racing = world.reality.racing is not None and world.reality.racing.running
    going_on = world.reality.busy or racing
    assert start.enabled == (plan == "fits" and not going_on and not world.reality.making)
    assert screen.controls["stop_race"].enabled == racing
    assert not screen.controls["race"].enabled or not going_on
    if plan == "refused" or going_on:
        assert start.enabled or start.why
    check_race(world)
    if now.cls is not None:
        assert 1 <= now.cls <= len(screen.class_names)
    if screen.diagnosis is not None:
        assert world.reality.diagnosis is not None and world.reality.diagnosis[0] == now.run
    if seen is None:
        blank = [screen.badge, screen.caption, screen.cursor, screen.read_out, screen.balance, screen.map]
        blank += [screen.answer, screen.answer_note, screen.decision]
        assert not any(blank) and not screen.layers and not screen.errors and not screen.legend
        assert not screen.navigator.entries and not screen.error_text and screen.mark is None
        return
    shown, patch = seen.snapshot, screen.patch
    case = now.case if patch is None else patch.case
    scene = case if patch is None else f"{patch.case}, patch of step {patch.step}"
    assert screen.scene == (now.run, scene) == world.reality.image_of, "a picture over another image"
    assert shown.case == case and shown.class_names == screen.class_names
    if patch is not None:
        assert now.extent == "patch" and seen.snapshot.index == -1 and not screen.errors
        assert "training mode" in screen.caption.text and "one of 2 in its batch" in screen.caption.text
        assert patch.moved == ("on its own grid" in screen.caption.text)
    others = {c for c in own & ALL_NAMES if c in (*CASES.get(now.run or "", {}).values(), *OTHER_RESULTS)}
    for other in others - {case}:  # the last patch names the training case that it is of
        of_case = [screen.badge, screen.caption.text, screen.read_out, *texts(screen.errors)]
        of_case += [p.name for key, p in screen.layers.items() if key != "patch"]
        assert not any(other in text for text in of_case), f"{other} is left of the other case"
    assert screen.badge.startswith(f"{case}:") and screen.caption.text.startswith(f"{case},")
    class_name = "all classes" if now.cls is None else screen.class_names[now.cls - 1]
    assert class_name in screen.caption.text
    if now.source != "results":
        assert shown.role == (now.role if patch is None else "train") and screen.cursor == shown.step
        assert screen.caption.step == (f"step {shown.step}" if patch is None else patch.scope)
        bias = seen.wanted.bias
        assert (f"bias {bias:+.2g}" in screen.caption.remark) if bias else "bias" not in screen.caption.remark
        assert now.step in (None, shown.step) or screen.request is not None or patch is not None
        assert (screen.history is None) == (patch is not None)
        if screen.history is not None and "(newest)" in screen.history.text:
            assert shown.step == screen.history.steps[-1] and now.step is None
    drawn_of_loss = {PULL} if now.question.look is not None else set()
    assert set(screen.layers) <= now.overlays | drawn_of_loss
    assert not (now.question.look and now.overlays & set(MAPS)), "one map at a time"
    if screen.answer is not None and screen.answer.explanation is not None:
        assert now.question.asks and screen.answer.explanation.case == case
        assert screen.answer.explanation.patch is patch
        assert now.cls in (None, screen.answer.class_index)
        assert not screen.answer.sentence or now.question.place is not None
    if screen.decision is not None and screen.decision.now is not None:
        assert now.bias is not None and screen.decision.class_name in screen.class_names
    for key, picture in screen.layers.items():
        assert shown.case in picture.name or key == "patch"
        if key in ("prediction", "errors"):
            stepless = now.source == "results"  # what other programs predicted has no step here
            assert "step" not in picture.name if stepless else f"step {shown.step}" in picture.name
        assert key == "prediction" or class_name in picture.name or (key == PULL and now.cls is None)
    assert all(now.cls in (None, piece.class_index) for piece in screen.errors)
    assert tuple(entry.piece for entry in screen.navigator.entries) == screen.errors
    assert (screen.navigator.order, screen.navigator.filter) == (now.listing.order, now.listing.filter)
    assert bool(screen.error_text) == (now.error is not None)
    if now.error is None:
        assert screen.navigator.chosen is None and screen.mark is None and not screen.error_life
    else:
        assert now.error.piece.shape == shown.prediction.shape
        assert screen.navigator.entry is not None or "not there at step" in screen.error_text
    assert screen.mark is None or now.error is not None
    drawn = [m for m in (*MAPS, PULL) if m in screen.layers]
    assert (screen.map is None) == (not drawn)
    assert screen.map is None or screen.map.quantity == (drawn[0] if drawn[0] != "patch" else "balance")
    drawn = [m for m in drawn if m != PULL]
    # one overlay at most is filled, and the legend says how each is drawn
    filled = [key for key, picture in screen.layers.items() if picture.form == "fill"]
    awaited = screen.request is not None or (now.question.look is not None and PULL not in screen.layers)
    assert len(filled) == bool(screen.layers) or awaited
    flat = world.reality.axes is not None
    assert not screen.layers or flat, "slices are not drawn in 3D"
    needed = {"truth": "errors"}
    assert {needed.get(part, part) for part in screen.surfaces} <= now.overlays
    for surface in screen.surfaces.values():
        assert class_name in surface.name and shown.case in surface.name
    said_of = {entry.name: entry for entry in screen.legend}
    assert ("extra (false positive)" in said_of) == ("errors" in (screen.layers if flat else screen.surfaces))
    if "errors" in screen.layers:
        assert said_of["extra (false positive)"].form == screen.layers["errors"].form
        assert ("wrong organ" in said_of) == (now.cls is None)
        assert screen.outlines is not None and screen.outlines.class_index == now.cls
    if "prediction" in screen.layers:
        assert said_of[shown.class_names[0]].form == screen.layers["prediction"].form
    assert {one.overlay for one in screen.absent} <= (set(screen.layers) if flat else set(MAPS))
    assert (screen.outlines is not None) == ("errors" in screen.layers)
    if now.cls is None and len(shown.class_names) > 1:
        assert not drawn and screen.balance is None, "all classes have no one balance"
        told = screen.message or screen.request or not screen.toggles["balance"].enabled
        assert not now.overlays & set(MAPS) or told, "a map is missing in silence"
    assert screen.balance is None or screen.balance.class_name == class_name
    assert bool(screen.read_out) <= (world.reality.mouse is not None)
    if screen.scores and now.scored_on == "watched":
        assert {score.case for score in screen.scores} == {case} and case in screen.scores_of


def check_race(world: World) -> None:
    """Lanes are drawn while a race is displayed, of the case, class and step that lane A is drawn of."""
    screen, now = world.screen, world.displayed
    race, seen = screen.race, screen.seen
    assert (race is not None) == (now.source == "race")
    assert screen.racing is None or now.run in ("race-Z", "run-A")
    assert screen.offer is None or (now.run == screen.displayed.run and now.source in ("live", "recorded"))
    if race is None:
        return
    assert [lane.name for lane in race.lanes] == [*LANES, DIFFERENCE]
    class_name = "all classes" if now.cls is None else screen.class_names[now.cls - 1]
    assert race.curves is None or race.curves.class_name == class_name
    if seen is None:
        assert race.step is None and not race.sentences
        assert not any(lane.layers or lane.outlines or lane.note for lane in race.lanes)
        return
    assert isinstance(seen, RaceSeen) and race.step == seen.snapshot.step and race.sentences
    for lane in race.lanes:
        assert set(lane.layers) <= now.overlays | {DIFFERENCE}
        assert (DIFFERENCE in lane.layers) == (lane.name == DIFFERENCE)
        for picture in lane.layers.values():
            assert f"{now.case}," in picture.name and f"step {race.step}" in picture.name
            assert picture.key == "prediction" or class_name in picture.name
    for lane in race.lanes[1:-1]:
        of = seen.others[lane.name].snapshot
        assert (of.case, of.step, of.role) == (seen.snapshot.case, seen.snapshot.step, now.role)
        assert (lane.outlines is not None) == ("errors" in lane.layers)
        drawn = {picture.key for picture in seen.others[lane.name].pictures}
        assert set(lane.layers) == now.overlays & drawn


@cache
def _beginning() -> tuple[Displayed, Reality]:
    world = World()
    world.learn(mouse=INSIDE)
    world.open("run-A")
    world.settle()
    world.settle()
    return world.displayed, world.reality


def begin() -> World:
    """Run A is shown with the mouse over it."""
    return World(*_beginning())


@pytest.fixture
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence under the mouse is computed once for each picture, class and point."""
    known: dict[Any, str] = {}
    read = watched_case.under_cursor

    def remembered(shown: WatchedSnapshot, cls: int | None, world: Any) -> str:
        key = id(shown), cls, world
        if key not in known:
            known[key] = read(shown, cls, world)
        return known[key]

    monkeypatch.setattr(watched_case, "under_cursor", remembered)


@pytest.mark.usefixtures("_read_once")
@pytest.mark.parametrize("settled", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_after_every_pair_of_transitions_nothing_of_the_old_is_left(settled: bool) -> None:
    """Before the worker is through and after it; with and without waiting for it in between.

    `pytest -rP -k every_pair tests/viewmodels/test_displayed.py` prints how many pairs were tried and failed.
    """
    tried, failed = 0, []
    for first in TRANSITIONS:
        world = begin()
        try:
            TRANSITIONS[first](world)
            check(world)
            if settled:
                settle(world)
        except AssertionError as error:
            raise AssertionError(f"{first}: {error}") from error
        for second in TRANSITIONS:
            after = World(world.displayed, world.reality)
            tried += 1
            try:
                TRANSITIONS[second](after)
                check(after)
                settle(after)
            except AssertionError as error:
                failed.append(f"{first}, then {second}: {error}")
    between = "settled" if settled else "not settled"
    print(f"{len(TRANSITIONS)} transitions, {between} in between: {tried} pairs tried, {len(failed)} failed")
    assert not failed, "\n".join(failed)
    assert tried >= 50 * 50


def settle(world: World) -> None:
    world.settle()
    world.settle()
    check(world)
    assert world.screen.request is None, "what was asked for was answered"
    assert world.screen.why_request is None, "what was asked about the loss was answered"
    assert world.screen.race_request is None, "what a race costs was answered"


def test_the_screen_after_settling_does_not_depend_on_the_way_there() -> None:
    """The same displayed state gives the same screen, whatever was displayed before."""
    target = Displayed("recorded", "run-B", "hippocampus-4", "train", 7, 2, frozenset({"errors", "alpha"}))
    screens = []
    for way in TRANSITIONS:
        world = begin()
        TRANSITIONS[way](world)
        world.settle()
        world.learn(mouse=INSIDE, axes=(1, 2), plan=PlanFacts(), cases=LAYERS, judged=None, painting=None)
        world.learn(image_problem="", racing=None, race=None, offer=None)
        world.issue("look_at_race", None)
        world.open("run-B")
        world.displayed = target
        world.learn(accepts=frozenset())
        world.settle()
        world.settle()
        assert world.displayed == target
        screens.append(world.screen)
    assert not frozenset().union(*(differences(screen, screens[0]) for screen in screens))


def test_case_and_class_stay_when_a_race_begins_and_when_it_is_left() -> None:
    world = begin()
    world.issue("choose_case", "train")
    world.issue("choose_class", 2)
    world.settle()
    world.open_race(trains=True)
    settle(world)
    assert (world.displayed.case, world.displayed.role, world.displayed.cls) == ("phantom-8", "train", 2)
    race = world.screen.race
    assert race is not None and race.step == 40
    drawn = {"errors", "balance"}
    assert [set(lane.layers) for lane in race.lanes] == [set(), drawn, drawn, {DIFFERENCE}]
    world.issue("scrub", 20.0)
    settle(world)
    race = world.screen.race
    assert race is not None and race.step == 20 and world.screen.caption.step == "step 20"
    world.issue("leave_race")
    settle(world)
    assert (world.displayed.source, world.displayed.run) == ("recorded", "run-A")
    assert (world.displayed.case, world.displayed.cls) == ("phantom-8", 2)


def test_a_race_of_other_classes_keeps_none_by_its_number() -> None:
    world = World()
    world.open("run-B")
    world.issue("choose_class", 2)
    world.settle()
    world.open_race(trains=False)
    assert world.displayed.cls is None and world.displayed.case == "phantom-7"


def test_a_race_is_offered_for_another_loss_and_says_why_not() -> None:
    world = begin()
    assert not world.screen.controls["race"].enabled and "loss of lane B" in world.screen.controls["race"].why
    world.issue("look_at_race", 50)
    assert world.screen.race_request is None, "nothing is changed yet"
    world.issue("ask_loss", losses.parse("tversky"))
    question = world.screen.race_request
    assert question is not None and (question.run, question.step, question.steps) == ("run-A", 40, 50)
    assert "what it costs" in world.screen.controls["race"].why
    plan: Any = SimpleNamespace()
    world.learn(offer=(question, RaceOffer(plan, ("It takes a minute.",))))
    assert world.screen.controls["race"].enabled and world.screen.offer is not None
    world.issue("scrub", 10.0)
    assert world.screen.offer is None and world.screen.race_request is not None, "from another step"
    world.learn(offer=(world.screen.race_request, RaceOffer(problem="The data is gone.")))
    assert world.screen.controls["race"].why == "The data is gone."
    world.learn(racing=_RACING)
    control = world.screen.controls["race"]
    assert not control.enabled and "stop it first" in control.why
    world.open("run-B")
    assert world.screen.racing is None and "in the background" in world.screen.racing_words


def test_a_run_that_is_not_there_any_more_leaves_an_empty_screen() -> None:
    world = begin()
    world.learn(run=None)
    check(world)
    assert world.screen.seen is None and not world.screen.caption


def test_the_caption_claims_no_case_of_which_nothing_can_be_seen() -> None:
    world = begin()
    case = world.screen.caption.case
    world.learn(others=("another scan",))
    assert world.screen.caption.case == case and "another scan" in world.screen.caption.remark
    world.learn(gone=True)
    assert world.screen.caption.text == f"Not {case}, radiological (R on the left); shown: another scan"
    world.learn(others=())
    assert world.screen.caption.case == case, "an empty canvas shows nothing else"


def test_scrubbing_says_what_is_still_shown_and_what_comes() -> None:
    world = begin()
    assert world.screen.history is not None and world.screen.history.text.endswith("step 40 (newest)")
    world.issue("scrub", 12.0)
    screen = world.screen
    assert screen.history is not None
    assert screen.history.text == "Preparing step 10; step 40 is still shown"
    assert screen.caption.step == "step 40" and screen.cursor == 40
    world.settle()
    assert world.screen.caption.step == "step 10" and world.screen.cursor == 10
    world.brings()
    world.settle()
    assert world.screen.cursor == 10, "a newer prediction does not take an earlier one away"
    world.issue("scrub", 39.0)
    world.settle()
    assert world.screen.displayed.step is None, "at its right end the slider follows the run"


def test_a_class_of_one_run_is_no_class_of_another() -> None:
    world = begin()
    world.issue("choose_class", 2)
    world.open("run-B")
    world.settle()
    assert world.screen.displayed.cls is None and world.screen.class_names == CLASSES["run-B"]


def test_all_classes_have_no_one_balance_and_the_reader_is_told_what_to_do() -> None:
    world = begin()
    assert "balance" not in world.screen.layers
    assert "are drawn for one class. Choose a class above; liver has the most error" in world.screen.message
    assert "choose" in world.screen.toggles["balance"].why.lower()
    world.issue("choose_class", 1)
    world.settle()
    assert "balance" in world.screen.layers and world.screen.message == ""


def test_start_says_why_not_and_is_silent_when_it_can() -> None:
    refused = resolve(Displayed(), Reality(plan=PlanFacts("refused", "Too few cases.", "split"))).controls
    assert refused["start"] == Control(False, "Too few cases.", "split")
    assert resolve(Displayed(), Reality(plan=PlanFacts("fits"))).controls["start"].enabled
    busy = resolve(Displayed(), Reality(plan=PlanFacts("fits"), busy=True)).controls["start"]
    assert not busy.enabled and "stop it first" in busy.why
    making = resolve(Displayed(), Reality(plan=PlanFacts("fits"), making="Making the run folder…")).controls
    assert not making["start"].enabled and not making["open"].enabled


@pytest.mark.parametrize(
    ("accepts", "busy", "enabled"),
    [
        ({"start"}, False, {"start", "open", "go_on"}),
        ({"pause", "step", "stop", "extend"}, True, {"pause", "step", "stop", "extend"}),
        ({"unpause", "step", "stop", "extend"}, True, {"unpause", "step", "stop", "extend"}),
        (set(), True, set()),  # stopping
        ({"extend"}, False, {"start", "open", "extend"}),  # finished: a new run may start
    ],
)
def test_buttons_follow_what_the_run_accepts(accepts: set[str], busy: bool, enabled: set[str]) -> None:
    reality = Reality(run=RunFacts("run-A"), accepts=frozenset(accepts), busy=busy, plan=PlanFacts("fits"))
    found = controls(reality)
    assert {command for command, control in found.items() if control.enabled} == enabled
    assert all(control.why for control in found.values() if not control.enabled), "a disabled button says why"


def test_without_a_run_only_start_and_open_can_be_pressed() -> None:
    found = controls(Reality(plan=PlanFacts("fits")))
    assert {command for command, control in found.items() if control.enabled} == {"start", "open"}
    owned = controls(Reality(run=RunFacts("run-A", owner="process 7"), accepts=frozenset()))
    assert "in use by process 7" in owned["go_on"].why
