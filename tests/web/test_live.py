"""The pages of the service: what they show of the ledger, what a person does on them, and who may."""

import http.client
import json
import random
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from cxr_dicom.config.web import Right
from cxr_dicom.deliver.base import Destination
from cxr_dicom.infer.catalogue import runnable
from cxr_dicom.records import DeliveryStatus, StudyState
from cxr_dicom.service.courier import Courier
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger, overview
from cxr_dicom.store.ledger.schema import MIGRATIONS
from cxr_dicom.store.spool import Spool
from cxr_dicom.web import now
from cxr_dicom.web.application import Web
from cxr_dicom.web.now import NowPages
from cxr_dicom.web.site import PAGE_SIZE, Search
from cxr_dicom.web.spool import SpoolSite
from cxr_dicom.web.studies import StudyPages
from cxr_dicom.web.visitors import ALL_RIGHTS, Visitors
from tests.service_helpers import free_port, settings, wait_for
from tests.store.ledger import helpers as made
from tests.web import helpers

STUDY = made.STUDY


@pytest.fixture
def ledger(tmp_path):
    Spool(settings(tmp_path / "spool"))
    ledger = Ledger(tmp_path / "spool")
    yield ledger
    ledger.close()


@contextmanager
def live(ledger, rights=ALL_RIGHTS, problems=None):
    """Serve the pages of a ledger, without a service behind them."""
    told = settings(ledger.folder, web={"port": free_port()}, destinations=[FOLDER])
    stopping = threading.Event()
    now, visitors = NowPages(told, ledger, lambda: problems or {}, stopping), Visitors(told.web, rights)
    shown = (*now.pages(), *StudyPages(SpoolSite(ledger), models=lambda: runnable(told)).pages())
    web = Web(name="spool", settings=told.web, visitors=visitors, pages=shown, port=told.web.port)
    try:
        with helpers.served(web) as client:
            yield client.enter()
            stopping.set()
    finally:
        now.close()


FOLDER = {"kind": "folder", "name": "pacs", "path": "out"}


@pytest.fixture
def client(ledger):
    with live(ledger) as client:
        yield client


def dead(ledger):
    made.sent(ledger, "pacs")
    made.say(ledger, DeliveryStatus.REFUSED)
    assert made.state(ledger) == StudyState.DEAD


def act(client, path):
    return client.post(path, form_token=client.form_token)


def trail(ledger):
    return [json.loads(line) for line in (ledger.folder / "audit.jsonl").read_text().splitlines()]


# --- acting --------------------------------------------------------------------------------------


def test_what_was_given_up_is_tried_again_by_a_person_who_stands_in_the_trail(ledger, client):
    dead(ledger)
    assert f'action="/studies/{STUDY}/retry"' in client.get("/now").text
    answer = act(client, f"/studies/{STUDY}/retry")
    assert (answer.status, answer.headers["location"]) == (303, f"/studies/{STUDY}")
    assert made.state(ledger) == StudyState.ENCODED
    (line,) = [each for each in trail(ledger) if each["action"] == "study_retried"]
    assert (line["by"], line["via"], line["study_instance_uid"]) == ("link", "page", STUDY)


def test_what_is_not_possible_is_refused_with_its_reason(ledger, client):
    made.sent(ledger, "pacs")
    answer = act(client, f"/studies/{STUDY}/complete")
    assert answer.status == 409
    assert "expected RECEIVING, found ENCODED" in answer.text
    assert act(client, "/studies/1.9.9/retry").status == 404
    assert act(client, "/destinations/elsewhere/withdraw").status == 404


def test_a_study_that_still_waits_is_closed(ledger, client):
    ledger.studies.add(made.instance(ledger), "aa")
    assert act(client, f"/studies/{STUDY}/complete").status == 303
    assert made.state(ledger) == StudyState.COMPLETE


def test_a_study_is_deleted_with_its_pictures(ledger, client):
    made.sent(ledger, "pacs")
    path = Spool(settings(ledger.folder)).keep_shown(STUDY, "{}")
    ledger.overview.keep(STUDY, path)
    assert act(client, f"/studies/{STUDY}/forget").status == 303
    assert not path.exists()
    assert client.get(f"/studies/{STUDY}").status == 404


