"""Results to export, and the masks of their DICOM segmentations."""

from dataclasses import replace

import numpy as np
import pydicom
from highdicom.seg import Segmentation
from pydicom.data import get_testdata_file

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.encode.common import write
from cxr_dicom.encode.objects import seg
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import InstanceResult, ObjectKind, Outcome, StudyResult
from cxr_dicom.records.plane import Orientation
from cxr_dicom.select import select
from tests import painted

SETTINGS = Settings.model_validate(
    {"models": {"names": ("offline-anatomy", "lung-opacity"), "device": "cpu"}, "encode": {"objects": ("seg",)}}
)
TURN = Orientation(transpose=True, flip_columns=True)
SOURCES = {
    "RG1": lambda: pydicom.dcmread(get_testdata_file("RG1_UNCR.dcm", download=False)),
    "turned": lambda: synthetic.turned(synthetic.radiograph(231, 190, PixelSpacing=[0.5, 0.25]), TURN),
    "painted": lambda: synthetic.radiograph(97, 81, PixelSpacing=[0.5, 0.25], ImagerPixelSpacing=[0.5, 0.25]),
}


def processed(dataset, name, pipeline, folder):
    if name == "painted":
        image = chest_image(dataset, folder)
        return painted_result(two_models(image), folder)
    return pipeline.process(study_of(dataset, folder), folder / "out")


def study_of(dataset, folder):
    path = folder / "source.dcm"
    dataset.save_as(path, enforce_file_format=True)
    (study,), _ = scan([path])
    return study


def chest_image(dataset, folder):
    (image,) = select(study_of(dataset, folder), SETTINGS.select).images
    return image


def two_models(image):
    """Overlapping structures, a heatmap, and a second model that outlines a structure of the same name."""
    first = painted.anatomy(image)
    masks = (replace(first.masks[2], region=painted.region(image.shape, 0.3, 0.3, 0.9, 0.8)),)
    second = replace(painted.anatomy(image, masks=masks), model=painted.model("other-anatomy"))
    return painted.analysis(image, (first, painted.scores(image), second))


def painted_result(analysis, folder):
    study = painted.study(analysis)
    objects = tuple(write(each, folder / "out") for each in seg.build(SETTINGS).encode(study))
    instance = analysis.image.instance
    only = InstanceResult(
        path=instance.path, outcome=Outcome.PROCESSED, instance=instance, analysis=analysis, objects=objects
    )
    return StudyResult(study_instance_uid=study.study_instance_uid, job_key="0", instances=(only,))


def uid(result):
    return result.instances[0].instance.sop_instance_uid


def image_of(result):
    return result.instances[0].analysis.image


def segments(result):
    """The masks of the DICOM segmentations, read by highdicom, by model and structure."""
    read = {}
    for each in result.instances[0].objects:
        assert each.kind is ObjectKind.SEGMENTATION
        segmentation = Segmentation.from_dataset(pydicom.dcmread(each.path))
        frames = segmentation.get_pixels_by_source_instance([uid(result)])
        for index, number in enumerate(segmentation.segment_numbers):
            description = segmentation.get_segment_description(number)
            read[each.model, description.tracking_id] = frames[0, :, :, index].astype(bool)
    return read


def expect_same_masks(found, result):
    expected = segments(result)
    assert len(expected) >= 3
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        assert mask.any()
        assert np.array_equal(found[name], mask), name
