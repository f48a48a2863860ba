"""Encode every kind of object for one source, and call the validators and readers of others."""

import gzip
import importlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cxr_dicom.config import SelectSettings
from cxr_dicom.encode.common import write
from cxr_dicom.ingest.folder import scan
from cxr_dicom.select import select
from tests import painted, validators

KINDS = ("seg", "sr", "parametric_map", "secondary_capture", "presentation_state", "key_objects")


@pytest.fixture(scope="session")
def tool():
    """Run a program and return its output.

    Those from PyPI are always there; a system program may be missing on a developer's machine,
    never in CI.
    """

    def run(name, *arguments, system=False, check=True):
        path = shutil.which(name) if system else validators.packaged(name)
        if path is None and not os.environ.get("CI"):
            pytest.skip(f"{name} is not installed")
        assert path, f"{name} is not installed"
        finished = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, errors="replace")
        output = finished.stdout + finished.stderr
        assert not check or finished.returncode == 0, output
        return output

    return run


@pytest.fixture(scope="session")
def validate():
    """Return the errors that dciodvfy finds, by file name; those without are left out."""

    def errors(paths):
        found = {path.name: validators.errors(validators.dciodvfy(path)) for path in paths}
        return {name: lines for name, lines in found.items() if lines}

    return errors


@pytest.fixture(scope="session")
def chest_image(tmp_path_factory):
    """Write a data set to disk and select it."""

    def select_one(dataset):
        path = tmp_path_factory.mktemp("source") / "source"
        dataset.save_as(path, enforce_file_format=True)
        (study,), _ = scan([path])
        selection = select(study, SelectSettings())
        assert not selection.skipped
        return selection.images[0]

    return select_one


@pytest.fixture(scope="session")
def encode(tmp_path_factory):
    """Write objects of a study, of all kinds if none are named, with one folder for each call."""

    def write_all(study, *kinds, **settings):
        folder = tmp_path_factory.mktemp("objects")
        encoders = [
            importlib.import_module(f"cxr_dicom.encode.objects.{kind}").build(painted.settings(**settings))
            for kind in kinds or KINDS
        ]
        return [write(each, folder) for encoder in encoders for each in encoder.encode(study)]

    return write_all


@pytest.fixture(scope="session")
def nrrd():
    """Read a NRRD file: its header, and its values with the axes of the file reversed."""

    def read(path):
        head, _, data = Path(path).read_bytes().partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        data = gzip.decompress(data) if fields["encoding"] == "gzip" else data
        kinds = {"unsigned char": "u1", "uint8": "u1", "short": "<i2", "unsigned short": "<u2", "float": "<f4"}
        sizes = [int(size) for size in fields["sizes"].split()]
        return fields, np.frombuffer(data, kinds[fields["type"]]).reshape(sizes[::-1])

    return read
