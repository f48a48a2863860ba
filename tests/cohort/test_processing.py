"""What the row of a fetched image names as its source."""

import pytest

from cxr_dicom.cohort.processing import named_source


@pytest.mark.parametrize(
    ("url", "row"),
    [
        ("https://pacs/dicom-web", "https://pacs/dicom-web/studies/1.2"),
        ("s3://bucket/series/a.dcm", "s3://bucket/series/a.dcm"),
    ],
)
def test_a_row_names_the_study_and_not_only_the_server(url, row):
    assert named_source(url, ["s3://bucket/series/*", "https://pacs/dicom-web/studies/1.2"]) == row
