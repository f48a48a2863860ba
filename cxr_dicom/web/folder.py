"""An output folder of `run`: where each row lies is remembered, and rows are read when they are shown."""

from __future__ import annotations

import itertools
import json
import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cxr_dicom.cohort.journal import Journal
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.ingest.manifest.entries import key_of
from cxr_dicom.records import Outcome, Presence
from cxr_dicom.results import masks
from cxr_dicom.results.pages import amount
from cxr_dicom.results.report import Figure, is_drawn
from cxr_dicom.results.schema import HeaderColumns, Row
from cxr_dicom.web.answers import BUSY, NotAnsweredError
from cxr_dicom.web.site import PAGE_SIZE, Line, Listing, Search, ShownStudy, StoredObject

_NEEDED = Row.__required_keys__ - HeaderColumns.__required_keys__ - {"content", "geometry"}  # which rows always had
Draw = Callable[[Path, Path, Row], Sequence[Figure]]

_WRAPPED = "wrapped"  # kind of the instance that was made of a picture
_MAX_ROWS = 1000  # of one study that are shown
_MOST_DRAWN = 256  # images whose pictures, or the word why there are none, are kept in memory
_MOST_DRAWN_BYTES = 64 << 20  # of pictures that are kept in memory
_DRAWING_SECONDS = 20.0  # for the pictures of one study
_MAX_STATES = 1000  # of pictures and downloads, whose names do not tell the study, that are looked through


