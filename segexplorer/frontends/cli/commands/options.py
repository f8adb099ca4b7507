"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segexplorer.frontends.cli import completion

Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        "--series",
        help="Which part of a file or folder with several: a DICOM series (see `segexplorer series`), a frame.",
        show_default=False,
    ),
]
WEIGHTS = "Which weights: the best by validation, or the last."
Checkpoint = Annotated[Literal["best", "last"], typer.Option("--checkpoint", help=WEIGHTS)]
Archive = Annotated[
    Path,
    typer.Argument(
        help="Run folder, or an archive that `segexplorer share` packed.",
        autocompletion=completion.run_folders,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ResultClasses = Annotated[
    str | None,
    typer.Option("--classes", help="e.g. '{kidneys: [2, 3], liver: 5}'", show_default="as the results name"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.", autocompletion=completion.run_folders)]
PlotFormats = Annotated[str, typer.Option("--format", help="Of the plots: svg, png, pdf, with commas.")]
Resample = Annotated[
    bool, typer.Option("--resample", help="Bring predictions on another lattice onto the label's.")
]
ResultsKind = Annotated[
    str, typer.Option("--kind", help="See `segexplorer list results`.", show_default="recognised")
]
AsOpened = Annotated[str, typer.Option(help="As of `segexplorer open`.", show_default="looked for")]
InWindow = Annotated[bool, typer.Option("--window", help="In napari, with curves and predictions.")]
