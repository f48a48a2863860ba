"""Files that mean harm, or were damaged at random: refused or skipped with a reason, never a crash.

``scripts/soak`` runs many more mutations.
"""

import os
import random
import struct
import zlib
from functools import partial
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from cxr_dicom import config
from cxr_dicom.config import Settings, operating_points
from cxr_dicom.dicom.files import inflated, read_header, read_whole
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import CxrDicomError, ImageError
from cxr_dicom.infer import weights
from cxr_dicom.ingest.intake import Intake, RefusedError
from cxr_dicom.records import Reason, StoredInstance, Study
from cxr_dicom.results import folder as results
from cxr_dicom.select import select
from cxr_dicom.service.recovery import delete_discarded
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.synthetic import radiograph, stored_as
from tests.raw_peer import Peer, data_set, store_command, values
from tests.service_helpers import listening

MUTATIONS = int(os.environ.get("SOAK_MUTATIONS", "150"))


def content(dataset):
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def bomb(path, *, after):
    """Write a radiograph whose data set goes on for 600 MB of zeros: where the pixels should be, or after them."""
    image = radiograph(32, 32)
    if not after:
        del image.PixelData
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = content(image)
    start = 132 + 12 + dcmread(BytesIO(whole)).file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    unpacked = zlib.decompress(whole[start:], -zlib.MAX_WBITS) + struct.pack("<HH2s2xL", 0x7FD1, 1, b"OB", 600 << 20)
    with path.open("wb") as file:
        file.write(whole[:start])
        file.write(packer.compress(unpacked) + packer.flush(zlib.Z_FULL_FLUSH))
        megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # needs nothing that came before
        file.write(megabyte * 600 + packer.flush())
    assert path.stat().st_size < 2 << 20
    return path


def all_of(path):
    return sum(map(len, inflated(path)))


@pytest.mark.parametrize(
    ("reader", "after"), [(read_header, False), (read_whole, False), (all_of, False), (all_of, True)]
)
def test_a_deflated_bomb_is_not_unpacked(tmp_path, reader, after):
    with pytest.raises(ImageError, match="when unpacked") as refused:
        reader(bomb(tmp_path / "bomb.dcm", after=after))
    assert refused.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize("reader", [read_header, read_whole])
def test_no_more_of_a_deflated_file_is_unpacked_than_is_read(tmp_path, reader, monkeypatch):
    monkeypatch.setattr("cxr_dicom.dicom.deflate.MOST_INFLATED", 100_000)
    reader(bomb(tmp_path / "bomb.dcm", after=True))


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (config.load, "a = "),
        (operating_points.read, "a = "),
        (results.Results, ""),
        (lambda path: weights.read_lock(path.with_name("a.pt")), ""),
    ],
    ids=["settings", "operating points", "results", "lock of weights"],
)
def test_nesting_without_end_is_an_error_of_ours(read, content, tmp_path):
    for name in ("a.lock.json", "results.jsonl"):
        (tmp_path / name).write_text(content + "[" * 100_000)
    with pytest.raises(CxrDicomError):
        read(tmp_path if read is results.Results else tmp_path / "a.lock.json")


def test_a_data_set_whose_first_element_says_that_it_is_deflated_is_refused_by_the_listener(tmp_path):
    """Readers of files take what is of group 2 for file meta information, also behind its end."""
    image = radiograph(16, 16)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data_set(image)) + packer.flush()
    claim = struct.pack("<HH2sH22s", 2, 0x10, b"UI", 22, DeflatedExplicitVRLittleEndian.encode())
    with listening(tmp_path) as here, Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(values((3, store_command(image.SOPInstanceUID))) + values((2, claim + packed)))
        assert b"UNREADABLE" in bytes(peer.answer()[1])
        assert not here.files()


def test_a_matrix_of_60000_by_60000_is_refused_unread(tmp_path):
    image = radiograph(32, 32)
    image.Rows = image.Columns = 60000
    path = tmp_path / "huge.dcm"
    path.write_bytes(content(image))
    selection = select(study_of(path), Settings().select)
    assert not selection.images
    assert selection.skipped[0].reason in (Reason.MATRIX_TOO_LARGE, Reason.CORRUPT_PIXEL_DATA)


def study_of(path):
    instance = StoredInstance(
        path=path, study_instance_uid="1", series_instance_uid="1", sop_instance_uid="1", sop_class_uid="1"
    )
    return Study(study_instance_uid="1", instances=(instance,))


def mutate(chance, whole):
    """Damage a file: some bytes, mostly of its header; or its end is missing; or a part is repeated."""
    damaged = bytearray(whole)
    kind = chance.random()
    if kind < 0.15:
        del damaged[chance.randrange(132, len(damaged)) :]
    elif kind < 0.3:
        start = chance.randrange(132, len(damaged))
        damaged[start:start] = damaged[start : start + chance.randrange(1, 64)]
    for _ in range(chance.randrange(1, 12)):
        limit = len(damaged) if chance.random() < 0.3 else min(len(damaged), 2500)
        damaged[chance.randrange(128, max(limit, 129))] = chance.randrange(256)
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_or_skipped_with_a_reason(tmp_path, real):
    chance = random.Random(20260101)
    plain = radiograph(64, 48)
    sources = [content(plain), content(stored_as(plain, RLELossless)), content(stored_as(plain, JPEG2000Lossless))]
    sources.append(real("RG3_J2KR.dcm").read_bytes())
    settings = Settings.model_validate({"select": {"max_pixels": 4_000_000}})
    path = tmp_path / "damaged.dcm"
    ends = dict.fromkeys(("refused", "skipped", "unreadable pixels", "read"), 0)
    with listening(tmp_path / "spool") as here:
        classes = here.settings.listener.sop_classes
        intake = Intake(here.spool, here.ledger, here.assembly, AuditTrail(here.spool.folder), classes)
        for number in range(MUTATIONS):
            whole = mutate(chance, sources[-1] if number % 50 == 0 else chance.choice(sources[:3]))
            path.write_bytes(whole)
            try:
                intake.store(
                    partial(here.spool.write_part, [whole]), sender="FUZZ", sop_instance_uid=str(announced(path))
                )
            except RefusedError:
                ends["refused"] += 1
            selection = select(study_of(path), settings.select)
            ends["skipped"] += len(selection.skipped)
            for image in selection.images:
                try:
                    read(image, settings.pixels)
                    ends["read"] += 1
                except ImageError:
                    ends["unreadable pixels"] += 1
        assert here.files("part") == []
        delete_discarded(here.spool, here.ledger)  # the same UID with other content leaves the earlier file
        assert set(here.files()) == here.ledger.stories.paths()
    assert all(ends.values()), ends


def announced(path):
    try:
        return dcmread(path, force=True, stop_before_pixels=True).get("SOPInstanceUID", "1")
    except Exception:
        return "1"
