"""Commands of the group *Look*; what is heavy is imported inside, so that `--help` answers at once."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Literal

import typer

import segexplorer
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.commands.options import (
    Archive,
    AsJson,
    AsOpened,
    Checkpoint,
    InWindow,
    Overwrite,
    PlotFormats,
    Resample,
    ResultClasses,
    ResultsKind,
    Select,
)

commands = typer.Typer()
PANEL = "Look"


@commands.command(rich_help_panel=PANEL)
def regrid(
    label: Annotated[Path, typer.Argument(help="Label file or folder to bring onto another grid.")],
    like: Annotated[Path, typer.Option("--like", help="Image whose grid it gets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    image: Annotated[
        bool, typer.Option("--image", help="It is an image: interpolate linearly instead of nearest voxel.")
    ] = False,
    overwrite: Overwrite = False,
    select: Select = None,
) -> None:
    """Bring a label onto an image's grid: without loss on the same lattice, else by the nearest voxel."""
    from segexplorer.frontends.cli.regrid import run_regrid

    run_regrid(label, like, output, image=image, select=select, overwrite=overwrite)


@commands.command(rich_help_panel=PANEL)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or a study's folder.",
            autocompletion=completion.run_folders,
        ),
    ],
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(
            help="The cases to compare on; test: as `segexplorer evaluate RUN --split test` scored them."
        ),
    ] = "validation",
    checkpoint: Checkpoint = "best",
    reference: Annotated[
        str,
        typer.Option(
            help="Condition or run that the others are compared with.",
            show_default="a study's own setting, else the first",
        ),
    ] = "",
    metrics: Annotated[
        str,
        typer.Option(
            help="Names, with commas.", show_default="dice,f2,...", autocompletion=completion.metric_names
        ),
    ] = "",
    allow: Annotated[
        list[str] | None,
        typer.Option(help="What may differ: network, split, steps, batch, unfinished; repeatable."),
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="Also class by class.")] = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write all figures here, too; - for standard output.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables here in Markdown.", show_default=False)
    ] = None,
    latex: Annotated[
        Path | None, typer.Option("--latex", help="Write the tables here in LaTeX.", show_default=False)
    ] = None,
    equivalence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=MARGIN",
            help="Difference up to which conditions count as equivalent, e.g. dice=0.02; repeatable.",
            show_default=False,
        ),
    ] = None,
    check_itself: Annotated[
        bool,
        typer.Option(
            "--self-check", help="Compare each condition with itself instead, other seeds with other seeds."
        ),
    ] = False,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots", metavar="DIR", help="Write plots of each metric into this folder.", show_default=False
        ),
    ] = None,
    formats: PlotFormats = "svg",
    as_json: AsJson = False,
) -> None:
    """Compare runs case by case: differences with intervals, corrected tests, what was missed."""
    from segexplorer.frontends.cli.compare import run_compare

    run_compare(
        runs,
        checkpoint=checkpoint,
        split=split,
        reference=reference,
        metrics=metrics,
        allow=allow or [],
        by_class=by_class,
        as_json=as_json,
        csv=csv,
        markdown=markdown,
        latex=latex,
        equivalence=equivalence or [],
        check_itself=check_itself,
        plots=plots,
        formats=formats,
    )


@commands.command(rich_help_panel=PANEL)
def show(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images and labels.")],
    select: Select = None,
) -> None:
    """Open images and labels in napari, with the dock; --select is for the first."""
    from segexplorer.frontends.cli.series import selected

    for path in paths:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
    segexplorer.view(selected(paths[0], select), *paths[1:])


