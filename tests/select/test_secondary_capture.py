"""Secondary Capture radiographs: those of data sets are taken, screenshots and our own never."""

import pytest
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from cxr_dicom.records import MANUFACTURER, ChestImage, Reason, SpacingSource
from tests.select.test_eligibility import small

ALL = (SecondaryCaptureImageStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


def capture(sop_class=SecondaryCaptureImageStorage, **attributes):
    stated = {"SOPClassUID": sop_class, "ConversionType": "WSD", "ImagerPixelSpacing": None, "BurnedInAnnotation": None}
    return small(**stated | attributes)


@pytest.mark.parametrize("sop_class", ALL)
@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_a_monochrome_capture_of_a_radiograph_is_eligible(selected, sop_class, modality):
    image = selected(capture(sop_class, Modality=modality, PixelSpacing=None))
    assert isinstance(image, ChestImage), image
    assert image.spacing.source is SpacingSource.NONE
    assert any("burned" in warning for warning in image.warnings)
    assert any("Secondary Capture" in warning for warning in image.warnings)


def test_spacing_is_taken_where_it_is_stated(selected):
    image = selected(capture(PixelSpacing=[0.143, 0.143]))
    assert (image.spacing.rows_mm, image.spacing.source) == (0.143, SpacingSource.PIXEL_SPACING)


def test_a_capture_that_says_it_has_no_text_is_not_warned_of(selected):
    assert not any("burned" in text for text in selected(capture(BurnedInAnnotation="NO")).warnings)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "OT"}, Reason.WRONG_SOP_CLASS),
        ({"Modality": "SC"}, Reason.WRONG_SOP_CLASS),
        ({"Modality": None}, Reason.WRONG_SOP_CLASS),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, Reason.NOT_GRAYSCALE),
        ({"NumberOfFrames": 2}, Reason.MULTI_FRAME),
        ({"Manufacturer": MANUFACTURER}, Reason.OWN_OUTPUT),
    ],
    ids=str,
)
def test_other_captures_are_refused(selected, attributes, reason):
    assert selected(capture(**attributes)).reason is reason


def test_the_setting_refuses_all(selected):
    refused = selected(capture(), secondary_capture="skip")
    assert refused.reason is Reason.WRONG_SOP_CLASS
    assert "select.secondary_capture" in refused.detail
