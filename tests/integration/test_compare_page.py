"""The page of ``cxr-dicom compare`` in a real browser, by light and by dark."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from cxr_dicom.results.compare import compare, match, page
from tests.integration import rig

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
SCHEMES = {"dark": 0, "light": 1}


def write_run(folder, shift):
    """Twenty images with scores and ratios, those of the second run a little higher."""
    folder.mkdir()
    lines = []
    for number in range(20):
        value = 0.4 + number / 100 + shift
        call = "present" if value > 0.5 else "absent"
        scores = {"mass": {"probability": value, "call": call, "model": "one"}}
        ratio = {"value": value, "unit": "{ratio}", "model": "one"}
        lines.append(
            {
                "sop_instance_uid": f"1.{number}",
                "outcome": "processed",
                "scores": scores,
                "measurements": {"cardiothoracic_ratio": ratio},
            }
        )
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = match(write_run(folder / "a", 0), write_run(folder / "b", 0.025))
    page.write(folder / "page.html", compare(runs), runs)
    return folder / "page.html"


def browse(needs, written, *options):
    """Open the page without a network; return what the browser printed."""
    command = [
        needs(rig.chromium),
        *FLAGS,
        f"--user-data-dir={written.parent / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        *options,
        written.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, "the browser complains about the page"
    return done.stdout


def test_it_is_read_as_it_was_written(needs, written):
    dom = browse(needs, written, "--dump-dom")
    assert dom.count("<circle") == 40
    assert "3 absent → present" in dom
    assert dom.rstrip().endswith("</html>")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_plots_are_painted_by_light_and_by_dark(needs, written, scheme):
    picture = written.with_name(f"{scheme}.png")
    setting = f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    browse(needs, written, setting, "--window-size=1280,1600", f"--screenshot={picture}")
    colours = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    accent = {"dark": (0x5C, 0xC0, 0xEA), "light": (0x0B, 0x6E, 0x99)}[scheme]
    assert (np.median(colours) < 64) == (scheme == "dark")
    assert np.sum((colours == accent).all(axis=1)) > 500, "bars and lines have the colour of the scheme"
