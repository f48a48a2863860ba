"""An output folder in a browser: what it shows, what it never says, and how it finds things."""

import json
import re

import pytest

from cxr_dicom import synthetic
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.web import studies
from cxr_dicom.web.folder import Folder
from cxr_dicom.web.site import PAGE_SIZE, Search
from tests.web import helpers
from tests.web.helpers import HOSTILE, row

SCORE = {"probability": 0.87, "raw": 0.5, "operating_point": 0.4, "call": "present", "model": "m"}


@pytest.fixture
def out(tmp_path):
    first = row(1, scores={"pneumothorax": SCORE}, warnings=[HOSTILE])
    path = "1.2.826.0.1/seg.dcm"
    first["objects"] = [
        {
            "path": path,
            "kind": "segmentation",
            "sop_class_uid": "1",
            "sop_instance_uid": "1.2.3",
            "series_instance_uid": "1",
        }
    ]
    others = [row(2, outcome="skipped", detail=HOSTILE), row(3, study=None) | {"study_instance_uid": None}]
    folder = helpers.write_out(tmp_path / "out", [first, *others])
    (folder / "1.2.826.0.1").mkdir()
    (folder / path).write_bytes(b"DICOM")
    figure = {"title": "Radiograph", "model": "", "note": "", "legend": [], "is_heat": False, "source": helpers.PIXEL}
    named = {**figure, "title": HOSTILE, "note": HOSTILE, "legend": [{"name": HOSTILE, "colour": HOSTILE}]}
    helpers.write_state(folder, first, [figure, named])
    return folder


@pytest.fixture
def client(out):
    with helpers.shown(out) as client:
        yield client.enter()


def test_the_list_leads_to_each_study(client):
    text = client.get("/").text
    for key in ("1.2.826.0.1", "1.2.826.0.2", "line-3"):
        assert f'href="/studies/{key}"' in text
        assert client.get(f"/studies/{key}").status == 200
    assert "Pneumothorax" in text
    assert "NOT_FRONTAL" in text


def test_a_study_has_its_pictures_numbers_and_objects(client):
    text = client.get("/studies/1.2.826.0.1").text
    assert "0.87" in text
    addresses = re.findall(r'<img src="([^"]+)"', text)
    assert len(addresses) == 2
    assert all(client.get(each).headers["content-type"] == "image/png" for each in addresses)
    (file,) = re.findall(r'href="(/studies/[^"]+/objects/[^"]+)"', text)
    answer = client.get(file)
    assert answer.content == b"DICOM"
    assert answer.headers["content-disposition"] == 'attachment; filename="1.2.3.dcm"'


def test_hostile_words_stay_words_wherever_they_stand(client):
    for path in ("/", "/studies/1.2.826.0.1", "/studies/1.2.826.0.2", f"/studies?uid={'%3Cscript%3E'}"):
        text = client.get(path).text
        assert "<script>alert" not in text, path
        assert "<script>" not in text, path
        assert "49" not in re.sub(r"<[^>]*>", "", text), path


def test_file_names_of_inputs_which_may_name_patients_are_not_shown(client):
    for path in ("/", "/studies/1.2.826.0.1", "/studies/1.2.826.0.2", "/studies/line-3"):
        assert "DOE" not in client.get(path).text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("uid=1.2.826.0.2", {"1.2.826.0.2"}),
        ("uid=1.2.826", {"1.2.826.0.1", "1.2.826.0.2"}),
        ("uid=1.2.826.0.1.1.1", {"1.2.826.0.1"}),
        ("uid=1.2.3", {"1.2.826.0.1"}),
        ("word=skipped", {"1.2.826.0.2"}),
        ("word=pneumothorax", {"1.2.826.0.1"}),
        ("uid=1.2.826&word=skipped", {"1.2.826.0.2"}),
        ("uid=9", set()),
    ],
)
def test_studies_are_found_by_uid_outcome_and_call(client, query, found):
    assert set(re.findall(r'href="/studies/([\w.-]+)"', client.get(f"/studies?{query}").text)) == found


