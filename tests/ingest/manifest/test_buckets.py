"""Files of an entry come from a real server that speaks S3, are whole, and are gone after the block."""

import logging
import os
import time
from itertools import count

import boto3
import pytest
from fsspec.config import conf
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from cxr_dicom import synthetic
from cxr_dicom.errors import FetchError
from cxr_dicom.ingest.manifest import bucket, fetched, read
from cxr_dicom.records import Reason
from cxr_dicom.system import retry

BUCKET = "idc-open-data"
_FOLDERS = count()


@pytest.fixture(scope="module")
def server():
    """Run a server on a free port; the address and a client that may write."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    address = "http://{}:{}".format(*running.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket=BUCKET)
    yield address, client
    running.stop()


@pytest.fixture(autouse=True)
def environment(server, monkeypatch):
    """No credentials and no waiting; s3:// leads to the server."""
    for name in os.environ:
        if name.startswith(("AWS_", "FSSPEC_")):
            monkeypatch.delenv(name)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": server[0]})
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)


@pytest.fixture
def stored(server, tmp_path):
    """Put images of one study into the bucket; returns their prefix."""
    _, client = server

    def put(*names, acl="public-read", **attributes):
        prefix = f"series-{next(_FOLDERS)}"
        for number, name in enumerate(names):
            image = synthetic.radiograph(40, 32, seed=number, **attributes)
            (path,) = synthetic.write_study(tmp_path / "made", [image])
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=path.read_bytes(), ACL=acl)
        return prefix

    return put


@pytest.fixture
def entry_of(tmp_path):
    """Read a manifest of these lines, and return its only entry."""

    def make(*lines):
        (tmp_path / "manifest").write_text("\n".join(lines))
        (entry,) = read(str(tmp_path / "manifest")).entries
        return entry

    return make


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_the_files_of_a_series_are_there_and_then_gone(stored, entry_of, work):
    prefix = stored("b.dcm", "deep/a.dcm")
    with fetched(entry_of(f"cp s3://{BUCKET}/{prefix}/* ."), work) as ((study,), skipped):
        assert skipped == []
        assert [instance.sender for instance in study.instances] == [
            f"s3://{BUCKET}/{prefix}/b.dcm",
            f"s3://{BUCKET}/{prefix}/deep/a.dcm",
        ]
        assert all(instance.path.is_file() for instance in study.instances)
        assert all(instance.path.is_relative_to(work) for instance in study.instances)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "count"), [("/*", 3), ("/", 3), ("", 3), ("/a*.dcm", 2), ("/a?.dcm", 1), ("/b.dcm", 1)]
)
def test_a_url_is_a_prefix_a_pattern_or_one_object(stored, entry_of, work, pattern, count):
    prefix = stored("a1.dcm", "a/2.dcm", "b.dcm")
    with fetched(entry_of(f"s3://{BUCKET}/{prefix}{pattern}"), work) as ((study,), _):
        assert len(study.instances) == count


def test_many_stars_cost_no_time():
    pattern = bucket._pattern(f"s3://{BUCKET}/[a]/a*a*a*b")
    assert pattern.fullmatch(f"s3://{BUCKET}/[a]/aaa/cab")

    def seconds(length, times):
        name, begin = f"s3://{BUCKET}/[a]/{'a' * length}", time.process_time()
        assert not any(pattern.fullmatch(name) for _ in range(times))
        return time.process_time() - begin

    assert min(seconds(800, 1) for _ in range(3)) < seconds(100, 100)


def test_a_prefix_does_not_reach_its_neighbours(stored, entry_of, work):
    prefix = stored("a.dcm")
    stored("a.dcm")
    assert prefix[-1] != "0" or stored("x.dcm")
    with fetched(entry_of(f"s3://{BUCKET}/{prefix}/*"), work) as ((study,), _):
        assert len(study.instances) == 1


def test_google_buckets_are_reached_by_their_s3_interface(server, stored, tmp_path, work, monkeypatch):
    monkeypatch.setitem(conf, "s3", {"endpoint_url": "http://127.0.0.1:9"})
    monkeypatch.setitem(conf, "gs", {"endpoint_url": server[0]})
    (tmp_path / "manifest").write_text(f"gs://{BUCKET}/{stored('a.dcm')}/*\n")
    (entry,) = read(str(tmp_path / "manifest")).entries
    with fetched(entry, work) as ((study,), _):
        assert study.instances[0].sender.startswith(f"gs://{BUCKET}/")


def test_google_is_asked_at_its_own_address_and_without_the_keys_of_others(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    google = bucket._file_system("gs")
    assert (google.endpoint_url, google.anon) == ("https://storage.googleapis.com", True)
    assert not bucket._file_system("s3").anon


def test_the_address_of_the_server_may_be_in_the_usual_variable(server, stored, entry_of, work, monkeypatch):
    monkeypatch.delitem(conf, "s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server[0])
    S3FileSystem.clear_instance_cache()  # it keeps clients with the address that they began with
    with fetched(entry_of(f"s3://{BUCKET}/{stored('a.dcm')}/*"), work) as ((study,), _):
        assert len(study.instances) == 1


def test_files_are_removed_whatever_happens(stored, entry_of, work):
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm')}/*")
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), fetched(entry, work) as ((study,), _):
            raise error if study.instances[0].path.is_file() else AssertionError
        assert list(work.iterdir()) == []


def test_two_attempts_at_one_study_do_not_see_each_other(stored, entry_of, work):
    """A killed command may leave a worker on another machine that still fetches what the repeated one fetches."""
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm')}/*")
    with fetched(entry, work) as ((older,), _):
        with fetched(entry, work) as ((study,), _):
            assert len(study.instances) == 1
            assert older.instances[0].path != study.instances[0].path
        assert older.instances[0].path.is_file()


def test_names_of_objects_lead_nowhere(stored, entry_of, work, tmp_path):
    prefix = stored("../../../../outside.dcm", "/absolute.dcm", "..\\outside.dcm", "a.dcm")
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(work)}
    with fetched(entry_of(f"s3://{BUCKET}/{prefix}/*"), work) as ((study,), _):
        assert len(study.instances) == 4
        assert all(path.resolve().is_relative_to(work) for path in work.rglob("*"))
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(work)} - before <= {tmp_path / "manifest"}


