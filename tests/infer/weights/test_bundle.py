"""Weights in a tar file: what goes in, and what is refused when it comes out."""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace

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
    tensors, program = (weights.read_lock(weights.source_path(infos[name], elsewhere)) for name in NAMES)
    assert [model.info.weights_sha256 for model in here] == [tensors.loaded_sha256, program.source_sha256]
    assert [replace(model.info, weights_sha256=None) for model in here] == [
        replace(model.info, weights_sha256=None) for model in there
    ]


def others_under_the_pinned_digest(packed, infos):
    """A bundle with other weights, whose lock says that they come from the upstream file that is pinned."""

    forged = []

    def change(member, data):
        if member.name.endswith(".safetensors"):
            data = data[:-4] + b"\0\0\0\x3f"
            forged.append(hashlib.sha256(data).hexdigest())
        elif member.name.endswith(".lock.json") and (lock := json.loads(data))["loaded"].endswith(".safetensors"):
            data = json.dumps(lock | {"loaded_sha256": forged[-1]}).encode()
        yield member, data

    return rewritten(packed, change)


def pinned(settings, digest):
    table = settings.models.model_copy(update={"names": NAMES[:1], "sha256": {NAMES[0]: digest}})
    return settings.model_copy(update={"models": table})


def test_other_weights_with_the_pinned_digest_in_their_lock_are_refused(packed, infos, elsewhere, home):
    digest = weights.read_lock(weights.source_path(infos[NAMES[0]], home_settings())).source_sha256
    with pytest.raises(WeightsError, match=r"pinned in models\.sha256.*was imported"):
        bundle.unpack(others_under_the_pinned_digest(packed, infos), infos.values(), pinned(elsewhere, digest))
    assert list(elsewhere.models.folder.iterdir()) == []


def test_the_pin_of_the_imported_file_is_checked_and_cited(packed, infos, elsewhere, home):
    lock = weights.read_lock(weights.source_path(infos[NAMES[0]], home_settings()))
    settings = pinned(elsewhere, lock.loaded_sha256)
    bundle.unpack(packed, infos.values(), settings)
    (model,) = build_models(settings)
    assert model.info.weights_sha256 == lock.loaded_sha256
    with pytest.raises(WeightsError, match=r"pinned in models\.sha256.*was imported"):
        build_models(pinned(elsewhere, lock.source_sha256))


def test_imported_weights_are_compared_with_the_upstream_file_when_it_is_there(packed, infos, elsewhere, home):
    lock = weights.read_lock(weights.source_path(infos[NAMES[0]], home_settings()))
    settings = pinned(elsewhere, lock.source_sha256)
    settings.models.folder.mkdir()
    shutil.copy(home.weights(NAMES[0]), settings.models.folder)
    bundle.unpack(packed, infos.values(), settings)
    (model,) = build_models(settings)
    assert model.info.weights_sha256 == lock.source_sha256
    assert not weights.read_lock(weights.source_path(infos[NAMES[0]], settings)).imported


def test_imported_weights_that_the_upstream_file_does_not_give_are_refused(packed, infos, elsewhere, home):
    bundle.unpack(others_under_the_pinned_digest(packed, infos), infos.values(), elsewhere)
    shutil.copy(home.weights(NAMES[0]), elsewhere.models.folder)
    lock = weights.read_lock(weights.source_path(infos[NAMES[0]], home_settings()))
    with pytest.raises(WeightsError, match="made from"):
        build_models(pinned(elsewhere, lock.source_sha256))


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


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"pax_headers": {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)}},  # a petabyte of holes
    ],
    ids=["a link", "holes"],
)
def test_what_is_no_plain_file_is_refused_under_a_known_name_too(attributes, packed, infos, elsewhere):
    def change(member, data):
        yield added(member.name, **attributes) if member.name.endswith(".safetensors") else (member, data)

    with pytest.raises(WeightsError, match="nothing was imported"):
        bundle.unpack(rewritten(packed, change), infos.values(), elsewhere)
    assert not list(elsewhere.models.folder.glob("[!.]*"))


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
