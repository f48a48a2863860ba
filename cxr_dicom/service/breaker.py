"""A circuit breaker: a place that does not answer is left alone for a while, not asked for every object."""

from __future__ import annotations

import time
from collections.abc import Callable

from cxr_dicom.system.retry import LONGEST_ASKED_PAUSE, pause_after


class Breaker:
    """Closed while a place answers; open, for growing pauses, while it does not.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the place is to be left alone now."""
        return self._clock() < self._open_until

    @property
    def is_closed(self) -> bool:
        """Whether the place answered when it was last asked, or was not asked yet."""
        return self._failures == 0

    def succeeded(self) -> None:
        """Close: the place answered."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self, retry_after: float | None = None) -> float:
        """Open: the place did not answer. Return the pause in seconds."""
        self._failures += 1
        pause = max(pause_after(self._failures), min(retry_after or 0.0, LONGEST_ASKED_PAUSE))
        self._open_until = self._clock() + pause
        return pause
