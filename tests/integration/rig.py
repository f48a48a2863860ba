"""Real servers and viewers on this machine: Orthanc, OHIF, Chromium. For tests and for the playground.

Versions are pinned here. OHIF and playwright-core come from npm, through npm's own settings, into a
cache folder outside of the source tree: ``$CXR_DICOM_CACHE``, else ``~/.cache/cxr-dicom``.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import sysconfig
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

OHIF_VERSIONS = ("3.12.10", "3.13.2")
PLAYWRIGHT_VERSION = "1.65.1"
AXE_VERSION = "4.14.1"
DCMJS_DIMSE_VERSION = "0.3.3"

SCRIPTS = Path(__file__).parent / "ohif"
VIEWPORT = {"width": 960, "height": 700}  # of OHIF's browser: WebGL in software takes time for each pixel
_DICOMWEB_PLUGIN = ("libOrthancDicomWeb.so", "/usr/share/orthanc/plugins", "/usr/lib/orthanc")
_START_SECONDS = 60
_PORTS = range(20_000, 32_768)  # below those of outgoing connections, which come between the question and the use
_PROPOSE = {  # what makes storescu propose a compressed transfer syntax
    JPEGBaseline8Bit: ["-xy"],
    JPEGExtended12Bit: ["-xx"],
    JPEGLosslessSV1: ["-xs"],
    JPEGLSLossless: ["-xt"],
    JPEGLSNearLossless: ["-xu"],
    JPEG2000Lossless: ["-xv"],
    JPEG2000: ["-xw"],
    RLELossless: ["-xr"],
}


class MissingError(Exception):
    """A program that this machine lacks; the text says how to get it."""


class NotRunningError(Exception):
    """A program ended, or does not answer."""


class Archive(NamedTuple):
    """A running Orthanc."""

    url: str  # its own REST interface; DICOMweb is at /dicom-web/
    dicom_port: int
    ae_title: str = "ARCHIVE"

    def store(self, path: Path) -> None:
        """Store one file."""
        request = urllib.request.Request(f"{self.url}/instances", data=path.read_bytes(), method="POST")
        with urllib.request.urlopen(request) as answer:
            json.load(answer)


def cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("CXR_DICOM_CACHE") or Path.home() / ".cache" / "cxr-dicom")


def free_port() -> int:
    """Return a port on the loopback interface that nobody uses."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def orthanc_program() -> str:
    """Return the path of Orthanc."""
    _dicomweb_plugin()
    return program("Orthanc", package="orthanc orthanc-dicomweb")


def node() -> str:
    """Return the path of Node.js."""
    return program("node", "nodejs", package="nodejs npm")


def chromium() -> str:
    """Return the path of the browser."""
    return program("chromium", "chromium-browser", "google-chrome", package="chromium")


def storescu() -> str:
    """Return the path of DCMTK's C-STORE user."""
    return program("storescu", package="dcmtk")


def dcm2json() -> str:
    """Return the path of DCMTK's writer of the DICOM JSON Model."""
    return program("dcm2json", package="dcmtk")


def program(*names: str, package: str) -> str:
    """Return the path of the first of ``names`` that is installed.

    Raises
    ------
    MissingError
        If none is; it names the Debian package.
    """
    own = sysconfig.get_path("scripts")  # pynetdicom brings programs of the same names as DCMTK
    elsewhere = [place for place in os.get_exec_path() if place != own]
    places = os.pathsep.join((*elsewhere, "/usr/sbin", "/usr/local/sbin", "/sbin"))
    for name in names:
        if path := shutil.which(name, path=places):
            return path
    raise MissingError(f"{names[0]} is not installed; on Debian: apt-get install {package}")


@contextmanager
def orthanc(folder: Path, dicom_port: int | None = None) -> Iterator[Archive]:
    """Run Orthanc with DICOMweb on free ports of the loopback interface; it stores into ``folder``."""
    archive, command = orthanc_command(folder, dicom_port)
    with running(command, folder / "orthanc.log", f"{archive.url}/dicom-web/studies"):
        yield archive


def orthanc_command(folder: Path, dicom_port: int | None = None) -> tuple[Archive, list[str]]:
    """Return where an Orthanc will be, and how it is started, any number of times."""
    executable = orthanc_program()
    archive = Archive(f"http://127.0.0.1:{free_port()}", dicom_port or free_port())
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(_orthanc_settings(archive, folder)))
    return archive, [executable, str(settings)]


