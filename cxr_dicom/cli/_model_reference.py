"""The list of models with their labels and codes, made from the models themselves.

``python -m cxr_dicom.cli._model_reference > docs/models/list.md`` writes it; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from cxr_dicom.dicom.codes import PRIVATE_SCHEME
from cxr_dicom.infer import model_infos
from cxr_dicom.infer.cxas_structures import STRUCTURES as CXAS_STRUCTURES
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.infer.models import attributes, chestx_det
from cxr_dicom.records import Code, Structure

_INTRODUCTION = f"""\
# List of models

Made from the program by `python -m cxr_dicom.cli._model_reference > docs/models/list.md`; do not edit by hand.

SCT is SNOMED CT, DCM the DICOM vocabulary (PS3.16), {PRIVATE_SCHEME} the private scheme of this project.
"""


def reference() -> str:
    """Return the lists as Markdown."""
    return "\n".join(
        (
            _INTRODUCTION,
            *_section("Models", ("name", "what", "input", "made by", "licence", "file", "citation"), _models()),
            *_section("Findings", ("name", "upstream label", "code", "site"), _findings()),
            *_section("Structures of chestx-det", _STRUCTURE, _structures(chestx_det.STRUCTURES)),
            *_section("Structures of cxas", _STRUCTURE, _structures(CXAS_STRUCTURES)),
            *_section("Attributes", ("name", "code"), ((name, _text(code)) for name, code in attributes.CODES.items())),
        )
    )


_STRUCTURE = ("name", "code", "side", "colour")


def _section(title: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _models() -> Iterator[tuple[str, ...]]:
    for name, info in sorted(model_infos().items()):
        size = f"{info.input_size} × {info.input_size}" if info.input_size else "any"
        file = f"`{info.weights_file}`" if info.weights_file else "in the package"
        yield f"`{name}`", info.title, size, info.manufacturer, info.licence, file, info.citation


def _findings() -> Iterator[tuple[str, ...]]:
    for label, kind in FINDINGS.items():
        yield f"`{kind.name}`", label, _text(kind.code), _text(kind.site) if kind.site else ""


def _structures(structures: Iterable[Structure]) -> Iterator[tuple[str, ...]]:
    for structure in structures:
        side = structure.laterality.meaning if structure.laterality else ""
        yield f"`{structure.name}`", _text(structure.type), side, "#{:02x}{:02x}{:02x}".format(*structure.colour)


def _text(code: Code) -> str:
    return f"{code.value} {code.scheme} “{code.meaning}”"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
