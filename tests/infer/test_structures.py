"""Names, codes, sides and colours of anatomical structures."""

import re

import pytest
import torchxrayvision as xrv
from pydicom.sr.codedict import codes as dictionary

from cxr_dicom.dicom.codes import LEFT, PRIVATE_SCHEME, RIGHT
from cxr_dicom.infer.models import chestx_det, cxas

KNOWN = {code.value: code.meaning for code in (getattr(dictionary.SCT, name) for name in dictionary.SCT.dir())}
NOT_IN_PYDICOM = {"10024003", "74281007"}  # base of lung, myocardium
RIBS = re.compile(r"(1st|2nd|3rd|\d+th)_rib$")

BOTH = pytest.mark.parametrize("module", [chestx_det, cxas], ids=lambda module: module.__name__)


def words(label):
    """An upstream label as a set of words, in our spelling."""
    text = label.lower().replace("facies diaphragmatica", "diaphragm").replace("weasand", "esophagus")
    text = text.replace("hilus pulmonis", "hilum").replace("rib_cartilage", "costal cartilage")
    text = text.replace("vertebrae", "vertebra").replace("zone lung", "zone lung")
    text = re.sub(r"^heart (atrium|myocardium|ventricle)", r"\1", text)
    text = re.sub(r"^lung (upper|middle|lower) lobe", r"\1 lobe", text).replace("mid zone", "middle zone")
    return set(text.replace("apical zone", "apex").split())


def test_chestx_det_is_in_the_order_of_upstream():
    for structure, label in zip(chestx_det.STRUCTURES, xrv.baseline_models.chestx_det.PSPNet.targets, strict=True):
        assert set(structure.name.split("_")) == words(label)


PLURALS = {
    "lung": "lungs",
    "lung base": "lung_bases",
    "mid zone lung": "lung_middle_zones",
    "upper zone lung": "lung_upper_zones",
    "apical zone lung": "lung_apices",
    "breast": "breasts",
}


def test_cxas_is_in_the_order_of_upstream():
    assert len(cxas.STRUCTURES) == 159
    for structure, label in zip(cxas.STRUCTURES, xrv.baseline_models.chestx_anatomy.TARGETS, strict=True):
        if label in PLURALS:
            assert structure.name == PLURALS[label]
        else:
            assert set(structure.name.split("_")) == words(label), label


@BOTH
def test_names_are_unique_and_begin_with_their_side(module):
    names = [structure.name for structure in module.STRUCTURES]
    assert len(set(names)) == len(names)
    for structure in module.STRUCTURES:
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", structure.name)
        side = {"right": RIGHT, "left": LEFT}.get(structure.name.split("_")[0])
        assert structure.laterality == side
        assert not re.search(r".(left|right)", structure.name)
    assert names == list(module.MODELS[0].predicts)


@BOTH
def test_codes_are_in_the_dictionary_of_pydicom_or_known_exceptions(module):
    for structure in module.STRUCTURES:
        code = structure.type
        assert len(code.value) <= 16
        if code.scheme == PRIVATE_SCHEME or code.value in NOT_IN_PYDICOM or RIBS.search(structure.name):
            continue
        assert code.scheme == "SCT"
        assert code.value in KNOWN, structure.name


@BOTH
def test_colours_are_valid_and_stable(module):
    for structure in module.STRUCTURES:
        assert all(0 <= part <= 255 for part in structure.colour)
    stable = {structure.name: structure.colour for structure in cxas.STRUCTURES}
    assert stable["right_lung"] == (90, 155, 213)
    assert stable["right_anterior_5th_rib"] == next(
        s.colour for s in cxas.STRUCTURES if s.name == "right_anterior_5th_rib"
    )
    assert len({structure.colour for structure in module.STRUCTURES}) > 0.9 * len(module.STRUCTURES)
