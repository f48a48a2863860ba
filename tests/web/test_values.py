"""Stored values and pictures that a page asks for: the right ones, in a process of their own, within bounds."""

import base64
import io
import json
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cxr_dicom.cli import cli
from cxr_dicom.cohort.journal import Journal
from cxr_dicom.config import load
from cxr_dicom.config.web import Right
from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason
from cxr_dicom.synthetic import radiograph
from cxr_dicom.web import artist, drawn, folder
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.artist import Artist
from cxr_dicom.web.folder import Folder
from cxr_dicom.web.visitors import Visitor
from tests import kept as keeping
from tests.web import helpers


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What `run` writes of one image; the maps lie on the grid of their model."""
    folder = tmp_path_factory.mktemp("values")
    radiograph(320, 256, PatientOrientation=["R", "F"]).save_as(folder / "x.dcm", enforce_file_format=True)
    (folder / "c.toml").write_text('[encode]\nmap = "coarse"\n')
    arguments = [*("run", str(folder / "x.dcm"), "-o", str(folder / "out"), "--config", str(folder / "c.toml"))]
    arguments += ["--models", "offline-anatomy,lung-opacity", "--device", "cpu", "-q"]
    assert cli.main(arguments, standalone_mode=False) in (0, None)
    return folder / "out"


@pytest.fixture(scope="module")
def row(out):
    return json.loads((out / "results.jsonl").read_text())


@pytest.fixture(scope="module")
def kept(out, row):
    return keeping.kept(out, row["study_instance_uid"]).figures[row["sop_instance_uid"]]


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"), int)


def test_pictures_drawn_from_the_objects_are_those_that_run_draws(out, row, kept):
    made = drawn.figures(out.parent / "x.dcm", out, row, load().decided(service=False))
    assert (
        [each["title"] for each in made]
        == [each["title"] for each in kept]
        == [
            "Radiograph",
            "Anatomy",
            "Relative opacity",
        ]
    )
    for mine, theirs in zip(made, kept, strict=True):
        for part in ("source", "layer"):
            if theirs[part]:
                assert np.abs(pixels(mine[part]) - pixels(theirs[part])).max() <= 3, "colours pass through CIELab"
        assert [each["name"] for each in mine["legend"]] == [each["name"] for each in theirs["legend"]]
        assert mine["model"] == theirs["model"]
    assert made[0]["hanging"] == kept[0]["hanging"]


def test_pictures_that_run_did_not_keep_are_drawn_when_a_page_asks_and_kept_within_bounds(out, row, monkeypatch):
    asked = []
    monkeypatch.setattr(Journal, "load", lambda *_: None)  # as of more than a hundred studies
    monkeypatch.setattr(Artist, "ask", lambda self, *arguments: asked.append(arguments) or arguments[0](*arguments[1:]))
    page = f"/studies/{row['study_instance_uid']}"
    with helpers.shown(out) as client:
        assert client.enter().get(page).text.count("<img") == 3
        assert client.get(f"{page}/pictures/{row['sop_instance_uid']}/1").content.startswith(b"RIFF")
        assert len(asked) == 1
        monkeypatch.setattr(folder, "_MOST_DRAWN_BYTES", 0)
        monkeypatch.setattr(folder, "_stamp", lambda _: (0, 0))
        client.get(page)
        client.get(page)
        assert len(asked) == 3, "nothing is kept beyond the bound"
        monkeypatch.setattr(Folder, "source", lambda *_: None)
        assert "does not lie here any more" in client.get(page).text


def test_values_are_sent_as_the_picture_hangs_and_only_to_who_may_see_patients(out, row):
    address = f"/studies/{row['study_instance_uid']}/values/{row['sop_instance_uid']}"
    with helpers.shown(out) as client:
        assert client.get(address).status == 401
        answer = client.enter().get(address)
        about = json.loads(answer.headers["x-values"])
        values = np.frombuffer(answer.content, "<u2").reshape(about["rows"], about["columns"])
        stored = radiograph(320, 256, PatientOrientation=["R", "F"]).pixel_array[:, ::-1]
        assert np.array_equal(about["slope"] * values + about["intercept"], stored)
        assert f'data-values="{address}"' in client.get(address.partition("/values")[0]).text
        assert client.get(address[:-1] + "77").status == 404
        (made,) = (each for each in row["objects"] if each["kind"] == "segmentation")
        assert client.get(f"{address.rpartition('/')[0]}/{made['sop_instance_uid']}").status == 404
        visitor = Visitor(name="x", rights=frozenset({Right.LOOK}), key="")
        client.web.visitors.recognise = lambda *_: visitor
        assert client.get(address).status == 403


@pytest.mark.parametrize(
    "hanging",
    ["x", {}, {"turn": "abc"}, {"turn": [1]}, {"turn": [["<"], {}, None], "where": helpers.HOSTILE, "width_mm": "9e9"}],
    ids=repr,
)
def test_a_folder_of_somebody_else_says_how_a_picture_hangs(tmp_path, hanging):
    row = helpers.row()
    helpers.write_out(tmp_path / "out", [row])
    figure = {"title": "Radiograph", "source": helpers.PIXEL, "layer": "", "hanging": hanging, "is_heat": False}
    figure |= {"model": "", "note": "", "legend": []}
    helpers.write_state(tmp_path / "out", row, [figure])
    with helpers.shown(tmp_path / "out") as client:
        page = client.enter().get(f"/studies/{row['study_instance_uid']}")
        assert page.status == 200
        assert "<script>alert" not in page.text
        assert client.get(f"/studies/{row['study_instance_uid']}/values/{row['sop_instance_uid']}").status == 404


def refuse():
    raise ImageError(Reason.UNREADABLE, "expected an image")


def leak():
    raise ValueError("Doe^Jane")


def reserve():
    return len(bytes(5 << 30))  # no page of it is touched


def test_what_crashes_fails_or_takes_too_long_ends_one_picture_and_no_more(monkeypatch):
    assert artist._SECONDS == 30  # as docs/security.md says
    made = Artist()
    try:
        assert made.ask(max, 1, 2) == 2
        process = made._process.pid
        for function, arguments, text in (
            (refuse, (), "UNREADABLE: expected an image"),
            (leak, (), "ValueError"),
            (reserve, (), "MemoryError"),  # 4 GB are the bound
        ):
            with pytest.raises(NotAnsweredError, match=text) as raised:
                made.ask(function, *arguments)
            assert "Doe" not in raised.value.text
        assert made._process.pid == process
        with pytest.raises(NotAnsweredError, match="cannot be read"):
            made.ask(os._exit, 1)
        monkeypatch.setattr(artist, "_SECONDS", 0.2)
        with pytest.raises(NotAnsweredError, match="not made within"):
            made.ask(time.sleep, 60)
        monkeypatch.setattr(artist, "_SECONDS", 30)
        assert made.ask(max, 1, 2) == 2
        os.kill(made._process.pid, 15)
        made._process.join(5)
        assert made.ask(max, 1, 2) == 2
        monkeypatch.setattr(made, "_waiting", threading.BoundedSemaphore(1))
        made._waiting.acquire()
        with pytest.raises(NotAnsweredError, match="Other pictures") as raised:
            made.ask(max, 1, 2)
        assert raised.value.status == 503
    finally:
        made.close()
        assert made._process is None
