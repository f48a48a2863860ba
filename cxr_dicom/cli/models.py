"""``cxr-dicom models``: which models there are, and their weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._models_add import add
from cxr_dicom.cli._options import OutputFile, OutputFolder

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.records import ModelInfo
    from cxr_dicom.results.card import Card

    ReportProgress = Callable[[int, int], None]

_MEGABYTE = 1_000_000

_config = click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file (TOML).")
_names = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.group(epilog="Exit codes: 0 done, 2 it cannot be done: the text says why and what to do.")
def models() -> None:
    """List and describe models; fetch, check and move their weights."""


models.add_command(add)


@models.command("list")
@_names
@_config
@click.option("-l", "--long", "is_long", is_flag=True, help="Also labels, file, licence and citation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
def list_(names: tuple[str, ...], config: Path | None, is_long: bool, as_json: bool) -> None:
    """List models: what they predict, and whether their weights are here."""
    from cxr_dicom.infer import catalogue

    with _refusing():
        settings = _settings(config)
        rows = [catalogue.described(info, settings) for info in _chosen(names, settings)]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    if not is_long:
        click.echo(f"{'NAME':26}{'WEIGHTS':12}{'INPUT':>6}  TITLE")
    for row in rows:
        click.echo(_described(row) if is_long else _line(row))


@models.command()
@click.argument("name")
@_config
@click.option(
    "--evaluation",
    metavar="EVAL",
    type=click.Path(exists=True, path_type=Path),
    help="What `evaluate -o EVAL` found at this site.",
)
@click.option("-o", "--output", metavar="FILE", type=OutputFile(), help="Write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def card(name: str, config: Path | None, evaluation: Path | None, output: Path | None, as_json: bool) -> None:
    """Tell what is known of model NAME, for those who decide about it.

    What it predicts, training data, licence, operating points, parity, known failures; how it does at this site, with
    the operating points of the settings and an evaluation.
    """
    from cxr_dicom.results import card as cards
    from cxr_dicom.system import atomic

    with _refusing():
        settings = _settings(config)
        made = cards.card(_chosen((name,), settings)[0].name, settings, evaluation)
        if output:
            atomic.share(settings.files.shared)
            cards.write(output, made)
    if as_json:
        click.echo(json.dumps(made.as_dict(), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        click.echo("\n".join(_card(made)))
        if output:
            click.echo(f"\n{output}")


@models.command()
@click.argument("name", required=False)
@_config
def path(name: str | None, config: Path | None) -> None:
    """Print the folder of the weights, or where the file of model NAME belongs."""
    from cxr_dicom.infer import weights

    with _refusing():
        settings = _settings(config)
        place = weights.source_path(_chosen((name,), settings)[0], settings) if name else weights.folder(settings)
    click.echo(place)


@models.command()
@_names
@_config
@click.option("--all", "is_all", is_flag=True, help="Every model that is served by HTTP.")
@click.option("--dest", type=OutputFolder(), help="Folder; default: as `models path`.")
def pull(names: tuple[str, ...], config: Path | None, is_all: bool, dest: Path | None) -> None:
    """Fetch weights; an interrupted download is continued.

    They come from TorchXRayVision's own addresses and go to its own folder, so that both share them.
    """
    from cxr_dicom.infer import weights
    from cxr_dicom.infer.weights import pull as weights_pull
    from cxr_dicom.system.digest import sha256

    with _refusing():
        settings = _settings(config, folder=dest)
        for info in _with_weights(names, is_all=is_all):
            if weights.is_present(info, settings):
                click.echo(f"{info.name}: already here")
                continue
            with _bar(info.name) as report_progress:
                place = weights_pull.pull(info, settings, report_progress)
            click.echo(f"{info.name}: {place}\n  licence: {info.licence}\n  SHA-256: {sha256(place)}")


@models.command()
@_names
@_config
def verify(names: tuple[str, ...], config: Path | None) -> None:
    """Check weights against what was recorded; the first time, convert and record them.

    Without NAME: all that are here.
    """
    with _refusing():
        settings = _settings(config)
        for info in _here(names, settings, own=True):
            click.echo(f"{info.name}: {_verified(info, settings)}")


@models.command()
@click.argument("file", type=OutputFile())
@_names
@_config
def export(file: Path, names: tuple[str, ...], config: Path | None) -> None:
    """Write weights to the tar FILE, for a machine without a network.

    Without NAME: all that are here. They are verified first.
    """
    from cxr_dicom.infer.weights import read_lock, source_path
    from cxr_dicom.infer.weights.bundle import pack

    with _refusing():
        settings = _settings(config)
        infos = _here(names, settings, own=False)
        for info in infos:
            _verified(info, settings)
        pack(infos, settings, file)
    click.echo(f"{file}: {', '.join(info.name for info in infos)}")
    for info in infos:
        lock = read_lock(source_path(info, settings))
        click.echo(f"{info.name}: {lock.loaded_sha256 if lock else ''}  {lock.loaded if lock else ''}")


@models.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_config
def import_(file: Path, config: Path | None) -> None:
    """Bring weights from a tar FILE that `models export` wrote."""
    from cxr_dicom.infer.weights.bundle import unpack

    with _refusing():
        made = unpack(file, _chosen(()), _settings(config))
    click.echo(f"imported: {', '.join(info.name for info in made)}")


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a named error into the one line of a refused command."""
    from cxr_dicom.errors import CxrDicomError

    try:
        yield
    except CxrDicomError as error:
        raise Refused(str(error)) from error


