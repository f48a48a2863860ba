"""How a cohort is processed, and the tools of each worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config import Settings
from cxr_dicom.config.service import HttpAccess

if TYPE_CHECKING:
    from cxr_dicom.cohort.delivery import Delivery
    from cxr_dicom.cohort.journal import Reader
    from cxr_dicom.export.base import Exporter
    from cxr_dicom.infer.batches.client import Client
    from cxr_dicom.pipeline import Pipeline

EXPORT_FOLDER = "also"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a cohort is processed; nothing here changes an object."""

    force: bool = False  # process again what is finished
    retry_failed: bool = False  # process again what failed
    has_figures: bool = True  # keep all pictures of an image, for a report of each; else one small picture
    also: tuple[str, ...] = ()  # formats for training, as `plugins.EXPORTERS` lists them
    access: HttpAccess | None = None  # credentials for the DICOMweb server of the manifest
    destination: str | None = None  # name of one of the settings' destinations, which gets the objects at once


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a worker has: built once, used for every entry."""

    out: Path  # the output folder
    states: Reader  # of earlier runs there
    settings: Settings
    options: Options
    pipeline: Pipeline
    exporters: Sequence[Exporter]
    delivery: Delivery | None  # where the objects go at once; None: nowhere
    client: Client | None = None  # of the process that has the networks; None: each worker has its own
