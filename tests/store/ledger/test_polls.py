"""What the poller has seen outlives it, for each archive by itself."""


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
    ledger.stories.forget("1.2.3")
    assert ledger.polls.instances("pacs", "1.2.3") is None
