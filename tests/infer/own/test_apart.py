"""The process in which networks of the user's run: what it cannot do, what of it is believed, and that it may die."""

import gc
import io
import json
import mmap
import os
import pickle
import platform
import signal
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from cxr_dicom.errors import ModelError, SettingsError
from cxr_dicom.infer.own import apart, messages
from cxr_dicom.system import confinement
from tests.infer.onnx import hostile_onnx
from tests.infer.own import networks
from tests.infer.own.networks import masks, scores, table

TRIES = """
import os, socket
from pathlib import Path
def wrote(path): path.write_text("ran")
could = []
for name, attempt in {{
    "here": lambda: wrote(Path("ran")),
    "temporary": lambda: wrote(Path({temporary!r}) / "ran"),
    "home": lambda: wrote(Path.home() / "ran-cxr"),
    "model": lambda: wrote(Path({folder!r}) / "ran"),
    "TCP": lambda: socket.create_connection(("127.0.0.1", 1)),
    "UDP": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "kill": lambda: os.kill(os.getppid(), 0),
    "its memory": lambda: open(f"/proc/{{os.getppid()}}/mem", "r+b"),
    "descriptors": lambda: os.write(3, b"ran") if os.readlink("/proc/self/fd/3").startswith("/") else 1 / 0,
    "read": lambda: Path("/etc/hostname").exists(),
}}.items():
    try:
        attempt()
        could.append(name)
    except (OSError, ZeroDivisionError):
        continue
from cxr_dicom.errors import ModelError, SettingsError
raise ModelError(f"could: {{', '.join(could)}}")
"""

FAULTS = """
import resource
from cxr_dicom.errors import ModelError
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray({size})
before = faults()
for _ in range(5): bytearray({size})
raise ModelError(f"faults: {{faults() - before}}")
"""


class Escaped:
    """Stands for a network that got round every check of its file."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return exec, (TRIES.format(folder=str(self.folder), temporary=tempfile.gettempdir()), {})


@pytest.fixture
def own_process(monkeypatch):
    """A process of this test's own."""
    process = apart._Process()
    monkeypatch.setattr(apart, "_process", process)
    yield process
    process.end()


@pytest.mark.skipif(confinement.version() < 6, reason="needs Landlock of Linux 6.12")
def test_what_got_round_every_check_can_read_and_nothing_else(tmp_path, own_process):
    packed = np.frombuffer(pickle.dumps(Escaped(tmp_path)), np.uint8)
    with pytest.raises(ModelError, match=r"^could: read$"):
        own_process.load("mine", packed)
    assert not list(tmp_path.iterdir())


class Large:
    """Stands for a network with large arrays."""

    SIZE = 64 << 20

    def __reduce__(self):
        return exec, (FAULTS.format(size=self.SIZE), {})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept by glibc only")
def test_it_keeps_the_memory_of_large_arrays(own_process):
    with pytest.raises(ModelError, match=r"^faults: \d+$") as counted:
        own_process.load("mine", np.frombuffer(pickle.dumps(Large()), np.uint8))
    assert int(str(counted.value).split()[-1]) < 5 * Large.SIZE // mmap.PAGESIZE // 100


def header(content):
    return struct.pack("<I", len(content)) + content


