"""Words of real archives: what they say of the part and of the view, and what nobody can know."""

import warnings

import pytest
from pydicom import Dataset

from cxr_dicom import synthetic
from cxr_dicom.dicom.files import Header
from cxr_dicom.records import ChestImage, Reason
from cxr_dicom.select import evidence
from tests.select.test_eligibility import SILENT, UNCODED, code, item, small

UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}


@pytest.fixture
def coded(selected, stored):
    """Select an image with a code string of any bytes, which pydicom would not write."""

    def select_one(keyword, value, **attributes):
        length = len(value) + len(value) % 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = stored(small(**attributes | {keyword: "Q" * length}))
        path.write_bytes(path.read_bytes().replace(b"Q" * length, value.ljust(length)))
        return selected(path)

    return select_one


@pytest.mark.parametrize("part", ["Not defined", "N/A", "QQQ", "SKELETT", "TH", "-", "X-RAY", "HEART", "MEDIASTINUM"])
def test_an_unknown_part_is_unknown_and_a_description_decides(coded, part):
    rest = {"AnatomicRegionSequence": None}
    image = coded("BodyPartExamined", part.encode(), **rest, StudyDescription="Chest PA")
    assert isinstance(image, ChestImage), image
    assert not image.warnings
    alone = coded("BodyPartExamined", part.encode(), **rest, StudyDescription=None)
    assert any("part of the body" in warning for warning in alone.warnings)
    other = coded("BodyPartExamined", part.encode(), **rest, StudyDescription="Hand")
    assert other.reason is Reason.NOT_CHEST


@pytest.mark.parametrize(
    ("part", "character_set"),
    [
        *(("CHESTPA", None), ("CHEST_PA_LAT", None), ("PECHO", None), ("TORAKS", None), ("POITRINE", None)),
        *(("胸部", "GB18030"), ("胸部", "ISO_IR 192"), ("Tórax", "ISO_IR 100"), ("грудная клетка", "ISO_IR 144")),
        *(("흉부", "ISO_IR 192"), ("ทรวงอก", "ISO_IR 192"), ("PLUCA", None), ("THORAX AP", None)),
    ],
)
def test_a_chest_is_known_in_the_words_and_the_character_set_of_the_archive(coded, selected, part, character_set):
    encoding = {"GB18030": "gb18030", "ISO_IR 100": "latin-1", "ISO_IR 144": "iso8859_5"}.get(character_set, "utf-8")
    silent = SILENT | {"SpecificCharacterSet": character_set}
    image = coded("BodyPartExamined", part.encode(encoding), **silent | {"ViewPosition": "PA"})
    assert isinstance(image, ChestImage), image
    assert not any("part of the body" in warning for warning in image.warnings)


@pytest.mark.parametrize(("part", "encoding"), [("胸部", "gbk"), ("TÓRAX", "latin-1")])
def test_a_word_is_known_where_its_character_set_is_not_the_declared_one(coded, part, encoding):
    image = coded("BodyPartExamined", part.encode(encoding), **SILENT | UTF8 | {"ViewPosition": "PA"})
    assert not any("part of the body" in warning for warning in image.warnings)


@pytest.mark.parametrize("part", ["TLSPINE", "JAW", "HEADNECK", "THORACIC SPINE", "BWS", "COLUNA TORACICA"])
def test_a_known_other_part_still_refuses(coded, part):
    refused = coded("BodyPartExamined", part.encode(), AnatomicRegionSequence=None, StudyDescription="Chest PA")
    assert refused.reason is Reason.NOT_CHEST


@pytest.mark.parametrize("text", ["thoracic spine AP", "BWS a.p.", "Columna dorsal", "胸椎正位", "Rachis dorsal face"])
def test_the_spine_of_the_chest_is_no_chest(selected, text):
    assert selected(small(**SILENT | UTF8 | {"SeriesDescription": text})).reason is Reason.NOT_CHEST


@pytest.mark.parametrize(
    ("region", "meaning", "reason"),
    [
        ("LOCAL-1", "Thorax", None),
        ("LOCAL-2", "Something", None),
        ("LOCAL-3", "Left knee", Reason.NOT_CHEST),
        ("LOCAL-4", "Thoracic spine", Reason.NOT_CHEST),
        ("72696002", "", Reason.NOT_CHEST),
    ],
)
def test_a_region_that_is_in_no_list_says_what_its_meaning_says(selected, region, meaning, reason):
    sequence = item(CodeValue=region, CodingSchemeDesignator="99HERE", CodeMeaning=meaning)
    found = selected(small(**SILENT | {"AnatomicRegionSequence": sequence, "ViewPosition": "PA"}))
    assert getattr(found, "reason", None) is reason


