"""The entries of a manifest, each with what is known here of its state when its turn comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import overload

from cxr_dicom.cohort.journal import Journal
from cxr_dicom.cohort.states import changed_at_each
from cxr_dicom.ingest.manifest import Entry

_AT_ONCE = 2048  # entries whose folders are asked about side by side


class Known(Sequence[Entry]):
    """Entries with `Entry.place` and `Entry.changed_at`.

    Parameters
    ----------
    out
        The output folder.
    journal
        Of its states.
    """

    def __init__(self, entries: Sequence[Entry], out: Path, journal: Journal) -> None:
        self._entries = entries
        self._out = out
        self._journal = journal

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        rest = iter(self._entries)
        while some := list(islice(rest, _AT_ONCE)):
            yield from self._with_states(some)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return self._with_states(self._entries[index])
        return self._with_states([self._entries[index]])[0]

    def _with_states(self, entries: Sequence[Entry]) -> list[Entry]:
        places = {entry.key: place for entry in entries if (place := self._journal.place(entry.key))}
        changed = dict(zip(places, changed_at_each([self._out / key for key in places]), strict=True))
        return [replace(each, place=places.get(each.key), changed_at=changed.get(each.key)) for each in entries]
