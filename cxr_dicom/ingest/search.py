"""A search for studies that goes on until its answer is whole.

Servers cap their answers, some without a word, and pages may end before the matches do: Orthanc 1.10 with
``ModalitiesInStudy``, whatever has a limit of its own. So no answer of several studies is believed by itself. The same
question is asked in two or more parts, and each part has at least one study of the answer: if a cap had cut the
answer, its parts together have more. Then each part is asked for in the same way.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.ingest.archive import IncompleteAnswerError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.ingest.matching import Item, Keys, Verdict, bounds, judge

_MAX_STUDIES = 200_000
_MAX_QUESTIONS = 50_000
_MOST_REFUSALS = 25  # half of a decade is one day after 12, half of a day one second after 17
_SMALLEST_CAP = 10  # studies; fewer are not doubted where they cannot be parted by date and time
_CHARACTERS = frozenset(string.digits + string.ascii_uppercase)
_EARLIEST = date(1970, 1, 1)
_DAY_END = "235959.999999"

Say = Callable[[str, int], None]  # what is doubted in an answer, and of how many studies


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an archive says to one question, as far as it is what was asked."""

    items: list[Item]
    is_cut: bool = False  # there may be more
    has_foreign: bool = False  # a key was ignored
    refusal: ConnectionFailedError | None = None  # nothing was given, perhaps because there is too much


_Question = tuple[Keys, Answer | None]  # with its answer, where that is known


@dataclass(kw_only=True)
class Search:
    """One search at one archive; `matches` may be called once.

    Parameters
    ----------
    ask
        Asks one question, with all pages that the archive gives.
    say
        Takes what was doubted.
    """

    ask: Callable[[Keys], Answer]
    say: Say
    _seen: dict[str, Item] = field(default_factory=dict)
    _problems: list[str] = field(default_factory=list)
    _foreign: Counter[str] = field(default_factory=Counter)
    _questions: int = 0
    _refusals: int = 0  # one after the other

    def matches(self, questions: Iterable[Keys]) -> Iterator[Item]:
        """Yield the studies that match one of the questions, each once.

        Raises
        ------
        IncompleteAnswerError
            At the end, if there is something that was not read, or not proved to be all.
        """
        for keys in questions:
            yield from self._fresh(self._whole(keys, keys))
        for name, count in self._foreign.items():
            self.say(f"the archive gives studies that do not match {name}; they are left out", count)
        if self._problems:
            raise IncompleteAnswerError("; ".join(dict.fromkeys(self._problems)))

    def _fresh(self, found: Iterator[Item]) -> Iterator[Item]:
        for item in found:
            if (uid := item["StudyInstanceUID"][0]) not in self._seen:
                self._seen[uid] = item
                yield item

    def _whole(self, keys: Keys, original: Keys) -> Iterator[Item]:
        """Yield all that matches ``keys``, some of it perhaps twice."""
        waiting: list[_Question] = [(keys, None)]
        while waiting:
            asked, answer = waiting.pop()
            answer = answer or self._asked(asked, original)
            if answer.refusal:
                waiting += self._narrower(asked, answer.refusal)
                continue
            yield from answer.items
            if len(answer.items) < 2 and not answer.is_cut:
                continue
            if around := _around(asked, answer.items):
                waiting += ((part, None) for part in around)
            elif not (yield from self._in_parts(asked, original, answer, waiting)) and answer.is_cut:
                yield from self._wider(asked, original, answer)

    def _in_parts(
        self, keys: Keys, original: Keys, answer: Answer, waiting: list[_Question]
    ) -> Generator[Item, None, bool]:
        """Ask the same in parts; return whether that shows that all is found, or will be with what waits."""
        for parts in _parts(keys, answer.items):
            answers = [self._asked(part, original) for part in parts]
            for each in answers:
                yield from each.items
            if any(each.has_foreign for each in answers):  # the archive ignores what parts them
                continue
            known, found = _uids(answer), _uids(*answers)
            if found - known or any(each.is_cut for each in answers):
                waiting += zip(parts, answers, strict=True)
                return True
            if 2 * len(found) >= len(known):  # else it does not understand what parts them
                return True
        return False

    def _wider(self, keys: Keys, original: Keys, answer: Answer) -> Iterator[Item]:
        """Ask without the modality, and choose here; the last that can be tried."""
        if "ModalitiesInStudy" in keys:
            wider = {key: value for key, value in keys.items() if key != "ModalitiesInStudy"}
            answer = self._asked(wider, original)
            yield from answer.items
        if answer.is_cut:
            self._problems.append(f"{len(answer.items)} studies were given, and nothing proves that there are no more")

    def _asked(self, keys: Keys, original: Keys) -> Answer:
        self._questions += 1
        if self._questions > _MAX_QUESTIONS or len(self._seen) > _MAX_STUDIES:
            raise IncompleteAnswerError(f"more than {_MAX_STUDIES} studies, or {_MAX_QUESTIONS} questions about them")
        answer = self.ask(keys)
        self._refusals = self._refusals + 1 if answer.refusal else 0
        items, has_foreign = [], answer.has_foreign
        for item in answer.items:
            if not is_uid(next(iter(item.get("StudyInstanceUID", ())), "")):
                self._problems.append("an item of the answer cannot be read, or has no valid Study Instance UID")
                continue
            verdict, name = judge(original, item)
            if verdict is Verdict.UNPROVED:
                self._problems.append(f"the archive does not return {name}, which was asked for")
            elif verdict is Verdict.FOREIGN:
                self._foreign[name] += name in keys
            elif judge(keys, item)[0] is not Verdict.WANTED:
                has_foreign = True
            else:
                items.append(item)
        return Answer(items=items, is_cut=answer.is_cut, has_foreign=has_foreign, refusal=answer.refusal)

    def _narrower(self, keys: Keys, refusal: ConnectionFailedError) -> list[_Question]:
        """Return the parts of a question that was refused; a server that refuses those too means something else."""
        halves = _halves(keys)
        if not halves or self._refusals > _MOST_REFUSALS:
            raise refusal
        return [(half, None) for half in halves]


