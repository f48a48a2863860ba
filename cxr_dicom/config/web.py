"""``[web]``: the pages for a browser, and who may see and do what there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from cxr_dicom.config.service import Network, Port
from cxr_dicom.config.table import Table

_HOST = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})(:[0-9]{1,5})?$"


class Right(StrEnum):
    """What a visitor may do. Each is given by itself; only ``look-at-patients`` includes ``look``."""

    LOOK = "look"  # states, numbers and reasons; UIDs, and nothing else of a patient
    LOOK_AT_PATIENTS = "look-at-patients"  # pictures, scores, measurements, objects
    SEND = "send"
    OPERATE = "operate"


def _address(text: str) -> str:
    ip_address(text)
    return text


class ProxySettings(Table):
    """``[web.proxy]``: a reverse proxy that knows who somebody is."""

    header: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    """Header with the name of the user, which the proxy sets and takes away from what comes from outside."""
    addresses: tuple[Network, ...] = Field(min_length=1)
    """IP addresses or networks of the proxy; nobody else is believed, nor let in from the network."""
    rights: Mapping[str, tuple[Right, ...]] = Field(default_factory=lambda: {"*": (Right.LOOK,)})
    """Rights by name of the user; `*`: everybody who is not named."""


class WebSettings(Table):
    """``[web]``: the pages for a browser."""

    port: Port | None = None
    """TCP port; without one there are no pages."""
    address: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Address to listen on; any other than this machine's own needs `[web.proxy]`."""
    hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = ()
    """Names, with the port if it is not the usual one, under which a proxy shows the pages."""
    tokens_file: Path | None = None
    """File with a line for each machine that may ask: its name, its rights with commas, its token."""
    max_upload_mb: int = Field(default=2048, ge=1)
    """Largest file that is taken, and the most that a ZIP archive may unpack to."""
    max_upload_files: int = Field(default=2000, ge=1, le=60_000)
    """Most files that a ZIP archive may hold."""
    evaluation: Path | None = None
    """Folder that `evaluate -o` wrote: how the models do at this site, for their cards."""
    proxy: ProxySettings | None = None

    @field_validator("proxy")
    @classmethod
    def _named(cls, proxy: ProxySettings | None, info: ValidationInfo) -> ProxySettings | None:
        if proxy and not info.data.get("hosts"):
            raise ValueError("expected the name of the pages in web.hosts, for the proxy passes it on; found none")
        return proxy

    @model_validator(mode="after")
    def _not_open(self) -> WebSettings:
        if not ip_address(self.address).is_loopback and self.proxy is None:
            raise ValueError(
                f"web.address: expected an address of this machine only, such as 127.0.0.1, got {self.address};"
                " pages for the network need a proxy that knows the users: [web.proxy]"
            )
        return self
