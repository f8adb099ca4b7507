"""The commands, a few lines each; what is heavy is imported inside, so that `--help` answers at once."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

import segexplorer
from segexplorer.core.errors import (
    ExitCode,
    NotEnoughMemoryError,
    PlaceError,
    SegExplorerError,
    SpecError,
    disk_error,
)
from segexplorer.frontends.cli.streams import standard_streams

app = typer.Typer(
    name="segexplorer",
    help="Train medical segmentation networks and see what the [bold]loss[/bold] does inside the volume.",
    epilog="For research and teaching; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

START, TRAIN, LOOK, KNOW = "Start here", "Train and use", "Look", "What there is"
Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        "--series",
        help="Which part of a file or folder with several: a DICOM series (see `segexplorer series`), a frame.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its `ExitCode`; what is no defect ends with a sentence, not a traceback."""
    with standard_streams(), _preemption():
        try:
            try:
                app(list(arguments) if arguments is not None else None, prog_name="segexplorer")
            finally:
                sys.stdout.flush()  # a full disk is found out here, not as the interpreter ends
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except MemoryError:
            return _tell(
                NotEnoughMemoryError("There is not enough memory for this.", "Close other programs.")
            )
        except SegExplorerError as error:
            return _tell(error)
        except RuntimeError as error:
            if not str(error).startswith("Symlink loop"):  # of pathlib, until Python 3.13
                raise
            return _tell(PlaceError(f"Links lead in a circle: {error}.", "Name the file itself."))
        except OSError as error:
            if (known := disk_error(error)) is None:
                raise
            return _tell(known)
    return ExitCode.DONE


def _tell(error: SegExplorerError) -> int:
    sys.stderr.write(f"segexplorer: {error}\n")
    return error.exit_code


@contextmanager
def _preemption() -> Iterator[None]:
    """End with `ExitCode.PREEMPTED` at a scheduler's SIGTERM; training saves its state first (`cli.train`)."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(ExitCode.PREEMPTED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"segexplorer {segexplorer.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command(rich_help_panel=START)
def demo(
    headless: Annotated[
        bool,
        typer.Option("--headless", help="Play the demo without a user; write pictures and a run folder."),
    ] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the pictures and the run.")
    ] = Path("demo-output"),
) -> None:
    """Open napari on a built-in CT phantom with a training run in progress."""
    from segexplorer.frontends.cli.demo import run_demo

    raise typer.Exit(run_demo(output, headless=headless))


@app.command(rich_help_panel=TRAIN)
def train(
    config: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="Set a value, e.g. loss.alpha=0.7; repeatable."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder to make.", show_default="segexplorer-runs/..."),
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder to continue exactly.")] = None,
    extend: Annotated[
        int, typer.Option("--extend", min=0, help="With --resume: train this many further epochs.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train an experiment. Ctrl-C stops at the next step and saves; --resume continues from there."""
    from segexplorer.frontends.cli.train import run_train

    raise typer.Exit(run_train(config, settings or [], output, resume, extend, as_json=as_json))


