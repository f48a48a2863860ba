"""Operating points of this site instead of the model's own, where the settings name a file of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cxr_dicom.config import operating_points
from cxr_dicom.config.operating_points import FindingPoint, ModelPoints, Platt
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer.classifier import Classifier, SitePoint, Target
from cxr_dicom.infer.own.boxes import OwnBoxes

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.infer.base import Model

_EDGE = 1e-6  # of a score before its logit is taken


def at_site(models: Sequence[Model], settings: Settings) -> list[Model]:
    """Return the models with the operating points that the settings name; unchanged where they name none.

    Raises
    ------
    SettingsError
        If the file was made for another model, version, weights or findings.
    """
    path, sha256 = settings.models.operating_points, settings.models.operating_points_sha256
    if path is None or sha256 is None:
        return list(models)
    points = operating_points.read(path, sha256)
    running = {model.info.name: model for model in models}
    if unknown := [entry.name for entry in points.models if entry.name not in running]:
        raise SettingsError(
            f"{path}: made for {', '.join(unknown)}, which does not run; models are {', '.join(running)}"
        )
    changed = {entry.name: _changed(running[entry.name], entry, str(path), sha256) for entry in points.models}
    return [changed.get(model.info.name, model) for model in models]


def _changed(model: Model, points: ModelPoints, path: str, sha256: str) -> Model:
    info = model.info
    if not isinstance(model, Classifier | OwnBoxes):
        raise SettingsError(f"{path}: {info.name} has no operating points that could be replaced")
    for what, expected, found in (
        ("version", points.version, info.version),
        ("weights", points.weights_sha256, info.weights_sha256),
    ):
        if expected != found:
            raise SettingsError(
                f"{path}: made for {what} {expected} of {info.name}, found {found}: scores of other weights need"
                " operating points of their own (`cxr-dicom calibrate`)"
            )
    known = {target.finding.name for target in model.targets if target.finding}
    if unknown := sorted(points.findings.keys() - known):
        raise SettingsError(f"{path}: {info.name} does not score {', '.join(unknown)}")
    return replace(model, targets=tuple(_target(target, points, sha256) for target in model.targets))


def _target(target: Target, points: ModelPoints, sha256: str) -> Target:
    point = points.findings.get(target.finding.name) if target.finding else None
    if point is None:
        return target
    site = SitePoint(sha256=sha256, upstream=target.threshold, probability=lambda raw: probability(raw, point))
    return replace(target, threshold=point.operating_point, site=site)


def probability(raw: float, point: FindingPoint) -> float | None:
    """Share of this site's images with such a score that have the finding; None where it was not calibrated."""
    calibration = point.calibration
    if calibration is None:
        return None
    if isinstance(calibration, Platt):
        inner = min(max(raw, _EDGE), 1 - _EDGE)
        logit = calibration.slope * math.log(inner / (1 - inner)) + calibration.intercept
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    import numpy as np

    return float(np.interp(raw, calibration.scores, calibration.probabilities))
