"""Every file of a folder ends in a study or in the list of what was skipped, and none stops the scan."""

import os
import random
import shutil

import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from cxr_dicom import synthetic
from cxr_dicom.config import SelectSettings
from cxr_dicom.dicom.files import read_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import STATE_FOLDER, scan
from cxr_dicom.records import Outcome, Reason
from cxr_dicom.select import select


def small(**attributes):
    return synthetic.radiograph(40, 32, **attributes)


def names(studies):
    return [[instance.path.name for instance in study.instances] for study in studies]


def reasons(skipped):
    return {item.path.name: item.reason for item in skipped}


@pytest.fixture
def image(tmp_path):
    """A folder with one image, ``0.dcm``."""
    synthetic.write_study(tmp_path, [small()])
    return tmp_path / "0.dcm"


def test_instances_are_grouped_by_study_in_the_order_of_their_paths(tmp_path):
    synthetic.write_study(tmp_path / "b", [small(study="1", seed=1), small(study="2", seed=2)])
    synthetic.write_study(tmp_path / "a", [small(study="2", seed=3), small(study="1", seed=4)])
    studies, skipped = scan([tmp_path])
    assert skipped == []
    assert [[str(i.path.relative_to(tmp_path)) for i in s.instances] for s in studies] == [
        ["a/0.dcm", "b/1.dcm"],
        ["a/1.dcm", "b/0.dcm"],
    ]
    assert scan([tmp_path / "b", tmp_path / "a"]) == (studies, skipped), "the order of the arguments does not matter"


def test_an_instance_says_who_it_is(image):
    ((study,), _) = scan([image])
    (instance,) = study.instances
    dataset = dcmread(image)
    assert instance.path == image
    assert instance.study_instance_uid == study.study_instance_uid == dataset.StudyInstanceUID
    assert instance.series_instance_uid == dataset.SeriesInstanceUID
    assert instance.sop_instance_uid == dataset.SOPInstanceUID
    assert instance.sop_class_uid == dataset.SOPClassUID
    assert instance.sender is None


@pytest.mark.parametrize("name", ["IM000001", "picture.png", "notes.txt", ".hidden", "röntgen bild.DCM"])
def test_the_name_of_a_file_does_not_matter(image, name):
    image.rename(image.with_name(name))
    assert names(scan([image.parent])[0]) == [[name]]


def test_what_is_no_whole_dicom_file_is_listed_with_its_reason(image):
    folder, content = image.parent, image.read_bytes()
    (folder / "empty").touch()
    (folder / "text.txt").write_text("Report of a chest radiograph. " * 20)
    Image.new("L", (20, 20)).save(folder / "picture.png")
    (folder / "random").write_bytes(random.Random(1).randbytes(10_000))
    (folder / "short").write_bytes(content[:100])
    (folder / "only preamble").write_bytes(content[:132])
    (folder / "only meta").write_bytes(content[: content.index(b"\x08\x00\x08\x00")])
    (folder / "half header").write_bytes(content[:700])
    (folder / "half pixels").write_bytes(content[:-600])
    (folder / "one byte less").write_bytes(content[:-1])
    studies, skipped = scan([folder])
    assert names(studies) == [["0.dcm"]]
    assert reasons(skipped) == {
        "empty": Reason.NOT_DICOM,
        "text.txt": Reason.NOT_DICOM,
        "picture.png": Reason.NOT_DICOM,
        "random": Reason.NOT_DICOM,
        "short": Reason.NOT_DICOM,
        "only preamble": Reason.UNREADABLE,
        "only meta": Reason.UNREADABLE,
        "half header": Reason.UNREADABLE,
        "half pixels": Reason.UNREADABLE,
        "one byte less": Reason.UNREADABLE,
    }
    details = {item.path.name: item.detail for item in skipped}
    assert "PNG" in details["picture.png"]
    assert "empty" in details["empty"]
    assert f"{len(content)}" in details["half pixels"], "expected"
    assert f"{len(content) - 600}" in details["half pixels"], "found"
    assert all(item.outcome is Outcome.SKIPPED and item.instance is None for item in skipped)
    assert not any("Synthetic" in item.detail or "chest" in item.detail for item in skipped)


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_truncated_file_is_noticed_in_every_kind_of_transfer_syntax(tmp_path, syntax):
    (path,) = synthetic.write_study(tmp_path, [synthetic.stored_as(small(), syntax)])
    assert names(scan([tmp_path])[0]) == [["0.dcm"]]
    path.write_bytes(path.read_bytes()[:-100])
    studies, skipped = scan([tmp_path])
    assert (studies, reasons(skipped)) == ([], {"0.dcm": Reason.UNREADABLE})