@app.command(rich_help_panel=TRAIN)
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... IMAGE...",
            help="Run folders, several as an ensemble; then images, each a case of its own, folders of images, "
            "data sets, or lists of cases.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File, or folder for several images.")],
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which weights.")] = "best",
    together: Annotated[
        bool, typer.Option("--together", help="The images are the channels of one case, in training order.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out cases whose output exists, to finish a folder.")
    ] = False,
    name: Annotated[
        str,
        typer.Option("--name", help="Of the outputs in a folder, e.g. '{case}.nii.gz' as challenges ask."),
    ] = "{case}_prediction.nii.gz",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of all classes, too (.npz).")
    ] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over mirrored windows (test-time augmentation).")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1 ...", show_default="the best there is")
    ] = "",
    select: Select = None,
    as_json: AsJson = False,
) -> None:
    """Segment images with a trained run, or several as an ensemble; each output has the grid of its image."""
    from segexplorer.frontends.cli.predict import run_predict

    code = run_predict(
        paths,
        output,
        checkpoint,
        together=together,
        overwrite=overwrite,
        skip=skip,
        select=select,
        name=name,
        probabilities=probabilities,
        mirror=mirror,
        device=device,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command(rich_help_panel=TRAIN)
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File or folder to make.")],
    kind: Annotated[
        str, typer.Option("--format", "-f", help="monai-bundle, onnx ...; see `segexplorer list exporters`.")
    ],
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which weights.")] = "best",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="Set a value of the format, e.g. patch_size=[96,96,96]."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Export a trained network with its preprocessing, for use in other programs."""
    from segexplorer.frontends.cli.export import run_export
    from segexplorer.frontends.cli.settings import parse_settings

    run_export(run, kind, output, checkpoint, parse_settings(settings or []), overwrite=overwrite)


@app.command(rich_help_panel=TRAIN)
def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(help="Label file of any format, or a folder of them; with --split: a run folder."),
    ],
    truth: Annotated[
        Path | None,
        typer.Argument(help="Label file, or a folder with the same case names.", show_default=False),
    ] = None,
    split: Annotated[
        Literal["test", "validation", "train"] | None,
        typer.Option(
            help="Of a run: predict its own cases and score them, once; the run folder keeps the scores.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Literal["best", "last"] | None,
        typer.Option(help="With --split: which weights.", show_default="best, or as recorded"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --split: score once more; earlier scores are kept.")
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="e.g. '{kidneys: [2, 3], liver: 5}'", show_default="every label value"
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            help="Names of metrics or tasks (lesions, organs, vessels), with commas; `segexplorer list metrics` "
            "knows them.",
            show_default="dice,f2,...",
        ),
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(help="Also score as a published code does: coactseg.", show_default=False),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="Set an option of metrics, e.g. matching=iou."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="Write a row per case and class here: all default metrics and those that are named.",
            show_default=False,
        ),
    ] = None,
    spread_csv: Annotated[
        Path | None,
        typer.Option("--spread-csv", help="Write a row per class and metric here.", show_default=False),
    ] = None,
    lesions_csv: Annotated[
        Path | None,
        typer.Option(
            "--lesions-csv",
            help="Write a row per lesion here, and print how many were found by their size.",
            show_default=False,
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            metavar="DIR",
            help="With --split: write reliability diagrams into this folder.",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Of the plots: svg, png, pdf, with commas.")
    ] = "svg",
    resample: Annotated[
        bool,
        typer.Option(
            "--resample", help="Bring predictions on another lattice onto the truth's (nearest voxel)."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions, or a run's own test cases: per case and class, and over cases, on whole volumes."""
    from segexplorer.frontends.cli.evaluate import run_evaluate
    from segexplorer.frontends.cli.evaluate_split import refuse_with_split, require_truth, run_evaluate_split

    if split is None:
        if checkpoint is not None or again or plots is not None:
            raise SpecError("--checkpoint, --again and --plots belong to --split.", "Add --split test.")
        truth = require_truth(prediction, truth)
        run_evaluate(
            prediction,
            truth,
            classes,
            as_json=as_json,
            metrics=metrics,
            protocol=protocol,
            settings=settings or (),
            csv=csv,
            spread_csv=spread_csv,
            lesions_csv=lesions_csv,
            resample=resample,
        )
        return
    refuse_with_split(truth, classes, lesions_csv, resample=resample)
    run_evaluate_split(
        prediction,
        split,
        checkpoint=checkpoint,
        again=again,
        as_json=as_json,
        metrics=metrics,
        protocol=protocol,
        settings=settings or (),
        csv=csv,
        spread_csv=spread_csv,
        plots=plots,
        formats=formats,
    )


@app.command(rich_help_panel=LOOK)
def regrid(
    label: Annotated[Path, typer.Argument(help="Label file or folder to bring onto another grid.")],
    like: Annotated[Path, typer.Option("--like", help="Image whose grid it gets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    image: Annotated[
        bool, typer.Option("--image", help="It is an image: interpolate linearly instead of nearest voxel.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    select: Select = None,
) -> None:
    """Bring a label onto an image's grid: without loss on the same lattice, else by the nearest voxel."""
    from segexplorer.frontends.cli.regrid import run_regrid

    run_regrid(label, like, output, image=image, select=select, overwrite=overwrite)


@app.command(rich_help_panel=TRAIN)
def study(
    config: Annotated[Path, typer.Argument(help="Experiment file with a matrix (YAML).")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="Set a value in every run; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the runs.", show_default="segexplorer-runs/<file>"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", "--list", help="Only say which runs there would be, and what is comparable."
        ),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="What compared runs may differ in: network, split, steps, batch; repeatable."),
    ] = None,
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(
            help="The cases to compare on; test: those of each run are scored once, after training."
        ),
    ] = "validation",
    as_json: AsJson = False,
) -> None:
    """Train every experiment of a file's matrix that is not done yet, then compare them."""
    from segexplorer.frontends.cli.study import run_study

    code = run_study(
        config, output, settings or [], dry_run=dry_run, as_json=as_json, allow=allow or [], split=split
    )
    raise typer.Exit(code)


@app.command(rich_help_panel=LOOK)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or a study's folder.")],
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(
            help="The cases to compare on; test: as `segexplorer evaluate RUN --split test` scored them."
        ),
    ] = "validation",
    checkpoint: Annotated[
        Literal["last", "best"] | None,
        typer.Option(help="Which weights.", show_default="last; of test cases best"),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="Condition or run that the others are compared with.",
            show_default="a study's own setting, else the first",
        ),
    ] = "",
    metrics: Annotated[str, typer.Option(help="Names, with commas.", show_default="dice,f2,...")] = "",
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
    formats: Annotated[
        str, typer.Option("--format", help="Of the plots: svg, png, pdf, with commas.")
    ] = "svg",
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def verify(
    run: Annotated[Path, typer.Argument(help="Run folder, or an archive that `segexplorer share` packed.")],
    as_json: AsJson = False,
) -> None:
    """Read all that a run folder holds, compare its checksums, and say what is sound (exit code 2: not all)."""
    from segexplorer.frontends.cli.verify import run_verify

    raise typer.Exit(run_verify(run, as_json=as_json))


@app.command(rich_help_panel=LOOK)
def replay(
    run: Annotated[Path, typer.Argument(help="Run folder, or an archive that `segexplorer share` packed.")],
    speed: Annotated[float, typer.Option(min=0, help="Times as fast as it was; 0: without waiting.")] = 10.0,
    window: Annotated[bool, typer.Option("--window", help="In napari, with curves and predictions.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events, one line of JSON each.")] = False,
) -> None:
    """Play a run again as it was, on the terminal or in the window; nothing is computed or changed."""
    from segexplorer.frontends.cli.replay import run_replay

    raise typer.Exit(run_replay(run, speed, window=window, as_json=as_json))


@app.command(rich_help_panel=TRAIN)
def share(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Archive to write.")] = Path(
        "shared-run.zip"
    ),
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="The network, so that others can predict with it.")
    ] = True,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Predictions of the watched cases, too: they are voxels.")
    ] = False,
    number_classes: Annotated[
        bool, typer.Option("--number-classes", help="Call the classes class_1, class_2 ...")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an archive that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pack a run into one file for others: numbered cases, no paths, no images, provenance included."""
    from segexplorer.frontends.cli.share import run_share

    run_share(
        run,
        output,
        weights=weights,
        predictions=predictions,
        number_classes=number_classes,
        overwrite=overwrite,
        as_json=as_json,
    )


@app.command(rich_help_panel=LOOK)
def series(
    path: Annotated[Path, typer.Argument(help="DICOM folder, zip archive or file.")],
    as_json: AsJson = False,
) -> None:
    """List the DICOM series of a folder or archive: number, size, spacing, orientation; no patient data."""
    from segexplorer.frontends.cli.series import print_series

    print_series(path, as_json=as_json)


@app.command(rich_help_panel=LOOK)
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
        str, typer.Option("--kind", help="Layout of the data set.", show_default="found by looking")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Of an experiment, e.g. data.root=FOLDER; of a data set, e.g. labels='{case}/seg.nii.gz'.",
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


@app.command(rich_help_panel=KNOW)
def samples(
    name: Annotated[str | None, typer.Argument(help="Of a sample, e.g. Task04_Hippocampus.")] = None,
    download: Annotated[
        Path | None, typer.Option("--download", help="Fetch it into this folder.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List public data sets with their licences; download one only when asked."""
    from segexplorer.frontends.cli.samples import fetch_sample, print_samples

    if name is None:
        if download is not None:
            raise SpecError(
                "--download needs the name of a sample.", "Write it like: samples NAME --download FOLDER"
            )
        print_samples(as_json=as_json)
    else:
        fetch_sample(name, download, as_json=as_json)


@app.command("list", rich_help_panel=KNOW)
def list_kinds(
    family: Annotated[
        str | None, typer.Argument(help="losses, networks, datasets ...", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be chosen: losses, networks, data sets, optimisers, schedules ..."""
    from segexplorer.frontends.cli.catalogue import print_families, print_family

    if family is None:
        print_families(as_json=as_json)
    else:
        print_family(family, as_json=as_json)


@app.command(rich_help_panel=KNOW)
def describe(
    family: Annotated[str, typer.Argument(help="losses, networks, datasets ...; or the name alone.")],
    kind: Annotated[str | None, typer.Argument(help="Its name, e.g. tversky.", show_default=False)] = None,
    task: Annotated[
        str,
        typer.Option(
            help="Of metrics: which to report for lesions, organs or vessels, or what a protocol computes.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Explain one kind: formula, reference, what it punishes, every parameter with range and unit."""
    from segexplorer.frontends.cli.catalogue import print_kind, print_kind_alone, print_task

    if task:
        print_task(family, kind, task, as_json=as_json)
    elif kind is not None:
        print_kind(family, kind, as_json=as_json)
    else:
        print_kind_alone(family, as_json=as_json)


@app.command(rich_help_panel=KNOW)
def cost(
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NETWORK...", help="Networks by name, or experiment files (YAML)."),
    ],
    patch: Annotated[
        str | None,
        typer.Option(
            help="Voxels; two numbers: 2D.", show_default="64,64,64, or the file's", metavar="X,Y[,Z]"
        ),
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Image channels.", show_default="1, or the data's")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="Classes, background included.", show_default="2, or the data's"),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time it, and its memory, here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what networks cost: parameters, FLOPs, memory, and the time of a prediction."""
    from segexplorer.frontends.cli.cost import run_cost

    run_cost(networks, patch=patch, channels=channels, classes=classes, measured=measure, as_json=as_json)


@app.command(rich_help_panel=KNOW)
def plugins(as_json: AsJson = False) -> None:
    """List the installed plug-ins and whether each could be loaded."""
    from segexplorer.frontends.cli.catalogue import print_plugins

    print_plugins(as_json=as_json)


@app.command(rich_help_panel=KNOW)
def schema() -> None:
    """Print the JSON schema of an experiment file, for editors."""
    from segexplorer.frontends.cli.catalogue import print_schema

    print_schema()