def _settings(config: Path | None, folder: Path | None = None) -> Settings:
    from cxr_dicom.config import load

    return load(config, {"models": {"folder": folder}} if folder else None)


def _chosen(names: tuple[str, ...], settings: Settings | None = None) -> list[ModelInfo]:
    """Models by name, in the order given; every model without a name; the user's own only with ``settings``."""
    from cxr_dicom.infer import model_infos

    infos = model_infos(settings)
    for name in names:
        if name not in infos:
            raise Refused(f"{name!r} is not one of {', '.join(sorted(infos))}")
    return [infos[name] for name in names or sorted(infos)]


def _with_weights(names: tuple[str, ...], *, is_all: bool) -> list[ModelInfo]:
    if bool(names) == is_all:
        raise click.UsageError("give the names of models, or --all")
    served = [
        info for info in _chosen(()) if info.weights_file and (info.weights_url or "").endswith(info.weights_file)
    ]
    return served if is_all else _chosen(names)


def _here(names: tuple[str, ...], settings: Settings, *, own: bool) -> list[ModelInfo]:
    from cxr_dicom.infer.weights import is_present

    chosen = _chosen(names, settings if own else None)
    if names:
        return chosen
    infos = [info for info in chosen if info.weights_file and is_present(info, settings)]
    if not infos:
        raise Refused("no weights are here; fetch some with `cxr-dicom models pull NAME`")
    return infos


def _verified(info: ModelInfo, settings: Settings) -> str:
    """Load the model as a run does, and return the SHA-256 of its upstream file."""
    from cxr_dicom.infer import build_models

    only = {"names": (info.name,), "device": "cpu", "batch": 1, "accept_licence": (info.name,)}  # only checked
    models = build_models(settings.model_copy(update={"models": settings.models.model_copy(update=only)}))
    digests = [model.info.weights_sha256 for model in models]
    for model in models:
        model.close()
    return digests[0] or "no weights"


def _line(row: dict[str, Any]) -> str:
    package = "" if row["is_ours"] else f"  [{row['package']}]"
    if row["is_own"]:
        package = f"  [yours, SHA-256 {(row['weights_sha256'] or 'not recorded yet')[:16]}]"
    return f"{row['name']:26}{_state(row):12}{row['input_size'] or 'any':>6}  {row['title']}{package}"


def _described(row: dict[str, Any]) -> str:
    lines = {
        "predicts": f"{len(row['predicts'])}: {', '.join(row['predicts'])}",
        "input": f"{row['input_size']} x {row['input_size']}" if row["input_size"] else "any",
        "weights": f"{_state(row)}; {row['weights_file'] or 'none'}",
        "address": row["weights_url"] or ("a file of yours" if row["weights_file"] else "in the package"),
        "SHA-256": row["weights_sha256"] or "not recorded yet",
        "package": row["package"],
        "made by": row["manufacturer"],
        "licence": row["licence"],
        "citation": row["citation"],
    }
    return "\n".join([f"{row['name']}: {row['title']}", *(f"  {key:9} {text}" for key, text in lines.items()), ""])


def _card(made: Card) -> Iterator[str]:
    from cxr_dicom.results import card as cards

    yield f"{made.info.name}: {made.info.title}"
    yield from (f"  {title:16} {text}" for title, text in cards.facts(made))
    site = made.site.findings if made.site else {}
    for finding, point in made.points.items():
        own = "none" if point is None else f"{point:.4g}"
        here = f"; at this site {site[finding].operating_point:.4g} for {site[finding].aim}" if finding in site else ""
        yield f"    {finding}: {own}{here}"
    if made.evaluation:
        found = made.evaluation
        yield f"  at this site: {found.folder}, {found.images} images"
        yield from (f"    {text}" for text in found.warnings)
        for each in found.findings:
            yield f"    {each['name']}: AUROC {cards.estimate(each['auroc'])} in {each['n']} images"
        for each in found.structures:
            yield f"    {each['name']}: Dice {cards.estimate(each['dice'])} in {each['n']} images"
        for each in found.measurements:
            yield f"    {each['name']}: bias {cards.estimate(each['bias'])} in {each['n']} images"
    for row in made.parity:
        yield f"  against {row.upstream}, {row.image}, {row.what}: greatest difference {row.difference}"
    yield from (f"  {error.measurement}: {error}" for error in made.info.errors)
    yield from (f"  known failure: {text}" for text in made.info.failures)


def _state(row: dict[str, Any]) -> str:
    if row["weights_file"] is None:
        return "included"
    return f"{row['bytes'] / _MEGABYTE:.0f} MB" if row["is_present"] else "missing"


@contextmanager
def _bar(name: str) -> Iterator[ReportProgress]:
    """Show the progress of a download, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
