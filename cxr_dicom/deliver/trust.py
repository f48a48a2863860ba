"""What a destination is trusted to take though not every one does, until it shows that it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

_FAILURES = 3  # in a row: one may have another cause
_PAUSE = 3600.0  # seconds, after which it may have been put right


class Trust:
    """Trust that holds until three failures in a row, and again an hour later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures, self._since = 0, 0.0

    @property
    def holds(self) -> bool:
        """Whether to go on."""
        if self._failures >= _FAILURES and self._clock() - self._since >= _PAUSE:
            self._failures = 0
        return self._failures < _FAILURES

    def note(self, *, was_right: bool) -> None:
        """Take note of how it went."""
        self._failures = 0 if was_right else self._failures + 1
        self._since = self._clock()
