import pytest

from cxr_dicom.dicom.files import read_header
from cxr_dicom.ingest import counts as module
from cxr_dicom.ingest.counts import ATTRIBUTES, Counts
from cxr_dicom.ingest.folder import IDENTITY, instance_of
from cxr_dicom.synthetic import radiograph


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def say(tmp_path, counts):
    """Return what counts make of an image with such a header."""

    def said(known, series="1.1", study=None, in_study=None, in_series=None):
        image = radiograph(64, 48, SeriesInstanceUID=series)
        for keyword, value in zip(ATTRIBUTES, (study, in_study, in_series), strict=True):
            if value is not None:
                setattr(image, keyword, value)
        image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
        header = read_header(tmp_path / "image.dcm", (*IDENTITY, *ATTRIBUTES))
        instance = instance_of(header, tmp_path / "image.dcm")
        return counts.say(header) and counts.are_reached(header, instance, known)

    return said


@pytest.mark.parametrize(
    ("known", "total", "is_whole"),
    [
        ({"1.1": 2}, 2, True),
        ({"1.1": 1, "1.2": 1}, 2, True),
        ({"1.1": 3}, 2, True),
        ({"1.1": 1}, 2, False),
        ({"1.1": 1}, 0, False),
        ({"1.1": 1}, -1, False),
        ({"1.1": 1}, None, False),
    ],
)
def test_the_count_of_the_study_is_reached(say, known, total, is_whole):
    assert say(known, study=total) is is_whole


def test_each_series_must_have_as_many_images_as_it_says(say):
    assert not say({"1.1": 1}, "1.1", in_study=2, in_series=1)
    assert not say({"1.1": 1, "1.2": 1}, "1.2", in_study=2, in_series=2)
    assert say({"1.1": 1, "1.2": 2}, "1.2", in_study=2, in_series=2)


def test_a_series_that_said_nothing_proves_nothing(say):
    assert not say({"1.1": 1, "1.2": 1}, "1.2", in_study=2, in_series=1)


def test_no_more_is_remembered_than_the_bound_and_what_is_forgotten_proves_nothing(say, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SERIES", 2)
    said = {f"1.{number}": 1 for number in range(1, 4)}
    assert [say(said, series, in_study=3, in_series=1) for series in said] == [False, False, False]
    monkeypatch.setattr(module, "_MOST_SERIES", 3)
    assert [say(said, series, in_study=3, in_series=1) for series in said][-1]


def test_a_series_alone_is_no_study(say):
    assert not say({"1.1": 1}, in_series=1)


def test_the_count_of_the_study_counts_before_that_of_series(say):
    assert not say({"1.1": 1}, study=3, in_study=1, in_series=1)  # the other two are not of a kind that we take
