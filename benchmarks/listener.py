"""Four associations of DCMTK's ``storescu`` at once, and sixteen with small images, into our durable spool and others.

DCMTK's ``storescp`` (by itself one association after the other, with ``--fork`` each in a process) and the
``storescp`` application of pynetdicom write files too, but do not wait until these are on the disk. Orthanc, with the
settings that it comes with, waits for its files and keeps an index. All write to the same file system.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

from benchmarks._harness import ROOT, Missing, Plan, Row, folder, in_turn, ratios
from cxr_dicom import synthetic
from tests.integration import rig

SENDERS, MANY = 4, 16
_MOST_STARTS = 3
ROWS, COLUMNS, SMALL_ROWS = 2500, 2048, 353  # 10 MB and 200 kB
DCMTK = "listener: MB/s, against DCMTK storescp"
FORKED = f"{DCMTK} --fork"
_SMALL = f"listener: images/s of 200 kB by {MANY} associations, against"
SMALL = f"{_SMALL} DCMTK storescp --fork"
SMALL_PROMPT = f"{SMALL}, both with TCP_NODELAY"
SMALL_ORTHANC = f"{_SMALL} Orthanc"
PYNETDICOM = "listener: MB/s, against the storescp application of pynetdicom"
WATCHED = "listener: MB/s with the Now page open, against without"

ROOM = {"max_associations": 2 * MANY, "max_associations_per_address": 2 * MANY}

Server = Callable[[Path, int], Sequence[str]]  # the command that receives into a folder on a port


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each of the others."""
    storescu, storescp = program("storescu"), program("storescp")
    if not storescu or not storescp:
        for row in (DCMTK, FORKED, PYNETDICOM, WATCHED, SMALL, SMALL_PROMPT, SMALL_ORTHANC):
            yield Missing(row, "DCMTK is not installed")
        return
    with folder() as place:
        shares = images(place / "images", SENDERS, 1 if plan.is_quick else 8, 64 if plan.is_quick else ROWS)
        speed = partial(megabytes_per_second, place, storescu, shares)
        dcmtk: Server = lambda out, port: (storescp, "-od", str(out), str(port))  # noqa: E731
        forked: Server = lambda out, port: (storescp, "--fork", "-od", str(out), str(port))  # noqa: E731
        for row, other, goal in ((DCMTK, dcmtk, 0.8), (FORKED, forked, 0.8), (PYNETDICOM, by_pynetdicom, 1.0)):
            pairs = in_turn(partial(speed, by_cxr_dicom), partial(speed, other), plan.repeats)
            yield ratios(row, pairs, at_least=goal)
        pairs = in_turn(partial(speed, while_watched), partial(speed, with_pages), plan.repeats)
        yield ratios(WATCHED, pairs, at_least=0.95)
        shares = images(place / "small", MANY, 1 if plan.is_quick else 30, 64 if plan.is_quick else SMALL_ROWS)
        speed = partial(megabytes_per_second, place, storescu, shares)
        yield ratios(SMALL, in_turn(partial(speed, by_cxr_dicom), partial(speed, forked), plan.repeats), at_least=1.0)
        prompt = partial(speed, is_prompt=True)
        pairs = in_turn(partial(prompt, by_cxr_dicom), partial(prompt, forked), plan.repeats)
        yield ratios(SMALL_PROMPT, pairs, at_least=1.0)
        try:
            orthanc: Server = partial(by_orthanc, rig.program("Orthanc", package="orthanc"))
        except rig.MissingError as error:
            yield Missing(SMALL_ORTHANC, str(error))
            return
        pairs = in_turn(partial(speed, by_cxr_dicom), partial(speed, orthanc), plan.repeats)
        yield ratios(SMALL_ORTHANC, pairs, at_least=1.0)


def program(name: str) -> str | None:
    """Find a program of DCMTK; pynetdicom brings others of the same names."""
    own = sysconfig.get_path("scripts")
    return shutil.which(name, path=os.pathsep.join(place for place in os.get_exec_path() if place != own))


def images(place: Path, senders: int, each: int, rows: int) -> list[list[Path]]:
    """Write so many images for each sender, two in a study."""
    columns = rows * COLUMNS // ROWS
    pixels = synthetic.radiograph(rows, columns)
    shares = []
    for sender in range(senders):
        (place / str(sender)).mkdir(parents=True)
        shares.append([place / str(sender) / str(number) for number in range(each)])
        for number, path in enumerate(shares[-1]):
            study = f"1.2.3.{sender + 1}.{number // 2 + 1}"
            pixels.StudyInstanceUID, pixels.SeriesInstanceUID = study, f"{study}.1"
            pixels.SOPInstanceUID = pixels.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number + 1}"
            pixels.save_as(path, enforce_file_format=True)
    return shares


