"""Ray: every item is answered once, whatever dies; on this machine and on a cluster that exists already."""

import contextlib
import importlib.util
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cxr_dicom import __version__
from cxr_dicom.cohort.cluster import connection, crew, proxy
from cxr_dicom.cohort.engines.ray import Ray
from cxr_dicom.errors import CxrDicomError, SettingsError, WantError, WeightsError
from tests import ROOT
from tests.cohort.engines.ray_tasks import Environment, Full, Gathering, Refused, Stillborn, Talking, Troubled
from tests.cohort.engines.tasks import Clumsy, Deadly, Greedy, Squares
from tests.integration.rig import free_port

if importlib.util.find_spec("ray") is None and not os.environ.get("CI"):
    pytest.skip("Ray is not installed", allow_module_level=True)

PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # where workers find the tasks
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.fixture(scope="module")
def session():
    """Ray with six logical CPUs and one logical GPU: its session folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        ray = connection.imported(is_local=True)
        with connection.session_folder() as folder:
            options = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 80 * 2**20}
            ray.init("local", num_cpus=6, num_gpus=1, logging_level="error", _temp_dir=folder, **options)
            yield Path(folder)
            ray.shutdown()


@pytest.fixture
def engine(session):
    return Ray(2)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # dead, and Ray has not looked yet


def end(pids):
    """Whether processes end, as those do that Ray was told to kill; it does not wait for that."""
    until = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def test_every_item_is_answered_once(engine, tmp_path):
    assert sorted(engine.process(range(20), Squares(tmp_path))) == [(n, n**2) for n in range(20)]


def test_nothing_to_do_needs_no_ray(tmp_path):
    assert list(Ray(address="127.0.0.1:1").process([], Squares(tmp_path))) == []


def test_an_error_of_the_task_ends_the_run_with_its_own_type(engine, tmp_path):
    task = Squares(tmp_path, bad=[3])
    with pytest.raises(WeightsError, match=r"^weights are missing$") as raised:
        list(engine.process(range(20), task))
    assert raised.type is WeightsError
    assert end(task.pids("built") - task.pids("closed"))


def test_each_worker_builds_once_and_closes(session, tmp_path):
    task = Gathering(tmp_path, 2)
    list(Ray(2).process(range(20), task))
    assert len(task.pids("built")) == 2
    assert os.getpid() not in task.pids("built")
    assert task.pids("closed") == task.pids("built")


def test_what_hangs_holds_the_lock_or_is_greedy_ends_and_all_else_is_answered(session, tmp_path):
    answers = dict(Ray(2).process(range(8), Greedy(tmp_path, greedy=[2, 6], sleepy=[3], holding=[4])))
    assert answers == dict.fromkeys([0, 1, 5, 7], 1) | {2: "too much", 6: "too much", 3: "gave up", 4: "gave up"}


def test_what_kills_its_worker_is_given_up_and_all_else_is_answered(session, tmp_path):
    answers = sorted(Ray(2).process(range(12), Squares(tmp_path, killers=[3, 4, 11])), key=lambda each: each[0])
    assert answers == [(n, "gave up" if n in (3, 4, 11) else n**2) for n in range(12)]


def test_a_neighbour_of_what_kills_is_suspected_once_only(session, tmp_path):
    list(Ray(1).process(range(12), Squares(tmp_path, killers=[5])))
    begun = {number: len(list(tmp_path.glob(f"begun-{number}-*"))) for number in range(12)}
    assert begun.pop(5) == 3
    assert max(begun.values()) <= 2


def test_a_closed_generator_stops_its_workers_and_says_what_was_at_work(session, tmp_path):
    task = Squares(tmp_path, slow=range(2, 20))
    results = Ray(1).process(range(20), task)
    assert sorted([next(results), next(results)]) == [(0, 0), (1, 1)]
    while len(list(tmp_path.glob("begun-*"))) < 3:
        time.sleep(0.01)
    results.close()
    assert task.interrupted() == {2}
    assert task.pids("built")
    assert end(task.pids("built"))


def test_workers_that_die_whatever_they_are_given_end_the_run(session, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "MAX_CRASHES_IN_A_ROW", 2)
    with pytest.raises(CxrDicomError, match="whatever they are given"):
        list(Ray(1).process(range(100), Deadly(tmp_path)))


def test_a_machine_where_no_worker_is_ever_ready_is_given_up_after_three_deaths(session, tmp_path):
    task = Stillborn(tmp_path, times=1000)
    with pytest.raises(CxrDicomError, match="3 workers died there before they were ready: its process was killed"):
        list(Ray(2).process(range(100), task))
    assert 3 <= len(task.pids("started")) <= 4


def test_workers_that_die_before_they_are_ready_are_replaced(session, tmp_path):
    task = Stillborn(tmp_path, times=2)
    assert sorted(Ray(2).process(range(6), task)) == [(n, n**2) for n in range(6)]


def test_trouble_of_the_only_machine_becomes_the_items_own(session, tmp_path):
    assert sorted(Ray(2).process(range(4), Troubled(tmp_path))) == [(n, n**2) for n in range(4)]


def test_a_machine_that_lacks_room_is_used_no_longer_and_a_run_without_another_ends_with_its_cause(session, tmp_path):
    task, engine = Full(tmp_path), Ray(2)
    with pytest.raises(WantError, match="lacks room on its disk"):
        list(engine.process(range(100), task))
    assert {worker.refused for worker in engine.description.crew} == {"this machine lacks room on its disk"}


def test_a_machine_that_is_refused_is_asked_without_working_and_says_why(session, tmp_path):
    (worker,) = Ray(2).roll_call(range(4), Refused(tmp_path))
    assert worker.refused == f"it does not see the input of {socket.gethostname()}"
    (worker,) = Ray(2).roll_call(range(4), Squares(tmp_path))
    assert (worker.refused, worker.host) == ("", socket.gethostname())


def test_a_programming_error_is_told_without_its_text_here_and_in_the_logs(session, tmp_path):
    with pytest.raises(CxrDicomError) as raised:
        list(Ray(1).process([1], Clumsy(tmp_path)))
    assert "KeyError" in str(raised.value)
    assert "Doe" not in str(raised.value)
    logs = [path for path in session.rglob("logs/**/*") if path.is_file()]
    assert logs
    assert not [path for path in logs if b"Doe" in path.read_bytes()]


def test_workers_have_as_many_threads_as_cpus(session, tmp_path):
    variables = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    assert list(Ray(1, cpus_per_worker=3).process(variables, Environment(tmp_path))) == ["3", "3"]


def test_fractions_of_a_gpu_are_shared_and_one_too_many_waits(session, tmp_path):
    task = Gathering(tmp_path, 4)
    devices = list(Ray(5, gpus_per_worker=0.25).process(range(40), task))
    assert set(devices) == {"0"}
    assert len(task.pids("built")) == 4


def test_as_many_workers_as_find_room(session, tmp_path):
    engine = Ray(gpus_per_worker=0.25)
    list(engine.process(range(40), Gathering(tmp_path, 4)))
    assert engine.description.as_dict() == {
        "name": "ray",
        "workers": 4,
        "threads_per_worker": 1,
        "gpus_per_worker": 0.25,
        "machines": 1,
    }


def test_a_worker_that_can_never_find_room_is_a_wrong_setting(session, tmp_path):
    with pytest.raises(
        SettingsError, match="needs 1 CPUs and 2 GPUs on one machine, those of the cluster have 6 and 1"
    ):
        list(Ray(1, gpus_per_worker=2).process([1], Squares(tmp_path)))


def test_what_workers_log_is_written_here(session, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("cxr_dicom"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("cxr_dicom"), "handlers", [])  # those of other tests
    caplog.set_level(logging.INFO, "cxr_dicom")
    list(Ray(2).process(range(4), Talking(tmp_path)))
    assert sorted(record.fields["files"] for record in caplog.records if record.message == "squared") == [0, 1, 2, 3]


def test_another_version_of_this_package_is_refused(session, tmp_path, monkeypatch):
    monkeypatch.setattr(proxy, "__version__", "0.0.0")
    with pytest.raises(CxrDicomError, match=f"expected cxr-dicom 0.0.0, as here, found {__version__}"):
        list(Ray(1).process([1], Squares(tmp_path)))


def test_without_ray_the_text_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[ray\]'"):
        list(Ray().process([1], Squares(tmp_path)))


# --- in programs of their own, for a process has one connection ----------------------------------

DRIVER = """
import json, subprocess, sys
from tests.cohort.engines.tasks import Squares
from cxr_dicom.cohort.engines.ray import Ray
from cxr_dicom.errors import CxrDicomError