@commands.command("open", rich_help_panel=PANEL)
def open_command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...", help="Results of nnU-Net, MONAI, TotalSegmentator or any program."
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            help="Folder of the reference labels, or a pattern with {case}.", show_default="looked for"
        ),
    ] = "",
    images: Annotated[
        str, typer.Option(help="Folder of the images, or a pattern with {case}.", show_default="looked for")
    ] = "",
    pattern: Annotated[
        str,
        typer.Option(
            help="Where predictions are below FOLDER, e.g. '{case}/mask.nii.gz'.", show_default="recognised"
        ),
    ] = "",
    kind: ResultsKind = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="Set a value of the kind, e.g. postfix=seg."),
    ] = None,
    classes: ResultClasses = None,
    sort: Annotated[str, typer.Option(help="Metric that cases are sorted by, the worst first.")] = "dice",
    of_class: Annotated[
        str, typer.Option("--class", help="Class that cases are sorted by.", show_default="mean of classes")
    ] = "",
    metrics: Annotated[
        str, typer.Option(help="Further metrics or tasks, with commas.", show_default=False)
    ] = "",
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Set an option of metrics, e.g. matching=iou."),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="Results that the others are compared with.", show_default="the first")
    ] = "",
    resample: Resample = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that score, as far as memory allows.")] = 1,
    remember: Annotated[
        bool, typer.Option("--remember/--anew", help="Use scores of unchanged files from before.")
    ] = True,
    headless: Annotated[bool, typer.Option("--headless", help="Print the table, also on a screen.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Print all cases.")] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write a row per case and class here.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open what others trained: score all cases, list the worst first, compare several results case by case."""
    from segexplorer.frontends.cli.open import OpenOptions, run_open

    asked = OpenOptions(
        kind=kind,
        labels=labels,
        images=images,
        pattern=pattern,
        settings=settings or (),
        classes=classes,
        metrics=metrics,
        sort=sort,
        of_class=of_class,
        options=options or (),
        resample=resample,
        workers=workers,
        remember=remember,
        reference=reference,
        every=every,
    )
    run_open(folders, asked, headless=headless, as_json=as_json, csv=csv)


@commands.command(rich_help_panel=PANEL)
def slicer(
    place: Annotated[Path, typer.Argument(metavar="RUN|RESULTS", help="Run folder, or folder of results.")],
    case: Annotated[
        str, typer.Option("--case", help="Id of the case.", show_default="of a run: the watched one")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write.", show_default="slicer-CASE")
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", help="Of a run: the prediction nearest to it.", show_default="newest"),
    ] = None,
    labels: AsOpened = "",
    images: AsOpened = "",
    pattern: Annotated[str, typer.Option(help="As of `segexplorer open`.", show_default="recognised")] = "",
    kind: ResultsKind = "",
    classes: ResultClasses = None,
    resample: Resample = False,
    write_only: Annotated[
        bool, typer.Option("--write-only", help="Write the folder; start no program.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open a case in 3D Slicer: image, truth, prediction, errors in colour, and the error list as points."""
    from segexplorer.frontends.cli.open import OpenOptions
    from segexplorer.frontends.cli.slicer import run_slicer

    asked = OpenOptions(
        kind=kind, labels=labels, images=images, pattern=pattern, classes=classes, resample=resample
    )
    run_slicer(
        place,
        case,
        output,
        asked,
        step=step,
        write_only=write_only,
        overwrite=overwrite,
        as_json=as_json,
    )


