"""3D Slicer module CXR: chest radiographs through cxr-dicom. Widgets only; what they do is in CXRLib."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from CXRLib import analysis, scene
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

_PROGRAM, _MODELS, _SERVER = "CXR/Program", "CXR/Models", "CXR/Server"


class CXR(ScriptedLoadableModule):
    """What Slicer lists of the module."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Chest Radiographs (CXR)"
        parent.categories = ["Chest Imaging"]
        parent.contributors = ["The cxr-dicom developers"]
        parent.helpText = "Anatomy, measurements and scores of chest radiographs. Not for clinical use."
        parent.acknowledgementText = "Runs cxr-dicom, which runs the models of TorchXRayVision."


class CXRWidget(ScriptedLoadableModuleWidget):
    """Choose a radiograph, analyse it, look at the results."""

    def setup(self):
        """Build the panel: input, results, settings."""
        super().setup()
        settings = qt.QSettings()
        self._results = []

        form = self._section("Radiograph")
        self._path = ctk.ctkPathLineEdit()
        self._path.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Readable
        form.addRow("File or folder:", self._path)
        self._study = qt.QComboBox()
        form.addRow("or study of the DICOM database:", self._study)
        self._models = qt.QLineEdit(settings.value(_MODELS, "auto"))
        self._models.toolTip = "Names separated by commas; auto takes what runs on this machine"
        form.addRow("Models:", self._models)
        self._analyse = self._button(form, "Analyse", self._on_analyse)

        form = self._section("Results")
        self._shown = qt.QComboBox()
        self._shown.connect("activated(int)", self._on_shown)
        form.addRow("Radiograph:", self._shown)
        self._said = qt.QLabel(scene.NOT_FOR_CLINICAL_USE)
        self._said.wordWrap = True
        form.addRow(self._said)
        self._tables = [slicer.qMRMLTableView(), slicer.qMRMLTableView()]
        for table in self._tables:
            table.setMRMLScene(slicer.mrmlScene)
            form.addRow(table)

        form = self._section("Settings", collapsed=True)
        self._program = qt.QLineEdit(settings.value(_PROGRAM, ""))
        self._program.placeholderText = "found by itself where it can"
        form.addRow("cxr-dicom:", self._program)
        self._server = qt.QLineEdit(settings.value(_SERVER, ""))
        self._server.placeholderText = "https://pacs/dicom-web"
        form.addRow("DICOMweb server:", self._server)
        self._token = qt.QLineEdit("")
        self._token.echoMode = qt.QLineEdit.Password
        self._token.placeholderText = "where the server asks for one; it is not kept"
        form.addRow("Bearer token:", self._token)
        self._send = self._button(form, "Send the radiograph by STOW-RS", self._on_send)
        self.layout.addStretch(1)

    def enter(self):
        """List the studies of the database again: others may have come."""
        self._study.clear()
        self._study.addItem("", "")
        database = slicer.dicomDatabase
        if not database or not database.isOpen:
            return
        for patient in database.patients():
            for study in database.studiesForPatient(patient):
                self._study.addItem(database.descriptionForStudy(study) or study, study)

    def _section(self, title, collapsed=False):
        button = ctk.ctkCollapsibleButton()
        button.text, button.collapsed = title, collapsed
        self.layout.addWidget(button)
        return qt.QFormLayout(button)

    def _button(self, form, text, action):
        button = qt.QPushButton(text)
        button.connect("clicked()", action)
        form.addRow(button)
        return button

    def _inputs(self):
        if study := self._study.currentData:
            database = slicer.dicomDatabase
            series = database.seriesForStudy(study)
            return [Path(file) for each in series for file in database.filesForSeries(each)]
        return [Path(self._path.currentPath)] if self._path.currentPath else []

    def _on_analyse(self):
        settings = qt.QSettings()
        settings.setValue(_PROGRAM, self._program.text)
        settings.setValue(_MODELS, self._models.text)
        out = Path(tempfile.mkdtemp(prefix="cxr-dicom-", dir=slicer.app.temporaryPath))
        with slicer.util.tryWithErrorDisplay("The radiograph was not analysed.", waitCursor=True):
            self._results = analysis.analyse(
                analysis.find_program(self._program.text, slicer.util.startupEnvironment()),
                self._inputs(),
                out,
                models=self._models.text.strip() or "auto",
                on_line=self._on_line,
                environment=slicer.util.startupEnvironment(),
            )
            self._shown.clear()
            for result in self._results:
                self._shown.addItem(result.row["sop_instance_uid"] or Path(result.row["path"]).name)
            if self._results:
                self._on_shown(0)

    def _on_line(self, line):
        logging.info(line)
        slicer.app.processEvents()

    def _on_shown(self, index):
        result = self._results[index]
        self._said.text = "\n".join(scene.summary(result.row))
        if result.picture is None:
            return
        loader = scene.Loader(slicer.mrmlScene)
        shown = loader.load(result)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        loader.show(shown)
        slicer.util.resetSliceViews()
        for view, table in zip(self._tables, (shown.scores, shown.measurements), strict=True):
            view.setMRMLTableNode(table)

    def _on_send(self):
        qt.QSettings().setValue(_SERVER, self._server.text)
        with slicer.util.tryWithErrorDisplay("The radiograph was not sent.", waitCursor=True):
            files = [
                file
                for path in self._inputs()
                for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
                if file.is_file()
            ]
            stored = analysis.send(self._server.text.strip(), files, token=self._token.text.strip())
            self._said.text = f"{stored} files stored"