def test_a_study_is_processed_again_with_the_models_that_are_ticked(ledger, client):
    made.sent(ledger, "pacs")
    page = client.get(f"/studies/{STUDY}").text
    assert page.index('name="model offline-anatomy"') < page.index('name="model lung-opacity"'), "what it needs"
    assert "xrv-densenet121-all" not in page, "its weights are not here"
    path, ticked = f"/studies/{STUDY}/reprocess", {"model lung-opacity": "1", "model offline-anatomy": "1"}
    assert client.post(path, form_token=client.form_token, **ticked, **{"model gone": "1"}).status == 409
    assert made.state(ledger) == StudyState.ENCODED
    assert client.post(path, form_token=client.form_token, **ticked).status == 303
    assert ledger.stories.show(STUDY)["models"] == ["offline-anatomy", "lung-opacity"]
    ledger.stories.drop_files(STUDY, "instances")
    assert "so it cannot be" in client.get(f"/studies/{STUDY}").text
    assert "images were deleted" in act(client, path).text


def test_a_study_that_waits_for_a_paused_destination_says_so(ledger, client):
    made.sent(ledger, "pacs")
    assert "paused" not in client.get("/studies").text + client.get(f"/studies/{STUDY}").text
    ledger.overview.pause("pacs")
    assert '<span class="tag paused">paused</span>' in client.get("/studies").text
    assert "to which nothing is sent since" in client.get(f"/studies/{STUDY}").text
    ledger.overview.resume("pacs")
    assert "paused" not in client.get("/studies").text


def test_all_that_one_destination_refused_is_tried_again(ledger, client):
    dead(ledger)
    assert act(client, "/destinations/pacs/retry").status == 303
    assert made.state(ledger) == StudyState.ENCODED


def test_what_waits_is_given_up(ledger, client):
    made.sent(ledger, "pacs")
    assert act(client, "/destinations/pacs/withdraw").status == 303
    assert ledger.deliveries.open() == {}


class Counting(Destination):
    name = "pacs"

    def __init__(self):
        self.asked = 0

    def send(self, objects):
        self.asked += 1
        return iter(())

    def verify(self, objects):
        return iter(())


def test_nothing_is_sent_to_a_destination_while_it_is_paused(ledger, client):
    made.sent(ledger, "pacs")
    destination = Counting()
    courier = Courier(destination, ledger, AuditTrail(ledger.folder), Spool(settings(ledger.folder)))
    assert act(client, "/destinations/pacs/pause").status == 303
    assert act(client, "/destinations/pacs/pause").status == 409
    assert "paused" in client.get("/now").text
    assert not courier.carry()
    assert destination.asked == 0
    assert act(client, "/destinations/pacs/resume").status == 303
    assert courier.carry()
    assert destination.asked == 1
    actions = [line["action"] for line in trail(ledger)]
    assert actions.count("destination_paused") == actions.count("destination_resumed") == 1


def test_who_may_only_look_acts_on_nothing_and_sees_no_patient(ledger):
    dead(ledger)
    kept(ledger)
    with live(ledger, [Right.LOOK]) as client:
        assert act(client, f"/studies/{STUDY}/retry").status == 403
        assert act(client, f"/studies/{STUDY}/forget").status == 403
        for path in ("/now", "/studies", f"/studies/{STUDY}"):
            text = client.get(path).text
            assert "form_token" not in text, path
            assert "Pneumothorax" not in text, path
            assert "<img" not in text, path
        assert client.get(f"/studies/{STUDY}/pictures/{STUDY}.1.1/0").status == 403
        assert client.get(f"/studies/{STUDY}/objects/9.1").status == 403
    assert made.state(ledger) == StudyState.DEAD


# --- looking -------------------------------------------------------------------------------------


def kept(ledger):
    """Keep rows and pictures of the study as a worker does."""
    score = {"probability": 0.9, "raw": 0.5, "operating_point": 0.4, "call": "present", "model": "m"}
    row = helpers.row(study=STUDY, sop_instance_uid=f"{STUDY}.1.1", scores={"pneumothorax": score})
    figure = {"title": "Radiograph", "model": "", "note": "", "legend": [], "is_heat": False, "source": helpers.PIXEL}
    text = json.dumps({"rows": [row], "figures": {f"{STUDY}.1.1": [figure]}})
    path = Spool(settings(ledger.folder)).keep_shown(STUDY, text)
    ledger.overview.keep(STUDY, path)
    return path


