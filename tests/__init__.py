"""The tests mirror `cxr_dicom/`; what several of them share stands beside them."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
