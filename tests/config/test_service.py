"""The settings of the service: explained, strict, and without effect on results."""

import re

import pytest

from cxr_dicom.config import RESULT_TABLES, Settings, load, routes, service, web
from cxr_dicom.errors import SettingsError
from tests import ROOT

PAGE = (ROOT / "docs" / "how-to" / "service-settings.md").read_text(encoding="utf-8")
TABLES = {
    "[spool]": service.SpoolSettings,
    "[listener]": service.ListenerSettings,
    "[listener.tls]": service.ListenerTls,
    "[assembly]": service.AssemblySettings,
    "[assembly.urgent]": routes.UrgentSettings,
    "[service]": service.ServiceSettings,
    "[retry]": service.RetrySettings,
    "[files]": service.FilesSettings,
    "[retention]": service.RetentionSettings,
    "[monitor]": service.MonitorSettings,
    "[web]": web.WebSettings,
    "[web.proxy]": web.ProxySettings,
    "[poller]": service.PollerSettings,
    "[[poller.archives]], kind dicomweb": service.DicomwebArchive,
    "[[poller.archives]], kind query-retrieve": service.QueryRetrieveArchive,
    "[[routes]]": routes.RouteSettings,
    "[[destinations]], kind dicom": service.DicomDestination,
    "[[destinations]], kind dicomweb": service.DicomwebDestination,
    "[[destinations]], kind folder": service.FolderDestination,
    "[destinations.rules]": service.Rules,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_explained(table):
    _, found, section = PAGE.partition(f"### {table}\n")
    assert found, table
    section = section.partition("\n#")[0]
    explained = re.findall(r"^\| `(\w+)` \| ", section, re.MULTILINE)
    assert sorted(explained) == sorted(TABLES[table].model_fields)


def test_where_a_result_goes_does_not_change_it():
    elsewhere = Settings.model_validate(
        {
            "spool": {"folder": "elsewhere"},
            "listener": {"port": 1},
            "destinations": [{"kind": "folder", "name": "x", "path": "y"}],
        }
    )
    assert elsewhere.digest == Settings().digest
    assert set(RESULT_TABLES) < set(Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[listener]\nae_title = "SEVENTEEN_LETTERS"', "listener.ae_title = 'SEVENTEEN_LETTERS'"),
        ('[listener]\nae_title = " A"', "listener.ae_title"),
        ("[listener]\nport = 70000", "listener.port = 70000"),
        ('[listener]\ncalling_addresses = ["pacs.example"]', "listener.calling_addresses.0 = 'pacs.example'"),
        ('[[destinations]]\nkind = "smoke"\nname = "x"', "'smoke'"),
        ('[[destinations]]\nkind = "folder"\nname = "../x"\npath = "y"', "destinations.0.folder.name"),
        ('[[destinations]]\nkind = "folder"\nname = "x"\npath = "y"\n' * 2, "same name"),
        ('[[poller.archives]]\nkind = "dicomweb"\nname = "x"\nurl = "ftp://x"', "'ftp://x'"),
        ("[retention]\nrows_days = 1", "rows_days must not be less"),
        ("[monitor]\nreference_days = 10", "monitor.reference_days"),
        ("[monitor]\nreference_days = 7", "monitor.reference_days"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(tmp_path, text, words):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (".dicomweb.password", 'kind = "dicomweb"\nurl = "https://x"\npassword = "hunter2"'),
        (".dicomweb.url", 'kind = "dicomweb"\nurl = "https://doe:hunter2@x/dicom-web"'),
        (": Unable to extract tag", 'password = "hunter2"'),
    ],
)
def test_a_password_in_the_settings_is_refused_and_not_repeated(tmp_path, key, text):
    path = tmp_path / "c.toml"
    path.write_text(f'[[destinations]]\nname = "x"\n{text}')
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert f"destinations.0{key}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_port_from_the_environment(monkeypatch):
    monkeypatch.setenv("CXR_DICOM_LISTENER__PORT", "104")
    assert load().listener.port == 104
