"""Settings and manifests that nobody thought of: understood, or refused by name in an error of ours."""

from io import BytesIO

import pyarrow
import pytest
from pyarrow import parquet

from cxr_dicom import config
from cxr_dicom.config import Settings
from cxr_dicom.errors import FetchError, ManifestError, SettingsError
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import idc
from tests.fuzzing import damaged, fuzz

SETTINGS = [
    b'[models]\nnames = ["offline-anatomy"]\ndevice = "cpu"\n[models.sha256]\nage = "00"\n',
    b'[spool]\nfolder = "x"\nmin_free_mb = 1\n[service]\nworkers = 2\nstudy_seconds = 1e3\nworker_memory_mb = 4096\n',
    b'[[destinations]]\nkind = "folder"\nname = "x"\npath = "y"\nshared = true\n',
    b'[[destinations]]\nkind = "folder"\nname = "x"\npath = "y"\n[destinations.rules]\nmodalities = ["CR"]\n',
    b'[listener]\nport = 104\ncalling_addresses = ["10.0.0.0/8"]\n[listener.tls]\ncertificate = "c"\nkey = "k"\n',
    b'[[poller.archives]]\nkind = "dicomweb"\nname = "a"\nurl = "https://a.example/b"\ntoken_command = ["cat"]\n',
]


def packed(compression, *, has_dictionary):
    columns = {"path": ["a.dcm", "b.dcm", "b.dcm", None], "PatientAge": [45, None, 3, 4]}
    made = BytesIO()
    parquet.write_table(pyarrow.table(columns), made, compression=compression, use_dictionary=has_dictionary)
    return made.getvalue()


MANIFESTS = {
    "table.csv": [
        b'path,study\n"a.dcm",1.2\nb.dcm,1.3\n',
        b"\xef\xbb\xbfpath;x\r\na.dcm;1\r\n",
        b"SeriesInstanceUID\n1.2.3\n",
    ],
    "list.txt": [b"a.dcm\n# comment\n\nb.dcm\n", b"a.dcm\0b.dcm\r\n", "é.dcm\n".encode("latin-1")],
    "lines.jsonl": [b'{"path": "a.dcm"}\n{"path": null}\n', b'[{"path": {"a": [1e999]}}]'],
    "table.parquet": [
        b"PAR1" + bytes(40) + b"PAR1",
        *(packed(each, has_dictionary=is_with) for each in ("none", "gzip") for is_with in (True, False)),
    ],
}


def test_settings(tmp_path):
    path = tmp_path / "cxr-dicom.toml"

    def check(content):
        path.write_bytes(content)
        try:
            found = config.load(path)
        except SettingsError:
            return
        assert isinstance(found, Settings)
        assert len(found.digest) == 64

    fuzz(check, damaged(SETTINGS), examples=120)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(idc, "index", lambda: None)  # of a million rows
    path = tmp_path / name

    def check(content):
        path.write_bytes(content)
        try:
            found = manifest.read(str(path))
        except (ManifestError, FetchError):
            return
        assert all(entry.key for entry in found.entries)

    fuzz(check, damaged(MANIFESTS[name]), examples=60)