# --- views ---------------------------------------------------------------------------------------

PUBLISHED = {  # View Position as published data sets and devices have it
    **dict.fromkeys(("PA", "POSTEROANTERIOR", "POSTERO-ANTERIOR", "P.A.", "P-A ERECT", "THORAX PA"), "PA"),
    **dict.fromkeys(("AP", "ANTEROPOSTERIOR", "ANTERO POSTERIOR", "A.P.", "AP SUPINE", "PORTABLE AP"), "AP"),
    **dict.fromkeys(("FRONTAL", "", "UPRIGHT", "QQQ", "FRENTE"), ""),
    **dict.fromkeys(("LATERAL", "LL", "LAO", "RAO", "LPO", "AP AXIAL", "XTABLE LATERAL", "SWIMMERS"), None),
    **dict.fromkeys(("PA LLD", "PA RLD", "AP LLD", "AP RLD", "PROFIL", "PERFIL", "LLATERAL", "L.L.", "LORDOTIC"), None),
}


@pytest.mark.parametrize(("position", "view"), PUBLISHED.items(), ids=[name or "none" for name in PUBLISHED])
def test_view_positions_as_archives_write_them(coded, position, view):
    found = coded("ViewPosition", position.encode(), ViewCodeSequence=None, PatientOrientation=None)
    if view is None:
        assert found.reason is Reason.NOT_FRONTAL
    else:
        assert found.view == view


def test_a_position_and_a_code_that_contradict_each_other_state_no_view(selected):
    assert selected(small(ViewPosition="AP", ViewCodeSequence=code("272479007"))).view == ""


ORDERS = [
    *("Chest PA & Lateral", "Thorax p.a./seitl.", "胸部正侧位", "CHEST 2 VIEWS PA/LAT", "RX TORAX P.A. Y LATERAL"),
    *("Thorax in 2 Ebenen, seitl.", "Chest lateral", "Rx thorax face et profil", "Torax PA + perfil", "Thorax dwars"),
]


@pytest.mark.parametrize("keyword", ["StudyDescription", "PerformedProcedureStepDescription"])
@pytest.mark.parametrize("text", ORDERS)
def test_an_order_never_says_no_for_one_image(selected, keyword, text):
    image = selected(small(**UNCODED | UTF8 | {"StudyDescription": None, "PatientOrientation": None, keyword: text}))
    assert isinstance(image, ChestImage), image


@pytest.mark.parametrize("text", ["Chest PA", "Thorax p.a.", "胸部正位", "RX TÓRAX P.A."])
def test_an_order_may_say_yes(selected, text):
    silent = SILENT | UTF8 | {"StudyDescription": text}
    assert isinstance(selected(small(**silent), unknown_view="skip"), ChestImage)


@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName"])
@pytest.mark.parametrize("text", ["Thorax seitl.", "Chest L.L.", "胸部侧位"])
def test_series_and_protocol_may_say_no(selected, keyword, text):
    assert selected(small(**UNCODED | UTF8 | {"StudyDescription": "Chest PA", keyword: text})).reason is (
        Reason.NOT_FRONTAL
    )


@pytest.mark.parametrize("value", ["399242004", "R-10222", "399071006"])
def test_every_other_view_of_the_standard_is_not_frontal(selected, value):
    assert selected(small(ViewCodeSequence=code(value))).reason is Reason.NOT_FRONTAL


def test_every_view_code_of_the_standard_is_known():
    from pydicom.sr.codedict import codes

    from cxr_dicom.select import words

    known = words.OTHER_VIEW_CODES | set(words.VIEW_CODES)
    assert {each.value for each in codes.cid4010.concepts.values()} <= known