@dataclass(frozen=True, slots=True)
class _Index:
    """Numbers of studies, in the order of their first rows, and where their rows lie."""

    stamp: tuple[int, int]  # size and time of the file
    start: Path  # where relative paths of rows begin
    keys: list[str] = field(default_factory=list)
    places: list[list[tuple[int, int]]] = field(default_factory=list)  # line and offset of each row
    numbers: dict[str, int] = field(default_factory=dict)  # by key, and by UID of images and objects
    by_word: dict[str, dict[int, None]] = field(default_factory=dict)  # outcome or finding -> numbers, in their order
    ordered: list[str] = field(default_factory=list)  # keys


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Pictures that were made for a page."""

    stamp: tuple[int, int]  # of the file with the rows
    figures: Sequence[Figure] = ()
    problem: str = ""  # why there are none, and will be none

    @property
    def size(self) -> int:
        return sum(len(str(figure[part])) for figure in self.figures for part in ("source", "layer"))


class Folder:
    """See the module.

    Parameters
    ----------
    draw
        Draws the pictures of an image from its file, the folder and its row, where `run` kept a small one only. It
        raises `NotAnsweredError`.

    Raises
    ------
    CxrDicomError
        If it is not the output of a run.
    """

    def __init__(self, out: Path, draw: Draw | None = None) -> None:
        self._out = out
        self._draw = draw
        self._drawn: OrderedDict[str, _Drawn] = OrderedDict()  # by SOP Instance UID, the oldest first
        self._lines = out / "results.jsonl"
        self._reading = threading.Lock()
        self._keeping = threading.Lock()
        self._kept: Journal | None = None
        self._index = self._read_index()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._out.resolve().name

    def words(self) -> Mapping[str, Sequence[str]]:
        """Return outcomes, and findings that were called present anywhere."""
        outcomes = [str(outcome) for outcome in Outcome]
        findings = sorted(word for word in self._fresh().by_word if word not in outcomes)
        return {"Outcome": outcomes, "Called present": findings}

    def find(self, search: Search) -> Listing:
        """Return studies in the order of the rows."""
        index = self._fresh()
        numbers = self._wanted(index, search)
        begin = int(search.after) if search.after.isdecimal() and len(search.after) < 10 else 0
        page = numbers[begin : begin + PAGE_SIZE]
        return Listing(
            lines=[self._line(index, number) for number in page],
            total=len(numbers),
            next=str(begin + PAGE_SIZE) if begin + PAGE_SIZE < len(numbers) else "",
        )

    def study(self, key: str) -> ShownStudy | None:
        """Return a study, with the pictures that `run` kept."""
        index = self._fresh()
        number = index.numbers.get(key)
        if number is None or index.keys[number] != key:
            return None
        rows = list(self._rows(index, number))
        figures = self._figures(key, [row for _, row in rows])
        problem = self._complete([row for _, row in rows], figures)
        return ShownStudy(
            key=key,
            rows=rows,
            figures=figures,
            objects=list(self._objects(row for _, row in rows)),
            without_pictures="The objects below have all that was found.",
            about_pictures=problem,
        )

    def _complete(self, rows: Iterable[Row], figures: dict[str, Sequence[Figure]]) -> str:
        """Draw what `run` did not keep of a study; say why some of it is not there."""
        problem, until = "", time.monotonic() + _DRAWING_SECONDS
        for row in rows:
            uid = row["sop_instance_uid"] or ""
            if row["outcome"] != Outcome.PROCESSED or is_drawn(figures.get(uid, ())) or self._draw is None:
                continue
            source = self.source(row)
            if source is None:
                problem = "Of an image that does not lie here any more, `run` kept a small picture only."
            elif time.monotonic() > until:
                problem = "There are too many images to draw all of them at once; load the page again for more."
            else:
                made = self._drawn_of(uid, partial(self._draw, source, self._out, row))
                problem = made.problem or problem
                if made.figures:
                    figures[uid] = made.figures
        return problem

    def _drawn_of(self, uid: str, draw: Callable[[], Sequence[Figure]]) -> _Drawn:
        """Return pictures that were drawn before, or draw them; the latest are kept."""
        stamp = _stamp(self._lines)
        with self._keeping:
            kept = self._drawn.get(uid)
            if kept is not None and kept.stamp == stamp:
                self._drawn.move_to_end(uid)
                return kept
        try:
            made = _Drawn(stamp, draw())
        except NotAnsweredError as error:
            made = _Drawn(stamp, problem=f"`run` kept a small picture only. {error.text}")
            if error.status == BUSY:
                return made
        with self._keeping:
            self._drawn[uid] = made
            while len(self._drawn) > _MOST_DRAWN or self._bytes() > _MOST_DRAWN_BYTES:
                self._drawn.popitem(last=False)
        return made

    def _bytes(self) -> int:
        return sum(each.size for each in self._drawn.values())

    def _wanted(self, index: _Index, search: Search) -> Sequence[int]:
        if not search.uid:
            return list(index.by_word.get(search.word, ())) if search.word else range(len(index.keys))
        if search.uid in index.numbers:
            found = [index.numbers[search.uid]]
        else:
            first, end = bisect_left(index.ordered, search.uid), bisect_right(index.ordered, search.uid + "\x7f")
            found = sorted(index.numbers[key] for key in index.ordered[first:end])
        if not search.word:
            return found
        of_word = index.by_word.get(search.word, {})
        return [number for number in found if number in of_word]

    def _rows(self, index: _Index, number: int) -> Iterator[tuple[int, Row]]:
        with self._lines.open("rb") as file:
            for line, place in index.places[number][:_MAX_ROWS]:
                file.seek(place)
                row = json.loads(file.readline())
                if _key(row, line) != index.keys[number]:
                    raise NotAnsweredError(503, f"{self._lines.name} was written anew while it was read.")
                if missing := sorted(_NEEDED - row.keys()):
                    raise NotAnsweredError(
                        422, f"Line {line} of {self._lines.name}: expected {missing[0]}, found none."
                    )
                yield line, dict.fromkeys(Row.__required_keys__) | row

    def _objects(self, rows: Iterator[Row]) -> Iterator[StoredObject]:
        seen = set()
        for row in rows:
            for each in row["objects"]:
                if each["sop_instance_uid"] not in seen:
                    seen.add(each["sop_instance_uid"])
                    yield StoredObject(
                        uid=each["sop_instance_uid"],
                        kind=each["kind"],
                        path=self.file(each["path"]),
                        series=each.get("series_instance_uid", ""),  # a folder of somebody else may have none
                    )

    def _line(self, index: _Index, number: int) -> Line:
        try:
            return _line(index.keys[number], self._rows(index, number))
        except (NotAnsweredError, LookupError, TypeError, AttributeError, ValueError):  # rows of somebody else
            return Line(key=index.keys[number], states=(Outcome.FAILED,), reasons=("its rows cannot be read",))

    def studies(self) -> Sequence[str]:
        """Return the keys of all studies, in the order of the rows."""
        return self._fresh().keys

    def rows(self, key: str) -> list[Row]:
        """Return the rows of a study; none for one that is not here."""
        index = self._fresh()
        number = index.numbers.get(key)
        if number is None or index.keys[number] != key:
            return []
        return [row for _, row in self._rows(index, number)]

    def source(self, row: Row) -> Path | None:
        """Return where the image of a row should lie: the instance made of a picture, else what the run was given.

        Relative paths begin where the run was started, as `run.json` has it.
        """
        for made in row["exports"]:
            if made["kind"] == _WRAPPED:
                return self.file(made["path"])
        if "://" in row["path"]:
            return None  # fetched from elsewhere, and not kept
        path = self._fresh().start / row["path"]
        try:
            return path if path.is_file() else None
        except (OSError, ValueError):  # no name that a file may have
            return None

    def file(self, path: str) -> Path | None:
        """Return a file of the folder; None where there is none, or only outside of it."""
        try:
            inside = masks.inside(self._out, path)
        except ValueError:
            return None
        return inside if inside.is_file() else None

    def _figures(self, key: str, rows: Sequence[Row]) -> dict[str, Sequence[Figure]]:
        wanted = {row["sop_instance_uid"] for row in rows} - {None}
        found: dict[str, Sequence[Figure]] = {}
        kept = self._journal()
        for name in self._state_names(key, rows, kept):
            state = kept.load(name)
            if state is not None:
                found |= {uid: each for uid, each in state.figures.items() if uid in wanted and each}
            if wanted <= found.keys():
                break
        return found

    def _journal(self) -> Journal:
        """Return the states as they are now."""
        with self._reading:
            if self._kept is None:
                self._kept = Journal(self._out)
            else:
                self._kept.refresh()
            return self._kept

    def _state_names(self, key: str, rows: Sequence[Row], kept: Journal) -> Iterator[str]:
        """Yield where the state of a study may lie, the likeliest first."""
        yield key
        for row in rows:
            yield key_of(row["path"])
            yield key_of(Path(row["path"]).absolute().as_uri())
        yield from itertools.islice((name for name in kept if name.startswith("x")), _MAX_STATES)

    def _fresh(self) -> _Index:
        """Return the index of the file as it is now."""
        with self._reading:  # once, however many pages are asked for meanwhile
            if self._index.stamp != _stamp(self._lines):
                try:
                    self._index = self._read_index()
                except CxrDicomError as error:
                    raise NotAnsweredError(503, f"{self._lines.name} cannot be read now.") from error
            return self._index

    def _read_index(self) -> _Index:
        index = _Index(_stamp(self._lines), _start(self._out))
        place = 0
        try:
            with self._lines.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if index.keys and not line.endswith(b"\n"):
                        break  # it is being written
                    _add(index, number, place, json.loads(line))
                    place += len(line)
        except OSError as error:
            raise CxrDicomError(f"{self._out}: not the output of `run`: no {self._lines.name} to read") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CxrDicomError(
                f"{self._lines}: expected one row of results on each line, got {type(error).__name__}"
            ) from error
        index.ordered.extend(sorted(index.keys))
        return index


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _start(out: Path) -> Path:
    """Return the folder where the run was started; that of this process, where an earlier version ran."""
    try:
        started_in = json.loads((out / "run.json").read_text(encoding="utf-8"))["started_in"]
        return out.resolve() / str(started_in)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Path.cwd()


def _add(index: _Index, line: int, place: int, row: Row) -> None:
    key = _key(row, line)
    number = index.numbers.setdefault(key, len(index.keys))
    if number == len(index.keys):
        index.keys.append(key)
        index.places.append([])
    index.places[number].append((line, place))
    for uid in (row["sop_instance_uid"], *(each["sop_instance_uid"] for each in row["objects"])):
        if uid:
            index.numbers.setdefault(uid, number)
    for word in (row["outcome"], *_calls(row)):
        index.by_word.setdefault(word, {})[number] = None


def _key(row: Row, line: int) -> str:
    return row["study_instance_uid"] or f"line-{line}"


def _calls(row: Row) -> list[str]:
    called = (*row["scores"].items(), *row["statements"].items())
    return [name for name, found in called if found["call"] == Presence.PRESENT]


def _line(key: str, rows: Iterator[tuple[int, Row]]) -> Line:
    found = [row for _, row in rows]
    ratios = [
        row["measurements"]["cardiothoracic_ratio"] for row in found if "cardiothoracic_ratio" in row["measurements"]
    ]
    return Line(
        key=key,
        states=list(dict.fromkeys(row["outcome"] for row in found)),
        reasons=list(dict.fromkeys(row["reason"] for row in found if row["reason"])),
        images=len(found),
        objects=len({each["sop_instance_uid"] for row in found for each in row["objects"]}),
        calls=list(dict.fromkeys(name for row in found for name in _calls(row))),
        numbers=[amount(ratio["value"]) for ratio in ratios if ratio["value"] is not None],
    )
