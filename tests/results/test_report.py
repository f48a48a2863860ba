"""The page: what it shows of a real run, what it must never hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.dicom import codes
from cxr_dicom.records import (
    ChestImage,
    Finding,
    Heatmap,
    ImageAnalysis,
    InstanceResult,
    Mask,
    Measurement,
    ModelInfo,
    Outcome,
    Prediction,
    Presence,
    Reason,
    Skipped,
    Spacing,
    SpacingSource,
    Statement,
    StoredInstance,
    Structure,
    StudyResult,
)
from cxr_dicom.records.plane import Grid, Orientation, Region
from cxr_dicom.results import report
from cxr_dicom.results import rows as result_rows

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = "<script>alert('x')</script> & \"quotes\""


class Page(HTMLParser):
    """Text, tags and links of a page; fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def model(name):
    return ModelInfo(
        name=name,
        version="7",
        title="",
        predicts=(),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
        weights_sha256="5e" * 32,
    )


def finding(name, probability, call):
    return Finding(
        name=name,
        code=codes.LUNG,
        site=None,
        raw=0.2,
        probability=probability,
        operating_point=None if call is Presence.INDETERMINATE else 0.1,
        call=call,
    )


def instance(number=1):
    return StoredInstance(
        path=Path("Doe^Jane/0.dcm"),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )


@pytest.fixture
def analysis():
    matrix = np.zeros((80, 60), bool)
    matrix[20:60, 10:30] = True
    lung = Structure(
        name="right_lung", title="Right lung", category=codes.LUNG, type=codes.LUNG, laterality=None, colour=(1, 2, 255)
    )
    width = Measurement(
        name="width", code=codes.HEART, value=123.456, unit=codes.MILLIMETRE, points=((5, 40), (50, 40))
    )
    ratio = Measurement(name="ratio", code=codes.THORAX, value=None, unit=codes.RATIO, reason="no heart outlined")
    anatomy = Prediction(
        model=model("chestx-det"),
        masks=(Mask(structure=lung, region=Region.from_matrix(matrix)),),
        measurements=(width, ratio),
        statements=(
            Statement(
                name="raised", concept=codes.SPINE, call=Presence.ABSENT, rule="rule of " + HOSTILE, measurement="ratio"
            ),
        ),
    )
    heatmap = Heatmap(
        name="effusion",
        title="Effusion " + HOSTILE,
        quantity=codes.LUNG,
        definition="1 is most",
        values=np.ones((4, 3), np.float32),
        grid=Grid(shape=(4, 3), step=(20, 20)),
    )
    classifier = Prediction(
        model=model("xrv-densenet121-all"),
        findings=(
            finding("low_one", 0.1, Presence.ABSENT),
            finding("pleural_effusion", 0.876, Presence.PRESENT),
            finding("no_point", 0.5, Presence.INDETERMINATE),
        ),
        heatmaps=(heatmap,),
    )
    header = Dataset()
    header.Rows, header.Columns = 80, 60
    image = ChestImage(
        instance=instance(),
        header=header,
        view="PA",
        orientation=Orientation(),
        spacing=Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.CALIBRATED),
    )
    return ImageAnalysis(
        image=image,
        pixel_sha256="",
        predictions=(anatomy, classifier),
        preview=lambda: np.full((80, 60), 99, np.uint8),
        warnings=("beware of " + HOSTILE,),
    )


@pytest.fixture
def rows(analysis, tmp_path):
    processed = InstanceResult(
        path=Path("Doe^Jane/0.dcm"), outcome=Outcome.PROCESSED, instance=instance(), analysis=analysis
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=(processed,))
    skipped = Skipped(path=Path("Doe^Jane.txt"), reason=Reason.NOT_DICOM, detail="found " + HOSTILE)
    failed = Skipped(
        path=Path("Doe^Jane/1.dcm"),
        reason=Reason.MODEL_FAILED,
        detail="out of memory",
        outcome=Outcome.FAILED,
        instance=instance(2),
    )
    return [
        *result_rows.study_rows(study, Settings(), tmp_path),
        *(result_rows.skipped_row(each, Settings()) for each in (skipped, failed)),
    ]