# Series descriptions of devices, from the Imaging Data Commons and from BIMCV-COVID19 (see words.py): what each says of
# the part and of the view, as a reader takes it; None where nobody can know.
OF_DEVICES = {
    **dict.fromkeys(
        ("W Chest PA", "W Chest a.p.", "X Chest AP", "PA Chest Landscape", "PEDS CXR AP"), (True, True)
    ),  # Siemens, Agfa
    **dict.fromkeys(
        ("W033 TÓRAX PA *", "T035 TÓRAX AP", "TORAX SEDE AP", "PECHO AP", "ChestPA", "胸部PA"), (True, True)
    ),
    **dict.fromkeys(
        ("W Chest Lat", "Lat Chest", "Lateral Chest", "W034 TÓRAX LAT. *", "ERECT TORAX LAT"), (True, False)
    ),
    **dict.fromkeys(
        ("AP Landscape", "AP SkyPlate", "DIRECTO PA", "DEC. SUPINO AP", "SUP.AP PORTABLE"), (None, True)
    ),  # Philips
    **dict.fromkeys(("Lateral L", "LATERAL IZQ.", "BUCKY LAT", "X Table Lat", "cross-table lateral"), (None, False)),
    **dict.fromkeys(("X Forearm a.p. Left", "X Tib Fib a.p. Left", "AP TibFib", "T FEMUR DISTAL AP"), (False, True)),
    **dict.fromkeys(("PARRILLA COSTAL AP", "Ribs AP Lower", "AP Bliateral Feet L", "T Pelvis a.p."), (False, True)),
    **dict.fromkeys(("Ribs OBLI Lower", "W T-spine Lat.", "Lateral Sacrum/Coccyx", "Lat Cervical"), (False, False)),
    **dict.fromkeys(("XR_ThoracicSpine", "ESCAPULA Y", "LUMBAR-SPINE", "T HIP FROG", "KUB", "Abdomen"), (False, None)),
    **dict.fromkeys(("CHEST PA - LAT", "TORAX FRENTE Y PERFIL", "CHST2", "TORAX CAMILLA"), (True, None)),
    **dict.fromkeys(("PORTATIL", "L5-S1 Spot", "projection urogram", "= NONE ="), (None, None)),
    "Lat Thoracic": (None, False),
    "AP Thoracic": (None, True),  # Philips: the spine; elsewhere the chest
}


@pytest.mark.parametrize(("text", "said"), OF_DEVICES.items(), ids=list(OF_DEVICES))
def test_series_descriptions_as_devices_write_them(text, said):
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 192", text
    header = Header(dataset=dataset, pixel_keyword="PixelData", pixel_length=0)
    assert (evidence.body_part(header).holds, evidence.view(header).holds) == said


@pytest.mark.parametrize(
    "lying", ["Tórax decúbito supino", "Thorax de face en décubitus dorsal", "Torace decubito supino"]
)
def test_who_lies_on_the_back_is_frontal(selected, coded, lying):
    image = selected(small(**UNCODED | UTF8 | {"StudyDescription": "Chest PA", "SeriesDescription": lying}))
    assert isinstance(image, ChestImage), image
    assert coded("ViewPosition", b"AP DECUB SUPINO", ViewCodeSequence=None).view == "AP"
    side = selected(
        small(**UNCODED | UTF8 | {"StudyDescription": "Chest PA", "SeriesDescription": "Left lateral decubitus"})
    )
    assert side.reason is Reason.NOT_FRONTAL


# --- how things are spelled ----------------------------------------------------------------------


@pytest.mark.parametrize("spelled", [b" MONOCHROME2", b"monochrome2", b"Monochrome1"])
def test_photometric_interpretations_are_read_as_viewers_do_and_warned_of(coded, spelled):
    image = coded("PhotometricInterpretation", spelled, PresentationLUTShape=None)
    assert isinstance(image, ChestImage), image
    assert any("not spelled" in warning for warning in image.warnings)


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY")])
def test_a_presentation_shape_that_contradicts_is_warned_of(selected, photometric, shape):
    image = selected(small(photometric=photometric, PresentationLUTShape=shape))
    assert [shape in warning for warning in image.warnings] == [True]


@pytest.mark.parametrize(("keyword", "value"), [("StudyDate", "99999999"), ("PatientBirthDate", "20240230")])
def test_a_date_that_is_none_is_warned_of(coded, keyword, value):
    image = coded(keyword, value.encode())
    assert [keyword in warning for warning in image.warnings] == [True]


def test_a_synthetic_radiograph_has_nothing_to_warn_of(selected):
    assert selected(synthetic.radiograph(40, 32)).warnings == ()
