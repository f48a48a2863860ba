"""A worker process that is killed while it loads: another one is made, but not for ever."""

import gc
import os
import signal
from functools import partial

import pytest

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.service.process import STARTS, KilledError, WorkerProcess, ready
from cxr_dicom.service.worker import build_pipeline
from tests.service_helpers import settings


def killed_at_first(settings):
    """Die by the kernel's hand until the last start."""
    mark = settings.spool.folder / f"start-{len(list(settings.spool.folder.glob('start-*')))}"
    mark.touch()
    if mark.name != f"start-{STARTS - 1}":
        os.kill(os.getpid(), signal.SIGKILL)
    return build_pipeline(settings)


def always_killed(settings):
    (settings.spool.folder / f"start-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def tells_whether_garbage_is_collected(settings):
    raise CxrDicomError(f"collects: {gc.isenabled()}")


@pytest.fixture
def make(tmp_path):
    return partial(WorkerProcess, settings(tmp_path), only_loads=True)


def test_a_worker_that_is_killed_while_it_loads_is_made_again(make, tmp_path):
    again = partial(make, killed_at_first)
    ready(again(), again).stop(30)
    assert len(list(tmp_path.glob("start-*"))) == STARTS


def test_one_that_is_always_killed_is_told(make, tmp_path):
    again = partial(make, always_killed)
    with pytest.raises(KilledError, match=r"died while it loaded the models \(exit code -9\)"):
        ready(again(), again)
    assert len(list(tmp_path.glob("start-*"))) == STARTS


def test_no_garbage_is_collected_while_the_models_are_loaded(make):
    worker = make(tells_whether_garbage_is_collected)
    with pytest.raises(CxrDicomError, match="collects: False"):
        worker.wait_until_ready()
    worker.stop(30)
