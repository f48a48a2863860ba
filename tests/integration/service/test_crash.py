"""SIGKILL at random moments while studies stream in: nothing acknowledged is lost, nothing doubled.

``scripts/soak`` runs it with 200 kills.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from cxr_dicom.store.ledger import Ledger
from cxr_dicom.synthetic import radiograph
from tests.integration.rig import listens
from tests.service_helpers import archive, derived_uid, free_port, is_acknowledged, wait_for

KILLS = int(os.environ.get("SOAK_KILLS", "3"))
SCRIPT = Path(__file__).parent / "serve_fast.py"


class Sender(threading.Thread):
    """Sends one study after the other, each until it is acknowledged; notes acknowledgements."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.acknowledged = []
        self.end = threading.Event()

    def run(self):
        number = 0
        while not self.end.is_set():
            image = radiograph(32, 32, seed=number, study=str(number))
            number += 1
            while not is_acknowledged(self.port, image):
                if self.end.wait(0.1):
                    return
            self.acknowledged.append(image.SOPInstanceUID)
            self.end.wait(0.2)


def start(config, log):
    return subprocess.Popen([sys.executable, SCRIPT, config], stdout=log, stderr=log)


def test_every_acknowledged_study_arrives_exactly_once(tmp_path, capsys):
    chance = random.Random(7)
    port, spool, config = free_port(), tmp_path / "spool", tmp_path / "c.toml"
    with archive() as (archive_port, received), (tmp_path / "log").open("w") as log:
        config.write_text(
            f'[spool]\nfolder = "{spool}"\nmin_free_mb = 0\n[listener]\nport = {port}\n'
            "[assembly]\nquiet_seconds = 0.2\n[service]\nmax_interruptions = 1000\n"
            f'[[destinations]]\nname = "pacs"\nkind = "dicom"\naddress = "127.0.0.1"\nport = {archive_port}\n'
            'ae_title = "ARCHIVE"\n'
        )
        sender = Sender(port)
        sender.start()
        for _ in range(KILLS):
            process = start(config, log)
            wait_for(lambda: listens(port) or process.poll() is not None, 60)  # noqa: B023
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(chance.uniform(0, 3))
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = start(config, log)
        wait_for(lambda: listens(port), 60)
        time.sleep(2)
        sender.end.set()
        sender.join()
        ledger = Ledger(spool)
        wait_for(lambda: {row["state"] for row in ledger.stories.summaries(limit=9999)} == {"SENT"}, 120)
        process.terminate()
        assert process.wait(30) == 0
        wanted = {derived_uid(uid) for uid in sender.acknowledged}
        lost = wanted - received.keys()
        stories = [ledger.stories.show(row["study_instance_uid"]) for row in ledger.stories.summaries(limit=9999)]
        doubled = [story for story in stories if len(story["objects"]) != len(story["instances"])]
        with capsys.disabled():
            print(
                f"\nkills {KILLS}, studies {len(sender.acknowledged)}, lost {len(lost)}, doubled {len(doubled)}, "
                f"resent {sum(len(copies) - 1 for copies in received.values())}"
            )
        assert sender.acknowledged
        assert not lost
        assert not doubled
        assert all(len(set(copies)) == 1 for copies in received.values())  # a resent object is the same bytes
        assert set(spool.glob("*/*/*.dcm")) == ledger.stories.paths()
        assert list((spool / "part").iterdir()) == []
        ledger.close()
