"""`cxr-dicom view` and OHIF in a real browser: a segmentation opens from the page of its study, without an archive."""

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import numpy as np
import pytest
from pydicom import dcmread

from cxr_dicom.cli import cli
from cxr_dicom.web import view
from cxr_dicom.web.ohif.install import VERSION, is_needed
from cxr_dicom.web.server import Server
from tests.integration import rig
from tests.integration.score import Screenshot
from tests.service_helpers import free_port

LEAST_IOU = 0.9
_BROWSER_SECONDS = 150


@pytest.fixture(scope="module")
def out(tmp_path_factory, real):
    """What `run` writes of RG1 as it is, whose Pixel Spacing is 0\\0."""
    folder = tmp_path_factory.mktemp("view")
    arguments = ["run", str(real("RG1_UNCR.dcm")), "-o", str(folder / "out"), "--models", "offline-anatomy"]
    assert cli.main(arguments, standalone_mode=False) in (0, None)
    return folder / "out"


def installed(build, folder):
    """Copy of a build what `viewer install` keeps of it."""
    for path in build.rglob("*"):
        parts = path.relative_to(build.parents[1]).parts
        if path.is_file() and is_needed(parts):
            target = folder.joinpath(*parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder


@pytest.fixture(scope="module")
def told(out, needs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    (row,) = (json.loads(line) for line in (out / "results.jsonl").read_text().splitlines())
    web = view.pages_of(out, free_port(), installed(needs(rig.ohif_build, VERSION), folder / "ohif"))
    server = Server(web.application(), "127.0.0.1", web.port)
    plan = {
        "playwright": str(needs(rig.playwright)),
        "chromium": needs(rig.chromium),
        "viewport": rig.VIEWPORT,
        "link": view.link(web),
        "study": row["study_instance_uid"],
        "out": str(folder),
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    try:
        command = [needs(rig.node), str(rig.SCRIPTS / "view.mjs"), str(folder / "plan.json")]
        subprocess.run(command, check=True, timeout=_BROWSER_SECONDS)
    finally:
        server.stop()
    found = json.loads((folder / "told.json").read_text())
    assert "error" not in found, found
    return found | {"row": row, "picture": folder / "segmentation.png", "host": f"127.0.0.1:{web.port}"}


def test_a_segmentation_opens_from_its_study_on_the_structures(told, out):
    (made,) = (each for each in told["row"]["objects"] if each["kind"] == "segmentation")
    assert made["series_instance_uid"] in told["url"]
    segmentation = dcmread(out / made["path"])
    labels = segmentation.pixel_array.squeeze()
    screenshot = Screenshot(told["picture"], told["placement"], labels.shape)
    names = {int(each.SegmentNumber): str(each.SegmentLabel) for each in segmentation.SegmentSequence}
    shown = {each["label"]: each["colour"] for each in told["segments"]}
    ious = {}
    for number in np.unique(labels[labels > 0]):
        found = screenshot.has_hue_of(shown[names[int(number)]])
        ious[names[int(number)]] = screenshot.iou(found, screenshot.of_matrix(labels == number))
    assert len(ious) == len(shown) > 1
    assert min(ious.values()) >= LEAST_IOU, ious


def test_no_request_leaves_our_origin(told):
    asked = [urlsplit(url) for url in told["requests"] if not url.startswith(("blob:", "data:"))]
    assert {url.netloc for url in asked} == {told["host"]}
    assert told["refused"] == []
    assert any(url.path.startswith("/ohif/") for url in asked)
    assert any("/frames/" in url.path for url in asked)


def test_the_policy_keeps_nothing_from_ohif(told):
    assert told["isIsolated"]
    assert [error for error in told["errors"] if "Content Security Policy" in error] == []


def test_the_page_of_the_study_says_what_ohif_is_not_told(told):
    assert told["note"] == 1
    assert "segmentation" in told["links"]
