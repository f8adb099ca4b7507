"""What `explore` was given: a run, a run folder, an experiment, a case, results, or image, label and prediction."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.data.case import Case, CaseRef
from segexplorer.data.results import open_results
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import RunRecord
from segexplorer.training.label_pairs import encode_pair
from segexplorer.training.replay import Replay
from segexplorer.training.result_cases import image_of_result, open_result
from segexplorer.training.run import Run
from segexplorer.training.run_files import EXPERIMENT
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.reality import Results

if TYPE_CHECKING:
    from segexplorer.training.explanation import Explanation

WHAT = (
    "Give a run, a run folder, an experiment or its YAML file, a case, a folder of predictions, "
    "or (image, label, prediction)."
)
_GIVEN = "given in this notebook"
_RUNS: weakref.WeakValueDictionary[Path, Run] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Subject:
    """What is explored; one of these is there.

    Attributes
    ----------
    run
        A run of this process, which may be trained from the cell.
    folder
        A run folder that nobody trains here.
    experiment
        What a new run would be made of.
    case
        A case without a prediction.
    results
        Predictions.
    """

    run: Any = None
    folder: Path | None = None
    experiment: Experiment | None = None
    case: Case | None = None
    results: Results | None = None


def know(run: Any) -> None:
    """Remember a run of this process, so that its folder leads to it."""
    if isinstance(run, Run):
        _RUNS[Path(run.folder).resolve()] = run


def subject_of(thing: Any, **settings: Any) -> Subject:
    """Return what is explored; slow parts are left to workers.

    Parameters
    ----------
    thing
        What was given to `explore`.
    settings
        For results: `labels`, `images`, `kind`, `pattern` and `classes` (see `open_results`).

    Raises
    ------
    DataError
        When it is none of the things that can be shown, or is not there.
    SpecError
        When it is an experiment file with a mistake.
    """
    if isinstance(thing, (Run, Replay)):
        know(thing)
        return Subject(run=thing)
    if isinstance(thing, RunRecord):
        return _of_folder(thing.folder)
    if isinstance(thing, Experiment):
        return Subject(experiment=thing)
    if isinstance(thing, Mapping):
        return Subject(experiment=Experiment.of(thing))
    if isinstance(thing, CaseRef):
        return Subject(case=thing.open())
    if isinstance(thing, Case):
        return Subject(case=thing)
    if isinstance(thing, Volume):
        return Subject(case=CaseRef(id=_name(thing), images=(thing,)).open())
    if isinstance(thing, (tuple, list)):
        return _of_parts(thing, **settings)
    if isinstance(thing, (str, Path)):
        return _of_path(Path(thing).expanduser(), **settings)
    raise DataError(f"A {type(thing).__name__} cannot be explored.", WHAT)


def _of_path(path: Path, **settings: Any) -> Subject:
    if not path.exists():
        raise DataError(f"There is no {path}.", WHAT)
    if path.is_file() and path.suffix.lower() in {".yaml", ".yml"}:
        return Subject(experiment=Experiment.from_yaml(path))
    if path.is_file():
        return Subject(case=CaseRef(id=path.name.partition(".")[0], images=(path,)).open())
    if (path / EXPERIMENT).is_file():
        return _of_folder(path)
    return Subject(results=_results_of(path, **settings))


def _of_folder(folder: Path) -> Subject:
    run = _RUNS.get(folder.resolve())
    return Subject(folder=folder) if run is None else Subject(run=run)


def _results_of(folder: Path, classes: Any = None, **settings: Any) -> Results:
    """Return the predictions of a folder; of several sets in it, the first.

    Raises
    ------
    DataError
        When there are none.
    """
    try:
        listing = open_results(folder, **settings)[0].listing()
    except SegExplorerError as error:
        raise DataError(f"{folder} is no run folder. {error.message}", error.remedy or WHAT) from error
    if not listing.cases:
        raise DataError(f"There is no prediction in {folder}.", WHAT)
    ids = tuple(case.id for case in listing.cases)
    names = tuple(classes or listing.classes or ())

    def load(case: str) -> WatchedSnapshot:
        return open_result(listing, case, classes=classes, names=names).snapshot

    def explain(case: str) -> Explanation:
        return open_result(listing, case, classes=classes, names=names).explanation()

    if not names:
        names = load(ids[0]).class_names
    kept = any(case.probabilities is not None for case in listing.cases)
    return Results(
        str(folder),
        ids,
        names,
        load,
        lambda case: image_of_result(listing, case),
        folder.name,
        explain if kept else None,
    )


def _of_parts(parts: Sequence[Any], classes: Any = None, resample: bool = False) -> Subject:
    """Return a case of an image and a label, or the result of image, label and prediction."""
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        raise DataError(f"{len(parts)} things cannot be shown as one case.", WHAT)
    image, label, prediction = (*map(_source, parts), None, None)[:3]
    name = _name(parts[0])
    if prediction is None:
        return Subject(case=CaseRef(id=name, images=(image,), label=label).open())
    ref = CaseRef(id=name, images=(image,))
    if label is None:
        raise DataError("A prediction is shown beside a label.", "Give (image, label, prediction).")
    pair = encode_pair(prediction, label, classes, resample=resample)
    snapshot = WatchedSnapshot(
        case=name,
        role="test",
        step=0,
        index=0,
        class_names=tuple(pair.names),
        affine=np.asarray(pair.grid.affine, np.float64),
        prediction=pair.prediction,
        truth=pair.truth,
        badge=_GIVEN,
    )
    return Subject(
        results=Results(
            f"given: {name}", (name,), snapshot.class_names, lambda _: snapshot, lambda _: ref, name
        )
    )


def _source(given: Any) -> Any:
    if given is None or isinstance(given, Volume):
        return given
    if isinstance(given, np.ndarray):
        return Volume.from_array(given, affine=np.eye(4))
    if isinstance(given, (str, Path)):
        return Path(given).expanduser()
    raise DataError(f"A {type(given).__name__} is no volume.", "Give volumes, arrays or paths.")


def _name(thing: Any) -> str:
    path = thing.provenance.path if isinstance(thing, Volume) else thing
    return Path(path).name.partition(".")[0] if isinstance(path, (str, Path)) else "case"
