"""The process with the networks dies, hangs, or never comes up; who asks waits for the next one."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cxr_dicom.config import Settings
from cxr_dicom.errors import ModelError, PlaceError, SettingsError
from cxr_dicom.infer.batches import supervisor
from tests.infer.batches import servers
from tests.infer.batches.servers import FATAL, INFO, SETTINGS, image


@pytest.fixture
def started(monkeypatch):
    """Start processes with a main program of the tests."""

    def started(main, settings=SETTINGS, devices=("cpu",)):
        monkeypatch.setattr(supervisor, "main", main)
        monkeypatch.setattr(supervisor, "devices", lambda models: devices)
        return supervisor.Supervisor(settings, ())

    return started


@pytest.fixture
def short():
    """Settings with little time for a study."""
    return SETTINGS.model_copy(update={"service": SETTINGS.service.model_copy(update={"study_seconds": 6.0})})


def is_twice(found, value):
    return torch.equal(found[0], image(value) * 2)


def test_who_asks_hears_nothing_of_a_process_that_was_killed(started):
    with started(servers.main) as running:
        compute = running.client.register(None, INFO, 1)
        for value in range(1, 4):
            assert is_twice(compute(image(value)), value)
            os.kill(running.process_ids[0], signal.SIGKILL)
        assert is_twice(compute(image(9)), 9)


def test_an_image_that_kills_takes_no_other_along(started):
    with started(servers.main) as running, ThreadPoolExecutor(6) as pool:
        compute = running.client.register(None, INFO, 1)
        jobs = {value: pool.submit(compute, image(value)) for value in (2, 3, 4, FATAL, 5, 6)}
        with pytest.raises(ModelError, match="twice: the process of the networks died 3 times"):
            jobs.pop(FATAL).result(200)
        assert all(is_twice(job.result(200), value) for value, job in jobs.items())


def test_a_process_that_hangs_is_ended_and_the_image_tried_again(started, short):
    with started(servers.hanging, short) as running:
        assert is_twice(running.client.register(None, INFO, 1)(image(2)), 2)


def test_a_server_that_was_stopped_is_replaced(started, short):
    with ThreadPoolExecutor(1) as pool, started(servers.main, short) as running:
        compute = running.client.register(None, INFO, 1)
        assert is_twice(compute(image(2)), 2)
        os.kill(running.process_ids[0], signal.SIGSTOP)
        assert is_twice(pool.submit(compute, image(3)).result(60), 3)


def test_an_idle_server_is_left_alone(started, short):
    with started(servers.main, short) as running:
        compute = running.client.register(None, INFO, 1)
        assert is_twice(compute(image(2)), 2)
        (process_id,) = running.process_ids
        time.sleep(4)
        assert is_twice(compute(image(3)), 3)
        assert running.process_ids == [process_id]


def test_where_none_comes_up_the_cause_is_said_and_no_image_blamed(started):
    refused = pytest.raises(PlaceError, match="dies again and again: ended with code 3")
    with started(servers.exiting) as running, refused:
        running.client.register(None, INFO, 1)


def test_where_every_process_dies_before_it_answers_nobody_asks_for_ever(started, monkeypatch):
    monkeypatch.setattr(supervisor, "_MAX_FRUITLESS", 2)
    with started(servers.main) as running:
        compute = running.client.register(None, INFO, 1)
        with pytest.raises(PlaceError, match="dies again and again: killed by SIGKILL"):
            compute(image(FATAL))


def test_what_cannot_be_loaded_is_told_to_who_asks():
    settings = Settings.model_validate({"models": {"batch": 2, "device": "cpu", "backend": "openvino"}})
    refused = pytest.raises(SettingsError, match=r"models.batch: OpenVINO computes one image at a time")
    with supervisor.Supervisor(settings, ["offline-anatomy"]) as running, refused:
        running.client.register(None, INFO, 1)


def test_after_the_end_nobody_waits(started):
    with started(servers.main) as running:
        compute = running.client.register(None, INFO, 1)
        assert is_twice(compute(image(2)), 2)
    with pytest.raises(PlaceError, match="was ended"):
        compute(image(2))
    assert not [thread for thread in threading.enumerate() if thread.name == "networks"]


def test_several_devices_share_the_images(started):
    with started(servers.main, devices=("cpu", "cpu")) as running:
        compute = running.client.register(None, INFO, 1)
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(compute, image(value)) for value in range(21, 61)]
            assert all(is_twice(job.result(60), value) for value, job in enumerate(jobs, start=21))
        assert len(set(running.process_ids)) == 2
        assert all(server.progress[1] for server in running._servers)
        assert running.answered == 40
