"""What may be written about a study, and how: the one place that decides.

A log record is an action and fields of a fixed list: UIDs, codes, numbers. Names, IDs, dates and
free text of patients have no field, so they cannot be written; the text of a foreign exception,
which may quote a data set, is replaced by its type and place. Libraries underneath quote bad
values too (pydicom's warnings do), so their own logging stays silent.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cxr_dicom.errors import CxrDicomError

FIELDS = frozenset(
    {
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        "sop_class_uid",
        "outcome",
        "reason",
        "error",
        "model",
        "device",
        "processed",
        "skipped",
        "failed",
        "objects",
        "seconds",
        "files",
        "studies",
        "jobs",
        "sender",
        "called_ae_title",
        "address",
        "port",
        "host",  # a machine of ours
        "processor",
        "state",
        "status",
        "destination",
        "archive",
        "times",
        "urgent",  # whether an image is of an emergency
        "by",  # the login of a person of this house who did something, and by what means
        "via",
    }
)

_LOGGER = logging.getLogger("cxr_dicom")
_LOGGER.addHandler(logging.NullHandler())  # a library is silent until the program says otherwise
_configuration: tuple[int, bool] | None = None

_REPEAT_SECONDS = 3600.0
_RETURN_SECONDS = 600.0  # for what comes and goes
_MOST_REPEATS = 50  # kinds of trouble that are counted
_NUMBERS = re.compile(r"\d+")

Value = str | int | float


def event(action: str, *, level: int = logging.INFO, **fields: Value | None) -> None:
    """Write that ``action`` happened.

    Parameters
    ----------
    action
        Stable word: ``study_done``.
    level
        As in ``logging``.
    fields
        Names from `FIELDS`; None is left out.

    Raises
    ------
    ValueError
        For a field that is not on the list.
    """
    _LOGGER.log(level, action, extra={"action": action, "fields": known(fields)})


def known(fields: Mapping[str, Value | None]) -> dict[str, Value]:
    """Return the fields that have a value.

    Raises
    ------
    ValueError
        For a field that is not on the list.
    """
    if unknown := fields.keys() - FIELDS:
        raise ValueError(f"a log record has no field {', '.join(sorted(unknown))}")
    return {name: value for name, value in fields.items() if value is not None}


def failure(action: str, error: BaseException, **fields: Value | None) -> None:
    """Write that ``action`` failed, with what may be said of ``error``."""
    event(f"{action}_failed", level=logging.ERROR, error=safe_description(error), **fields)


@contextmanager
def told(action: str, *kinds: type[Exception]) -> Iterator[None]:
    """Go on when ``action`` fails inside with one of these errors, and write that it did."""
    try:
        yield
    except kinds as error:
        failure(action, error)


class Repeats:
    """Writes the same trouble of one peer once an hour, with a count, and not each time it comes.

    Threads may share it.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._since = 0.0
        self._total = 0
        self._is_known = False  # whether anything was written since it was over
        self._untold: dict[str, tuple[float, int]] = {}  # by action and words: when it was written, how often since

    def failed(self, action: str, words: str, *, level: int, **fields: Value | None) -> None:
        """Write that ``action`` failed, with ``words`` as its error, unless `tell` would not."""
        self.tell(action, words, level=level, error=words, **fields)

    def tell(self, action: str, words: str, *, level: int, **fields: Value | None) -> None:
        """Write ``action``, unless the same was written within the hour.

        It is the same when action and ``words`` are, whatever the numbers in them. When it comes again after its end,
        it is written again after ten minutes.
        """
        with self._guard:
            times = self._counted(_NUMBERS.sub("0", f"{action} {words}"))
        if times is not None:
            event(action, level=level, **{**fields, "times": times + 1 if times else fields.get("times")})

    def ended(self, action: str, **fields: Value | None) -> None:
        """Write that it is over, how often it came and how long it took; nothing where nothing was written of it."""
        with self._guard:
            total, seconds, is_known = self._total, round(self._clock() - self._since), self._is_known
            self._total, self._is_known = 0, False
        if is_known:
            event(action, level=logging.WARNING, times=total, seconds=seconds, **fields)

    def _counted(self, key: str) -> int | None:
        """Count one more; return how many were left out before it, None when it is left out too."""
        now = self._clock()
        self._since = self._since if self._total else now
        self._total += 1
        told_at, times = self._untold.pop(key, (now - _REPEAT_SECONDS, 0))
        if now - told_at < (_REPEAT_SECONDS if self._is_known else _RETURN_SECONDS):
            self._untold[key] = (told_at, times + 1)
            return None
        if len(self._untold) >= _MOST_REPEATS:
            del self._untold[next(iter(self._untold))]
        self._untold[key] = (now, 0)
        self._is_known = True
        return times


def safe_description(error: BaseException) -> str:
    """Say what went wrong without quoting anything that may come from a data set.

    Our own errors hold no patient data. Of others only the type and the place are told.
    """
    if isinstance(error, CxrDicomError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def configure(verbosity: int = 0, *, as_json: bool = False) -> None:
    """Send the log to standard error.

    Parameters
    ----------
    verbosity
        Below 0 errors only, 0 warnings, 1 information, 2 and above everything.
    as_json
        One JSON object per line instead of text.
    """
    global _configuration
    _configuration = (verbosity, as_json)
    levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(levels[min(max(verbosity, -1), 2) + 1])
    _LOGGER.propagate = False
    _silence_libraries()


def configuration() -> tuple[int, bool] | None:
    """Return what `configure` was last called with, for a worker process to do the same."""
    return _configuration


def configure_as(configuration: tuple[int, bool] | None) -> None:
    """Do as in the process that ``configuration`` comes from."""
    if configuration:
        configure(configuration[0], as_json=configuration[1])


def _silence_libraries() -> None:
    """Drop what other libraries log or warn of: it may quote a data set."""
    logging.captureWarnings(True)
    root = logging.getLogger()
    if not root.handlers:  # without any handler Python itself writes warnings to standard error
        root.addHandler(logging.NullHandler())
    for name in ("pydicom", "highdicom", "pynetdicom", "py.warnings"):
        logging.getLogger(name).handlers = [logging.NullHandler()]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "action": getattr(record, "action", record.getMessage()),
            **getattr(record, "fields", {}),
        }
        return json.dumps(content)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_text(value)}" for name, value in getattr(record, "fields", {}).items())
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{when} {record.levelname.lower()} {record.getMessage()} {fields}".rstrip()


def _text(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)