def test_a_truncated_file_that_is_deflated_is_noticed_when_its_pixels_are_read(tmp_path):
    (path,) = synthetic.write_study(tmp_path, [synthetic.stored_as(small(), DeflatedExplicitVRLittleEndian)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="UNREADABLE"):
        read_whole(path)


def test_a_file_cut_anywhere_is_never_taken_for_an_image(image):
    content = image.read_bytes()
    for end in range(132, len(content), 7):
        image.write_bytes(content[:end])
        studies, skipped = scan([image])
        for study in studies:  # cut between two elements: whole, but without pixel data
            skipped += select(study, SelectSettings()).skipped
        assert [item.reason in (Reason.UNREADABLE, Reason.INVALID_ATTRIBUTES) for item in skipped] == [True], (
            f"cut at {end}"
        )


def with_undefined_length(vr):
    dataset = small()
    dataset.add_new(0x00090010, "LO", "TEST")
    value = Sequence([Dataset()]) if vr == "SQ" else encapsulate([b"abcd"])
    dataset.add_new(0x00091010, vr, value)
    dataset[0x00091010].is_undefined_length = True
    return dataset


@pytest.mark.parametrize("vr", ["SQ", "OB"])
def test_an_element_of_undefined_length_that_does_not_end_is_unreadable(tmp_path, vr):
    (path,) = synthetic.write_study(tmp_path, [with_undefined_length(vr)])
    assert names(scan([path])[0]) == [["0.dcm"]]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x09\x00\x10\x10") + 18])
    ((_, (skipped,))) = scan([path])
    assert skipped.reason is Reason.UNREADABLE
    assert "end" in skipped.detail


@pytest.mark.parametrize(
    "start",
    [
        b"\x08\x00 is how this text begins",
        b"\x08\x00\x05\x00 is, too, by bad luck",
        b"\x08\x00IDUI and more text",
        b"\x02\x00\x00",
    ],
)
def test_what_only_begins_like_a_group_of_dicom_is_not_dicom(tmp_path, start):
    (tmp_path / "text").write_bytes(start + b"." * 200 if len(start) > 8 else start)
    assert reasons(scan([tmp_path])[1]) == {"text": Reason.NOT_DICOM}


def test_damaged_files_never_stop_a_scan(image):
    content, chance = image.read_bytes(), random.Random(2)
    for number in range(200):
        damaged = bytearray(content)
        for _ in range(8):
            damaged[chance.randrange(128, 1500)] = chance.randrange(256)
        image.with_name(f"damaged {number}").write_bytes(damaged)
    studies, skipped = scan([image.parent])
    assert sum(len(study.instances) for study in studies) + len(skipped) == 201


@pytest.mark.parametrize("implicit", [True, False])
def test_dicom_without_a_preamble_is_found(tmp_path, implicit):
    dataset = small()
    del dataset.file_meta
    dcmwrite(tmp_path / "bare", dataset, implicit_vr=implicit, little_endian=True)
    assert (tmp_path / "bare").read_bytes()[:2] == b"\x08\x00"
    studies, skipped = scan([tmp_path])
    assert (names(studies), skipped) == ([["bare"]], [])


def test_dicom_that_begins_with_its_meta_information_is_found(image):
    image.write_bytes(image.read_bytes()[132:])
    assert names(scan([image])[0]) == [["0.dcm"]]


def test_random_bytes_are_never_dicom(tmp_path):
    chance = random.Random(3)
    for number in range(300):
        (tmp_path / str(number)).write_bytes(chance.randbytes(400))
    studies, skipped = scan([tmp_path])
    assert studies == []
    assert {item.reason for item in skipped} == {Reason.NOT_DICOM}


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "../../etc", "1..2", "9" * 65])
def test_an_instance_without_proper_uids_is_refused(tmp_path, keyword, value):
    (path,) = synthetic.write_study(tmp_path, [small()])
    dataset = dcmread(path)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if value is None:
        delattr(dataset, keyword)
    else:
        dataset[keyword].value = value
    dataset.save_as(path)
    studies, skipped = scan([path])
    assert (studies, reasons(skipped)) == ([], {"0.dcm": Reason.INVALID_ATTRIBUTES})
    assert keyword in skipped[0].detail


def test_the_second_file_of_an_instance_is_a_duplicate(tmp_path):
    synthetic.write_study(tmp_path / "b", [small()])
    synthetic.write_study(tmp_path / "a", [small()])
    studies, skipped = scan([tmp_path / "b", tmp_path / "a"])
    assert [i.path for s in studies for i in s.instances] == [tmp_path / "a" / "0.dcm"]
    (duplicate,) = skipped
    assert (duplicate.path, duplicate.reason) == (tmp_path / "b" / "0.dcm", Reason.DUPLICATE_INSTANCE)
    assert duplicate.instance.sop_instance_uid in duplicate.detail


