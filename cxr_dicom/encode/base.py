"""What an encoder owes to the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pydicom import Dataset

from cxr_dicom.records import ObjectKind, StudyAnalysis


class Encoded(NamedTuple):
    """A DICOM object that is not yet written."""

    kind: ObjectKind
    dataset: Dataset  # complete, with file meta information
    source_sop_instance_uids: tuple[str, ...]
    model: str | None


class Encoder(Protocol):
    """One kind of DICOM object.

    Equal input gives equal bytes: UIDs are derived (see ``encode.identity``), and no clock is read
    unless ``content_time`` is ``now``, as it is in the service by default.
    """

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the objects of this kind for a study, one at a time.

        Raises
        ------
        EncodingError
            If an object cannot be made.
        """
