"""Packages as pip leaves them in a folder of ``sys.path``: modules, and a ``.dist-info`` with entry points."""

import importlib
import shutil
import sys
from textwrap import dedent

import pytest

from cxr_dicom.plugins import SEAMS


def lay_out(folder, distribution, version, points, files):
    """Write what `pip install --target` would: ``points`` is ``{group: {name: module}}``."""
    for name, text in files.items():
        (folder / name).write_text(dedent(text), encoding="utf-8")
    for earlier in folder.glob(f"{distribution}-*.dist-info"):
        shutil.rmtree(earlier)
    about = folder / f"{distribution}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = [f"[{group}]\n" + "".join(f"{n} = {m}\n" for n, m in names.items()) for group, names in points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages for one test, here and in the processes that it starts."""
    folder = tmp_path / "installed"
    folder.mkdir()
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    def install(distribution, version="1.0", points=None, **files):
        lay_out(folder, distribution, version, points or {}, {f"{name}.py": text for name, text in files.items()})
        forget()
        return folder

    def forget():
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # a change within one second is a change
        importlib.invalidate_caches()
        for seam in SEAMS:
            seam.forget()

    yield install
    monkeypatch.undo()
    forget()
