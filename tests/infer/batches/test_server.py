"""Images of many threads in one batch: everybody gets the own answer, whatever becomes of the neighbours."""

import gc
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cxr_dicom.errors import ModelError, PlaceError, SettingsError, WeightsError
from cxr_dicom.infer.batches.channel import listen
from cxr_dicom.infer.batches.client import Client
from cxr_dicom.infer.batches.network import Device, Network
from cxr_dicom.infer.batches.request_queue import Request
from cxr_dicom.infer.batches.server import Batch
from tests.infer.batches.servers import BAD, INFO, MOST, Bad, Small, Twice, image, open_here


def wait_until(what):
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until, "waited for too long"
        time.sleep(0.005)


@pytest.fixture
def asking():
    """Ask from threads, one for each value, while the network is held up; then let it go."""

    def ask(network, values):
        client, server = open_here(network)
        network.gate.clear()
        compute = client.register(None, INFO, 1)

        def one(value):
            try:
                return compute(image(value))
            except ModelError as error:
                return str(error)

        with ThreadPoolExecutor(len(values) + 1) as pool:
            first = pool.submit(one, 1.0)
            wait_until(lambda: server._queue._is_computing)
            others = [pool.submit(one, value) for value in values]
            wait_until(lambda: server.came == len(values) + 1)
            wait_until(lambda: waiting(server) <= max(0, len(values) - MOST))
            network.gate.set()
            return [first.result(60), *(other.result(60) for other in others)]

    return ask


def waiting(server):
    return len(server._queue._waiting)


def is_answer(found, value):
    return torch.equal(found[0], image(value) * 2) and torch.equal(found[1], torch.tensor([float(value)]))


def test_those_who_wait_are_computed_together_and_each_gets_the_own_answer(asking):
    network = Twice()
    found = asking(network, range(2, 11))
    assert all(is_answer(answer, value) for answer, value in zip(found, range(1, 11), strict=True))
    assert network.sizes == [1, MOST, MOST, 1]


def test_an_image_at_which_the_network_fails_fails_alone(asking):
    found = asking(Bad(), [2, BAD, 4, 5])
    assert found.pop(2) == "twice: the network failed on cpu: no such number"
    assert all(is_answer(answer, value) for answer, value in zip(found, [1, 2, 4, 5], strict=True))


def test_no_number_stays_with_its_image(asking):
    found = asking(Twice(), [2, float("nan"), 4])
    assert is_answer(found[1], 2)
    assert is_answer(found[3], 4)
    assert found[2][0].isnan().all()


def test_without_memory_for_a_batch_halves_are_computed_from_then_on(asking):
    network = Small()
    found = asking(network, range(2, 11))
    assert all(is_answer(answer, value) for answer, value in zip(found, range(1, 11), strict=True))
    assert network.max_batch == 2
    assert network.sizes == [1, 1, MOST, 2, 2, 2, 2, 1]


def test_the_queue_holds_no_more_than_who_wait_for_an_answer(asking):
    network = Twice()
    client, server = open_here(network)
    network.gate.clear()
    compute = client.register(None, INFO, 1)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(compute, image(value)) for value in range(1, 30)]
        wait_until(lambda: server._queue._is_computing)
        time.sleep(0.3)
        assert waiting(server) <= 2
        network.gate.set()
        assert all(is_answer(job.result(60), value) for value, job in enumerate(jobs, start=1))
    assert len(client._idle) == 3


def test_who_is_gone_holds_nobody_up():
    network = Twice()
    client, server = open_here(network)
    network.gate.clear()
    compute = client.register(None, INFO, 1)
    gone = client._connection()
    pixels, _ = gone._channel.tensors(network.signature)
    pixels.copy_(image(3))
    gone._channel.send({"network": INFO.name, "is_alone": False})
    wait_until(lambda: server._queue._is_computing)
    gone._channel.close()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(compute, image(5))
        network.gate.set()
        assert is_answer(job.result(60), 5)


