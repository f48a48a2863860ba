"""Many workers and a small archive: one sender at a time, and busy is not gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, Verification

from cxr_dicom.cohort.delivery import ATTEMPTS, BUSY_SECONDS, Delivery, NotDeliveredError
from cxr_dicom.config import Settings
from cxr_dicom.records import Reason
from cxr_dicom.synthetic import radiograph
from tests.deliver.helpers import STORED, uids_of, web
from tests.service_helpers import as_object, associated, free_port, wait_for


class SmallArchive:
    """Takes so many associations at once; knows how many there were, and how often it turned somebody away."""

    def __init__(self, slots):
        self.most = self.open = self.turned_away = 0
        self.received, self._guard = [], threading.Lock()
        entity = AE("ARCHIVE")
        entity.maximum_associations = slots
        entity.add_supported_context(DigitalXRayImageStorageForPresentation)
        entity.add_supported_context(Verification)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ESTABLISHED, lambda event: self._count(1)),
            (evt.EVT_CONN_CLOSE, lambda event: self._count(-1) if event.assoc.accepted_contexts else None),
            (evt.EVT_REJECTED, lambda event: self._reject()),
        ]
        self._entity = entity
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]

    @property
    def associations(self):
        return self._entity.active_associations

    def _count(self, more):
        with self._guard:
            self.open += more
            self.most = max(self.most, self.open)

    def _reject(self):
        self.turned_away += 1

    def _store(self, event):
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()


def delivery(pause=lambda seconds: None, **table):
    pacs = {"name": "pacs", "kind": "dicom", "address": "127.0.0.1", "ae_title": "ARCHIVE", "timeout_seconds": 5}
    table = table if "kind" in table else pacs | table
    return Delivery(Settings.model_validate({"destinations": [table]}), "pacs", pause)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("objects"), []
    for seed in range(12):
        image = radiograph(16, 16, seed=seed)
        image.save_as(folder / f"{seed}.dcm", enforce_file_format=True)
        made.append(as_object(folder / f"{seed}.dcm", image))
    return made


def test_six_workers_take_one_of_two_slots(objects, tmp_path):
    with SmallArchive(slots=2) as there, ThreadPoolExecutor(6) as workers:
        senders = [delivery(port=there.port) for _ in range(6)]
        sent = [workers.submit(senders[number % 6].send, [each], {}, tmp_path) for number, each in enumerate(objects)]
        assert all(each.result() for each in sent)
    assert sorted(there.received) == sorted(each.sop_instance_uid for each in objects)
    assert (there.most, there.turned_away) == (1, 0)


def test_an_archive_that_is_busy_for_long_is_waited_for(objects, tmp_path):
    pauses = []
    with SmallArchive(slots=1) as there, associated(there.port, Verification) as other:

        def pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 2 * ATTEMPTS:
                other.release()
                wait_for(lambda: not there.associations)

        delivered = delivery(pause, port=there.port).send(objects[:1], {}, tmp_path)
    assert delivered == {objects[0].sop_instance_uid: objects[0].sop_instance_uid}
    assert len(pauses) >= 2 * ATTEMPTS
    assert there.turned_away == len(pauses)


def test_an_archive_that_is_busy_for_ever_is_busy_and_not_gone(objects, tmp_path):
    pauses = []
    with SmallArchive(slots=1) as there, associated(there.port, Verification), pytest.raises(NotDeliveredError) as left:
        delivery(pauses.append, port=there.port).send(objects[:1], {}, tmp_path)
    assert left.value.reason is Reason.DELIVERY_FAILED
    assert "BUSY" in str(left.value)
    assert BUSY_SECONDS <= sum(pauses) < 2 * BUSY_SECONDS


def test_an_archive_that_is_gone_is_gone_at_once(objects, tmp_path):
    pauses = []
    with pytest.raises(NotDeliveredError) as left:
        delivery(pauses.append, port=free_port()).send(objects[:1], {}, tmp_path)
    assert left.value.reason is Reason.DESTINATION_UNREACHABLE
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize(("status", "headers"), [(429, {}), (503, {"Retry-After": "5"})])
def test_a_web_server_that_is_busy_is_waited_for(objects, tmp_path, status, headers):
    pauses = []
    busy = 2 * ATTEMPTS
    with web(lambda n, post: (status, headers, None) if n < busy else (200, {}, STORED)) as (port, _):
        web_server = delivery(pauses.append, name="pacs", kind="dicomweb", url=f"http://127.0.0.1:{port}")
        assert web_server.send(objects[:1], {}, tmp_path)
    assert len(pauses) == busy


def test_an_object_at_which_a_web_server_breaks_off_holds_up_no_other(objects, tmp_path):
    few = objects[:5]
    bad = few[2].sop_instance_uid

    def answer(number, post):
        if bad in uids_of(post):
            raise ConnectionAbortedError
        return 200, {}, STORED

    with web(answer) as (port, _):
        sender = delivery(kind="dicomweb", name="pacs", url=f"http://127.0.0.1:{port}")
        with pytest.raises(NotDeliveredError, match="1 of 5 objects") as failed:
            sender.send(few, {}, tmp_path)
    assert set(failed.value.delivered) == {each.sop_instance_uid for each in few} - {bad}
