"""``[models] operating_points``: the thresholds of one site, as ``cxr-dicom calibrate`` writes them.

A TOML file that says of which patients, when, and with which model and weights it was made.
"""

from __future__ import annotations

import hashlib
import tomllib
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cxr_dicom.config.table import Table
from cxr_dicom.errors import SettingsError

_MAX_BYTES = 10_000_000

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share, Share]  # value, and its 95 % interval


class Platt(Table):
    """Probability = 1 / (1 + exp(-(slope x logit(score) + intercept))) (Platt 1999)."""

    method: Literal["platt"] = "platt"
    slope: float
    intercept: float


class Isotonic(Table):
    """Straight lines between points; the first and the last value outside (Zadrozny and Elkan 2002)."""

    method: Literal["isotonic"] = "isotonic"
    scores: tuple[Share, ...] = Field(min_length=1)
    probabilities: tuple[Share, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if len(self.scores) != len(self.probabilities):
            raise ValueError("as many probabilities as scores are needed")
        for values in (self.scores, self.probabilities):
            if any(a > b for a, b in pairwise(values)):
                raise ValueError("scores and probabilities never fall")
        return self


class FindingPoint(Table):
    """The operating point of one finding at this site."""

    operating_point: float = Field(gt=0, lt=1)
    """Threshold on the network's own output."""
    upstream: float | None = None
    """The model's own."""
    aim: str
    """What it was chosen for: ``sensitivity=0.9``."""
    patients_with: int = Field(ge=1)
    patients_without: int = Field(ge=1)
    sensitivity: Interval
    """Of patients that the point was not chosen on: by cross-validation."""
    specificity: Interval
    calibration: Annotated[Platt | Isotonic, Field(discriminator="method")] | None = None
    calibration_error: tuple[Share, Share] | None = None
    """Expected calibration error before and after, by cross-validation."""


class ModelPoints(Table):
    """The operating points of one model, which hold for its weights alone."""

    name: str
    version: str
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    findings: dict[str, FindingPoint] = Field(min_length=1)


class OperatingPoints(Table):
    """The whole file."""

    format: Literal[1]
    made: date
    package_version: str
    patients: int = Field(ge=1)
    images: int = Field(ge=1)
    grouped_by: str
    """What stands for a patient."""
    truth_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    models: tuple[ModelPoints, ...] = Field(min_length=1)


def digest(path: Path) -> str:
    """SHA-256 of a file of operating points.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def read(path: Path, sha256: str | None = None) -> OperatingPoints:
    """Read a file of operating points.

    Raises
    ------
    SettingsError
        If it is none, or not the one with the digest ``sha256``.
    """
    content = _content(path)
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise SettingsError(f"{path}: expected SHA-256 {sha256} (models.operating_points_sha256), found {found}")
    try:
        return OperatingPoints.model_validate(tomllib.loads(content.decode("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"not operating points of `cxr-dicom calibrate`: {place}: {first['msg']}"
        raise SettingsError(f"{path}: {problem}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: expected TOML as `cxr-dicom calibrate` writes it, found {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: expected a file of operating points, found {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{path}: expected at most {_MAX_BYTES} bytes")
    return content
