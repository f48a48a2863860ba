"""The pages of a service in a real browser: send, watch, look, act; both schemes, three widths, axe-core."""

import io
import json
import subprocess
import threading
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_voi_lut

from cxr_dicom import synthetic
from cxr_dicom.service.service import Service
from cxr_dicom.store.spool import Spool
from tests.integration import rig
from tests.service_helpers import archive, free_port, settings, wait_for

FILES = 200
SCHEMES, WIDTHS = ("light", "dark"), (1280, 820, 390)
PAGES = ("now", "studies", "study", "send", "models", "card", "settings", "nothing")
_BROWSER_SECONDS = 240


def mixed(folder, real):
    """Make 200 files: two radiographs, a picture, an archive with a third, and much that is none of these."""
    made = []

    def write(name, content):
        (folder / name).write_bytes(content)
        made.append(str(folder / name))

    write("real", real("RG1_UNCR.dcm").read_bytes())
    body = synthetic.radiograph(512, 512)
    content = io.BytesIO()
    body.save_as(content, enforce_file_format=True)
    write("again.dcm", real("RG1_UNCR.dcm").read_bytes())
    with zipfile.ZipFile(folder / "archive.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("../../within.dcm", content.getvalue())
        pack.writestr("words.txt", "no image")
    made.append(str(folder / "archive.zip"))
    picture = io.BytesIO()
    Image.fromarray(np.asarray(body.pixel_array >> 4, np.uint8)).save(picture, "PNG")
    write("picture.png", picture.getvalue())
    body.SOPClassUID = body.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    other = io.BytesIO()
    body.save_as(other, enforce_file_format=True)
    for number in range((FILES - len(made)) // 2):
        write(f"ct{number}.dcm", other.getvalue())
    while len(made) < FILES:
        write(f"{len(made)}.txt", b"words")
    return made


@pytest.fixture(scope="module")
def told(tmp_path_factory, needs, real):
    out = tmp_path_factory.mktemp("web-pages")
    (out / "files").mkdir()
    port = free_port()
    pacs = {
        "kind": "dicom",
        "name": "pacs",
        "address": "127.0.0.1",
        "port": port,
        "ae_title": "ARCHIVE",
        "timeout_seconds": 3,
    }
    made = settings(out / "spool", web={"port": free_port()}, destinations=[pacs], listener={"enabled": False})
    plan = {
        "playwright": str(needs(rig.playwright)),
        "chromium": needs(rig.chromium),
        "axe": str(needs(rig.axe)),
        "files": mixed(out / "files", real),
        "study": "1.3.6.1.4.1.5962.1.2.9.20040826185059.5457",
        "studies": 3,
        "out": str(out),
        "schemes": SCHEMES,
        "widths": WIDTHS,
    }
    spool = Spool(made)
    spool.lock()
    service, stop = Service(made, spool), threading.Event()
    ticks = threading.Thread(target=service.run, args=(stop,))
    ticks.start()
    try:
        plan["link"] = service.pages.link
        (out / "plan.json").write_text(json.dumps(plan))
        driver = rig.SCRIPTS.parent / "web_pages.mjs"
        with subprocess.Popen([needs(rig.node), str(driver), str(out / "plan.json")]) as browser:
            try:
                wait_for(lambda: (out / "seen-outage").exists() or browser.poll() is not None, _BROWSER_SECONDS)
                with archive(port=port, contexts=()):
                    (out / "archive-is-up").touch()
                    browser.wait(_BROWSER_SECONDS)
            finally:
                browser.kill()
    finally:
        stop.set()
        ticks.join()
        service.stop()
        spool.unlock()
    found = json.loads((out / "told.json").read_text())
    return found | {
        "out": out,
        "link": plan["link"],
        "study": plan["study"],
        "trail": (spool.folder / "audit.jsonl").read_text(),
    }


def test_the_browser_has_nothing_to_complain_of_and_asks_nobody_else(told):
    assert told["errors"] == []
    assert {urlsplit(url).netloc for url in told["requests"]} == {urlsplit(told["link"]).netloc}


def test_the_token_goes_in_a_form_and_the_cookie_is_for_no_script(told):
    token = urlsplit(told["link"]).fragment
    assert token not in "".join(url.partition("#")[0] for url in told["requests"])
    assert told["cookie"] == [{"httpOnly": True, "sameSite": "Strict"}]
    assert told["readable"] == ""


def test_200_mixed_files_are_sent_and_each_ends_in_a_study_or_a_reason(told):
    assert told["sent"] == f"{FILES} sent"
    counts = {reason.partition(" × ")[2].partition(":")[0]: 0 for reason in told["reasons"]}
    for reason in told["reasons"]:
        number, _, text = reason.partition(" × ")
        counts[text.partition(":")[0]] += int(number)
    assert counts == {"WRONG_SOP_CLASS": 98, "UNREADABLE": 99}, "98 text files, and that in the archive"
    images = {row[0]: row[1] for row in told["studies"]}
    assert images[told["study"]] == "2", "the same image again is known"
    assert sorted(row[3] for row in told["studies"]) == ["no", "no", "patient, spacing, orientation"]


def test_a_study_shows_its_layers_which_move_and_hide(told):
    base, anatomy, *_ = told["before"]
    assert base["naturalWidth"] == anatomy["naturalWidth"] > 100
    assert not anatomy["hidden"]
    base, anatomy, *others = told["after"]
    assert anatomy["hidden"]
    assert "scale(1.5625)" in base["transform"]
    assert len({each["transform"] for each in (base, anatomy, *others)}) == 1, "layers move together"
    assert told["download"].endswith(".dcm")


def test_the_window_works_on_stored_values_as_pydicom_does(told, real):
    dataset = dcmread(real("RG1_UNCR.dcm"))
    before, after = told["window"]
    assert (before["width"], before["height"]) == (dataset.Columns, dataset.Rows)
    assert (before["centre"], before["wide"]) == ("15000", "30000"), "that of the image"
    assert before["transform"] == told["after"][0]["transform"], "it moves with the layers"
    assert after["wide"] == "8000"
    for seen in (before, after):
        dataset.WindowCenter, dataset.WindowWidth = seen["centre"], seen["wide"]
        shown = apply_voi_lut(dataset.pixel_array, dataset)[dataset.Rows // 2] / (2**dataset.BitsStored - 1)
        assert np.abs(255 * (1 - shown) - seen["row"]).max() <= 1, "MONOCHROME1"
    assert np.mean(after["row"]) != np.mean(before["row"])


def test_a_destination_that_does_not_answer_is_tried_again_by_hand_and_the_page_follows(told):
    assert told["live"] <= 1, "the answer to the form, and no load since"
    lines = [json.loads(line) for line in told["trail"].splitlines()]
    assert {(line["by"], line["via"]) for line in lines if line["action"] == "study_retried"} == {("link", "page")}


def test_no_page_is_wider_than_its_window(told):
    assert told["wide"] == []


def test_axe_finds_nothing(told):
    assert told["axe"] == []


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_light_and_dark(told, page):
    for width in WIDTHS:
        light, dark = (
            np.asarray(Image.open(told["out"] / f"{page}-{scheme}-{width}.png").convert("L")) for scheme in SCHEMES
        )
        assert light[-3, 3] > 200 > 60 > dark[-3, 3]
        assert light.std() > 5
