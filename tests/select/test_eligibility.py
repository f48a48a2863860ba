"""Which images are eligible: every reason, every attribute that says chest or frontal, every turn."""

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    RLELossless,
    SegmentationStorage,
)

from cxr_dicom import synthetic
from cxr_dicom.config import SelectSettings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import MANUFACTURER, ChestImage, Reason, Skipped, SpacingSource
from cxr_dicom.records.plane import Orientation
from cxr_dicom.select import select

UNCODED = {"BodyPartExamined": None, "AnatomicRegionSequence": None, "ViewPosition": None, "ViewCodeSequence": None}
SILENT = UNCODED | {"StudyDescription": None, "PatientOrientation": None}


def small(**attributes):
    return synthetic.radiograph(40, 32, **attributes)


def item(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def code(value, scheme="SCT"):
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning="a meaning")


def labelled(dataset, transfer_syntax):
    """A file whose meta information names a transfer syntax that its pixel data are not in."""
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    return dataset


@pytest.mark.parametrize("modality", ["CR", "DX"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_frontal_chest_radiograph_is_eligible(selected, modality, photometric):
    image = selected(small(modality=modality, photometric=photometric))
    assert isinstance(image, ChestImage), image
    assert (image.view, image.orientation, image.shape, image.warnings) == ("PA", Orientation(), (40, 32), ())
    assert "PixelData" not in image.header
    assert image.header.PatientName == "Synthetic^Chest"


REFUSED = [
    (Reason.WRONG_SOP_CLASS, {"SOPClassUID": CTImageStorage}),
    (Reason.WRONG_SOP_CLASS, {"SOPClassUID": None}),
    (Reason.OWN_OUTPUT, {"Manufacturer": MANUFACTURER}),
    (Reason.OWN_OUTPUT, {"Manufacturer": MANUFACTURER, "SOPClassUID": SegmentationStorage}),
    (Reason.OWN_OUTPUT, {"ContributingEquipmentSequence": item(Manufacturer=MANUFACTURER)}),
    (Reason.FOR_PROCESSING, {"SOPClassUID": DigitalXRayImageStorageForProcessing}),
    (Reason.FOR_PROCESSING, {"PresentationIntentType": "FOR PROCESSING"}),
    (Reason.NOT_GRAYSCALE, {"PhotometricInterpretation": "RGB"}),
    (Reason.NOT_GRAYSCALE, {"PhotometricInterpretation": "PALETTE COLOR"}),
    (Reason.NOT_GRAYSCALE, {"SamplesPerPixel": 3}),
    (Reason.MULTI_FRAME, {"NumberOfFrames": 2}),
    (Reason.NOT_CHEST, {"BodyPartExamined": "HAND"}),
    (Reason.NOT_FRONTAL, {"ViewPosition": "LL"}),
    (Reason.INVALID_ATTRIBUTES, {"PhotometricInterpretation": None}),
    (Reason.INVALID_ATTRIBUTES, {"Rows": None}),
    (Reason.INVALID_ATTRIBUTES, {"Rows": 0}),
    (Reason.INVALID_ATTRIBUTES, {"Columns": None}),
    (Reason.INVALID_ATTRIBUTES, {"Columns": [32, 32]}),
    (Reason.INVALID_ATTRIBUTES, {"SamplesPerPixel": None}),
    (Reason.INVALID_ATTRIBUTES, {"BitsAllocated": None}),
    (Reason.INVALID_ATTRIBUTES, {"BitsAllocated": 32}),
    (Reason.INVALID_ATTRIBUTES, {"BitsStored": None}),
    (Reason.INVALID_ATTRIBUTES, {"BitsStored": 17}),
    (Reason.INVALID_ATTRIBUTES, {"BitsStored": 0}),
    (Reason.INVALID_ATTRIBUTES, {"HighBit": None}),
    (Reason.INVALID_ATTRIBUTES, {"HighBit": 10}),
    (Reason.INVALID_ATTRIBUTES, {"HighBit": 16}),
    (Reason.INVALID_ATTRIBUTES, {"PixelRepresentation": 2}),
    (Reason.INVALID_ATTRIBUTES, {"PixelData": None}),
    (Reason.INVALID_ATTRIBUTES, {"PixelData": None, "FloatPixelData": b"\0" * 4 * 40 * 32}),
    (Reason.CORRUPT_PIXEL_DATA, {"PixelData": b"\0" * 2 * (40 * 32 - 1)}),
    (Reason.CORRUPT_PIXEL_DATA, {"Rows": 41}),
]


@pytest.mark.parametrize(("reason", "attributes"), REFUSED, ids=[f"{r}-{','.join(a)}" for r, a in REFUSED])
def test_an_image_is_refused_with_its_reason(selected, reason, attributes):
    refused = selected(small(**attributes))
    assert isinstance(refused, Skipped)
    assert refused.reason is reason, refused.detail
    assert refused.instance is not None
    assert refused.detail
    assert "Synthetic" not in refused.detail


def test_a_matrix_beyond_the_limit_is_refused_and_one_at_the_limit_is_not(selected):
    assert selected(small(), max_pixels=40 * 32 - 1).reason is Reason.MATRIX_TOO_LARGE
    assert isinstance(selected(small(), max_pixels=40 * 32), ChestImage)


def test_a_transfer_syntax_without_a_decoder_is_refused(selected):
    compressed = synthetic.stored_as(small(), RLELossless)
    refused = selected(labelled(compressed, JPEG2000MCLossless))
    assert refused.reason is Reason.UNDECODABLE_TRANSFER_SYNTAX
    assert "Multi-component" in refused.detail


def test_fragments_in_a_native_syntax_and_plain_bytes_in_a_compressed_one_are_corrupt(selected, tmp_path, stored):
    path = stored(synthetic.stored_as(small(), RLELossless))
    content = path.read_bytes().replace(RLELossless.encode() + b"\0", b"1.2.840.10008.1.2.1\0", 1)
    native = tmp_path / "native"
    native.write_bytes(content)
    assert selected(native).reason is Reason.CORRUPT_PIXEL_DATA
    path = stored(small())
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", RLELossless.encode() + b"\0", 1)
    compressed = tmp_path / "compressed"
    compressed.write_bytes(content)
    assert selected(compressed).reason is Reason.CORRUPT_PIXEL_DATA


def test_a_file_that_is_gone_is_unreadable_and_stops_nothing(tmp_path):
    gone, _ = synthetic.write_study(tmp_path, [small(seed=1), small(seed=2)])
    (study,), _ = scan([tmp_path])
    gone.unlink()
    selection = select(study, SelectSettings())
    assert [skipped.reason for skipped in selection.skipped] == [Reason.UNREADABLE]
    assert len(selection.images) == 1


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
)
def test_every_transfer_syntax_is_eligible(selected, syntax):
    image = selected(synthetic.stored_as(small(), syntax))
    assert isinstance(image, ChestImage), image
    assert image.header.file_meta.TransferSyntaxUID == syntax


# --- chest? --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["CHEST", "chest", "THORAX", "LUNG", "CHESTABDOMEN", "PORT CHEST", "TORAX"])
def test_body_parts_that_are_a_chest(selected, part):
    assert isinstance(
        selected(small(AnatomicRegionSequence=None, StudyDescription=None, BodyPartExamined=part)), ChestImage
    )


@pytest.mark.parametrize(
    "part", ["CSPINE", "TSPINE", "RIB", "STERNUM", "ABDOMEN", "SHOULDER", "EXTREMITY", "HEAD", "THORACIC SPINE"]
)
def test_body_parts_that_are_not_a_chest(selected, part):
    refused = selected(small(AnatomicRegionSequence=None, StudyDescription="Chest", BodyPartExamined=part))
    assert refused.reason is Reason.NOT_CHEST
    assert part in refused.detail


@pytest.mark.parametrize("value", ["816094009", "51185008", "T-D3000", "39607008", "T-28000", "416550000"])
def test_anatomic_regions_that_are_a_chest(selected, value):
    image = selected(small(**SILENT | {"AnatomicRegionSequence": code(value)}), unknown_body_part="skip")
    assert isinstance(image, ChestImage), image


@pytest.mark.parametrize("value", ["72696002", "T-D9200", "122494005", "113197003"])
def test_an_anatomic_region_that_is_not_a_chest_wins_over_body_part_examined(selected, value):
    refused = selected(small(BodyPartExamined="CHEST", AnatomicRegionSequence=code(value)))
    assert (refused.reason, value in refused.detail) == (Reason.NOT_CHEST, True)


CHEST_TEXTS = [
    *(
        "CHEST 1 VIEW",
        "XR CXR",
        "Thorax pa",
        "RX TORAX",
        "Tórax PA",
        "Radiographie pulmonaire",
        "Röntgen Thorax",
        "Lunge",
    ),
    *(
        "Poumons face",
        "Torace",
        "chest_pa",
        "Keuhkot",
        "Органы грудной клетки",
        "胸部正面",
        "흉부",
        "Borstkas",
        "AP_CHEST2",
    ),
]
OTHER_TEXTS = [
    *(
        "Hand rechts",
        "KNEE 2V",
        "Abdomen",
        "[LOWER LEG         ]",
        "Wirbelsäule",
        "Hüfte",
        "Schädel",
        "Épaule",
        "rodilla",
    ),
    *("LWS ap", "腰椎", "Mammography", "Non-ossifying fibroma of distal tibia"),
]


@pytest.mark.parametrize("keyword", ["StudyDescription", "SeriesDescription", "ProtocolName"])
@pytest.mark.parametrize("text", CHEST_TEXTS)
def test_descriptions_that_name_a_chest_count_where_codes_are_empty(selected, keyword, text):
    image = selected(small(**SILENT | {"SpecificCharacterSet": "ISO_IR 192", keyword: text}), unknown_body_part="skip")
    assert isinstance(image, ChestImage), image


@pytest.mark.parametrize("text", OTHER_TEXTS)
def test_descriptions_that_name_another_part_count_where_codes_are_empty(selected, text):
    refused = selected(small(**SILENT | {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": text}))
    assert refused.reason is Reason.NOT_CHEST
    assert text not in refused.detail, "free text may hold patient data"


def test_descriptions_do_not_count_against_codes(selected):
    assert isinstance(selected(small(StudyDescription="Knee lateral", SeriesDescription="Hand")), ChestImage)


def test_the_series_description_counts_before_the_study_description(selected):
    refused = selected(small(**SILENT | {"SeriesDescription": "Knee", "StudyDescription": "Chest"}))
    assert refused.reason is Reason.NOT_CHEST


@pytest.mark.parametrize("attributes", [{}, {"BodyPartExamined": "UNKNOWN"}, {"StudyDescription": "Chest and abdomen"}])
def test_an_unknown_body_part_follows_the_policy(selected, attributes):
    unknown = small(**SILENT | {"ViewPosition": "PA"} | attributes)
    image = selected(unknown, unknown_body_part="process")
    assert any("part of the body" in warning for warning in image.warnings)
    assert selected(unknown, unknown_body_part="skip").reason is Reason.UNKNOWN_BODY_PART


# --- frontal? ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "view"), [("PA", "PA"), ("AP", "AP"), ("ap", "AP"), ("AP SUPINE", "AP"), ("FRONTAL", "")]
)
def test_view_positions_that_are_frontal(selected, position, view):
    image = selected(small(ViewPosition=position, ViewCodeSequence=None), unknown_view="skip")
    assert image.view == view


@pytest.mark.parametrize(
    "position", ["LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL", "LAT", "LEFT LATERAL", "OBLIQUE", "RAO", "L_OBL"]
)
def test_view_positions_that_are_not_frontal(selected, position):
    refused = selected(small(ViewPosition=position, ViewCodeSequence=None))
    assert refused.reason is Reason.NOT_FRONTAL
    assert position in refused.detail


@pytest.mark.parametrize(
    ("value", "view"),
    [
        ("272479007", "PA"),
        ("R-40888", "PA"),
        ("R-10214", "PA"),
        ("399348003", "AP"),
        ("R-10206", "AP"),
        ("399033003", ""),
    ],
)
def test_view_codes_that_are_frontal(selected, value, view):
    image = selected(
        small(**SILENT | {"BodyPartExamined": "CHEST", "ViewCodeSequence": code(value)}), unknown_view="skip"
    )
    assert image.view == view


@pytest.mark.parametrize(
    "value", ["399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232", "399182000", "399061009"]
)
def test_view_codes_that_are_not_frontal(selected, value):
    refused = selected(small(ViewPosition="PA", ViewCodeSequence=code(value)))
    assert (refused.reason, value in refused.detail) == (Reason.NOT_FRONTAL, True)


@pytest.mark.parametrize("orientation", [["A", "F"], ["P", "F"], ["AL", "FR"], ["F", "P"]])
def test_rows_or_columns_that_run_from_back_to_front_are_lateral(selected, orientation):
    assert selected(small(PatientOrientation=orientation)).reason is Reason.NOT_FRONTAL


@pytest.mark.parametrize(
    "text", ["Thorax lateral", "CHEST LAT", "Thorax seitl.", "Poumon profil", "Tórax perfil", "胸部側面", "胸部侧位"]
)
def test_descriptions_that_name_another_view_count_where_codes_are_empty(selected, text):
    uncoded = UNCODED | {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": None, "SeriesDescription": text}
    assert selected(small(**uncoded)).reason is Reason.NOT_FRONTAL


@pytest.mark.parametrize("text", ["Thorax pa", "Thorax a.p. / AP", "Poumon de face", "胸部正位", "Tórax frontal"])
def test_descriptions_that_name_a_frontal_view_count_where_codes_are_empty(selected, text):
    silent = SILENT | {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": text}
    image = selected(small(**silent), unknown_view="skip")
    assert isinstance(image, ChestImage), image


def test_a_study_description_of_both_views_says_nothing_of_this_image(selected):
    both = small(**SILENT | {"BodyPartExamined": "CHEST", "StudyDescription": "Chest PA and lateral"})
    assert isinstance(selected(both), ChestImage)
    assert selected(both, unknown_view="skip").reason is Reason.UNKNOWN_VIEW


def test_patient_orientation_in_the_frontal_plane_makes_a_view_known(selected):
    image = selected(
        small(**SILENT | {"BodyPartExamined": "CHEST", "PatientOrientation": ["L", "F"]}), unknown_view="skip"
    )
    assert (image.view, image.warnings) == ("", ())


def test_an_unknown_view_follows_the_policy(selected):
    unknown = small(**SILENT | {"BodyPartExamined": "CHEST"})
    image = selected(unknown, unknown_view="process")
    assert any("names the view" in warning for warning in image.warnings)
    assert selected(unknown, unknown_view="skip").reason is Reason.UNKNOWN_VIEW


# --- real files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_UNCI.dcm", "RG1_J2KR.dcm", "RG1_J2KI.dcm"])
def test_the_real_chest_is_eligible_in_four_files(selected, real, name):
    image = selected(real(name))
    assert isinstance(image, ChestImage), image
    assert (image.view, image.orientation, image.shape) == ("PA", Orientation(), (1955, 1841))
    assert image.spacing.source is SpacingSource.NONE
    assert any("OHIF" in warning for warning in image.warnings)


def test_the_real_extremity_is_not_a_chest(selected, real):
    refused = selected(real("RG3_UNCR.dcm"))
    assert refused.reason is Reason.NOT_CHEST
    assert "EXTREMITY" in refused.detail


def test_the_real_extremity_is_known_by_its_description_alone(selected, real):
    extremity = dcmread(real("RG3_UNCR.dcm"))
    del extremity.BodyPartExamined
    assert selected(extremity).reason is Reason.NOT_CHEST
