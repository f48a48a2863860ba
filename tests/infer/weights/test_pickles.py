"""Upstream files are data: whatever they say, nothing of them runs."""

import os
import pickle
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from io import BytesIO

import pytest
import torch

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.weights import pickles


def read(path):
    with path.open("rb") as file:
        return pickles.read(file, path.name)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, witness, how=None):
        self.witness, self.how = witness, how

    def __reduce__(self):
        return self.how or (os.system, (f"touch {self.witness}",))


class EvilModule(torch.nn.Module):
    """A module that would run when it is unpickled, as the whole modules of upstream are."""

    def __init__(self, evil):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.evil = evil


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


def old_tar(content, path):
    """The format of torch before 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            data = pickle.dumps(content)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))


def checkpoint(evil):
    return {"state_dict": {"a": torch.zeros(2)}, "callbacks": evil}


def whole_module(evil):
    return EvilModule(evil)


def state_dict(evil):
    return OrderedDict(a=torch.zeros(2), b=evil)


def payloads(witness):
    code = f"open({str(witness)!r}, 'w').close()"
    yield "system", None
    yield "exec", (exec, (code,))
    yield "eval", (eval, (f"open({str(witness)!r}, 'w').close()",))
    yield "unsafe load inside", (torch.storage._load_from_bytes, (unsafe_bytes(witness),))
    yield "import", (__import__, ("os",))


def unsafe_bytes(witness):
    stream = BytesIO()
    torch.save(Evil(witness), stream)
    return stream.getvalue()


@pytest.mark.parametrize("content", [checkpoint, whole_module, state_dict], ids=lambda f: f.__name__)
@pytest.mark.parametrize("write", [torch.save, legacy, plain_pickle, old_tar], ids=lambda f: f.__name__)
@pytest.mark.parametrize("payload", ["system", "exec", "eval", "unsafe load inside", "import"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, write, content, payload):
    witness, path = tmp_path / "ran", tmp_path / "weights.pt"
    write(content(Evil(witness, dict(payloads(witness))[payload])), path)
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        read(path)
    assert not witness.exists()


def test_the_witness_does_appear_when_torch_is_told_to_trust(tmp_path):
    witness, path = tmp_path / "ran", tmp_path / "weights.pt"
    torch.save(checkpoint(Evil(witness)), path)
    torch.load(path, weights_only=False)
    assert witness.exists()


def test_the_refusal_names_the_class(tmp_path):
    for number, write in enumerate((torch.save, legacy)):
        path = tmp_path / f"{number}.pt"
        write(checkpoint(Evil(tmp_path / "ran")), path)
        with pytest.raises(WeightsError, match=r"posix\.system|os\.system"):
            read(path)


def test_a_zip_with_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    with pytest.raises(WeightsError):
        read(path)


def test_a_class_on_the_list_is_replaced_and_not_imported(tmp_path):
    """The attribute that it carries is kept; its own code would fail loudly."""
    path = tmp_path / "weights.pt"
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    for write in (torch.save, legacy):
        write(module, path)
        content = read(path)
        assert type(content) is pickles.Inert
        tensors = pickles.state_of(content)
        assert list(tensors) == ["0.weight", "0.bias"]
        assert all(torch.equal(tensor, module.state_dict()[key]) for key, tensor in tensors.items())


@pytest.mark.parametrize("write", [torch.save, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_says_so(tmp_path, write, keep):
    path = tmp_path / "weights.pt"
    write({"a": torch.randn(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=r"weights\.pt.*(damaged|truncated)"):
        read(path)


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_text("<html>404</html>")
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        read(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 1}, [1, 2], "text", {"state_dict": {}}])
def test_a_file_without_tensors_is_an_error(content):
    with pytest.raises(WeightsError, match="expected tensors"):
        pickles.state_of(content)


def named_in_zip(name, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "weights/data.pkl", pickle.PROTO + b"\x02" + pickle.GLOBAL + b"posix\n" + name + b"\n" + pickle.STOP
        )
        archive.writestr("weights/version", "3\n")


def named_in_pickle(name, path):
    texts = b"".join(pickle.BINUNICODE + len(text).to_bytes(4, "little") + text for text in (b"posix", name))
    path.write_bytes(pickle.PROTO + b"\x04" + texts + pickle.STACK_GLOBAL + pickle.STOP)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (named_in_pickle, b"system\nall is well"),
        *((write, name) for write in (named_in_zip, named_in_pickle) for name in (b"\x1b[2Jsystem", b"s" * 100_000)),
    ],
    ids=["a new line", "zip, an escape", "zip, long", "an escape", "long"],
)
def test_a_name_in_a_file_is_shown_short_and_on_one_line(tmp_path, write, name):
    path = tmp_path / "weights.pt"
    write(name, path)
    with pytest.raises(WeightsError, match=r"known classes, found posix\.") as caught:
        read(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_few_of_many_names_are_shown(tmp_path):
    path = tmp_path / "weights.pt"
    many = b"".join(b"cposix\nname%d\n" % number for number in range(10_000))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02(" + many + b"t.")
        archive.writestr("weights/version", "3\n")
    with pytest.raises(WeightsError, match=r"known classes, found posix\.name0, posix\.name1, posix\.name10: a file"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02Nr\xff\xff\xff\x0f.", b"\x80\x05\x96\0\0\0\0\x01\0\0\0."],
    ids=["an object with the number 268435455", "a byte array of 4 GB"],
)
def test_a_few_bytes_take_no_memory(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="damaged"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
