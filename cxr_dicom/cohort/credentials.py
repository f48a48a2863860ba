"""Credentials of buckets: the variables of the command go to the workers; files that they name have to be there.

The variables travel as the settings do, with the passwords in these. They are never logged.
"""

from __future__ import annotations

import os
from pathlib import Path

from cxr_dicom.ingest.manifest import locations

_PREFIXES = ("AWS_", "GOOGLE_", "FSSPEC_")
_FILES = (
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_OF_PROFILES = ("credentials", "config")  # below ~/.aws


def needed(source: str) -> bool:
    """Whether a source is asked with credentials of the environment."""
    return source.partition("://")[0] in locations.BUCKETS


def environment() -> dict[str, str]:
    """Return the variables that workers get."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}


def files() -> dict[str, Path]:
    """Return the files that do not travel, by what names them."""
    found = {name: Path(os.environ[name]) for name in _FILES if os.environ.get(name)}
    if os.environ.get("AWS_PROFILE"):
        home = Path.home() / ".aws"
        found |= {f"AWS_PROFILE (~/.aws/{name})": home / name for name in _OF_PROFILES if (home / name).is_file()}
    return found
