"""What a hospital's board asks of a model: what it predicts, what it was trained on, how well it does here.

The model says what it is (`ModelInfo`); the weights, its own operating points; the tests, how close it is to
upstream (``infer/parity.csv``). An evaluation and a file of operating points say how it does at this site.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from cxr_dicom.config import Settings, operating_points
from cxr_dicom.config.operating_points import FindingPoint
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer import model_infos, own, weights
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.records import ModelInfo
from cxr_dicom.results import pages
from cxr_dicom.system import atomic

_EVALUATION = "evaluation.json"
_MAX_BYTES = 256_000_000  # of an evaluation


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One comparison with upstream."""

    image: str
    what: str
    difference: str  # the greatest
    upstream: str


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """Operating points of this site, for this model."""

    file: str
    made: str
    patients: int
    images: int
    grouped_by: str
    findings: dict[str, FindingPoint]


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """What `evaluate` found of this model."""

    folder: str
    images: int
    patients: int
    grouped_by: str
    findings: list[dict[str, Any]] = field(default_factory=list)  # as in evaluation.json
    structures: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One model, with what is known of it here."""

    info: ModelInfo
    weights_sha256: str | None  # recorded at their first use
    points: dict[str, float | None]  # finding -> the model's own operating point, once its weights were used
    parity: list[Parity]
    site: SiteFile | None
    evaluation: SiteEvaluation | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        site = asdict(self) | {"site": None}
        if self.site:
            findings = {name: point.model_dump(mode="json") for name, point in self.site.findings.items()}
            site["site"] = asdict(self.site) | {"findings": findings}
        site["info"]["errors"] = [str(error) for error in self.info.errors]
        return site


def card(name: str, settings: Settings, evaluation: Path | None = None) -> Card:
    """Gather what is known of a model.

    Parameters
    ----------
    name
        Of the model.
    settings
        Where weights are, and ``[models] operating_points``.
    evaluation
        Folder that `evaluate` wrote, or its ``evaluation.json``.

    Raises
    ------
    CxrDicomError
        If there is no such model, or a file is not what it should be.
    """
    infos = model_infos(settings)
    if name not in infos:
        raise CxrDicomError(f"expected one of {', '.join(sorted(infos))}, found {name!r}")
    info = infos[name]
    lock = weights.read_lock(weights.source_path(info, settings)) if info.weights_file else None
    digest = lock.source_sha256 if lock else settings.models.pinned(name) if info.weights_file else None
    known = zip(lock.targets, lock.thresholds, strict=False) if lock else ()
    return Card(
        info=info,
        weights_sha256=digest,
        points={FINDINGS[label].name if label in FINDINGS else label: point for label, point in known if label}
        or own.points(name, settings),
        parity=list(_parity(name)),
        site=_site(info, digest, settings),
        evaluation=_evaluation(evaluation, info, digest) if evaluation else None,
    )


def write(path: Path, made: Card) -> None:
    """Write the page: self-contained, without a script."""
    with atomic.open_text(path) as file:
        file.writelines(pages.template("card.html.jinja").stream(shown(made)))


def shown(made: Card, problem: str = "") -> dict[str, Any]:
    """Return what the template of a card takes; ``problem`` says why there is no evaluation."""
    return {"it": made, "rows": dict(facts(made)), "estimate": estimate, "problem": problem}


def facts(made: Card) -> Iterator[tuple[str, str]]:
    """Yield what the model is, each fact with its title."""
    info = made.info
    yield "predicts", f"{len(info.predicts)}: {', '.join(info.predicts)}"
    yield "input", f"{info.input_size} x {info.input_size} pixels" if info.input_size else "any size"
    yield "made by", info.manufacturer
    yield "trained on", info.trained_on or "not stated: see the citation"
    yield "licence", info.licence
    yield "citation", info.citation
    yield "version", info.version
    if info.weights_file:
        yield "weights", f"{info.weights_file}, SHA-256 {made.weights_sha256 or 'not recorded: not yet used here'}"
    else:
        yield "weights", "in the package"
    if made.points or {kind.name for kind in FINDINGS.values()} & set(info.predicts):
        yield "operating points", info.operating_points or "none of its own: without a site's, nothing is called"


def estimate(value: Mapping[str, Any] | None, count: int = 3) -> str:
    """Write a figure of evaluation.json with its interval; a dash where there is none."""
    if not value or value["value"] is None:
        return "–"
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.{count}f}"
    return f"{value['value']:.{count}f} ({value['low']:.{count}f} to {value['high']:.{count}f})"


def evaluated(evaluation: Path) -> list[str]:
    """Return the names of the models that an evaluation is about.

    Raises
    ------
    CxrDicomError
        If it is none.
    """
    with _expected(evaluation) as content:
        return sorted({name for name, _, _ in content["models"]})


def _parity(name: str) -> Iterator[Parity]:
    text = resources.files("cxr_dicom.infer").joinpath("parity.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        if row.pop("model") == name:
            yield Parity(**row)


def _site(info: ModelInfo, digest: str | None, settings: Settings) -> SiteFile | None:
    path, sha256 = settings.models.operating_points, settings.models.operating_points_sha256
    if path is None:
        return None
    points = operating_points.read(path, sha256)
    found = next((model for model in points.models if model.name == info.name), None)
    if found is None:
        return None
    if digest and found.weights_sha256 != digest:
        raise CxrDicomError(f"{path}: made for weights {found.weights_sha256} of {info.name}, found {digest}")
    return SiteFile(
        file=path.name,
        made=str(points.made),
        patients=points.patients,
        images=points.images,
        grouped_by=points.grouped_by,
        findings=found.findings,
    )


def _evaluation(path: Path, info: ModelInfo, digest: str | None) -> SiteEvaluation:
    with _expected(path) as content:
        versions = {(version, sha) for name, version, sha in content["models"] if name == info.name}
        anatomy = content["anatomy"]
        of_model = [
            [each for each in part if info.name in each["models"]]
            for part in (content["findings"], anatomy["structures"], anatomy["measurements"])
        ]
        for finding in of_model[0]:
            for figure in (finding["auroc"], finding["average_precision"], finding["reliability"]["error"]):
                estimate(figure)
        found = SiteEvaluation(
            folder=_file(path).parent.name,
            images=int(content["images"]),
            patients=int(content["patients"]),
            grouped_by=str(content["grouped_by"]),
            findings=of_model[0],
            structures=of_model[1],
            measurements=of_model[2],
            warnings=list(_other_weights(versions, digest)),
        )
    if not versions:
        raise CxrDicomError(f"{_file(path)}: {info.name} did not run there")
    return found


@contextmanager
def _expected(path: Path) -> Iterator[dict[str, Any]]:
    """Give what an evaluation says; what is missing there, or of another type, is an error of ours."""
    file = _file(path)
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_MAX_BYTES))
        yield content
    except OSError as error:
        raise CxrDicomError(f"{file}: expected what `evaluate -o` wrote, found {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CxrDicomError(f"{file}: expected what `evaluate -o` wrote, found something else") from error


def _file(path: Path) -> Path:
    return path / _EVALUATION if path.is_dir() else path


def _other_weights(versions: set[tuple[str, str | None]], digest: str | None) -> Iterator[str]:
    if len(versions) > 1:
        yield "the evaluated run had several versions or weights of this model"
    if digest and any(sha != digest for _, sha in versions):
        yield "the evaluated run had other weights than those that are here"
