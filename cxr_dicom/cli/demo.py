"""``cxr-dicom demo``: the pipeline on two real radiographs and one that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._options import OutputFolder, exit_code, refusals, settings

if TYPE_CHECKING:
    from cxr_dicom.cohort.tally import Tally
    from cxr_dicom.results.schema import Row

SPACED = "RG1_UNCR-spaced.dcm"
SPACING_MM = 0.175  # a usual one of storage phosphor plates
FILES = {
    "RG1_UNCR.dcm": "chest radiograph",
    SPACED: "with an assumed spacing, for viewers",
    "RG1_J2KR.dcm": "chest radiograph, in JPEG 2000",
    "RG3_UNCR.dcm": "extremity, must be refused",
}


@click.command()
@click.argument("out", default="cxr-dicom-demo", type=OutputFolder())
@click.option(
    "--network", is_flag=True, help="Send them by C-STORE through the service to a small archive on this machine."
)
def demo(out: Path, network: bool) -> None:
    """Run on the sample radiographs of the package pydicom-data.

    Writes to OUT, ./cxr-dicom-demo when not given. Needs `pip install '.[demo]'` in the clone; no network.
    """
    from cxr_dicom.cli._terminal import progress
    from cxr_dicom.cohort import run as cohort_run
    from cxr_dicom.cohort.engines.here import Here
    from cxr_dicom.ingest import manifest
    from cxr_dicom.system import telemetry

    telemetry.configure()
    if network:
        from cxr_dicom.cli._demo_network import show

        raise click.exceptions.Exit(show(out, {path: FILES[path.name] for path in _samples(out)}))
    with refusals(), progress(is_quiet=False) as report_progress:
        chosen = settings(None, "auto", None, None)
        tally = cohort_run.run(manifest.read(_samples(out)), out, chosen, Here(), report_progress=report_progress)
    _show(tally, out)
    raise click.exceptions.Exit(exit_code(tally))


def _samples(out: Path) -> list[Path]:
    from pydicom.data import get_testdata_file

    from cxr_dicom.errors import how_to_install

    found = {name: get_testdata_file(name, download=False) for name in FILES if name != SPACED}
    if missing := [name for name, path in found.items() if path is None]:
        raise Refused(f"the sample images {', '.join(missing)} are not installed; {how_to_install('demo')}")
    paths = [Path(str(path)) for path in found.values()]
    return [*paths, _spaced(paths[0], out / "radiographs" / SPACED)]


def _spaced(source: Path, copy: Path) -> Path:
    r"""Write what viewers can show: the radiograph itself says Pixel Spacing 0\0."""
    from pydicom import dcmread

    from cxr_dicom.synthetic import with_pixel_spacing

    copy.parent.mkdir(parents=True, exist_ok=True)
    with_pixel_spacing(dcmread(source), SPACING_MM).save_as(copy, enforce_file_format=True)
    return copy


def _show(tally: Tally, out: Path) -> None:
    import json

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("Input", "", "Outcome", "Made, or why not")
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        name = Path(row["path"]).name
        table.add_row(name, FILES[name], row["outcome"], escape(_what(row)))
    console = Console()
    console.print(table)
    models = dict.fromkeys(name for name, _, _ in tally.models)
    console.print(f"Models: {', '.join(models) or 'none'}. Not for clinical use.", highlight=False)
    if not tally.has_scores:
        console.print(
            "No finding scores: `cxr-dicom models pull xrv-densenet121-all` fetches a classifier.", highlight=False
        )
    places = [("report.html", "pictures and numbers"), ("results.jsonl", "one line per input")]
    places += [(f"radiographs/{SPACED}", "a radiograph that 3D Slicer and OHIF can show"), *_results_of(SPACED, rows)]
    for file, what in places:
        console.print(f"{out / file}: {what}", highlight=False, soft_wrap=True)
    console.print(
        "RG1_UNCR.dcm has Pixel Spacing 0\\0, and OHIF 3.13 shows it black: `cxr-dicom run --geometry picture` "
        "writes pictures of it that every viewer shows.",
        highlight=False,
    )
    console.print(f"In the browser{_with_ohif()}: cxr-dicom view {out}", highlight=False, soft_wrap=True)


def _with_ohif() -> str:
    """Say whether the browser would show OHIF too."""
    from cxr_dicom.config import load
    from cxr_dicom.web.ohif.install import place

    return " and OHIF" if place(load()).is_dir() else " (with OHIF after `cxr-dicom viewer install`)"


def _results_of(name: str, rows: list[Row]) -> list[tuple[str, str]]:
    folders = {row["study_instance_uid"] for row in rows if Path(row["path"]).name == name and row["objects"]}
    return [(f"{folder}", "its results: load them with it") for folder in folders]


def _what(row: Row) -> str:
    if row["outcome"] != "processed":
        return f"{row['reason']}: {row['detail']}"
    return "\n".join(dict.fromkeys(object_row["kind"].replace("_", " ") for object_row in row["objects"]))
