"""Weights in a tar file: what goes in, and what is refused when it comes out."""

import io
import json
import shutil
import tarfile

import pytest

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import build_models, model_infos, weights
from cxr_dicom.infer.weights import bundle

NAMES = ("xrv-densenet121-rsna", "age")


@pytest.fixture
def infos():
    return model_infos()


@pytest.fixture
def packed(home, infos, tmp_path):
    for name in NAMES:
        home.build(name)
    path = tmp_path / "weights.tar"
    bundle.pack([infos[name] for name in NAMES], Settings(), path)
    return path


@pytest.fixture
def elsewhere(tmp_path):
    """Settings of a machine without weights."""
    return Settings(models=ModelSettings(names=NAMES, folder=tmp_path / "elsewhere", device="cpu"))


def rewritten(path, change):
    """Rewrite a tar file; ``change`` gets each member and its bytes, and returns those to write."""
    changed = path.with_name("changed.tar")
    with tarfile.open(path) as archive, tarfile.open(changed, "w") as new:
        for member in archive:
            for each, data in change(member, archive.extractfile(member).read()):
                each.size = len(data)
                new.addfile(each, io.BytesIO(data))
    return changed


def added(name, data=b"x", **attributes):
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member, data


def test_another_machine_gets_the_same_models(packed, infos, elsewhere, home):
    made = bundle.unpack(packed, infos.values(), elsewhere)
    assert {info.name for info in made} == set(NAMES)
    here, there = (build_models(settings) for settings in (elsewhere, home_settings()))
    assert [model.info for model in here] == [model.info for model in there]


def home_settings():
    return Settings(models=ModelSettings(names=NAMES, device="cpu"))


def test_no_pickle_is_packed(packed, infos):
    with tarfile.open(packed) as archive:
        names = archive.getnames()
    source = infos[NAMES[0]].weights_file
    assert source not in names
    assert len(names) == 4


def test_what_was_never_verified_is_not_packed(home, infos, tmp_path):
    name = "xrv-densenet121-pc"
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(home.weights(name), folder)
    settings = Settings(models=ModelSettings(folder=folder))
    with pytest.raises(WeightsError, match=f"models verify {name}"):
        bundle.pack([infos[name]], settings, tmp_path / "weights.tar")
    assert not (tmp_path / "weights.tar").exists()


@pytest.mark.parametrize(
    "extra",
    [
        added("../escaped.safetensors"),
        added("/escaped.safetensors"),
        added("sub/folder.safetensors"),
        added("unknown.safetensors"),
        added("link.safetensors", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        added("folder", type=tarfile.DIRTYPE),
    ],
    ids=lambda extra: extra[0].name,
)
def test_a_foreign_member_refuses_the_whole_file(extra, packed, infos, elsewhere):
    last = []

    def change(member, data):
        yield member, data
        if not last:
            last.append(member)
            yield extra

    with pytest.raises(WeightsError, match="expected files of known models"):
        bundle.unpack(rewritten(packed, change), infos.values(), elsewhere)
    assert list(elsewhere.models.folder.iterdir()) == []


def test_a_link_under_a_known_name_is_refused(packed, infos, elsewhere):
    def change(member, data):
        if member.name.endswith(".safetensors"):
            member.type, member.linkname, data = tarfile.SYMTYPE, "/etc/passwd", b""
        yield member, data

    with pytest.raises(WeightsError, match="expected files of known models"):
        bundle.unpack(rewritten(packed, change), infos.values(), elsewhere)


def test_changed_tensors_are_refused(packed, infos, elsewhere):
    def change(member, data):
        yield member, data[:-1] + bytes([data[-1] ^ 1]) if member.name.endswith(".safetensors") else data

    with pytest.raises(WeightsError, match="not those of their lock; nothing was imported"):
        bundle.unpack(rewritten(packed, change), infos.values(), elsewhere)
    assert list(elsewhere.models.folder.iterdir()) == []


def test_a_lock_of_other_weights_than_those_here_is_refused(packed, infos, home):
    def change(member, data):
        if member.name.endswith(".lock.json"):
            data = json.dumps(json.loads(data) | {"source_sha256": "0" * 64}).encode()
        yield member, data

    with pytest.raises(WeightsError, match="recorded in"):
        bundle.unpack(rewritten(packed, change), infos.values(), Settings())


def test_a_file_without_its_lock_is_refused(packed, infos, elsewhere):
    def change(member, data):
        if not member.name.endswith(".lock.json"):
            yield member, data

    with pytest.raises(WeightsError, match="expected one file beside each lock"):
        bundle.unpack(rewritten(packed, change), infos.values(), elsewhere)


@pytest.mark.parametrize("keep", [0, 100, 5000, -20000])
def test_a_truncated_or_other_file_is_refused(keep, packed, infos, elsewhere):
    packed.write_bytes(packed.read_bytes()[:keep])
    with pytest.raises(WeightsError):
        bundle.unpack(packed, infos.values(), elsewhere)
    assert not list(elsewhere.models.folder.glob("[!.]*"))


def test_the_same_file_can_be_imported_twice(packed, infos, elsewhere):
    for _ in range(2):
        bundle.unpack(packed, infos.values(), elsewhere)
    assert all(weights.is_present(infos[name], elsewhere) for name in NAMES)
