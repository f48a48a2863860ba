"""What may be written about a study, and what may not."""

import json
import logging
import re
import subprocess
import sys

import pytest

from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from cxr_dicom.system import telemetry


def foreign_error():
    try:
        raise ValueError("Doe^Jane 1970-01-01")
    except ValueError as error:
        return error


def test_a_field_that_is_not_on_the_list_is_refused():
    with pytest.raises(ValueError, match="patient_name"):
        telemetry.event("study_done", patient_name="Doe^Jane")


def test_a_foreign_error_is_told_by_type_and_place():
    text = telemetry.safe_description(foreign_error())
    assert "Doe" not in text
    assert text.startswith("ValueError at test_telemetry.py:")


def test_our_own_error_is_told_in_its_words():
    assert telemetry.safe_description(ImageError(Reason.NOT_CHEST, "found HAND")) == "NOT_CHEST: found HAND"


def test_json_lines_hold_action_and_fields(capsys):
    telemetry.configure(1, as_json=True)
    telemetry.event("study_done", study_instance_uid="1.2", seconds=0.5, model=None)
    record = json.loads(capsys.readouterr().err)
    assert record.pop("time").endswith("Z")
    assert record == {"level": "info", "action": "study_done", "study_instance_uid": "1.2", "seconds": 0.5}


@pytest.mark.parametrize(("error", "shown"), [("two\nlines", r"two\nlines"), ("\x1b[2J", r"\u001b[2J"), ("a b", "a b")])
def test_text_lines_stay_one_line_and_no_terminal_obeys_them(capsys, error, shown):
    telemetry.configure(0)
    telemetry.event("study_failed", level=logging.ERROR, error=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f'study_failed error="{shown}"')


@pytest.mark.parametrize(
    ("verbosity", "actions"), [(-1, ["e"]), (0, ["w", "e"]), (1, ["i", "w", "e"]), (2, ["d", "i", "w", "e"])]
)
def test_verbosity_chooses_the_level(capsys, verbosity, actions):
    telemetry.configure(verbosity)
    for action, level in zip("diwe", (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR), strict=True):
        telemetry.event(action, level=level)
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == actions


def test_what_libraries_say_is_not_written():
    code = (
        "import logging, warnings\n"
        "from cxr_dicom.system import telemetry\n"
        "telemetry.configure(2)\n"
        "warnings.warn('Invalid value for VR PN: Doe^Jane')\n"
        "logging.getLogger('pydicom').warning('Doe^Jane')\n"
        "logging.getLogger('some.other.library').warning('Doe^Jane')\n"
        "telemetry.event('still_here')\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stderr.split()[-1] == "still_here"
    assert "Doe" not in finished.stderr


def test_a_library_that_uses_the_package_sees_no_output_it_did_not_ask_for():
    code = "from cxr_dicom.system import telemetry; telemetry.failure('study', ValueError('x'))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("", "")


def test_text_has_date_time_and_level(capsys):
    telemetry.configure(0)
    telemetry.event("delivery_failed", level=logging.ERROR, destination="pacs", error="timed out", times=3)
    telemetry.event("drift_alarm", level=logging.WARNING)
    first, second = capsys.readouterr().err.splitlines()
    day = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf'{day} error delivery_failed destination=pacs error="timed out" times=3', first)
    assert re.fullmatch(rf"{day} warning drift_alarm", second)


@pytest.fixture
def repeats():
    """Repeats on a clock that a test moves."""
    now = [0.0]
    made = telemetry.Repeats(lambda: now[0])
    made.wait = lambda seconds: now.__setitem__(0, now[0] + seconds)
    return made


def of(caplog):
    return [(each.action, each.fields.get("times")) for each in caplog.records]


def fails(repeats, words="no answer for 3 s"):
    repeats.failed("delivery_failed", words, level=logging.ERROR, destination="pacs")


def test_a_peer_that_comes_and_goes_is_told_every_ten_minutes_and_not_each_time(repeats, caplog):
    for _ in range(10):  # each minute
        fails(repeats)
        repeats.ended("delivery_recovered", destination="pacs")
        repeats.wait(60)
    fails(repeats)
    repeats.ended("delivery_recovered", destination="pacs")
    assert of(caplog) == [
        *(("delivery_failed", None), ("delivery_recovered", 1)),
        *(("delivery_failed", 10), ("delivery_recovered", 1)),
    ]


def test_an_outage_that_lasts_is_told_every_hour_until_its_end(repeats, caplog):
    for seconds in range(8):  # each quarter of an hour
        fails(repeats, f"no answer for {seconds} s")
        repeats.wait(900)
    repeats.ended("delivery_recovered", destination="pacs")
    assert of(caplog) == [("delivery_failed", None), ("delivery_failed", 4), ("delivery_recovered", 8)]


def test_another_trouble_is_told_at_once(repeats, caplog):
    fails(repeats)
    fails(repeats, "login page")
    assert of(caplog) == [("delivery_failed", None)] * 2