NO_MESSAGES = {
    "nothing": b"",
    "a pickle": pickle.dumps(Escaped("/nowhere")),
    "a pickle as header": header(pickle.dumps({})),
    "objects": header(json.dumps([{}, [["a", "|O", [1]]]]).encode()) + bytes(8),
    "a negative length": header(json.dumps([{}, [["a", "<f4", [-1]], ["b", "<f4", [1]]]]).encode()),
    "more than memory": header(json.dumps([{}, [["a", "<f4", [2**40, 2**40]]]]).encode()),
    "a header without end": struct.pack("<I", 2**31),
    "brackets": header(b"[" * 100_000),
    "too many": header(json.dumps([{}, [["a", "<f4", [0]]] * 65]).encode()),
    "fields": header(json.dumps([{}, [["a", "V8", [1]]]]).encode()) + bytes(8),
    "text for a length": header(json.dumps([{}, [["a", "<f4", ["many"]]]]).encode()),
    "no number": header(json.dumps([{}, [["a", "<f4", [float("inf")]]]]).encode()),
    "half": header(json.dumps([{}, [["a", "<f4", [3]]]]).encode()) + bytes(11),
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_what_is_no_message_is_never_taken_for_one(name):
    with pytest.raises(messages.BrokenMessageError):
        messages.receive(io.BytesIO(NO_MESSAGES[name]))


def test_arrays_arrive_as_they_were_sent():
    sent = {
        kind: np.arange(6).astype(kind).reshape(shape) for kind, shape in (("f2", (2, 3)), ("?", (6, 1)), (">i8", (6,)))
    }
    sent |= {"none": np.zeros((0, 4), np.float32), "one": np.float32(7).reshape(())}
    stream = io.BytesIO()
    messages.send(stream, {"do": "ä"}, sent)
    stream.seek(0)
    said, found = messages.receive(stream)
    assert said == {"do": "ä"}
    assert {name: each.tolist() for name, each in found.items()} == {name: each.tolist() for name, each in sent.items()}
    assert all(found[name].dtype == sent[name].dtype and found[name].shape == sent[name].shape for name in sent)


def test_a_process_that_lies_is_made_again_once(own_process, monkeypatch):
    started = []

    def liar():
        said = f"sys.stdout.buffer.write({NO_MESSAGES['a pickle']!r})"
        lie = f"import sys, time; {said}; sys.stdout.flush(); time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", lie], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(apart, "_started", liar)
    with pytest.raises(
        ModelError, match=r"^mine: the process of the network gave no answer that can be read, 2 times$"
    ):
        own_process.load("mine", np.zeros(1, np.uint8))
    assert [each.poll() for each in started] == [-signal.SIGKILL] * 2


def test_one_that_is_killed_is_made_again_and_says_the_same(tmp_path, build, own_process, dx):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    model, other = (build(table(path, scores("a", "b", "c"))) for _ in range(2))
    first = [finding.raw for finding in model.predict(dx, ()).findings]
    os.kill(own_process._started.pid, signal.SIGKILL)
    assert [finding.raw for finding in other.predict(dx, ()).findings] == first
    assert [finding.raw for finding in model.predict(dx, ()).findings] == first
    del model
    gc.collect()
    assert len(own_process._loaded) == 1, "its memory goes with it"
    child = own_process._started
    child.stdin.close()  # as where this process dies
    assert child.wait(10) == 0


def test_one_that_a_network_kills_each_time_is_a_failure_of_that_image(tmp_path, build, own_process, monkeypatch, dx):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    model = build(table(path, scores("a", "b", "c")))
    send = messages.send

    def kills(stream, said, arrays):
        if said["do"] == "compute":
            own_process._started.kill()
        send(stream, said, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(messages, "send", kills)
        with pytest.raises(ModelError, match=r"^mine: the process of the network was killed by SIGKILL, 2 times$"):
            model.predict(dx, ())
    assert model.predict(dx, ()).findings


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors answer something")
def test_a_file_that_ends_its_runtime_is_refused_in_one_line(tmp_path, build):
    """The least whole number by -1 is more than there is: the processor ends ONNX Runtime (SIGFPE on x86)."""
    nodes = [
        hostile_onnx.node("Cast", ("pixels",), ("whole",), to=7),
        hostile_onnx.node("Mul", ("whole", "zero"), ("none",)),
        hostile_onnx.node("Add", ("none", "least"), ("all",)),
        hostile_onnx.node("Div", ("all", "less"), ("more",)),
        hostile_onnx.node("Cast", ("more",), ("out",), to=1),
    ]
    numbers = (("zero", 0), ("least", -(2**63)), ("less", -1))
    path = tmp_path / "network.onnx"
    weights = [hostile_onnx.numbers(name, value) for name, value in numbers]
    path.write_bytes(hostile_onnx.well(nodes, weights).SerializeToString())
    with pytest.raises(
        SettingsError, match=r"^models\.own: mine: the process of the network was killed by \w+, 2 times$"
    ):
        build(table(path, masks("heart")))