def _uids(*answers: Answer) -> set[str]:
    return {item["StudyInstanceUID"][0] for answer in answers for item in answer.items}


# --- parts of a question -----------------------------------------------------------------------------


def _around(keys: Keys, items: list[Item]) -> list[Keys]:
    """Return the question about the one day that all studies are of, and those about the days around it."""
    days = _days(items)
    first, last = bounds(keys.get("StudyDate", "")) or ("", "")
    if len(days) != 1 or first == last == days[0] or not _can_narrow(keys, "StudyDate"):
        return []
    day = days[0]
    ranges = [day]
    if not first or first < day:
        ranges.append(f"{first}-{_shifted(day, -1)}")
    if not last or day < last:
        ranges.append(f"{_shifted(day, 1)}-{last}")
    return [{**keys, "StudyDate": each} for each in ranges]


def _parts(keys: Keys, items: list[Item]) -> Iterator[list[Keys]]:
    """Yield ways to part a question so that each part has a study of the answer, or may have one that it lacks."""
    days = _days(items)
    if len(days) > 1 and _can_narrow(keys, "StudyDate"):
        first, last = bounds(keys.get("StudyDate", "")) or ("", "")
        middle = min(days[(len(days) - 1) // 2], max(day for day in days if day < days[-1]))
        ranges = (f"{first}-{middle}", f"{_shifted(middle, 1)}-{last}")
        yield [{**keys, "StudyDate": each} for each in ranges]
    elif _can_narrow(keys, "StudyTime") and (second := _middle_second(keys, items)):
        first, last = bounds(keys.get("StudyTime", "")) or ("000000", _DAY_END)
        ranges = (f"{first}-{_next(second)}", f"{_next(second)}-{last}")  # no fraction of a second is between them
        yield [{**keys, "StudyTime": each} for each in ranges]
    if len(items) >= _SMALLEST_CAP and "PatientID" not in keys:
        ends = {each["PatientID"][0][-1].upper() for each in items if each.get("PatientID", ("",))[:1] > ("",)}
        if len(ends) > 1:
            yield [{**keys, "PatientID": f"*{end}"} for end in sorted((_CHARACTERS | ends) - set("*?\\^="))]


def _halves(keys: Keys) -> list[Keys]:
    """Part a question of whose answer nothing is known: its days, or the seconds of its day."""
    if not _can_narrow(keys, "StudyDate"):
        return []
    first, last = bounds(keys.get("StudyDate", "")) or ("", "")
    begin, end = _day(first) or _EARLIEST, _day(last) or date.today() + timedelta(days=1)
    if begin < end:
        middle = begin + (end - begin) // 2
        ranges = (f"{first}-{middle:%Y%m%d}", f"{middle + timedelta(days=1):%Y%m%d}-{last}")
        return [{**keys, "StudyDate": each} for each in ranges]
    if first != last or not _can_narrow(keys, "StudyTime"):
        return []
    first, last = bounds(keys.get("StudyTime", "")) or ("000000", _DAY_END)
    early, late = _seconds(first), _seconds(last)
    if early >= late:
        return []
    middle_second = _clock((early + late) // 2)
    ranges = (f"{first}-{middle_second}.999999", f"{_clock((early + late) // 2 + 1)}-{last}")
    return [{**keys, "StudyTime": each} for each in ranges]


def _can_narrow(keys: Keys, name: str) -> bool:
    return not keys.get(name) or bounds(keys[name]) is not None


def _days(items: list[Item]) -> list[str]:
    """Return the valid Study Dates, one for each study, or none where all are the same; a study may have none."""
    days = sorted(day for item in items for day in item.get("StudyDate", ())[:1] if _day(day))
    return days if len(set(days)) != 1 else days[:1]


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])) if len(text) == 8 and text.isdecimal() else None
    except ValueError:
        return None


def _shifted(day: str, days: int) -> str:
    found = _day(day)
    try:
        return f"{found + timedelta(days=days):%Y%m%d}" if found else day
    except OverflowError:
        return day


def _middle_second(keys: Keys, items: list[Item]) -> str:
    """Return a time of day (HHMMSS) that has studies before it, and others more than a second after it; or nothing."""
    times = sorted(
        f"{time[:6]:0<6}" for item in items for time in item.get("StudyTime", ())[:1] if time[:2].isdecimal()
    )
    for time in times[(len(times) - 1) // 2 :: -1] if times else ():
        if times[-1] > _next(time):
            return time
    return ""


def _next(second: str) -> str:
    """Return the second after one of a day."""
    return _clock(min(_seconds(second) + 1, 86399))


def _seconds(time: str) -> int:
    return int(time[:2]) * 3600 + int(time[2:4]) * 60 + int(time[4:6])


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