def test_a_study_tells_its_story_with_pictures(ledger, client):
    dead(ledger)
    kept(ledger)
    with ledger.transaction() as connection:
        connection.execute("UPDATE instances SET called_ae_title = 'CXR_LAB', route = 'research'")
    text = client.get(f"/studies/{STUDY}").text
    story = ("DEAD", "MODALITY to CXR_LAB", "on route research", "Pneumothorax", "pacs", "refused", "Timeline")
    for words in story:
        assert words in text, words
    assert client.get(f"/studies/{STUDY}/pictures/{STUDY}.1.1/0").headers["content-type"] == "image/png"


def test_pictures_go_with_the_objects(ledger, client):
    made.sent(ledger)
    path = kept(ledger)
    assert path in ledger.stories.paths(), "else a start would set it aside"
    assert path in ledger.stories.drop_files(STUDY, "objects")
    assert "No pictures" in client.get(f"/studies/{STUDY}").text or ledger.overview.shown(STUDY) is None


def test_the_page_hears_of_a_change(ledger, client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.request("GET", "/now/changes", headers={"Cookie": client.cookie, "Sec-Fetch-Site": "same-origin"})
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    first = [stream.readline() for _ in range(3)]
    ledger.studies.add(made.instance(ledger), "aa")
    second = [stream.readline() for _ in range(3)]
    connection.close()
    assert first[0] == second[0] == b"event: change\n"
    assert first[1] != second[1]
    assert "RECEIVING" in client.get("/now/part").text


def test_what_does_not_work_stands_on_top(ledger):
    with live(ledger, problems={"listener": "stopped"}) as client:
        assert client.get("/").text.index("stopped") < client.get("/").text.index("RECEIVING")


def test_the_counts_are_those_of_the_rows_whatever_happens(ledger):
    chance = random.Random(5)
    states = list(StudyState)
    with ledger.transaction() as connection:
        for _ in range(400):
            uid, state = f"1.{chance.randrange(40)}", chance.choice(states)
            connection.execute(
                "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES (?, ?, 1, 1)"
                " ON CONFLICT DO NOTHING",
                (uid, state),
            )
            connection.execute(
                "UPDATE studies SET state = ? WHERE study_instance_uid = ?", (chance.choice(states), uid)
            )
            if chance.random() < 0.3:
                connection.execute("DELETE FROM studies WHERE study_instance_uid = ?", (uid,))
    counted = {row["state"]: row["n"] for row in ledger.rows("SELECT state, count(*) n FROM studies GROUP BY 1")}
    assert {state: count for state, count in ledger.stories.counts().items() if count} == counted


def test_a_ledger_from_before_the_pages_is_counted_when_it_is_brought_up(tmp_path, monkeypatch):
    before = next(n for n, text in enumerate(MIGRATIONS) if "state_counts" in text)
    monkeypatch.setattr("cxr_dicom.store.ledger.MIGRATIONS", MIGRATIONS[:before])
    old = Ledger(tmp_path)
    with old.transaction() as connection:
        connection.execute(
            "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES ('1', 'DEAD', 1, 1)"
        )
    old.close()
    monkeypatch.undo()
    new = Ledger(tmp_path)
    assert new.stories.counts()[StudyState.DEAD] == 1
    new.close()


def many(ledger, number, *, since=1e9):
    """Add studies that were finished long ago, with an image, an object and its delivery each."""
    states = [StudyState.COMMITTED] * 8 + [StudyState.IGNORED, StudyState.DEAD]
    with ledger.transaction() as connection:
        for n in range(number):
            uid, when = f"1.2.826.{n}", since + n // 3  # some at the same time
            connection.execute(
                "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES (?, ?, ?, ?)",
                (uid, states[n % 10], when, when),
            )
            connection.execute(
                "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
                " sha256, received_at) VALUES (?, ?, '1', '1', '', ?)",
                (f"{uid}.1", uid, when),
            )
            connection.execute("INSERT INTO jobs VALUES (?, ?, '', 'processed', '[]', '{}', ?)", (n + 1, uid, when))
            connection.execute(
                "INSERT INTO objects (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid, job_id,"
                " kind, sources) VALUES (?, ?, '1', '1', ?, 'segmentation', '[]')",
                (f"{uid}.2", uid, n + 1),
            )
            connection.execute(
                "INSERT INTO deliveries (sop_instance_uid, destination, state, verify, changed_at)"
                " VALUES (?, 'pacs', ?, 0, ?)",
                (f"{uid}.2", "refused" if n % 10 == 9 else "committed", when),
            )


def test_pages_follow_each_other_without_gap_or_repeat(ledger):
    many(ledger, 2 * PAGE_SIZE + 20)
    site, seen, search = SpoolSite(ledger), [], Search()
    for _ in range(4):
        listing = site.find(search)
        seen += [line.key for line in listing.lines]
        if not listing.next:
            break
        search = Search(after=listing.next)
    assert len(seen) == len(set(seen)) == listing.total == 2 * PAGE_SIZE + 20


@pytest.mark.parametrize("uid", ["1.2.826.7", "1.2.826.7.1", "1.2.826.7.2"])
def test_a_study_is_found_by_its_uid_and_that_of_an_image_or_object(ledger, uid):
    many(ledger, 30)
    assert [line.key for line in SpoolSite(ledger).find(Search(uid=uid)).lines] == ["1.2.826.7"]


def test_the_first_digits_find_the_studies_that_begin_so(ledger):
    many(ledger, 30)
    found = SpoolSite(ledger).find(Search(uid="1.2.826.1", word="DEAD"))
    assert [line.key for line in found.lines] == ["1.2.826.19"]


@pytest.mark.parametrize("page", ["now", "", "word", "uid", "after"])
def test_pages_of_many_studies_take_no_more_steps_than_those_of_few(tmp_path, page):
    """Steps of SQLite's virtual machine, which no load of this machine changes."""
    steps = []
    for number in (1000, 20_000):
        (tmp_path / str(number)).mkdir()
        ledger = Ledger(tmp_path / str(number))
        many(ledger, number)
        now = NowPages(settings(ledger.folder), ledger, dict, threading.Event())
        search = {"word": Search(word="DEAD"), "uid": Search(uid="1.2.826"), "after": Search(after="1000000200.0_1")}
        counted = []
        ledger._connection().set_progress_handler(lambda counted=counted: counted.append(1) and None, 100)
        now.values() if page == "now" else SpoolSite(ledger).find(search.get(page, Search()))
        steps.append(len(counted))
        now.close()
        ledger.close()
    assert steps[1] < 2 * steps[0], steps


def test_pages_that_are_opened_at_once_are_counted_too(ledger, monkeypatch):
    monkeypatch.setattr(now, "_MAX_STREAMS", 3)
    with live(ledger) as client:
        asked = f"GET /now/changes HTTP/1.1\r\nHost: {client.host}\r\nCookie: {client.cookie}\r\n\r\n".encode()

        def opened():
            peers = [socket.create_connection(("127.0.0.1", client.port), timeout=20) for _ in range(20)]
            for peer in peers:
                peer.sendall(asked)
            live = sum(peer.recv(12) == b"HTTP/1.1 200" for peer in peers)
            for peer in peers:
                peer.close()
            return live

        assert opened() == 3
        assert wait_for(lambda: opened() == 3), "those that went count no more"


def test_a_stop_is_not_held_up_by_an_open_page(ledger):
    with live(ledger) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        connection.request("GET", "/now/changes", headers={"Cookie": client.cookie, "Sec-Fetch-Site": "same-origin"})
        connection.getresponse().readline()
        began = time.monotonic()
    assert time.monotonic() - began < 4
    connection.close()


def test_all_studies_are_told_once_however_they_are_read(ledger, monkeypatch):
    monkeypatch.setattr(overview, "_BATCH", 3)
    with ledger.transaction() as connection:
        rows = [(f"1.2.{number}", StudyState.SENT, 1.0, float(number // 4)) for number in range(10)]
        connection.executemany(
            "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES (?, ?, ?, ?)", rows
        )
    expected = sorted(rows, key=lambda row: (row[3], row[0]), reverse=True)
    assert list(ledger.overview.studies()) == [row[0] for row in expected]
