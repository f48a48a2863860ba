"""Python imports this by itself where PYTHONPATH names this folder: in every process of a run, pauses are short."""

import sys

OURS = ("cxr_dicom", "spawn_main", "default_worker")  # the command, a worker, a worker of Ray; the rest are Ray's own

if any(name in " ".join(sys.orig_argv) for name in OURS):
    from cxr_dicom.system import retry

    retry.FIRST_PAUSE = 0.01
