"""Encoders of other packages: a new kind of object in files, ledger, courier, rules and tables; and hostile ones."""

import json
import threading
from pathlib import Path

import jsonschema
import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.config import Settings, load
from cxr_dicom.dicom.files import transfer_syntax
from cxr_dicom.errors import SettingsError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.plugins import ENCODERS
from cxr_dicom.records import ObjectKind, Outcome, Reason
from cxr_dicom.results.rows import study_rows
from cxr_dicom.service.courier import Courier
from cxr_dicom.service.routes import dispatches
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from tests import ROOT

POINTS = {"cxr_dicom.encoders": {"text-note": "text_note"}, "cxr_dicom.destinations": {"shelf": "shelf"}}
ENCODER = """
    from pydicom.uid import BasicTextSRStorage
    from cxr_dicom.encode.base import Encoded
    from cxr_dicom.encode.common import Head, new_object
    from cxr_dicom.encode.identity import Reference, image_identity
    from cxr_dicom.records.words import kind_of

    KIND = kind_of("text-note")

    class TextNotes:
        def __init__(self, settings):
            self.settings = settings

        def encode(self, study):
            for analysis in study.images:
                models = [prediction.model for prediction in analysis.predictions]
                identity = image_identity(KIND, analysis, analysis.predictions, self.settings)
                head = Head(reference=Reference(BasicTextSRStorage, identity), image=analysis.image, models=models,
                            settings=self.settings, modality="SR", series_number=9100, series_description="Note")
                dataset = new_object(head)
                source = (analysis.image.instance.sop_instance_uid,)
                yield Encoded(KIND, dataset, source, None)

    def build(settings):
        return TextNotes(settings)
"""
SHELF = """
    from typing import Literal
    from pathlib import Path
    from cxr_dicom.config.service import DestinationTable
    from cxr_dicom.deliver.base import receipt
    from cxr_dicom.records import DeliveryStatus

    class Table(DestinationTable):
        kind: Literal["shelf"]
        path: Path
        row: int = 1

    SETTINGS = Table

    class Shelf:
        def __init__(self, table):
            self.name, self.table = table.name, table

        def send(self, objects):
            for each in objects:
                (self.table.path / f"{each.kind}-{each.path.name}").write_bytes(each.path.read_bytes())
                yield receipt(self.name, each, DeliveryStatus.ACCEPTED, "SHELVED")

        def verify(self, objects):
            for each in objects:
                yield receipt(self.name, each, DeliveryStatus.COMMITTED, "SHELVED")

        def check(self):
            return f"row {self.table.row}"

    def build(table, open_commitment):
        return Shelf(table)
"""
YIELD = "                yield Encoded("


def settings(**tables):
    models = {"names": ("offline-anatomy",), "device": "cpu"}
    return Settings.model_validate({"models": models, "encode": {"objects": ("text-note", "seg", "sr")}, **tables})


def process(folder, made):
    (study,), _ = scan([*synthetic.write_study(folder / "images", [synthetic.radiograph()])])
    return Pipeline(made).process(study, folder / "objects")


def only(result):
    (instance,) = result.instances
    return instance


