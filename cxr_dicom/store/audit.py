"""The audit trail: who sent, what was made, where it went; append-only JSON lines, UIDs only."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from cxr_dicom.records import EncodedObject
from cxr_dicom.system import telemetry

FILE_NAME = "audit.jsonl"


class AuditTrail:
    """The open trail of one spool; threads and processes may write to it at once.

    A line is written by one system call to a file that is open for appending, so lines never mix.
    The file is opened for each line: it may be rotated at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def write(self, action: str, **fields: telemetry.Value | None) -> None:
        """Append a line, and log the same.

        Parameters
        ----------
        action
            Stable word: ``instance_received``.
        fields
            As for `telemetry.event`.
        """
        known = {name: value for name, value in fields.items() if value is not None}
        telemetry.event(action, level=logging.INFO, **known)
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "action": action, **known})
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def object_made(self, study_instance_uid: str, made: EncodedObject) -> None:
        """Append that an object was made for a study."""
        self.write(
            "object_made",
            study_instance_uid=study_instance_uid,
            series_instance_uid=made.series_instance_uid,
            sop_instance_uid=made.sop_instance_uid,
            sop_class_uid=made.sop_class_uid,
            model=made.model,
        )
