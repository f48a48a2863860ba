"""What `view` starts: the pages of one output folder, until Ctrl-C."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cxr_dicom.config import Settings, load
from cxr_dicom.config.web import Right, WebSettings
from cxr_dicom.results.report import Figure
from cxr_dicom.results.schema import Row
from cxr_dicom.web import drawn
from cxr_dicom.web.application import Page, Web
from cxr_dicom.web.artist import Artist
from cxr_dicom.web.dicomweb.holdings import FolderHoldings
from cxr_dicom.web.dicomweb.pages import DicomWeb
from cxr_dicom.web.folder import Folder
from cxr_dicom.web.ohif.install import place
from cxr_dicom.web.ohif.pages import Ohif
from cxr_dicom.web.server import Server
from cxr_dicom.web.studies import StudyPages
from cxr_dicom.web.visitors import Visitors


def view(out: Path, port: int | None, build: Path | None, tokens: Path | None, started: Callable[[str], None]) -> None:
    """Serve the pages until Ctrl-C.

    Parameters
    ----------
    build
        Folder of OHIF; None: what `viewer install` brought, if anything.
    tokens
        File with the tokens of machines, as ``web.tokens_file``.
    started
        Called once with the link that lets its reader in.

    Raises
    ------
    CxrDicomError
        If ``out`` is not the output of a run, ``build`` is not OHIF, or the port is taken.
    """
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")  # these quote values of patients
    web = pages_of(out, port or _free_port(), build or installed(), tokens)
    server = Server(web.application(), web.settings.address, web.port)
    try:
        started(link(web))
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


def pages_of(out: Path, port: int, build: Path | None = None, tokens: Path | None = None) -> Web:
    """Return the pages of an output folder, which are looked at only; with a ``build`` of OHIF also that."""
    artist, drawing = Artist(), load().decided(service=False)
    site, settings = Folder(out, partial(_drawn, artist, drawing)), WebSettings(port=port, tokens_file=tokens)
    holdings = FolderHoldings(site)
    ohif = Ohif(build, holdings) if build else None
    studies = StudyPages(site, ohif, holdings, artist=artist)
    first = Page(path="/", right=Right.LOOK, handler=studies.list)
    shown: Sequence[Page] = (first, *studies.pages(), *DicomWeb(holdings).pages(), *(ohif.pages() if ohif else ()))
    visitors = Visitors(settings, (Right.LOOK, Right.LOOK_AT_PATIENTS))
    return Web(name=site.name, settings=settings, visitors=visitors, pages=shown, port=port)


def _drawn(artist: Artist, settings: Settings, source: Path, out: Path, row: Row) -> Sequence[Figure]:
    return artist.ask(drawn.figures, source, out, row, settings)


def link(web: Web) -> str:
    """Return the link that lets its reader in; its token stands where no browser sends it or keeps it."""
    host = f"[{web.settings.address}]" if ":" in web.settings.address else web.settings.address
    return f"http://{host}:{web.port}/enter#{web.visitors.link_token}"


def installed(settings: Settings | None = None) -> Path | None:
    """Return the folder of OHIF that `viewer install` brought; None where it was not."""
    folder = place(settings or load())
    return folder if folder.is_dir() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
