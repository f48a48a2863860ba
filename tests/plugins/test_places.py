"""Destinations, archives, exporters and engines of other packages; and the list of what is installed."""

import json

import pytest
from click.testing import CliRunner

from cxr_dicom import synthetic
from cxr_dicom.cli import cli
from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import RemoteInstance, StudyQuery, build_archive
from cxr_dicom.records import DeliveryStatus, EncodedObject
from tests.plugins.test_objects import SHELF
from tests.plugins.tutorial import MODEL

DESTINATION = {"cxr_dicom.destinations": {"shelf": "shelf"}}
ARCHIVE = """
    from typing import Literal
    from cxr_dicom.config.service import ArchiveTable
    from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy

    class SETTINGS(ArchiveTable):
        kind: Literal["cupboard"]
        shelf: int

    class Cupboard:
        def __init__(self, table):
            self.name = table.name

        def studies(self, wanted, modalities):
            for uid in ("1.2", "1.2"):
                yield RemoteStudy(study_instance_uid=uid)

        def instances(self, study, modalities):
            yield RemoteInstance(study_instance_uid="1.2", series_instance_uid="1.3", sop_instance_uid="1.4")

        def fetch(self, instance, store):
            store([b"x"], instance)

        def check(self):
            return "open"

    def build(table, listener):
        return Cupboard(table)
"""
EXPORTER = """
    class Sizes:
        name = "sizes"

        def export(self, result, folder):
            folder.mkdir(parents=True, exist_ok=True)
            files = []
            for each in result.instances:
                if each.analysis:
                    uid = each.analysis.image.instance.sop_instance_uid
                    file = folder / f"{uid}.txt"
                    file.write_text(str(each.analysis.image.shape))
                    files.append(file)
            return files

        def collect(self, folder):
            (folder / "all.txt").write_text("done")

    def build(settings, names):
        return Sizes()
"""
ENGINE = """
    from cxr_dicom.cohort.engine import EngineDescription

    class Slowly:
        description = EngineDescription(name="slowly")

        def process(self, items, task):
            for item in items:
                yield task(item)
            task.close()

    def build(options):
        options.expect_only("slowly", "workers")
        return Slowly()
"""


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments])


# --- destinations ---------------------------------------------------------------------------------


def shelf(install, folder, text=SHELF):
    install("shelves", "1", DESTINATION, shelf=text)
    table = {"kind": "shelf", "name": "mine", "path": folder}
    return build_destination(Settings.model_validate({"destinations": [table]}).destinations[0], lambda uid: None)


def an_object(folder, number):
    path = folder / f"{number}.dcm"
    path.write_bytes(b"x")
    uids = {"sop_instance_uid": f"1.{number}", "series_instance_uid": "1", "sop_class_uid": "1"}
    return EncodedObject(path=path, kind="segmentation", source_sop_instance_uids=("2",), model=None, **uids)


def test_a_destination_gives_each_object_its_receipt(install, tmp_path):
    (tmp_path / "shelf").mkdir()
    objects = [an_object(tmp_path, number) for number in (1, 2)]
    receipts = list(shelf(install, tmp_path / "shelf").send(objects))
    assert [(each.sop_instance_uid, each.destination) for each in receipts] == [("1.1", "mine"), ("1.2", "mine")]


SEND = "                yield receipt(self.name, each, DeliveryStatus.ACCEPTED"
WRONG_SENDS = {
    "no receipts": ("                continue\n", None),
    "a word": ("                yield 'ok'\n", "expected a Receipt, got str"),
    "twice": (SEND + ", 'A')\n", "expected one receipt for each object, got another of 1.1"),
    "an error": ("                raise KeyError('Doe^Jane')\n", "KeyError at shelf.py"),
    "an exit": ("                raise SystemExit\n", "SystemExit at shelf.py"),
}


@pytest.mark.parametrize("case", WRONG_SENDS)
def test_a_destination_that_says_what_it_may_not_is_in_trouble(install, tmp_path, case):
    (tmp_path / "shelf").mkdir()
    line, expected = WRONG_SENDS[case]
    destination = shelf(install, tmp_path / "shelf", SHELF.replace(SEND, line + SEND, 1))
    objects = [an_object(tmp_path, number) for number in (1, 2)]
    if expected is None:
        assert {each.delivery_status for each in destination.send(objects)} == {DeliveryStatus.FAILED}
        return
    with pytest.raises(ConnectionFailedError) as refused:
        list(destination.send(objects))
    assert expected in str(refused.value)
    assert "Doe" not in str(refused.value)


def test_a_receipt_speaks_for_this_destination_only(install, tmp_path):
    (tmp_path / "shelf").mkdir()
    destination = shelf(install, tmp_path / "shelf", SHELF.replace("receipt(self.name", "receipt('another'"))
    assert {each.destination for each in destination.send([an_object(tmp_path, 1)])} == {"mine"}


@pytest.mark.parametrize("settings", ["SETTINGS = dict", "SETTINGS = None", "del SETTINGS"])
def test_a_destination_without_settings_is_refused(install, tmp_path, settings):
    install("shelves", "1", DESTINATION, shelf=SHELF.replace("SETTINGS = Table", f"SETTINGS = Table\n    {settings}"))
    with pytest.raises(ValueError, match=r"expected SETTINGS, a subclass of DestinationTable"):
        Settings.model_validate({"destinations": [{"kind": "shelf", "name": "x", "path": "y"}]})


# --- archives -------------------------------------------------------------------------------------


