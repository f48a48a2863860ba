"""Files of weights that nobody thought of: read or refused in one line, and nothing of them runs."""

import io
import pickle
import shutil
import tarfile
import zipfile

import pytest
import torch
from hypothesis import strategies as st

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import model_infos, torchscript
from cxr_dicom.infer.weights import bundle, pickles
from tests.fuzzing import damaged, fuzz
from tests.infer import hostile_torchscript as hostile


def refused(read, *arguments):
    """Whether a file is refused, as it should be: by one error, in one line."""
    said = ""
    try:
        read(*arguments)
    except WeightsError as error:
        said = str(error)
    assert "\n" not in said
    return bool(said)


@pytest.mark.filterwarnings("ignore")
def test_code_of_torchscript(tmp_path, monkeypatch):
    """Lines of hostile and of harmless files in any order, in any place, with any bytes between them."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.pt"
    known = sorted({line for code in hostile.CODE.values() if len(code) < 2000 for line in code.splitlines()})
    lines = st.lists(st.sampled_from(known), max_size=12).map(lambda some: "\n".join(some).encode())
    loading = [code.encode() for name, code in hostile.CODE.items() if name.startswith("while loading")]
    codes = lines | damaged(loading) | damaged([code.encode() for code in hostile.CODE.values() if len(code) < 2000])
    with zipfile.ZipFile(io.BytesIO(hostile.harmless())) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

    def check(code):
        path.write_bytes(hostile._archive(records | {"code/__torch__.py": code}))
        if not refused(torchscript.read, path, "cpu"):
            assert b"save" not in code
        assert list(tmp_path.iterdir()) == [path], "something ran"

    fuzz(check, codes, examples=150)


@pytest.mark.filterwarnings("ignore")
def test_bytes_of_torchscript(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.pt"
    files = hostile.files()
    corpus = [
        hostile.harmless(),
        *(files[name] for name in ("while loading: a state", "a pickle that names os.system")),
    ]

    def check(content):
        path.write_bytes(content)
        refused(torchscript.read, path, "cpu")
        assert list(tmp_path.iterdir()) == [path], "something ran"

    fuzz(check, damaged(corpus), examples=80)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch ran",)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before 1.6"])
def test_pickles(is_zip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = [pickle.dumps(Evil())]
    for content in ({"a": torch.zeros(2)}, torch.nn.Linear(2, 2), {"a": torch.zeros(1), "b": Evil()}):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=is_zip)
        corpus.append(file.getvalue())

    def check(content):
        refused(pickles.read, io.BytesIO(content), "own.pt")
        assert list(tmp_path.iterdir()) == [], "something ran"

    fuzz(check, damaged(corpus), examples=100)


def test_bundles(home, tmp_path):
    name, infos = "xrv-densenet121-rsna", model_infos()
    here = Settings(models=ModelSettings(folder=tmp_path / "here"))
    here.models.folder.mkdir()
    lock = '{"source": "%s", "source_sha256": "0", "loaded": "%s", "loaded_sha256": "0"}'
    stem = infos[name].weights_file.removesuffix(".pt")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, data in (
            (f"{stem}.safetensors", b"tensors"),
            (f"{stem}.lock.json", (lock % (f"{stem}.pt", f"{stem}.safetensors")).encode()),
            ("../escaped.safetensors", b"x"),
        ):
            about = tarfile.TarInfo(member)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    whole = file.getvalue()

    def check(content):
        path = tmp_path / "bundle.tar"
        path.write_bytes(content)
        is_refused = refused(bundle.unpack, path, infos.values(), here)
        left = sorted(each.name for each in here.models.folder.iterdir())
        assert left == [] or not is_refused, "all or nothing"
        shutil.rmtree(here.models.folder)
        here.models.folder.mkdir()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["bundle.tar", "here"], "nothing beside it"

    fuzz(check, damaged([whole, whole[: -tarfile.BLOCKSIZE * 2]]), examples=80)
