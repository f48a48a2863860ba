"""A search gives all studies or says that it could not prove it, whatever caps, pages and ignores."""

import inspect
import sys

import pytest

from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.ingest.archive import IncompleteAnswerError
from cxr_dicom.ingest.search import Answer, Search

SINCE = {"StudyDate": "20260101-", "ModalitiesInStudy": "DX"}


def study(number, day="20260105", time="101112", patient=None, modality="DX", **more):
    values = {
        "StudyInstanceUID": f"1.2.{number}",
        "StudyDate": day,
        "StudyTime": time,
        "PatientID": patient or f"P{number}",
        "ModalitiesInStudy": modality,
        "AccessionNumber": f"A{number}",
        **more,
    }
    return {key: (value,) for key, value in values.items() if value is not None}


def spread(many, **attributes):
    """Over thirteen days and the hours of each."""
    return [study(n, f"202601{1 + n % 13:02}", f"{n % 24:02}{n % 60:02}00", **attributes) for n in range(many)]


class Server:
    """Matches as PS3.4 wants it, caps, and ignores keys."""

    def __init__(self, studies, cap=None, ignores=(), says_so=False, understands_no=()):
        self.studies, self.cap, self.ignores, self.says_so = studies, cap, set(ignores), says_so
        self.understands_no = set(understands_no)
        self.questions = []

    def __call__(self, keys):
        self.questions.append(keys)
        found = [each for each in self.studies if all(self.fits(each, *key) for key in keys.items())]
        is_cut = self.cap is not None and len(found) > self.cap
        return Answer(items=found[: self.cap], is_cut=is_cut and self.says_so)

    def fits(self, each, key, wanted):
        (value,) = each.get(key, ("",))
        if key in self.ignores:
            return True
        if key in self.understands_no:
            return value == wanted
        if key in ("StudyDate", "StudyTime"):
            first, dash, last = wanted.partition("-")
            return bool(value) and first <= value <= ((last or "9") if dash else first)
        return value.endswith(wanted[1:]) if wanted.startswith("*") else value == wanted


def searched(server, *questions):
    said = []
    search = Search(ask=server, say=lambda what, studies: said.append((what, studies)))
    found = []
    try:
        found.extend(item["StudyInstanceUID"][0] for item in search.matches(questions or [SINCE]))
    except IncompleteAnswerError as error:
        said.append(str(error))
    assert len(set(found)) == len(found)
    return found, said


@pytest.mark.parametrize("cap", [None, 3, 51, 100, 120, 143])
@pytest.mark.parametrize("says_so", [False, True])
def test_a_cap_hides_nothing(cap, says_so):
    server = Server(spread(144) + spread(40, modality="CT", StudyInstanceUID="1.3"), cap, says_so=says_so)
    found, said = searched(server)
    assert (len(found), said) == (144, [])


@pytest.mark.parametrize("cap", [3, 51])
def test_a_cap_on_one_day_hides_nothing(cap):
    found, said = searched(Server([study(n, time=f"10{n // 60:02}{n % 60:02}") for n in range(144)], cap))
    assert (len(found), said) == (144, [])


def test_the_days_behind_a_cap_may_be_many():
    """The newest come first, so that each answer is of one day, and the rest before it."""
    limit = sys.getrecursionlimit()
    days = [f"2025{month:02}{day:02}" for month in range(1, 13) for day in range(1, 11)]
    studies = [study(n, day, f"{n % 24:02}0000") for n, day in enumerate(sorted(days * 2, reverse=True))]
    sys.setrecursionlimit(len(inspect.stack()) + 80)
    try:
        found, said = searched(Server(studies, 2), {"StudyDate": "20250101-", "ModalitiesInStudy": "DX"})
    finally:
        sys.setrecursionlimit(limit)
    assert (len(found), said) == (len(studies), [])


def test_a_cap_on_one_second_hides_nothing():
    found, said = searched(Server([study(n) for n in range(144)], 51))
    assert (len(found), said) == (144, [])


def test_a_cap_on_one_patient_in_one_second_is_told_where_the_server_says_it():
    server = Server([study(n, patient="P") for n in range(144)], 51, says_so=True)
    found, said = searched(server)
    assert len(found) == 51
    assert said == ["INCOMPLETE: 51 studies were given, and nothing proves that there are no more"]


@pytest.mark.parametrize("key", ["StudyTime", "PatientID"])
def test_a_server_that_does_not_know_how_to_part_by_a_key_is_asked_by_another(key):
    for more in ({"ignores": [key]}, {"understands_no": [key]}):
        times = ["101112"] if key == "PatientID" else ["101112", "111213"]
        studies = [study(n, time=times[n % len(times)]) for n in range(144)]
        found, said = searched(Server(studies, 100, says_so=True, **more))
        if key == "StudyTime":
            assert (len(found), said) == (144, [])
        else:
            assert len(found) == 100
            assert "nothing proves" in said[0]


