"""The 159 structures of ``cxas``, in the order of the network's outputs.

A front or back half of a rib has the code of its rib: the name says which half. The parts of the
mediastinum that radiographs suggest, and regions that join several organs, are private concepts.
"""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.dicom.codes import HEART, LUNG, SPINE, private
from cxr_dicom.infer.structures import snomed, structure
from cxr_dicom.records import Code, Structure

_CLAVICLE = snomed("51299004", "Clavicle")
_SCAPULA = snomed("79601000", "Scapula")
_DIAPHRAGM = snomed("5798000", "Diaphragm")
_KIDNEY = snomed("64033007", "Kidney")
_BREAST = snomed("76752008", "Breast")
_ATRIUM = snomed("59652004", "Atrium")
_VENTRICLE = snomed("21814001", "Ventricle")
_BASE = snomed("10024003", "Base of lung")
_MIDDLE_ZONE = snomed("281393007", "Middle zone of lung")
_UPPER_ZONE = snomed("281392002", "Upper zone of lung")
_APEX = snomed("86598002", "Apex of lung")
_UPPER_LOBE = snomed("45653009", "Upper lobe of lung")
_MIDDLE_LOBE = snomed("40020002", "Middle lobe of lung")
_LOWER_LOBE = snomed("90572001", "Lower lobe of lung")

_VERTEBRAE = {
    "c": (14806007, 39976000, 113205007, 5329002, 36978003, 36054005, 87391001),
    "t": (
        *(64864005, 53733008, 1626008, 73071006, 56401006, 45296009),
        *(62487009, 11068009, 82687006, 7610001, 12989004, 23215003),
    ),
    "l": (66794005, 14293000, 36470004, 11994002, 49668003),
}

_RIBS = {  # by number
    1: ("1st", snomed("48535007", "First rib")),
    2: ("2nd", snomed("78247007", "Second rib")),
    3: ("3rd", snomed("25888004", "Third rib")),
    4: ("4th", snomed("25523003", "Fourth rib")),
    5: ("5th", snomed("15339008", "Fifth rib")),
    6: ("6th", snomed("59558009", "Sixth rib")),
    7: ("7th", snomed("24915002", "Seventh rib")),
    8: ("8th", snomed("5953002", "Eighth rib")),
    9: ("9th", snomed("22565002", "Ninth rib")),
    10: ("10th", snomed("77644006", "Tenth rib")),
    11: ("11th", snomed("58830002", "Eleventh rib")),
    12: ("12th", snomed("43993008", "Twelfth rib")),
}


def _codes() -> Iterator[tuple[str, Code]]:
    yield "spine", SPINE
    yield "cervical_spine", snomed("122494005", "Cervical spine")
    yield "thoracic_spine", snomed("122495006", "Thoracic spine")
    yield "lumbar_spine", snomed("122496007", "Lumbar spine")
    for region, values in _VERTEBRAE.items():
        for number, value in enumerate(values, start=1):
            yield f"vertebra_{region}{number}", snomed(str(value), f"{region.upper()}{number} vertebra")
    yield "costal_cartilage", snomed("50016007", "Costal Cartilage")
    yield "sternum", snomed("56873002", "Sternum")
    yield from _both_sides("clavicles", "clavicle", _CLAVICLE)
    yield from _both_sides("scapulas", "scapula", _SCAPULA)
    yield from _ribs()
    yield "diaphragm", _DIAPHRAGM
    yield from _sides("hemidiaphragm", _DIAPHRAGM)
    yield "stomach", snomed("69695003", "Stomach")
    yield "small_bowel", snomed("30315005", "Small intestine")
    yield "duodenum", snomed("38848004", "Duodenum")
    yield "liver", snomed("10200004", "Liver")
    yield "pancreas", snomed("15776009", "Pancreas")
    yield from _sides("kidney", _KIDNEY)
    yield from _mediastinum()
    yield from _lungs()
    yield "trachea", snomed("44567001", "Trachea")
    yield "tracheal_bifurcation", private("TRACHEAL_BIFURC", "Tracheal bifurcation")
    yield from _both_sides("breasts", "breast", _BREAST)


def _sides(name: str, code: Code) -> Iterator[tuple[str, Code]]:
    yield f"left_{name}", code
    yield f"right_{name}", code


def _both_sides(pair: str, name: str, code: Code) -> Iterator[tuple[str, Code]]:
    yield pair, code
    yield from _sides(name, code)


def _ribs() -> Iterator[tuple[str, Code]]:
    for side in ("right", "left"):
        yield f"{side}_posterior_12th_rib", _RIBS[12][1]
    for number in range(11, 0, -1):
        ordinal, code = _RIBS[number]
        for side in ("right", "left"):
            for half in ("anterior", "posterior"):
                yield f"{side}_{half}_{ordinal}_rib", code
    yield "12th_rib", _RIBS[12][1]
    for number in range(11, 0, -1):
        ordinal, code = _RIBS[number]
        for half in ("posterior", "anterior"):
            yield f"{half}_{ordinal}_rib", code


def _mediastinum() -> Iterator[tuple[str, Code]]:
    yield "cardiomediastinum", private("CARDIOMEDIAST", "Cardiomediastinum")
    for part in ("upper", "lower", "anterior", "middle", "posterior"):
        yield f"{part}_mediastinum", private(f"MEDIAST_{part.upper()[:8]}", f"{part.capitalize()} mediastinum")
    yield "heart", HEART
    yield from _sides("atrium", _ATRIUM)
    yield "myocardium", snomed("74281007", "Myocardium")
    yield from _sides("ventricle", _VENTRICLE)
    yield "aorta", snomed("15825003", "Aorta")
    yield "ascending_aorta", snomed("54247002", "Ascending aorta")
    yield "descending_aorta", snomed("281130003", "Descending aorta")
    yield "aortic_arch", snomed("57034009", "Aortic arch")
    yield "pulmonary_artery", snomed("81040000", "Pulmonary artery")
    yield "inferior_vena_cava", snomed("64131007", "Inferior vena cava")
    yield "esophagus", snomed("32849002", "Esophagus")


def _lungs() -> Iterator[tuple[str, Code]]:
    yield "lungs", LUNG
    yield "right_lung", LUNG
    yield "left_lung", LUNG
    yield "lung_bases", _BASE
    yield "lung_middle_zones", _MIDDLE_ZONE
    yield "lung_upper_zones", _UPPER_ZONE
    yield "lung_apices", _APEX
    for side in ("right", "left"):
        yield f"{side}_lung_upper_zone", _UPPER_ZONE
        yield f"{side}_lung_middle_zone", _MIDDLE_ZONE
        yield f"{side}_lung_base", _BASE
        yield f"{side}_lung_apex", _APEX
    yield "left_lower_lobe", _LOWER_LOBE
    yield "left_upper_lobe", _UPPER_LOBE
    yield "right_lower_lobe", _LOWER_LOBE
    yield "right_middle_lobe", _MIDDLE_LOBE
    yield "right_upper_lobe", _UPPER_LOBE


STRUCTURES: tuple[Structure, ...] = tuple(structure(name, code) for name, code in _codes())
