"""SIGHUP: what was read again is tried while the service runs on, and what is wrong changes nothing."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

from cxr_dicom.errors import CxrDicomError, ModelError
from cxr_dicom.service.reload import Reload, expect_startable
from cxr_dicom.synthetic import radiograph
from tests import ROOT
from tests.service_helpers import FastPipeline, associated, free_port, settings, wait_for


class Picky(FastPipeline):
    """Has no weights of a model of another name."""

    def __init__(self, settings):
        super().__init__(settings)
        if settings.models.names != ("auto",):
            raise ModelError(f"no weights of {settings.models.names[0]}")


@pytest.fixture
def current(tmp_path):
    return settings(tmp_path)


def others(current, **tables):
    return settings(current.spool.folder, **tables)


def test_what_can_start_is_taken(current):
    done = threading.Event()
    loaded = others(current, models={"device": "cpu"})
    reload = Reload(lambda: loaded, current, Picky, done)
    reload.start()
    assert done.wait(60)
    assert (reload.settings, reload.problem) == (loaded, "")


def test_the_ports_that_the_service_has_are_its_own(current):
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", current.listener.port))
        ours.listen()
        expect_startable(current, current, Picky)


@pytest.mark.parametrize(
    ("words", "tables"),
    [
        ("no such address", {"listener": {"address": "203.0.113.7"}}),
        ("listener.tls", {"listener": {"tls": {"certificate": "/nowhere", "key": "/nowhere"}}}),
        ("no weights of other", {"models": {"names": ["other"]}}),
        ("expected another port", {"listener": {"port": 11112}, "service": {"metrics_port": 11112}}),
    ],
)
def test_what_cannot_start_says_why(current, words, tables):
    with pytest.raises(CxrDicomError, match=words):
        expect_startable(others(current, **tables), current, Picky)


def test_a_port_that_another_program_has_and_another_spool_are_refused(current, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(CxrDicomError, match="another program has it"):
            expect_startable(others(current, listener={"port": taken}), current, Picky)
    with pytest.raises(CxrDicomError, match="stop and start"):
        expect_startable(settings(tmp_path / "other"), current, Picky)


def test_without_room_the_service_goes_on_as_it_is(current):
    short = others(current, spool={"min_free_mb": 1 << 40})
    with pytest.raises(CxrDicomError, match="MB free"):
        expect_startable(current, short, Picky)


def test_wrong_settings_end_no_association_and_close_no_port(tmp_path):
    port, metrics, taken = free_port(), free_port(), socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    path = tmp_path / "c.toml"
    spool = f'[spool]\nfolder = "{tmp_path / "spool"}"\nmin_free_mb = 0\n[service]\nmetrics_port = {metrics}\n'
    good = f"{spool}[listener]\nport = {port}\n"
    path.write_text(good)
    script = ROOT / "tests" / "integration" / "service" / "serve_fast.py"
    process = subprocess.Popen([sys.executable, script, path], stderr=subprocess.PIPE, text=True)

    def settings_problem():
        health = json.load(urllib.request.urlopen(f"http://127.0.0.1:{metrics}/health"))
        return health["problems"].get("settings", "")

    def is_open():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    images = [radiograph(32, 32, seed=seed) for seed in range(4)]
    syntax = images[0].file_meta.TransferSyntaxUID
    try:
        wait_for(is_open, 60)
        with associated(port, (DigitalXRayImageStorageForPresentation, syntax)) as association:
            assert association.send_c_store(images[0]).Status == 0x0000
            for image, wrong, words in (
                (images[1], "this is no TOML", "c.toml"),
                (images[2], f"{spool}[listener]\nport = {taken.getsockname()[1]}\n", "another program has it"),
            ):
                path.write_text(wrong)
                process.send_signal(signal.SIGHUP)
                wait_for(lambda words=words: words in settings_problem(), 30)
                assert association.is_established
                assert association.send_c_store(image).Status == 0x0000
        path.write_text(good.replace(f"port = {port}", f"port = {free_port()}"))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: not is_open(), 60)
        wait_for(lambda: _health_is_there(metrics), 30)
        assert settings_problem() == ""
    finally:
        process.terminate()
        _, log = process.communicate(timeout=60)
        taken.close()
    assert process.returncode == 0, log
    assert log.count("service_stopped") == 2, log  # for the good ones, and at the end
    assert log.count("reload_failed") == 2
    audit = [json.loads(line) for line in (tmp_path / "spool" / "audit.jsonl").read_text().splitlines()]
    signals = [line["action"] for line in audit if line.get("via") == "SIGHUP"]
    assert signals == ["reload_refused", "reload_refused", "reloaded"]
    assert log.count("reloaded") == 1


def _health_is_there(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200
    except OSError:
        time.sleep(0.1)
        return False
