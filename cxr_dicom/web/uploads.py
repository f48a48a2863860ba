"""What comes from a browser: one file after the other, through the same intake as C-STORE.

A file is DICOM, a PNG or JPEG, of which a DX image is made, or a ZIP archive of such files. Nothing is ever named or
placed by what a browser or an archive calls it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.intake import Intake, Refusals, RefusedError
from cxr_dicom.ingest.wrap import is_picture, wrap
from cxr_dicom.records import StoredInstance
from cxr_dicom.store.spool import Part, PartFile, SpoolFullError
from cxr_dicom.system.archives import DAMAGED, METHODS, ArchiveRefusedError, expect_small_directory, too_many

_CHUNK = 1 << 16
_Store = Callable[[Callable[[], Part]], StoredInstance]  # into the intake


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What became of one file."""

    study_instance_uid: str = ""  # empty: refused
    sop_instance_uid: str = ""
    is_made_up: bool = False  # wrapped: patient, spacing and orientation are not known
    reason: str = ""  # why it was refused


class Uploads:
    """Takes files in. Safe to use from many threads."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake

    def begin(self) -> PartFile:
        """Open a file for what comes.

        Raises
        ------
        SpoolFullError
            If the disk is fuller than the settings want.
        """
        return self._intake.spool.begin()

    def take(self, part: Part, *, sender: str, address: str) -> list[Taken]:
        """Take what came, one file or all of an archive; the part is gone afterwards.

        What is refused is told to the trail together.
        """
        refusals = Refusals()
        store = partial(self._intake.store, sender=sender, address=address, refusals=refusals)
        try:
            if zipfile.is_zipfile(part.path) and _starts(part.path, b"PK"):
                taken: list[Taken] = []
                try:
                    taken.extend(self._unpacked(part.path, store))
                except (ArchiveRefusedError, SpoolFullError) as error:
                    if isinstance(error, SpoolFullError) and not taken:
                        raise
                    taken.append(Taken(reason=str(error)))  # what was taken before stays, and is told
                return taken
            return [self._one(part, store)]
        finally:
            part.path.unlink(missing_ok=True)
            self._intake.tell(refusals)

    def _unpacked(self, path: Path, store: _Store) -> Iterator[Taken]:
        web = self._settings.web
        left = web.max_upload_mb << 20
        expect_small_directory(path, web.max_upload_files)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > web.max_upload_files:  # the end of the archive may say another number
                    raise ArchiveRefusedError(too_many(web.max_upload_files))
                for member in members:
                    if member.flag_bits & 1 or member.compress_type not in METHODS:
                        yield Taken(reason="UNREADABLE: expected a member without password, stored or deflated")
                        continue
                    part, size = self._member(archive, member, left)
                    left -= size
                    if _starts(part.path, b"PK\x03\x04"):
                        self._intake.spool.drop(part)
                        yield Taken(reason="UNREADABLE: an archive within an archive is not opened")
                        continue
                    yield self._one(part, store)
        except DAMAGED as error:
            raise ArchiveRefusedError(f"UNREADABLE: expected a whole archive, got {type(error).__name__}") from error

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int) -> tuple[Part, int]:
        """Unpack one file, whatever it says of its length."""
        file, size = self.begin(), 0
        try:
            with archive.open(member) as stream:
                while chunk := stream.read(_CHUNK):
                    size += len(chunk)
                    if size > left:
                        raise ArchiveRefusedError(
                            f"TOO_LONG: expected at most {self._settings.web.max_upload_mb} MB in an archive"
                        )
                    file.write(chunk)
        except BaseException:
            file.drop()
            raise
        return file.finish(), size

    def _one(self, part: Part, store: _Store) -> Taken:
        """Take one file that is no archive."""
        is_made_up = is_picture(part.path)
        try:
            longest = self._settings.listener.max_instance_mb
            if part.path.stat().st_size > longest << 20:
                return Taken(reason=f"TOO_LONG: expected at most {longest} MB (listener.max_instance_mb)")
            wrapped = self._wrapped(part) if is_made_up else part
            instance = store(lambda: wrapped)
        except (RefusedError, ImageError) as error:
            return Taken(reason=str(error))
        finally:
            self._intake.spool.drop(part)
        return Taken(
            study_instance_uid=instance.study_instance_uid,
            sop_instance_uid=instance.sop_instance_uid,
            is_made_up=is_made_up,
        )

    def _wrapped(self, part: Part) -> Part:
        dataset = wrap(part.path, max_pixels=self._settings.select.max_pixels)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return self._intake.spool.write_part([buffer.getvalue()])


def _starts(path: Path, signature: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(signature)) == signature
