"""Four senders at once: nothing lost, and the service's memory stays flat.

``scripts/soak`` sends 400 images.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pynetdicom.sop_class import Verification

from cxr_dicom.store.ledger import Ledger
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import archive, associated, derived_uid, free_port, send, wait_for

IMAGES = int(os.environ.get("SOAK_IMAGES", "40"))
SENDERS = 4


def resident_mb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def answers(port):
    with associated(port, Verification) as association:
        return association.is_established


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_four_senders_at_once(tmp_path, capsys):
    port, config, spool = free_port(), tmp_path / "c.toml", tmp_path / "spool"
    statuses = []

    def sender(number, images):
        for image in images:
            statuses.extend(send(port, image, calling=f"SENDER{number}"))

    def half(first, last):
        shares = [
            [radiograph(256, 256, seed=n, study=str(n)) for n in range(first + k, last, SENDERS)]
            for k in range(SENDERS)
        ]
        threads = [threading.Thread(target=sender, args=each) for each in enumerate(shares)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with archive() as (archive_port, received), (tmp_path / "log").open("w") as log:
        config.write_text(
            f'[spool]\nfolder = "{spool}"\nmin_free_mb = 0\n[listener]\nport = {port}\n'
            "[assembly]\nquiet_seconds = 0.2\n"
            f'[[destinations]]\nname = "pacs"\nkind = "dicom"\naddress = "127.0.0.1"\nport = {archive_port}\n'
            'ae_title = "ARCHIVE"\n'
        )
        script = Path(__file__).parent / "serve_fast.py"
        process = subprocess.Popen([sys.executable, script, config], stdout=log, stderr=log)
        try:
            wait_for(lambda: answers(port), 60)
            half(0, IMAGES // 2)
            wait_for(lambda: len(received) == IMAGES // 2, 20 + IMAGES)
            before = resident_mb(process)
            half(IMAGES // 2, IMAGES)
            wait_for(lambda: len(received) == IMAGES, 20 + IMAGES)
            after = resident_mb(process)
        finally:
            process.terminate()
            process.wait(30)
    ledger = Ledger(spool)
    stories = ledger.stories.summaries(limit=9999)
    ledger.close()
    with capsys.disabled():
        print(f"\nimages {IMAGES}, arrived {len(received)}, memory {before:.0f} MB, then {after:.0f} MB")
    assert statuses == [0x0000] * IMAGES
    assert set(received) == {
        derived_uid(radiograph(256, 256, seed=n, study=str(n)).SOPInstanceUID) for n in range(IMAGES)
    }
    assert len(stories) == IMAGES
    assert after < before + 25
