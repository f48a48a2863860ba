"""A TorchScript file runs only if its program does nothing but compute."""

import multiprocessing
import os
import pickle
import zipfile
from io import BytesIO

import pytest
import torch

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import torchscript
from cxr_dicom.infer.torchscript import operators
from tests.infer import hostile_torchscript

HOSTILE = hostile_torchscript.files()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_does_not_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "age.pt"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError, match=r"age\.pt: expected ") as refused:
        torchscript.read(path, "cpu")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("record", ["code/more.py", "data/0"])
def test_records_that_unpack_to_far_more_than_the_file_are_not_unpacked(record, tmp_path):
    path = tmp_path / "age.pt"
    path.write_bytes(hostile_torchscript.harmless())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"archive/{record}", bytes(65 << 20), zipfile.ZIP_DEFLATED, 1)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(
        WeightsError, match=r"found 67\d{6} bytes more in its records than in the file; nothing of it ran"
    ):
        torchscript.read(path, "cpu")


def with_record(folder, name, content):
    """Write a file that is well but for one record, which may be one that it did not have."""
    with (
        zipfile.ZipFile(BytesIO(hostile_torchscript.harmless())) as good,
        zipfile.ZipFile(folder / "age.pt", "w") as made,
    ):
        for record in good.namelist():
            if record != f"archive/{name}":
                made.writestr(record, good.read(record))
        made.writestr(f"archive/{name}", content)
    return folder / "age.pt"


@pytest.mark.parametrize("name", ["constants.pkl", "data.pkl", "code/__torch__.py.debug_pkl"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x80\x02cposix\nsystem\n.", "posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "STACK_GLOBAL"),
        (b"\x80\x02Nr\xff\xff\xff\x0f.", "object number 268435455 among 2 objects"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused(name, content, found, tmp_path):
    with pytest.raises(WeightsError, match=f"found {found} in a pickle; nothing of it ran"):
        torchscript.read(with_record(tmp_path, name, content), "cpu")


def test_code_far_longer_than_any_network_has_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(torchscript, "_LONGEST_CODE", 1000)
    monkeypatch.setattr(torchscript.syntax, "Program", None)
    with pytest.raises(WeightsError, match="found 2000 bytes of code; nothing of it ran"):
        torchscript.read(with_record(tmp_path, "code/__torch__.py", b"#" * 2000), "cpu")


def test_they_are_as_many_as_documented_and_torch_itself_runs_many_of_them(tmp_path):
    """Without the check: of each file a process of its own says whether the file ``ran`` was written."""
    assert len(HOSTILE) == 58, "docs/security.md says how many"
    loading = [name for name in HOSTILE if name.startswith("while loading")]
    context = multiprocessing.get_context("fork")
    for number, name in enumerate(["a call", "a call split by a backslash", "a hook after", *loading]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "age.pt").write_bytes(HOSTILE[name])
        process = context.Process(target=load_as_torch_does, args=(folder, name not in loading))
        process.start()
        process.join(60)
        assert (folder / "ran").exists(), name


def load_as_torch_does(folder, calls):
    os.chdir(folder)
    network = torch.jit.load("age.pt")
    if calls:
        network(torch.ones(2))


@pytest.mark.parametrize(
    "name",
    [
        "a call",
        "a call split by a comment",
        "by the list of operators",
        "in a branch that is not taken",
        "in a loop",
        "in a method that nobody calls",
        "in a function of the file",
        "a hook before",
        "a hook after",
        "text on standard output",
        "text on standard error",
        "other randomness for all",
        "memory that nobody wrote",
    ],
)
def test_the_compiled_graph_alone_refuses_what_would_run_when_it_is_used(name, tmp_path, monkeypatch):
    """The second wall without the first: what hides in the text does not hide in the graph that torch made of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchscript, "_expect_harmless", lambda path, content: None)
    (tmp_path / "age.pt").write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError, match=r"expected nothing but tensor operations, found .* in its graph"):
        torchscript.read(tmp_path / "age.pt", "cpu")
    assert not (tmp_path / "ran").exists()


class Block(torch.nn.Module):
    """What networks for pictures are made of, with branches, a loop, and a second method."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)])
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.SiLU())
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.last = torch.nn.Linear(4, 2)

    def widen(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.up(torch.max_pool2d(x, 2)), x], dim=1)[:, :4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = torch.relu(layer(x)) + x
        if x.shape[-1] % 2 == 0:
            x = self.widen(x)
        return torch.softmax(self.last(x.mean(dim=(2, 3))), dim=1)


@pytest.mark.parametrize("make", ["traced", "scripted"])
def test_a_program_that_computes_is_loaded_and_gives_the_same(make, tmp_path):
    network, pixels = Block().eval(), torch.rand(1, 1, 16, 16)
    compiled = torch.jit.trace(network, pixels) if make == "traced" else torch.jit.script(network)
    compiled.save(tmp_path / "own.pt")
    torch.testing.assert_close(torchscript.read(tmp_path / "own.pt", "cpu")(pixels), network(pixels))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("resnet18", "traced"),
        ("resnet18", "scripted"),
        ("densenet121", "scripted"),
        ("mobilenet_v3_small", "traced"),
        ("efficientnet_b0", "traced"),
        ("efficientnet_b0", "frozen"),  # scripted it could leave out layers by chance, while it is trained
    ],
)
def test_public_architectures_pass(name, make, tmp_path):
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    network = network.to_empty(device="cpu").eval()
    if make == "traced":
        compiled = torch.jit.trace(network, torch.zeros(1, 3, 64, 64), check_trace=False)
    else:
        compiled = torch.jit.script(network)
    (torch.jit.freeze(compiled) if make == "frozen" else compiled).save(tmp_path / "net.pt")
    assert torchscript.read(tmp_path / "net.pt", "cpu")(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_the_file_of_the_age_model_is_loaded(home):
    network = torchscript.read(home.weights("age"), "cpu")
    assert network(torch.zeros(1, 3, 320, 320)).shape == (1, 1)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_truncated_file_is_an_error(keep, tmp_path):
    path = tmp_path / "age.pt"
    path.write_bytes(hostile_torchscript.harmless()[:keep])
    with pytest.raises(WeightsError, match=r"age\.pt: expected a complete TorchScript file"):
        torchscript.read(path, "cpu")


def test_a_zip_without_a_program_is_an_error(tmp_path):
    path = tmp_path / "age.pt"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"age\.pt: expected a TorchScript file"):
        torchscript.read(path, "cpu")


