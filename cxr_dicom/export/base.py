"""The contract between a cohort and an exporter, and what exporters share.

Files are named by the SOP Instance UID of the radiograph. Masks are on the source matrix as stored,
pixel by pixel those of the DICOM segmentations. Equal input gives equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from cxr_dicom import __version__
from cxr_dicom.errors import SettingsError, how_to_install
from cxr_dicom.records import Code, ImageAnalysis, Mask, Prediction, StudyResult


class Exporter(Protocol):
    """One format. It is built by ``build(settings, names)``, of which ``names`` are all formats of the run.

    An implementation writes only inside its folder, equal bytes for equal input, under names that start with the
    SOP Instance UID of the radiograph. It gets a copy of the result with read-only arrays.
    """

    @property
    def name(self) -> str:
        """The choice, which is also the name of its folder."""

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the results of the images of ``result`` below ``folder``, in a worker; return the files.

        A run asks for one image at a time, so that it knows whose files they are. ``folder`` is ``also/<name>``
        of the output. The source images must still be there.

        Raises
        ------
        ImageError
            If a source image can no longer be read.
        """

    def collect(self, folder: Path) -> None:
        """Finish ``folder`` once all studies are in it, in the parent. Memory does not grow with their number."""


def analyses(result: StudyResult) -> Iterator[ImageAnalysis]:
    """Yield the images of a study that have results."""
    return (instance.analysis for instance in result.instances if instance.analysis)


def found(prediction: Prediction) -> list[Mask]:
    """Return the masks that are not empty: just those are in the DICOM segmentations."""
    return [mask for mask in prediction.masks if mask.region.area]


def about(analysis: ImageAnalysis) -> dict[str, Any]:
    """Describe what arrays do not: the geometry of an image, and what each model outlined and scored."""
    image, orientation = analysis.image, analysis.image.orientation
    spacing = image.spacing
    return {
        "sop_instance_uid": image.instance.sop_instance_uid,
        "study_instance_uid": image.instance.study_instance_uid,
        "shape": list(image.shape),
        "spacing_mm": [spacing.rows_mm, spacing.columns_mm] if spacing.is_physical else None,
        "spacing_source": str(spacing.source),
        "view": image.view or None,
        "to_standard_view": {
            "transpose": orientation.transpose,
            "flip_rows": orientation.flip_rows,
            "flip_columns": orientation.flip_columns,
        },
        "models": {prediction.model.name: _predicted(prediction) for prediction in analysis.predictions},
        "package_version": __version__,
    }


def structure(mask: Mask) -> dict[str, Any]:
    """Describe the structure of a mask."""
    anatomy = mask.structure
    return {
        "name": anatomy.name,
        "title": anatomy.title,
        "type": _code(anatomy.type),
        "laterality": _code(anatomy.laterality) if anatomy.laterality else None,
        "colour": list(anatomy.colour),
    }


def json_text(content: Any) -> str:
    """Return ``content`` as JSON on one line; equal content gives equal text."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def expect_installed(library: str, name: str) -> None:
    """Refuse a format whose library is missing, before anything is computed.

    Raises
    ------
    SettingsError
        With the way to install it.
    """
    if find_spec(library) is None:
        raise SettingsError(f"also: {name} needs {library}; {how_to_install('export')}")


def _predicted(prediction: Prediction) -> dict[str, Any]:
    model = prediction.model
    return {
        "version": model.version,
        "weights_sha256": model.weights_sha256,
        "structures": [structure(mask) for mask in found(prediction)],
        "scores": {
            finding.name: {"probability": finding.probability, "raw": finding.raw, "call": str(finding.call)}
            for finding in prediction.findings
        },
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
