"""The real service in a process of its own, with the fast pipeline: serve_fast.py CONFIG.

With a file in the variable SERVE_CLOCK its clock, and that of its workers, is wrong by the seconds that stand there.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

if "SERVE_CLOCK" in os.environ:
    _true_time, _step = time.time, Path(os.environ["SERVE_CLOCK"])
    time.time = lambda: _true_time() + float(_step.read_text() or 0)

from cxr_dicom.config import load
from cxr_dicom.service import service
from cxr_dicom.system import telemetry
from tests.service_helpers import FastPipeline

if __name__ == "__main__":
    telemetry.configure(1, as_json=True)
    service.serve(lambda: load(Path(sys.argv[1])), build=FastPipeline)
