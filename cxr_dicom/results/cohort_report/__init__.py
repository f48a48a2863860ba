"""The page of a cohort: one self-contained HTML file, pictures first, no network, no patient data.

Rows are read twice: once for the figures, once for the table that the page carries. Images are named
by UID and by their line in ``results.jsonl``; file names stay out, because archives put names of
patients into them. Age and sex come in groups only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cxr_dicom import __version__
from cxr_dicom.config import RESULT_TABLES
from cxr_dicom.infer import model_infos
from cxr_dicom.records import ModelInfo
from cxr_dicom.results import pages
from cxr_dicom.results.cohort_report import _speed, _table
from cxr_dicom.results.cohort_report._agreement import Agreement
from cxr_dicom.results.cohort_report._extremes import Extremes
from cxr_dicom.results.cohort_report._flow import Flow
from cxr_dicom.results.cohort_report._quality import PIXELS, Quality
from cxr_dicom.results.cohort_report._ratio import Ratios
from cxr_dicom.results.cohort_report._scores import Scores
from cxr_dicom.results.schema import Row, RowsOf
from cxr_dicom.system import atomic

_PRIVATE_SETTINGS = ("folder", "mirror", "operating_points")  # of models: where they lie says more than a reader needs


def write(
    path: Path,
    rows: RowsOf,
    run: Mapping[str, Any],
    thumbnail_of: Callable[[Row], str | None],
    infos: Mapping[str, ModelInfo] | None = None,
) -> None:
    """Write the page of a cohort.

    Parameters
    ----------
    path
        The file.
    rows
        Gives all rows anew at each call.
    run
        The content of ``run.json``; what is missing is not shown.
    thumbnail_of
        Returns a small picture with what was found on it, as a ``data:`` URI; called for few rows only.
    infos
        What the models are, by name; default: those installed.
    """
    flow, extremes, scores, ratios = Flow(), Extremes(), Scores(), Ratios()
    agreement, quality = Agreement(), Quality()
    for line, row in enumerate(rows(), start=1):
        for part in (flow, extremes, scores, ratios, agreement, quality):
            part.add(row, line)
    shown = scores.names[: _table.MAX_SCORES]
    script = pages.source("cohort_report/page.js")
    page = pages.template("cohort_report/page.html.jinja").generate(
        package_version=__version__,
        script=Markup(script),  # noqa: S704, our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        run=run,
        flow=flow,
        speed=_speed,
        extremes=extremes.sections(thumbnail_of),
        scores=scores.sections(),
        ratios=ratios,
        agreement=agreement,
        quality=quality,
        pixels=PIXELS,
        models=_models(run, model_infos() if infos is None else infos),
        settings=_settings(run),
        layout=_table.layout(shown, [scores.pointed(name) for name in shown]),
        packed=lambda: _table.packed(rows, shown),
    )
    with atomic.open_text(path) as file:
        file.writelines(page)


def _models(run: Mapping[str, Any], infos: Mapping[str, ModelInfo]) -> Iterator[dict[str, Any]]:
    for model in run.get("models", ()):
        yield {**model, "info": infos.get(model["name"])}


def _settings(run: Mapping[str, Any]) -> str:
    tables = {name: dict(run["settings"][name]) for name in RESULT_TABLES if name in run.get("settings", {})}
    for private in _PRIVATE_SETTINGS:
        tables.get("models", {}).pop(private, None)
    return json.dumps(tables, indent=2, ensure_ascii=False, default=str)
