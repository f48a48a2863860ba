"""The running service as a site: studies of the ledger, with the rows and pictures that its workers kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cxr_dicom.records import StudyState
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.story import Row
from cxr_dicom.web.site import PAGE_SIZE, Line, Listing, Search, ShownStudy, StoredObject


class SpoolSite:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._ledger.folder.name

    def words(self) -> Mapping[str, Sequence[str]]:
        """Return the states."""
        return {"State": [str(state) for state in StudyState]}

    def find(self, search: Search) -> Listing:
        """Return studies, the latest change first; those that a UID leads to, by UID."""
        overview = self._ledger.overview
        if search.uid:
            rows = overview.named(search.uid, search.word, search.after, limit=PAGE_SIZE + 1)
        else:
            rows = overview.page(search.word, _before(search.after), limit=PAGE_SIZE + 1)
        states = self._ledger.stories.counts()
        total = None if search.uid else states[StudyState(search.word)] if search.word else sum(states.values())
        shown = rows[:PAGE_SIZE]
        calls = overview.calls([row["study_instance_uid"] for row in shown])
        last = shown[-1] if len(rows) > PAGE_SIZE else None
        after = "" if last is None else last["study_instance_uid"]
        return Listing(
            lines=[_line(row, calls.get(row["study_instance_uid"], ())) for row in shown],
            total=total,
            next=after if last is None or search.uid else f"{last['changed_at']!r}_{after}",
        )

    def study(self, key: str) -> ShownStudy | None:
        """Return a study with its story."""
        story = self._ledger.stories.show(key)
        if story is None:
            return None
        rows, figures = self._kept(key)
        objects = [
            StoredObject(
                uid=each["sop_instance_uid"],
                kind=each["kind"],
                path=self._ledger.folder / each["path"] if each["path"] else None,
                series="" if each["twin_of"] else each["series_instance_uid"],  # a BINARY twin is shown by no viewer
            )
            for each in story["objects"]
        ]
        why = "They are kept while pages are on ([web] port), and as long as the objects (retention.objects_days)."
        return ShownStudy(
            key=key,
            rows=[(0, row) for row in rows],
            figures=figures,
            objects=objects,
            story=story | {"timeline": _timeline(story)},
            without_pictures=why,
        )

    def _kept(self, key: str) -> tuple[list[Any], Mapping[str, Any]]:
        path = self._ledger.overview.shown(key)
        try:
            kept = json.loads(path.read_text(encoding="utf-8")) if path else {}
        except (OSError, ValueError):
            kept = {}  # retention was here meanwhile
        return kept.get("rows", []), kept.get("figures", {})


def _before(after: str) -> tuple[float, str] | None:
    changed, _, uid = after.partition("_")
    try:
        return float(changed), uid
    except ValueError:
        return None


def _line(row: Row, calls: Sequence[str]) -> Line:
    return Line(
        key=row["study_instance_uid"],
        states=[row["state"]],
        is_urgent=bool(row["urgent"]),
        is_paused=bool(row["paused"]),
        reasons=[row["reason"]] if row["reason"] else [],
        images=row["instances"],
        objects=row["objects"],
        calls=calls,
        changed_at=row["changed_at"],
    )


def _timeline(story: Row) -> list[tuple[float, str]]:
    """Return what happened to a study, the earliest first."""
    came = [(each["received_at"], f"image from {each['sender'] or 'unknown'}") for each in story["instances"]]
    ran = [(job["finished_at"], f"{job['outcome']} in {sum(job['seconds'].values()):.1f} s") for job in story["jobs"]]
    went = [
        (said["changed_at"], f"{said['destination']}: {each['kind'].replace('_', ' ')} {said['state']}")
        for each in story["objects"]
        for said in each["deliveries"]
    ]
    merged: dict[tuple[int, str], float] = {}
    for when, what in sorted([*came, *ran, *went]):
        merged.setdefault((int(when), what), when)
    return [(when, what) for (_, what), when in merged.items()]
