"""The contract between the pipeline and an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pydicom import Dataset

from cxr_dicom.records import StudyAnalysis


class Encoded(NamedTuple):
    """A DICOM object that is not yet written."""

    kind: str  # an `ObjectKind`; of another package `records.words.kind_of` its name in the settings
    dataset: Dataset  # complete, with file meta information
    source_sop_instance_uids: tuple[str, ...]
    model: str | None


class Encoder(Protocol):
    """One kind of DICOM object. It is built by ``build(settings)``.

    An implementation must provide:

    - Equal bytes for equal input: UIDs are derived (`encode.identity`), and no clock is read unless ``content_time``
      is ``now``, as it is in the service by default. `encode.common.new_object` starts such an object. Whatever
      changes the output between versions of the encoder belongs in ``content`` of `image_identity`.
    - Objects in the study that they are made from, explicit VR in little endian, that refer to the images that they are
      about. Their Manufacturer is ``cxr-dicom``, so that selection recognises them and never processes them again.
    - All objects of a study, or an error: nothing is written of a study that fails.
    - Nothing of the patient in an error.

    It gets a copy of the study with read-only arrays. `encode.foreign.problem` is what is checked.
    """

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the objects of this kind for a study, one at a time.

        Raises
        ------
        EncodingError
            If an object cannot be made.
        """
