"""`segexplorer share`: a run folder as one file for others, without what could name a patient."""

from __future__ import annotations

from pathlib import Path

from segexplorer.frontends.cli.terminal import print_json, remarks


def run_share(
    folder: Path,
    output: Path,
    *,
    weights: bool,
    predictions: bool,
    number_classes: bool,
    notes: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack a run; the archive's path goes to stdout, what to look at before sending it to stderr."""
    from segexplorer.training.sharing import share_run

    shared = share_run(
        folder,
        output,
        weights=weights,
        predictions=predictions,
        number_classes=number_classes,
        notes=notes,
        overwrite=overwrite,
    )
    if as_json:
        facts = {"file": str(shared.path), "files": shared.files}
        print_json({**facts, "cases": shared.cases, "classes": shared.classes})
        return
    print(shared.path)
    out = remarks()
    megabytes = shared.path.stat().st_size / 1e6
    out.print(f"{megabytes:.1f} MB, {shared.cases} cases numbered.", soft_wrap=True)
    kept = ", ".join(shared.classes)
    words = f"the classes ({kept}) and the notes of verdicts" if notes else f"the classes: {kept}"
    out.print(f"The only words of yours in it are {words}.", markup=False, soft_wrap=True)
    voxels = "Predictions are in it: shapes of a patient." if predictions else "No voxels are in it."
    out.print(f"{voxels} {'Weights are in it.' if weights else 'No weights are in it.'}", soft_wrap=True)
