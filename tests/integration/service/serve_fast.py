"""The real service in a process of its own, with the fast pipeline: serve_fast.py CONFIG."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from cxr_dicom.config import load
from cxr_dicom.service import service
from cxr_dicom.system import telemetry
from tests.service_helpers import FastPipeline

if __name__ == "__main__":
    telemetry.configure(1)
    service.serve(lambda: load(Path(sys.argv[1])), build=FastPipeline)
