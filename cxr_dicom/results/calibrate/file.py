"""Operating points as TOML, which people read before they trust them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_dicom.config.operating_points import OperatingPoints
from cxr_dicom.system import atomic


def write(path: Path, points: OperatingPoints) -> None:
    """Write the file that ``[models] operating_points`` takes."""
    with atomic.open_text(path, atomic.FILE_OF_ALL) as file:
        file.writelines(f"{line}\n" for line in lines(points))


def lines(points: OperatingPoints) -> Iterator[str]:
    """Yield the lines of the file."""
    yield "# Operating points of one site, made by `cxr-dicom calibrate`. Not for clinical use."
    yield "# sensitivity and specificity: value, lower and upper limit (95 %), of patients it was not chosen on."
    content = points.model_dump(mode="json", exclude_none=True)
    models = content.pop("models")
    yield from (f"{key} = {_value(value)}" for key, value in content.items())
    for model in models:
        yield ""
        yield "[[models]]"
        findings = model.pop("findings")
        yield from (f"{key} = {_value(value)}" for key, value in model.items())
        for name, finding in findings.items():
            yield ""
            yield f"[models.findings.{name}]"
            yield from (f"{key} = {_value(value)}" for key, value in finding.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # numbers and texts of JSON are those of TOML
