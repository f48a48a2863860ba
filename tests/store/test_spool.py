import os
import subprocess
import sys

import pytest

from cxr_dicom.records import EncodedObject, ObjectKind, StoredInstance
from cxr_dicom.store.spool import Spool, SpoolError, SpoolFullError
from cxr_dicom.system import atomic
from tests.killed import Disk
from tests.service_helpers import settings


def test_a_part_is_private_and_whole(tmp_path):
    spool = Spool(settings(tmp_path))
    part = spool.write_part([b"ab", b"c"])
    assert part.path.read_bytes() == b"abc"
    assert part.path.stat().st_mode & 0o777 == 0o600
    assert part.sha256.startswith("ba7816bf")


def test_a_part_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield b"ab"
        raise KeyboardInterrupt

    spool = Spool(settings(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        spool.write_part(broken())
    assert list((tmp_path / "part").iterdir()) == []


@pytest.mark.parametrize("what", ["image", "object"])
def test_a_folder_that_retention_takes_away_meanwhile_is_made_again(tmp_path, monkeypatch, what):
    """As `Spool.delete` takes one away that is empty, just before the file has its place there."""
    spool = Spool(settings(tmp_path))
    part = spool.write_part([b"abc"])
    made, taken = atomic.make_folder, []

    def make_and_lose(folder, mode=None):
        made(folder, mode=mode)
        if folder.name == "1.2" and not taken:
            taken.append(folder)
            folder.rmdir()

    monkeypatch.setattr(atomic, "make_folder", make_and_lose)
    if what == "image":
        instance = StoredInstance(
            path=part.path,
            study_instance_uid="1.2",
            series_instance_uid="1.3",
            sop_instance_uid="1.4",
            sop_class_uid="1",
        )
        kept = spool.keep(part, instance)
    else:
        uids = {"series_instance_uid": "1.3", "sop_instance_uid": "1.4", "sop_class_uid": "1"}
        kind, sources = ObjectKind.SEGMENTATION, ("1.5",)
        made_of = EncodedObject(path=part.path, kind=kind, model=None, source_sop_instance_uids=sources, **uids)
        (kept,) = spool.adopt("1.2", [made_of])
    assert taken
    assert kept.path.read_bytes() == b"abc"


def objects_in(folder, count=3):
    """Return objects that lie on the disk, as the encoders leave them."""
    made = []
    for number in range(count):
        with atomic.open_bytes(folder / f"{number}.dcm") as file:
            file.write(b"abc")
        uids = {"series_instance_uid": "1.3", "sop_instance_uid": f"1.4.{number}", "sop_class_uid": "1"}
        kind = ObjectKind.SEGMENTATION
        path = folder / f"{number}.dcm"
        made.append(EncodedObject(path=path, kind=kind, model=None, source_sop_instance_uids=("1.5",), **uids))
    return made


def test_objects_of_a_study_outlive_a_power_cut_by_one_sync_of_their_folder(tmp_path, monkeypatch):
    spool = Spool(settings(tmp_path / "spool"))
    disk = Disk(monkeypatch)
    with spool.workspace() as folder:
        kept = spool.adopt("1.2", objects_in(folder))
    assert all(disk.has(each.path) for each in kept)
    assert [path.name for path, _ in disk.folders if path.parent.name == "objects"] == ["1.2"]
    changed = [each.path.stat().st_ctime_ns for each in kept]
    with spool.workspace() as folder:
        assert spool.adopt("1.2", objects_in(folder)) == kept
    assert [each.path.stat().st_ctime_ns for each in kept] == changed


def killing(folder):
    raise KeyboardInterrupt


def test_objects_whose_folder_was_not_synced_before_a_kill_are_synced_when_they_are_found(tmp_path, monkeypatch):
    spool = Spool(settings(tmp_path / "spool"))
    disk = Disk(monkeypatch)
    (spool.folder / "objects" / "1.2").mkdir()
    with spool.workspace() as folder, monkeypatch.context() as killed:
        made = objects_in(folder)
        killed.setattr(atomic, "sync_folder", killing)
        with pytest.raises(KeyboardInterrupt):
            spool.adopt("1.2", made)
    assert not any(map(disk.has, (spool.folder / "objects" / "1.2").iterdir()))
    with spool.workspace() as folder:
        assert all(disk.has(each.path) for each in spool.adopt("1.2", objects_in(folder)))


def test_an_object_that_others_may_read_becomes_its_owner_s(tmp_path):
    spool = Spool(settings(tmp_path / "spool"))
    with spool.workspace() as folder:
        made = objects_in(folder)
        made[1].path.chmod(0o644)
        assert {each.path.stat().st_mode & 0o777 for each in spool.adopt("1.2", made)} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_a_named_error_and_leaves_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        spool = Spool(settings(small / "spool"))
        with pytest.raises(SpoolFullError, match="No space left"):
            spool.write_part([bytes(1 << 19)] * 4)
        assert list((small / "spool" / "part").iterdir()) == []
        assert spool.write_part([b"there is room again"]).path.exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_lock_ends_with_its_process(tmp_path):
    made = settings(tmp_path)
    code = (
        "import sys; from cxr_dicom.config import Settings; from cxr_dicom.store.spool import Spool\n"
        f"spool = Spool(Settings.model_validate({{'spool': {{'folder': {str(tmp_path)!r}}}}}))\n"
        "spool.lock(); print('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(SpoolError, match=f"process {other.pid}"):
        Spool(made).lock()
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    spool = Spool(made)
    spool.lock()
    spool.unlock()


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"spool\.folder"):
        Spool(settings(tmp_path / "file" / "spool"))


def test_what_is_set_aside_is_private_counted_and_overwrites_nothing(tmp_path):
    spool = Spool(settings(tmp_path))
    for content in (b"a", b"b"):
        path = tmp_path / "sources" / "1" / "x"
        path.parent.mkdir()
        path.write_bytes(content)
        aside = spool.set_aside(path)
        assert aside.read_bytes() == content
        assert not path.parent.exists()
    assert spool.set_aside_now() == 2
    assert {each.stat().st_mode & 0o777 for each in (tmp_path / "unknown").rglob("*") if each.is_dir()} == {0o700}


def test_folders_that_were_there_before_are_for_the_owner_too(tmp_path):
    for name in ("", "part", "sources", "objects"):
        (tmp_path / "spool" / name).mkdir(mode=0o755)
    made = Spool(settings(tmp_path / "spool"))
    assert {path.stat().st_mode & 0o777 for path in (made.folder, *made.folder.iterdir())} == {0o700}
