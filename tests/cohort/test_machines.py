"""Whose fault it is, an item's or a machine's: another machine tells; until then it gets nothing new."""

import pytest

from cxr_dicom.cohort.machines import MOST_FAULTS, MOST_STILLBORN, Job, Machines


@pytest.fixture
def machines():
    made = Machines()
    for node in "abcd":
        made.met(node, f"host-{node}")
        made.ready(node)
    return made


def failed(machines, *nodes, kills=False, item=1):
    job = Job(item=item, has_killed=kills)
    for node in nodes:
        machines.failed(node, job, "UNREADABLE: of files", elsewhere=True)
    return job


def test_a_machine_whose_failures_others_can_do_is_no_longer_used(machines):
    for _ in range(MOST_FAULTS - 1):
        assert machines.done("b", failed(machines, "a")) == {}
    (why,) = machines.done("b", failed(machines, "a")).values()
    assert why == "3 studies failed there that another machine could do: UNREADABLE: of files"


def test_of_two_machines_too_the_other_one_tells(machines):
    """Neither may take the trouble of the first for the item's own before it has had it too."""
    for _ in range(MOST_FAULTS):
        job = failed(machines, "a")
        job.is_last = machines.is_last(job, "b", "ab")
        useless = machines.done("b", job)
    assert list(useless) == ["a"]


def test_what_a_machine_can_do_in_between_speaks_for_it(machines):
    for _ in range(5):
        machines.done("b", failed(machines, "a"))
        assert machines.done("a", Job(item=2)) == {}


def test_what_nobody_can_do_is_nobodys_fault(machines):
    for _ in range(5):
        job = failed(machines, "a", "b")
        job.is_last = True
        assert machines.done("c", job) == {}


def test_what_killed_two_and_was_then_given_up_by_a_third_is_nobodys_fault(machines):
    for _ in range(5):
        assert machines.done("c", failed(machines, "a", "b", kills=True)) == {}


def test_a_machine_that_kills_what_others_can_do_is_no_longer_used(machines):
    useless = [machines.done("b", failed(machines, "a", kills=True)) for _ in range(MOST_FAULTS)]
    assert list(useless[-1]) == ["a"]


def test_a_machine_gets_nothing_new_until_its_trouble_is_judged(machines):
    first, second = failed(machines, "a"), failed(machines, "a")
    assert not machines.may_take_new("a")
    machines.done("b", first)
    assert not machines.may_take_new("a")
    machines.done("b", second)
    assert machines.may_take_new("a")


def test_trouble_is_judged_by_a_machine_that_has_none_where_there_is_one(machines):
    job = failed(machines, "a")
    failed(machines, "b")
    assert [node for node in "abc" if machines.may_retry(node, job, "abc")] == ["c"]
    assert [node for node in "ab" if machines.may_retry(node, job, "ab")] == ["b"]
    assert machines.may_retry("a", job, "a"), "there is no other"


@pytest.mark.parametrize(
    ("tried", "node", "usable", "expected"),
    [
        ("", "a", "a", True),
        ("", "a", "ab", False),
        ("a", "b", "ab", False),
        ("a", "b", "abc", False),
        ("ab", "a", "ab", True),
        ("ab", "c", "abcd", False),
        ("abc", "d", "abcd", True),
    ],
)
def test_the_last_place_is_told_so(machines, tried, node, usable, expected):
    assert machines.is_last(failed(machines, *tried), node, usable) is expected


def test_a_machine_where_no_worker_was_ever_ready_is_of_no_use_after_a_few(machines):
    machines.met("e", "host-e")
    told = [machines.stillborn("e", "killed") for _ in range(MOST_STILLBORN)]
    assert told == [""] * (MOST_STILLBORN - 1) + ["3 workers died there before they were ready: killed"]
    assert not any(machines.stillborn("a", "killed") for _ in range(5)), "here some were"
