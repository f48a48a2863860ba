"""The only way into the service: an instance from the network becomes a file and a row, or is refused.

When :meth:`Intake.store` returns, file and row are on the disk; only then may success be reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from enum import StrEnum

from pydicom.uid import AllTransferSyntaxes, DeflatedExplicitVRLittleEndian

from cxr_dicom.dicom.files import Header, read_header
from cxr_dicom.dicom.pixels import is_whole
from cxr_dicom.dicom.text import shown
from cxr_dicom.errors import CxrDicomError, ImageError
from cxr_dicom.ingest.admission import FloodGuard
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.conditions import Asked, Described
from cxr_dicom.ingest.counts import ATTRIBUTES, Counts
from cxr_dicom.ingest.folder import IDENTITY, instance_of, is_uid
from cxr_dicom.records import MANUFACTURER, StoredInstance
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Arrival, Ledger, LedgerError
from cxr_dicom.store.spool import Part, Spool, SpoolError


class Refusal(StrEnum):
    """Why an instance is not taken."""

    NO_SPACE = "NO_SPACE"  # the sender may try again later
    UNREADABLE = "UNREADABLE"
    INVALID_UID = "INVALID_UID"
    WRONG_SOP_CLASS = "WRONG_SOP_CLASS"
    UID_MISMATCH = "UID_MISMATCH"  # the data set is not what the request announced
    OTHER_STUDY = "OTHER_STUDY"  # an image of another study has its SOP Instance UID
    OWN_OUTPUT = "OWN_OUTPUT"
    WRONG_TRANSFER_SYNTAX = "WRONG_TRANSFER_SYNTAX"
    TOO_LONG = "TOO_LONG"


STATUS = {  # of C-STORE, and Failure Reason of STOW-RS (PS3.4 B.2.3, PS3.7 C, PS3.18 table I.2-2)
    Refusal.NO_SPACE: 0xA700,  # out of resources: the sender tries again
    Refusal.UNREADABLE: 0xC000,  # cannot understand
    Refusal.INVALID_UID: 0xC000,
    Refusal.TOO_LONG: 0xC000,
    Refusal.OTHER_STUDY: 0xC001,
    Refusal.UID_MISMATCH: 0xA900,  # data set does not match SOP class
    Refusal.WRONG_SOP_CLASS: 0x0122,  # SOP class not supported
    Refusal.OWN_OUTPUT: 0x0124,  # not authorised
    Refusal.WRONG_TRANSFER_SYNTAX: 0xC122,  # transfer syntax not supported
}

# A deflated instance of a few kilobytes may unpack to gigabytes; every sender has another syntax to offer.
TRANSFER_SYNTAXES = [uid for uid in AllTransferSyntaxes if uid != DeflatedExplicitVRLittleEndian]


class RefusedError(CxrDicomError):
    """An instance is not taken."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail


