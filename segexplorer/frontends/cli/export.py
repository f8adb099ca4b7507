"""`segexplorer export`: a run's network in a format that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli.terminal import remarks


def run_export(
    run: Path, kind: str, output: Path, checkpoint: str, settings: dict[str, Any], *, overwrite: bool
) -> None:
    """Export a run and print the output's path on stdout.

    Parameters
    ----------
    kind
        An exporter, in which hyphens are as good as underscores.
    settings
        Parameters of the exporter.

    Raises
    ------
    SpecError
        When the exporter is unknown, a setting is not one of its own, or the network cannot be exported.
    """
    from segexplorer.training.exporters import export_run, registry

    spec = registry.spec(kind.replace("-", "_"))
    nested = next((name for name in settings if "." in name), None)
    if nested is not None:
        raise SpecError(
            f"An exporter has no setting {nested!r}.", f"See: segexplorer describe exporters {kind}"
        )
    exporter = spec.of({"kind": kind.replace("-", "_"), **settings}, f"exporter {kind}")

    def say(weights: str) -> None:
        text = f"Exporting the {weights} of {run} as {spec.display_name} ..."
        remarks().print(text, markup=False, soft_wrap=True)

    print(export_run(run, exporter, output, checkpoint=checkpoint, overwrite=overwrite, on_weights=say))