def test_a_new_kind_is_in_file_names_and_rows(install, tmp_path):
    install("notes", "1", POINTS, text_note=ENCODER, shelf=SHELF)
    made = settings()
    result = process(tmp_path, made)
    instance = only(result)
    assert instance.outcome is Outcome.PROCESSED, instance.detail
    (note,) = [each for each in instance.objects if each.kind == "text_note"]
    assert note.path.name == f"text_note-{note.sop_instance_uid}.dcm"
    (row,) = study_rows(result, made, tmp_path)
    schema = json.loads((ROOT / "docs/results.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(row)), schema)
    assert "text_note" in {each["kind"] for each in row["objects"]}


def test_it_may_be_deflated(install, tmp_path):
    deflated = ENCODER.replace('modality="SR"', 'modality="SR", deflate=True')
    install("notes", "1", POINTS, text_note=deflated, shelf=SHELF)
    instance = only(process(tmp_path, settings()))
    (note,) = [each for each in instance.objects if each.kind == "text_note"]
    assert transfer_syntax(note.path).is_deflated
    assert dcmread(note.path).SOPInstanceUID == note.sop_instance_uid


def test_its_version_is_part_of_the_job_key_and_others_take_no_part(install, tmp_path):
    keys = set()
    for version in ("1", "2"):
        install("notes", version, POINTS, text_note=ENCODER, shelf=SHELF)
        pipeline = Pipeline(settings())
        assert pipeline.strangers == (("encoders", "text-note", "notes", version),)
        keys.add(pipeline.identity)
    assert len(keys) == 2


def test_a_new_kind_goes_through_ledger_courier_and_rules(install, tmp_path):
    install("notes", "1", POINTS, text_note=ENCODER, shelf=SHELF)
    for name in ("all", "notes", "none"):
        (tmp_path / name).mkdir()
    made = settings(
        spool={"folder": tmp_path / "spool"},
        destinations=[
            {"kind": "shelf", "name": "all", "path": tmp_path / "all", "verify": "query"},
            {"kind": "shelf", "name": "notes", "path": tmp_path / "notes", "rules": {"kinds": ["text_note"]}},
            {"kind": "shelf", "name": "none", "path": tmp_path / "none", "rules": {"kinds": ["parametric_map"]}},
        ],
    )
    from dataclasses import replace

    from cxr_dicom.deliver import build_destination

    spool = Spool(made)
    ledger = Ledger(spool.folder)
    image = synthetic.radiograph()
    uid = str(image.StudyInstanceUID)
    result = process(tmp_path, made)
    (stored,) = [each.instance for each in result.instances]
    registered = spool.folder / "images" / uid
    registered.mkdir(parents=True)
    target = registered / "image.dcm"
    target.write_bytes(stored.path.read_bytes())
    ledger.studies.add(replace(stored, path=target), "0" * 64)
    ledger.studies.complete(uid)
    claim = ledger.studies.claim("test", max_interruptions=3)
    adopted = tuple(replace(each, objects=tuple(spool.adopt(uid, each.objects))) for each in result.instances)
    result = replace(result, instances=adopted)
    ledger.studies.finish(claim, result, [], list(dispatches(result, made.by_route)))
    for described in made.destinations:
        destination = build_destination(described, lambda transaction: None)
        assert destination.check() == "row 1"
        courier = Courier(destination, ledger, AuditTrail(spool.folder), spool)
        while courier.carry(threading.Event()):
            pass
    kinds = {name: {p.name.partition("-")[0] for p in (tmp_path / name).iterdir()} for name in ("all", "notes", "none")}
    assert kinds["notes"] == {"text_note"}
    assert kinds["all"] == {str(each.kind) for each in adopted[0].objects} > {"text_note", "findings_report"}
    assert kinds["none"] == set()
    (again,) = [each for each in ledger.studies._earlier(uid) if each.kind == "text_note"]
    assert not isinstance(again.kind, ObjectKind)
    ledger.close()


@pytest.mark.parametrize("name", ["segmentation", "findings-report", "parametric-map", "seg"])
def test_nobody_can_write_objects_of_our_kinds(install, name):
    install("notes", "1", {"cxr_dicom.encoders": {name: "text_note"}}, text_note=ENCODER)
    assert set(ENCODERS.names) == set(ENCODERS.ours)
    assert ENCODERS.broken


WRONG = {
    "nothing": ("yield 1", "expected an Encoded with a Dataset, got int"),
    "our kind": ("yield Encoded('segmentation', dataset, source, None)", "expected the kind text_note"),
    "a path": ("yield Encoded('../../x', dataset, source, None)", "expected the kind text_note"),
    "no source": ("yield Encoded(KIND, dataset, (), None)", "expected UIDs of images of the study"),
    "a foreign source": ("yield Encoded(KIND, dataset, ('1.2',), None)", "expected UIDs of images of the study"),
    "another study": ("dataset.StudyInstanceUID = '1.2.3'; yield right", "StudyInstanceUID: expected"),
    "the image's UID": ("dataset.SOPInstanceUID = source[0]; yield right", "SOPInstanceUID: expected a new one"),
    "the same twice": ("yield Encoded(KIND, dataset, source, None)", "SOPInstanceUID: expected a new one"),
    "no UID": ("del dataset.SOPInstanceUID; yield right", "SOPInstanceUID: expected a UID"),
    "a path as UID": ("dataset.SOPInstanceUID = '../x'; yield right", "SOPInstanceUID: expected a UID"),
    "not ours": ("dataset.Manufacturer = 'x'; yield right", "Manufacturer: expected cxr-dicom"),
    "no meta": ("del dataset.file_meta; yield right", "file_meta: expected"),
    "implicit": ("dataset.file_meta.TransferSyntaxUID = '1.2.840.10008.1.2'; yield right", "explicit VR"),
    "an error": ("raise RuntimeError(str(analysis.image.header.PatientName))", "RuntimeError at text_note.py"),
    "an exit": ("raise SystemExit", "SystemExit at text_note.py"),
}  # fmt: skip


@pytest.mark.parametrize("body", [body for body, _ in WRONG.values()], ids=list(WRONG))
def test_a_wrong_object_fails_the_study_and_says_why(install, tmp_path, body):
    expected = next(text for wrong, text in WRONG.values() if wrong == body)
    lines = "".join(
        f"                {line}\n"
        for line in body.replace("right", "Encoded(KIND, dataset, source, None)").split("; ")
    )
    install("notes", "1", POINTS, text_note=ENCODER.replace(YIELD, lines + YIELD), shelf=SHELF)
    instance = only(process(tmp_path, settings()))
    assert (instance.outcome, instance.reason) == (Outcome.FAILED, Reason.ENCODING_FAILED)
    assert instance.detail.startswith("text-note of notes 1: ")
    assert expected in instance.detail
    assert "Synthetic" not in instance.detail
    assert not list((tmp_path / "objects").glob("*"))


def test_a_hostile_encoder_changes_nothing_of_our_objects(install, tmp_path):
    install("notes", "1", POINTS, text_note=ENCODER, shelf=SHELF)
    expected = {each.path.name: each.path.read_bytes() for each in only(process(tmp_path / "good", settings())).objects}
    spoil = """
                from contextlib import suppress
                from cxr_dicom.encode import geometry, sr_tree
                from cxr_dicom.encode.sr_findings import findings_reports
                header = analysis.image.header
                header.PatientName = "Doe^Jane"
                header.Rows = 1
                for item in dataset.ContributingEquipmentSequence:
                    item.Manufacturer = "spoilt"
                geometry.plane_position().ImagePositionPatient = [9, 9, 9]
                geometry.plane_groups(analysis.image.spacing).PixelMeasuresSequence[0].PixelSpacing = [9, 9]
                for mask in analysis.predictions[0].masks:
                    sr_tree.concept(mask.structure.type).CodeMeaning = "spoilt"
                    with suppress(ValueError):
                        mask.region.pixels[...] = True
                for each in sr_tree.observer(tuple(models)):
                    each.ConceptNameCodeSequence[0].CodeMeaning = "spoilt"
                def walk(items):
                    for item in items:
                        item.ValueType = "TEXT"
                        walk(item.get("ContentSequence", ()))
                for each in findings_reports(study, self.settings):
                    walk(each.dataset.ContentSequence)
"""
    good_first = "                dataset = new_object(head)\n"
    assert good_first in ENCODER
    text = ENCODER.replace(
        YIELD, "                kept = new_object(head)\n" + spoil + "                dataset = kept\n" + YIELD
    )
    install("notes", "1", POINTS, text_note=text, shelf=SHELF)
    for number in ("first", "second"):
        instance = only(process(tmp_path / number, settings()))
        assert instance.outcome is Outcome.PROCESSED, instance.detail
        made = {each.path.name: each.path.read_bytes() for each in instance.objects if each.kind != "text_note"}
        assert made == {name: data for name, data in expected.items() if not name.startswith("text_note")}
    assert {dcmread(each.path).PatientID for each in instance.objects} == {"SYNTHETIC"}


# --- settings of destinations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('kind = "shelf"\nname = "x"\npath = "y"\ncolour = 1', "destinations.0.colour: no such key"),
        ('kind = "shelf"\nname = "x"\npath = "y"\nrow = "top"', "destinations.0.row = 'top'"),
        ('kind = "shelf"\nname = "../x"\npath = "y"', "destinations.0.name = '../x'"),
        ('kind = "shelf"\nname = "x"', "destinations.0.path"),
        ('kind = "loft"\nname = "x"', "'loft' is not one of dicom, dicomweb, folder, shelf"),
        ('kind = "shelf"\nname = "x"\npath = "y"\nrules = {kinds = ["text_notes"]}', "expected one of segmentation, "),
    ],
)
def test_a_wrong_table_is_refused_with_its_key(install, tmp_path, table, said):
    install("notes", "1", POINTS, text_note=ENCODER, shelf=SHELF)
    path = tmp_path / "c.toml"
    path.write_text(f"[[destinations]]\n{table}\n")
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert said in str(refused.value)


def test_a_right_table_keeps_its_own_keys(install, tmp_path):
    install("notes", "1", POINTS, text_note=ENCODER, shelf=SHELF)
    path = tmp_path / "c.toml"
    path.write_text('[[destinations]]\nkind = "shelf"\nname = "x"\npath = "y"\nrow = 3\n')
    (table,) = load(path).destinations
    assert (table.row, table.path, table.verify) == (3, Path("y"), "none")


def test_a_copy_is_what_others_get_of_shared_parts():
    from cxr_dicom.encode import geometry
    from cxr_dicom.encode.shared import sharing

    assert geometry.plane_position() is not geometry.plane_position()
    with sharing():
        assert geometry.plane_position() is geometry.plane_position()
        with sharing(False):
            assert geometry.plane_position() is not geometry.plane_position()