def test_pages_follow_each_other_without_gap_or_repeat(tmp_path):
    folder = Folder(helpers.write_out(tmp_path, [row(n) for n in range(2 * PAGE_SIZE + 3)]))
    seen, search = [], Search()
    while True:
        listing = folder.find(search)
        seen += [line.key for line in listing.lines]
        if not listing.next:
            break
        search = Search(after=listing.next)
    assert seen == [f"1.2.826.0.{n}" for n in range(2 * PAGE_SIZE + 3)]


def test_rows_of_one_study_that_lie_apart_are_one_study(tmp_path):
    rows = [row(1), row(2), row(1, sop_instance_uid="1.9")]
    listing = Folder(helpers.write_out(tmp_path, rows)).find(Search(word="processed"))
    assert [(line.key, line.images) for line in listing.lines] == [("1.2.826.0.1", 2), ("1.2.826.0.2", 1)]


def test_a_run_that_goes_on_is_seen(tmp_path):
    folder = Folder(helpers.write_out(tmp_path, [row(1)]))
    helpers.write_out(tmp_path, [row(1), row(2)])
    assert folder.find(Search()).total == 2


@pytest.mark.parametrize("content", ["no json", '{"a": 1}', None])
def test_what_no_run_wrote_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(CxrDicomError):
        Folder(tmp_path)


def test_an_object_outside_of_the_folder_is_not_given(tmp_path):
    (tmp_path / "secret.dcm").write_bytes(b"secret")
    away = {"path": "../secret.dcm", "kind": "segmentation", "sop_class_uid": "1", "sop_instance_uid": "1.2.3"}
    folder = helpers.write_out(tmp_path / "out", [row(1, objects=[away])])
    with helpers.shown(folder) as client:
        answer = client.enter().get("/studies/1.2.826.0.1/objects/1.2.3")
        assert answer.status == 404
        assert b"secret" not in answer.content


def test_a_row_is_read_where_it_lies_also_after_long_ones(tmp_path):
    rows = [row(n, detail="ü" * n) for n in range(1, 40)]
    folder = Folder(helpers.write_out(tmp_path, rows))
    (shown,) = folder.study("1.2.826.0.39").rows
    assert shown[1] == json.loads(json.dumps(rows[38]))


# --- accession numbers ---------------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path):
    """Two studies of one accession number, one of another, in an output folder with their radiographs."""
    rows = []
    for number, accession in enumerate(("A&1 ", "A&1", "B2"), start=1):
        made = synthetic.radiograph(16, 16, study=str(number), AccessionNumber=accession)
        made.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        uids = {"series_instance_uid": made.SeriesInstanceUID, "sop_instance_uid": made.SOPInstanceUID}
        rows.append(helpers.row(number, study=made.StudyInstanceUID, path=str(tmp_path / f"{number}.dcm"), **uids))
    with helpers.shown(helpers.write_out(tmp_path / "out", rows)) as client:
        client.uids = [row["study_instance_uid"] for row in rows]
        yield client.enter()


def by_number(client, number):
    return client.post("/studies/by-accession-number", form_token=client.form_token, number=number)


def test_a_study_is_found_by_its_accession_number_which_stands_in_no_address(numbered):
    assert 'method="post" action="/studies/by-accession-number"' in numbered.get("/studies").text
    answer = by_number(numbered, " B2 ")
    assert (answer.status, answer.headers["location"]) == (303, f"/studies/{numbered.uids[2]}")
    several = by_number(numbered, "A&1")
    assert several.status == 200
    assert [uid in several.text for uid in numbered.uids] == [True, True, False]
    nothing = by_number(numbered, "<b>")
    assert (nothing.status, "No study fits this search" in nothing.text) == (200, True)
    assert by_number(numbered, "").status == by_number(numbered, "x" * 65).status == 400


def test_a_search_by_accession_number_ends_in_time_and_says_so(numbered, monkeypatch):
    monkeypatch.setattr(studies, "_SECONDS", -1.0)
    assert "Not every study was looked at" in by_number(numbered, "B2").text
