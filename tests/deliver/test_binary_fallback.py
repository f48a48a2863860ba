"""Destinations that do not know label maps get BINARY twins, and the ledger says so."""

import json
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from pydicom import dcmread
from pydicom.uid import SegmentationStorage

from cxr_dicom.cli import cli
from cxr_dicom.config import SelectSettings, Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.encode.common import write
from cxr_dicom.encode.objects import seg
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from cxr_dicom.records import InstanceResult, Outcome, StudyResult
from cxr_dicom.select import select
from cxr_dicom.service.courier import Courier
from cxr_dicom.service.recovery import recover
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Dispatch, Ledger
from cxr_dicom.store.ledger.schema import MIGRATIONS
from cxr_dicom.synthetic import radiograph
from tests import painted
from tests.deliver.helpers import STORED, failed, uids_of, web
from tests.service_helpers import archive, free_port, listening, send, storescp

BOTH_CLASSES = (SegmentationStorage, LABEL_MAP_STORAGE)


class Study:
    """A study in a spool, whose segmentations wait for the destinations ``pacs`` and ``web``."""

    def __init__(self, here, policy):
        self.ledger, self.spool = here.ledger, here.spool
        image = radiograph(97, 81)
        self.uid = image.StudyInstanceUID
        assert send(here.port, image) == [0]
        self.finish(policy)

    def finish(self, policy="labelmap", key="k"):
        """Process the study: two lungs and a heart that overlaps one of them are two label maps."""
        with self.ledger.transaction() as connection:
            connection.execute("UPDATE studies SET state = 'COMPLETE'")  # again too, without a new image
        claim = self.ledger.studies.claim("w", max_interruptions=9)
        (image,) = select(claim.study, SelectSettings()).images
        study = painted.study(painted.analysis(image, (painted.anatomy(image),)))
        with self.spool.workspace() as folder:
            encoder = seg.build(painted.settings(segmentation=policy))
            made = self.spool.adopt(self.uid, [write(each, folder) for each in encoder.encode(study)])
        result = InstanceResult(
            path=image.instance.path, outcome=Outcome.PROCESSED, instance=image.instance, objects=tuple(made)
        )
        routes = [Dispatch(destination=name, verify=False) for name in ("pacs", "web")]
        self.ledger.studies.finish(
            claim, StudyResult(study_instance_uid=self.uid, job_key=key, instances=(result,)), [], routes
        )

    def courier(self, name, **destination):
        made = Settings.model_validate({"destinations": [{"name": name, "timeout_seconds": 5, **destination}]})
        built = build_destination(made.destinations[0], lambda uid: None)
        return Courier(built, self.ledger, AuditTrail(self.spool.folder), self.spool)

    def dicom(self, port):
        return self.courier("pacs", kind="dicom", address="127.0.0.1", port=port, ae_title="ARCHIVE")

    def web(self, port):
        return self.courier("web", kind="dicomweb", url=f"http://127.0.0.1:{port}")

    def objects(self, sop_class):
        return [each for each in self.story()["objects"] if each["sop_class_uid"] == sop_class]

    def story(self):
        return self.ledger.stories.show(self.uid)

    def deliveries(self, destination):
        """(state, status, detail) by SOP Instance UID."""
        return {
            each["sop_instance_uid"]: (row["state"], row["status"], row["detail"])
            for each in self.story()["objects"]
            for row in each["deliveries"]
            if row["destination"] == destination
        }

    def assert_told(self, destination, status):
        """Two label maps are replaced by two twins, which were taken; the receipts name them."""
        told, binary_fallback = self.deliveries(destination), self.objects(SegmentationStorage)
        assert len(binary_fallback) == 2
        for twin in binary_fallback:
            detail = f"SOP class not supported; BINARY twin {twin['sop_instance_uid']} sent instead"
            assert told.pop(twin["twin_of"]) == ("replaced", status, detail)
            assert told.pop(twin["sop_instance_uid"])[0] == "delivered"
        assert not told


@pytest.fixture
def study(tmp_path):
    with listening(tmp_path / "spool", listener={"port": free_port()}) as here:
        yield Study(here, "labelmap")


def carry(made):
    while made.carry():
        pass


def test_storescp_gets_twins(study, tmp_path):
    with storescp(tmp_path / "taken") as port:
        carry(study.dicom(port))
    study.assert_told("pacs", "CONTEXT_REJECTED")
    taken = [dcmread(path) for path in (tmp_path / "taken").iterdir()]
    assert {each.SOPInstanceUID for each in taken} == {
        each["sop_instance_uid"] for each in study.objects(SegmentationStorage)
    }
    assert sorted(item.TrackingID for each in taken for item in each.SegmentSequence) == [
        "heart",
        "left_lung",
        "right_lung",
    ]
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        carry(study.web(port))
    ((first, second),) = map(uids_of, posts)  # the label maps: twins are only for whom they were made
    assert {first, second} == {each["sop_instance_uid"] for each in study.objects(LABEL_MAP_STORAGE)}
    assert study.story()["state"] == "SENT"


def test_a_status_says_that_the_class_is_not_supported(study):
    with archive(contexts=BOTH_CLASSES, status=lambda number: 0x0122 if number < 2 else 0) as (port, received):
        carry(study.dicom(port))
    study.assert_told("pacs", "0x0122")
    assert set(received) == {each["sop_instance_uid"] for each in study.objects(SegmentationStorage)}


