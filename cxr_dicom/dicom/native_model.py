"""XML of the Native DICOM Model (PS3.19 A.1.5) as the mapping that DICOM JSON would be (PS3.18 F)."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

_MOST_BYTES = 1 << 20
_DEEPEST = 32  # elements


def dataset_of(content: bytes) -> dict[str, Any]:
    """Read a data set; what is no part of the model is left out.

    Raises
    ------
    ValueError
        If it is no such XML, too long or too deep, or has a document type, with which XML may grow without end.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes of XML, found {len(content)}")
    model = _Model()
    parser = ElementTree.XMLParser(target=model)  # noqa: S314 - bounded, and without a document type
    try:
        parser.feed(content)
        parser.close()
    except (ElementTree.ParseError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("expected the Native DICOM Model in XML, found something else") from error
    return model.dataset


class _Model:
    """What the parser tells: data sets are mappings by tag, their values lists, of texts or data sets."""

    def __init__(self) -> None:
        self.dataset: dict[str, Any] = {}
        self._open: list[Any] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise ValueError(f"expected at most {_DEEPEST} elements in each other, found more")
        made: Any = None
        within: Any = self._open[-1] if self._open else None
        match name.rpartition("}")[2]:
            case "NativeDicomModel" if not self._open:
                made = self.dataset
            case "DicomAttribute":
                made = within[attributes["tag"].upper()] = {"Value": []}
            case "Item":
                made = {}
                within["Value"].append(made)
            case "Value":
                made = []
        self._open.append(made)

    def data(self, text: str) -> None:
        if self._open and isinstance(self._open[-1], list):
            self._open[-1].append(text)

    def end(self, name: str) -> None:
        made = self._open.pop()
        if isinstance(made, list):
            self._open[-1]["Value"].append("".join(made))

    def doctype(self, *_: object) -> None:
        raise ValueError("expected XML without a document type")
