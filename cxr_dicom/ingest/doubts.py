"""What was doubted in the answers of an archive, said once."""

from __future__ import annotations

import logging

from cxr_dicom.system import telemetry


class Doubts:
    """Of one archive, for as long as it is in use."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._said: set[str] = set()

    def say(self, what: str, studies: int | None = None) -> None:
        """Warn of ``what``, unless that was said before."""
        if what not in self._said:
            self._said.add(what)
            telemetry.event(
                "answer_doubted", level=logging.WARNING, archive=self._archive, reason=what, studies=studies
            )
