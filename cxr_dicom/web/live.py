"""What `serve` starts with ``[web] port``: the pages of the running service."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from cxr_dicom.config import Settings
from cxr_dicom.infer.catalogue import runnable
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.system import telemetry
from cxr_dicom.web.application import Web
from cxr_dicom.web.artist import Artist
from cxr_dicom.web.dicomweb.holdings import SpoolHoldings
from cxr_dicom.web.dicomweb.pages import DicomWeb
from cxr_dicom.web.dicomweb.store import Store
from cxr_dicom.web.now import NowPages
from cxr_dicom.web.ohif.pages import Ohif
from cxr_dicom.web.send import SendPages
from cxr_dicom.web.server import Server
from cxr_dicom.web.settings import Answer, SettingsPages
from cxr_dicom.web.spool import SpoolSite
from cxr_dicom.web.studies import StudyPages
from cxr_dicom.web.uploads import Uploads
from cxr_dicom.web.view import installed, link
from cxr_dicom.web.visitors import Visitors

_NICENESS = 10  # of the process that makes pictures: workers and the listener come first
LINK_FILE = "web-link"  # in the spool, where there is no terminal


class LivePages:
    """Serves the pages until `stop`.

    Attributes
    ----------
    link
        Who has it may do everything.

    Raises
    ------
    CxrDicomError
        If the port is taken, or the file of tokens cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        port: int,
        intake: Intake,
        problems: Callable[[], Mapping[str, str]],
        check: Callable[[], Iterable[Answer]],
    ) -> None:
        ledger = intake.ledger
        self._stopping = threading.Event()
        self._link_file = ledger.folder / LINK_FILE
        self._artist = Artist(_NICENESS)
        site, visitors = SpoolSite(ledger), Visitors(settings.web)
        self._now = NowPages(settings, ledger, problems, self._stopping)
        holdings, build = SpoolHoldings(ledger), installed(settings)
        ohif = Ohif(build, holdings) if build else None
        web = Web(
            name=site.name,
            settings=settings.web,
            visitors=visitors,
            pages=(
                *self._now.pages(),
                *StudyPages(site, ohif, holdings, partial(runnable, settings), self._artist).pages(),
                *SendPages(Uploads(settings, intake), ledger).pages(),
                *DicomWeb(holdings).pages(),
                *Store(settings, intake).pages(),
                *(ohif.pages() if ohif else ()),
                *SettingsPages(settings, check).pages(),
            ),
            port=port,
        )
        self._server = Server(web.application(), settings.web.address, port)
        self.link = link(web)
        self._tell(self.link)
        telemetry.event("pages_opened", address=settings.web.address, port=port)

    @property
    def is_alive(self) -> bool:
        """Whether they are answered."""
        return self._server.is_alive

    def stop(self) -> None:
        """Close the pages."""
        self._stopping.set()
        self._server.stop()
        self._now.close()
        self._artist.close()
        self._link_file.unlink(missing_ok=True)

    def _tell(self, text: str) -> None:
        """Show the link once: on the terminal, or in a file of the owner, for a log is read by others."""
        if sys.stderr.isatty():
            print(f"Pages for this machine: {text}", file=sys.stderr)
            return
        self._link_file.unlink(missing_ok=True)
        descriptor = os.open(self._link_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