def test_an_answer_that_is_whole_costs_few_questions():
    for studies, most in ((spread(144), 3), (spread(1), 1), ([], 1), ([study(n) for n in range(5)], 4)):
        server = Server(studies)
        found, said = searched(server)
        assert (len(found), said) == (len(studies), [])
        assert len(server.questions) <= most


def test_studies_without_a_date_or_a_time_are_found():
    undated = [study(200, day=None), study(201, day="", time=None), study(202, time=None)]
    found, said = searched(Server(spread(9) + undated), {"ModalitiesInStudy": "DX"})
    assert (len(found), said) == (12, [])


@pytest.mark.parametrize(
    ("key", "wanted"), [("AccessionNumber", "A7"), ("StudyDate", "20260107-"), ("StudyInstanceUID", "1.2.7")]
)
def test_a_key_that_is_ignored_lets_no_foreign_study_in(key, wanted):
    studies = spread(60)
    found, said = searched(Server(studies, ignores=[key]), {key: wanted, "ModalitiesInStudy": "DX"})
    right = [each for each in studies if Server([]).fits(each, key, wanted)]
    assert sorted(found) == sorted(each["StudyInstanceUID"][0] for each in right)
    assert said[0][0] == f"the archive gives studies that do not match {key}; they are left out"


def test_an_ignored_modality_is_chosen_here():
    found, _ = searched(Server([*spread(9), study(99, modality="CT")], ignores=["ModalitiesInStudy"]))
    assert len(found) == 9


def test_a_key_that_is_not_returned_proves_nothing():
    found, said = searched(
        Server([study(7, AccessionNumber=None)], ignores=["AccessionNumber"]), {"AccessionNumber": "A7"}
    )
    assert (found, said) == ([], ["INCOMPLETE: the archive does not return AccessionNumber, which was asked for"])


@pytest.mark.parametrize("uid", [None, "", "../../etc", "1.2.x"])
def test_an_item_without_a_uid_holds_up_no_other_and_is_told(uid):
    found, said = searched(Server([study(1, StudyInstanceUID=uid), study(2)]))
    assert found == ["1.2.2"]
    assert said == ["INCOMPLETE: an item of the answer cannot be read, or has no valid Study Instance UID"]


def test_a_server_that_makes_up_studies_without_end_comes_to_one(monkeypatch):
    monkeypatch.setattr("cxr_dicom.ingest.search._MAX_STUDIES", 500)
    made = iter(range(10**9))
    found, said = searched(lambda keys: Answer(items=[_within(keys, next(made)) for _ in range(50)], is_cut=True))
    assert len(found) <= 550
    assert said[0].startswith("INCOMPLETE: more than 500 studies")


def _within(keys, number):
    day = keys["StudyDate"].split("-")[0] or "20260101"
    return study(number, day=day, time=f"{number % 24:02}0000")


def test_studies_of_several_questions_come_once():
    both = [study(n, modality="DX") | {"ModalitiesInStudy": ("CR", "DX")} for n in range(3)]

    def ask(keys):
        return Answer(items=both)

    found, _ = searched(ask, *({**SINCE, "ModalitiesInStudy": each} for each in ("CR", "DX")))
    assert len(found) == 3


@pytest.mark.parametrize("cap", [3, 20])
@pytest.mark.parametrize("kind", ["days", "one day"])
def test_a_server_that_gives_nothing_of_too_much_is_asked_in_parts(cap, kind):
    """As dcm4chee-arc (413), and archives that end a C-FIND with 0xA700 before the first match."""
    studies = spread(100) if kind == "days" else [study(n, time=f"10{n // 60:02}{n % 60:02}") for n in range(100)]
    server = Server(studies)

    def refuses(keys):
        found = server(keys).items
        too_many = ConnectionFailedError("HTTP 413", "too many")
        return Answer(items=found) if len(found) <= cap else Answer(items=[], is_cut=True, refusal=too_many)

    found, said = searched(refuses)
    assert (len(found), said) == (100, [])


def test_a_server_that_refuses_whatever_it_is_asked_is_not_asked_for_ever():
    asked = []

    def refuses(keys):
        asked.append(keys)
        return Answer(items=[], is_cut=True, refusal=ConnectionFailedError("HTTP 413", "too many"))

    for keys in (SINCE, {"StudyInstanceUID": "1.2"}, {"StudyDate": "20260101", "StudyTime": "101112-101112"}):
        with pytest.raises(ConnectionFailedError, match="too many"):
            searched(refuses, keys)
    assert len(asked) < 40