def test_no_operator_of_the_list_has_an_effect_outside():
    """Against torch: what it will not leave out of a program, whose result nobody uses, is not on the list."""
    effects = {"aten::save", "aten::warn", "aten::manual_seed", "prim::Print", "prim::PythonOp", "prim::RaiseException"}
    assert operators.KINDS & effects == {"prim::RaiseException"}
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    tensors = {kind for kind in operators.KINDS if kind.startswith("aten::")}
    assert tensors - known == set(), "a name that torch does not know is a slip"
    takes_text = {
        schema.name
        for schema in torch._C._jit_get_all_schemas()
        if schema.name in tensors and any(str(argument.type) == "str" for argument in schema.arguments)
    }
    assert takes_text <= WITH_TEXT, "a text could name a file"


WITH_TEXT = {  # operators that take a text, and what it is
    "aten::__contains__",  # a key
    "aten::__getitem__",  # a key or a place in a text
    "aten::Bool",  # compared with
    "aten::Float",
    "aten::Int",
    "aten::add",  # two texts
    "aten::append",
    "aten::div",  # the way of rounding
    "aten::div_",
    "aten::einsum",  # the equation
    "aten::eq",
    "aten::ne",
    "aten::format",
    "aten::gelu",  # the approximation
    "aten::ge",
    "aten::gt",
    "aten::le",
    "aten::lt",
    "aten::len",
    "aten::meshgrid",
    "aten::mul",
    "aten::pad",  # the mode
    "aten::slice",
    "aten::sort",
    "aten::index",
    "aten::split",
    "aten::_convolution_mode",
    "aten::conv1d",
    "aten::conv2d",
    "aten::conv3d",
    "aten::device",
}


def test_a_pickle_is_read_to_its_end():
    from cxr_dicom.infer.torchscript import pickles

    with pytest.raises(pickles.DamagedPickleError):
        pickles.check(pickle.dumps([1, 2, 3])[:-1], ())