def test_what_is_not_public_needs_the_credentials_of_the_environment(stored, entry_of, work, monkeypatch):
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm', acl='private')}/*")
    with pytest.raises(FetchError, match="PermissionError"), fetched(entry, work):
        pass
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with fetched(entry, work) as ((study,), _):
        assert len(study.instances) == 1


def test_what_is_no_image_says_where_it_is_from(server, stored, entry_of, work):
    prefix = stored("a.dcm")
    server[1].put_object(Bucket=BUCKET, Key=f"{prefix}/LICENSE", Body=b"text", ACL="public-read")
    server[1].put_object(Bucket=BUCKET, Key=f"{prefix}/folder/", Body=b"", ACL="public-read")
    with fetched(entry_of(f"s3://{BUCKET}/{prefix}/*"), work) as ((study,), (skipped,)):
        assert len(study.instances) == 1
        assert skipped.reason is Reason.NOT_DICOM
        assert f"{prefix}/LICENSE" in skipped.detail


def test_an_entry_of_several_series_and_studies(stored, tmp_path, work):
    lines = [f'1.2.3,"s3://{BUCKET}/{stored("a.dcm", study=study)}/*"' for study in "12"]
    (tmp_path / "table.csv").write_text("\n".join(["StudyInstanceUID,series_aws_url", *lines]))
    (entry,) = read(str(tmp_path / "table.csv")).entries
    with fetched(entry, work) as (studies, _):
        assert len(studies) == 2


@pytest.mark.parametrize("url", [f"s3://{BUCKET}/nothing/*", f"s3://{BUCKET}/nothing.dcm", "s3://no-such-bucket/a/*"])
def test_a_url_that_leads_to_nothing_is_an_error(entry_of, work, url):
    with pytest.raises(FetchError, match=url[:12]), fetched(entry_of(url), work):
        pass
    assert list(work.iterdir()) == []


# --- a server that breaks ------------------------------------------------------------------------


class Unreliable:
    """Stands before the server: spoils some answers to requests for objects."""

    def __init__(self, application, spoil, times):
        self._application = application
        self._spoil = spoil
        self.left = times
        self.asked = 0

    def __call__(self, environ, start):
        is_object = environ["PATH_INFO"].endswith(".dcm") and environ["REQUEST_METHOD"] == "GET"
        self.asked += is_object
        if is_object and self.left:
            self.left -= 1
            return self._spoil(self._application, environ, start)
        return self._application(environ, start)


def cut(application, environ, start):
    """Say that the object is shorter than it was listed, and send no more."""
    kept = []

    def start_shorter(status, headers, *rest):
        size = int(dict(headers)["Content-Length"]) - 100
        return start(status, [(k, str(size) if k == "Content-Length" else v) for k, v in headers if "crc" not in k])

    body = b"".join(application(environ, start_shorter))
    kept.append(body[:-100])
    return kept


def break_off(application, environ, start):
    """Promise the whole object and close in the middle of it."""
    return [b"".join(application(environ, start))[:-100]]


def refuse(application, environ, start):
    start("403 Forbidden", [("Content-Length", "0")])
    return [b""]


@pytest.fixture
def unreliable(server, monkeypatch):
    """Spoil the next answers; returns what counts the requests."""
    from threading import Thread

    from moto.server import DomainDispatcherApplication, create_backend_app

    running = []

    def start(spoil, times):
        front = Unreliable(DomainDispatcherApplication(create_backend_app), spoil, times)
        listening = make_server("127.0.0.1", 0, front, threaded=True)
        Thread(target=listening.serve_forever, daemon=True).start()
        running.append(listening)
        monkeypatch.setitem(conf, "s3", {"endpoint_url": f"http://127.0.0.1:{listening.port}"})
        return front

    yield start
    for each in running:
        each.shutdown()


@pytest.mark.parametrize("spoil", [cut, break_off])
def test_a_transfer_that_ends_early_is_made_again(stored, entry_of, work, unreliable, spoil):
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm', 'b.dcm')}/*")
    front = unreliable(spoil, 2)
    with fetched(entry, work) as ((study,), skipped):
        assert (len(study.instances), skipped) == (2, [])
    assert front.asked >= 4


@pytest.mark.parametrize("spoil", [cut, break_off])
def test_a_partial_file_is_never_taken_for_a_whole(stored, entry_of, work, unreliable, spoil):
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm', 'b.dcm')}/*")
    unreliable(spoil, 10_000)
    with pytest.raises(FetchError), fetched(entry, work):
        pytest.fail("the block must not run")
    assert list(work.iterdir()) == []


def test_a_refusal_is_final(stored, entry_of, work, unreliable):
    entry = entry_of(f"s3://{BUCKET}/{stored('a.dcm')}/*")
    front = unreliable(refuse, 10_000)
    with pytest.raises(FetchError, match="PermissionError"), fetched(entry, work):
        pass
    assert front.asked == 1
