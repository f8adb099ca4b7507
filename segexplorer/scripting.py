"""The functions of a script or notebook: few of them, with the same defaults as the window and the command line.

All are reached as `segexplorer.<name>`; the README uses most of them in ten lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, TrainingError
from segexplorer.core.events import CaseScore, Event, Role, RunFinished
from segexplorer.data.case import Case, CaseRef, ClassMap, Source, integer_labels
from segexplorer.data.geometry import compare
from segexplorer.data.grid import on_one_grid
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume, value_counts

if TYPE_CHECKING:
    from segexplorer.data.datasets.base import DatasetSpec
    from segexplorer.metrics import Lesion, MetricOptions
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.run import Run
    from segexplorer.training.scores import SplitScores

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
    on_event
        Called with every event (`segexplorer.core.events`).

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
) -> tuple[CaseScore, ...]:
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
    tuple of CaseScore
        One per class; none where no class is given and neither volume has a label.

    Raises
    ------
    DataError
        When the two are on different lattices, or name their labels in contradiction.
    UnknownKindError
        When a metric does not exist.
    """
    from segexplorer.metrics import score_case

    pair = _encode(prediction, truth, classes, resample)
    for note in pair.notes:
        if on_note is not None:
            on_note(note)
    return score_case(
        pair.prediction,
        pair.truth,
        pair.names,
        pair.grid.spacing,
        case=case or _name_of(truth),
        role="test",
        surfaces=surfaces,
        metrics=metrics,
        options=options,
    )


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

    pair = _encode(prediction, truth, classes, resample)
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

    pair = _encode(prediction, truth, classes, resample)
    names = {int(code): code.name.lower().replace("_", " ") for code in Code if code}
    return pair.grid.with_array(error_codes(pair.prediction, pair.truth), label_names=names)


@dataclass(frozen=True)
class _Pair:
    """A prediction and its truth as uint8 class indices on one grid."""

    names: tuple[str, ...]
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    grid: Volume
    notes: tuple[str, ...] = ()


def _encode(
    prediction: PathLike | Volume, truth: PathLike | Volume, classes: Classes | None, resample: bool
) -> _Pair:
    predicted = prediction if isinstance(prediction, Volume) else open_volume(prediction, label=True)
    true = truth if isinstance(truth, Volume) else open_volume(truth, label=True)
    if not compare(predicted, true).same:
        predicted = _onto(prediction, predicted, true)
        true = _onto(truth, true, predicted)
    before = predicted.provenance.notes, true.provenance.notes
    predicted, true = on_one_grid(predicted, true, resample=resample)
    if classes is not None:
        mapping = ClassMap.from_classes(
            {name: _values(given) for name, given in classes.items()}, "background"
        )
        own = replace(mapping, ignored=())  # only the truth says what does not count
    else:
        own, mapping = _occurring(predicted, true)
    notes = tuple(f"Prediction: {note}" for note in predicted.provenance.notes if note not in before[0])
    notes += tuple(f"Truth: {note}" for note in true.provenance.notes if note not in before[1])
    return _Pair(mapping.names, own.encode(predicted.array), mapping.encode(true.array), true, notes)


def _onto(given: PathLike | Volume, opened: Volume, other: Volume) -> Volume:
    """Return a label that has no grid of its own (DICOM segments, contours) on the other's, if it loses nothing."""
    if isinstance(given, Volume):
        return opened
    moved = open_volume(given, label=True, like=other)
    whole = np.count_nonzero(moved.array) == np.count_nonzero(opened.array)
    return moved if whole and compare(moved, other).same else opened


def _occurring(predicted: Volume, true: Volume) -> tuple[ClassMap, ClassMap]:
    """Return the classes that occur in either volume, with the prediction's values and with the truth's."""
    from segexplorer.metrics import match_classes

    values = [list(value_counts(integer_labels(volume.array))) for volume in (predicted, true)]
    found = match_classes(values[0], values[1], predicted.label_names, true.label_names)
    names = tuple(match.name for match in found)
    sides = [[m.prediction for m in found], [m.truth for m in found]]
    own, mapping = (ClassMap(names, tuple(() if v is None else (v,) for v in side)) for side in sides)
    return own, mapping


def _values(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)


def _source(given: PathLike | Volume) -> Source:
    return given if isinstance(given, Volume) else Path(given)


def _name_of(given: PathLike | Volume) -> str:
    return stem(Path(given)) if not isinstance(given, Volume) else "case"


def stem(path: Path) -> str:
    """Return the file name without its suffixes `.gz` and the one before."""
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] or name
