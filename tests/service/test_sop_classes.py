"""What `check` believes will be sent, against what is really made."""

import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.deliver.plain import plain
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.service.checks.peers import KINDS, sop_classes


@pytest.mark.parametrize("columns", [512, 509])
def test_the_sop_classes_and_kinds_are_those_of_what_is_made(tmp_path, columns):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(512, columns)])
    (study,), _ = scan([tmp_path / "in"])
    settings = Settings.model_validate(
        {"models": {"names": ["offline-anatomy", "lung-opacity"], "device": "cpu"}, "encode": {"objects": list(KINDS)}}
    )
    pipeline = Pipeline(settings)
    result = pipeline.process(study, tmp_path)
    pipeline.close()
    made = {each.sop_instance_uid: each for instance in result.instances for each in instance.objects}.values()
    expected = sop_classes(settings)
    assert {each.kind for each in made} <= {kind for kinds in expected.values() for kind in kinds}
    assert {each.sop_class_uid for each in made} <= set(expected)
    assert len({each.kind for each in made}) >= 6
    for each in made:
        assert each.kind in expected[each.sop_class_uid]
        with plain(each.path) as path:  # as it is sent where nothing else is taken; `check` proposes that
            assert dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
