"""``cxr-dicom models card``: what is known of a model, here."""

import csv
import json
import re
from dataclasses import asdict
from datetime import date

import pytest

from cxr_dicom import synthetic
from cxr_dicom.config.operating_points import FindingPoint, ModelPoints, OperatingPoints
from cxr_dicom.infer import model_infos
from cxr_dicom.infer.weights import Lock
from cxr_dicom.results.calibrate import file
from tests import ROOT

RSNA = "xrv-densenet121-rsna"


@pytest.fixture(scope="module")
def evaluated(run, invoke, as_experts, tmp_path_factory):
    """A run of ``offline-anatomy``, evaluated against its own outlines under another maker's name."""
    images, experts = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("experts")
    synthetic.write_study(images)
    finished = run(images, tmp_path_factory.mktemp("out") / "OUT")
    as_experts(finished, experts, "segmentation")
    folder = tmp_path_factory.mktemp("eval") / "EVAL"
    assert invoke("evaluate", finished.out, "--truth", experts, "-o", folder).exit_code == 0
    return folder


def test_every_model_has_a_card_and_a_page(invoke, tmp_path):
    for name, info in model_infos().items():
        page = tmp_path / f"{name}.html"
        made = invoke("models", "card", name, "-o", page)
        assert made.exit_code == 0, made.output
        html = page.read_text()
        assert "<script" not in html
        for text in (info.manufacturer, info.licence, "Known failures", "Parity"):
            assert text in html
        assert info.citation in made.output


def test_figures_of_this_site_stand_in_it(invoke, evaluated, tmp_path):
    page = tmp_path / "card.html"
    made = invoke("models", "card", "offline-anatomy", "--evaluation", evaluated, "-o", page, "--json")
    found = json.loads(made.output)["evaluation"]
    whole = json.loads((evaluated / "evaluation.json").read_text())
    assert found["structures"] == whole["anatomy"]["structures"]
    assert {each["name"] for each in found["structures"]} == {"right_lung", "left_lung", "heart"}
    assert "EVAL: 1 images" in page.read_text()
    assert "EVAL" in invoke("models", "card", "offline-anatomy", "--evaluation", evaluated / "evaluation.json").output


def test_an_evaluation_without_the_model_and_a_file_that_is_none_are_refused(invoke, evaluated, tmp_path):
    made = invoke("models", "card", RSNA, "--evaluation", evaluated)
    assert (made.exit_code, f"{RSNA} did not run there" in made.output) == (2, True)
    for content in ("", "[]", "{}", '{"models": [1]}', '{"models": [], "findings": 3, "anatomy": {}}'):
        (tmp_path / "evaluation.json").write_text(content)
        made = invoke("models", "card", "offline-anatomy", "--evaluation", tmp_path)
        assert made.exit_code == 2
        assert "expected what `evaluate -o` wrote" in made.output
    assert "is not one of" in invoke("models", "card", "nonsense").output


@pytest.fixture
def settings(tmp_path):
    """Settings with recorded weights, and with operating points for weights of a digest."""

    def write(digest):
        info, folder = model_infos()[RSNA], tmp_path / "weights"
        folder.mkdir(exist_ok=True)
        targets = ("Pneumonia", "", "Lung Opacity")
        lock = Lock(
            source=info.weights_file,
            source_sha256="ab" * 32,
            loaded=info.weights_file,
            loaded_sha256="ab" * 32,
            targets=targets,
            thresholds=(0.13, None, 0.29),
        )
        (folder / info.weights_file).with_suffix(".lock.json").write_text(json.dumps(asdict(lock)))
        point = FindingPoint(
            operating_point=0.21,
            upstream=0.13,
            aim="sensitivity=0.9",
            patients_with=40,
            patients_without=60,
            sensitivity=(0.9, 0.8, 0.95),
            specificity=(0.5, 0.4, 0.6),
        )
        model = ModelPoints(name=RSNA, version="1", weights_sha256=digest, findings={"pneumonia": point})
        made = OperatingPoints(
            format=1,
            made=date(2026, 11, 1),
            package_version="1",
            patients=100,
            images=120,
            grouped_by="study",
            truth_sha256="cd" * 32,
            models=(model,),
        )
        file.write(tmp_path / "site.toml", made)
        config = tmp_path / "settings.toml"
        config.write_text(f'[models]\nfolder = "{folder}"\noperating_points = "{tmp_path / "site.toml"}"\n')
        return config

    return write


def test_operating_points_are_the_models_own_and_this_sites(invoke, settings, tmp_path):
    page = tmp_path / "card.html"
    made = invoke("models", "card", RSNA, "--config", settings("ab" * 32), "-o", page)
    assert "pneumonia: 0.13; at this site 0.21 for sensitivity=0.9" in made.output
    assert "lung_opacity: 0.29" in made.output
    words = re.sub(r"<[^>]+>|\s+", " ", page.read_text())
    assert "site.toml of 2026-11-01, from 120 images of 100 patients" in words
    assert "0.90 (0.80 to 0.95)" in words


def test_operating_points_of_other_weights_are_refused(invoke, settings):
    made = invoke("models", "card", RSNA, "--config", settings("ef" * 32))
    assert made.exit_code == 2
    assert f"made for weights {'ef' * 32}" in made.output


def test_parity_is_that_of_the_docs():
    with (ROOT / "cxr_dicom" / "infer" / "parity.csv").open() as table:
        found = [f"| `{r['model']}` | {r['image']} | {r['what']} | {r['difference']} |" for r in csv.DictReader(table)]
    page = (ROOT / "docs" / "models" / "parity.md").read_text()
    assert found == [line for line in page.splitlines() if line.startswith("| `")]
