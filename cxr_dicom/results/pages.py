"""What all HTML pages share: one way to make them from a template, and numbers as people write them.

They all start from the style in ``page.css``.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

_UNITS = {"mm2": "mm²", "{ratio}": "", "{pixels}": "pixels", "1": ""}


def template(name: str) -> Template:
    """Return a template of this package, which escapes every text that is put into it."""
    return environment().get_template(name)


def source(name: str) -> str:
    """Return the text of a file that stands beside the templates."""
    return resources.files("cxr_dicom.results").joinpath(name).read_text(encoding="utf-8")


def amount(value: float) -> str:
    """Write a measured value with the digits that it deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def number(value: int) -> str:
    """Write a number of things."""
    return f"{value:,}"


def digits(value: float | None, count: int = 3) -> str:
    """Write a value with so many significant digits; nothing where there is none."""
    return "" if value is None else f"{value:.{count}g}"


def share(part: float, whole: float) -> str:
    """Write a part in percent: never 0% where there is something, nor 100% where something is missing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%" if 0 < percent < 10 or 99 < percent < 100 else f"{percent:.0f}%"


def unit(code: str) -> str:
    """Write a UCUM unit."""
    return _UNITS.get(code, code)


def words(name: str) -> str:
    """Write a name for people: ``pleural_effusion`` as "Pleural effusion"."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


@cache
def environment(package: str | None = None) -> Environment:
    """Return what makes pages of the templates of this package, and of the ``templates`` of another one."""
    loaders = [PackageLoader("cxr_dicom.results", ".")]
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), *loaders] if package else loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in (amount, digits, number, share, unit, words)}
    return environment
