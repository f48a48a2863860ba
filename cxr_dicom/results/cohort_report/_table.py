"""All rows for the table of the page: packed small, unpacked by the browser."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from cxr_dicom.records import Outcome, Presence, Reason
from cxr_dicom.results.cohort_report._numbers import measured, measured_area
from cxr_dicom.results.schema import Row, RowsOf

MAX_SCORES = 32  # of an image that the page carries; the tables have all
_ROWS_AT_ONCE = 500
_GZIP = 31  # zlib's number for a gzip container
_OUTCOMES = [str(outcome) for outcome in Outcome]
_REASONS = ["", *(str(reason) for reason in Reason)]
_VIEWS = ["", "PA", "AP"]


def layout(scores: Sequence[str], pointed: Sequence[bool]) -> dict[str, Any]:
    """Return what the numbers in a packed row stand for."""
    return {
        "outcomes": _OUTCOMES,
        "reasons": _REASONS,
        "views": _VIEWS,
        "scores": list(scores),
        "pointed": list(pointed),
    }


def packed(rows: RowsOf, scores: Sequence[str]) -> Iterator[str]:
    """Yield the rows as Base64 of gzip: a line each, its fields between tabs."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    rest = b""
    for lines in _lines(rows(), scores):
        rest += squeeze.compress(lines.encode("ascii", "replace"))
        whole = len(rest) // 3 * 3  # so that pieces of Base64 can be put together
        yield base64.b64encode(rest[:whole]).decode("ascii")
        rest = rest[whole:]
    yield base64.b64encode(rest + squeeze.flush()).decode("ascii")


def _lines(rows: Iterator[Row], scores: Sequence[str]) -> Iterator[str]:
    block: list[str] = []
    for row in rows:
        block.append(_line(row, scores))
        if len(block) == _ROWS_AT_ONCE:
            yield "".join(block)
            block.clear()
    yield "".join(block)


def _line(row: Row, scores: Sequence[str]) -> str:
    ratio = measured(row, "cardiothoracic_ratio")
    areas = [measured_area(row, name) for name in ("right_lung_area", "left_lung_area")]
    lungs = None if None in areas else sum(area for area in areas if area is not None) / 100
    fields = (
        row["sop_instance_uid"] or "",
        row["study_instance_uid"] or "",
        _OUTCOMES.index(row["outcome"]),
        _REASONS.index(row["reason"] or ""),
        _VIEWS.index(row["view"] or ""),
        len(row["warnings"]),
        "" if ratio is None else round(1000 * ratio),
        "" if lungs is None else round(lungs),
        ",".join(_thousandths(row, name) for name in scores) if row["scores"] else "",
    )
    return "\t".join(map(str, fields)) + "\n"


def _thousandths(row: Row, name: str) -> str:
    """Return a score for which "above 500" is "called present", also where rounding would say otherwise."""
    score = row["scores"].get(name)
    if not score:
        return ""
    rounded = round(1000 * score["probability"])
    return str(max(rounded, 501) if score["call"] == Presence.PRESENT else rounded)
