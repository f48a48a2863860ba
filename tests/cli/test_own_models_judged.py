"""What comes for free with a network of the user's: evaluate, calibrate, compare, report, the page for uploads."""

import io
import json
import re

import pytest
from sklearn.metrics import roc_auc_score

from cxr_dicom import synthetic
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.service.routed import RoutedPipeline
from cxr_dicom.service.worker import Worker
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.web.application import Web
from cxr_dicom.web.send import PATH, SendPages
from cxr_dicom.web.spool import SpoolSite
from cxr_dicom.web.studies import StudyPages
from cxr_dicom.web.uploads import Uploads
from cxr_dicom.web.visitors import ALL_RIGHTS, Visitors
from tests.infer.own import networks
from tests.infer.own.networks import scores, table
from tests.service_helpers import free_port, settings
from tests.web import helpers

TOML = """
[models]
names = ["mine"]
device = "cpu"
{points}
[[models.own]]
name = "mine"
file = "{folder}/network.pt"
input = {{ size = 64, range = [0.0, 1.0] }}
output = {{ kind = "scores", activation = "sigmoid", labels = [
  {{ name = "pneumothorax", operating_point = 0.5 }}, {{ name = "cavity" }}, {{ name = "" }}
] }}
licence = "MIT"
citation = "nobody"
"""
TRUTH = (1, 0, 1, 0)  # of each image
MANY = 20  # times each, for a calibration


@pytest.fixture(scope="module")
def site(tmp_path_factory, invoke):
    """A network, four radiographs, what `run` made of them, and their labels."""
    folder = tmp_path_factory.mktemp("judged")
    networks.torch.jit.script(networks.made(networks.Classifier)).save(folder / "network.pt")
    for seed in range(len(TRUTH)):
        synthetic.write_study(folder / "images" / str(seed), [synthetic.radiograph(seed=seed, study=str(seed))])
    ran(folder, invoke, "OUT")
    labels = [f"{row['sop_instance_uid']},{truth}" for row, truth in zip(rows(folder / "OUT"), TRUTH, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["sop_instance_uid,pneumothorax", *labels]))
    return folder


def ran(folder, invoke, out, points=""):
    (folder / f"{out}.toml").write_text(TOML.format(folder=folder, points=points))
    done = invoke("run", folder / "images", "-o", folder / out, "--config", folder / f"{out}.toml")
    assert done.exit_code == 0, done.output


def rows(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_it_is_evaluated_as_scikit_learn_does(site, invoke):
    done = invoke("evaluate", site / "OUT", "--truth", site / "labels.csv", "-o", site / "EVAL")
    assert done.exit_code == 0, done.output
    (found,) = json.loads((site / "EVAL" / "evaluation.json").read_text())["findings"]
    said = [row["scores"]["pneumothorax"]["raw"] for row in rows(site / "OUT")]
    assert len(set(said)) == len(TRUTH)
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(TRUTH, said))
    assert "mine" in json.dumps(found)


def test_it_is_calibrated_for_a_site_run_with_that_and_compared(site, invoke, tmp_path):
    many, labels = [], ["sop_instance_uid,pneumothorax"]
    for number, (row, truth) in enumerate(zip(rows(site / "OUT") * MANY, TRUTH * MANY, strict=True)):
        uids = {"sop_instance_uid": f"1.2.{number}", "study_instance_uid": f"1.2.3.{number}"}
        score = row["scores"]["pneumothorax"]
        raw = 0.3 + 0.2 * truth + 0.004 * (number % 50)  # they overlap
        many.append(json.dumps({**row, **uids, "scores": {"pneumothorax": {**score, "raw": raw}}}))
        labels.append(f"1.2.{number},{truth}")
    (tmp_path / "results.jsonl").write_text("\n".join(many) + "\n")
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    points = site / "points.toml"
    done = invoke("calibrate", tmp_path, "--truth", tmp_path / "labels.csv", "-o", points, "--aim", "youden")
    assert done.exit_code == 0, done.output
    ran(site, invoke, "SITE", f'operating_points = "{points}"')
    (point,) = re.findall(r"^operating_point = (.*)$", points.read_text(), re.MULTILINE)
    for row in rows(site / "SITE"):
        score = row["scores"]["pneumothorax"]
        assert score["operating_point"] == pytest.approx(float(point))
        assert (score["call"] == "present") == (score["raw"] >= float(point))
    assert "site operating point" in (site / "SITE" / "report.html").read_text()
    done = invoke("compare", site / "OUT", site / "SITE", "--json")
    assert done.exit_code == 0, done.output
    assert "pneumothorax" in done.output


def test_what_is_sent_to_the_page_is_processed_with_it_and_shown(tmp_path):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    own = {"names": ("mine",), "device": "cpu", "own": (table(path, scores("pneumothorax", "cavity", "")),)}
    told = settings(tmp_path / "spool", web={"port": free_port()}, models=own)
    spool, ledger = Spool(told), Ledger(told.spool.folder)
    intake = Intake(spool, ledger, Assembly(told.assembly), AuditTrail(spool.folder), told.listener.sop_classes)
    dataset, content = synthetic.radiograph(), io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    visitors = Visitors(told.web, ALL_RIGHTS)
    pages = (*SendPages(Uploads(told, intake), ledger).pages(), *StudyPages(SpoolSite(ledger)).pages())
    with helpers.served(Web(name="x", settings=told.web, visitors=visitors, pages=pages, port=told.web.port)) as client:
        client.enter()
        headers = {"origin": f"http://{client.host}", "x-form-token": client.form_token}
        assert client.ask("POST", PATH, content.getvalue(), **headers).status == 200
        place = f"/studies/{dataset.StudyInstanceUID}"
        ledger.studies.complete(dataset.StudyInstanceUID)
        worker = Worker(told, RoutedPipeline(told), "w", RoutedPipeline)
        assert worker.step()
        shown = client.get(place).text
        worker.close()
    ledger.close()
    assert "Pneumothorax" in shown
    assert "mine" in shown
