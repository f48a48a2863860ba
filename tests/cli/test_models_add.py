"""`models add`: what a file says, what is asked, and what is written, as the page shows it."""

import re
import shlex
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image

from cxr_dicom import synthetic
from cxr_dicom.cli import _asked
from cxr_dicom.config import load
from tests import ROOT
from tests.infer.own import bundles, networks

PAGE = (ROOT / "docs" / "how-to" / "your-own-model.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Add it")[2].partition("\n## ")[0]
STEPS = [
    shlex.split(line)[1:]
    for block in re.findall(r"^```bash\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", " ").splitlines()
]
SAID = ("--range", "0,1", "--licence", "MIT", "--citation", "nobody")
MINE = b'# of my site\r\n[models]  # which run\nnames = ["auto"]\n\n[[models.own]]\nname = "other"  # keep me\n'
MINE += b'file = "other.onnx"\ninput = { size = 64, range = [0.0, 1.0] }\nlicence = "MIT"\ncitation = "me"\n'
MINE += (
    b'output = { kind = "scores", activation = "none", labels = [{ name = "mass" }] }\n[select]\nno_lungs = "process"'
)


class Constant(torch.nn.Module):
    """Sees nothing."""

    def __init__(self, value, outputs=3):
        super().__init__()
        self.value, self.outputs = value, outputs

    def forward(self, pixels):
        return pixels.mean(dim=(2, 3)).expand(-1, self.outputs) * 0 + self.value


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def added(invoke, *arguments):
    return invoke("models", "add", *arguments)


def test_the_steps_of_the_page(here, invoke):
    networks.export(networks.made(networks.Classifier, outputs=1), here / "pneumothorax.onnx")
    synthetic.write_study(here / "images", [synthetic.radiograph()])
    done = [invoke(*step) for step in STEPS]
    assert [each.exit_code for each in done] == [0, 2, 0, 0, 0], [each.output for each in done]
    for option in ("--range", "--kind", "--activation", "--labels (1 names", "--licence", "--citation"):
        assert option in done[1].output
    assert "--size" not in done[1].output, "the file says it"
    assert re.search(r"tried on RG1_UNCR\.dcm:\n  pneumothorax: 0\.\d{4}, (present|absent)\n", done[2].output)
    with Image.open(here / "pneumothorax.png") as picture:
        assert min(picture.size) > 900
    (own,) = load(here / "cxr-dicom.toml").models.own
    assert own.sha256[:16] in done[3].output
    assert own.sha256 in invoke("models", "card", "pneumothorax", "--config", "cxr-dicom.toml").output
    assert "pneumothorax" in (here / "out" / "results.csv").read_text()
    assert not list(here.glob("*.lock.json")), "a pinned file needs no record"


def test_a_table_goes_to_the_end_and_the_bytes_before_it_stay(here, invoke):
    (here / "site.toml").write_bytes(MINE)
    (here / "site.toml").chmod(0o640)
    (here / "link.toml").symlink_to(here / "site.toml")
    networks.export(networks.made(networks.Segmenter, outputs=3), here / "masks.onnx", dynamic=True)
    given = ("--size", "64", "--kind", "masks", "--activation", "softmax", "--labels", ",Right lung,heart")
    done = added(invoke, "masks.onnx", "--config", "link.toml", *SAID, *given)
    assert done.exit_code == 0, done.output
    after = (here / "site.toml").read_bytes()
    assert after.startswith(MINE)
    assert (here / "link.toml").is_symlink()
    assert (here / "site.toml").stat().st_mode & 0o777 == 0o640
    _, own = load(here / "site.toml").models.own
    assert [label.name for label in own.labels] == ["", "right_lung", "heart"]
    again = added(invoke, "masks.onnx", "--config", "link.toml", *SAID, *given)
    assert again.exit_code == 2
    assert "has a model 'masks' already" in again.output
    assert (here / "site.toml").read_bytes() == after


@pytest.mark.parametrize("text", ["models = { names = ['auto'] }\n", "models.own = []\n", "a = \n", ""])
def test_settings_that_cannot_take_a_table_stay_as_they_are(text, here, invoke):
    (here / "site.toml").write_text(text)
    networks.export(networks.made(networks.Classifier), here / "a.onnx")
    given = ("--kind", "scores", "--activation", "sigmoid", "--labels", "a,b,c")
    done = added(invoke, "a.onnx", "--config", "site.toml", *SAID, *given)
    assert done.exit_code == (0 if text == "" else 2), done.output
    assert done.output.count("Error") <= 1
    if text:
        assert (here / "site.toml").read_text() == text


