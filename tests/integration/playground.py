"""Everything on one machine, to look at: `scripts/playground`.

An archive, a viewer, and the real radiograph of the demo with all objects that cxr-dicom makes of it.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import rig
from pydicom import dcmread
from pydicom.data import get_testdata_file
from sources import RG1_SPACING_MM, with_pixel_spacing

_CONFIG = '[encode]\nobjects = ["seg", "sr", "parametric-map", "secondary-capture", "key-objects"]\n'


def main() -> int:
    """Run until Ctrl-C."""
    options = _options()
    try:
        with tempfile.TemporaryDirectory(prefix="cxr-dicom-playground-") as folder:
            _play(options.ohif, [path.resolve() for path in options.radiographs], Path(folder))
    except rig.MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nAll stopped; nothing is kept.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/playground", description=__doc__)
    parser.add_argument("radiographs", nargs="*", type=Path, help="files or folders; default: that of the demo")
    parser.add_argument("--ohif", choices=rig.OHIF_VERSIONS, default=rig.OHIF_VERSIONS[-1], help="version of OHIF")
    return parser.parse_args()


def _play(version: str, radiographs: list[Path], folder: Path) -> None:
    rig.node()
    print(f"Getting OHIF {version} (50 MB the first time)", flush=True)
    rig.ohif_build(version)
    with rig.orthanc(folder) as archive, rig.ohif(version, archive, folder / "ohif.log") as viewer:
        sources = radiographs or [_demo(folder)]
        print("Processing", flush=True)
        results = _processed(sources, folder)
        files = [file for source in sources for file in ([source] if source.is_file() else sorted(source.rglob("*")))]
        for path in [*filter(Path.is_file, files), *results]:
            archive.store(path)
        for uid in sorted({str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in results}):
            print(f"Open     {viewer}/viewer?StudyInstanceUIDs={uid}")
        print(f"Archive  {archive.url}/app/explorer.html; storescu 127.0.0.1 {archive.dicom_port}, {archive.ae_title}")
        print("Double-click a result in the list on the left. Ctrl-C ends all of it.", flush=True)
        threading.Event().wait()


def _demo(folder: Path) -> Path:
    source = get_testdata_file("RG1_UNCR.dcm", download=False)
    if source is None:
        raise rig.MissingError("the demo's radiograph is not installed; get it with: pip install 'cxr-dicom[demo]'")
    print(f"The demo's radiograph says Pixel Spacing 0\\0; viewers get a copy that says {RG1_SPACING_MM} mm")
    return with_pixel_spacing(Path(source), folder / "radiograph.dcm", RG1_SPACING_MM)


def _processed(sources: list[Path], folder: Path) -> list[Path]:
    config, out = folder / "cxr-dicom.toml", folder / "results"
    config.write_text(_CONFIG)
    command = [sys.executable, "-m", "cxr_dicom", "run", *map(str, sources), "--out", str(out), "--config", str(config)]
    if subprocess.run([*command, "--quiet"], check=False).returncode:
        raise rig.MissingError("cxr-dicom made no results of these files")
    return sorted(out.glob("*/*.dcm"))


if __name__ == "__main__":
    sys.exit(main())
