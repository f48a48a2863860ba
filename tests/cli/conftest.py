"""One real run on synthetic studies, which the tests of the command line share."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.cli import cli
from cxr_dicom.system import confinement

OFFLINE = ("--models", "offline-anatomy,lung-opacity", "--device", "cpu")


@dataclass
class Finished:
    out: Path
    result: Result

    @property
    def rows(self):
        return [json.loads(line) for line in (self.out / "results.jsonl").read_text().splitlines()]

    @property
    def objects(self):
        return {str(path.relative_to(self.out)): path.read_bytes() for path in self.out.rglob("*.dcm")}


def _invoke(*arguments):
    """Call the command line, and take back what it does to this process's logging."""
    logger = logging.getLogger("cxr_dicom")
    before = logger.handlers, logger.level, logger.propagate
    try:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])
    finally:
        logger.handlers, logger.level, logger.propagate = before
        logging.captureWarnings(False)


@pytest.fixture(scope="session")
def invoke():
    """Call the command line in this process."""
    return _invoke


@pytest.fixture(scope="session")
def run():
    """Run on some inputs with the offline models."""

    def run(inputs, out, *options):
        return Finished(out, _invoke("run", inputs, "-o", out, *OFFLINE, *options))

    return run


@pytest.fixture(scope="session")
def as_experts():
    """Copy the objects of a kind of a run into a folder, as if another maker's software had made them."""

    def copy(finished, folder, kind):
        for row in finished.rows:
            for each in row["objects"]:
                if each["kind"] == kind:
                    dataset = dcmread(finished.out / each["path"])
                    dataset.Manufacturer = "Readers"
                    dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm")
        return folder

    return copy


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Two studies, one with a lateral image, and files that are not DICOM."""
    folder = tmp_path_factory.mktemp("inputs")
    synthetic.write_study(folder / "first")
    synthetic.write_study(folder / "second", [synthetic.radiograph(study="2", seed=2)])
    (folder / "notes.txt").write_text("no image")
    (folder / "empty").touch()
    name = os.fsencode(folder) + b"/not-utf8-\xff <b>&.txt"
    Path(os.fsdecode(name)).write_text("no image either")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "back").symlink_to(folder)
    return folder


@pytest.fixture(scope="session")
def finished(run, inputs, tmp_path_factory):
    return run(inputs, tmp_path_factory.mktemp("finished"))


@pytest.fixture(autouse=True)
def confined(monkeypatch):
    """Where `models add` would let its process write; these tests run it in their own, which must stay free."""
    said = []
    monkeypatch.setattr(confinement, "confine", lambda writable: said.append(set(writable)))
    return said
