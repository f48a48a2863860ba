"""What the documents show of Python is run: the page block by block, the notebook in a real kernel."""

import re
import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests import ROOT, api_inputs

PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "docs" / "examples" / "first-look.ipynb"
MAX_BYTES = 200_000


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(api_inputs.CHEST, "chest.dcm")
    names = {}
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(PAGE), "exec"), names)
        else:
            assert block == "cxr-dicom run chest.dcm -o OUT\n"
            api_inputs.run(tmp_path, "chest.dcm")
    assert len(blocks) == 9
    assert names["heart"].any()
    assert list(names["table"].outcome) == ["processed"]
    assert names["segmentation"].Modality == "SEG"
    assert all(path.is_file() for path in names["files"])
    assert len(names["results"].frame) == 1


def test_the_notebook_runs_in_a_kernel_and_shows_the_picture(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("data:image/jpeg;base64," in data.get("text/html", "") for data in shown)


def test_the_notebook_is_small_and_was_run_in_order():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert str(Path.home()) not in NOTEBOOK.read_text(encoding="utf-8")
