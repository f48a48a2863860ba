"""A day of trouble in minutes: each peer has its faults while studies arrive, and at the end all is where it belongs.

`cxr-dicom serve` with its offline model; a real Orthanc by C-STORE and another by DICOMweb, out and in, behind a proxy
that lies; DCMTK's archive behind a router that breaks the upper layer; and an archive whose name goes away.
"""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import CTImageStorage

from cxr_dicom.store.ledger import Ledger
from cxr_dicom.synthetic import radiograph
from cxr_dicom.synthetic.archive import Archive
from tests.integration import rig
from tests.integration.soak import apart, house
from tests.integration.soak.faults import Fault, Peer, modes
from tests.integration.soak.orthanc import Orthanc
from tests.integration.soak.relays import DicomRelay, WebRelay
from tests.service_helpers import is_acknowledged

_MOST_LINES = 300  # of the log of a day
_SECONDS_PER_STUDY = 1.2
_POLLED = 0.2  # of the studies come by the poller
_FOREIGN = 12  # studies in the polled archive that nobody asks for: of another modality, or too old
_CLOUD = "pacs.cloud.example"
_PEACE_SECONDS = 900.0  # until what waits is delivered when the peers are well

_CONFIG = """\
[models]
names = ["offline-anatomy"]
[spool]
folder = "{folder}/spool"
[listener]
port = {listener}
[assembly]
quiet_seconds = 1
[service]
metrics_port = {metrics}
[poller]
interval_seconds = 5
[[poller.archives]]
name = "vna"
kind = "dicomweb"
url = "http://127.0.0.1:{vna}/dicom-web"
timeout_seconds = 4
[[destinations]]
name = "pacs"
kind = "dicom"
address = "127.0.0.1"
port = {pacs}
ae_title = "ARCHIVE"
timeout_seconds = 4
[[destinations]]
name = "vna"
kind = "dicomweb"
url = "http://127.0.0.1:{vna}/dicom-web"
timeout_seconds = 4
[[destinations]]
name = "router"
kind = "dicom"
address = "127.0.0.1"
port = {router}
ae_title = "ARCHIVE"
timeout_seconds = 4
"""
_CLOUD_TABLE = """\
[[destinations]]
name = "cloud"
kind = "dicom"
address = "{name}"
port = {port}
ae_title = "ARCHIVE"
timeout_seconds = 4
"""


def day(folder: Path, studies: int, seed: int) -> bool:
    """Live through it; tell whether all was as it must be."""
    chance = random.Random(seed)
    seconds = max(60.0, studies * _SECONDS_PER_STUDY)
    images = [
        radiograph(320, 256, seed=n, study=f"{seed} {n}", StudyDate=f"{date.today():%Y%m%d}") for n in range(studies)
    ]
    polled, sent = images[: int(studies * _POLLED)], images[int(studies * _POLLED) :]
    print(
        f"a day of {seconds:.0f} s, seed {seed}: {len(sent)} studies by C-STORE, {len(polled)} by the poller",
        flush=True,
    )
    with _peers(folder) as (pacs, vna, web, router, cloud, hosts):
        ports = {"listener": rig.free_port(), "metrics": rig.free_port()}
        config = _CONFIG.format(folder=folder, pacs=pacs.archive.dicom_port, vna=web.port, router=router.port, **ports)
        config += _CLOUD_TABLE.format(name=_CLOUD, port=cloud.port) if hosts else ""
        (folder / "c.toml").write_text(config)
        for each in _foreign():
            vna.store(each)
        log = folder / "log"
        serving = house.Serving(
            house.cxr_dicom("serve", "--json", "--config", str(folder / "c.toml")), log, ports["listener"]
        )
        serving.start()
        try:
            begin = time.monotonic()
            plans = _plans(pacs, web, router, hosts)
            peers = [Peer(name, faults, seconds, seed, house.note) for name, faults in plans.items()]
            shares = [sent[::2], sent[1::2]]
            ways = [is_acknowledged, house.by_storescu(folder / "modality")]
            modalities = [
                house.Modality(ports["listener"], house.spread(share, seconds, chance), way, f"{seed} {number}")
                for number, (share, way) in enumerate(zip(shares, ways, strict=True))
            ]
            for thread in (*peers, *modalities):
                thread.start()
            for second, image in house.spread(polled, seconds * 0.8, chance):
                time.sleep(max(0.0, begin + second - time.monotonic()))
                vna.store(image)
            for thread in (*peers, *modalities):
                thread.join()
            house.note(time.monotonic() - begin, "all peers are well")
            ledger = Ledger(folder / "spool")
            found = house.await_states(ledger, lambda found: found == {"SENT": studies}, _PEACE_SECONDS)
            house.note(time.monotonic() - begin, f"studies: {dict(found)}")
            health = house.health(ports["metrics"])
            memory, descriptors = serving.figures()
        finally:
            code = serving.stop()
        told = house.stories(ledger)
        ledger.close()
        arrived = {
            "pacs": pacs.sop_instance_uids(),
            "vna": [
                uid for uid in vna.sop_instance_uids() if uid not in {i.SOPInstanceUID for i in (*images, *_foreign())}
            ],
            "router": [path.name.split(".", 1)[1] for path in (folder / "router").iterdir()],
        }
        arrived |= {"cloud": list(cloud.received)} if hosts else {}
    verdict = house.Verdict()
    played = sum(len(peer.plan) for peer in peers if peer.is_over)
    verdict.say(f"faults played: {played}", all(peer.is_over for peer in peers))
    verdict.say(f"studies: {dict(found)}; expected {studies} SENT", found == {"SENT": studies})
    wanted = {each.StudyInstanceUID for each in images}
    foreign = {story["study_instance_uid"] for story in told} - wanted
    verdict.say(f"studies that nobody asked for: {len(foreign)}", not foreign)
    _judge_objects(verdict, told, arrived, folder / "spool" / "audit.jsonl")
    verdict.say(f"health: {health}", health["status"] == "ok")
    lines = house.lines_by_action(log)
    verdict.say(f"lines of the log: {lines.total()}; fewer than {_MOST_LINES} expected", lines.total() < _MOST_LINES)
    verdict.say(", ".join(f"{count} {action}" for action, count in lines.most_common()))
    verdict.say(f"memory {memory:.0f} MB, {descriptors} descriptors, exit code {code}", code == 0)
    return verdict.is_good


