"""One service, three kinds of senders: what arrives where, asked of DCMTK's storescu and storescp and of Orthanc."""

import json
from io import BytesIO
from urllib.request import urlopen

from pydicom import dcmread

from cxr_dicom.service.worker import build_pipeline
from cxr_dicom.synthetic import radiograph, write_study
from tests.service_helpers import serving, storescp, wait_for_state

ROUTES = [
    {"name": "neonates", "stations": ["nicu 1"], "models": []},
    {"name": "research", "called_ae_titles": ["CXR_RESEARCH"], "objects": ["seg"], "destinations": ["research"]},
    {"name": "ward", "senders": ["WARD"], "objects": ["sr"], "destinations": ["pacs", "research"]},
    {"name": "clinical", "destinations": ["pacs"]},
]


def test_what_arrives_where(tmp_path, storescu, orthanc):
    pacs = orthanc()
    images = [radiograph(160, 128, seed=n, StationName="NICU  1" if n == 3 else "R1") for n in range(4)]
    paths = write_study(tmp_path / "in", images)
    clinical, research, ward, neonate = (each.SOPInstanceUID for each in images)
    study = images[0].StudyInstanceUID
    with storescp(tmp_path / "research") as port:
        destinations = [
            {"kind": "dicom", "name": name, "address": "127.0.0.1", "port": where, "ae_title": "ARCHIVE"}
            for name, where in (("pacs", pacs.dicom_port), ("research", port))
        ]
        tables = {
            "listener": {"ae_title": ["CXR", "CXR_RESEARCH"]},
            "models": {"names": ["offline-anatomy"], "device": "cpu"},
            "encode": {"objects": ["seg", "sr"], "segmentation": "binary"},
            "select": {"no_lungs": "process"},
            "assembly": {"quiet_seconds": 3},
        }
        with serving(
            tmp_path / "spool", build=build_pipeline, routes=ROUTES, destinations=destinations, **tables
        ) as here:
            ways = (("CT1", "CXR"), ("CT1", "CXR_RESEARCH"), ("ward", "CXR"), ("CT1", "CXR"))
            for path, (calling, called) in zip(paths, ways, strict=True):
                assert storescu(here.settings.listener.port, path, aet=calling, aec=called).returncode == 0
            assert (
                "Called AE Title Not Recognized" in storescu(here.settings.listener.port, paths[0], aec="CXR2").stderr
            )
            wait_for_state(here, study, "SENT", seconds=120)
            story = here.ledger.stories.show(study)
        at_research = [dcmread(path) for path in (tmp_path / "research").iterdir()]
    at_pacs = [dcmread(BytesIO(urlopen(f"{pacs.url}/instances/{uid}/file").read())) for uid in pacs.get("/instances")]
    assert {each["sop_instance_uid"]: (each["called_ae_title"], each["route"]) for each in story["instances"]} == {
        clinical: ("CXR", "clinical"),
        research: ("CXR_RESEARCH", "research"),
        ward: ("CXR", "ward"),
        neonate: ("CXR", "neonates"),
    }

    def said(objects):
        """Return the modality of each object, and which of the images it names."""
        texts = [(each.Modality, json.dumps(each.to_json_dict())) for each in objects]
        return {(modality, tuple(uid for uid in ways_of if uid in text)) for modality, text in texts}

    ways_of = [image.SOPInstanceUID for image in images]
    assert said(at_pacs) == {("SEG", (clinical,)), ("SR", (clinical,)), ("SR", (ward,))}
    assert said(at_research) == {("SEG", (research,)), ("SR", (ward,))}
