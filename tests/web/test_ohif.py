"""OHIF is brought as one pinned file, unpacked with suspicion, and served under its own policy."""

import io
import tarfile

import pytest
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.web import view
from cxr_dicom.web.ohif import install
from tests.service_helpers import free_port
from tests.web import helpers

INDEX = (
    b'<html><head><script>inline()</script><script rel="preload" src="/app-config.js"></script>'
    b'<link href="/app.bundle.css" rel="stylesheet"><link rel="manifest" href="https://elsewhere.example/m.json">'
    b'<script defer src="/app.bundle.0f.js"></script><script src="https://elsewhere.example/x.js"></script></head></html>'
)
FILES = {
    "index.html": INDEX,
    "app.bundle.0f.js": b'r.p = "/";load(r.p + "1.js")',
    "app.bundle.css": b"a{src:url(/f.woff2)}b{src:url('/g.png')}c{src:url(data:x/y)}",
    "app.bundle.0f.js.map": b"map",
    "sw.js": b"worker",
    "init-service-worker.js": b"worker",
    "ort/ort.wasm": b"onnx",
    "dicom-microscopy-viewer/x.js": b"slides",
    "assets/images/a.png": b"picture",
}
KEPT = ["app.bundle.0f.js", "app.bundle.css", "assets/images/a.png", "index.html"]


