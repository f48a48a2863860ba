"""Models and settings as pages: what is shown, what never is, and the check."""

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