def _judge_objects(verdict: house.Verdict, told: list[dict], arrived: dict[str, list[str]], audit: Path) -> None:
    processed = house.lines_by_action(audit)["study_processed"]
    verdict.say(f"studies processed: {processed} times", processed == len(told))
    for name, uids in arrived.items():
        sent = house.sent_to(told, name)
        lost, strange = sent.keys() - set(uids), set(uids) - sent.keys()
        doubled = (len(uids) - len(set(uids))) + (sent.total() - len(sent))
        counts = {
            sum(
                each["destination"] == name and each["state"] != "replaced"
                for made in story["objects"]
                for each in made["deliveries"]
            )
            for story in told
        }
        text = f"{name}: {len(uids)} objects, lost {len(lost)}, doubled {doubled}, strange {len(strange)}"
        text += f", of each study {sorted(counts)}"
        verdict.say(text, not (lost or strange or doubled) and len(counts) == 1)


@contextmanager
def _peers(folder: Path) -> Iterator[tuple[Orthanc, Orthanc, WebRelay, DicomRelay, Archive, Path | None]]:
    """Start all peers."""
    hosts = apart.names(folder) if apart.why_not() is None else None
    with ExitStack() as stack:
        pacs, vna = Orthanc(folder / "pacs"), Orthanc(folder / "vna")
        for each in (pacs, vna):
            each.start()
            stack.callback(each.stop)
        (folder / "router").mkdir()
        port = rig.free_port()
        command = [rig.program("storescp", package="dcmtk"), "-od", str(folder / "router"), str(port)]
        stack.enter_context(rig.process(command, folder / "storescp.log"))
        web = WebRelay(int(vna.archive.url.rpartition(":")[2]))
        yield pacs, vna, web, DicomRelay(port), stack.enter_context(Archive()), hosts


def _plans(pacs: Orthanc, web: WebRelay, router: DicomRelay, hosts: Path | None) -> dict[str, list[Fault]]:
    """Return the faults of each peer."""
    plans = {
        "pacs": [
            Fault(name="killed", begin=pacs.kill, end=pacs.start),
            Fault(name="frozen", begin=pacs.freeze, end=lambda: pacs.freeze(thaw=True)),
        ],
        "vna": modes(web, WebRelay.modes),
        "router": modes(router, DicomRelay.modes),
    }
    if hosts:
        known = "127.0.0.1 localhost\n"
        gone = Fault(
            name="its name is gone",
            begin=lambda: hosts.write_text(known),
            end=lambda: hosts.write_text(f"{known}127.0.0.1 {_CLOUD}\n"),
        )
        gone.end()
        plans["cloud"] = [gone, gone]
    return plans


def _foreign() -> list[Dataset]:
    """Make studies that a poller must leave alone."""
    of_old = [radiograph(32, 32, seed=n, study=f"old {n}", StudyDate="20010203") for n in range(_FOREIGN // 2)]
    others = [
        radiograph(
            32,
            32,
            seed=n,
            study=f"CT {n}",
            StudyDate=f"{date.today():%Y%m%d}",
            Modality="CT",
            SOPClassUID=CTImageStorage,
        )
        for n in range(_FOREIGN // 2)
    ]
    for each in others:
        each.file_meta.MediaStorageSOPClassUID = CTImageStorage
    return of_old + others
