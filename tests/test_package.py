"""What `import cxr_dicom` gives, what it loads, and what a type checker knows of it."""

import subprocess
import sys

import pytest

import cxr_dicom
from tests import ROOT


def test_every_name_is_there_and_no_other():
    assert {name for name in cxr_dicom.__all__ if getattr(cxr_dicom, name) is None} == set()
    assert set(cxr_dicom.__all__) <= set(dir(cxr_dicom))
    with pytest.raises(AttributeError, match="anlyse"):
        cxr_dicom.anlyse  # noqa: B018


def test_the_package_alone_loads_nothing_of_others():
    code = "import sys; before = set(sys.modules); import cxr_dicom; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) == {"cxr_dicom"}


def test_a_type_checker_knows_the_names_and_their_types(tmp_path):
    (tmp_path / "notebook.py").write_text(
        "import cxr_dicom\n"
        'a = cxr_dicom.analyse("chest.dcm")\n'
        'reveal_type(a.masks["heart"])\n'
        'reveal_type(a.measurements["cardiothoracic_ratio"].value)\n'
        'reveal_type(cxr_dicom.read_results("OUT").objects["1.2"])\n'
        "cxr_dicom.anlyse\n"
    )
    command = [sys.executable, "-m", "mypy", str(tmp_path / "notebook.py")]  # strict, in the cache that lint leaves
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    for line, text in ((3, "numpy.bool"), (4, "float | None"), (5, "list[pydicom.dataset.Dataset]")):
        assert any(f":{line}:" in each and text in each for each in said.splitlines()), said
    assert 'has no attribute "anlyse"' in said
