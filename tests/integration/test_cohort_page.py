"""The page of a hundred thousand images in a real browser: it opens, it can be searched, it stays small."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from cxr_dicom import pictures
from cxr_dicom.results import cohort_report
from tests import cohort_rows
from tests.integration import rig

ROWS = 100_000
MAX_BYTES = 25_000_000
MOST_HEAP_BYTES = 150_000_000
MOST_ELEMENTS = 8_000  # of the page, however many images there are
SHOTS = (
    {"name": "light", "width": 1280, "height": 900},
    {"name": "dark", "width": 1280, "height": 900, "dark": True},
    {"name": "phone", "width": 390, "height": 844},
)
SEARCHED = "pneumothorax"
SCORED = "effusion"
_BROWSER_SECONDS = 300


def rows():
    return cohort_rows.rows(ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort-page")
    picture = pictures.data_uri(np.full((160, 140), 99, np.uint8))
    run = {
        "sessions": [{"started": "", "seconds": 60, "images": ROWS, "studies": ROWS, "timeline": [[0, 0], [60, ROWS]]}]
    }
    cohort_report.write(folder / "report.html", rows, run, lambda row: picture)
    return folder


@pytest.fixture(scope="module")
def facts():
    """What the page has to say, from the rows."""
    scores, found, skipped = [], set(), 0
    for row in rows():
        skipped += row["outcome"] == "skipped"
        scores += [row["scores"][SCORED]["probability"]] if row["scores"] else []
        if any(score["call"] == "present" for name, score in row["scores"].items() if SEARCHED in name):
            found.add(row["study_instance_uid"])
    return {"scores": sorted(scores, reverse=True), "found": found, "skipped": skipped}


@pytest.fixture(scope="module")
def told(folder, needs):
    plan = {
        "playwright": str(needs(rig.playwright)),
        "chromium": needs(rig.chromium),
        "page": str(folder / "report.html"),
        "out": str(folder),
        "search": SEARCHED,
        "score": SCORED.capitalize(),
        "shots": SHOTS,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    driver = rig.SCRIPTS.parent / "cohort_page.mjs"
    subprocess.run([needs(rig.node), str(driver), str(folder / "plan.json")], check=True, timeout=_BROWSER_SECONDS)
    return json.loads((folder / "told.json").read_text())


def test_the_file_is_small(folder):
    assert (folder / "report.html").stat().st_size < MAX_BYTES


def test_the_page_opens_without_errors_and_without_a_network(told):
    assert told["errors"] == []
    assert [request for request in told["requests"] if not request.startswith(("file:", "data:", "blob:"))] == []
    assert set(told["images"]) == {140}


def test_the_browser_holds_little(told):
    assert told["heap"] < MOST_HEAP_BYTES
    assert told["elements"] < MOST_ELEMENTS


def test_all_rows_are_there_page_by_page(told):
    assert told["all"] == f"{ROWS:,} of {ROWS:,} images"
    assert told["page"] == "page 1 of 2,000"
    assert told["second"] == "page 2 of 2,000"


def test_a_finding_sorts_the_rows(told, facts):
    assert [float(text) for text in told["sorted"]] == pytest.approx(facts["scores"][:50], abs=0.00101)


def test_an_outcome_filters_the_rows(told, facts):
    assert told["skipped"] == f"{facts['skipped']:,} of {ROWS:,} images"
    assert {"WRONG_SOP_CLASS", "NOT_FRONTAL"} <= set(told["reasons"])


def test_a_word_finds_what_is_called_present(told, facts):
    assert told["found"] == f"{len(facts['found']):,} of {ROWS:,} images"
    assert set(told["saved"].split()) == facts["found"]


def test_a_picture_leads_to_its_row(told):
    assert told["jumped"] == [told["wanted"]]


@pytest.mark.parametrize("shot", [shot["name"] for shot in SHOTS])
def test_the_page_fits_its_window(told, folder, shot):
    assert not told[f"tooWide-{shot}"]
    assert np.asarray(Image.open(folder / f"{shot}.png").convert("L")).std() > 10


def test_dark_is_dark(told, folder):
    corners = [np.asarray(Image.open(folder / f"{name}.png").convert("L"))[5, 5] for name in ("light", "dark")]
    assert corners[0] > 200 > 60 > corners[1]
