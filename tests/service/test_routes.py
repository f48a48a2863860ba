"""Which way images take, and which destinations their objects go to."""

from dataclasses import replace
from pathlib import Path

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.config.service import Rules
from cxr_dicom.dicom.files import read_header
from cxr_dicom.records import EncodedObject, InstanceResult, Outcome, Presence, StoredInstance, Study, StudyResult
from cxr_dicom.service import routes as module
from cxr_dicom.service.routes import Router, applies, dispatches, unasked
from cxr_dicom.synthetic import radiograph
from tests.painted import analysis


@pytest.fixture
def done(selected):
    """A processed image of modality CR from ER, with pleural effusion called present."""
    image = selected(radiograph(160, 128, modality="CR"))
    image = replace(image, instance=replace(image.instance, sender="ER"))
    return InstanceResult(
        path=Path("x"), outcome=Outcome.PROCESSED, instance=image.instance, image=image, analysis=analysis(image)
    )


@pytest.fixture
def made(tmp_path):
    def make(uid, kind, source="1.1"):
        return EncodedObject(
            path=tmp_path / uid,
            kind=kind,
            sop_class_uid="1.2",
            sop_instance_uid=uid,
            series_instance_uid="1.3",
            source_sop_instance_uids=(source,),
            model=None,
        )

    return make


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({}, True),
        ({"modalities": ("CR", "DX")}, True),
        ({"modalities": ("DX",)}, False),
        ({"senders": ("ER",)}, True),
        ({"senders": ("er ",), "modalities": ("cr",)}, True),
        ({"senders": ("WARD",)}, False),
        ({"findings": ("pleural_effusion",)}, True),
        ({"findings": ("hernia",)}, False),
        ({"modalities": ("CR",), "senders": ("WARD",)}, False),
    ],
)
def test_each_rule_has_to_pass(done, rules, passes):
    assert applies(Rules(**rules), [done]) is passes


def test_what_is_absent_is_no_finding(done):
    called = {each.name: each.call for part in done.analysis.predictions for each in part.findings}
    absent = next(name for name, call in called.items() if call is not Presence.PRESENT)
    assert not applies(Rules(findings=(absent,)), [done])


def test_an_image_that_was_not_processed_opens_no_way(done, made):
    settings = Settings(
        destinations=[
            {"kind": "folder", "name": "all", "path": "/x", "rules": {"kinds": ["segmentation"]}},
            {"kind": "folder", "name": "er", "path": "/y", "rules": {"senders": ["er "]}},
        ]
    )
    objects = (made("9.1", "segmentation"), made("9.2", "findings_report"))
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=(replace(done, objects=objects),))
    assert {each.destination: each.objects for each in dispatches(study, settings.by_route)} == {
        "all": {"9.1"},
        "er": {"9.1", "9.2"},
    }
    failed = replace(study, instances=(replace(done, outcome=Outcome.FAILED),))
    assert [each.destination for each in dispatches(failed, settings.by_route)] == ["all"]


# --- routes --------------------------------------------------------------------------------------


def test_objects_go_where_the_route_of_their_images_leads(done, made):
    settings = Settings(
        destinations=[{"kind": "folder", "name": name, "path": f"/{name}"} for name in ("pacs", "research")],
        routes=[
            {"name": "research", "senders": ["LAB"], "destinations": ["research"]},
            {"name": "kept", "senders": ["NICU"], "destinations": []},
        ],
    )
    instances = tuple(
        replace(done, route=route, objects=(made(uid, "segmentation"),))
        for route, uid in (("research", "9.1"), ("default", "9.2"), ("kept", "9.3"), ("research", "9.4"))
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=instances)
    found = [(each.destination, each.objects) for each in dispatches(study, settings.by_route)]
    assert found == [("research", {"9.1", "9.4"}), ("pacs", {"9.2"}), ("research", {"9.2"})]


def test_rules_of_a_destination_are_about_the_images_of_the_route(done, made):
    settings = Settings(
        destinations=[{"kind": "folder", "name": "er", "path": "/er", "rules": {"senders": ["ER"]}}],
        routes=[{"name": "ward", "senders": ["WARD"]}],
    )
    of_ward = replace(done.instance, sender="WARD")
    instances = (
        replace(done, route="default", objects=(made("9.1", "segmentation"),)),
        replace(done, route="ward", instance=of_ward, objects=(made("9.2", "segmentation"),)),
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=instances)
    assert [each.objects for each in dispatches(study, settings.by_route)] == [{"9.1"}]


@pytest.fixture
def received(tmp_path):
    def receive(name, sender="CT1", called="CXR", **header):
        path = tmp_path / name
        image = radiograph(64, 48, **header)
        image.save_as(path, enforce_file_format=True)
        return StoredInstance(
            path=path,
            study_instance_uid=image.StudyInstanceUID,
            series_instance_uid=image.SeriesInstanceUID,
            sop_instance_uid=name,
            sop_class_uid=image.SOPClassUID,
            sender=sender,
            called_ae_title=called,
        )

    return receive


def test_the_first_route_of_which_all_conditions_hold_is_taken(received):
    router = Router(
        Settings(
            routes=[
                {"name": "lab-at-night", "senders": ["LAB"], "words": ["night"]},
                {"name": "lab", "senders": ["LAB"]},
                {"name": "night", "words": ["night"]},
            ]
        ).routes
    )
    at_night = {"StudyDescription": "CHEST, NIGHT"}
    assert router.route(received("a", "LAB", **at_night)) == "lab-at-night"
    assert router.route(received("b", "LAB")) == "lab"
    assert router.route(received("c", **at_night)) == "night"
    assert router.route(received("d")) == "default"


def test_a_study_is_parted_and_each_part_knows_what_is_beside_it(received):
    instances = tuple(received(name, sender) for name, sender in (("1", "CT1"), ("2", "LAB"), ("3", "CT1")))
    study = Study(study_instance_uid="1.2", instances=instances)
    parts = Router(Settings(routes=[{"name": "lab", "senders": ["LAB"]}]).routes).parts(study)
    one, two, three = instances
    assert {name: (part.instances, part.beside) for name, part in parts.items()} == {
        "default": ((one, three), (two,)),
        "lab": ((two,), (one, three)),
    }


def test_a_thousand_routes_are_a_thousand_comparisons_and_one_look_at_the_file(received, monkeypatch):
    reads = []
    monkeypatch.setattr(module, "read_header", lambda *asked: reads.append(asked) or read_header(*asked))
    named = [{"name": f"r{n}", "stations": [f"ROOM {n}"], "words": [f"word{n}"]} for n in range(1000)]
    router = Router(Settings(routes=named).routes)
    assert router.route(received("a", StationName="room 999", StudyDescription="Word999")) == "r999"
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("routes", "rules", "expected"),
    [
        ([], {}, {"presentation_state"}),
        ([], {"kinds": ["presentation_state"]}, set()),
        ([{"destinations": ["pacs"], "objects": ["presentation-state"]}], {}, set()),
        ([{"destinations": [], "objects": ["presentation-state"]}], {}, {"presentation_state"}),
        ([{"objects": ["auto"]}], {}, {"presentation_state"}),
    ],
    ids=["by itself", "named by rules", "named by a route", "by one that leads elsewhere", "by itself on a route"],
)
def test_a_destination_may_do_without_what_nobody_named(routes, rules, expected):
    settings = Settings(
        destinations=[{"kind": "folder", "name": "pacs", "path": "/pacs", "rules": rules}],
        routes=[{"name": "r", "senders": ["LAB"], **each} for each in routes],
    )
    assert unasked(settings.destinations[0], settings.by_route) == expected
