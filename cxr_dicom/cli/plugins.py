"""``cxr-dicom plugins``: all choices, and the packages that they come from."""

from __future__ import annotations

import json

import click


@click.command(epilog="Exit codes: 0 all that is installed can be used, 3 something is broken.")
@click.option("--all", "is_all", is_flag=True, help="Include the choices of cxr-dicom itself.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each, those of cxr-dicom included.")
def plugins(is_all: bool, as_json: bool) -> None:
    """List what installed packages add: models, encoders, destinations, archives, exporters, engines.

    What cannot be used is listed with the reason. It stops only a command that names it.
    """
    from cxr_dicom.cli import EXIT_FAILED
    from cxr_dicom.plugins import SEAMS

    rows = []
    for seam in SEAMS:
        shown = {name: choice for name, choice in seam.choices.items() if is_all or as_json or not choice.is_ours}
        rows += [_row(seam.name, name, choice.distribution, choice.version) for name, choice in shown.items()]
        rows += [
            _row(seam.name, choice.name, choice.distribution, choice.version, choice.problem) for choice in seam.broken
        ]
    for row in rows:
        package, problem = f"{row['package']} {row['version']}", row["problem"]
        line = f"{row['seam']:14}{row['name']:26}{package}" + (f"  cannot be used: {problem}" if problem else "")
        click.echo(json.dumps(row) if as_json else line)
    if not rows:
        click.echo("no other packages are installed; `--all` lists what comes with cxr-dicom")
    raise click.exceptions.Exit(EXIT_FAILED if any(row["problem"] for row in rows) else 0)


def _row(seam: str, name: str, package: str, version: str, problem: str | None = None) -> dict[str, str | None]:
    return {"seam": seam, "name": name, "package": package, "version": version, "problem": problem}
