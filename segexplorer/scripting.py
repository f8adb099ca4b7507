"""The functions of a script or notebook: few of them, with the same defaults as the window and the command line.

All are reached as `segexplorer.<name>`; the README uses most of them in ten lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, TrainingError
from segexplorer.core.events import Event, Role, RunFinished
from segexplorer.data.case import Case, CaseRef, Source
from segexplorer.data.volume import Volume

if TYPE_CHECKING:
    from segexplorer.data.datasets.base import DatasetSpec
    from segexplorer.losses.base import LossSpec
    from segexplorer.metrics import Lesion, MetricOptions
    from segexplorer.metrics.scoring import CaseScores
    from segexplorer.training.doctor import Diagnosis
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.explanation import Explanation
    from segexplorer.training.fork import ForkPoint
    from segexplorer.training.label_pairs import EncodedPair
    from segexplorer.training.paid import Payment
    from segexplorer.training.run import Run
    from segexplorer.training.scores import SplitScores
    from segexplorer.training.trained_patch import TrainedPatch
    from segexplorer.viewmodels.race import RaceView

PathLike = str | Path
Classes = Mapping[str, int | Sequence[int]]


def open_case(
    images: PathLike | Volume | Sequence[PathLike | Volume],
    label: PathLike | Volume | None = None,
    *,
    name: str = "",
) -> Case:
    """Open one case: an image, or several of the same anatomy, and their label.

    Parameters
    ----------
    name
        Its id; by default the first image's file name.

    Raises
    ------
    DataError
        When a file cannot be read.
    """
    several = [images] if isinstance(images, (str, Path, Volume)) else list(images)
    sources = tuple(_source(image) for image in several)
    case_id = name or (stem(sources[0]) if isinstance(sources[0], Path) else "case")
    truth = _source(label) if label is not None else None
    return CaseRef(id=case_id, images=sources, label=truth, patient=case_id, role=None).open()


def open_dataset(root: PathLike, *, kind: str = "", **settings: Any) -> DatasetSpec:
    """Describe a data set on the disk: `open_dataset("Task04_Hippocampus").cases()`.

    Parameters
    ----------
    root
        Its folder, or a CSV, TSV or JSON file that lists cases.
    kind
        How the folder is laid out (`segexplorer list datasets`); by default it is recognised from file names.
    settings
        Other settings of that kind, e.g. `classes={"liver": 5}`.

    Raises
    ------
    DataError
        When there is no such folder, or its layout is not known.
    """
    from segexplorer.data import datasets

    place = Path(root).expanduser()
    if not place.exists():
        raise DataError(f"There is no folder {place}.", "Check the path of the data set.")
    found = datasets.Recognition(kind, place, "") if kind else datasets.recognise(place)
    return datasets.recognised_dataset(replace(found, settings={**found.settings, **settings}))


def train(
    experiment: Experiment | PathLike | Mapping[str, Any],
    output: PathLike | None = None,
    *,
    devices: int | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Run:
    """Train to the end and return the finished (or stopped) run.

    For commands while it trains, iterate `Session().prepare(experiment)` yourself.

    Parameters
    ----------
    experiment
        An `Experiment`, the path of its YAML file, or a mapping with the same content.
    output
        Run folder to make; by default `./segexplorer-runs/<time>-<loss>`.
    devices
        How many GPUs of this machine (or processes of the CPU) share each step; None: as `compute.devices` says.
    on_event
        Called with every event (`segexplorer.core.events`); `print` shows a line for each.

    Raises
    ------
    SpecError, DataError
        When the experiment or its data cannot be used.
    TrainingError
        When training failed; the last checkpoint is in the run folder.
    """
    from segexplorer.session import Session
    from segexplorer.training.experiment import Experiment

    if isinstance(experiment, (str, Path)):
        experiment = Experiment.from_yaml(experiment)
    elif not isinstance(experiment, Experiment):
        experiment = Experiment.of(experiment)
    run = Session().prepare(experiment, Path(output) if output is not None else None)
    run.devices = devices
    for event in run:
        if on_event is not None:
            on_event(event)
        if isinstance(event, RunFinished) and event.state == "failed":
            raise TrainingError(event.error, event.remedy)
    return run


def predict(
    run: Run | PathLike,
    images: PathLike | Volume | Sequence[PathLike | Volume],
    checkpoint: Literal["best", "last"] = "best",
) -> Volume:
    """Segment a case with a trained run; the label volume has the image's own grid.

    Values are the data set's own label values, not indices.

    Parameters
    ----------
    images
        The image, or the several images of one case in the order of the training.

    Raises
    ------
    DataError
        When the run has no such checkpoint or an image cannot be read.
    """
    from segexplorer.session import Session

    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    several = [images] if isinstance(images, (str, Path, Volume)) else list(images)
    return Session().predict(folder, several, checkpoint=checkpoint)


def evaluate(
    prediction: PathLike | Volume,
    truth: PathLike | Volume,
    classes: Classes | None = None,
    *,
    case: str = "",
    surfaces: bool = True,
    resample: bool = False,
    metrics: Sequence[str] = (),
    options: MetricOptions | None = None,
    on_note: Callable[[str], object] | None = None,
) -> CaseScores:
    """Score one predicted label volume against the truth, class by class, on the whole volume.

    Parameters
    ----------
    classes
        Class name -> label value or values, e.g. `{"kidneys": [2, 3], "liver": 5}`; by default every value
        above 0 that occurs in either, called as the files name it, else by its number.
    surfaces
        Whether surface distances are measured too; they take most of the time.
    resample
        Whether a prediction on another lattice than the truth is resampled onto it (nearest voxel). Axes in another
        order and labels cropped or padded by whole voxels are brought together without it, which loses nothing.
    metrics
        Further metrics beside the default ones: names of metrics, of tasks ("lesions", "organs", "vessels") or of
        protocols ("coactseg").
    options
        How lesions are matched, the tolerance of surfaces ...
    on_note
        Called with a sentence for each thing that was done to bring the two onto one grid.

    Returns
    -------
    CaseScores
        A tuple of one `CaseScore` per class, which a notebook shows as a table; empty where no class is given and
        neither volume has a label.

    Raises
    ------
    DataError
        When the two are on different lattices, or name their labels in contradiction.
    UnknownKindError
        When a metric does not exist.
    """
    from segexplorer.metrics.scoring import CaseScores
    from segexplorer.training.label_pairs import score_pair

    scores, notes = score_pair(
        _source(prediction),
        _source(truth),
        classes,
        case=case or _name_of(truth),
        surfaces=surfaces,
        resample=resample,
        metrics=metrics,
        options=options,
    )
    for note in notes:
        if on_note is not None:
            on_note(note)
    return CaseScores(scores)


def lesions(
    prediction: PathLike | Volume,
    truth: PathLike | Volume,
    classes: Classes | None = None,
    *,
    case: str = "",
    options: MetricOptions | None = None,
    resample: bool = False,
) -> tuple[Lesion, ...]:
    """Return every lesion of a predicted label volume and of the truth: its size, and whether it was matched.

    A lesion is a connected component of one class. `segexplorer.metrics.by_size` makes a table of those of many
    cases.

    Parameters
    ----------
    classes, resample
        As for `evaluate`.
    options
        Connectivity, smallest lesion and matching rule.

    Raises
    ------
    DataError
        When the two are on different lattices, or name their labels in contradiction.
    """
    from segexplorer.metrics import LabelPair
    from segexplorer.metrics import lesions as lesions_of

    pair = _pair(prediction, truth, classes, resample)
    volumes = LabelPair(pair.prediction, pair.truth, pair.names, pair.grid.spacing, options)
    return lesions_of(volumes, case or _name_of(truth))


def score_split(
    run: Run | PathLike,
    split: Role = "test",
    *,
    checkpoint: Literal["best", "last"] | None = None,
    again: bool = False,
) -> SplitScores:
    """Score a run's own test cases with its network, once; later calls return what was recorded.

    The record is kept in the run folder (`scores/test.json`), and `open_run(folder).scores("test")` reads all of
    them: how many there are says how often the test cases were looked at.

    Parameters
    ----------
    split
        "test", "validation" or "train".
    checkpoint
        "best" (chosen by validation) or "last"; by default that of the newest record, else "best".
    again
        Whether to score the cases once more although there is a record; the earlier one is kept.

    Raises
    ------
    DataError
        When the run has no such cases or no checkpoint, or a case has other data than in training.
    SpecError
        When the recorded scores are of other weights than those asked for.
    """
    from segexplorer.session import Session

    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    return Session().score_split(folder, split, checkpoint=checkpoint, again=again)


def error_map(
    prediction: PathLike | Volume,
    truth: PathLike | Volume,
    classes: Classes | None = None,
    *,
    resample: bool = False,
) -> Volume:
    """Return where a prediction is right and wrong, on the truth's grid.

    Where the prediction reaches beyond that grid, it is made larger by whole voxels.

    Values are those of `viewmodels.errors.Code`: 0 nothing, 1 right, 2 extra (false positive), 3 missed
    (false negative), 4 one class taken for another.

    Parameters
    ----------
    classes, resample
        As for `evaluate`.

    Raises
    ------
    DataError
        When the two are on different lattices.
    """
    from segexplorer.viewmodels.errors import Code, error_codes

    pair = _pair(prediction, truth, classes, resample)
    names = {int(code): code.name.lower().replace("_", " ") for code in Code if code}
    return pair.grid.with_array(error_codes(pair.prediction, pair.truth), label_names=names)


def lecture_run(name: str) -> Path:
    """Return the folder of the recorded run of a lecture, which is made when it is asked for the first time.

    >>> segexplorer.explore(segexplorer.lecture_run("rewarded-errors"))  # doctest: +SKIP

    Parameters
    ----------
    name
        As `segexplorer lecture` lists them.

    Raises
    ------
    SpecError
        When there is no such lecture.
    TrainingError
        When the recorded run could not be trained.
    """
    from segexplorer.viewmodels.lectures import lecture_named

    return lecture_named(name).recording.make()


def explain(
    run: Run | PathLike | None = None,
    *,
    role: Role = "validation",
    step: int | None = None,
    label: NDArray[Any] | None = None,
    logits: NDArray[Any] | None = None,
    probabilities: NDArray[Any] | None = None,
    loss: LossSpec | str | Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    affine: NDArray[np.float64] | None = None,
    later: NDArray[Any] | None = None,
    patch: bool = False,
) -> Explanation:
    """Return what can be asked about a prediction: what a loss wants at every voxel, and why at one of them.

    >>> explanation = segexplorer.explain("runs/liver")  # doctest: +SKIP
    >>> explanation.asked(1).shares.sentence()  # doctest: +SKIP
    'inside 23 % | boundary 41 % | elsewhere 36 %'
    >>> explanation.why((40, 31, 22))  # doctest: +SKIP

    Parameters
    ----------
    run
        A run, or the folder of one, whether it still trains or not. Without it, `label` and `logits` or
        `probabilities` are explained.
    role, step
        Which of the run's watched cases, and which of its recorded frames (None: the newest).
    label
        (x, y, z) class indices; 255 for voxels that do not count.
    logits, probabilities
        (C, x, y, z), background first. Probabilities are floats, or uint8 with 255 for 1.
    loss
        By default the run's own with its present weights; of arrays, the cross entropy. Any other may be named when
        asking, too.
    class_names, affine, later
        Of arrays: names of the foreground classes, (4, 4) voxel -> RAS mm, and a later prediction.
    patch
        Explain the patch that the loss trained on in the step after `Run.show_patch` was called, in place of a
        whole case; of a `Run` of this process.

    Raises
    ------
    DataError
        When the run has no such frame or patch, its data is not here, or arrays do not fit one another.
    SpecError
        When the loss does not exist.
    """
    from segexplorer.training import explanation

    if patch:
        return explanation.explain_patch(_last_patch(run), loss=loss)
    if run is not None:
        folder = Path(run) if isinstance(run, (str, Path)) else run.folder
        return explanation.explain_run(folder, role=role, step=step, loss=loss)
    if label is None:
        raise DataError(
            "There is nothing to explain.", "Name a run, or give label and logits or probabilities."
        )
    return explanation.explain_arrays(
        label,
        logits=logits,
        probabilities=probabilities,
        loss=loss,
        class_names=class_names,
        affine=affine,
        later=later,
    )


def _last_patch(run: Run | PathLike | None) -> TrainedPatch:
    if run is None or isinstance(run, (str, Path)):
        raise DataError(
            "The last patch is kept in memory while a run trains, and not in its folder.",
            "Give the Run that trains in this process.",
        )
    found = run.trained.last("patch")
    if found is None:
        raise DataError(
            "No step of this run was asked to keep its patch.", "Call run.show_patch() before the next step."
        )
    if isinstance(found, str):
        raise DataError(found, "Allow more space, or train on smaller patches.")
    return found


def diagnose(run: Run | PathLike, *, only: Sequence[str] = ()) -> Diagnosis:
    """Look for what is wrong with the loss of a run, whether it still trains or not.

    >>> print(segexplorer.diagnose("runs/liver"))  # doctest: +SKIP
    The term cross entropy is silent: from step 51 on, its gradient on the logits ...

    Parameters
    ----------
    only
        Names of checks (`segexplorer list checks`); by default all of them.

    Returns
    -------
    Diagnosis
        Findings with their evidence, place and curve; what could not be checked, and why; what the loss is for
        predictions that need no network.

    Raises
    ------
    DataError
        When it is not a run folder, or is damaged.
    UnknownKindError
        When there is no such check.
    """
    from segexplorer.training.doctor import diagnose_run

    return diagnose_run(Path(run) if isinstance(run, (str, Path)) else run.folder, only)


def fork(
    run: Run | PathLike,
    changes: Mapping[str, Any] | None = None,
    *,
    step: int | None = None,
    steps: int | None = None,
    output: PathLike | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> Run:
    """Train a fork of a run: from one of its steps on, with another loss or setting; return the finished run.

    It begins with the same weights and the same optimiser state, and sees the same batches.

    >>> segexplorer.fork("runs/liver", {"loss.beta": 0.9}, step=200, steps=50)  # doctest: +SKIP

    Parameters
    ----------
    changes
        Dotted path -> value, e.g. `{"loss": "tversky"}`. Another `seed` draws other batches.
    step
        Where it leaves the run; None: its newest checkpoint. Where there is no checkpoint, the run is first
        repeated from the one before; `segexplorer.fork_point(run, step)` says what that costs.
    steps
        How far it trains; None: to the end of its epochs.
    output
        Run folder to make; by default `./segexplorer-runs/<time>-fork-of-<run>`.
    on_event
        Called with every event, those of a repetition first.

    Raises
    ------
    SpecError
        When the run has no such step, or a change is one that the weights do not allow.
    DataError
        When it is not a run folder, or the output exists.
    TrainingError
        When training failed.
    """
    from segexplorer.training.fork import forked, locate, make_fork, new_folder, reached
    from segexplorer.training.run import Run

    source = _folder(run)
    point = locate(source, step)
    experiment = forked(point, changes or {})
    path = Path(output) if output is not None else new_folder(source, "fork")
    tell = on_event if on_event is not None else (lambda event: None)
    with reached(point, path, tell) as there:
        folder = make_fork(there, experiment, path, steps=steps, source=source.resolve().name)
    made = Run(folder)
    for event in made:
        tell(event)
        if isinstance(event, RunFinished) and event.state == "failed":
            raise TrainingError(event.error, event.remedy)
    return made


def fork_point(run: Run | PathLike, step: int | None = None) -> ForkPoint:
    """Return how a run is forked at a step: from which checkpoint, and what has to be trained again first.

    >>> segexplorer.fork_point("runs/liver", 230).sentence()  # doctest: +SKIP
    'The nearest checkpoint before step 230 is that of step 200: 30 steps have to be trained again first, ...'

    Raises
    ------
    SpecError
        When the run has no such step.
    DataError
        When it is not a run folder.
    """
    from segexplorer.training.fork import locate

    return locate(_folder(run), step)


def race(
    run: Run | PathLike,
    changes: Mapping[str, Any],
    *,
    step: int | None = None,
    steps: int = 50,
    every: int | None = None,
    controls: int = 1,
    output: PathLike | None = None,
    on_event: Callable[[str, Event], object] | None = None,
) -> RaceView:
    """Train two lanes from one step of a run, A as it was and B with changes, and controls; return what they show.

    A control trains as A does, with other batches: how far it drifts from A is how far chance takes a run.

    >>> race = segexplorer.race("runs/liver", {"loss": "tversky"}, step=200)  # doctest: +SKIP
    >>> print(*race.sentences(), sep="\\n")  # doctest: +SKIP

    Parameters
    ----------
    changes, step
        As for `fork`, of B.
    steps
        How far each lane trains.
    every
        After how many steps the watched cases are predicted; by default ten times.
    controls
        Number of controls; 0 saves their time, and then no difference can be told from chance.
    output
        Folder to make, a small study; by default `./segexplorer-runs/<time>-race-of-<run>`.
    on_event
        Called with the lane ("A", "B", "control", or "repetition") and each of its events.

    Raises
    ------
    SpecError, DataError, TrainingError
        As for `fork`.
    """
    from segexplorer.study.race import Race, plan_race
    from segexplorer.training.fork import new_folder
    from segexplorer.viewmodels.race import RaceView

    source = _folder(run)
    plan = plan_race(source, changes, step=step, steps=steps, every=every, controls=controls)
    lanes = Race(Path(output) if output is not None else new_folder(source, "race"), plan)
    for told in lanes:
        if on_event is not None:
            on_event(told.lane, told.event)
    if lanes.state == "failed":
        raise TrainingError(f"The race failed in {lanes.reason}", "What was trained is in the race's folder.")
    return RaceView(lanes.folder)


def open_race(folder: PathLike) -> RaceView:
    """Open the folder of a race, also while it is trained.

    Raises
    ------
    DataError
        When there is no race in it, or it is damaged.
    """
    from segexplorer.viewmodels.race import RaceView

    return RaceView(folder)


def _folder(run: Run | PathLike) -> Path:
    return Path(run) if isinstance(run, (str, Path)) else run.folder


def what_was_paid(
    run: Run | PathLike, *, role: Role = "validation", before: int | None = None, after: int | None = None
) -> Payment:
    """Return which regions of a watched case some steps improved, and which paid for it.

    >>> payment = segexplorer.what_was_paid("runs/liver", before=100, after=200)  # doctest: +SKIP
    >>> payment.sentence("lesion")  # doctest: +SKIP
    'From step 100 to 200, lesion has 1.2 ml fewer errors in 14 regions and 0.3 ml more in 6 regions; ...'

    Parameters
    ----------
    role
        "validation" or "train": which of the run's watched cases.
    before, after
        Steps of two of its recorded frames; None: the first and the last one.

    Raises
    ------
    DataError
        When there are no such frames, or their regions differ.
    """
    from segexplorer.training import paid
    from segexplorer.training.history import open_run

    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    return paid.what_was_paid(open_run(folder), role=role, before=before, after=after)


def _pair(
    prediction: PathLike | Volume, truth: PathLike | Volume, classes: Classes | None, resample: bool
) -> EncodedPair:
    from segexplorer.training.label_pairs import encode_pair

    return encode_pair(_source(prediction), _source(truth), classes, resample=resample)


def _source(given: PathLike | Volume) -> Source:
    return given if isinstance(given, Volume) else Path(given)


def _name_of(given: PathLike | Volume) -> str:
    return stem(Path(given)) if not isinstance(given, Volume) else "case"


def stem(path: Path) -> str:
    """Return the file name without its suffixes `.gz` and the one before."""
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name
