"""The pages for a browser: their libraries, tokens and proxy. The network without a proxy is no setting at all."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.config import Settings
from cxr_dicom.errors import how_to_install
from cxr_dicom.results.card import evaluated
from cxr_dicom.service.checks import machine
from cxr_dicom.service.checks.answer import Check, tried, warning, wrong


def check(settings: Settings) -> Iterator[Check]:
    """Look at ``[web]``, where there are pages."""
    web = settings.web
    if web.port is None:
        return
    try:
        from cxr_dicom.web.dicomweb.store import Store  # noqa: F401 - for its libraries
        from cxr_dicom.web.visitors import Visitors, is_inside
    except ImportError:
        yield wrong("web.port", f"needs starlette, uvicorn and python-multipart ({how_to_install('web')})")
        return
    yield machine.check_port("web.port", web.address, web.port, machine.running(settings.spool.folder.absolute()))
    if web.tokens_file:
        yield tried("web.tokens_file", lambda: f"{len(Visitors(web).machines)} machines may ask")
    if evaluation := web.evaluation:
        yield tried("web.evaluation", lambda: f"is about {', '.join(evaluated(evaluation))}")
    if web.proxy and is_inside("127.0.0.1", web.proxy):
        text = "holds this machine: all who are on it can say that they are anybody"
        yield warning("web.proxy.addresses", text)
