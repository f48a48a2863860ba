"""What the service adds of itself and a destination does not know is left out there; what was asked for is not."""

import json
from dataclasses import replace

import pytest
from pydicom import dcmread
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage, SecondaryCaptureImageStorage

from cxr_dicom.config import load
from cxr_dicom.records import EncodedObject, ObjectKind, Outcome
from cxr_dicom.service import checks
from cxr_dicom.service.checks import Level
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import FastPipeline, archive, derived_uid, send, serving, settings, wait_for_state

IMAGE = radiograph(64, 48)
STATE_UID = derived_uid("presentation state")


class WithPresentationState(FastPipeline):
    """Makes a presentation state beside the picture of each image."""

    def process(self, study, folder):
        result = super().process(study, folder)
        instances = [self._with_state(each, folder) for each in result.instances]
        return replace(result, instances=tuple(instances))

    @staticmethod
    def _with_state(each, folder):
        if each.outcome is not Outcome.PROCESSED:
            return each
        made = dcmread(each.objects[0].path)
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = GrayscaleSoftcopyPresentationStateStorage
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = STATE_UID
        made.save_as(folder / "state.dcm")
        state = EncodedObject(
            path=folder / "state.dcm",
            kind=ObjectKind.PRESENTATION_STATE,
            sop_class_uid=made.SOPClassUID,
            sop_instance_uid=STATE_UID,
            series_instance_uid=made.SeriesInstanceUID,
            source_sop_instance_uids=(),
            model=None,
        )
        return replace(each, objects=(*each.objects, state))


ASKED_FOR = {
    "nothing": ({}, {}, "SENT"),
    "for the destination": ({}, {"kinds": ["secondary_capture", "presentation_state"]}, "DEAD"),
}


@pytest.mark.parametrize("asked", ASKED_FOR)
def test_a_study_is_sent_without_what_nobody_asked_for(tmp_path, asked):
    encode, rules, state = ASKED_FOR[asked]
    with archive(contexts=(SecondaryCaptureImageStorage,)) as (port, received):
        to = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        tables = {"destinations": [to | {"rules": rules}], "encode": encode}
        with serving(tmp_path, build=WithPresentationState, **tables) as service:
            assert send(service.settings.listener.port, IMAGE) == [0]
            wait_for_state(service, IMAGE.StudyInstanceUID, "SENT", "DEAD")
            story = service.ledger.stories.show(IMAGE.StudyInstanceUID)
            assert (story["state"], set(received)) == (state, {derived_uid(IMAGE.SOPInstanceUID)})
            (made,) = (each for each in story["objects"] if each["kind"] == "presentation_state")
            (said,) = made["deliveries"]
            assert said["status"] == "CONTEXT_REJECTED"
            if state == "DEAD":
                assert story["reason"].startswith("pacs: CONTEXT_REJECTED")
            else:
                assert (said["state"], "left out" in said["detail"]) == ("withdrawn", True)
    trail = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    told = [line["action"] for line in trail if line.get("sop_instance_uid") == STATE_UID]
    assert told[-1] == ("object_unsupported" if state == "DEAD" else "object_left_out")


@pytest.mark.parametrize(
    ("objects", "level", "words"),
    [(["auto"], Level.WARNING, "it is left out there"), (["presentation-state"], Level.WRONG, "will be DEAD")],
)
def test_check_tells_what_will_be_left_out(tmp_path, objects, level, words):
    with archive() as (port, _):
        to = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        made = settings(tmp_path, destinations=[to], encode={"objects": objects})
        (answer,) = (
            each for each in checks.check(made, with_models=False) if "Softcopy Presentation State" in each.text
        )
    assert answer.level is level
    assert words in answer.text


@pytest.mark.parametrize(
    ("objects", "unasked"),
    [(None, {"presentation_state"}), (["seg", "sr"], set()), (["auto", "presentation-state"], set())],
)
def test_only_what_nobody_named_is_unasked(objects, unasked):
    assert load(overrides={"encode": {"objects": objects}} if objects else None).encode.unasked == unasked
