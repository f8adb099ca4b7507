"""Commands of the group *What there is*; what is heavy is imported inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segexplorer.core.errors import SpecError
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.commands.options import AsJson

commands = typer.Typer()
PANEL = "What there is"


@commands.command(rich_help_panel=PANEL)
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


@commands.command("list", rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
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


@commands.command(rich_help_panel=PANEL)
def plugins(as_json: AsJson = False) -> None:
    """List the installed plug-ins and whether each could be loaded."""
    from segexplorer.frontends.cli.catalogue import print_plugins

    print_plugins(as_json=as_json)


@commands.command(rich_help_panel=PANEL)
def schema() -> None:
    """Print the JSON schema of an experiment file, for editors."""
    from segexplorer.frontends.cli.catalogue import print_schema

    print_schema()
