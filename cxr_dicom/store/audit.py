"""The audit trail: who sent, what was made, where it went; append-only JSON lines, UIDs only."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cxr_dicom.records import EncodedObject
from cxr_dicom.store.group_commit import GroupCommit
from cxr_dicom.system import atomic, telemetry

FILE_NAME = "audit.jsonl"

_MODE = 0o600  # it says who sent what
_OF_ONE = ("_uid", "seconds", "times")  # how fields of one study or image end


class AuditTrail:
    """The open trail of one spool; threads and processes may write to it at once.

    Lines never mix and are never cut (`atomic.append_line`). The file is opened for each line: it may be
    rotated at any time. What must outlive a power cut is in the ledger.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._warnings = telemetry.Repeats()
        self._lines: GroupCommit[str, None] = GroupCommit(self._append_all)

    def write(self, action: str, **fields: telemetry.Value | None) -> None:
        """Append a line, and log the same; a trail that cannot be written stops nothing and `problem` says so.

        Parameters
        ----------
        action
            Stable word: ``instance_received``.
        fields
            As for `telemetry.event`.
        """
        telemetry.event(action, level=logging.INFO, **fields)
        self._append(action, telemetry.known(fields))

    def note(self, action: str, **fields: telemetry.Value | None) -> None:
        """Do as `write` for what comes with every image and object: the log has it only when all is asked for."""
        telemetry.event(action, level=logging.DEBUG, **fields)
        self._append(action, telemetry.known(fields))

    def warn(self, action: str, **fields: telemetry.Value | None) -> None:
        """Do as `write`, and log it as a warning: the same of several studies or images once an hour, with a count."""
        known = telemetry.known(fields)
        words = " ".join(str(value) for name, value in known.items() if not name.endswith(_OF_ONE))
        self._warnings.tell(action, words, level=logging.WARNING, **known)
        self._append(action, known)

    def _append(self, action: str, known: Mapping[str, telemetry.Value]) -> None:
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "action": action, **known})
        try:
            self._lines.make(line)
        except OSError as error:  # what was done is done, and its sender is told so; the log has the line instead
            self._warnings.failed("audit_failed", telemetry.safe_description(error), level=logging.ERROR)
            telemetry.event(action, level=logging.ERROR, **known)

    def _append_all(self, lines: Sequence[str]) -> list[None]:
        atomic.append_line(self._path, "\n".join(lines), mode=_MODE)
        return [None] * len(lines)

    def problem(self) -> str | None:
        """Say why nothing can be written to the trail; None when it can."""
        try:
            with open(self._path, "ab", opener=partial(os.open, mode=_MODE)):
                return None
        except OSError as error:
            return f"{self._path} cannot be written: {error.strerror}; the log has the lines instead"

    def ways(self, sop_instance_uids: Collection[str]) -> dict[str, tuple[str, str | None]]:
        """Say who sent instances and called us what, as far as the trail tells; what cannot be read tells nothing."""
        found: dict[str, tuple[str, str | None]] = {}
        if not sop_instance_uids or not self._path.exists():
            return found
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if '"instance_received"' in line:
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        row = json.loads(line)
                        if row["sop_instance_uid"] not in sop_instance_uids:
                            continue
                        if row.get("outcome") != "known":  # else it was sent again
                            called = row.get("called_ae_title")
                            found[row["sop_instance_uid"]] = str(row["sender"]), called and str(called)
        return found

    def object_made(self, study_instance_uid: str, made: EncodedObject) -> None:
        """Append that an object was made for a study."""
        self.note(
            "object_made",
            study_instance_uid=study_instance_uid,
            series_instance_uid=made.series_instance_uid,
            sop_instance_uid=made.sop_instance_uid,
            sop_class_uid=made.sop_class_uid,
            model=made.model,
        )
