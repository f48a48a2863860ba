"""Models and settings as pages: what is shown, what never is, and the check."""

import json
import threading

import pytest

from cxr_dicom.infer import model_infos
from cxr_dicom.service.checks import Check, Level
from cxr_dicom.web.application import Web
from cxr_dicom.web.settings import SettingsPages, tables
from cxr_dicom.web.visitors import Visitors
from tests.service_helpers import free_port, settings
from tests.web import helpers

SECRET = "hunter2"


@pytest.fixture
def told(tmp_path):
    archive = {"kind": "dicomweb", "name": "vna", "url": "http://vna/", "token_command": ["print-token", SECRET]}
    tables = {"poller": {"archives": [archive]}, "service": {"workers": 3}}
    return settings(tmp_path / "spool", web={"port": free_port()}, **tables)


def serve(told, check=lambda: ()):
    pages = SettingsPages(told, check).pages()
    return helpers.served(
        Web(name="x", settings=told.web, visitors=Visitors(told.web), pages=pages, port=told.web.port)
    )


def test_every_model_has_its_card(told):
    with serve(told) as client:
        text = client.enter().get("/models").text
    for info in model_infos().values():
        assert info.name in text
        assert info.licence in text
    assert text.index("offline-anatomy") < text.index("xrv-vqgan"), "those that run here come first"


def test_a_card_has_what_was_found_at_this_site(told, tmp_path):
    evaluation = tmp_path / "EVAL"
    evaluation.mkdir()
    figure = {"value": 0.875, "low": 0.8, "high": 0.95}
    finding = {"name": "effusion", "models": ["xrv-densenet121-all"], "n": 200, "positives": 50, "calls": None}
    finding |= {"auroc": figure, "average_precision": figure, "reliability": {"error": figure}, "groups": []}
    content = {"models": [["xrv-densenet121-all", "1", None]], "images": 200, "patients": 100, "grouped_by": "patient"}
    content |= {"findings": [finding], "anatomy": {"structures": [], "measurements": []}}
    (evaluation / "evaluation.json").write_text(json.dumps(content))
    told = told.model_copy(update={"web": told.web.model_copy(update={"evaluation": evaluation})})
    with serve(told) as client:
        client.enter()
        assert "0.875 (0.800 to 0.950)" in client.get("/models/xrv-densenet121-all").text
        assert "offline-anatomy did not run there" in client.get("/models/offline-anatomy").text
        assert client.get("/models/no-such-model").status == 404
        (evaluation / "evaluation.json").write_text("[]")
        text = client.get("/models/xrv-densenet121-all").text
    assert "found something else" in text
    assert "DenseNet-121" in text


def test_settings_say_where_they_come_from(told, monkeypatch):
    monkeypatch.setenv("CXR_DICOM_RETENTION__SOURCES_DAYS", "3")
    found = {name: {key: origin for key, _, origin in lines} for name, lines in tables(told)}
    assert found["service"]["workers"] == "file"
    assert found["service"]["stop_seconds"] == "default"
    assert found["retention"]["sources_days"] == "CXR_DICOM_RETENTION__SOURCES_DAYS"


def test_a_command_that_may_hold_a_secret_is_not_shown(told):
    with serve(told) as client:
        text = client.enter().get("/settings").text
    assert "vna" in text
    assert SECRET not in text


def test_the_check_is_a_page(told):
    answers = [
        Check(key="listener.port", level=Level.OK, text="listens there"),
        Check(key="destinations.pacs", level=Level.WRONG, text="accepts <nothing>"),
    ]
    with serve(told, lambda: answers) as client:
        client.enter()
        assert client.post("/settings/check").status == 403
        text = client.post("/settings/check", form_token=client.form_token).text
    assert "accepts &lt;nothing&gt;" in text
    assert "listens there" in text


def test_one_check_at_a_time(told):
    begun, go = threading.Event(), threading.Event()

    def check():
        begun.set()
        go.wait(20)
        return []

    with serve(told, check) as client:
        client.enter()
        first = threading.Thread(
            target=client.post, args=("/settings/check",), kwargs={"form_token": client.form_token}
        )
        first.start()
        begun.wait(20)
        assert client.post("/settings/check", form_token=client.form_token).status == 409
        go.set()
        first.join()
