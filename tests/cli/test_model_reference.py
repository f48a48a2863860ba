"""The list of models in the docs is that of the program."""

from cxr_dicom.cli._model_reference import reference
from tests import ROOT

DOCS = ROOT / "docs"


def test_the_list_of_models_is_that_of_the_program():
    text = (DOCS / "models" / "list.md").read_text(encoding="utf-8")
    assert text == reference(), "write it anew: python -m cxr_dicom.cli._model_reference > docs/models/list.md"
