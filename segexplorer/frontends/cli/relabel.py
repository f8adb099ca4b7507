"""`segexplorer relabel`: corrected labels as a new version of a run's data, and training that goes on with them."""

from __future__ import annotations

from pathlib import Path

from segexplorer.core.errors import SpecError
from segexplorer.data.case import Source
from segexplorer.frontends.cli.terminal import print_json, remark


def run_relabel(
    run: Path,
    output: Path,
    *,
    labels: str,
    single: list[str],
    epochs: int | None,
    learning_rate: float | None,
    train: bool,
    as_json: bool,
) -> int:
    """Write the new version and print its experiment file; with `train`, train it and return its exit code.

    Parameters
    ----------
    labels
        Folder of corrected labels, or a pattern with {case}; "" takes those that readers painted.
    single
        CASE=FILE each.

    Raises
    ------
    DataError, SpecError
        As of `training.relabel`.
    """
    from segexplorer.training.relabel import corrected_labels, relabel

    corrected: dict[str, Source] = {}
    for text in single:
        case, sign, path = text.partition("=")
        if not sign or not case or not path:
            raise SpecError(f"{text!r} is not CASE=FILE.", "Write it like: --label liver_3=liver_3_v2.nii.gz")
        corrected[case] = Path(path)
    if labels or not corrected:
        corrected = {**corrected_labels(run, labels), **corrected}
    found = relabel(run, corrected, output, epochs=epochs, learning_rate=learning_rate)
    for case in found.unchanged:
        remark(f"{case}: the label given is the one that the run was trained with; it stays.")
    if as_json:
        print_json(
            {
                "folder": str(found.folder),
                "experiment": str(found.experiment),
                "cases": [case.model_dump(mode="json") for case in found.cases],
                "unchanged": list(found.unchanged),
            }
        )
    else:
        for one in found.cases:
            added, removed = sum(one.added_ml.values()), sum(one.removed_ml.values())
            remark(
                f"{one.case}: {one.changed_voxels} voxels changed, {added:.2f} ml added, {removed:.2f} removed."
            )
        print(found.experiment)
    if not train:
        return 0
    from segexplorer.frontends.cli.train import run_train

    return run_train(found.experiment, [], None, None, 0, as_json=as_json)
