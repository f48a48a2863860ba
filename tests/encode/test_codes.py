"""Codes and algorithms as items, within the limits of their VRs (PS3.5 6.2), for every character set."""

import pytest

from cxr_dicom.encode.codes import algorithm_item, ascii_text, code_item, coding_scheme_items, joined
from cxr_dicom.records import Code
from tests.painted import model


def test_a_code_is_an_item_with_a_meaning_of_64_characters():
    item = code_item(Code(value="LONG", scheme="99TEST", meaning="Größe\\" + 70 * "x"))
    assert (item.CodeValue, item.CodingSchemeDesignator) == ("LONG", "99TEST")
    assert item.CodeMeaning == ("Gr??e/" + 70 * "x")[:64]
    assert {each.keyword for each in item} == {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}


def test_an_algorithm_names_its_weights():
    info = model("painted")
    item = algorithm_item(info)
    assert (item.AlgorithmName, item.AlgorithmVersion) == ("painted", info.version)
    assert item.AlgorithmParameters == f"weights SHA-256 {info.weights_sha256}"
    assert item.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_every_private_scheme_is_explained():
    items = coding_scheme_items("cxr-dicom", "99CXRDICOM", "99CXRPROB")
    assert [item.CodingSchemeDesignator for item in items] == ["99CXRDICOM", "99CXRPROB"]
    assert {item.CodingSchemeResponsibleOrganization for item in items} == {"cxr-dicom"}


@pytest.mark.parametrize(("text", "told"), [("a\\b", "a/b"), ("ä", "?"), ("abcdef", "abc"), ("", "")])
def test_text_fits_every_character_set_and_its_length(text, told):
    assert ascii_text(text, 3) == told


def test_only_what_is_there_is_joined():
    assert joined(["a", "", "b"], 64) == "a; b"
    assert joined(["a" * 9, "b"], 10) == "a" * 9 + ";"