def by_cxr_dicom(out: Path, port: int) -> Sequence[str]:
    """Our listener with all that makes an image durable, and no worker that would take processor time."""
    return sys.executable, "-c", "from benchmarks.listener import listen; listen()", str(out), str(port)


def with_pages(out: Path, port: int) -> Sequence[str]:
    """The same with the pages for a browser, which nobody looks at."""
    return (*by_cxr_dicom(out, port), "pages")


def while_watched(out: Path, port: int) -> Sequence[str]:
    """The same with a visitor, in a process of its own, who does what the script of the Now page does."""
    return (*by_cxr_dicom(out, port), "pages", "visitor")


def by_pynetdicom(out: Path, port: int) -> Sequence[str]:
    """The application that pynetdicom brings."""
    return sys.executable, "-m", "pynetdicom", "storescp", "-q", "-od", str(out), str(port)


def by_orthanc(program: str, out: Path, port: int) -> Sequence[str]:
    """Orthanc as it comes, without plugins."""
    settings = {
        "StorageDirectory": str(out),
        "DicomPort": port,
        "HttpPort": rig.free_port(),
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
    }
    path = out / "orthanc.json"
    path.write_text(json.dumps(settings))
    return program, f"--logfile={out / 'orthanc.log'}", str(path)


def listen() -> None:
    """Be the process of `by_cxr_dicom`."""
    from cxr_dicom.config import Settings
    from cxr_dicom.ingest.assembly import Assembly
    from cxr_dicom.ingest.intake import Intake
    from cxr_dicom.scp import Listener
    from cxr_dicom.store.audit import AuditTrail
    from cxr_dicom.store.ledger import Ledger
    from cxr_dicom.store.spool import Spool

    out, port, *more = sys.argv[1:]
    settings = Settings.model_validate({"spool": {"folder": out}, "listener": {"port": int(port), **ROOM}})
    spool, ledger = Spool(settings), Ledger(Path(out))
    assembly = Assembly(settings.assembly)
    intake = Intake(spool, ledger, assembly, AuditTrail(spool.folder), settings.listener.sop_classes)
    if more:
        from cxr_dicom.web.live import LivePages

        pages = LivePages(settings, rig.free_port(), intake, dict, lambda: ())
        if "visitor" in more:
            command = "from benchmarks.listener import look; look()"
            visitor = subprocess.Popen((sys.executable, "-c", command, pages.link), stdout=subprocess.PIPE)
            assert visitor.stdout is not None
            visitor.stdout.readline()  # the page is open
    Listener(
        settings.listener, intake, assembly, lambda *report: False
    ).start()  # last: who waits for its port measures
    signal.pause()


def look() -> None:
    """Be a visitor of the Now page, until the service ends."""
    page, _, token = sys.argv[1].partition("/enter#")
    visitor = build_opener(HTTPCookieProcessor(CookieJar()))
    visitor.addheaders = [("Origin", page)]
    visitor.open(f"{page}/enter", data=f"token={token}".encode()).close()
    with suppress(OSError, HTTPException), visitor.open(f"{page}/now/changes") as changes:
        for line in changes:
            if line.startswith(b"event: change"):
                visitor.open(f"{page}/now/part").read()
                print("open", flush=True)


def megabytes_per_second(
    place: Path, storescu: str, shares: list[list[Path]], server: Server, *, is_prompt: bool = False
) -> float:
    """Send all images at once to a server that has just been started.

    By themselves DCMTK's programs leave Nagle's algorithm on, and each waits 40 ms for the other to acknowledge what it
    holds back.
    """
    environment = {**os.environ, **({"TCP_NODELAY": "1"} if is_prompt else {})}
    with receiving(place / "received", server, environment) as port:
        start = time.perf_counter()
        senders = [
            subprocess.Popen((storescu, "-aec", "CXRDICOM", "127.0.0.1", str(port), *map(str, share)), env=environment)
            for share in shares
        ]
        if any([sender.wait() for sender in senders]):  # noqa: C419 - wait for all
            raise RuntimeError("an image was not taken")
        seconds = time.perf_counter() - start
    return sum(path.stat().st_size for share in shares for path in share) / 1e6 / seconds


@contextmanager
def receiving(out: Path, server: Server, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a server on a free port until the end of the block; what it received is deleted."""
    out.mkdir()
    process, port = _started(out, server, environment)
    try:
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(out)
        os.sync()  # what one way left to be written is not the other's to wait for


def _started(out: Path, server: Server, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server; where somebody took its port before it did, it ends, and gets another one."""
    for _ in range(_MOST_STARTS):
        port = rig.free_port()
        process = subprocess.Popen(server(out, port), cwd=ROOT, env=environment)
        while process.poll() is None:
            if answers(port):
                return process, port
            time.sleep(0.1)
    raise RuntimeError(f"the server ended: {process.args}")


def answers(port: int) -> bool:
    """Whether somebody accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
