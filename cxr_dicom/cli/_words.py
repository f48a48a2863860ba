"""Numbers, sizes and times as people write them."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

from cxr_dicom.system.words import printable

if TYPE_CHECKING:
    from cxr_dicom.cohort.tally import Tally

_LEAST_WIDTH = 72  # an indented UID of 64 characters is whole
_PLAIN_SIZE = (240, 24)  # columns and lines where there is no terminal


def wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Wrap text for the terminal, with what stands before the first line and the others; no UID is broken."""
    width = max(shutil.get_terminal_size(_PLAIN_SIZE).columns, _LEAST_WIDTH)
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def size(count: int) -> str:
    """Write a number of bytes for people."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def counts(tally: Tally) -> list[str]:
    """Return the counts by outcome, the speed, and the time left."""
    parts = [f"{tally.images[outcome]} {outcome}" for outcome in ("processed", "skipped", "failed")]
    if tally.rate:
        parts.append(f"{tally.rate:.3g} images/s")
    if tally.seconds_left is not None:
        parts.append(f"{duration(tally.seconds_left)} left")
    return parts


def duration(seconds: float) -> str:
    """Write a length of time for people: ``2 d 3 h``, ``3 h 20 min``, ``45 s``."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest, parts = round(seconds), []
    for unit, length in units:
        amount, rest = divmod(rest, length)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2]) or "0 s"
