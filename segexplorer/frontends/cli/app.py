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
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.streams import standard_streams

app = typer.Typer(
    name="segexplorer",
    help="Train medical segmentation networks and see what the [bold]loss[/bold] does inside the volume.",
    epilog="For research and teaching; not a medical device.",
    no_args_is_help=True,
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


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its `ExitCode`; what is no defect ends with a sentence, not a traceback."""
    with completion.whole_words(), standard_streams(), _preemption():
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


@app.command(rich_help_panel=START)
def lecture(
    name: Annotated[
        str | None, typer.Argument(help="Which lecture; without a name they are listed.", show_default=False)
    ] = None,
    make: Annotated[
        bool,
        typer.Option("--make", help="Only make the recorded run (without a name, of all); open no window."),
    ] = False,
) -> None:
    """Open a lecture in the window: predict, click, and see what a loss asks for, over a recorded run."""
    from segexplorer.frontends.cli.lecture import run_lecture

    raise typer.Exit(run_lecture(name, make=make))


@app.command(rich_help_panel=START)
def init(
    place: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|LIST", help="Data set: a folder, or a list of cases (CSV, XLSX ...)."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Experiment file to write.")] = Path(
        "experiment.yaml"
    ),
    task: Annotated[
        Literal["lesions", "organs", "vessels"] | None,
        typer.Option(help="What is segmented.", show_default="by the classes' names and parts"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="e.g. '{kidneys: [2, 3], liver: 5}'", show_default="all there are"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="How long training may take on this machine.", show_default="60"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Time no steps; the length of training is a default then.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Propose an experiment for a folder: settings from the data, this machine and the time, with their reasons."""
    from segexplorer.frontends.cli.init import run_init
    from segexplorer.frontends.cli.settings import parse_classes

    run_init(
        place,
        output,
        task=task,
        classes=parse_classes(classes),
        minutes=minutes,
        quick=quick,
        as_json=as_json,
    )


@app.command(rich_help_panel=START)
def configs(
    name: Annotated[str | None, typer.Argument(help="Of an experiment, e.g. chen2023_phantom.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write it to.", show_default="printed")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the experiments that come with segexplorer, or copy one."""
    from segexplorer.frontends.cli.configs import copy_config, print_configs

    if name is not None:
        copy_config(name, output, as_json=as_json)
    elif output is not None:
        raise SpecError(
            "-o needs the name of an experiment.", "Write it like: configs NAME -o experiment.yaml"
        )
    else:
        print_configs(as_json=as_json)


@app.command(rich_help_panel=TRAIN)
def train(
    config: Annotated[Path | None, typer.Argument(help="Experiment file (YAML).", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Set a value, e.g. loss.alpha=0.7; repeatable.",
            autocompletion=completion.experiment_settings,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder to make.", show_default="segexplorer-runs/..."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", help="Run folder to continue exactly.", autocompletion=completion.run_folders
        ),
    ] = None,
    extend: Annotated[
        int, typer.Option("--extend", min=0, help="With --resume: train this many further epochs.")
    ] = 0,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            min=1,
            max=64,
            help="Share each step among this many GPUs (or processes of the CPU); the batch stays as it is. Under "
            "torchrun, leave it out.",
            show_default="compute.devices",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train an experiment. Ctrl-C stops at the next step and saves; --resume continues from there."""
    from segexplorer.frontends.cli.train import run_train

    raise typer.Exit(
        run_train(config, settings or [], output, resume, extend, devices=devices, as_json=as_json)
    )


@app.command(rich_help_panel=TRAIN)
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... IMAGE...",
            help="Run folders, several as an ensemble; then images, each a case of its own, folders of images, "
            "data sets, or lists of cases.",
            autocompletion=completion.run_folders,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File, or folder for several images.")],
    checkpoint: Checkpoint = "best",
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


ForkStep = Annotated[
    int | None,
    typer.Option("--step", help="Step where it leaves the run.", show_default="newest checkpoint"),
]
ForkSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="What is changed, e.g. loss.kind=tversky or loss.beta=0.9.",
        autocompletion=completion.experiment_settings,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it costs; train nothing.")]


@app.command(rich_help_panel=TRAIN)
def fork(
    run: RunFolder,
    settings: ForkSettings = None,
    step: ForkStep = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="How many steps it trains.", show_default="to the end of its epochs"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Run folder to make.", show_default="segexplorer-runs/TIME-fork-of-RUN"
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train on from any step of a run with another loss or setting: same weights, same batches."""
    from segexplorer.frontends.cli.race import run_fork

    raise typer.Exit(run_fork(run, settings or [], step, steps, output, dry_run=dry_run, as_json=as_json))


@app.command(rich_help_panel=TRAIN)
def race(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder; or the folder of a race, which is trained to its end and told again.",
            autocompletion=completion.run_folders,
        ),
    ],
    settings: ForkSettings = None,
    step: ForkStep = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many steps each lane trains.")] = 50,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            min=1,
            help="Steps between predictions of the watched cases.",
            show_default="a tenth of --steps",
        ),
    ] = None,
    controls: Annotated[
        int, typer.Option("--controls", min=0, help="Lanes that differ from A in their batches alone.")
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder to make.", show_default="segexplorer-runs/TIME-race-of-RUN"
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train two lanes from one step, A as it was and B changed, with a control; say what differs beyond it."""
    from segexplorer.frontends.cli.race import run_race

    raise typer.Exit(
        run_race(
            run,
            settings or [],
            step,
            steps,
            every,
            controls,
            output,
            dry_run=dry_run,
            as_json=as_json,
        )
    )


@app.command(rich_help_panel=TRAIN)
def export(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="File or folder to make.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="monai-bundle, onnx ...; see `segexplorer list exporters`.",
            autocompletion=completion.kinds_of("exporters"),
        ),
    ],
    checkpoint: Checkpoint = "best",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Set a value of the format, e.g. patch_size=[96,96,96].",
            autocompletion=completion.exporter_settings,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a trained network with its preprocessing, for use in other programs."""
    from segexplorer.frontends.cli.export import run_export
    from segexplorer.frontends.cli.settings import parse_settings

    run_export(run, kind, output, checkpoint, parse_settings(settings or []), overwrite=overwrite)


@app.command(rich_help_panel=TRAIN)
def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(
            help="Label file of any format, or a folder of them; with --split: a run folder.",
            autocompletion=completion.run_folders,
        ),
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
        typer.Option(help=f"With --split. {WEIGHTS}", show_default="best, or as recorded"),
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
            autocompletion=completion.metric_names,
        ),
    ] = "",
    protocol: Annotated[
        str,
        typer.Option(help="Also score as a published code does: coactseg.", show_default=False),
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Set an option of metrics, e.g. matching=iou.",
            autocompletion=completion.metric_settings,
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
    formats: PlotFormats = "svg",
    resample: Annotated[
        bool,
        typer.Option(
            "--resample", help="Bring predictions on another lattice onto the truth's (nearest voxel)."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions, or a run's own test cases: per case and class, and over cases, on whole volumes."""
    if split is None:
        from segexplorer.frontends.cli.evaluate import require_truth, run_evaluate

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
    from segexplorer.frontends.cli.evaluate_split import refuse_with_split, run_evaluate_split

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
    overwrite: Overwrite = False,
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
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="Set a value in every run; repeatable.",
            autocompletion=completion.experiment_settings,
        ),
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
    on: Annotated[
        Literal["local", "slurm", "ray", "list"] | None,
        typer.Option(
            help="Who trains: processes here, jobs of SLURM, tasks of Ray; list prints a command per run.",
            show_default="cluster.kind, else one after the other",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Runs at once.", min=1, show_default="cluster.max_jobs, else as many as there is room"
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only show the state of every run of the study.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Only cancel what was launched; runs in training are saved.")
    ] = False,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Try again what failed, needed a correction, or was given up."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train every experiment of a file's matrix that is not done yet, then compare them."""
    from segexplorer.frontends.cli.study import StudyRequest, cancel_study, run_study, study_status

    asked = [
        word for word, given in (("--status", status), ("--cancel", cancel), ("--retry", retry)) if given
    ]
    if len(asked) > 1 or (asked and (dry_run or on == "list")):
        raise SpecError(f"{asked[0]} goes with no other of these.", "Give one at a time.")
    request = StudyRequest(config, output, settings or [], allow or [], split, on, jobs)
    if status:
        raise typer.Exit(study_status(request, as_json=as_json))
    if cancel:
        raise typer.Exit(cancel_study(request))
    raise typer.Exit(run_study(request, dry_run=dry_run, as_json=as_json, retry=retry))


@app.command("run-one", hidden=True)
def run_one(
    study: Annotated[Path, typer.Argument(help="Folder of a study that was launched or listed.")],
    name: Annotated[str, typer.Argument(help="Name of one of its runs.")],
    launch: Annotated[str, typer.Option(help="Launch on whose behalf it is.")] = "",
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Save and end when standard input ends.")
    ] = False,
) -> None:
    """Train one run of a study, as a scheduler's worker."""
    from segexplorer.frontends.cli.run_one import run_one as train_one

    raise typer.Exit(train_one(study, name, launch=launch, with_parent=with_parent))


@app.command(rich_help_panel=LOOK)
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


@app.command("open", rich_help_panel=LOOK)
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
    workers: Annotated[int, typer.Option(min=1, help="Processes that score.")] = 1,
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def verify(
    run: Archive,
    as_json: AsJson = False,
) -> None:
    """Read all that a run folder holds, compare its checksums, and say what is sound (exit code 2: not all)."""
    from segexplorer.frontends.cli.verify import run_verify

    raise typer.Exit(run_verify(run, as_json=as_json))


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def replay(
    run: Archive,
    speed: Annotated[float, typer.Option(min=0, help="Times as fast as it was; 0: without waiting.")] = 10.0,
    window: InWindow = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events, one line of JSON each.")] = False,
) -> None:
    """Play a run again as it was, on the terminal or in the window, or the lanes of a race in the window."""
    from segexplorer.frontends.cli.replay import run_replay

    raise typer.Exit(run_replay(run, speed, window=window, as_json=as_json))


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=TRAIN)
def relabel(
    run: RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new version.")],
    labels: Annotated[
        str,
        typer.Option(
            help="Folder of corrected labels, or a pattern with {case}.", show_default="those readers painted"
        ),
    ] = "",
    single: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="CASE=FILE", help="The corrected label of a case; repeatable."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train.", show_default="a fourth of the run's")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="a tenth of the run's")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the experiment at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put corrected labels together as a new version of a run's data, and fine-tune the run with them."""
    from segexplorer.frontends.cli.relabel import run_relabel

    code = run_relabel(
        run,
        output,
        labels=labels,
        single=single or [],
        epochs=epochs,
        learning_rate=learning_rate,
        train=train,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command(rich_help_panel=TRAIN)
def share(
    run: RunFolder,
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
    notes: Annotated[
        bool, typer.Option("--notes", help="Notes of verdicts on errors, too: they are free text.")
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
        notes=notes,
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
        str | None,
        typer.Argument(
            help="losses, networks, datasets ...",
            show_default=False,
            autocompletion=completion.family_names,
        ),
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
    family: Annotated[
        str,
        typer.Argument(
            help="losses, networks, datasets ...; or the name alone.",
            autocompletion=completion.family_or_kind,
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Its name, e.g. tversky.",
            show_default=False,
            autocompletion=completion.kinds_of_family,
        ),
    ] = None,
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
        typer.Argument(
            metavar="NETWORK...",
            help="Networks by name, or experiment files (YAML).",
            autocompletion=completion.kinds_of("networks"),
        ),
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
def cache(
    action: Annotated[
        Literal["size", "list", "clear", "limit"],
        typer.Argument(
            help="What to do: print the size, list the files, delete those not in use, set a limit."
        ),
    ] = "size",
    amount: Annotated[
        str | None,
        typer.Argument(help="The limit, e.g. 200GB; none: half of the disk.", show_default=False),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option("--folder", help="The cache folder, where it is not the usual one.", show_default=False),
    ] = None,
    unused_days: Annotated[
        float, typer.Option("--unused-days", min=0, help="Clear only what was not used for so many days.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Look after the prepared cases that all runs on this computer, or of a team, share."""
    from segexplorer.frontends.cli.cache import run_cache

    run_cache(action, amount, folder, unused_days, as_json=as_json)


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
