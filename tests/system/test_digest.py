"""The SHA-256 of a file, as coreutils' ``sha256sum`` says it."""

import subprocess

import pytest

from cxr_dicom.system.digest import sha256


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_it_is_what_sha256sum_says(size, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(number % 251 for number in range(size)))
    said = subprocess.run(["sha256sum", "--binary", path], capture_output=True, text=True, check=True).stdout
    assert sha256(path) == said.split()[0]
    with path.open("rb") as file:
        assert sha256(file) == said.split()[0]
