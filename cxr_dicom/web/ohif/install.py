"""OHIF on this machine: one pinned build, unpacked of the tarball of its npm package."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer import weights
from cxr_dicom.system import atomic
from cxr_dicom.system.digest import sha256

PACKAGE, VERSION = "@ohif/app", "3.13.2"
SHA256 = "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1"  # of the tarball of this version

_BUILD = ("package", "dist")
_MAX_BYTES = 400 << 20  # unpacked; this version has 213 MB
_MAX_MEMBERS = 2000  # this version has 249
_LEFT_OUT_FOLDERS = ("ort", "dicom-microscopy-viewer")  # ONNX runtime; slides
_LEFT_OUT_FILES = ("sw.js", "init-service-worker.js")  # a service worker keeps what must not be kept
_NPM_SECONDS = 600


def place(settings: Settings) -> Path:
    """Return where the build is, or would be: beside the folder of the weights."""
    return weights.folder(settings).with_name(f"ohif-{VERSION}")


def install(tarball: Path | None, settings: Settings) -> Path:
    """Bring the build to its place; nothing is done where it is already.

    Parameters
    ----------
    tarball
        What ``npm pack`` made, on any machine; None: npm fetches it, from the registry of its own settings.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    CxrDicomError
        If npm cannot fetch it, if its digest is not the pinned one, or if it cannot be unpacked.
    """
    folder = place(settings)
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        source = tarball or _fetched(Path(scratch))
        _expect_pinned(source)
        unpack(source, folder)
    return folder


def unpack(tarball: Path, folder: Path) -> None:
    """Unpack what is needed of the build, all or nothing; no link, device or foreign path becomes a file.

    Raises
    ------
    CxrDicomError
        If a member is not a plain file below the folder of the package, if there is too much, or on a full disk.
    """
    try:
        with atomic.workspace(folder.parent) as staging:
            _extract(tarball, staging / "build")
            if not (staging / "build" / "index.html").is_file():
                raise CxrDicomError(f"{tarball.name}: expected {'/'.join(_BUILD)}/index.html, found none")
            atomic.place(staging / "build", folder)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CxrDicomError(f"{tarball.name}: expected the tarball of an npm package, found something else") from error
    except OSError as error:
        raise CxrDicomError(f"{folder}: cannot be written ({error.strerror or type(error).__name__})") from error


def _expect_pinned(tarball: Path) -> None:
    try:
        found = sha256(tarball)
    except OSError as error:
        raise CxrDicomError(f"{tarball}: cannot be read ({error.strerror})") from error
    if found != SHA256:
        raise CxrDicomError(
            f"{tarball.name}: expected {PACKAGE} {VERSION} with SHA-256 {SHA256}, got {found}; nothing was installed"
        )


def _extract(tarball: Path, build: Path) -> None:
    left = _MAX_BYTES
    with tarfile.open(tarball, "r|gz") as archive:
        for number, member in enumerate(archive):
            parts = _parts(tarball, member)
            left -= member.size
            if left < 0 or number >= _MAX_MEMBERS:
                limits = f"at most {_MAX_MEMBERS} files and {_MAX_BYTES >> 20} MB"
                raise CxrDicomError(f"{tarball.name}: expected {limits}, found more")
            content = archive.extractfile(member) if is_needed(parts) else None
            if content is None:
                continue
            target = build.joinpath(*parts[len(_BUILD) :])
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file)


def _parts(tarball: Path, member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the path of a member by its parts, none of which leads elsewhere on any system."""
    parts = PurePosixPath(member.name).parts
    is_odd = any(part in ("..", "/") or "\\" in part or ":" in part or not part.isprintable() for part in parts)
    if is_odd or parts[:1] != _BUILD[:1] or not (member.isreg() or member.isdir()):
        raise CxrDicomError(
            f"{tarball.name}: expected plain files below {_BUILD[0]}/, found {member.name[:80]!r}; nothing is installed"
        )
    return parts if member.isreg() else ()


def is_needed(parts: tuple[str, ...]) -> bool:
    """Whether a file of the package, by the parts of its path, is one that `view` serves."""
    if parts[: len(_BUILD)] != _BUILD or len(parts) == len(_BUILD):
        return False
    inside = parts[len(_BUILD) :]
    return inside[0] not in (*_LEFT_OUT_FOLDERS, *_LEFT_OUT_FILES) and not inside[-1].endswith(".map")


def _fetched(scratch: Path) -> Path:
    """Return the tarball, which npm fetches by its own settings: registry, proxy, certificates."""
    otherwise = f"on a machine that can: npm pack {PACKAGE}@{VERSION}, and give the file to this command"
    npm = shutil.which("npm")
    if npm is None:
        raise CxrDicomError(f"npm is not installed here; {otherwise}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_NPM_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CxrDicomError(f"npm did not fetch {PACKAGE} ({type(error).__name__}); {otherwise}") from error
    found = list(scratch.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        raise CxrDicomError(f"npm did not fetch {PACKAGE}: {' '.join(done.stderr.split())[:200]}; {otherwise}")
    return found[0]
