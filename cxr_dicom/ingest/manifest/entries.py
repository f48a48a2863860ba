"""What a manifest is made of: entries, each one study, in the order in which they first appear."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

from cxr_dicom.records import Reason, Skipped, Study
from cxr_dicom.system.packed import Ordered

MODALITIES = ("CR", "DX")  # of radiographs; a series that says it has another one is not fetched

_MODALITY_OF: dict[str, str] = {
    ComputedRadiographyImageStorage: "CR",
    DigitalXRayImageStorageForPresentation: "DX",
    DigitalXRayImageStorageForProcessing: "DX",
}
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")  # PS3.5 6.2

Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One study, or one series where the manifest knows no studies; perhaps not on this machine yet."""

    key: str  # safe in a file name: the Study Instance UID, or "x" and 32 hexadecimal digits made of the sources
    study: Study | None = None  # when its files are on this machine
    picture: Path | None = None  # of which fetching makes an instance, which exists nowhere else
    sources: tuple[str, ...] = ()  # else URLs: s3, gs, or below a study of a DICOMweb server
    size: int | None = None  # bytes, where the manifest or the files state it
    instances: int | None = None  # how many, where known
    modalities: tuple[str, ...] = ()  # where known without fetching
    attributes: Attributes = ()  # what the manifest says of a picture that becomes an instance
    place: tuple[int, int, int] | None = None  # where the state of an earlier run lies, see `cohort.journal`
    changed_at: int | None = None  # when names in its folder changed last, see `cohort.states`; None: not asked yet

    @property
    def uids(self) -> list[str]:
        """UIDs of the study and its images, where they are known before anything is fetched."""
        if self.study is None:
            return []
        return [self.study.study_instance_uid, *(instance.sop_instance_uid for instance in self.study.instances)]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The studies of a cohort."""

    kind: str  # "folder", "table", "s5cmd", "dicomweb" or "uids"; "mixed" for several of these
    digest: str  # SHA-256 of the list; the contents of the files do not count
    entries: Sequence[Entry]  # in the order of first appearance, each key once
    skipped: tuple[Skipped, ...]  # what leads to no entry, and why


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One line that leads to images elsewhere."""

    line: int  # 1 is the first
    source: str
    study_instance_uid: str = ""  # empty: not known
    modality: str = ""
    size: int | None = None
    instances: int | None = None


@dataclass(slots=True)
class _Gathered:
    sources: list[str] = field(default_factory=list)
    modalities: set[str] = field(default_factory=set)
    size: int | None = 0
    instances: int | None = 0

    def add(self, item: Item) -> None:
        self.sources.append(item.source)
        self.modalities |= {item.modality} - {""}
        self.size = _sum(self.size, item.size)
        self.instances = _sum(self.instances, item.instances)


def remote(items: Iterable[tuple[Path, Item]]) -> tuple[list[Entry], list[Skipped]]:
    """Group items, each with the manifest that has it, by study; each source counts once."""
    gathered: dict[str, _Gathered] = {}
    skipped, seen = [], set()
    for manifest, item in items:
        if item.source in seen:
            continue
        seen.add(item.source)
        if item.modality and item.modality not in MODALITIES:
            modality = item.modality if _CODE_STRING.fullmatch(item.modality) else "another one"
            detail = f"expected modality {' or '.join(MODALITIES)}, found {modality}"
            skipped.append(at_line(manifest, item.line, detail, Reason.WRONG_SOP_CLASS))
            continue
        gathered.setdefault(item.study_instance_uid or key_of(item.source), _Gathered()).add(item)
    entries = [
        Entry(
            key=key,
            sources=tuple(found.sources),
            size=found.size,
            instances=found.instances,
            modalities=tuple(sorted(found.modalities)),
        )
        for key, found in gathered.items()
    ]
    return entries, skipped


def local(study: Study) -> Entry:
    """Make the entry of a study whose files are on this machine."""
    sop_classes = {instance.sop_class_uid for instance in study.instances}
    return Entry(
        key=study.study_instance_uid,
        study=study,
        size=sum(instance.path.stat().st_size for instance in study.instances),
        instances=len(study.instances),
        modalities=tuple(sorted({_MODALITY_OF[sop_class] for sop_class in sop_classes if sop_class in _MODALITY_OF})),
    )


def at_line(manifest: Path, line: int, detail: str, reason: Reason = Reason.UNREADABLE) -> Skipped:
    """Say what is wrong with a line; never what stands in it, which may be about a patient."""
    return Skipped(path=manifest, reason=reason, detail=f"line {line}: {detail}")


def key_of(*sources: str) -> str:
    """Make the key of an entry whose study is not known."""
    return f"x{hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:32]}"


def digest(entries: Iterable[Entry], query: Mapping[str, object]) -> str:
    """Digest a list; the order of its entries does not count."""
    total = hashlib.sha256(json.dumps(query, sort_keys=True).encode())
    for (line,) in Ordered((json.dumps([entry.key, *_places(entry)]),) for entry in entries):
        total.update(line.encode())
    return total.hexdigest()


def _places(entry: Entry) -> list[str]:
    if entry.study:
        return sorted(str(instance.path) for instance in entry.study.instances)
    return [str(entry.picture)] if entry.picture else sorted(entry.sources)


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
