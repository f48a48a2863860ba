"""The page of a cohort: what it says, and what it must never hold."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from cxr_dicom.results import cohort_report
from cxr_dicom.results.cohort_report import _table
from tests import cohort_rows
from tests.cohort_rows import HOSTILE, RUN, processed, scored, skipped

VOID = {"meta", "img", "input", "br"}
PIXEL = "data:image/jpeg;base64,AAAA"


class Page(HTMLParser):
    """Tags, links and text; fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.links, self.open, self.words, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("src", "href", "action") if name in values]
        if tag == "script":
            self.scripts.append(values.get("type"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def hostile_rows():
    yield from cohort_rows.rows(60)
    yield processed(
        warnings=[HOSTILE],
        body_part_examined="<b>",
        view_position="'\"><i>",
        scores={"effusion": scored(0.9, "present", model=HOSTILE)},
    )
    yield skipped("NOT_CHEST", rows=None, detail=HOSTILE)
    yield cohort_rows.failed()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    cohort_report.write(path, hostile_rows, RUN, lambda row: PIXEL)
    return path.read_text(encoding="utf-8")


def test_the_page_stands_alone(text):
    page = Page(text)
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest", text)
    assert page.scripts == ["application/json", "application/octet-stream", None]


def test_anchors_lead_somewhere(text):
    targets = set(re.findall(r'id="([^"]+)"', text))
    assert {link[1:] for link in Page(text).links if link.startswith("#")} <= targets


def test_hostile_text_stays_text(text):
    assert Page(text).text.count(HOSTILE) >= 3
    assert "<script>alert" not in text


def test_nothing_of_a_patient_is_on_the_page(text):
    assert "DOE" not in text
    assert "/home/doe" not in text
    assert not {"patient_age_years", "patient_sex"} & set(re.findall(r"\w+", text))


def test_the_page_says_what_it_counts(text):
    words = Page(text).text
    for expected in (
        "a cohort of 63 images",
        "12,345 studies",
        "1 failed",
        "MODEL_FAILED",
        "d1" * 32,
        "system Linux, machine x86_64",
        "workers 2, devices cpu, cuda:0",
        "1.75 images per second",
        "killed",
    ):
        assert expected in words, expected


def test_only_the_script_of_the_page_may_run(text):
    (allowed,) = re.findall(r"script-src 'sha256-([^']+)'", text)
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed


def test_the_table_has_every_row(text):
    (packed,) = re.findall(r'id="packed">([^<]*)<', text)
    lines = gzip.decompress(base64.b64decode(packed)).decode().splitlines()
    rows = list(hostile_rows())
    assert [line.split("\t")[0] for line in lines] == [row["sop_instance_uid"] or "" for row in rows]
    (layout,) = re.findall(r'id="layout">(.*?)</script>', text)
    layout = json.loads(layout)
    fields = lines[0].split("\t")
    assert layout["outcomes"][int(fields[2])] == rows[0]["outcome"]
    place = layout["scores"].index("effusion")
    assert int(fields[8].split(",")[place]) == round(1000 * rows[0]["scores"]["effusion"]["probability"])


def test_a_page_is_the_same_each_time(text, tmp_path):
    cohort_report.write(tmp_path / "again.html", hostile_rows, RUN, lambda row: PIXEL)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_the_page_carries_a_limited_number_of_scores(tmp_path):
    row = processed(scores={f"finding{number}": scored(0.5, "absent") for number in range(80)})
    cohort_report.write(tmp_path / "report.html", lambda: iter([row]), {}, lambda row: None)
    (layout,) = re.findall(r'id="layout">(.*?)</script>', (tmp_path / "report.html").read_text())
    assert len(json.loads(layout)["scores"]) == _table.MAX_SCORES


def test_a_run_without_inputs_has_a_page(tmp_path):
    cohort_report.write(tmp_path / "report.html", lambda: iter(()), {}, lambda row: None)
    assert "The manifest had no images" in Page((tmp_path / "report.html").read_text()).text
