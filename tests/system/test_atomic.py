"""A file is there whole or not at all: after an error, after a kill at any point, and after a power cut."""

import ast
import json
import multiprocessing
import os
import time
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from cxr_dicom.config.service import FolderDestination
from cxr_dicom.deliver.destinations import folder as folder_destination
from cxr_dicom.encode import common
from cxr_dicom.encode.base import Encoded
from cxr_dicom.infer import weights
from cxr_dicom.records import ObjectKind, StoredInstance
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.spool import Spool
from cxr_dicom.synthetic import radiograph
from cxr_dicom.system import atomic
from tests import ROOT
from tests.killed import Disk, kill_at_each_call
from tests.service_helpers import as_object, settings


@pytest.mark.parametrize(("opened", "half"), [(atomic.open_bytes, b"half"), (atomic.open_text, "half")])
def test_what_could_not_be_written_leaves_what_was_there(opened, half, tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(TypeError), opened(path) as file:
        file.writelines([half, None])
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    with pytest.raises(TypeError), opened(path) as file:
        file.writelines([half, None])
    assert [each.read_text() for each in path.parent.iterdir()] == ["old"]


def test_it_is_seen_only_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with atomic.open_text(path) as file:
        file.write("é\n")
        assert not path.exists()
    assert path.read_bytes() == b"\xc3\xa9\n"


# --- every writer of the package -----------------------------------------------------------------


@cache
def image(content):
    """A DICOM file whose bytes say ``content``, of one study and with one SOP Instance UID."""
    made = radiograph(16, 16)
    for element in [each for each in made if each.VR != "UI"]:
        del made[element.tag]
    made.ImageComments = content
    return made


def about(path, dataset):
    return as_object(path, dataset, kind=ObjectKind.SEGMENTATION)


def with_bytes(home, content):
    with atomic.open_bytes(home / "file") as file:
        for _ in range(3):
            file.write(content.encode() * 5000)  # more than a buffer holds
    return home / "file"


def with_text(home, content):
    with atomic.open_text(home / "new" / "file") as file:
        file.write(content * 5000)
    return home / "new" / "file"


def weights_file(home, content):
    with weights.written(home / "net.lock.json") as part:
        part.write_text(content)
    return home / "net.lock.json"


def moved(home, content):
    with atomic.workspace(home) as folder:
        (folder / "file").write_text(content)
        atomic.move(folder / "file", home / "file")
    return home / "file"


def encoded_object(home, content):
    dataset = image(content)
    encoded = Encoded(dataset=dataset, kind=ObjectKind.SEGMENTATION, source_sop_instance_uids=(), model=None)
    return common.write(encoded, home).path


def sent_to_a_folder(home, content):
    origins = {each: home.parent / f"{each}.dcm" for each in ("old", "new")}
    if not home.exists():
        home.mkdir(parents=True)
        for each, path in origins.items():
            image(each).save_as(path, enforce_file_format=True)
    destination = folder_destination.build(FolderDestination(kind="folder", name="out", path=home), lambda uid: None)
    (receipt,) = destination.send([about(origins[content], image(content))])
    assert receipt.delivery_status == "accepted"
    return next(home.rglob("*.dcm"))


def received(home, content):
    spool = Spool(settings(home))
    part = spool.write_part([content.encode() * 5000] * 3)
    instance = StoredInstance(
        path=part.path, study_instance_uid="1.2", series_instance_uid="1.3", sop_instance_uid="1.4", sop_class_uid="1.5"
    )
    return spool.keep(part, instance).path


def adopted(home, content):
    spool = Spool(settings(home))
    dataset = image("new")  # what lies there is never written again
    with spool.workspace() as folder:
        dataset.save_as(folder / "file", enforce_file_format=True)
        return spool.adopt("1.2", [about(folder / "file", dataset)])[0].path


WRITERS = (
    with_bytes,
    with_text,
    weights_file,
    moved,
    encoded_object,
    sent_to_a_folder,
    received,
    adopted,
)


def files(home):
    return {path for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(write, tmp_path):
    home = tmp_path / "home"
    expected = {}
    for content in ("old", "new"):
        path = write(tmp_path / content / "home", content)
        expected.setdefault(path.relative_to(tmp_path / content / "home"), set()).add(path.read_bytes())
    write(home, "old")
    for _ in kill_at_each_call(lambda: write(home, "new")):
        left = files(home)
        for path in left:
            name = path.relative_to(home)
            is_unfinished = fnmatch(path.name, atomic.UNFINISHED) or fnmatch(path.parent.name, atomic.UNFINISHED)
            assert is_unfinished or name.parts[0] == "part" or path.read_bytes() in expected[name]
        assert any(path.relative_to(home) in expected for path in left)
    assert write(home, "new").read_bytes() == write(tmp_path / "new" / "home", "new").read_bytes()
    atomic.sweep(home, "**/", older_than_seconds=0)
    atomic.sweep(home, older_than_seconds=0)
    if (home / "part").exists():
        Spool(settings(home)).clear_parts()
    assert {path.relative_to(home) for path in files(home)} <= expected.keys()
    assert not list(home.rglob(atomic.UNFINISHED))


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_file_outlives_a_power_cut(write, tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    assert disk.has(write(tmp_path / "home", "new"))


def test_new_folders_outlive_a_power_cut_too(tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    with_text(tmp_path / "a" / "b", "new")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= {folder for folder, _ in disk.folders}


def test_nobody_else_moves_or_syncs_files():
    """``Path.replace`` has one argument, ``str.replace`` has two."""
    found = set()
    for path in (ROOT / "cxr_dicom").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_move = node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
                if is_move or node.func.attr in (
                    "fsync",
                    "fdatasync",
                    "rename",
                    "renames",
                    "write_text",
                    "write_bytes",
                ):
                    found.add(path.relative_to(ROOT / "cxr_dicom").as_posix())
    assert found == {"system/atomic.py", "infer/weights/__init__.py"}  # the second writes to a path of the first


# --- leftovers -----------------------------------------------------------------------------------


def test_the_file_of_a_writer_at_work_is_not_swept(tmp_path):
    with atomic.replacing(tmp_path / "file") as part:
        atomic.sweep(tmp_path)
        assert part.exists()
        os.utime(part, (time.time() - atomic.STALE_SECONDS - 1,) * 2)
        atomic.sweep(tmp_path)
        assert not part.exists()
        part.touch()


def test_what_others_name_alike_is_not_swept(tmp_path):
    for name in (".hidden.part", "net.pt.part", ".file.0123.part"):
        (tmp_path / name).touch()
    atomic.sweep(tmp_path, older_than_seconds=0)
    assert len(list(tmp_path.iterdir())) == 3


# --- lines ---------------------------------------------------------------------------------------


def append(path, number):
    for _ in range(200):
        atomic.append_line(path, json.dumps([number] * 500))


def test_lines_of_several_processes_never_mix(tmp_path):
    path = tmp_path / "lines"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=append, args=(path, number)) for number in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 800
    assert all(len(set(line)) == 1 and len(line) == 500 for line in lines)


def test_a_line_that_does_not_fit_leaves_nothing_of_itself(tmp_path, monkeypatch):
    trail = AuditTrail(tmp_path)
    trail.write("study_processed", state="SENT")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:10]))  # a disk that is full
    trail.write("study_processed", state="DEAD")  # the log has it
    monkeypatch.undo()
    trail.write("study_processed", state="IGNORED")
    lines = (Path(tmp_path) / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["SENT", "IGNORED"]