@pytest.fixture
def text(rows, analysis, tmp_path):
    figures = {"1.2.3.1": report.figures(analysis)}
    report.write(tmp_path / "report.html", rows, lambda row: figures.get(row["sop_instance_uid"], []))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_are_radiograph_anatomy_and_heatmaps(analysis):
    radiograph, anatomy, heat = report.figures(analysis)
    assert (radiograph["title"], anatomy["title"], heat["is_heat"]) == ("Radiograph", "Anatomy", True)
    assert [entry["name"] for entry in anatomy["legend"]] == ["Right lung", codes.HEART.meaning]
    assert anatomy["legend"][0]["colour"] == "#0102ff"
    assert len({radiograph["source"], anatomy["source"], heat["source"]}) == 3


def test_a_thumbnail_is_drawn_at_its_own_size(analysis):
    asked = []
    drawn = replace(analysis, preview=lambda *size: asked.extend(size) or analysis.preview())
    assert [figure["title"] for figure in report.thumbnail(drawn)] == ["Anatomy"]
    assert asked == [192]


def test_a_site_operating_point_is_named_beside_the_models_own(rows, tmp_path):
    score = rows[0]["scores"]["pleural_effusion"]
    points = {"file_sha256": "ab" * 32, "upstream_operating_point": 0.0625, "probability": 0.3125}
    for probability, said in ((0.3125, "; calibrated on images of this site 0.31"), (None, "")):
        score["site_operating_point"] = points | {"probability": probability}
        report.write(tmp_path / "report.html", rows, lambda row: [])
        page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
        assert f"site operating point 0.1, the model's own 0.0625{said}; file abababababab" in page
        assert page.count("site operating point") == 1  # of the one finding that has one


def test_the_page_stands_alone(text):
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert sum(link.startswith("data:") for link in page.links) == 3
    assert not re.search(r"https?:|@import|url\(", text)


def test_hostile_text_stays_text(text):
    assert Page(text).text.count(HOSTILE) >= 4
    assert "<script" not in text


def test_paths_of_inputs_stay_out(text):
    assert "Doe" not in text


def test_the_page_says_what_ran_and_what_came_out(text):
    words = Page(text).text
    for expected in (
        "Not for clinical use",
        "1 processed 1 skipped 1 failed",
        "5e" * 32,
        Settings().digest,
        "Pleural effusion 0.88",
        "123 mm",
        "not measurable no heart outlined",
        "1.2.3.1",
        "2 skipped NOT_DICOM",
        "3 failed MODEL_FAILED out of memory 1.2.3.2",
    ):
        assert expected in words, expected


def test_scores_are_ranked_and_marked_where_there_is_an_operating_point(text):
    bars = re.findall(
        r'<svg class="bar (\w+)"[^>]*><rect class="value" width="([\d.]+)%"[^>]*/>(<rect class="mark")?', text
    )
    mark = '<rect class="mark"'
    assert bars == [("present", "87.6", mark), ("indeterminate", "50.0", ""), ("absent", "10.0", mark)]


def test_without_finding_scores_the_page_says_why_and_what_to_do(rows, text, tmp_path):
    hint = "cxr-dicom models pull xrv-densenet121-all"
    assert hint not in Page(text).text
    report.write(tmp_path / "report.html", [{**row, "scores": {}} for row in rows], lambda row: [])
    assert hint in Page((tmp_path / "report.html").read_text()).text


def test_a_run_without_inputs_has_a_page(tmp_path):
    report.write(tmp_path / "report.html", [], lambda row: [])
    assert "No image was processed" in Page((tmp_path / "report.html").read_text()).text
