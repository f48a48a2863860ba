"""What a machine lacks stops a run with its cause, and is written down as the failure of no study."""

import errno
import os
from pathlib import Path

import click
import psutil
import pytest

from cxr_dicom import synthetic
from cxr_dicom.cli import _options
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.states import begun, crash_count
from cxr_dicom.config import Settings
from cxr_dicom.encode import common
from cxr_dicom.errors import WantError
from cxr_dicom.ingest import manifest
from cxr_dicom.system import atomic, wants

TABLES = {"models": {"names": ["offline-anatomy"], "device": "cpu"}, "select": {"no_lungs": "process"}}
SETTINGS = Settings.model_validate(TABLES | {"encode": {"objects": ["sr"]}})


def run(folder):
    return cohort_run.run(manifest.read(str(folder / "in")), folder / "out", SETTINGS, Here())


def test_a_full_disk_stops_a_run_and_the_same_command_goes_on(tmp_path, monkeypatch):
    for number in range(3):
        image = synthetic.radiograph(64, 48, study=str(number), seed=number)
        synthetic.write_study(tmp_path / "in" / str(number), [image])
    written, open_bytes = [], atomic.open_bytes

    def until_full(path, *mode):
        if written and path.parent != written[0].parent:  # the objects of one study fit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        return open_bytes(path, *mode)

    monkeypatch.setattr(common.atomic, "open_bytes", until_full)
    with pytest.raises(WantError, match="this machine lacks room on its disk"):
        run(tmp_path)
    assert not [key for key in begun(tmp_path / "out") if crash_count(tmp_path / "out", key)], "nobody died"
    monkeypatch.undo()
    tally = run(tmp_path)
    assert tally.images == {"processed": 3}
    assert tally.reused >= 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "x"), "room on its disk"),
        (OSError(errno.EROFS, "x"), "permission"),
        (OSError(errno.EMFILE, "x"), "file descriptors"),
        (PermissionError(errno.EACCES, "x", "/ours/a"), "permission to write in"),
        (PermissionError(errno.EACCES, "x", "/theirs/a"), None),
        (PermissionError("of a bucket"), None),
        (OSError(errno.EIO, "x"), None),
        (MemoryError(), None),
        (ValueError(), None),
    ],
    ids=str,
)
def test_what_is_a_want_of_the_machine(error, said, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(50.0))
    if said is None:
        wants.raise_if_lacking(error, Path("/ours"))
        return
    with pytest.raises(WantError, match=said):
        wants.raise_if_lacking(error, Path("/ours"))


class Memory:
    def __init__(self, percent):
        self.percent = percent


def test_memory_is_wanting_only_where_the_machine_has_none(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(95.0))
    with pytest.raises(WantError, match="lacks memory"):
        wants.raise_if_lacking(MemoryError())
    monkeypatch.setattr(wants, "is_memory_bounded", lambda: True)
    wants.raise_if_lacking(MemoryError())  # beyond the worker's own bound: the study asked for too much


def test_the_command_ends_with_code_5_and_one_line():
    with pytest.raises(click.ClickException) as stopped, _options.refusals():
        raise WantError("this machine lacks room on its disk")
    assert (stopped.value.exit_code, stopped.value.format_message()) == (5, "this machine lacks room on its disk")
