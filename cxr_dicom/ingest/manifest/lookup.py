"""From what a list says to where the images are: UIDs are looked up at a server or in an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.manifest import idc, locations
from cxr_dicom.ingest.manifest.entries import Item, at_line
from cxr_dicom.ingest.manifest.lists import Listing
from cxr_dicom.records import Skipped

_INDEXED = ("StudyInstanceUID", "SeriesInstanceUID")  # columns of the index


def looked_up(listing: Listing, manifest: Path, access: HttpAccess | None) -> tuple[list[Item], list[Skipped]]:
    """Return where the images of a list are, and which lines lead nowhere.

    Raises
    ------
    ManifestError
        If there are UIDs and nothing to look them up with.
    """
    if not listing.uids:
        return idc.completed(listing.items), []
    if access:
        return _at_server(listing, manifest, access)
    index = idc.index()
    if index is None:
        raise ManifestError(
            f"{manifest}: UIDs alone do not say where the images are: name their DICOMweb server (--from URL), "
            f"or install {idc.PACKAGE} if they are of Imaging Data Commons"
        )
    return _in_index(listing, manifest, index)


def _at_server(listing: Listing, manifest: Path, access: HttpAccess) -> tuple[list[Item], list[Skipped]]:
    items, lost = [], []
    for uids, line in listing.uids.items():
        if all(uids):
            item = Item(line=line, source=locations.dicomweb(access.url, *uids), study_instance_uid=uids[0])
            items.append(item)
        else:
            lost.append(at_line(manifest, line, "expected StudyInstanceUID too: a DICOMweb server is asked by study"))
    return list(_without_parts(items)), lost


def _without_parts(items: list[Item]) -> Iterator[Item]:
    """Leave out series and instances of what is listed as a whole."""
    whole = {item.source for item in items}
    for item in items:
        parents = item.source.split("/")
        above = {"/".join(parents[:end]) for end in range(len(parents) - 2, 0, -2)}
        if not above & whole:
            yield item


def _in_index(listing: Listing, manifest: Path, index: Path) -> tuple[list[Item], list[Skipped]]:
    """Look up the series where one is named, else the study; the index has no instances."""
    by_level: list[dict[str, list[Item]]] = []
    for level, column in enumerate(_INDEXED):
        wanted = [uids[level] for uids in listing.uids if len(uids[:2]) == level + 1]
        by_level.append(idc.series(index, column, wanted) if wanted else {})
    items, lost = [], []
    for uids, line in listing.uids.items():
        level = len(uids[:2]) - 1
        known = by_level[level].get(uids[level], []) if uids[level] else []
        items += [replace(item, line=line) for item in known]
        if not known:
            lost.append(at_line(manifest, line, f"expected a series or study of Imaging Data Commons ({idc.PACKAGE})"))
    return items, lost
