"""``python -m cxr_dicom`` and the ``cxr-dicom`` command."""

from __future__ import annotations

from cxr_dicom.cli import main

if __name__ == "__main__":
    main()
