"""Everything on one machine, to look at: `scripts/playground`.

A modality, the service and a viewer: DCMTK's storescu sends the real radiograph of the demo to `cxr-dicom serve`, as a
modality would; the pages of the service show it, and open it in OHIF. No archive is needed.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.errors import InvalidDicomError

from tests.integration import rig
from tests.integration.sources import RG1_SPACING_MM, with_pixel_spacing

_CONFIG = """\
[encode]
objects = ["seg", "sr", "parametric-map", "secondary-capture", "key-objects"]

[spool]
folder = "{folder}/spool"

[listener]
port = {port}

[assembly]
quiet_seconds = 2

[web]
port = {web_port}
"""
_CXR_DICOM = (sys.executable, "-m", "cxr_dicom")
_MADE = ("ENCODED", "SENT", "COMMITTED")
_ENDED = (*_MADE, "IGNORED", "HELD", "DEAD")
_LOOK_EVERY_SECONDS = 0.5


def main() -> int:
    """Run until Ctrl-C."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: nothing is left running
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="cxr-dicom-playground-") as folder:
            _play([path.resolve() for path in options.radiographs], Path(folder))
    except (rig.MissingError, rig.NotRunningError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nAll stopped; nothing is kept.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/playground", description=__doc__)
    parser.add_argument("radiographs", nargs="*", type=Path, help="files or folders; default: that of the demo")
    return parser.parse_args()


def _play(radiographs: list[Path], folder: Path) -> None:
    rig.storescu()
    studies = _studies(radiographs or [_demo(folder)])
    print("Getting OHIF (50 MB the first time)", flush=True)
    brought = subprocess.run([*_CXR_DICOM, "viewer", "install"], capture_output=True, text=True, check=False)
    if brought.returncode:
        raise rig.MissingError(brought.stderr.strip())
    with _service(folder) as service:
        for paths in studies.values():
            rig.send(paths, service.port, "CXRDICOM")
        link = service.link()
        for study in studies:
            state = service.wait_for(study)
            print(f"{state:8} {link.partition('/enter')[0]}/studies/{study}", flush=True)
        print(f"Pages    {link}")
        print(f"Send     storescu -aec CXRDICOM 127.0.0.1 {service.port} FILE")
        print("Open the link of the pages first, which lets you in. Each object has a link to OHIF. Ctrl-C ends it.")
        sys.stdout.flush()
        threading.Event().wait()


def _demo(folder: Path) -> Path:
    source = get_testdata_file("RG1_UNCR.dcm", download=False)
    if source is None:
        raise rig.MissingError("the demo's radiograph is not installed; in the clone: pip install '.[demo]'")
    print(f"The demo's radiograph says Pixel Spacing 0\\0; viewers get a copy that says {RG1_SPACING_MM} mm")
    return with_pixel_spacing(Path(source), folder / "radiograph.dcm", RG1_SPACING_MM)


def _studies(sources: list[Path]) -> dict[str, list[Path]]:
    """The DICOM files in ``sources``, by Study Instance UID."""
    found: dict[str, list[Path]] = {}
    for source in sources:
        for path in [source] if source.is_file() else sorted(filter(Path.is_file, source.rglob("*"))):
            try:
                study = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
            except (InvalidDicomError, AttributeError):
                print(f"{path.name} is no DICOM image")
            else:
                found.setdefault(study, []).append(path)
    if not found:
        raise rig.MissingError("there is no DICOM image in what was named")
    return found


class _Service:
    """A running `cxr-dicom serve`."""

    def __init__(self, config: Path, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.port = port
        self._config, self._process, self._log = config, process, log

    def wait_until_ready(self) -> None:
        """Wait until the models are loaded and the listener answers."""
        print("Starting cxr-dicom serve", flush=True)
        while not rig.listens(self.port) or not self.link():
            self._pause()

    def wait_for(self, study: str) -> str:
        """Tell the states of a study as they change, and return the last."""
        state = ""
        while state not in _ENDED:
            self._pause()
            shown = self._show(study)
            if shown["state"] != state:
                state = shown["state"]
                print(f"{state} {shown['reason']}".rstrip(), flush=True)
        return "Open" if state in _MADE else state

    def link(self) -> str:
        """Return the link of the pages, which the service leaves where only its owner reads it; empty before it has."""
        left = self._config.parent / "spool" / "web-link"
        return left.read_text().strip() if left.exists() else ""

    def _show(self, study: str) -> dict[str, str]:
        command = [*_CXR_DICOM, "jobs", "show", study, "--json", "--config", str(self._config)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(json.loads(shown.stdout))

    def _pause(self) -> None:
        if self._process.poll() is not None:
            raise rig.NotRunningError(f"cxr-dicom serve ended: {self._log.read_text()[-1000:]}")
        time.sleep(_LOOK_EVERY_SECONDS)


@contextmanager
def _service(folder: Path) -> Iterator[_Service]:
    """Run `cxr-dicom serve` on free ports, with its pages."""
    port, config, log = rig.free_port(), folder / "cxr-dicom.toml", folder / "serve.log"
    config.write_text(_CONFIG.format(folder=folder, port=port, web_port=rig.free_port()))
    with rig.process([*_CXR_DICOM, "serve", "--config", str(config)], log) as running:
        service = _Service(config, port, running, log)
        service.wait_until_ready()
        yield service


if __name__ == "__main__":
    sys.exit(main())
