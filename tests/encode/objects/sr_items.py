"""Content items of reports, by name."""

from typing import NamedTuple

import pydicom


class Reports(NamedTuple):
    """The reports of one study by kind."""

    lines: list[pydicom.Dataset]
    structures: list[pydicom.Dataset]
    findings: pydicom.Dataset

    @property
    def drawn(self):
        return [*self.lines, *self.structures]


def items(dataset, kind=None):
    """All content items below one, depth first."""
    for item in dataset.get("ContentSequence", []):
        if kind is None or item.ValueType == kind:
            yield item
        yield from items(item, kind)


def name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def code(item):
    return item.ConceptCodeSequence[0].CodeMeaning


def value(item):
    return float(item.MeasuredValueSequence[0].NumericValue)


def unit(item):
    return item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue


def named(container, concept):
    """The items right below one with this name."""
    return [item for item in container.ContentSequence if name(item) == concept]


def groups(report):
    return [item for item in items(report, "CONTAINER") if name(item) == "Measurement Group"]


def text(group, concept):
    return next((item.TextValue for item in named(group, concept)), None)


def group(report, tracking):
    (found,) = [each for each in groups(report) if text(each, "Tracking Identifier") == tracking]
    return found


def comments(container):
    return [item.TextValue for item in named(container, "Comment")]


def summary(report):
    """The lines that a reader reads first."""
    return [item.TextValue for item in items(report, "TEXT") if name(item) == "Summary"]


def section(report, heading):
    """The lines below one heading, which stands once."""
    (found,) = [item for item in items(report, "CONTAINER") if name(item) == heading]
    return [item.TextValue for item in named(found, "Summary")]