def test_a_file_reached_twice_counts_once(image):
    folder = image.parent
    os.link(image, folder / "hard link")
    (folder / "soft link").symlink_to(image)
    (folder / "linked folder").symlink_to(folder)
    studies, skipped = scan([folder, image, folder / "0.dcm", folder / "linked folder"])
    assert (names(studies), skipped) == ([["0.dcm"]], [])


def test_loops_of_links_are_survived_and_links_out_are_followed(tmp_path):
    synthetic.write_study(tmp_path / "elsewhere", [small()])
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "up").symlink_to(inside)
    (inside / "out").symlink_to(tmp_path / "elsewhere")
    (inside / "self").symlink_to(inside / "self")
    studies, skipped = scan([inside])
    assert names(studies) == [["0.dcm"]]
    assert reasons(skipped) == {"self": Reason.UNREADABLE}


def test_what_is_no_file_is_unreadable_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    _, skipped = scan([tmp_path, tmp_path / "missing"])
    assert reasons(skipped) == dict.fromkeys(["broken", "missing", "pipe"], Reason.UNREADABLE)


@pytest.mark.skipif(os.name != "posix", reason="modes are Unix's")
def test_what_may_not_be_read_is_unreadable(image, as_nobody):
    folder = as_nobody(image.parent)
    (folder / image.name).chmod(0)
    closed = folder / "closed"
    closed.mkdir(mode=0)
    _, skipped = scan([folder])
    closed.chmod(0o700)
    assert reasons(skipped) == {"0.dcm": Reason.UNREADABLE, "closed": Reason.UNREADABLE}


def test_our_own_state_folder_is_not_searched(image):
    shutil.copytree(image.parent, image.parent / STATE_FOLDER / "copy", ignore=shutil.ignore_patterns(STATE_FOLDER))
    assert len(scan([image.parent])[1]) == 0


# --- DICOMDIR ------------------------------------------------------------------------------------


@pytest.fixture
def media(tmp_path):
    """A file-set of three images with its DICOMDIR, as on a disc."""
    files = FileSet()
    for seed in range(3):
        files.add(small(seed=seed))
    files.write(tmp_path / "disc")
    return tmp_path / "disc"


def instance_count(studies):
    return sum(len(study.instances) for study in studies)


def test_a_folder_with_a_dicomdir_gives_each_instance_once(media):
    studies, skipped = scan([media])
    assert (instance_count(studies), skipped) == (3, [])


def test_a_dicomdir_leads_to_the_files_that_it_names(media):
    studies, skipped = scan([media / "DICOMDIR"])
    assert (instance_count(studies), skipped) == (3, [])


def test_files_that_a_dicomdir_names_are_found_in_small_letters(media, tmp_path):
    lower = tmp_path / "lower"
    for path in [p for p in media.rglob("*") if p.is_file()]:
        target = lower / str(path.relative_to(media)).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert instance_count(scan([lower / "dicomdir"])[0]) == 3


def test_a_file_that_a_dicomdir_names_but_is_missing_is_listed(media):
    victim = next(path for path in sorted(media.rglob("*")) if path.is_file() and path.name != "DICOMDIR")
    victim.unlink()
    studies, skipped = scan([media])
    assert instance_count(studies) == 2
    assert [(item.path, item.reason) for item in skipped] == [(victim, Reason.UNREADABLE)]


def test_a_dicomdir_never_leads_out_of_its_folder(media, tmp_path):
    synthetic.write_study(tmp_path, [small(seed=9)])
    dicomdir = dcmread(media / "DICOMDIR")
    image = next(r for r in dicomdir.DirectoryRecordSequence if "ReferencedFileID" in r)
    image.ReferencedFileID = ["..", "0.dcm"]
    dicomdir.save_as(media / "DICOMDIR")
    studies, _ = scan([media / "DICOMDIR"])
    assert tmp_path / "0.dcm" not in [i.path.resolve() for s in studies for i in s.instances]
    assert instance_count(studies) == 2


def test_a_damaged_dicomdir_is_listed_itself(media):
    content = (media / "DICOMDIR").read_bytes()
    (media / "DICOMDIR").write_bytes(content[: len(content) // 2])
    studies, skipped = scan([media])
    assert instance_count(studies) == 3
    assert reasons(skipped) == {"DICOMDIR": Reason.UNREADABLE}


def test_the_dicomdirs_of_pydicom_are_no_errors(real):
    _, skipped = scan([real("DICOMDIR").parent])
    assert [item for item in skipped if item.path.name.startswith("DICOMDIR")] == []


def test_real_files_that_are_known_to_be_truncated(real):
    for name in ("MR_truncated.dcm", "rtplan_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"):
        assert reasons(scan([real(name)])[1]) == {name: Reason.UNREADABLE}
