"""The panel, with stand-ins for Qt and ctk: what is chosen reaches the program, what it says reaches the panel."""

import importlib
import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from CXRLib import analysis


class _Base:
    def __init__(self, parent=None):
        self.layout = MagicMock()

    def setup(self):
        pass


@pytest.fixture
def application(monkeypatch, tmp_path):
    """Slicer's modules as far as the panel uses them."""
    slicer, base = MagicMock(), ModuleType("slicer.ScriptedLoadableModule")
    base.ScriptedLoadableModule = base.ScriptedLoadableModuleWidget = _Base
    slicer.app.temporaryPath = str(tmp_path)
    slicer.util.tryWithErrorDisplay.return_value.__exit__.return_value = False
    qt = MagicMock()
    qt.QSettings.return_value.value.side_effect = lambda key, default: default
    qt.QLineEdit.side_effect = lambda text: MagicMock(text=text)
    qt.QLabel.side_effect = lambda text: MagicMock(text=text)
    scene = ModuleType("CXRLib.scene")
    scene.NOT_FOR_CLINICAL_USE, scene.Loader = "Not for clinical use", MagicMock()
    scene.summary = lambda row: [row["outcome"], "Not for clinical use"]
    stand_ins = {"slicer": slicer, "slicer.ScriptedLoadableModule": base, "qt": qt, "ctk": MagicMock()}
    for name, module in {**stand_ins, "CXRLib.scene": scene}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("CXRLib.scene", scene, raising=False)
    monkeypatch.delitem(sys.modules, "CXR", raising=False)
    return slicer


@pytest.fixture
def panel(application):
    widget = importlib.import_module("CXR").CXRWidget()
    widget.setup()
    widget._study.currentData = ""
    return widget


def test_a_file_is_analysed_and_shown(panel, application, monkeypatch, results):
    asked = {}

    def analyse(program, inputs, out, **options):
        asked.update(options, inputs=[str(path) for path in inputs])
        return results

    monkeypatch.setattr(analysis, "find_program", lambda *_: "cxr-dicom")
    monkeypatch.setattr(analysis, "analyse", analyse)
    panel._path.currentPath = "chest.dcm"
    panel._on_analyse()
    assert (asked["inputs"], asked["models"]) == (["chest.dcm"], "auto")
    assert panel._said.text.endswith("Not for clinical use")
    assert panel._shown.addItem.call_count == len(results)


def test_a_study_of_the_database_goes_before_the_path(panel, application):
    database = application.dicomDatabase
    database.seriesForStudy.return_value = ["1.2"]
    database.filesForSeries.return_value = ["a.dcm", "b.dcm"]
    panel._study.currentData = "1"
    panel._path.currentPath = "chest.dcm"
    assert [str(path) for path in panel._inputs()] == ["a.dcm", "b.dcm"]


def test_studies_are_listed_when_the_module_is_entered(panel, application):
    database = application.dicomDatabase
    database.patients.return_value = ["p"]
    database.studiesForPatient.return_value = ["1"]
    database.descriptionForStudy.return_value = ""
    panel.enter()
    panel._study.addItem.assert_called_with("1", "1")


def test_a_folder_is_sent_file_by_file(panel, application, monkeypatch, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / "in" / name).touch()
    panel._path.currentPath, panel._server.text, panel._token.text = str(tmp_path / "in"), " http://pacs ", "t "
    monkeypatch.setattr(analysis, "send", lambda url, paths, token: (url, len(paths), token))
    panel._on_send()
    assert panel._said.text == "('http://pacs', 2, 't') files stored"
