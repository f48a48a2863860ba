"""Objects in buckets to files in a folder, through fsspec.

Both kinds of bucket speak the protocol of S3, Google's at an address of its own. Access is
anonymous, as public archives want it, unless the environment has credentials. Files get
numbers for names, so no name of an object can lead out of the folder.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cxr_dicom.errors import FetchError, ManifestError, how_to_install
from cxr_dicom.ingest.manifest.attempts import tried

_PARALLEL = 4  # transfers of one entry at a time
_GOOGLE = "https://storage.googleapis.com"  # speaks the protocol of S3 too
_NO_RETRIES = {"retries": {"total_max_attempts": 1}}
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")


def expect_client() -> None:
    """Raise a ManifestError where the client of buckets is not installed."""
    if find_spec("s3fs") is None:
        raise ManifestError(f"s3:// and gs:// need a package that is missing; {how_to_install('cloud')}")


def fetch(sources: Sequence[str], folder: Path) -> dict[Path, str]:
    """Fetch every object of URLs, and say which file is which.

    Raises
    ------
    FetchError
        If one cannot be fetched whole, or a URL leads to none.
    """
    objects: dict[str, int] = {}
    for source in sources:
        objects |= tried(source, partial(_objects, source))
    files = {folder / f"{number:06}": url for number, url in enumerate(objects)}
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        transfers = [pool.submit(tried, url, partial(_get, url, objects[url], path)) for path, url in files.items()]
        for transfer in transfers:
            transfer.result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for those that run: nothing is written after this
    return files


def _get(url: str, size: int, path: Path) -> None:
    scheme, _, name = url.partition("://")
    _file_system(scheme).get_file(name, str(path))
    if path.stat().st_size != size:
        raise EOFError


def _objects(source: str) -> dict[str, int]:
    """Return the objects of a URL with their sizes; ``*`` also stands for slashes, as in s5cmd."""
    scheme, _, name = source.partition("://")
    fixed = re.split(r"[*?]", name, maxsplit=1)[0]
    start, pattern = (name, None) if fixed == name else (fixed.rpartition("/")[0], _pattern(source))
    listed = _file_system(scheme).find(start, detail=True)
    sizes = {f"{scheme}://{name}": int(info["size"]) for name, info in sorted(listed.items()) if name[-1] != "/"}
    found = {url: size for url, size in sizes.items() if pattern is None or pattern.fullmatch(url)}
    if not found:
        raise FetchError(f"{source}: expected objects, found none")
    return found


def _pattern(source: str) -> re.Pattern[str]:
    """Return the pattern of a URL; that of `fnmatch` never goes back, however many ``*`` there are."""
    return re.compile(fnmatch.translate(source.replace("[", "[[]")))


def _file_system(scheme: str) -> Any:
    import fsspec

    client = fsspec.filesystem("s3", use_listings_cache=False, **_options(scheme))
    client.retries = 1  # what may pass is tried again by us
    return client


def _options(scheme: str) -> dict[str, Any]:
    """Return the options for s3fs; the environment may override them, see docs/how-to/manifests.md."""
    from fsspec.config import conf

    options = dict(conf.get(scheme, {}))
    if scheme == "gs":
        options = {"endpoint_url": _GOOGLE, "key": None, "secret": None, **options}
    is_aws = scheme == "s3" and any(os.environ.get(name) for name in _CREDENTIALS)
    is_anonymous = not (is_aws or options.get("key") or options.get("profile"))
    return {"anon": is_anonymous, "config_kwargs": _NO_RETRIES, **options}