@pytest.mark.parametrize(
    ("answer", "status"),
    [((200, {}, failed(290)), "HTTP 200 0x0122"), ((409, {}, failed(290)), "HTTP 409 0x0122"), ((415, {}, None), None)],
)
def test_stow(study, answer, status):
    taken = (200, {}, STORED)
    with web(lambda n, post: answer if LABEL_MAP_STORAGE.encode() in post[:400] else taken) as (port, posts):
        carry(study.web(port))
    study.assert_told("web", status or "HTTP 415")
    both, alone, twins = 1, 2, 1
    forms = (0, 0) if status else (1, 2)  # a server that took nothing yet may not like the form
    assert len(posts) == both + forms[0] + alone * (1 + forms[1]) + twins


def test_a_destination_that_takes_no_segmentation_at_all_is_a_refusal(study):
    with archive() as (port, _):
        carry(study.dicom(port))
    states = sorted(state for state, *_ in study.deliveries("pacs").values())
    assert states == ["refused", "refused", "replaced", "replaced"]


def test_other_refusals_have_no_twin(study):
    with archive(contexts=BOTH_CLASSES, status=0xA900) as (port, _):
        carry(study.dicom(port))
    assert study.objects(SegmentationStorage) == []
    assert {state for state, *_ in study.deliveries("pacs").values()} == {"refused"}


def test_where_binary_goes_anyway_nothing_is_made(tmp_path):
    with (
        listening(tmp_path / "spool", listener={"port": free_port()}) as here,
        archive(contexts=(SegmentationStorage,)) as (port, received),
    ):
        study = Study(here, "both")
        carry(study.dicom(port))
        (binary,) = study.objects(SegmentationStorage)
        told = study.deliveries("pacs")
        assert told.pop(binary["sop_instance_uid"])[0] == "delivered"
        assert [state for state, *_ in told.values()] == ["replaced"] * 2
        assert all(binary["sop_instance_uid"] in detail for *_, detail in told.values())
        assert [len(copies) for copies in received.values()] == [1]


def test_a_crash_at_any_moment_makes_no_second_twin(study, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with archive(contexts=(SegmentationStorage,)) as (port, received):
        made = study.dicom(port)
        with monkeypatch.context() as patch:
            patch.setattr(study.ledger.deliveries, "replace", crash)
            with pytest.raises(KeyboardInterrupt):
                made.carry()
        left = {path.name: path.read_bytes() for path in (study.spool.folder / "objects").glob("*/*")}
        assert len(left) == 3  # two label maps, and a twin that nobody knows
        recover(study.spool, study.ledger, AuditTrail(study.spool.folder))
        carry(made)
    study.assert_told("pacs", "CONTEXT_REJECTED")
    files = {path.name: path.read_bytes() for path in (study.spool.folder / "objects").glob("*/*")}
    assert len(files) == 4
    assert left.items() <= files.items()
    assert [len(copies) for copies in received.values()] == [1, 1]


def test_a_damaged_label_map_is_tried_again_and_holds_up_no_other(study):
    first, second = (study.spool.folder / each["path"] for each in study.objects(LABEL_MAP_STORAGE))
    whole = first.read_bytes()
    with archive(contexts=(SegmentationStorage,)) as (port, _):
        made = study.dicom(port)
        dataset = dcmread(first)
        dataset.PixelData = b"\0\0"
        dataset.save_as(first)
        made.carry()
        assert sorted(state for state, *_ in study.deliveries("pacs").values()) == ["replaced", "waiting", "waiting"]
        first.write_bytes(whole)
        study.ledger.deliveries.retry(study.uid)
        carry(made)
    assert second.is_file()
    study.assert_told("pacs", "CONTEXT_REJECTED")


def test_the_same_result_again_keeps_a_twin_on_its_way(study):
    with archive(contexts=(SegmentationStorage,)) as (port, _):
        made = study.dicom(port)
        made.carry()
        study.finish(key="another")
        carry(made)
    study.assert_told("pacs", "CONTEXT_REJECTED")


def test_a_newer_result_withdraws_a_twin_on_its_way(study):
    with archive(contexts=(SegmentationStorage,)) as (port, received):
        made = study.dicom(port)
        made.carry()
        study.finish(policy="binary", key="another")
        carry(made)
        assert len(received) == 1
        study.finish(key="back")
        carry(made)
        assert len(received) == 3


def test_a_ledger_of_the_first_version_is_brought_up(study, tmp_path, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr("cxr_dicom.store.ledger.MIGRATIONS", MIGRATIONS[:1])
        Ledger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as old:
        old.execute("ATTACH ? AS now", (str(study.ledger.path),))
        for table in ("studies", "instances", "jobs", "objects"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT INTO main.{table} SELECT {columns} FROM now.{table}")
        old.commit()
    reopened = Ledger(tmp_path)
    try:
        assert [each["twin_of"] for each in reopened.stories.show(study.uid)["objects"]] == [None, None]
    finally:
        reopened.close()


def test_jobs_show_tells_it(study, tmp_path):
    with archive(contexts=(SegmentationStorage,)) as (port, _):
        carry(study.dicom(port))
    config = tmp_path / "cxr-dicom.toml"
    config.write_text(f'[spool]\nfolder = "{study.spool.folder}"\n')
    shown = CliRunner().invoke(cli, ["jobs", "show", study.uid, "--config", str(config), "--json"])
    objects = json.loads(shown.output)["objects"]
    binary_fallback = {each["sop_instance_uid"]: each["twin_of"] for each in objects if each["twin_of"]}
    told = [row["detail"] for each in objects for row in each["deliveries"] if row["state"] == "replaced"]
    assert sorted(told) == sorted(f"SOP class not supported; BINARY twin {uid} sent instead" for uid in binary_fallback)
    assert study.uid in CliRunner().invoke(cli, ["jobs", "show", study.uid, "--config", str(config)]).output
    audit = [json.loads(line) for line in (study.spool.folder / "audit.jsonl").read_text().splitlines()]
    assert {each["sop_instance_uid"] for each in audit if each["action"] == "object_unsupported"} == set(
        binary_fallback.values()
    )