def test_a_person_is_asked_what_the_file_does_not_say(here, invoke, monkeypatch):
    from click.testing import CliRunner

    from cxr_dicom.cli import cli

    monkeypatch.setattr(_asked, "is_terminal", lambda: True)
    torch.jit.trace(networks.made(networks.Classifier), torch.rand(1, 1, 64, 64)).save(here / "my net.pt")
    answers = ["64", "0", "0 1", "scores", "sigmoid", "Effusion=0.3,cavity=x", "Effusion=0.3,cavity,", "MIT", "me"]
    done = CliRunner().invoke(cli, ["models", "add", "my net.pt"], input="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    assert "expected two numbers, got 1" in done.output
    assert "expected a number as operating point, got 'x'" in done.output
    (table,) = tomllib.loads(done.stdout[done.stdout.index("[[models.own]]") :])["models"]["own"]
    assert table["name"] == "my-net"
    assert table["output"]["labels"] == [
        {"name": "pleural_effusion", "operating_point": 0.3},
        {"name": "cavity"},
        {"name": ""},
    ]


def test_a_bundle_says_nearly_all_and_its_network_lies_beside_the_archive(here, invoke, confined):
    archive = bundles.zipped(bundles.write(here / "chest"), here / "chest.zip")
    (here / "site.toml").touch()
    done = added(invoke, archive, "--config", "site.toml", "--activation", "softmax")
    assert done.exit_code == 0, done.output
    assert confined == [{here, Path(tempfile.gettempdir())}]
    (own,) = load(here / "site.toml").models.own
    assert own.file == here / "chest.ts"
    assert own.file.read_bytes() == (here / "chest" / "models" / "model.ts").read_bytes()
    assert [label.name for label in own.labels] == ["", "right_lung", "heart"]
    own.file.write_bytes(b"mine")
    again = added(invoke, archive, "--name", "other", "--activation", "softmax")
    assert "is there already, with something else" in again.output
    assert own.file.read_bytes() == b"mine"
    refused = added(invoke, bundles.write(here / "evil", inference=bundles.IMPORTS), "--activation", "softmax")
    assert refused.exit_code == 2
    assert len(refused.output.splitlines()) == 1
    assert not (here / "ran").exists()


DOUBTFUL = {
    "the same for all": (Constant(0.3), "all 3 scores are 0.5744"),
    "near a half": (Constant(0.0), "every score is near 0.5"),
    "nothing but 0 and 1": (Constant(50.0), "every score is 0 or 1"),
    "blind": (Constant(torch.tensor([0.1, 1.0, 2.0])), "it says the same of a black picture"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_does_not_look_like_a_result_is_said(case, here, invoke):
    network, expected = DOUBTFUL[case]
    torch.jit.trace(network, torch.rand(1, 1, 64, 64)).save(here / "a.pt")
    given = ("--size", "64", "--channels", "1", "--kind", "scores", "--activation", "sigmoid", "--labels", "a,b,c")
    done = added(invoke, "a.pt", *SAID, *given)
    assert done.exit_code == 0, done.output
    assert f"DOUBTFUL: {expected}" in done.output


def test_what_cannot_be_written_or_is_no_file_is_one_line(here, invoke):
    networks.export(networks.made(networks.Classifier), here / "a.onnx")
    (here / "pipe.onnx").symlink_to("/dev/zero")
    given = ("--kind", "scores", "--activation", "sigmoid", "--labels", "a,b,c", *SAID)
    for arguments, expected in (
        (("a.onnx", "--picture", "/proc/here/a.png"), "/proc/here: No such file or directory"),
        (("a.onnx", "--config", "nowhere.toml"), "nowhere.toml: "),
        (("a.onnx", "--name", "view"), "'view' is a model of this package"),
        (("pipe.onnx",), "expected a file that ends in .onnx"),
        ((".",), "found no configs/metadata.json"),
    ):
        done = added(invoke, *arguments, *given)
        assert done.exit_code == 2, done.output
        assert expected in done.output.splitlines()[-1]


def test_logits_that_are_said_to_be_probabilities_are_not_added(here, invoke):
    (here / "site.toml").touch()
    archive = bundles.zipped(bundles.write(here / "chest"), here / "chest.zip")
    done = added(invoke, archive, "--config", "site.toml", "--activation", "none")
    assert done.exit_code == 2
    assert "expected 0 to 1, got" in done.output
    assert "if these are logits, it is sigmoid or softmax" in done.output
    assert (here / "site.toml").read_text() == ""
    assert not (here / "chest.ts").exists(), "what was taken out of the archive is gone again"
