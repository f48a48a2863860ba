"""The commands about models and weights, as a user types them."""

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchxrayvision as xrv
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.infer import model_infos

NAME = "xrv-densenet121-rsna"


def models(*arguments):
    return CliRunner().invoke(cli, ["models", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A folder with one upstream file."""
    folder = tmp_path_factory.mktemp("release")
    torch.manual_seed(0)
    file = folder / model_infos()[NAME].weights_file
    torch.save(xrv.models.DenseNet(num_classes=18), file, _use_new_zipfile_serialization=False)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(release, monkeypatch, tmp_path):
    """A server of that folder, in the environment of the command; and a home folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=release))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXR_DICOM_MODELS__MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_list_names_every_model_and_says_what_is_here(mirror):
    listed = models("list")
    assert listed.exit_code == 0
    for name in model_infos():
        assert f"{name} " in listed.output
    assert "missing" in next(line for line in listed.output.splitlines() if line.startswith(NAME))
    models("pull", NAME)
    line = next(line for line in models("list").output.splitlines() if line.startswith(NAME))
    assert " MB" in line
    assert "missing" not in line


def test_list_long_tells_labels_file_licence_and_citation(mirror):
    info = model_infos()["cxas"]
    text = models("list", "cxas", "--long").output
    for expected in (info.weights_file, info.licence, info.citation, "512 x 512", "159: ", "right_anterior_5th_rib"):
        assert expected in text


def test_list_json_is_one_object_for_each_model(mirror):
    rows = [json.loads(line) for line in models("list", "--json").output.splitlines()]
    assert {row["name"] for row in rows} == set(model_infos())
    assert all(row["is_present"] == (row["weights_file"] is None) for row in rows)


def test_list_loads_nothing_heavy(mirror):
    code = (
        "import sys; from cxr_dicom.cli import cli; cli(['models', 'list'], standalone_mode=False); "
        "sys.exit(', '.join({'torch', 'torchvision', 'torchxrayvision', 'highdicom'} & set(sys.modules)) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_path_prints_the_folder_or_the_place_of_a_file(mirror, tmp_path):
    folder = tmp_path / "home" / ".torchxrayvision" / "models_data"
    assert models("path").output.strip() == str(folder)
    assert models("path", NAME).output.strip() == str(folder / model_infos()[NAME].weights_file)


def test_pull_verify_export_import(mirror, release, tmp_path, monkeypatch):
    """From a server to a machine without a network, and the same weights there."""
    pulled = models("pull", NAME)
    assert pulled.exit_code == 0, pulled.output
    assert "licence: Apache-2.0" in pulled.output
    assert "already here" in models("pull", NAME).output
    verified = models("verify")
    assert verified.exit_code == 0, verified.output
    digest = verified.output.split()[-1]
    assert digest in pulled.output
    exported = models("export", tmp_path / "weights.tar", NAME)
    assert exported.exit_code == 0, exported.output
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    imported = models("import", tmp_path / "weights.tar")
    assert imported.exit_code == 0, imported.output
    made = exported.output.split()[-2]
    assert models("verify", NAME).output.split() == [f"{NAME}:", made], "the digest of what is here, and was checked"
    assert made != digest


def test_pull_to_a_folder(mirror, tmp_path):
    models("pull", NAME, "--dest", tmp_path / "there")
    assert (tmp_path / "there" / model_infos()[NAME].weights_file).exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("pull",), "give the names of models, or --all"),
        (("pull", "nothing"), "'nothing' is not one of"),
        (("pull", "chexpert"), "academictorrents"),
        (("pull", "view"), "404"),
        (("verify",), "no weights are here"),
        (("verify", NAME), "weights are missing"),
        (("export", "weights.tar"), "no weights are here"),
        (("import", __file__), "expected a tar file"),
        (("path", "ensemble"), "in the package"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(arguments, expected, mirror):
    refused = models(*arguments)
    assert refused.exit_code == 2
    assert expected in refused.output
    assert "Traceback" not in refused.output


def test_verify_finds_a_swapped_file(mirror, tmp_path):
    models("pull", NAME)
    models("verify")
    place = tmp_path / "home" / ".torchxrayvision" / "models_data" / model_infos()[NAME].weights_file
    place.write_bytes(b"swapped")
    refused = models("verify")
    assert refused.exit_code == 2
    assert "expected SHA-256" in refused.output
