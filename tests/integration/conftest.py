"""Real servers: skipped on a developer's machine that lacks them, failed in CI."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration import rig, studies
from tests.integration.docs_of_viewers import DOCS, write_screenshots, write_table
from tests.integration.sources import RG1_SPACING_MM

_BROWSER_SECONDS = 400
LARGE = {"width": 1280, "height": 900}  # the browser, for pictures in the docs

STEPS = {  # kind of object: what the page lists when it has loaded, and what the viewport then shows
    "segmentation": ("segments", None),
    "measurement_report": ("measurements", None),
    "structure_report": ("outlines", None),
    "findings_report": ("text", "SR"),
    "secondary_capture": ("images", "OT"),
    "parametric_map": ("overlays", "PMAP"),
}
OVERLAYS = ("segmentation", "measurement_report", "structure_report")
SINGLE = ("findings_report", "secondary_capture")
MAP = ("parametric_map",)
VISITS = {  # study, and what is opened on one load of the page; the map's window stays, so it has its own
    "rg1": ("rg1", OVERLAYS),
    "rg1-spaced": ("rg1-spaced", OVERLAYS + SINGLE),
    "rg1-spaced-map": ("rg1-spaced", MAP),
    "dx": ("dx", OVERLAYS + SINGLE),
    "dx-map": ("dx", MAP),
    "dx-two-views": ("dx-two-views", OVERLAYS),
    "dx-two-views-map": ("dx-two-views", MAP),
}

_outcomes = {}


def pytest_addoption(parser):
    parser.addoption(
        "--update-screenshots", action="store_true", help=f"write {DOCS.name}'s table and pictures from this run"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and "seen" in getattr(item, "fixturenames", ()):
        _outcomes[item.nodeid] = (item, report)
    return report


def pytest_sessionfinish(session):
    if _outcomes and session.config.getoption("--update-screenshots", default=False):
        write_table(_outcomes.values())


@pytest.fixture(scope="session")
def archive(needs, tmp_path_factory):
    """A running Orthanc that is empty at first."""
    needs(rig.orthanc_program)
    with rig.orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="session")
def shown(archive, real, tmp_path_factory):
    """The studies by name, stored in the archive."""
    rg1, folder = real("RG1_UNCR.dcm"), tmp_path_factory.mktemp("studies")
    by_name = {
        "rg1": studies.real(rg1, folder / "rg1"),
        "rg1-spaced": studies.real(rg1, folder / "rg1-spaced", RG1_SPACING_MM),
        "dx": studies.drawn(folder / "dx"),
        "dx-two-views": studies.with_lateral(folder / "dx-two-views"),
    }
    for study in by_name.values():
        for path in (*study.sources, *(each.path for each in study.objects)):
            archive.store(path)
    return by_name


@pytest.fixture(scope="session", params=rig.OHIF_VERSIONS)
def seen(request, archive, shown, needs, tmp_path_factory):
    """What one version of OHIF shows of all studies: a folder of what `ohif/drive.mjs` writes."""
    version = request.param
    out = tmp_path_factory.mktemp(f"ohif-{version}")
    needs(rig.ohif_build, version)
    with rig.ohif(version, archive, out / "ohif.log") as url:
        plan = {
            "playwright": str(needs(rig.playwright)),
            "chromium": needs(rig.chromium),
            "viewport": LARGE if request.config.getoption("--update-screenshots", default=False) else rig.VIEWPORT,
            "url": url,
            "out": str(out),
            "visits": [_visit(name, shown[study], kinds) for name, (study, kinds) in VISITS.items()],
        }
        (out / "plan.json").write_text(json.dumps(plan))
        command = [needs(rig.node), str(rig.SCRIPTS / "drive.mjs"), str(out / "plan.json")]
        subprocess.run(command, check=True, timeout=_BROWSER_SECONDS)
    if request.config.getoption("--update-screenshots", default=False) and version == rig.OHIF_VERSIONS[-1]:
        write_screenshots(out)
    return out


def _visit(name, study, kinds):
    steps = [_step(study.of_kind(kind), kind) for kind in kinds]
    return {"name": name, "study": study.study_instance_uid, "steps": steps}


def _step(encoded, kind):
    wait, modality = STEPS[kind]
    return {"name": kind, "series": encoded.series_instance_uid, "wait": wait, "modality": modality}


@pytest.fixture
def look(seen, shown):
    """Return what the page said when one object was open, and the screenshot's path."""

    def at(name, kind):
        (visit,) = (visit for visit, (study, kinds) in VISITS.items() if study == name and kind in kinds)
        told = json.loads((seen / f"{visit}.json").read_text())
        assert kind in told, told.get("error", "")
        return told[kind], Path(seen / f"{visit}-{kind}.png")

    return at
