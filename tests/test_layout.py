"""Imports point one way, and no file grows beyond what one reads in a sitting."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cxr_dicom"

FLOORS = (
    (
        "plane",
        "records",
        "errors",
        "codes",
        "files",
        "patient_age",
        "atomic",
        "lock",
        "pictures",
        "pages",
        "telemetry",
        "audit",
        "retry",
        "testing_archive",
    ),
    ("config_service", "config", "network"),
    ("ingest", "selection", "infer", "measure", "encode", "ledger", "deliver"),
    ("export",),
    ("_plugins",),
    ("pipeline", "engine", "twins"),
    ("results", "states", "tables", "report", "cohort_report", "intake", "reception"),
    ("cohort_delivery",),
    ("cohort_task",),
    ("tally",),
    ("run_record",),
    ("cohort", "compare", "estimate", "scp", "polling", "worker", "courier", "metrics"),
    ("checks", "service"),
    ("cli", "__main__"),
)
SERVES_ITS_OWN_FLOOR = {*FLOORS[0], *FLOORS[1], "results", "cli"}
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
READ_BY_PEOPLE = [
    path for name in (PACKAGE.name, "tests", "training", "benchmarks") for path in ROOT.glob(f"{name}/**/*.py")
]


def unit(module: str) -> str:
    """The file or folder directly under the package that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {unit(alias.name) for alias in node.names if alias.name.startswith("cxr_dicom")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr_dicom"):
            found |= {unit(f"{node.module}.{alias.name}") for alias in node.names}
    return {name for name in found if name in FLOOR_OF}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_point_up_or_sideways(path):
    own = unit(".".join(("cxr_dicom", *path.relative_to(PACKAGE).with_suffix("").parts)))
    if own in ("__init__", "testing"):
        return
    for name in imports(path) - {own}:
        assert FLOOR_OF[name] <= FLOOR_OF[own], f"{own} imports {name}, which stands above it"
        sideways = FLOOR_OF[name] == FLOOR_OF[own] and name not in SERVES_ITS_OWN_FLOOR
        assert not sideways, f"{own} imports {name}: stages never import each other"


def test_every_unit_has_a_floor():
    units = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert units - {"__init__", "testing"} == set(FLOOR_OF)


def test_no_file_is_long():
    long = {str(path.relative_to(ROOT)) for path in READ_BY_PEOPLE if len(path.read_text().splitlines()) > 400}
    assert not long


@pytest.mark.parametrize(
    "statement",
    [
        "from cxr_dicom.cli import main",
        "from cxr_dicom import _plugins; _plugins.model_infos(); _plugins.encoder_names(); _plugins.exporter_names()",
        "import cxr_dicom.testing",
        "import cxr_dicom.service, cxr_dicom.checks",
    ],
)
def test_listing_and_help_load_nothing_heavy(statement):
    heavy = "{'torch', 'torchvision', 'torchxrayvision', 'highdicom'}"
    code = f"import sys; {statement}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
