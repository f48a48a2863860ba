import pytest

from cxr_dicom.config.service import AssemblySettings
from cxr_dicom.ingest.assembly import Assembly


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def assembly(clock):
    return Assembly(AssemblySettings(quiet_seconds=30, at_most_seconds=100), clock)


def due_at(assembly, clock, *times):
    found = []
    for clock.now in times:
        found.append(assembly.due(["1"]) == ["1"])
    return found


def test_quiet_for_a_while(assembly, clock):
    assembly.arrived("1")
    assert due_at(assembly, clock, 29, 30) == [False, True]


def test_each_image_begins_the_quiet_anew(assembly, clock):
    assembly.arrived("1")
    clock.now = 20
    assembly.arrived("1")
    assert due_at(assembly, clock, 49, 50) == [False, True]


def test_an_open_association_keeps_it_open_and_its_end_begins_the_quiet(assembly, clock):
    assembly.arrived("1", "association")
    assert due_at(assembly, clock, 60) == [False]
    assembly.left("association")
    assert due_at(assembly, clock, 89, 90) == [False, True]


def test_the_cap_closes_it_in_any_case(assembly, clock):
    assembly.arrived("1", "association")
    assert due_at(assembly, clock, 99, 100) == [False, True]


def test_a_study_from_before_a_restart_is_given_a_full_quiet(assembly, clock):
    clock.now = 1000
    assert assembly.due(["1"]) == []
    assert due_at(assembly, clock, 1029, 1030) == [False, True]


def test_an_image_that_came_while_the_states_were_read_is_not_lost(assembly, clock):
    assembly.arrived("1", "association")
    assert assembly.due([]) == []
    assert due_at(assembly, clock, 60) == [False]
