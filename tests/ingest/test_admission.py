import pytest

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.ingest import admission
from cxr_dicom.ingest.admission import Admission, FloodGuard

HERE, THERE = "127.0.0.1", "10.0.0.7"


def admitting(**settings):
    return Admission(ListenerSettings.model_validate(settings))


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(admission.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize(
    ("addresses", "address", "is_let_in"),
    [
        ([], "127.0.0.1", True),
        ([], "127.8.0.1", True),
        ([], "::1", True),
        ([], THERE, False),
        (["10.0.0.0/8", "192.168.1.4"], THERE, True),
        (["10.0.0.0/8", "192.168.1.4"], "192.168.1.4", True),
        (["10.0.0.0/8", "192.168.1.4"], "192.168.1.5", False),
        (["10.0.0.0/8"], HERE, False),
        (["10.0.0.9/8"], THERE, True),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_only_known_addresses_connect(addresses, address, is_let_in):
    door = admitting(calling_addresses=addresses)
    assert door.connect(1, address) == ("" if is_let_in else "not in listener.calling_addresses")
    assert door.problem() is None  # a stranger lacks no room


def test_connections_are_bounded_and_those_that_leave_make_room():
    door = admitting(max_associations=2)
    assert [door.connect(number, HERE) for number in range(12)] == [""] * 12
    assert door.connect(12, HERE) == "12 connections are open"
    door.leave(3)
    assert door.connect(12, HERE) == ""
    assert door.connect(13, HERE) == "12 connections are open"
    door.leave(99)  # never there


def test_those_that_wait_take_no_place_from_those_that_send():
    door = admitting(max_associations=2)
    for number in range(12):
        door.connect(number, HERE)
    assert [door.associate(number, HERE) for number in (0, 1)] == ["", ""]
    assert door.associate(2, HERE) == "listener.max_associations are open"
    assert door.connect(12, HERE) == "12 connections are open"  # they count still
    door.leave(0)
    assert door.associate(2, HERE) == ""


def test_a_connection_that_is_closed_while_it_asks_takes_no_place():
    door = admitting(max_associations=1)
    door.connect(1, HERE)
    door.leave(1)
    assert door.associate(1, HERE) == ""
    assert door.connections == 0
    door.connect(2, HERE)
    assert door.associate(2, HERE) == ""
    assert door.connections == 1


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 10),
        ({"calling_addresses": [THERE]}, 10),
        ({"calling_addresses": [THERE, HERE]}, 7),
        ({"calling_addresses": ["10.0.0.0/24"]}, 7),
        ({"calling_addresses": ["10.0.0.0/24"], "max_associations": 1}, 1),
        ({"calling_addresses": ["10.0.0.0/24"], "max_associations": 4}, 3),
        ({"calling_addresses": ["10.0.0.0/24"], "max_associations_per_address": 2}, 2),
        ({"calling_addresses": [THERE], "max_associations_per_address": 20}, 10),
    ],
)
def test_an_address_has_a_share(settings, share):
    door = admitting(**settings)
    assert door.most_associations_of_one == share
    address = THERE if settings.get("calling_addresses") else HERE
    answers = []
    for number in range(11):
        door.connect(number, address)
        answers.append(door.associate(number, address))
    assert answers.count("") == share
    assert f"from {address};" in door.problem()
    assert answers[share].startswith(
        "this address has its share" if share < door._settings.max_associations else "listener."
    )


def test_the_addresses_of_one_machine_by_ipv6_share(clock):
    door = admitting(max_associations=4, calling_addresses=["2001:db8::/32"])
    answers = []
    for number in range(4):
        door.connect(number, f"2001:db8::{number}")
        answers.append(door.associate(number, f"2001:db8::{number}"))
    assert answers == ["", "", "", "this address has its share of listener.max_associations"]
    door.connect(4, "2001:db8:0:1::1")
    assert door.associate(4, "2001:db8:0:1::1") == ""
    assert "from 2001:db8::/64;" in door.problem()


def test_an_address_has_a_share_of_those_that_wait():
    door = admitting(max_associations=2, calling_addresses=["10.0.0.0/8"])
    assert [door.connect(number, THERE) for number in range(6)] == [""] * 6
    assert door.connect(6, THERE) == "6 connections of this address have not asked for an association"
    assert f"1 of them from {THERE}" in door.problem()
    assert door.connect(7, "10.0.0.8") == ""
    assert door.associate(0, THERE) == ""
    assert door.connect(6, THERE) == ""


def test_health_says_for_a_minute_who_found_no_room(clock):
    door = admitting(max_associations=1)
    for number in range(10):
        door.connect(number, HERE)
    door.associate(0, HERE)
    assert door.problem() is None
    door.associate(1, HERE)
    clock.now += 30
    door.connect(10, HERE)
    door.connect(11, "127.0.0.2")
    assert door.problem() == (
        "no room for 3 connections in the last 60 s, 2 of them from 127.0.0.1; now 1 of 1 associations are open, and 9 "
        "connections have not asked for one"
    )
    clock.now += 31
    assert door.problem().startswith("no room for 2 connections in the last 60 s, 1 of them from")
    clock.now += 30
    assert door.problem() is None


def test_the_eleventh_of_its_kind_within_a_minute_is_counted_and_not_told(clock):
    guard = FloodGuard()
    assert [guard.left_out("a") for _ in range(10)] == [0] * 10
    assert [guard.left_out("a") for _ in range(5)] == [None] * 5
    assert guard.left_out("b") == 0
    clock.now += 59.9
    assert guard.left_out("a") is None
    clock.now += 0.1
    assert guard.left_out("a") == 6
    assert [guard.left_out("a") for _ in range(10)] == [0] * 9 + [None]
    clock.now += 60
    assert guard.left_out("a") == 1
    assert guard.left_out("b") == 0


def test_what_is_remembered_is_bounded():
    guard = FloodGuard()
    for number in range(25_000):
        guard.left_out(number)
    assert len(guard._told) <= 10_000


def test_who_found_no_room_is_remembered_within_bounds():
    door = admitting(max_associations=1)
    for number in range(10_020):
        door.connect(number, HERE)
    assert door.problem().startswith("no room for 10000 connections")
