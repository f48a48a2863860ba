"""How many images a study has, as its own headers say (PS3.4 C.3.4).

These attributes are of queries; archives that send images often leave them in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

from cxr_dicom.dicom.files import Header
from cxr_dicom.records import StoredInstance

_STUDY = "NumberOfStudyRelatedInstances"
_SERIES_OF_STUDY = "NumberOfStudyRelatedSeries"
_SERIES = "NumberOfSeriesRelatedInstances"
ATTRIBUTES = (_STUDY, _SERIES_OF_STUDY, _SERIES)  # that `Counts.say` reads

_MOST_SERIES = 10_000  # of which it is remembered what they said


class Counts:
    """What headers said; safe to share between threads. What is forgotten proves nothing."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, int] = OrderedDict()  # images of a series, by its UID
        self._guard = threading.Lock()

    def say(self, header: Header) -> bool:
        """Tell whether a header says anything."""
        return any(_number(header, keyword) for keyword in ATTRIBUTES)

    def are_reached(self, header: Header, instance: StoredInstance, known: Mapping[str, int]) -> bool:
        """Tell whether all images of a study are here.

        Parameters
        ----------
        header
            Of the image that came last, read for `ATTRIBUTES`.
        known
            How many images of each series of the study are here, by Series Instance UID.
        """
        total, series, images = (_number(header, keyword) for keyword in ATTRIBUTES)
        with self._guard:
            if images:
                self._said[instance.series_instance_uid] = images
                self._said.move_to_end(instance.series_instance_uid)
                while len(self._said) > _MOST_SERIES:
                    self._said.popitem(last=False)
            if total:  # the archive counts all that it has, and so more than we take
                return sum(known.values()) >= total
            is_each_whole = all(count >= self._said.get(uid, count + 1) for uid, count in known.items())
            return bool(series) and len(known) >= series and is_each_whole


def _number(header: Header, keyword: str) -> int:
    """Return a count; 0 where there is none that makes sense."""
    number = header.integer(keyword)
    return number if number and number > 0 else 0