def tarball(path, *odd, files=FILES):
    """Write what `npm pack` does; ``odd`` are members as they are."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in odd:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name, kind=tarfile.REGTYPE, target="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_what_is_needed_is_unpacked(tmp_path):
    install.unpack(tarball(tmp_path / "a.tgz", member("package/package.json")), tmp_path / "data" / "ohif")
    found = (path for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path / "data" / "ohif").as_posix() for path in found) == KEPT


@pytest.mark.parametrize(
    "odd",
    [
        member("../x.js"),
        member("package/dist/../../../x.js"),
        member("/package/dist/x.js"),
        member("package/dist/a\\..\\x.js"),
        member("package/dist/C:x.js"),
        member("package/dist/x\x1b[2J.js"),
        member("elsewhere/x.js"),
        member("package/dist/x.js", tarfile.SYMTYPE, "/etc/passwd"),
        member("package/dist/x.js", tarfile.LNKTYPE, "package/dist/index.html"),
        member("package/dist/x.js", tarfile.FIFOTYPE),
        member("package/dist/x.js", tarfile.CHRTYPE),
        member("package/dist/index.html"),
        member("package/dist/index.html/x.js"),
    ],
    ids=lambda each: repr((each.name, each.type)),
)
def test_a_tarball_with_tricks_leaves_nothing(tmp_path, odd):
    source = tarball(tmp_path / "a.tgz", odd)
    with pytest.raises(CxrDicomError) as refused:
        install.unpack(source, tmp_path / "data" / "ohif")
    assert "\x1b" not in str(refused.value)
    assert [path for path in tmp_path.rglob("*") if path not in (source, tmp_path / "data")] == []


def test_a_tarball_without_end_ends_at_the_bound(tmp_path, monkeypatch):
    source = tarball(tmp_path / "a.tgz", member("package/dist/big.wasm", size=2 << 20))
    monkeypatch.setattr(install, "_MAX_BYTES", 1 << 20)
    with pytest.raises(CxrDicomError, match="at most"):
        install.unpack(source, tmp_path / "data" / "ohif")
    monkeypatch.undo()
    monkeypatch.setattr(install, "_MAX_MEMBERS", 3)
    with pytest.raises(CxrDicomError, match="at most 3 files"):
        install.unpack(source, tmp_path / "data" / "ohif")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
def test_what_is_no_tarball_is_refused(tmp_path, content):
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(CxrDicomError):
        install.unpack(tmp_path / "a.tgz", tmp_path / "data" / "ohif")


def test_another_digest_than_the_pinned_one_is_refused(tmp_path, home):
    done = CliRunner().invoke(cli, ["viewer", "install", str(tarball(tmp_path / "a.tgz"))])
    assert done.exit_code == 2
    assert f"expected @ohif/app {install.VERSION} with SHA-256 {install.SHA256}, got" in done.output
    assert not home.exists()


def test_the_pinned_digest_is_installed_beside_the_weights_and_view_finds_it(tmp_path, home, monkeypatch):
    source = tarball(tmp_path / "a.tgz")
    monkeypatch.setattr(install, "SHA256", install.sha256(source))
    done = CliRunner().invoke(cli, ["viewer", "install", str(source)])
    folder = home / ".torchxrayvision" / f"ohif-{install.VERSION}"
    assert (done.exit_code, done.output) == (0, f"@ohif/app {install.VERSION}: {folder}\n")
    assert view.installed() == folder


def test_without_npm_it_is_said_what_to_do(home, monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(cli, ["viewer", "install"])
    assert done.exit_code == 2
    assert f"npm pack @ohif/app@{install.VERSION}" in done.output


@pytest.fixture
def client(tmp_path):
    install.unpack(tarball(tmp_path / "a.tgz"), tmp_path / "ohif")
    (tmp_path / "secret.js").write_text("secret")
    (tmp_path / "ohif" / "link.js").symlink_to(tmp_path / "secret.js")
    objects = [
        {
            "kind": kind,
            "path": f"{kind}.dcm",
            "sop_instance_uid": f"1.2.{number}",
            "series_instance_uid": f"1.3.{number}",
        }
        for number, kind in enumerate(("segmentation", "key_object_selection"))
    ]
    out = helpers.write_out(tmp_path / "out", [helpers.row(objects=objects)])
    for each in objects:
        (out / each["path"]).write_bytes(b"DICM")
    with helpers.served(view.pages_of(out, free_port(), tmp_path / "ohif")) as client:
        yield client


def test_ohif_is_served_under_a_policy_of_its_own_to_those_who_may_look(client):
    assert client.get("/ohif/viewer").status == 401
    page = client.enter().get("/ohif/viewer?StudyInstanceUIDs=1.2")
    assert page.status == 200
    assert "inline" not in page.text
    assert "elsewhere" not in page.text
    assert '<script defer src="/ohif/app.bundle.0f.js">' in page.text
    policy = page.headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    own = client.get("/studies").headers
    assert "unsafe" not in own["content-security-policy"]
    assert "cross-origin-embedder-policy" not in own


@pytest.mark.parametrize("place", ["", "viewer", "viewer/cxr-dicom", "segmentation", "local", "notfoundstudy"])
def test_every_place_within_ohif_can_be_loaded_anew(client, place):
    assert client.get(f"/ohif/{place}?StudyInstanceUIDs=1.2").status == 401
    page = client.enter().get(f"/ohif/{place}?StudyInstanceUIDs=1.2")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "/ohif/app.bundle.0f.js" in page.text


def test_bundles_are_told_where_the_others_lie_and_no_other_file_is_had(client):
    client.enter()
    assert client.get("/ohif/app.bundle.0f.js").text == 'r.p = "/ohif/";load(r.p + "1.js")'
    css = "a{src:url(/ohif/f.woff2)}b{src:url('/ohif/g.png')}c{src:url(data:x/y)}"
    assert client.get("/ohif/app.bundle.css").text == css
    assert "/dicom-web" in client.get("/ohif/app-config.js").text
    assert client.get("/ohif/assets/images/a.png").content == b"picture"
    for name in ("link.js", "../secret.js", "%2e%2e/secret.js", "..%2fsecret.js", "nothing.js"):
        assert client.get(f"/ohif/{name}").status == 404, name


def test_each_object_that_ohif_shows_has_its_link(client, tmp_path):
    page = client.enter().get("/studies/1.2.826.0.1").text
    assert "/ohif/viewer?StudyInstanceUIDs=1.2.826.0.1&amp;initialSeriesInstanceUID=1.3.0" in page
    assert page.count("Open in OHIF") == 1
    with helpers.shown(tmp_path / "out") as without:
        assert "OHIF" not in without.enter().get("/studies/1.2.826.0.1").text


def test_a_folder_without_ohif_is_refused(tmp_path):
    out = helpers.write_out(tmp_path / "out", [helpers.row()])
    with pytest.raises(CxrDicomError, match="expected a build of OHIF"):
        view.pages_of(out, free_port(), tmp_path)
