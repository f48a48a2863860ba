"""Run cxr-dicom in its own environment and read what it wrote. Plain Python and numpy: nothing of Slicer is needed.

Slicer and cxr-dicom do not share libraries: the program is found, started with an environment of its own, and answers
with files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = "cxr-dicom.exe" if sys.platform == "win32" else "cxr-dicom"
_ALSO = "png,npz"  # the radiograph as a picture; masks and heatmaps as arrays
_INHERITED = frozenset(
    {"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USER", "USERPROFILE"}
    | {"APPDATA", "LOCALAPPDATA", "CUDA_VISIBLE_DEVICES"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}
)
_HINTS = {  # 421: what `serve` says to a stranger, since dicomweb-client leaves the port out of Host
    401: ", it asks for a token",
    403: ", the token may not send",
    409: ", it takes none of them",
    421: ", it asks for a token",
}
_DONE = (0, 3)  # everything was processed; something was skipped or failed, and the rows say what


class AnalysisError(Exception):
    """The program is missing, or it ended without results; the message is for the user."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """A heatmap on its own grid, which lies on the matrix of the radiograph."""

    title: str
    values: np.ndarray  # (rows, columns) float32, 0 to 1
    origin: tuple[float, float]  # row and column of the corner of the first sample, in pixels of the radiograph
    step: tuple[float, float]  # rows and columns from sample to sample


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The mask of a structure, on the matrix of the radiograph."""

    name: str  # as in the results, such as right_lung
    title: str
    colour: tuple[int, int, int]  # RGB, 0 to 255
    mask: np.ndarray  # (rows, columns) bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """What cxr-dicom says of one radiograph: a line of ``results.jsonl``, and the files that it names."""

    out: Path
    row: Mapping[str, Any]

    @property
    def picture(self) -> Path | None:
        """The radiograph as a grey picture, dense is bright; None where it was not processed."""
        named = [self.out / each["path"] for each in self.row["exports"] if each["path"].endswith("/image.png")]
        return named[0] if named else None

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance of rows and of columns; None where the radiograph does not state one that can be used."""
        spacing = self.row["spacing_mm"]
        return None if spacing is None else (spacing[0], spacing[1])

    def structures(self) -> dict[str, list[Structure]]:
        """Return what was found, by the name of the model."""
        with self._arrays() as arrays:
            about = json.loads(str(arrays["about"]))
            columns = about["shape"][1]
            found = {
                model: [
                    Structure(
                        name=each["name"],
                        title=each["title"],
                        colour=tuple(each["colour"]),
                        mask=np.unpackbits(arrays[key], axis=1, count=columns).astype(bool),
                    )
                    for each in described["structures"]
                    if (key := f"masks/{model}/{each['name']}") in arrays.files
                ]
                for model, described in about["models"].items()
            }
        return {model: structures for model, structures in found.items() if structures}

    def heatmaps(self) -> list[Heatmap]:
        """Return the heatmaps of all models."""
        with self._arrays() as arrays:
            keys = [key for key in arrays.files if key.startswith("heatmaps/")]
            return [_heatmap(arrays, key) for key in keys]

    def _arrays(self) -> np.lib.npyio.NpzFile:
        (named,) = [self.out / each["path"] for each in self.row["exports"] if each["kind"] == "npz"]
        return np.load(named, allow_pickle=False)


def _heatmap(arrays: np.lib.npyio.NpzFile, key: str) -> Heatmap:
    _, model, name = key.split("/")
    origin, step = arrays[f"grids/{model}/{name}"]
    return Heatmap(
        title=f"{name.replace('_', ' ').capitalize()} ({model})",
        values=np.asarray(arrays[key], np.float32),
        origin=tuple(map(float, origin)),
        step=tuple(map(float, step)),
    )


def find_program(configured: str = "", environment: Mapping[str, str] = os.environ) -> Path:
    """Find ``cxr-dicom``.

    Parameters
    ----------
    configured
        The program, or the folder of its environment or clone; empty looks in the search path, then in
        ``~/cxr-dicom`` and ``~/.venv``.

    Raises
    ------
    AnalysisError
        Where it is not found, with the places that were tried.
    """
    tried = list(_places(configured.strip(), environment))
    for place in tried:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    where = ", ".join(map(str, tried))
    raise AnalysisError(f"cxr-dicom was not found. Name its program or its folder in the settings. Tried: {where}")


def _places(configured: str, environment: Mapping[str, str]) -> Iterator[Path]:
    if configured:
        named = Path(configured).expanduser()
        yield named
        yield from _in(named)
        return
    if there := shutil.which(PROGRAM, path=environment.get("PATH", "")):
        yield Path(there)
    for folder in ("cxr-dicom", ".venv"):
        yield from _in(Path.home() / folder)


def _in(folder: Path) -> Iterator[Path]:
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    yield folder / scripts / PROGRAM
    yield folder / ".venv" / scripts / PROGRAM


def analyse(
    program: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    models: str = "auto",
    on_line: Callable[[str], None] = lambda _: None,
    environment: Mapping[str, str] = os.environ,
) -> list[Result]:
    """Run ``cxr-dicom run`` and return a result for each radiograph.

    Parameters
    ----------
    inputs
        Files or folders of DICOM, PNG or JPEG.
    out
        The output folder; what is there already and still valid is not computed again.
    models
        Names as in ``--models``, separated by commas; auto takes what runs on this machine.
    on_line
        Called with each line that the program prints.
    environment
        Of Slicer: its own Python and libraries are not passed on.

    Raises
    ------
    AnalysisError
        Where the program ends without results; the message ends with what it said last.
    """
    if not inputs:
        raise AnalysisError("expected a radiograph or a folder, got none")
    named = [str(program), "run", *map(str, inputs), "-o", str(out)]
    said: list[str] = []
    with subprocess.Popen(
        [*named, "--models", models, "--also", _ALSO, "--wrap"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=own_environment(environment),
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said = [*said[-19:], line.rstrip()]
            on_line(line.rstrip())
    if process.returncode not in _DONE:
        last = "\n".join(said[-5:])
        raise AnalysisError(f"cxr-dicom ended with code {process.returncode}:\n{last}")
    return read(out)


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a program of another environment needs of this one: not PYTHONHOME, PYTHONPATH or LD_LIBRARY_PATH."""
    kept = {name: value for name, value in environment.items() if name in _INHERITED or name.startswith("CXR_DICOM_")}
    return {**kept, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def read(out: Path) -> list[Result]:
    """Return the results of an output folder.

    Raises
    ------
    AnalysisError
        Where the folder has none.
    """
    lines = out / "results.jsonl"
    if not lines.is_file():
        raise AnalysisError(f"expected {lines}, found none: not an output folder of cxr-dicom")
    with lines.open(encoding="utf-8") as file:
        return [Result(out=out, row=json.loads(line)) for line in file if line.strip()]


def send(url: str, paths: Sequence[Path], *, token: str = "") -> int:
    """Send DICOM files to a server by STOW-RS, and return how many it says it stored.

    Parameters
    ----------
    url
        Of the DICOMweb service, as in ``https://pacs/dicom-web``.
    paths
        Files; those that are not DICOM are left out.
    token
        Sent as a bearer token; empty sends none.

    Raises
    ------
    AnalysisError
        Where no file is DICOM, or the server is not reached, refuses, or does not name every instance as stored (PS3.18
        10.5.3).
    """
    from dicomweb_client.api import DICOMwebClient

    headers = {"Authorization": f"Bearer {token}"} if token else None
    datasets = list(_datasets(paths))
    if not datasets:
        raise AnalysisError("expected DICOM files, got none")
    try:
        client = DICOMwebClient(url, headers=headers)
        client.set_http_retry_params(retry=False)  # a person waits, and can press again
        answer = client.store_instances(datasets)
    except Exception as error:  # what the libraries below raise is no closed list
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = type(error).__name__ if status is None else f"HTTP {status}{_HINTS.get(status, '')}"
        raise AnalysisError(f"{url} did not store the files: {why}") from error
    stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", ())}
    missing = [str(each.SOPInstanceUID) for each in datasets if str(each.SOPInstanceUID) not in stored]
    if missing:
        raise AnalysisError(f"{url} did not name as stored: {', '.join(missing)}")
    return len(stored)


def _datasets(paths: Sequence[Path]) -> Iterator[Any]:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    for path in paths:
        try:
            yield dcmread(path)
        except InvalidDicomError:
            continue
