"""The real service in a process of its own, with the fast pipeline: serve_fast.py CONFIG."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from service_helpers import FastPipeline

from cxr_dicom import service, telemetry
from cxr_dicom.config import load

if __name__ == "__main__":
    telemetry.configure(1)
    service.serve(lambda: load(Path(sys.argv[1])), build=FastPipeline)
