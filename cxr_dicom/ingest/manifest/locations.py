"""URLs of images elsewhere, in one spelling, and how people write them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cxr_dicom.ingest.folder import is_uid

BUCKETS = ("s3", "gs")

_BUCKET_URL = re.compile(r"(s3|gs|gcs)://([A-Za-z0-9][A-Za-z0-9._-]{1,221})/([^\0-\x1f\x7f]+)")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_MAX_NAME_LENGTH, _MAX_PATH_LENGTH = 255, 4095  # no file system has longer ones, and asking for them is an error
_LEVELS = ("studies", "series", "instances")
_COPY = frozenset({"cp", "sync"})


def canonical(text: str) -> str | None:
    """Return a URL in the one spelling in which duplicates are known, or None for what is none.

    A prefix ends in ``/*``. ``https`` URLs are those of WADO-RS: a study, or below one.
    """
    if found := _BUCKET_URL.fullmatch(text):
        scheme, bucket, name = found.groups()
        return f"{'s3' if scheme == 's3' else 'gs'}://{bucket}/{name}{'*' if name.endswith('/') else ''}"
    if text.startswith(("http://", "https://")) and "/studies/" in text:
        base, uids = split_dicomweb(text)
        is_open = "@" not in urlsplit(base).netloc  # a password would go into every row
        return dicomweb(base, *uids) if is_open and uids and all(map(is_uid, uids)) else None
    return None


def dicomweb(base: str, *uids: str) -> str:
    """Return the URL of a study, of a series of it, or of an instance of that."""
    return "/".join([base.rstrip("/"), *(f"{level}/{uid}" for level, uid in zip(_LEVELS, uids, strict=False))])


def split_dicomweb(url: str) -> tuple[str, list[str]]:
    """Split a URL that `dicomweb` built into its parts; no UIDs in any other URL."""
    base, _, rest = url.rstrip("/").partition("/studies/")
    parts = f"studies/{rest}".split("/")
    levels, uids = parts[::2], parts[1::2]
    fits = len(levels) == len(uids) and tuple(levels) == _LEVELS[: len(levels)]
    return base, uids if fits else []


def of_line(line: str) -> str | None:
    """Return the URL that a line is, or copies from: s5cmd, gsutil, ``gcloud storage``, ``aws s3``."""
    words = _words(line)
    if len(words) == 1:
        return canonical(words[0])
    copies = next((number for number, word in enumerate(words) if word in _COPY), len(words))
    for word in words[copies + 1 : -1]:  # the last word says where to
        if word.partition("://")[0] in (*BUCKETS, "gcs"):
            return canonical(word)
    return None


def as_google(source: str) -> str:
    """Return the URL of a bucket that Google's S3 interface gives."""
    return f"gs{source[2:]}" if source.startswith("s3://") else source


def local_path(text: str, folder: Path) -> Path | None:
    """Return the path that a text names, relative to a folder; None for what cannot be one."""
    name = unquote(urlsplit(text).path) if text.startswith("file://") else text
    if not name or "://" in name or _CONTROL.search(name):
        return None
    path = folder / name
    is_long = len(os.fsencode(path)) > _MAX_PATH_LENGTH or any(len(part) > _MAX_NAME_LENGTH for part in path.parts)
    return None if is_long else path


def _words(line: str) -> list[str]:
    if not set(line) & set("'\"\\"):
        return line.split()
    try:
        return shlex.split(line)
    except ValueError:
        return []
