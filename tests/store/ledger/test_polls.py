"""What the poller has seen outlives it, for each archive by itself."""

from cxr_dicom.store.ledger.polls import PutOff


def test_before_the_first_round_nothing_is_known(ledger):
    assert ledger.polls.watermark("pacs") is None
    assert ledger.polls.instances("pacs", "1.2.3") is None


def test_how_far_an_archive_was_read_is_kept_and_moves(ledger):
    ledger.polls.set_watermark("pacs", "20260105")
    ledger.polls.set_watermark("other", "20250101")
    ledger.polls.set_watermark("pacs", "20260107")
    assert (ledger.polls.watermark("pacs"), ledger.polls.watermark("other")) == ("20260107", "20250101")


def test_how_large_a_study_was_is_kept_for_each_archive(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    ledger.polls.set_instances("pacs", "1.2.3", 2)
    ledger.polls.set_instances("pacs", "1.2.4", 7)
    ledger.polls.set_instances("other", "1.2.3", 9)
    ledger.polls.set_instances("pacs", "1.2.3", 3)
    found = {
        (archive, study): ledger.polls.instances(archive, study)
        for archive in ("pacs", "other")
        for study in ("1.2.3", "1.2.4")
    }
    assert found == {("pacs", "1.2.3"): 3, ("pacs", "1.2.4"): 7, ("other", "1.2.3"): 9, ("other", "1.2.4"): None}


def test_a_study_that_is_forgotten_may_be_fetched_again(ledger):
    ledger.polls.set_instances("pacs", "1.2.3", 2)
    ledger.polls.set_unwanted("pacs", "1.2.3.4", "1.2.3")
    ledger.polls.set_put_off("pacs", "1.2.3", PutOff(attempts=1, next_attempt_at=5.0, reason="HTTP 503"))
    ledger.stories.forget("1.2.3")
    assert ledger.polls.instances("pacs", "1.2.3") is None
    assert not ledger.polls.is_unwanted("pacs", "1.2.3.4")
    assert ledger.polls.put_off("pacs") == {}


def test_what_is_unwanted_is_so_of_one_archive(ledger):
    for _ in range(2):
        ledger.polls.set_unwanted("pacs", "1.2.3.4", "1.2.3")
    found = {(a, i): ledger.polls.is_unwanted(a, i) for a in ("pacs", "other") for i in ("1.2.3.4", "1.2.3.5")}
    assert {key for key, is_unwanted in found.items() if is_unwanted} == {("pacs", "1.2.3.4")}


def test_what_is_put_off_is_kept_by_archive_until_it_is_given(ledger):
    first = PutOff(attempts=1, next_attempt_at=5.0, reason="HTTP 503")
    again = PutOff(attempts=2, next_attempt_at=9.0, reason="HTTP 404")
    for put_off in (first, again):
        ledger.polls.set_put_off("pacs", "1.2.3", put_off)
    ledger.polls.set_put_off("other", "1.2.3", first)
    assert (ledger.polls.put_off("pacs"), ledger.polls.put_off("other")) == ({"1.2.3": again}, {"1.2.3": first})
    ledger.polls.set_put_off("pacs", "1.2.3", None)
    assert (ledger.polls.put_off("pacs"), ledger.polls.put_off("other")) == ({}, {"1.2.3": first})
