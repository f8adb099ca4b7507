"""Commands of the group *Train and use*; what is heavy is imported inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.commands.options import (
    WEIGHTS,
    AsJson,
    Checkpoint,
    Overwrite,
    PlotFormats,
    RunFolder,
    Select,
)

commands = typer.Typer()
PANEL = "Train and use"


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command("run-one", hidden=True)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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
