"""What tests begin with: a listener and an image for it; images in a folder and a list of them; a poller of a shelf."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.config.service import DicomwebArchive
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.ingest.manifest import idc
from cxr_dicom.ingest.polling import Polling
from cxr_dicom.store.audit import AuditTrail
from tests.ingest.shelf import Shelf
from tests.service_helpers import listening


def small(**attributes):
    return synthetic.radiograph(40, 32, **attributes)


@pytest.fixture
def here(tmp_path):
    """A listener with the default settings."""
    with listening(tmp_path) as running:
        yield running


@pytest.fixture
def image():
    """A small radiograph to send."""
    return synthetic.radiograph(64, 48)


@pytest.fixture
def images(tmp_path):
    """Three images of two studies below ``images``: the second study has the first and the last file."""
    synthetic.write_study(
        tmp_path / "images", [small(study="2", seed=1), small(study="1", seed=2), small(study="2", seed=3)]
    )
    return tmp_path / "images"


@pytest.fixture
def written(tmp_path):
    """Write a manifest and return its path."""

    def write(content, name="cohort"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def no_index(monkeypatch):
    monkeypatch.setattr(idc, "index", lambda: None)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def make(tmp_path, shelf, monkeypatch):
    """Make a poller with a given day as today, of the shelf or other archives."""
    poller = {"lookback_days": 2, "start_days": 30, "interval_seconds": 60}
    with listening(tmp_path, poller=poller) as here:

        def made(today, *archives):
            intake = Intake(
                here.spool, here.ledger, here.assembly, AuditTrail(tmp_path), here.settings.listener.sop_classes
            )
            places = {f"place-{number}": archive for number, archive in enumerate(archives or [shelf])}
            described = tuple(DicomwebArchive(name=name, kind="dicomweb", url="http://127.0.0.1:1") for name in places)
            monkeypatch.setattr(
                "cxr_dicom.ingest.polling.build_archive",
                lambda each, listener: places[each.name] if listener is here.settings.listener else None,
            )
            poller = here.settings.poller.model_copy(update={"archives": described})
            tables = here.settings.model_copy(update={"poller": poller})
            return Polling(tables, here.ledger, intake, today=lambda: today)

        made.here = here
        yield made


@pytest.fixture
def poll(make):
    """Make a round on a given day; each is a new process as far as the poller can tell."""

    def once(today, *wanted):
        return make(today).once(wanted)[0]

    once.ledger, once.folder = make.here.ledger, make.here.spool.folder
    return once
