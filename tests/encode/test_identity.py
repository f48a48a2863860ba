"""What identifies an object outlives the names in our code."""

from cxr_dicom import synthetic
from cxr_dicom.encode.identity import digest
from tests import painted


def test_the_digest_of_a_prediction_is_that_of_version_0_1(selected):
    image = selected(synthetic.radiograph())
    assert [digest(painted.anatomy(image)), digest(painted.scores(image))] == [
        "3d1953506b03b1c006a45d170e4dc3d51e84eea3b302d67ca2e76a3e5a2b34af",
        "66d3cd899d36b68b85b1b5572c2752de25b5228410720700c3ff3cb7552b41df",
    ]
