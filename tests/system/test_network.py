import ssl
import sys

import pytest
from pynetdicom.sop_class import Verification

from cxr_dicom.config import Settings
from cxr_dicom.config.service import HttpAccess, ListenerTls
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import ConnectionFailedError, SettingsError
from cxr_dicom.system.network import server_tls, session
from tests.service_helpers import associated, certificate, free_port, listening


@pytest.fixture
def tls(tmp_path):
    """Give an authority, and a listener's and a client's certificate that it signed."""
    authority = certificate(tmp_path, "authority")
    server = certificate(tmp_path, "server", authority=authority)
    client, key = certificate(tmp_path, "client", authority=authority)
    both = tmp_path / "both.pem"
    both.write_text(client.read_text() + key.read_text())
    return {"authority": authority, "ca": authority[0], "server": server, "client": both, "folder": tmp_path}


def destination(port, **more):
    access = {"kind": "dicom", "name": "p", "address": "127.0.0.1", "port": port, "ae_title": "CXRDICOM", **more}
    made = Settings.model_validate({"destinations": [{"timeout_seconds": 3, **access}]}).destinations[0]
    return build_destination(made, lambda uid: None)


def test_mutual_tls_to_a_peer(tls):
    server, key = tls["server"]
    listener = {"tls": {"certificate": server, "key": key, "ca": tls["ca"]}}
    with listening(tls["folder"] / "spool", listener=listener) as here:
        trusted = {"tls": True, "ca": tls["ca"], "client_certificate": tls["client"]}
        assert destination(here.port, **trusted).check() == "answers C-ECHO"
        for lacking in ({"tls": True, "ca": tls["ca"]}, {"tls": True}, {}):
            with pytest.raises(ConnectionFailedError):
                destination(here.port, **lacking).check()


def test_an_expired_certificate_is_not_accepted(tls):
    folder = tls["folder"]
    server, server_key = tls["server"]
    expired = ssl.create_default_context(cafile=tls["ca"])
    expired.load_cert_chain(*certificate(folder, "expired", authority=tls["authority"], expired=True))
    listener = {"tls": {"certificate": server, "key": server_key, "ca": tls["ca"]}}
    with (
        listening(folder / "spool", listener=listener) as here,
        associated(here.port, Verification, tls=expired) as association,
    ):
        assert not association.is_established


def test_a_certificate_that_is_missing_names_the_setting(tmp_path):
    with pytest.raises(SettingsError, match=r"listener\.tls"):
        server_tls(ListenerTls(certificate=tmp_path / "none.pem", key=tmp_path / "none.key"))


def test_nobody_there():
    with pytest.raises(ConnectionFailedError, match="UNREACHABLE"):
        destination(free_port()).check()


@pytest.mark.parametrize("how", ["file", "command"])
def test_a_bearer_token(tmp_path, how):
    (tmp_path / "token").write_text("s3cret\n")
    given = (
        {"token_file": tmp_path / "token"}
        if how == "file"
        else {"token_command": (sys.executable, "-c", "print('s3cret')")}
    )
    with session(HttpAccess(url="https://pacs.example", **given)) as opened:
        assert opened.headers["Authorization"] == "Bearer s3cret"


def test_a_token_that_cannot_be_read_is_named_without_its_content(tmp_path):
    access = HttpAccess(url="https://pacs.example", token_file=tmp_path / "none")
    with pytest.raises(SettingsError, match="none"), session(access):
        pass


def test_basic_authentication(tmp_path):
    (tmp_path / "password").write_text("p\n")
    access = HttpAccess(url="https://pacs.example", username="u", password_file=tmp_path / "password")
    with session(access) as opened:
        assert opened.auth == ("u", "p")
