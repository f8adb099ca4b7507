"""Lectures: what to predict, what to click, what is seen, step by step, over a recorded run.

The window shows these steps beside the run, `scripts/write_pages.py` prints them into the pages of the tutorial,
and a test carries them out. Each step knows from the screen whether it has been followed, so that its words cannot
part from the window unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segexplorer.core.errors import SpecError
from segexplorer.losses.base import LossSpec
from segexplorer.training.lecture_runs import REWARDED, SAME_MISTAKE, THRESHOLD, Recording
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.why import voxel_at


@dataclass(frozen=True)
class Step:
    """One step of a lecture; texts may have **bold** parts.

    Attributes
    ----------
    predict
        The question, asked before anything is clicked.
    do
        What to click.
    answer
        What is seen then, and why.
    reached
        Whether a screen shows what the step leads to.
    """

    predict: str
    do: str
    answer: str
    reached: Callable[[Screen], bool] = field(repr=False)


@dataclass(frozen=True)
class Lecture:
    """A sequence of steps over one recorded run.

    Attributes
    ----------
    name, title
        How it is called, by commands and on the screen.
    about
        One sentence.
    recording
        The run that it shows.
    steps
        In order.
    """

    name: str
    title: str
    about: str
    recording: Recording
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Place:
    """How far a reader is in a lecture.

    Attributes
    ----------
    lecture, number
        Which, and the index of its step.
    answered
        Whether the answer of the step has been asked for.
    """

    lecture: Lecture
    number: int = 0
    answered: bool = False

    @property
    def step(self) -> Step:
        """The step."""
        return self.lecture.steps[self.number]

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        return self.number == len(self.lecture.steps) - 1

    @property
    def heading(self) -> str:
        """Return "Step 2 of 6"."""
        return f"Step {self.number + 1} of {len(self.lecture.steps)}"

    def moved(self, way: int) -> Place:
        """Return the next (1) or previous (-1) step, its answer hidden; the same at either end."""
        number = min(max(self.number + way, 0), len(self.lecture.steps) - 1)
        return self if number == self.number else Place(self.lecture, number)

    def revealed(self) -> Place:
        """Return the same with its answer."""
        return Place(self.lecture, self.number, answered=True)


# ---- what a screen shows


def _asks(screen: Screen, *, term: str = "", space: str = "logits") -> bool:
    """Whether the map shows what a loss asks for, and is there."""
    question = screen.displayed.question
    here = question.look == "asked" and question.term == term and question.space == space
    return here and _is_answered(screen)


def _is_answered(screen: Screen) -> bool:
    """Whether the map that was asked for is there."""
    return screen.why_request is None and screen.answer is not None and screen.answer.picture is not None


def _loss(screen: Screen) -> LossSpec | None:
    return None if screen.answer is None else screen.answer.loss


def _step(screen: Screen) -> int | None:
    return None if screen.seen is None else screen.seen.snapshot.step


def _asked_truth(screen: Screen) -> int | None:
    """Return the true class at the voxel that was clicked; None where none was, or it was not answered."""
    found, place = screen.answer, screen.displayed.question.place
    if found is None or place is None or found.explanation is None or not found.sentence:
        return None
    explanation = found.explanation
    return int(explanation.labels[voxel_at(explanation.affine, place, explanation.labels.shape)])


# ---- same mistake, other orders

MISSED_AT = 100
"""Step of the recorded run at which the lesion is missed as a whole."""


def _is_missed(screen: Screen) -> bool:
    seen = screen.seen
    if seen is None or screen.displayed.cls != 1 or _step(screen) != MISSED_AT:
        return False
    return not (seen.recorded.prediction == 1).any()


def _at_end(screen: Screen) -> bool:
    history = screen.history
    return (
        history is not None and history.place == len(history.steps) - 1 and _step(screen) == history.steps[-1]
    )


ORDERS = Lecture(
    "same-mistake",
    "Same mistake, other orders",
    "A lesion is missed as a whole: what do cross entropy and Dice ask the network to do about it?",
    SAME_MISTAKE,
    (
        Step(
            "A small network trains on one CT phantom, to find the lesion in its liver, which has about 25 of "
            "262,144 voxels. It has done 100 of its 300 steps. How much of the lesion will it find?",
            f"In the tab **Inspect**, choose **lesion** instead of *All classes*, and drag **Prediction** to step "
            f"**{MISSED_AT}**.",
            "None of it: every voxel of the lesion is blue, and its Dice is 0. The loss of this run is Dice + "
            "cross entropy. Both of its terms call this a mistake. Do they ask for the same correction?",
            _is_missed,
        ),
        Step(
            "The *pull* of a loss is minus its gradient: teal asks for more lesion, brown for less. Where will "
            "most of the pull of cross entropy be: in the lesion, or outside of it?",
            "In the tab **Why**, choose **Asked**. In the list **All terms** below it choose **Cross entropy**. "
            "Turn the mouse wheel over the lesion to enlarge it.",
            "Outside, although nothing is wrong there: brown nearly everywhere, and over 99 % *elsewhere* in the "
            "table. The lesion has a per mille or two. The pull of cross entropy is truth less probability. Each "
            "voxel outside has some probability left and asks for a little less lesion, and there are ten thousand "
            "times as many of them.",
            lambda screen: _step(screen) == MISSED_AT and _asks(screen, term="cross_entropy"),
        ),
        Step(
            "Dice divides what is right by the volume of truth and prediction. Will the lesion get a larger share "
            "of its pull, or a smaller one?",
            "In the same list choose **Dice**.",
            "A larger one: the lesion brightens, and the rest stays as it was. Both maps have the same colours for "
            "the same pull, in means of the whole field. The two rows of the table say how much it is: *inside* "
            "and *boundary* are several times as large. Dice measures the lesion's voxels against the lesion's "
            "own volume, not against that of the body.",
            lambda screen: _step(screen) == MISSED_AT and _asks(screen, term="dice"),
        ),
        Step(
            "The formula of Dice knows of a voxel only whether it is lesion or not. How many different values "
            "will the map have before the softmax?",
            "Tick **Before softmax**.",
            "Exactly two: one for all voxels of the lesion (teal), one for all others (brown). Here every missed "
            "voxel counts the same, whatever the network thinks of it.",
            lambda screen: _step(screen) == MISSED_AT and _asks(screen, term="dice", space="probabilities"),
        ),
        Step(
            "The network sees the logits, after the softmax. Which voxels of the lesion will get the least pull "
            "there: those of which it is surest that they are none, or those of which it doubts?",
            "Untick **Before softmax**: the voxels of the lesion are no longer alike. Click its **darkest** voxel, "
            "then its brightest one, and compare p in the sentence below *Why this voxel*.",
            "The surest: confident mistakes go dark. The darkest voxels of the lesion are those to which the "
            "network gives the smallest p; their pull is about a third of that of the brightest one, of which it "
            "doubts most. The softmax multiplies the pull of Dice by p (1 − p), which is almost 0 where p is. The "
            "pull of cross entropy does not fade there: choose **Cross entropy** in the list to see it.",
            lambda screen: (
                _step(screen) == MISSED_AT and _asks(screen, term="dice") and _asked_truth(screen) == 1
            ),
        ),
        Step(
            "So one term hardly looks at the lesion, and the other one fades where it is sure to be wrong. Will "
            "this run find the lesion in the steps that are left?",
            "Choose **Got**: what training did until the next prediction. Then drag **Prediction** in the tab "
            "**Inspect** to the right, step by step, to its end, and watch the curve of Dice below the picture.",
            "It does. First the log-odds of the lesion rise (teal under *Got*) while the prediction is still "
            "empty; then the lesion wakes, and its curve climbs. What was asked in the lesion won over what was "
            "asked elsewhere, since the network can tell lesion from liver, and does not have to choose.",
            lambda screen: _at_end(screen) and bool((screen.seen.recorded.prediction == 1).any()),  # type: ignore[union-attr]
        ),
    ),
)

# ---- threshold or loss?

RACED_FROM = 100
"""Step of the recorded run that the race leaves; it has a checkpoint."""
_BETA = 0.9


def _at_start(screen: Screen) -> bool:
    return screen.displayed.cls == 1 and _step(screen) == RACED_FROM


def _is_biased(screen: Screen) -> bool:
    decision = screen.decision
    return _at_start(screen) and decision is not None and decision.now is not None and decision.now.bias >= 1


def _has_beta(screen: Screen) -> bool:
    return _asks(screen) and getattr(_loss(screen), "beta", None) == _BETA and not screen.displayed.bias


def _is_raced(screen: Screen) -> bool:
    return screen.race is not None and screen.race.finished and _at_end(screen)


def _is_beside_curve(screen: Screen) -> bool:
    return (
        _is_raced(screen) and screen.race is not None and any("A's curve" in s for s in screen.race.sentences)
    )


THRESHOLDS = Lecture(
    "threshold-or-loss",
    "Threshold or loss?",
    "Two ways to be more sensitive: a bias on the decision, or a loss that punishes missed voxels more.",
    THRESHOLD,
    (
        Step(
            "A network finds the kidneys of a CT phantom roughly: some voxels are missed, more are extra. A bias "
            "on the class makes it predict kidney more readily. Can a bias raise sensitivity and precision at "
            "once?",
            f"In the tab **Inspect**, choose **kidneys**, and drag **Prediction** to step **{RACED_FROM}**. In the "
            "tab **Why** open **What if: the decision**, choose **Precision against sensitivity** below the "
            "slider, and move the slider to the right, to **+2**.",
            "The picture moves at once: more of the kidneys, and more beside them. The point slides along the "
            "curve, and what it gains in sensitivity it pays in precision. No bias leaves the curve: it is all "
            "that this network can do with another threshold.",
            _is_biased,
        ),
        Step(
            "The loss of this run is Tversky, with penalties of .5 for extra (alpha) and for missed voxels "
            "(beta). With beta at .9, what changes at once: the value of the loss, its pull, the prediction?",
            "Press **Reset** beside the slider. Choose **Asked**, open **What if: the loss**, and set **beta** "
            "(the penalty for false negatives) to **0.9**.",
            "Value and pull change; the prediction stays, and the section says so: it changes only by training. "
            "Compare the shares of the pull in the table.",
            _has_beta,
        ),
        Step(
            "Now it is trained. Lane A goes on as the run did, lane B sees the same batches with beta at .9, and "
            "the control is A with other batches. After 50 steps, will B be more sensitive than A? So is A with a "
            "bias: will B be *on* A's curve, so that a threshold would have done the same, or off it?",
            "Open **Train from here: A against B** and press **50 steps from here: A, B, control**. It takes a "
            "few minutes. When the race is over, drag **Prediction** in the tab **Inspect** to its end. With "
            "**What if: the decision** open, the last sentences at the top of the tab **Why** say where B is "
            "beside A's curve.",
            "B misses less and has more that is extra. Its Dice says little by itself: look at the control, in "
            "which nothing but the order of the batches was changed. Where B is no farther off A's curve than the "
            "control is, a threshold would have done. When we measured this, B was about .001 off and the control "
            "about .01: beta had moved the network along its own curve. One race on one case is an observation, "
            "not a proof; a study repeats it over seeds and cases.",
            _is_beside_curve,
        ),
    ),
)

# ---- a loss that rewards errors


def _rewarding(screen: Screen, *, a: float, detach: bool) -> bool:
    loss = _loss(screen)
    return (
        _asks(screen)
        and getattr(loss, "a", None) == a
        and getattr(loss, "b", None) == 0.4
        and getattr(loss, "detach", None) == detach
    )


REWARDS = Lecture(
    "rewarded-errors",
    "A loss that rewards errors",
    "Two penalties that are never negative, and a gradient that asks for more errors.",
    REWARDED,
    (
        Step(
            "The adaptive region loss (Chen 2023) raises the penalty of whichever error dominates in a box: FP "
            "penalty = A + B · FP / (FP + FN), FN penalty = A + B · FN / (FP + FN), here with A = .3 and B = .4. "
            "The prediction was made up: half of the spleen is missed, and nothing else is wrong. What are the "
            "two penalties in a box of misses only?",
            "In the tab **Why**, choose **Asked**. Then click a voxel in the **missed half** of the spleen (blue "
            "in the tab *Inspect*).",
            "FP .3 and FN .7, as the formula promises: the sentence below *Why this voxel* ends with them. The "
            "loss asks for more spleen there, and for less outside (brown).",
            lambda screen: _rewarding(screen, a=0.3, detach=True) and _asked_truth(screen) == 1,
        ),
        Step(
            "So far the penalties were *held fixed*: they are computed from FP and FN, but no gradient runs "
            "through them. The public code lets it run. Neither penalty is ever negative. Can that do any harm?",
            "Open **What if: the loss**, open **Advanced** in it, and untick **Hold penalties fixed**.",
            "It can. In the boxes that hold the missed half, voxels *outside* of the spleen turn teal: there the "
            "loss asks for **more** errors. Each new surplus voxel lowers the FN penalty, which weighs all missed "
            "voxels. Where FP is under 7 % of FN, that gain is larger than the cost of the voxel itself: its "
            "weight is A + B (x² + 2x − 1) / (1 + x)² with x = FP / FN, near x = 0 that is A − B.",
            lambda screen: _rewarding(screen, a=0.3, detach=False),
        ),
        Step(
            "The penalties that are shown for these boxes are still FP .3 and FN .7. What has to change, A or B, "
            "and to what, so that no error is rewarded?",
            "In the same form set **Base penalty A** to **0.4**.",
            "A of at least B cures it: outside, nothing is teal any more. So does holding the penalties fixed, "
            "which is the default here. Read the gradient, not the formula.",
            lambda screen: _rewarding(screen, a=0.4, detach=False),
        ),
    ),
)
LECTURES: Mapping[str, Lecture] = {found.name: found for found in (ORDERS, THRESHOLDS, REWARDS)}


def lecture_named(name: str) -> Lecture:
    """Return a lecture by its name.

    Raises
    ------
    SpecError
        When there is none.
    """
    if name not in LECTURES:
        raise SpecError(f"There is no lecture {name!r}.", f"Choose one of {', '.join(LECTURES)}.")
    return LECTURES[name]
