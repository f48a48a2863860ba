import threading
import time

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


def test_who_sends_while_the_study_runs_is_not_forgotten(assembly, clock):
    assembly.arrived("1", "association")
    clock.now = 60
    assert assembly.due([]) == []
    assert due_at(assembly, clock, 99, 100) == [False, True]


def test_an_image_that_came_a_while_ago_while_the_study_ran_is_waited_for_from_then_on(assembly, clock):
    clock.now = 20
    assembly.arrived("1")
    clock.now = 40
    assert assembly.due([]) == []
    assert due_at(assembly, clock, 49, 50) == [False, True]


def test_what_was_long_ago_is_forgotten(assembly, clock):
    assembly.arrived("1")
    clock.now = 30
    assert assembly.due([]) == []
    assert due_at(assembly, clock, 30, 59, 60) == [False, False, True]


def test_a_proof_stands_after_the_end_of_the_association(assembly, clock):
    assembly.arrived("1", "association", is_whole=True)
    assembly.left("association")
    assert due_at(assembly, clock, 0) == [True]


def test_an_image_that_proves_that_all_came_ends_the_waiting_although_its_association_is_open(assembly, clock):
    assembly.arrived("1", "association", is_whole=True)
    assert due_at(assembly, clock, 0) == [True]


def test_an_image_after_the_proof_is_waited_for_anew(assembly, clock):
    assembly.arrived("1", is_whole=True)
    assembly.arrived("1")
    assert due_at(assembly, clock, 29, 30) == [False, True]


def test_the_release_of_an_association_that_sends_all_completes_its_studies_and_no_other(assembly, clock):
    assembly.arrived("1", "association")
    assembly.arrived("2", "another")
    assembly.left("association", sent_all=True)
    assert assembly.due(["1", "2"]) == ["1"]


def test_who_still_sends_of_a_study_is_waited_for(assembly, clock):
    assembly.arrived("1", "association")
    assembly.arrived("1", "another")
    assembly.left("association", sent_all=True)
    assert due_at(assembly, clock, 60) == [False]
    assembly.left("another", sent_all=True)
    assert due_at(assembly, clock, 60) == [True]


def test_the_wait_ends_when_a_study_is_complete_and_not_later(assembly, clock):
    assembly.arrived("1")
    assembly.due(["1"])
    began = time.monotonic()
    clock.now = 29.9
    assembly.wait(60)
    assert 0.1 <= time.monotonic() - began < 30


def test_a_proof_ends_the_wait(assembly):
    threading.Timer(0.1, assembly.arrived, ("1",), {"is_whole": True}).start()
    began = time.monotonic()
    assembly.wait(60)
    assert time.monotonic() - began < 30