def cupboard(install, text=ARCHIVE):
    install("cupboards", "1", {"cxr_dicom.archives": {"cupboard": "cupboard"}}, cupboard=text)
    table = {"kind": "cupboard", "name": "mine", "shelf": 1}
    made = Settings.model_validate({"poller": {"archives": [table]}})
    return build_archive(made.poller.archives[0], made.listener)


def test_an_archive_is_asked_as_ours_are(install):
    archive, query, stored = cupboard(install), StudyQuery(since="20240101"), []
    (study,) = archive.studies(query, ("CR",))
    (instance,) = archive.instances(study, ("CR",))
    archive.fetch(instance, lambda chunks, about: stored.append((b"".join(chunks), about)))
    assert stored == [(b"x", instance)]
    assert (archive.name, archive.check()) == ("mine", "open")


def test_a_wrong_key_of_an_archive_is_named(install):
    cupboard(install)
    with pytest.raises(ValueError, match=r"poller.archives.0.drawer"):
        Settings.model_validate({"poller": {"archives": [{"kind": "cupboard", "name": "x", "shelf": 1, "drawer": 2}]}})


@pytest.mark.parametrize("uid", ["", "../../x", "1.2 ", "x" * 65, "1..2"])
def test_an_archive_cannot_give_what_is_no_uid(install, uid):
    archive = cupboard(install, ARCHIVE.replace('("1.2", "1.2")', f"({uid!r},)"))
    with pytest.raises(ConnectionFailedError, match=r"expected a study_instance_uid"):
        list(archive.studies(StudyQuery(since="20240101"), ("CR",)))


def test_an_archive_that_fails_is_in_trouble_and_not_the_poller(install):
    archive = cupboard(install, ARCHIVE.replace('return "open"', "raise SystemExit").replace("store(", "int("))
    with pytest.raises(ConnectionFailedError, match=r"SystemExit at cupboard.py"):
        archive.check()
    with pytest.raises(FetchError, match=r"TypeError at cupboard.py"):
        archive.fetch(
            RemoteInstance(study_instance_uid="1", series_instance_uid="2", sop_instance_uid="3"), lambda *given: None
        )


# --- exporters and engines ------------------------------------------------------------------------


@pytest.fixture
def cohort(install, tmp_path):
    synthetic.write_study(tmp_path / "images", [synthetic.radiograph()])

    def run(exporter=EXPORTER, version="1"):
        points = {
            "cxr_dicom.models": {"my-model": "my_model"},
            "cxr_dicom.exporters": {"sizes": "sizes"},
            "cxr_dicom.engines": {"slowly": "slowly"},
        }
        install("theirs", version, points, my_model=MODEL, sizes=exporter, slowly=ENGINE)
        options = ("--models", "brightest", "--also", "sizes", "--engine", "slowly", "-q")
        result = invoke("run", tmp_path / "images", "-o", tmp_path / "out", *options)
        assert (tmp_path / "out" / "results.jsonl").exists(), result.output
        (row,) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
        return result, row

    return run


def test_an_engine_and_an_exporter_do_a_cohort(cohort, tmp_path):
    result, row = cohort()
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "run.json").read_text())["engine"]["name"] == "slowly"
    (exported,) = row["exports"]
    assert exported["kind"] == "sizes"
    assert (tmp_path / "out" / exported["path"]).read_text() == "(320, 256)"
    assert (tmp_path / "out" / "also" / "sizes" / "all.txt").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "files.append(file)\n                    files.append(folder.parent.parent.parent / 'images' / '0.dcm')",
        "files.append(file)\n                    files.append('x')",
        "files.append(folder / 'not-there')",
        "raise SystemExit",
    ],
)
def test_an_exporter_that_goes_wrong_fails_the_study(cohort, wrong):
    result, row = cohort(EXPORTER.replace("files.append(file)", wrong))
    assert result.exit_code == 3, result.output
    assert (row["outcome"], row["reason"]) == ("failed", "INTERNAL_ERROR")
    assert "sizes of theirs 1: " in row["detail"]


def test_an_export_of_another_version_is_made_anew(cohort, tmp_path):
    _, row = cohort()
    place = tmp_path / "out" / row["exports"][0]["path"]
    place.write_text("old")
    cohort()
    assert place.read_text() == "old"
    cohort(version="2")
    assert place.read_text() == "(320, 256)"


def test_an_engine_refuses_other_options(cohort, tmp_path):
    cohort()
    result = invoke("run", tmp_path / "images", "-o", tmp_path / "o", "--engine", "slowly", "--address", "x")
    assert (result.exit_code, "--address is not for --engine slowly" in result.output) == (2, True)


# --- the list ---------------------------------------------------------------------------------------


def test_what_is_installed_is_listed_with_what_is_broken(install):
    assert invoke("plugins").output.startswith("no other packages are installed")
    install("shelves", "1.5", DESTINATION, shelf=SHELF)
    result = invoke("plugins")
    assert (result.exit_code, result.output.split()) == (0, ["destinations", "shelf", "shelves", "1.5"])
    install("bad", "0.1", {"cxr_dicom.engines": {"worse": "bad"}}, bad="import nothing_like_this")
    result = invoke("plugins", "--json")
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert result.exit_code == 3
    (broken,) = [row for row in rows if row["problem"]]
    assert (broken["seam"], broken["name"], broken["package"], broken["version"]) == ("engines", "worse", "bad", "0.1")
    assert "nothing_like_this" in broken["problem"]
    assert {row["name"] for row in rows if row["package"] == "cxr-dicom"} >= {"local", "seg", "lung-opacity", "folder"}
