"""`segexplorer verify`: whether a run folder, or an archive that `share` packed, is whole."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from segexplorer.core.errors import ExitCode
from segexplorer.frontends.cli.terminal import print_json, remarks, results

_COLOURS = {"sound": "green", "note": "yellow", "damaged": "red"}


def run_verify(run: Path, *, as_json: bool) -> int:
    """Print a line for every part of a run folder, and how many are damaged.

    Returns
    -------
    `ExitCode.DONE` where nothing is damaged, else `ExitCode.MISTAKE`.
    """
    from segexplorer.training.sharing import unpacked_run
    from segexplorer.training.verification import is_sound, verify_run

    with unpacked_run(run) as folder:
        findings = verify_run(folder)
    sound = is_sound(findings)
    if as_json:
        files = [{"name": f.name, "state": f.state, "text": f.text} for f in findings]
        print_json({"run": str(run), "sound": sound, "files": files})
    else:
        out = results()
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            state = Text(f"{finding.state:9}", _COLOURS[finding.state])
            out.print(state.append(f"{finding.name:{width}}  {finding.text}", "default"), soft_wrap=True)
        damaged = sum(finding.state == "damaged" for finding in findings)
        verdict = "Everything is sound." if sound else f"Damaged: {damaged} of {len(findings)}."
        remarks().print(verdict, soft_wrap=True)
    return ExitCode.DONE if sound else ExitCode.MISTAKE
