"""A site's operating points in the pipeline: in scores, rows, reports and the job key; refused for other weights."""

import json
import math
from dataclasses import replace
from datetime import date

import jsonschema
import pytest

from cxr_dicom.config import Settings, load
from cxr_dicom.config.operating_points import FindingPoint, Isotonic, ModelPoints, OperatingPoints, Platt
from cxr_dicom.encode import build_encoders
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer.classifier import Classifier, Target, calibrate
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.infer.site import at_site
from cxr_dicom.records import InstanceResult, Outcome, Presence, SiteOperatingPoint, StudyResult
from cxr_dicom.results.calibrate import file
from cxr_dicom.results.rows import study_rows
from cxr_dicom.synthetic import radiograph
from tests import ROOT
from tests.painted import analysis, model, scores, study
from tests.painted import settings as painted_settings

RAW = (0.3, 0.6, 0.2)


def points(**changes):
    finding = FindingPoint(
        operating_point=0.25,
        upstream=0.5,
        aim="sensitivity=0.9",
        patients_with=50,
        patients_without=500,
        sensitivity=(0.9, 0.8, 0.95),
        specificity=(0.7, 0.6, 0.8),
        calibration=Platt(slope=1.2, intercept=-0.5),
    )
    content = {
        "name": "network",
        "version": "1",
        "weights_sha256": network().info.weights_sha256,
        "findings": {"mass": finding},
    }
    return OperatingPoints(
        format=1,
        made=date(2026, 1, 2),
        package_version="1",
        patients=550,
        images=600,
        grouped_by="study",
        truth_sha256="ab" * 32,
        models=(ModelPoints(**{**content, **changes}),),
    )


def network():
    targets = [Target(finding=FINDINGS[label], threshold=0.5) for label in ("Mass", "Nodule", "Edema")]
    return Classifier(info=model("network"), score=None, targets=tuple(targets), device="cpu")


@pytest.fixture
def settings(tmp_path):
    def make(made=None):
        path = tmp_path / "site.toml"
        file.write(path, made or points())
        (tmp_path / "cxr-dicom.toml").write_text(f"[models]\noperating_points = '{path}'\n")
        return load(tmp_path / "cxr-dicom.toml")

    return make


def findings(classifier):
    from cxr_dicom.infer.classifier import scored

    return [scored(target.finding, target, raw) for target, raw in zip(classifier.targets, RAW, strict=True)]


def test_without_a_file_nothing_changes(settings):
    original = network()
    assert at_site([original], Settings()) == [original]
    plain = Settings().digest
    assert plain == load().digest
    assert settings().digest != plain


def test_a_sites_point_takes_the_place_of_the_models_own(settings):
    made = settings()
    (changed,) = at_site([network()], made)
    mass, nodule, _ = findings(changed)
    assert (mass.operating_point, mass.call) == (0.25, Presence.PRESENT)
    assert mass.probability == pytest.approx(calibrate(0.3, 0.25))
    assert (mass.site_point.sha256, mass.site_point.upstream) == (made.models.operating_points_sha256, 0.5)
    assert mass.site_point.probability == pytest.approx(1 / (1 + math.exp(-(1.2 * math.log(0.3 / 0.7) - 0.5))))
    assert (nodule.operating_point, nodule.site_point) == (0.5, None)


def test_isotonic_probabilities_lie_between_the_points(settings):
    finding = points().models[0].findings["mass"]
    steps = Isotonic(scores=(0.2, 0.4), probabilities=(0.1, 0.5))
    made = points(findings={"mass": finding.model_copy(update={"calibration": steps})})
    (changed,) = at_site([network()], settings(made))
    assert findings(changed)[0].site_point.probability == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_sha256": "cd" * 32}, "made for weights cdcd.*, found"),
        ({"version": "2"}, "made for version 2 of network, found 1"),
        ({"name": "other"}, "made for other, which does not run"),
        ({"findings": {"hernia": points().models[0].findings["mass"]}}, "network does not score hernia"),
    ],
)
def test_a_file_for_something_else_is_refused(settings, changes, message):
    with pytest.raises(SettingsError, match=message):
        at_site([network()], settings(points(**changes)))


def test_a_model_without_operating_points_is_refused(settings):
    class Other:
        info = replace(network().info)

    with pytest.raises(SettingsError, match="has no operating points that could be replaced"):
        at_site([Other()], settings())


def test_a_file_that_changed_since_the_settings_were_read_is_refused(settings):
    made = settings()
    with made.models.operating_points.open("a") as opened:
        opened.write("# changed\n")
    with pytest.raises(SettingsError, match="expected SHA-256"):
        at_site([network()], made)


def test_a_missing_file_is_refused_when_the_settings_are_read(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load(None, {"models": {"operating_points": str(tmp_path / "nowhere.toml")}})


def test_rows_and_reports_say_that_it_is_the_sites(selected, settings, tmp_path):
    """A score with a site's point, through the report to the row, against the published schema."""
    image = selected(radiograph(160, 128))
    point = SiteOperatingPoint(sha256="ab" * 32, upstream=0.5, probability=0.125)
    score = replace(scores(image).findings[0], site_point=point)
    plain = analysis(image)
    with_point = analysis(image, (plain.predictions[0], replace(plain.predictions[1], findings=(score,))))
    texts = {}
    for name, each in (("plain", plain), ("site", with_point)):
        encoded = [e for enc in build_encoders(painted_settings(objects=("sr",))) for e in enc.encode(study(each))]
        texts[name] = "\n".join(e.dataset.to_json() for e in encoded)
    assert "Site operating point" not in texts["plain"]
    assert f"Site operating point, file SHA-256 {'ab' * 32}; the model's own: 0.5" in texts["site"]
    assert "calibrated on images of this site: 0.1250" in texts["site"]
    instance = image.instance
    result = InstanceResult(
        path=instance.path, outcome=Outcome.PROCESSED, instance=instance, image=image, analysis=with_point
    )
    (row,) = study_rows(
        StudyResult(study_instance_uid=instance.study_instance_uid, job_key="k", instances=(result,)),
        Settings(),
        tmp_path,
    )
    assert row["scores"]["pleural_effusion"]["site_operating_point"] == {
        "file_sha256": "ab" * 32,
        "upstream_operating_point": 0.5,
        "probability": 0.125,
    }
    jsonschema.validate(row, json.loads((ROOT / "docs" / "results.schema.json").read_text()))
