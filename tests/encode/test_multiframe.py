"""Frames, their dimensions and where they come from (PS3.3 C.7.6.16, C.7.6.17)."""

import pytest
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag

from cxr_dicom.dicom import codes
from cxr_dicom.encode.geometry import plane_groups
from cxr_dicom.encode.multiframe import POSITION, Dimension, set_dimensions, set_frames

SEGMENT = Dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence")
WITH_AND_WITHOUT = pytest.mark.parametrize("dimension", [SEGMENT, None], ids=["segments", "one frame"])


@pytest.fixture
def framed(image):
    """Return a data set with three frames of different segments, or with one frame."""

    def make(plane, dimension, source=image):
        dataset = Dataset()
        dataset.SOPInstanceUID = "1.2.3"
        frames = [of_segment(number) for number in (7, 8, 9)] if dimension else [Dataset()]
        set_frames(
            dataset, source, plane=plane, frames=frames, dimension=dimension, derivation=codes.LUNG, shared=Dataset()
        )
        return dataset

    return make


def of_segment(number):
    identification, groups = Dataset(), Dataset()
    identification.ReferencedSegmentNumber = number
    groups.SegmentIdentificationSequence = [identification]
    return groups


def pointers(dataset):
    return [
        (keyword_for_tag(each.DimensionIndexPointer), keyword_for_tag(each.FunctionalGroupPointer))
        for each in dataset.DimensionIndexSequence
    ]


@WITH_AND_WITHOUT
@pytest.mark.parametrize("plane", [True, False], ids=["viewer", "strict"])
def test_every_frame_has_what_its_dimensions_point_to_and_an_index_for_each(framed, plane, dimension):
    dataset = framed(plane, dimension)
    assert dataset.NumberOfFrames == len(dataset.PerFrameFunctionalGroupsSequence)
    assert len(set(pointers(dataset))) == len(pointers(dataset)) >= 1
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        assert all(keyword in groups[group][0] for keyword, group in pointers(dataset))
        (content,) = groups.FrameContentSequence
        assert len(dataset.DimensionIndexSequence) == content["DimensionIndexValues"].VM


def test_frames_of_a_plane_are_counted_and_lie_at_one_position(framed):
    dataset = framed(True, SEGMENT)
    assert pointers(dataset) == [SEGMENT, POSITION]
    contents = [groups.FrameContentSequence[0] for groups in dataset.PerFrameFunctionalGroupsSequence]
    assert [list(each.DimensionIndexValues) for each in contents] == [[1, 1], [2, 1], [3, 1]]
    assert not any("FrameLabel" in each for each in contents)
    positions = [each.PlanePositionSequence[0] for each in dataset.PerFrameFunctionalGroupsSequence]
    assert [list(each.ImagePositionPatient) for each in positions] == 3 * [[0, 0, 0]]


def test_one_frame_without_a_plane_is_indexed_by_its_label(framed):
    dataset = framed(False, None)
    assert pointers(dataset) == [("FrameLabel", "FrameContentSequence")]
    (groups,) = dataset.PerFrameFunctionalGroupsSequence
    assert groups.FrameContentSequence[0].FrameLabel == "Frame"


@WITH_AND_WITHOUT
def test_only_what_states_a_plane_has_one(framed, image, dimension):
    plane = {each.keyword for each in plane_groups(image.spacing)}
    assert {each.keyword for each in framed(True, dimension).SharedFunctionalGroupsSequence[0]} >= plane
    strict = framed(False, dimension)
    assert not plane & {each.keyword for each in strict.SharedFunctionalGroupsSequence[0]}
    assert not any("PlanePositionSequence" in each for each in strict.PerFrameFunctionalGroupsSequence)
    assert "FrameOfReferenceUID" not in strict
    assert strict.PatientOrientation == image.header.PatientOrientation
    assert "PatientOrientation" not in framed(True, dimension), "the plane says it"


def test_the_matrix_is_that_of_the_source(framed, image):
    dataset = framed(True, SEGMENT)
    assert (dataset.Rows, dataset.Columns) == image.shape
    assert (dataset.SamplesPerPixel, dataset.PhotometricInterpretation) == (1, "MONOCHROME2")


def test_every_frame_says_of_which_image_it_was_made_and_how(framed, image):
    for groups in framed(True, SEGMENT).PerFrameFunctionalGroupsSequence:
        (derivation,) = groups.DerivationImageSequence
        assert derivation.DerivationCodeSequence[0].CodeValue == codes.LUNG.value
        (source,) = derivation.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == image.instance.sop_instance_uid
        assert source.SpatialLocationsPreserved == "YES"
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322", "Source image for image processing"


def test_dimensions_are_of_one_organization_that_each_object_has_for_itself():
    one, same, other = (Dataset() for _ in range(3))
    for dataset, uid in ((one, "1.2"), (same, "1.2"), (other, "1.3")):
        dataset.SOPInstanceUID = uid
        set_dimensions(dataset, [SEGMENT, POSITION])
    assert one == same
    (organization,) = one.DimensionOrganizationSequence
    assert {each.DimensionOrganizationUID for each in one.DimensionIndexSequence} == {
        organization.DimensionOrganizationUID
    }
    assert organization != other.DimensionOrganizationSequence[0]


def test_a_dimension_is_described_by_the_name_of_what_it_points_to():
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2"
    set_dimensions(dataset, [POSITION])
    (index,) = dataset.DimensionIndexSequence
    assert index.DimensionIndexPointer == Tag(0x0020, 0x0032)
    assert index.FunctionalGroupPointer == Tag(0x0020, 0x9113)
    assert index.DimensionDescriptionLabel == "Image Position (Patient)"