address, folder = sys.argv[1] or None, sys.argv[2]
try:
    results = Ray(2, address=address).process(range(12), Squares(folder, killers=[5]))
    answers = [next(results)]
    sockets = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout
    print(json.dumps({"answers": sorted([*answers, *results]), "sockets": sockets.splitlines()}))
except CxrDicomError as error:
    print(json.dumps({"error": str(error)}))
"""
RELEASED = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="error")
until = time.monotonic() + 60
while (free := ray.available_resources().get("CPU")) != 2 and time.monotonic() < until:
    time.sleep(0.1)
print(free)
"""
ANSWERS = [[n, "gave up" if n == 5 else n**2] for n in range(12)]


@pytest.fixture
def environment(tmp_path):
    """For programs that are ours alone: none of them outlives the test."""
    (tmp_path / "home").mkdir()
    mark = secrets.token_hex()
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_AUTH_MODE": "token"}
    ours = {"PYTHONPATH": PATH, "HOME": str(tmp_path / "home"), "CXR_DICOM_TEST": mark}
    yield {**os.environ, **token, **ours}
    until = time.monotonic() + 60
    while (left := processes_with(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def processes_with(mark):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" "))
    return found


def output_of(code, *arguments, environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout), finished.stderr  # one line: Ray itself writes nothing


