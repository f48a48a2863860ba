"""Artificial intelligence on chest radiographs that lives inside DICOM.

In a notebook::

    import cxr_dicom

    analysis = cxr_dicom.analyse("chest.dcm")
    analysis.masks["heart"]

``docs/python.md`` has the rest. What is named here is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_dicom.analysis import Analysis
    from cxr_dicom.api import Analyses, Pipeline, analyse, read_results
    from cxr_dicom.config import Settings
    from cxr_dicom.errors import CxrDicomError, ImageError, ModelError, SettingsError, WeightsError
    from cxr_dicom.records import Reason
    from cxr_dicom.results.folder import Results

__version__ = "0.1.0"
__all__ = [
    "Analyses",
    "Analysis",
    "CxrDicomError",
    "ImageError",
    "ModelError",
    "Pipeline",
    "Reason",
    "Results",
    "Settings",
    "SettingsError",
    "WeightsError",
    "analyse",
    "read_results",
]

_PLACES = {
    "analysis": ("Analysis",),
    "api": ("Analyses", "Pipeline", "analyse", "read_results"),
    "config": ("Settings",),
    "errors": ("CxrDicomError", "ImageError", "ModelError", "SettingsError", "WeightsError"),
    "records": ("Reason",),
    "results.folder": ("Results",),
}


if not TYPE_CHECKING:  # a type checker must see a name that is misspelt

    def __getattr__(name):
        for module, names in _PLACES.items():
            if name in names:
                globals()[name] = getattr(import_module(f"cxr_dicom.{module}"), name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
