"""What the tests of the Python side share: radiographs, and what `cxr-dicom run` makes of them."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless

from cxr_dicom import synthetic
from cxr_dicom.cli import cli
from cxr_dicom.config import load

SETTINGS = {
    "models": {"names": ["offline-anatomy", "lung-opacity"], "device": "cpu"},
    "encode": {"objects": ["seg", "sr", "parametric-map", "secondary-capture"]},
}
TOML = """
[models]
names = ["offline-anatomy", "lung-opacity"]
device = "cpu"
[encode]
objects = ["seg", "sr", "parametric-map", "secondary-capture"]
"""
EXTREMITY = Path(get_testdata_file("RG3_UNCR.dcm", download=False))
_FOLDER = TemporaryDirectory()
CHEST, TWIN = synthetic.write_study(  # two frontal images of one study, the second one compressed
    Path(_FOLDER.name),
    [synthetic.radiograph(), synthetic.stored_as(synthetic.radiograph(seed=2), JPEG2000Lossless)],
)


def offline():
    return load(None, SETTINGS)


def run(folder, *paths):
    """Run the command line on ``paths`` and return its output folder."""
    config, out = folder / "cxr-dicom.toml", folder / "OUT"
    config.write_text(TOML)
    arguments = ["run", *map(str, paths), "-o", str(out), "--config", str(config), "--quiet"]
    logger = logging.getLogger("cxr_dicom")
    before = logger.handlers, logger.level, logger.propagate
    finished = CliRunner().invoke(cli, arguments)
    logger.handlers, logger.level, logger.propagate = before
    logging.captureWarnings(False)
    assert finished.exit_code == 0, finished.output
    return out


def files(folder):
    """Name and bytes of every object below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*.dcm"))}