class Refusals:
    """What was refused of images that came together: one line of the trail, however many."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._last: dict[str, str | None] = {}

    def add(self, reason: Refusal, **told: str | None) -> None:
        """Count one more, of which the trail would say this."""
        self._reasons[reason] += 1
        self._last = {"reason": reason, **told}

    def told(self) -> dict[str, str | int | None]:
        """Return what the trail says of all: of one everything, of many how many for each reason."""
        times = self._reasons.total()
        if times < 2:
            return {**self._last}
        reasons = ", ".join(f"{reason} {count}" for reason, count in self._reasons.most_common())
        return {**self._last, "sop_instance_uid": None, "error": None, "reason": reasons, "times": times}


class Intake:
    """Shared by the listener, the poller and the pages; safe to use from many threads."""

    def __init__(
        self, spool: Spool, ledger: Ledger, assembly: Assembly, audit: AuditTrail, sop_classes: Iterable[str]
    ) -> None:
        self.ledger = ledger
        self.spool = spool
        self._assembly = assembly
        self._audit = audit
        self._sop_classes = frozenset(sop_classes)
        self._flood_guard = FloodGuard()
        self._urgent = Asked(assembly.settings.urgent)
        self._counts = Counts()

    def store(
        self,
        receive: Callable[[], Part],
        *,
        sender: str,
        sop_instance_uid: str | None = None,
        sop_class_uid: str | None = None,
        study_instance_uid: str | None = None,
        address: str | None = None,
        called_ae_title: str | None = None,
        association: Hashable | None = None,
        refusals: Refusals | None = None,
    ) -> StoredInstance:
        """Take one instance.

        Parameters
        ----------
        receive
            Writes the DICOM file to the spool, byte for byte as it will stay there.
        sender
            Calling AE title, name of the archive, or `WEB:` and who showed a token.
        sop_instance_uid, sop_class_uid, study_instance_uid
            What the sender announced, if it announced anything; the file must agree.
        address
            Of the sender, for the audit trail.
        called_ae_title
            The name by which the sender called us.
        association
            Keeps the study open until :meth:`left`.
        refusals
            Of all that came with it, which the caller will `tell`; None: a refusal is told at once.

        Raises
        ------
        RefusedError
            With the reason; nothing of the instance stays behind.
        """
        try:
            part = receive()
            try:
                instance, header = self._read(part, sop_instance_uid, sop_class_uid)
                if study_instance_uid not in (None, instance.study_instance_uid):
                    raise RefusedError(Refusal.UID_MISMATCH, "expected an image of the study that was asked for")
                instance = replace(instance, sender=sender, called_ae_title=called_ae_title)
                is_urgent = bool(self._urgent) and any(
                    self._urgent.answers(Described.of(header, sender, called_ae_title))
                )
                arrival = self.ledger.studies.arrival(instance, part.sha256)
                if arrival is Arrival.NEW and self._shadows(part, instance):
                    arrival = Arrival.KNOWN
                if arrival is Arrival.NEW:
                    instance = self.spool.keep(part, instance)
                    arrival = self.ledger.studies.add(instance, part.sha256, is_urgent=is_urgent)
                if arrival is Arrival.OF_ANOTHER_STUDY:
                    if instance.path != part.path:  # only since `keep`
                        self.spool.delete([instance.path])
                    raise RefusedError(
                        Refusal.OTHER_STUDY, "expected a new SOP Instance UID, found one of an image of another study"
                    )
                if is_urgent and arrival is Arrival.KNOWN:  # sent once more, so that it goes first
                    self.ledger.studies.hurry(instance.study_instance_uid)
            finally:
                self.spool.drop(part)
        except (SpoolError, LedgerError) as error:
            refused = RefusedError(Refusal.NO_SPACE, str(error))
            self._note(refused, refusals, sender=sender, sop_instance_uid=sop_instance_uid, address=address)
            raise refused from error
        except RefusedError as error:
            self._note(error, refusals, sender=sender, sop_instance_uid=sop_instance_uid, address=address)
            raise
        self._assembly.arrived(instance.study_instance_uid, association, is_whole=self._is_whole(header, instance))
        self._audit.note(
            "instance_received",
            study_instance_uid=instance.study_instance_uid,
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            sender=sender,
            called_ae_title=called_ae_title,
            address=address,
            outcome=arrival,
            urgent=is_urgent or None,
        )
        return instance

    def left(self, request: Hashable, sender: str, *, is_whole: bool) -> None:
        """Note that a request ended: its studies are quiet from now on.

        They are complete if all of it was taken and its sender is known to send whole studies.
        """
        sends_all = sender in self._assembly.settings.whole_studies_from
        self._assembly.left(request, sent_all=sends_all and is_whole)

    def tell(self, refusals: Refusals) -> None:
        """Write the line of images that came together and were refused, if any was."""
        if told := refusals.told():
            self._audit.warn("instance_refused", **told)

    def rejected(self, sender: str, address: str, reason: str) -> None:
        """Note that an association was asked for and not given."""
        self._tell("association_rejected", sender, address, reason)

    def broken_off(self, sender: str | None, address: str, reason: str) -> None:
        """Note that a connection ended without a release; nobody asked for an association yet when `sender` is None."""
        self._tell("association_broken", sender, address, reason)

    def turned_away(self, address: str, reason: str) -> None:
        """Note that a connection was closed as soon as it was made."""
        self._tell("connection_refused", None, address, reason)

    def _tell(self, action: str, sender: str | None, address: str, reason: str) -> None:
        """Write a line, unless the same was just told of the same address often enough; then it has their number."""
        left_out = self._flood_guard.left_out((action, address, reason))
        if left_out is not None:
            self._audit.warn(
                action, sender=sender, address=address, reason=reason, times=left_out + 1 if left_out else None
            )

    def _read(
        self, part: Part, sop_instance_uid: str | None, sop_class_uid: str | None
    ) -> tuple[StoredInstance, Header]:
        """Check who a file is, without touching its pixels."""
        try:
            header = read_header(part.path, (*IDENTITY, "Manufacturer", *ATTRIBUTES, *self._urgent.attributes))
        except ImageError as error:
            raise RefusedError(Refusal.UNREADABLE, error.detail) from error
        try:
            instance = instance_of(header, part.path)
        except ImageError as error:
            raise RefusedError(Refusal.INVALID_UID, error.detail) from error
        if instance is None or instance.sop_class_uid not in self._sop_classes:
            found = shown(instance.sop_class_uid) if instance else "a DICOMDIR"
            raise RefusedError(Refusal.WRONG_SOP_CLASS, f"expected one of listener.sop_classes, found {found}")
        announced = (sop_instance_uid or instance.sop_instance_uid, sop_class_uid or instance.sop_class_uid)
        if announced != (instance.sop_instance_uid, instance.sop_class_uid):
            raise RefusedError(
                Refusal.UID_MISMATCH, "expected the SOP UIDs of the request in the data set, found others"
            )
        if header.values("Manufacturer") == [MANUFACTURER]:
            raise RefusedError(Refusal.OWN_OUTPUT, "expected a source image, found our own output")
        return instance, header

    def _is_whole(self, header: Header, instance: StoredInstance) -> bool:
        """Whether the header proves that all images of the study are here; it costs nothing where it says nothing."""
        if not self._counts.say(header):
            return False
        known = self.ledger.stories.images_of_series(instance.study_instance_uid)
        return self._counts.are_reached(header, instance, known)

    def _shadows(self, part: Part, instance: StoredInstance) -> bool:
        """Whether a file with no pixels, or damaged ones, would take the place of one that is whole."""
        kept = self.ledger.studies.path_of(instance.sop_instance_uid)
        return kept is not None and not is_whole(part.path) and is_whole(kept)

    def _note(
        self,
        refused: RefusedError,
        together: Refusals | None,
        *,
        sender: str,
        sop_instance_uid: str | None,
        address: str | None,
    ) -> None:
        """Tell the trail of a refusal, or count it with others that are told together."""
        uid = sop_instance_uid if sop_instance_uid and is_uid(sop_instance_uid) else None
        found = Refusals() if together is None else together
        found.add(refused.refusal, sop_instance_uid=uid, sender=sender, address=address, error=refused.detail)
        if together is None:
            self.tell(found)
