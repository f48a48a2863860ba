"""``cxr-dicom calibrate``: operating points and probabilities that fit this site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, EXIT_NOTHING, Refused
from cxr_dicom.cli._options import OutputFile
from cxr_dicom.cli._truth import reading, table_options

if TYPE_CHECKING:
    from cxr_dicom.results.calibrate import Aim, Calibration, Method

KINDS = ("sensitivity", "specificity", "ppv", "youden")


@click.command(
    epilog="Exit codes: 0 written, 2 usage, 3 written, but some findings have too few patients, 4 nothing to write."
)
@click.argument("out", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--truth",
    metavar="TABLE",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or Parquet, as `evaluate` reads it.",
)
@click.option("-o", "--output", metavar="FILE", required=True, type=OutputFile(), help="The file to write (TOML).")
@click.option(
    "--aim",
    "aims",
    metavar="[FINDING.]KIND[=VALUE]",
    multiple=True,
    help="sensitivity=0.9, specificity=0.9, ppv=0.5 or youden, of all findings or of one; default: youden.",
)
@click.option(
    "--calibration",
    type=click.Choice(["platt", "isotonic", "none"]),
    default="platt",
    show_default=True,
    help="How scores become probabilities.",
)
@click.option("--finding", "findings", metavar="NAME", multiple=True, help="Only this one; may be given again.")
@table_options
def calibrate(
    out: Path,
    truth: Path,
    output: Path,
    aims: tuple[str, ...],
    calibration: str,
    findings: tuple[str, ...],
    columns: tuple[str, ...],
    patient: str | None,
    uncertain: str,
    blank: str,
) -> None:
    """Choose operating points on the results of `run` in OUT, and calibrate their scores.

    The file goes to `[models] operating_points`. Sensitivity and specificity are those of patients that a point was
    not chosen on.
    """
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.results.calibrate import calibrate, file

    method: Method = "isotonic" if calibration == "isotonic" else "platt" if calibration == "platt" else "none"
    how = reading(columns, patient, uncertain, blank)
    try:
        made = calibrate(out, truth, how, aims=dict(map(_aim, aims)), method=method, findings=findings)
        if made.points:
            file.write(output, made.points)
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    _show(made, output)
    if made.points is None:
        raise click.exceptions.Exit(EXIT_NOTHING)
    if made.refused:
        raise click.exceptions.Exit(EXIT_FAILED)


def _aim(text: str) -> tuple[str | None, Aim]:
    from cxr_dicom.results.calibrate import Aim

    name, equals, value = text.partition("=")
    finding, _, kind = name.rpartition(".")
    try:
        share = float(value) if equals else None
    except ValueError:
        share = -1.0
    for known in KINDS:
        if kind == known and (share is None) == (known == "youden") and (share is None or 0 < share < 1):
            return finding or None, Aim(kind=known, value=share)  # type: ignore[arg-type]
    raise click.UsageError(
        f"--aim: expected [FINDING.]sensitivity=VALUE, specificity=VALUE, ppv=VALUE or youden, found {text!r}"
    )


def _show(made: Calibration, output: Path) -> None:
    for refusal in made.refused:
        click.echo(f"{refusal.name}: {refusal.why}", err=True)
    if made.points is None:
        click.echo("nothing was written", err=True)
        return
    points = made.points
    click.echo(f"{points.patients} patients, by {points.grouped_by}, with {points.images} images")
    for model in points.models:
        for name, point in model.findings.items():
            upstream = "none" if point.upstream is None else f"{point.upstream:.4g}"
            (s, s_low, s_high), (p, p_low, p_high) = point.sensitivity, point.specificity
            errors = point.calibration_error
            click.echo(
                f"{name} of {model.name}: {point.operating_point:.4g} for {point.aim} (the model's own: {upstream});"
                f" sensitivity {s:.2f} ({s_low:.2f} to {s_high:.2f}), specificity {p:.2f} ({p_low:.2f} to {p_high:.2f})"
                + (f"; calibration error {errors[0]:.3f}, then {errors[1]:.3f}" if errors else "")
            )
    click.echo(f"{output}: name it in [models] operating_points")
