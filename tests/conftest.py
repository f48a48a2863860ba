"""What all tests share: real files by name, and the short way from a data set to a selection."""

import gc
import logging
import os
import shutil
import socketserver
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydicom.data import get_testdata_file

from cxr_dicom.config import SelectSettings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.select import select
from tests.integration import rig

# Before torch is imported, here and in the processes that tests start: there is one for each core already, and the
# threads of several would wait for each other.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# A server looks so often (seconds) whether it is to end. By itself each half second, and hundreds of tests have one.
socketserver.BaseServer.serve_forever.__defaults__ = (0.02,)

# A quarter of the time of collecting thousands of tests is looking for garbage among modules, of which there is none.
gc.disable()

_NOBODY = 65534  # a user without rights, on Linux

LONGEST = ("test_ohif.py", "test_bench.py", "test_ray.py", "test_backend.py", "test_service.py", "test_monitor.py")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, then the other real servers: nothing should wait for them at the end."""

    def place(item):
        if item.path.name in LONGEST:
            return LONGEST.index(item.path.name)
        return len(LONGEST) + ("integration" not in item.path.parts)

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    """Have garbage looked for among what tests make, and not among all modules and tests each time."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    """Have all looked at again at the end, for triton calls what is left a leak."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def own_logging():
    """Begin with the logging of a library, whatever a command set up before, in a fixture of a module too."""
    logger = logging.getLogger("cxr_dicom")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
    yield
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def real():
    """Return the path of a file that pydicom or pydicom-data ships."""

    def path_of(name):
        path = get_testdata_file(name, download=False)
        assert path, f"{name} is not installed"
        return Path(path)

    return path_of


@pytest.fixture(scope="session")
def needs():
    """Call a function of the rig; what it misses skips the test, or fails it in CI."""

    def call(function, *arguments):
        try:
            return function(*arguments)
        except rig.MissingError as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(str(missing))
            pytest.skip(str(missing))

    return call


@pytest.fixture
def as_nobody():
    """Copy a folder to where its modes count, which they do not for root; from then on, the test is nobody."""
    with TemporaryDirectory() as name, ExitStack() as stack:

        def copy(folder):
            copied = shutil.copytree(folder, Path(name, "copy"))
            if os.geteuid() == 0:
                for path in (Path(name), copied, *copied.rglob("*")):
                    os.chown(path, _NOBODY, _NOBODY)
                os.seteuid(_NOBODY)
                stack.callback(os.seteuid, 0)
            return copied

        yield copy


@pytest.fixture
def stored(tmp_path):
    """Write a data set to a new file and return its path."""
    numbers = iter(range(1_000_000))

    def write(dataset):
        path = tmp_path / f"stored-{next(numbers)}"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def selected(stored):
    """Select one data set or file: its ChestImage, or what was skipped."""

    def select_one(source, **settings):
        path = source if isinstance(source, Path) else stored(source)
        (study,), skipped = scan([path])
        assert not skipped
        selection = select(study, SelectSettings(**settings))
        (only,) = selection.images + selection.skipped
        return only

    return select_one
