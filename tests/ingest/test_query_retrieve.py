"""Archives that lie by C-FIND, C-GET and C-MOVE, over real associations."""

import socket
import threading
from contextlib import suppress

import pytest
from pydicom import Dataset
from pydicom.uid import (
    AllTransferSyntaxes,
    DigitalXRayImageStorageForPresentation,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from cxr_dicom.config.service import ListenerSettings, QueryRetrieveArchive
from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import IncompleteAnswerError, RemoteInstance, RemoteStudy, StudyQuery
from cxr_dicom.ingest.archives.query_retrieve import QueryRetrieve
from tests.ingest.pacs import matches, studies

ALL = StudyQuery(since="20260101")
MODALITIES = ("CR", "DX")
RETURNED = ("StudyDate", "StudyTime", "AccessionNumber", "PatientID", "StudyInstanceUID")


def match(image, level="STUDY"):
    names = {
        "STUDY": RETURNED,
        "SERIES": ("StudyInstanceUID", "SeriesInstanceUID", "Modality"),
        "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
    }[level]
    found = Dataset()
    found.QueryRetrieveLevel = level
    for name in names:
        setattr(found, name, image[name].value)
    if level == "STUDY":
        found.ModalitiesInStudy, found.NumberOfStudyRelatedInstances = image.Modality, 1
    return found


class Peer:
    """Matches as PS3.4 wants it; a test changes what it does."""

    def __init__(self, images):
        self.images = images
        self.ignores = set()
        self.change = lambda found: found
        self.find = self._find
        self.get = self._get
        self.queries = []

    def _find(self, query):
        for image in self.images:
            keys = {each.keyword: str(each.value) for each in query if each.value and each.keyword not in self.ignores}
            del keys["QueryRetrieveLevel"]
            if all(matches(image, key, value) for key, value in keys.items()):
                yield 0xFF00, self.change(match(image, query.QueryRetrieveLevel))

    def _get(self, event):
        wanted = [each for each in self.images if each.SOPInstanceUID == event.identifier.SOPInstanceUID]
        yield len(wanted)
        for image in wanted:
            yield 0xFF00, image

    def on_find(self, event):
        self.queries.append(event.identifier)
        yield from self.find(event.identifier)

    def on_get(self, event):
        yield from self.get(event)


class Server:
    """Runs for all tests of this file, for it takes a while; it speaks as the peer of the test does."""

    def __init__(self, answers_roles):
        self.peer = None
        entity = AE("QR")
        for model in (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove,
            Verification,
        ):
            entity.add_supported_context(model)
        roles = {"scu_role": answers_roles or None, "scp_role": answers_roles or None}
        entity.add_supported_context(DigitalXRayImageStorageForPresentation, list(AllTransferSyntaxes), **roles)
        handlers = [
            (evt.EVT_C_FIND, lambda event: self.peer.on_find(event)),
            (evt.EVT_C_GET, lambda event: self.peer.on_get(event)),
            (evt.EVT_C_MOVE, lambda event: iter([(None, None)])),
        ]
        self.running = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.running.server_address[1]


@pytest.fixture(scope="module")
def servers():
    made = {answers_roles: Server(answers_roles) for answers_roles in (True, False)}
    yield made
    for server in made.values():
        server.running.shutdown()


def asked(peer, **more):
    """Make a client of the server, which speaks as ``peer`` from now on."""
    server = peer.servers[peer.answers_roles]
    server.peer = peer
    return client(server.port, **more)


def client(port, **more):
    table = {"address": "127.0.0.1", "port": port, "ae_title": "QR", "timeout_seconds": 20, **more}
    return QueryRetrieve(QueryRetrieveArchive(kind="query-retrieve", name="qr", **table), ListenerSettings())


@pytest.fixture
def peer(servers):
    made = Peer(list(studies(3)))
    made.servers, made.answers_roles = servers, True
    return made


def found(archive, query=ALL):
    return [study.study_instance_uid for study in archive.studies(query, MODALITIES)]


def uids(peer):
    return {each.StudyInstanceUID for each in peer.images}


# --- C-FIND --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x0000, 0xFE00, 0xA700])
def test_an_archive_that_gives_no_more_than_it_likes_hides_nothing(peer, status):
    """0xFE00 is Orthanc's, DCMTK's and others' way to say that there are too many; 0x0000 says nothing."""
    peer.images = list(studies(60))
    true = peer.find

    def capped(query):
        for number, answer in enumerate(true(query)):
            if number == 25:
                if status:
                    yield status, None
                return
            yield answer

    peer.find = capped
    assert set(found(asked(peer))) == uids(peer)


def test_a_cap_that_cannot_be_passed_is_told(peer):
    for each in peer.images:
        each.PatientID, each.StudyTime, each.StudyDate = "P", "101112", "20260101"

    def capped(query):
        yield 0xFF00, match(peer.images[0])
        yield 0xFE00, None

    peer.find = capped
    with pytest.raises(IncompleteAnswerError, match="1 studies were given, and nothing proves"):
        found(asked(peer))


@pytest.mark.parametrize("key", ["AccessionNumber", "ModalitiesInStudy", "StudyDate"])
def test_a_key_that_is_ignored_lets_no_foreign_study_in(peer, key, caplog):
    peer.ignores = {key}
    peer.images[1][{"AccessionNumber": "PatientID", "ModalitiesInStudy": "Modality"}.get(key, key)].value = "20250101"
    query = StudyQuery(accession_number="A0") if key == "AccessionNumber" else ALL
    assert set(found(asked(peer), query)) <= {peer.images[0].StudyInstanceUID, peer.images[2].StudyInstanceUID}
    assert f"do not match {key}" in caplog.records[0].fields["reason"]


@pytest.mark.parametrize("status", [0xA900, 0xC001])
def test_a_question_that_is_refused_is_asked_more_plainly(peer, status, caplog):
    peer.images[1].Modality = "CT"
    true = peer.find

    def picky(query):
        if query.get("ModalitiesInStudy"):
            failed = Dataset()
            failed.Status, failed.ErrorComment = status, "no key ModalitiesInStudy, Doe^Jane"
            yield failed, None
        else:
            yield from true(query)

    peer.find = picky
    assert set(found(asked(peer))) == uids(peer) - {peer.images[1].StudyInstanceUID}
    (told,) = (each.fields["reason"] for each in caplog.records)
    assert "(no key ModalitiesInStudy, ...)" in told


def test_a_search_that_fails_is_told_with_its_status(peer, monkeypatch):
    monkeypatch.setattr("cxr_dicom.ingest.search._MOST_REFUSALS", 2)
    peer.find = lambda query: iter([(0xA700, None)])
    with pytest.raises(ConnectionFailedError, match="0xA700: C-FIND failed: out of resources"):
        found(asked(peer))


def odd(found):
    found.StudyInstanceUID = f" {found.StudyInstanceUID}\0"
    found.StudyDate = found.StudyDate + " "
    found.add_new("NumberOfStudyRelatedInstances", "LO", "many")
    found.SpecificCharacterSet = "ISO_IR 999"
    found.add_new("PatientName", "PN", b"M\xfcller^J\xf6rg=\xff")
    return found


def test_matches_as_archives_write_them_are_read(peer):
    peer.change = odd
    assert set(found(asked(peer))) == uids(peer)


def test_a_match_that_cannot_be_read_holds_up_no_other(peer):
    def first_is_bad(found):
        if found.StudyInstanceUID == peer.images[0].StudyInstanceUID:
            del found.StudyInstanceUID
        return found

    peer.change = first_is_bad
    got = []
    with pytest.raises(IncompleteAnswerError, match="cannot be read"):
        got.extend(each.study_instance_uid for each in asked(peer).studies(ALL, MODALITIES))
    assert set(got) == {each.StudyInstanceUID for each in peer.images[1:]}


def test_a_search_without_end_comes_to_one(peer, monkeypatch):
    monkeypatch.setattr("cxr_dicom.ingest.archives.query_retrieve._MAX_ANSWER", 50_000)

    def endless(query):
        number = 0
        while True:
            number += 1
            item = match(peer.images[0])
            item.StudyInstanceUID = f"1.2.{number}"
            yield 0xFF00, item

    peer.find = endless
    with pytest.raises(ConnectionFailedError):
        found(asked(peer))


def test_an_archive_that_drips_costs_its_time_limit():
    """It accepts the association, then sends a byte now and then."""
    accepting = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip():
        with suppress(OSError):
            connection, _ = accepting.accept()
            with connection:
                request = connection.recv(65536)
                connection.sendall(_accepted(request))
                connection.recv(65536)
                while not ended.wait(0.05):
                    connection.sendall(b"\x04")

    threading.Thread(target=drip, daemon=True).start()
    with pytest.raises(ConnectionFailedError):
        found(client(accepting.getsockname()[1], timeout_seconds=0.5))
    ended.set()
    accepting.close()


def _accepted(request):
    """Make an A-ASSOCIATE-AC for the only context of a request (PS3.8 9.3.3)."""
    from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

    asked_for = A_ASSOCIATE_RQ()
    asked_for.decode(request)
    primitive = asked_for.to_primitive()
    (context,) = primitive.presentation_context_definition_list
    context.result, context.transfer_syntax = 0, context.transfer_syntax[:1]
    primitive.presentation_context_definition_results_list = [context]
    primitive.result, primitive.result_source = 0, 1
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    return answer.encode()


# --- images --------------------------------------------------------------------------------------


def listed(archive, peer):
    return list(archive.instances(RemoteStudy(study_instance_uid=peer.images[0].StudyInstanceUID), MODALITIES))


def fetched(archive, peer):
    kept = []
    (image,) = listed(archive, peer)
    archive.fetch(image, lambda chunks, about: kept.append(b"".join(chunks)))
    return kept


def test_images_of_another_study_are_not_listed(peer, caplog):
    peer.ignores = {"StudyInstanceUID"}
    assert [each.sop_instance_uid for each in listed(asked(peer), peer)] == [peer.images[0].SOPInstanceUID]
    assert "does not match StudyInstanceUID" in caplog.records[0].fields["reason"]


def test_a_listing_that_is_cut_is_not_whole(peer):
    true = peer.find

    def cut(query):
        yield from true(query)
        yield 0xFE00, None

    peer.find = cut
    with pytest.raises(FetchError, match="lists only some"):
        listed(asked(peer), peer)


@pytest.mark.parametrize("answers_roles", [True, False])
def test_a_c_get_needs_no_answer_about_roles(peer, answers_roles):
    """Without one the default roles hold (PS3.7 D.3.3.4); archives that do not answer send all the same."""
    peer.answers_roles = answers_roles

    def get(event):
        for context in event.assoc.accepted_contexts:
            context._as_scu = True
        yield from Peer._get(peer, event)

    peer.get = get
    assert len(fetched(asked(peer), peer)) == 1


def test_an_archive_that_takes_the_wrong_one_of_many_syntaxes_is_offered_each_by_itself(peer):
    """It chooses one syntax for each context, and cannot send what it keeps in another."""
    chosen = []

    def get(event):
        chosen.append({each.transfer_syntax[0] for each in event.assoc.accepted_contexts})
        if JPEG2000Lossless in chosen[-1]:
            yield from Peer._get(peer, event)
        else:
            yield 1
            yield 0xA702, None

    peer.get = get
    archive = asked(peer)
    assert len(fetched(archive, peer)) == 1
    assert len(fetched(archive, peer)) == 1
    assert [JPEG2000Lossless in each for each in chosen] == [False, True, True]


def test_another_image_than_asked_is_not_taken(peer):
    def get(event):
        yield 1
        yield 0xFF00, peer.images[1]

    peer.get = get
    with pytest.raises(FetchError, match="C-GET of"):
        fetched(asked(peer), peer)


@pytest.mark.parametrize("error", [FetchError("damaged"), ConnectionFailedError("X", "y")])
def test_why_we_did_not_take_an_image_is_not_the_archive_s_word(peer, error):
    def refuse(chunks, about):
        raise error

    archive = asked(peer)
    with pytest.raises(type(error), match=str(error)):
        archive.fetch(listed(archive, peer)[0], refuse)


def test_a_destination_that_the_archive_does_not_know_is_said_in_words(peer):
    archive = asked(peer, retrieve="move")
    with pytest.raises(FetchError, match="0xA801, it does not know our AE"):
        archive.fetch(listed(archive, peer)[0], lambda *_: None)


def test_a_class_that_the_archive_states_is_the_only_one_proposed(peer):
    image = RemoteInstance(
        study_instance_uid="1",
        series_instance_uid="2",
        sop_instance_uid="3",
        sop_class_uid=DigitalXRayImageStorageForPresentation,
    )
    archive = client(1)
    archive._is_by_syntax = True
    contexts = archive._storage_contexts(image)
    assert {each.abstract_syntax for each in contexts} == {DigitalXRayImageStorageForPresentation}
    assert all(len(each.transfer_syntax) == 1 for each in contexts)
    assert SecondaryCaptureImageStorage not in {each.abstract_syntax for each in contexts}