@pytest.mark.parametrize("message", [b"", b"[]", b"{", b'{"network": "other"}', b"{}" * 2**20])
def test_what_nobody_understands_ends_only_its_own_channel(message):
    client, _ = open_here(Twice())
    compute = client.register(None, INFO, 1)
    channel = client._connection()
    with suppress(BrokenPipeError):
        channel._channel.connection.send_bytes(message)
    with pytest.raises((EOFError, OSError)):
        channel._channel.connection.recv_bytes()
    assert is_answer(compute(image(2)), 2)


def test_a_channel_without_room_for_the_image_is_ended():
    client, _ = open_here(Twice())
    compute = client.register(None, INFO, 1)
    channel = client._connection()._channel
    os.truncate(channel._descriptor, 64)
    channel.send({"network": INFO.name, "is_alone": False})
    with pytest.raises(EOFError):
        channel.connection.recv_bytes()
    assert is_answer(compute(image(2)), 2)


def test_another_shape_is_refused_and_the_next_image_answered():
    compute = open_here(Twice())[0].register(None, INFO, 1)
    with pytest.raises(ModelError, match=r"expected an input of \(1, 1, 4, 4\), got \(1, 1, 5, 4\)"):
        compute(torch.zeros(1, 1, 5, 4))
    assert is_answer(compute(image(2)), 2)


def test_other_weights_than_those_of_the_worker_are_refused():
    client, _ = open_here(Twice())
    with pytest.raises(WeightsError, match="changed while they were loaded"):
        client.register(None, replace(INFO, weights_sha256="11"), 1)


def test_an_image_is_to_blame_only_while_it_is_computed():
    seen = []
    network = Twice()
    channel = SimpleNamespace(is_computing=False)
    network.fail_at = lambda pixels: seen.append(channel.is_computing)
    batch = Batch(network, Device("cpu"), None)
    batch.add(Request(channel=channel, network=INFO.name, is_alone=False, pixels=image(2), outputs=[]))
    assert not channel.is_computing
    batch.compute()
    assert (seen, channel.is_computing) == ([True], False)


def test_a_server_without_descriptors_ends_the_run_and_not_the_image():
    """What arrives without its descriptors, as where too many are open, is closed again."""
    address, listener = listen()

    def refuse():
        while True:
            message, descriptors, _, _ = socket.recv_fds(listener, 16, 2)
            for descriptor in descriptors:
                os.close(descriptor)
            if message != b"channel":
                return

    with listener, ThreadPoolExecutor(2) as pool, address:
        pool.submit(refuse)
        try:
            with pytest.raises(PlaceError, match="accepts no more workers"):
                pool.submit(Client([address]).register, None, INFO, 1).result(30)
        finally:
            address.send(b"end")


def test_networks_take_turns():
    other = replace(INFO, name="other")
    client, _ = open_here(Twice(), Twice(other))
    first, second = client.register(None, INFO, 1), client.register(None, other, 1)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit((first, second)[value % 2], image(value)) for value in range(1, 41)]
        assert all(is_answer(job.result(60), value) for value, job in enumerate(jobs, start=1))


def test_a_network_that_sees_its_neighbours_is_refused():
    class Mixing(Network):
        def _forward(self, pixels):
            return pixels - pixels.mean()

    with pytest.raises(SettingsError, match=r"models.batch: twice in batches of 4 on cpu: answers move by"):
        Mixing(None, INFO, 1).verify(MOST, "cpu")


def test_a_network_that_cannot_be_computed_in_batches_is_refused():
    with pytest.raises(SettingsError, match=r"models.batch: twice in batches of 4"):
        Network(lambda pixels: pixels * pixels.mean().item(), INFO, 1).verify(MOST, "cpu")


def test_what_nobody_uses_any_more_is_closed_on_both_sides():
    client, _ = open_here(Twice())
    compute = client.register(None, INFO, 1)
    assert is_answer(compute(image(2)), 2)
    opened = descriptors()
    client._idle.clear()
    gc.collect()
    wait_until(lambda: descriptors() <= opened - 4)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))