@pytest.fixture
def cluster(environment):
    """Addresses of a Ray that somebody else started: as its machines know it, and for clients elsewhere."""
    port, client_port = free_port(), free_port()
    with connection.session_folder() as folder:
        options = {"port": port, "ray-client-server-port": client_port, "temp-dir": folder, "num-cpus": 2}
        options |= {"include-dashboard": "false", "object-store-memory": 80 * 2**20}
        flags = [f"--{name}={value}" for name, value in options.items()]
        program = Path(sys.executable).with_name("ray")
        command = [program, "start", "--head", "--block", "--disable-usage-stats", *flags]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env={**environment, **LOOPBACK}, **quiet) as head:
            for number in (port, client_port):
                wait_for(number, head)
            yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}"
            head.send_signal(signal.SIGTERM)


def wait_for(port, process):
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    pytest.fail("Ray did not start")


def test_its_own_ray_is_private_and_leaves_nothing(environment, tmp_path):
    environment = {name: value for name, value in environment.items() if not name.startswith("RAY_")}
    environment["RAY_TMPDIR"] = str(folder := Path(tempfile.mkdtemp(prefix="t-", dir="/tmp")))
    answer, errors = output_of(DRIVER, "", tmp_path, environment=environment)
    assert answer["answers"] == ANSWERS
    assert errors == ""
    sockets = [line.split()[3] for line in answer["sockets"] if "ray" in line or "gcs_server" in line]
    assert sockets
    assert all("127.0.0.1" in each for each in sockets)
    assert not list((tmp_path / "home").iterdir())
    folder.rmdir()  # it is empty


def test_a_cluster_that_exists_is_used_on_a_machine_of_it_and_as_a_client_and_left_as_it_was(
    cluster, environment, tmp_path
):
    environment |= LOOPBACK
    for number, address in enumerate(cluster):
        (folder := tmp_path / str(number)).mkdir()
        for _ in range(3):  # a client's server that is slow, or finds its port taken, is given up by Ray itself
            answer, _ = output_of(DRIVER, address, folder, environment=environment)
            if "cannot be reached" not in answer.get("error", ""):
                break
        assert answer.get("answers") == ANSWERS, answer.get("error")
        assert output_of(RELEASED, cluster[0], environment=environment)[0] == 2


def test_an_address_where_nobody_listens_is_told_at_once(environment, tmp_path):
    answer, _ = output_of(DRIVER, f"127.0.0.1:{free_port()}", tmp_path, environment=environment)
    assert "cannot be reached" in answer["error"]