@contextmanager
def ohif(version: str, archive: Archive, log: Path) -> Iterator[str]:
    """Serve one version of OHIF on ``archive``; yields its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [node(), str(SCRIPTS / "server.mjs"), str(ohif_build(version)), url.rpartition(":")[2], archive.url]
    with running(command, log, f"{url}/app-config.js"):
        yield url


def ohif_build(version: str) -> Path:
    """Return the folder of an OHIF build; fetch it when it is not in the cache."""
    return _fetched(f"@ohif/app@{version}") / "package" / "dist"


def playwright() -> Path:
    """Return the folder of playwright-core, which drives Chromium."""
    return _fetched(f"playwright-core@{PLAYWRIGHT_VERSION}") / "package"


def axe() -> Path:
    """Return the script of axe-core, which looks for what keeps people with disabilities out of a page."""
    return _fetched(f"axe-core@{AXE_VERSION}") / "package" / "axe.min.js"


def dcmjs_dimse() -> Path:
    """Return the folder of dcmjs-dimse, a DICOM network in JavaScript, and of what it depends on."""
    package = f"dcmjs-dimse@{DCMJS_DIMSE_VERSION}"
    folder = cache() / package.replace("@", "-")
    if not folder.is_dir():
        with _new(folder) as scratch:
            options = ["--prefix", str(scratch), "--ignore-scripts", "--no-audit", "--no-fund"]
            _npm("install", package, *options, cwd=scratch)
    return folder / "node_modules"


def _fetched(package: str) -> Path:
    """The unpacked tarball of an npm package, without what it depends on."""
    folder = cache() / package.removeprefix("@").replace("/", "-").replace("@", "-")
    if folder.is_dir():
        return folder
    with _new(folder) as scratch:
        _npm("pack", package, "--pack-destination", str(scratch), cwd=scratch)
        (tarball,) = scratch.glob("*.tgz")
        with tarfile.open(tarball) as archive:
            archive.extractall(scratch, filter="data")
        tarball.unlink()
    return folder


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """Make a folder whose content is there as a whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        yield whole
        whole.replace(folder)


def _npm(action: str, package: str, *options: str, cwd: Path) -> None:
    command = [program("npm", package="npm"), action, package, "--loglevel=error", *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"npm cannot fetch {package}: {' '.join(done.stderr.split())[:300]}")


def _orthanc_settings(archive: Archive, folder: Path) -> dict[str, object]:
    return {
        "Name": archive.ae_title,
        "DicomAet": archive.ae_title,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [_dicomweb_plugin()],
        "HttpPort": int(archive.url.rpartition(":")[2]),
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": archive.dicom_port,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "OverwriteInstances": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado"},
    }


def _dicomweb_plugin() -> str:
    name, *folders = _DICOMWEB_PLUGIN
    folders.append(f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/orthanc")
    for folder in folders:
        if found := sorted(Path(folder).glob(f"{name}*")):
            return str(found[0])
    raise MissingError("the DICOMweb plugin of Orthanc is not installed; on Debian: apt-get install orthanc-dicomweb")


def send(paths: list[Path], port: int, ae_title: str) -> None:
    """Send files by C-STORE to a port of this machine.

    Raises
    ------
    NotRunningError
        If they are not taken.
    """
    for path in paths:
        propose = _PROPOSE.get(str(read_file_meta_info(path).get("TransferSyntaxUID", "")), [])
        command = [storescu(), *propose, "-aet", "MODALITY", "-aec", ae_title, "127.0.0.1", str(port), str(path)]
        sent = subprocess.run(command, capture_output=True, text=True, check=False)
        if sent.returncode:
            raise NotRunningError(f"{ae_title} does not take {path.name} from storescu: {sent.stderr[-1000:]}")


def listens(port: int) -> bool:
    """Whether a port of this machine takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends; a signal to us from the terminal is ours to pass on."""
    with (
        log.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


@contextmanager
def running(command: list[str], log: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the block ends; the block begins when ``url`` answers."""
    with process(command, log) as server:
        _await(url, server, log)
        yield server


def _await(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise NotRunningError(f"{url} does not answer: {log.read_text()[-1000:]}")
