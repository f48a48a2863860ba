"""Rooms on floors: imports point down, what is private stays private, and no file is long."""

import ast
import re
import subprocess
import sys

import pytest

from tests import ROOT

PACKAGE = ROOT / "cxr_dicom"
FLOORS = (  # from the ground up; rooms of one floor do not know each other
    {"records"},
    {"errors", "pictures"},
    {"plugins"},
    {"config"},
    {"dicom", "system"},
    {"select", "infer", "measure", "encode", "store"},
    {"gate"},
    {"ingest", "deliver", "export", "pipeline", "results"},
    {"synthetic"},
    {"cohort", "scp", "analysis"},
    {"web"},
    {"service", "api"},
    {"cli"},
    {"__main__"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
READ_BY_PEOPLE = [
    path for name in (PACKAGE.name, "tests", "training", "benchmarks") for path in ROOT.glob(f"{name}/**/*.py")
]


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """Every name of ours that a file imports, as `cxr_dicom.room.module.name`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("cxr_dicom."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr_dicom"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name):
    return name.split(".")[1]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent != PACKAGE or path.stem in FLOOR_OF], ids=dotted
)
def test_imports_point_down(path):
    own = room(dotted(path))
    for name in imported(path):
        if room(name) not in (own, "__version__"):
            assert FLOOR_OF[room(name)] < FLOOR_OF[own], f"{own} imports {name}"


def test_the_design_draws_these_floors():
    _, _, text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("## Layout\n")
    drawn = re.search(r"```\n(.*?)```", text, re.DOTALL)[1].splitlines()
    rooms = [{word for word in re.split(r"\s{2,}", line) if word in FLOOR_OF} for line in drawn]
    assert rooms == list(reversed(FLOORS))


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - {"__init__", "cxr_dicom"} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_no_package_imports_what_is_private_to_another(path):
    package = dotted(path) if path.stem == "__init__" else dotted(path).rpartition(".")[0]
    for name in imported(path):
        parts = name.split(".")
        private = next(
            (number for number, part in enumerate(parts) if part.startswith("_") and part != "__version__"), None
        )
        if private is None:
            continue
        owner = ".".join(parts[:private])
        owner = owner if (ROOT / owner.replace(".", "/")).is_dir() else owner.rpartition(".")[0]
        assert package == owner, f"{path.name} imports {name}"


def test_no_file_is_long():
    long = {str(path.relative_to(ROOT)) for path in READ_BY_PEOPLE if len(path.read_text().splitlines()) > 400}
    assert not long


def test_few_files_stand_outside_the_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 10


@pytest.mark.parametrize(
    "statement",
    [
        "from cxr_dicom.cli import main",
        "from cxr_dicom.plugins import SEAMS; [(seam.choices, seam.broken) for seam in SEAMS]",
        "import cxr_dicom.synthetic",
        "import cxr_dicom; cxr_dicom.Pipeline, cxr_dicom.analyse, cxr_dicom.read_results",
        "import cxr_dicom.service.service, cxr_dicom.service.checks",
        "import cxr_dicom.web.view",
    ],
)
def test_listing_and_help_load_nothing_heavy(statement):
    heavy = "{'torch', 'torchvision', 'torchxrayvision', 'highdicom'}"
    code = f"import sys; {statement}; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
