"""``cxr-dicom evaluate``: what a run says, against what experts say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, EXIT_NOTHING, Refused
from cxr_dicom.cli._options import OutputFolder
from cxr_dicom.cli._service import config_option, share_output
from cxr_dicom.cli._truth import fetched_truth, reading, table_options

if TYPE_CHECKING:
    from cxr_dicom.results.evaluate import Evaluation, Reading

METRICS = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "dice")


@click.command(epilog="Exit codes: 0 evaluated, 2 usage, 3 a figure is below a limit, 4 no image has a truth.")
@click.argument("out", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--truth",
    "truths",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="CSV or Parquet, or DICOM: a file or a folder of SEG, RTSTRUCT, SR. May be given again.",
)
@click.option(
    "--from",
    "origin",
    metavar="ARCHIVE",
    help="Fetch SEG, RTSTRUCT and SR of the studies from an archive of [poller], or from a DICOMweb URL.",
)
@config_option
@click.option("-o", "--output", metavar="EVAL", type=OutputFolder(), help="Output folder.")
@table_options
@click.option("--by", metavar="COLUMN", multiple=True, help="Column to group images by, such as the manufacturer.")
@click.option(
    "--fail-under",
    "limits",
    metavar="[NAME.]METRIC=VALUE",
    multiple=True,
    help=f"Lowest value that is accepted, of each finding or of NAME; {', '.join(METRICS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    out: Path,
    truths: tuple[Path, ...],
    origin: str | None,
    config: Path | None,
    output: Path | None,
    columns: tuple[str, ...],
    patient: str | None,
    by: tuple[str, ...],
    uncertain: str,
    blank: str,
    limits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare the results of `run` in OUT with what experts say.

    Truth is matched to images by SOP or Study Instance UID, accession number or file name.
    """
    from cxr_dicom.results.evaluate import failures

    if not (truths or origin):
        raise click.UsageError("give --truth, --from, or both")
    wanted = [_limit(text) for text in limits]
    if output:
        share_output(config)
    with fetched_truth(out, origin, config) as fetched:
        evaluation = _evaluate(out, (*truths, *fetched), reading(columns, patient, uncertain, blank, by), output)
    if as_json:
        click.echo(json.dumps(evaluation.as_dict(), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        from cxr_dicom.cli._evaluation import show

        show(evaluation, output)
    if not evaluation.images:
        click.echo("no processed image has a truth", err=True)
        raise click.exceptions.Exit(EXIT_NOTHING)
    failed = list(failures(evaluation, wanted))
    for line in failed:
        click.echo(line, err=True)
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)


def _limit(text: str) -> tuple[str | None, str, float]:
    name, _, value = text.rpartition("=")
    finding, _, metric = name.rpartition(".")
    try:
        limit = float(value)
    except ValueError:
        limit = -1.0
    if metric not in METRICS or not 0 <= limit <= 1:
        raise click.UsageError(
            f"--fail-under: expected [NAME.]METRIC=VALUE with one of {', '.join(METRICS)} and 0 to 1, found {text!r}"
        )
    return finding or None, metric, limit


def _evaluate(out: Path, truths: tuple[Path, ...], how: Reading, output: Path | None) -> Evaluation:
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.results.evaluate import evaluate, page, tables

    try:
        evaluation = evaluate(out, truths, how)
        if output:
            tables.write(output, evaluation)
            page.write(output, evaluation, _pictures(out))
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    return evaluation


def _pictures(out: Path) -> Callable[[str, str, int], str | None]:
    """Return what finds the small picture of an image that a run kept: by its study, else by its path."""
    from cxr_dicom.cohort.journal import Journal
    from cxr_dicom.ingest.manifest.entries import key_of
    from cxr_dicom.results.rows import read_jsonl

    kept, paths = Journal(out), list[str]()

    def find(study: str, image: str, line: int) -> str | None:
        state = kept.load(study)
        if state is None:
            paths[:] = paths or [row["path"] for row in read_jsonl(out / "results.jsonl")]
            state = kept.load(key_of(Path(paths[line - 1]).absolute().as_uri()))
        figures = state.figures.get(image, []) if state else []
        return str(figures[0]["source"]) if figures else None

    return find
