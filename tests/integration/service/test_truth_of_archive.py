"""``evaluate --from``: what experts say in an archive, by C-GET from DCMTK's and by DICOMweb from Orthanc."""

import json

import pytest
from click.testing import CliRunner
from pydicom import dcmread
from pydicom.uid import generate_uid

from cxr_dicom import synthetic
from cxr_dicom.cli import cli
from tests.service_helpers import free_port


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of ``offline-anatomy``, and its segmentation: as it is, and as readers would send it."""
    images, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("run") / "OUT"
    synthetic.write_study(images, [synthetic.radiograph()])
    assert invoke("run", images, "-o", out, "--models", "offline-anatomy", "--device", "cpu").exit_code == 0
    (row,) = (json.loads(line) for line in (out / "results.jsonl").read_text().splitlines())
    (path,) = (out / each["path"] for each in row["objects"] if each["kind"] == "segmentation")
    drawn = dcmread(path)
    drawn.Manufacturer = "Readers"
    drawn.SeriesInstanceUID, drawn.SOPInstanceUID = generate_uid(), generate_uid()
    drawn.file_meta.MediaStorageSOPInstanceUID = drawn.SOPInstanceUID
    by_readers = tmp_path_factory.mktemp("readers") / "drawn.dcm"
    drawn.save_as(by_readers)
    return out, [path, by_readers]


def structures(finished, *options):
    made = invoke("evaluate", finished[0], *options, "--json")
    assert made.exit_code == 0, made.output
    evaluation = json.loads(made.stdout)
    (source,) = evaluation["sources"]
    assert source["stated"] == 1
    assert source["unmatched"] == {"made by this program, not by an expert": 1}
    return {each["name"]: each["dice"]["value"] for each in evaluation["anatomy"]["structures"]}


PERFECT = dict.fromkeys(("heart", "left_lung", "right_lung"), 1.0)


def test_by_c_get_from_dcmtk(tmp_path, finished, storescu, dcmqrscp):
    port = dcmqrscp(free_port())
    for path in finished[1]:
        assert storescu(port, path, aec="QR", flags=("-R",)).returncode == 0
    config = tmp_path / "settings.toml"
    table = f'kind = "query-retrieve"\nname = "pacs"\naddress = "127.0.0.1"\nport = {port}\nae_title = "QR"\n'
    config.write_text(f"[[poller.archives]]\n{table}")
    assert structures(finished, "--from", "pacs", "--config", config) == PERFECT
    config.write_text(f'[[poller.archives]]\n{table}retrieve = "move"\n')
    made = invoke("evaluate", finished[0], "--from", "pacs", "--config", config)
    assert (made.exit_code, "C-MOVE sends to a listener" in made.output) == (2, True)


def test_by_dicomweb_from_orthanc(finished, storescu, orthanc):
    pacs = orthanc(free_port())
    for path in finished[1]:
        assert storescu(pacs.dicom_port, path, aec="ORTHANC", flags=("-R",)).returncode == 0
    assert structures(finished, "--from", f"{pacs.url}/dicom-web") == PERFECT


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("nobody", "neither a URL nor an archive of [poller]: none"),
        ("http://doe:secret@127.0.0.1/", "without user and password"),
        ("http://127.0.0.1:9/dicom-web", "127.0.0.1:9"),
    ],
)
def test_an_archive_that_is_none_is_refused(finished, origin, said, monkeypatch):
    monkeypatch.setattr("cxr_dicom.ingest.manifest.attempts.ATTEMPTS", 1)
    made = invoke("evaluate", finished[0], "--from", origin)
    assert made.exit_code == 2
    assert said in made.output
    assert "secret" not in made.output.replace(origin, "")