@commands.command(rich_help_panel=PANEL)
def agree(
    first: Annotated[Path, typer.Argument(metavar="A", help="Run folder of a reader, or a verdicts.json.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="That of another reader.")],
    names: Annotated[
        str, typer.Option(help="Names of the readers, e.g. Anna,Ben.", show_default="as the files are called")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write both side by side (.csv), or as one file of verdicts (.json).",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare two readers' verdicts on errors: Cohen's kappa with an interval, and where they differ."""
    from segexplorer.frontends.cli.agree import run_agree

    run_agree((first, second), names, output, overwrite=overwrite, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def verify(
    run: Archive,
    as_json: AsJson = False,
) -> None:
    """Read all that a run folder holds, compare its checksums, and say what is sound (exit code 2: not all)."""
    from segexplorer.frontends.cli.verify import run_verify

    raise typer.Exit(run_verify(run, as_json=as_json))


@commands.command(rich_help_panel=PANEL)
def errors(
    runs: Annotated[list[Path], typer.Argument(help="Run folder; several with --suspects.")],
    suspects: Annotated[
        bool,
        typer.Option(
            "--suspects",
            help="Where labels may be wrong: errors that stay over steps and come back in several runs.",
        ),
    ] = False,
    step: Annotated[
        int | None,
        typer.Option("--step", help="Errors of the prediction nearest to this step.", show_default="newest"),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="missed_object, spurious_object, too_little, too_much or wrong_organ; repeatable.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="Errors in which this class takes part; repeatable.", show_default=False
        ),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="open, done, true_error, label_error or unclear; repeatable.",
            show_default=False,
        ),
    ] = None,
    smallest: Annotated[float, typer.Option("--min-ml", min=0, help="Leave smaller errors out.")] = 0.05,
    search: Annotated[
        str, typer.Option("--search", help="Words that must all occur, also in notes.", show_default=False)
    ] = "",
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write a row per error here.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """List the errors of the watched cases: kind, size, depth, place, since when, and what readers said of them."""
    from segexplorer.frontends.cli.errors import run_errors, run_suspects

    if suspects:
        run_suspects(runs, smallest_ml=smallest, as_json=as_json)
        return
    if len(runs) != 1:
        raise typer.BadParameter("Errors are listed of one run; several go with --suspects.")
    run_errors(
        runs[0],
        step=step,
        kinds=kinds or (),
        classes=classes or (),
        states=states or (),
        smallest_ml=smallest,
        search=search,
        csv=csv,
        overwrite=overwrite,
        as_json=as_json,
    )


@commands.command(rich_help_panel=PANEL)
def doctor(
    run: Archive,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--check", help="Name of a check (segexplorer list checks); repeatable.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with the loss of a run: collapsed classes, silent terms, explosions, gaps, plateaus."""
    from segexplorer.frontends.cli.doctor import run_doctor

    run_doctor(run, only or (), as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|STUDY",
            help="Run folder, an archive that `segexplorer share` packed, or a study's folder.",
            autocompletion=completion.run_folders,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write: .html, or .pdf through Chromium.")
    ] = Path("report.html"),
    names: Annotated[
        bool | None,
        typer.Option(
            "--names/--no-names",
            help="Name cases and folders, and show notes of readers. Asked where somebody is there, else no.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Slices of cases: a head can identify a person.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a run or a study as one page: curves, cases with errors and maps, findings, tables, methods."""
    from segexplorer.frontends.cli.report import run_report

    run_report(run, output, names=names, images=images, overwrite=overwrite, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def figure(
    run: Archive,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The figure to write: .svg, .pdf or .png, or .gif.")
    ],
    of: Annotated[
        Literal["montage", "curves", "history"] | None,
        typer.Option(
            "--of",
            help="A case in three planes with its maps, the curves, or the predictions of a case through time.",
            show_default="montage; history for a .gif",
        ),
    ] = None,
    case: Annotated[
        str,
        typer.Option(
            "--case", help="A watched case, or the worst or best one.", show_default="the watched one"
        ),
    ] = "",
    names: Annotated[bool, typer.Option("--names", help="Name the case in the figure.")] = False,
    width: Annotated[float, typer.Option("--width", min=10, max=2000, help="Width in mm.")] = 180.0,
    dpi: Annotated[int, typer.Option("--dpi", min=50, max=1200, help="Pixels per inch of .png, .gif.")] = 300,
    overwrite: Overwrite = False,
) -> None:
    """Draw a figure of a run for a paper or a talk: a case with contours and scale bar, curves, or a history."""
    from segexplorer.frontends.cli.report import run_figure

    run_figure(run, output, of=of, case=case, names=names, width=width, dpi=dpi, overwrite=overwrite)


@commands.command(rich_help_panel=PANEL)
def replay(
    run: Archive,
    speed: Annotated[float, typer.Option(min=0, help="Times as fast as it was; 0: without waiting.")] = 10.0,
    window: InWindow = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events, one line of JSON each.")] = False,
) -> None:
    """Play a run again as it was, on the terminal or in the window, or the lanes of a race in the window."""
    from segexplorer.frontends.cli.replay import run_replay

    raise typer.Exit(run_replay(run, speed, window=window, as_json=as_json))


@commands.command(rich_help_panel=PANEL)
def watch(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER | HOST:FOLDER",
            help="A run, or a folder of runs (a study); on another computer as ssh names it.",
            autocompletion=completion.run_folders,
        ),
    ],
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show the board as it is now, and end.")] = False,
    sort: Annotated[
        str, typer.Option(help="Column: name, state, progress, best, loss, left, updated or problem.")
    ] = "state",
    words: Annotated[
        str,
        typer.Option(
            "--filter", help="Words that a run's name, state or problem contains.", show_default="all"
        ),
    ] = "",
    window: InWindow = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The board as JSON; of one run, its events, one line each.")
    ] = False,
) -> None:
    """Watch runs that other processes train, here or on another computer over ssh; nothing is changed there."""
    from segexplorer.frontends.cli.watch import run_watch
    from segexplorer.viewmodels.board import column_named

    raise typer.Exit(
        run_watch(
            target,
            every=every,
            once=once,
            sort=column_named(sort),
            words=words,
            window=window,
            as_json=as_json,
        )
    )


@commands.command(rich_help_panel=PANEL)
def series(
    path: Annotated[Path, typer.Argument(help="DICOM folder, zip archive or file.")],
    as_json: AsJson = False,
) -> None:
    """List the DICOM series of a folder or archive: number, size, spacing, orientation; no patient data."""
    from segexplorer.frontends.cli.series import print_series

    print_series(path, as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def check(
    path: Annotated[Path, typer.Argument(help="Experiment file, data set (folder, CSV, JSON), or image.")],
    label: Annotated[
        Path | None, typer.Argument(help="With an image: its label.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers only, no voxels.")] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the table of cases here, too.", show_default=False)
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="Layout of the data set.",
            show_default="found by looking",
            autocompletion=completion.kinds_of("datasets"),
        ),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Of an experiment, e.g. data.root=FOLDER; of a data set, e.g. labels='{case}/seg.nii.gz'.",
            autocompletion=completion.experiment_settings,
        ),
    ] = None,
    select: Select = None,
    time: Annotated[
        bool, typer.Option("--time", help="Of an experiment: take some steps and estimate the training time.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find problems of an experiment, a data set or an image before training (exit code 2)."""
    from segexplorer.frontends.cli.check import run_check
    from segexplorer.frontends.cli.settings import parse_settings

    given = parse_settings(settings or [])
    code = run_check(
        path,
        label,
        quick=quick,
        as_json=as_json,
        csv=csv,
        kind=kind,
        settings=given,
        select=select,
        timed=time,
    )
    raise typer.Exit(code)
