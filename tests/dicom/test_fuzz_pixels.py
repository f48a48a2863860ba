"""Compressed pixels that nobody thought of: all of them or a reason, within bounds of time and memory."""

import resource
import time
from io import BytesIO

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from cxr_dicom import synthetic
from cxr_dicom.dicom import pixels
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from tests.fuzzing import damaged, fuzz

SHAPE = 48, 40
SECONDS = 5.0  # of the processor; a decoder that takes more for so few pixels does not end with more of them
KILOBYTES = 512 << 10  # that the process may grow by in all, whatever a code stream claims


def image():
    return synthetic.radiograph(*SHAPE, bits_allocated=8, bits_stored=8)


def by_pillow(kind, **options):
    file = BytesIO()
    Image.fromarray(image().pixel_array).save(file, kind, **options)
    return file.getvalue()


def stored(syntax):
    return get_frame(synthetic.stored_as(image(), syntax).PixelData, 0, number_of_frames=1)


CORPUS = {
    RLELossless: lambda: [stored(RLELossless)],
    JPEGLSLossless: lambda: [stored(JPEGLSLossless)],
    JPEG2000Lossless: lambda: [stored(JPEG2000Lossless), by_pillow("JPEG2000")],
    JPEG2000: lambda: [by_pillow("JPEG2000", irreversible=True, quality_layers=[20, 5]), stored(JPEG2000Lossless)],
    JPEGBaseline8Bit: lambda: [by_pillow("JPEG"), by_pillow("JPEG", progressive=True), stored(JPEG2000Lossless)],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", CORPUS, ids=lambda syntax: syntax.name)
def test_a_frame_is_decoded_whole_or_refused_with_a_reason(syntax):
    dataset = image()
    dataset.file_meta.TransferSyntaxUID = syntax
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def check(frame):
        dataset.PixelData = encapsulate([frame or b"\0"])
        start = time.process_time()
        found = refused = None
        try:
            found = pixels._decode(dataset, SHAPE)
        except ImageError as error:
            refused = error
        if refused:
            assert refused.reason is Reason.CORRUPT_PIXEL_DATA
            assert len(str(refused)) < 300
        else:
            assert found.words.shape == SHAPE
            assert np.isin(found.words.dtype, ["u1", "u2"])
        assert time.process_time() - start < SECONDS

    fuzz(check, damaged(CORPUS[syntax]()) | st.binary(max_size=80), examples=60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
