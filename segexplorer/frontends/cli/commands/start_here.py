"""Commands of the group *Start here*; what is heavy is imported inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli.commands.options import AsJson

commands = typer.Typer()
PANEL = "Start here"


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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
