"""`check` on forty settings files with a mistake in each: every mistake is named by its key."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from cxr_dicom.service import checks
from cxr_dicom.service.checks import Level
from tests.service_helpers import archive, as_loaded, certificate, free_port, serving, storescp

FOLDER = {"name": "out", "kind": "folder", "path": "/nowhere/out"}
PACS = {"name": "pacs", "kind": "dicom", "address": "127.0.0.1", "port": 1, "ae_title": "PACS", "timeout_seconds": 1}
WEB = {"name": "web", "kind": "dicomweb", "url": "http://127.0.0.1:1/", "timeout_seconds": 1}
VNA = {**PACS, "name": "vna", "kind": "query-retrieve"}


def found(tmp_path, **tables):
    """Return the answers that are not well, by key."""
    tables["spool"] = {"folder": tmp_path / "spool", "min_free_mb": 0} | tables.get("spool", {})
    tables["listener"] = {"port": free_port()} | tables.get("listener", {})
    answers = checks.check(as_loaded(tables), with_models=False)
    bad: dict[str, list[tuple[Level, str]]] = {}
    for answer in answers:
        if answer.level is not Level.OK:
            bad.setdefault(answer.key, []).append((answer.level, answer.text))
    return bad


def rule(**rules):
    return {"destinations": [{**FOLDER, "rules": rules}]}


def routes(*tables):
    return {"routes": [{"name": name, **table} for name, table in zip("abc", tables, strict=False)]}


MISTAKES = [
    # the way in
    ("listener.enabled", "nothing can come in", {"listener": {"enabled": False}}),
    ("listener.port", "this machine has no such address", {"listener": {"address": "203.0.113.7"}}),
    ("listener.port", "no address has this name", {"listener": {"address": "no-such-host.invalid"}}),
    ("listener.address", "only this machine can reach it", {"listener": {"calling_addresses": ["10.0.0.0/8"]}}),
    ("listener.calling_addresses", "all addresses of the world", {"listener": {"calling_addresses": ["0.0.0.0/0"]}}),
    ("listener.sop_classes", "expected the UID of a storage SOP class", {"listener": {"sop_classes": ["DX"]}}),
    (
        "listener.sop_classes",
        "expected the UID of a storage SOP class",
        {"listener": {"sop_classes": ["1.2.840.10008.1.1"]}},
    ),
    (
        "listener.sop_classes",
        "CT Image Storage: is received, and never",
        {"listener": {"sop_classes": ["1.2.840.10008.5.1.4.1.1.2"]}},
    ),
    ("service.metrics_port", "is listener.port too", {"listener": {"port": 21}, "service": {"metrics_port": 21}}),
    ("service.workers", "this machine has", {"service": {"workers": 64}}),
    ("web.port", "is service.metrics_port too", {"service": {"metrics_port": 21}, "web": {"port": 21}}),
    ("web.port", "is listener.port too", {"listener": {"port": 21}, "web": {"port": 21}}),
    ("service.study_seconds", "a study that takes longer is ended", {"service": {"study_seconds": 1}}),
    # who goes first
    (
        "assembly.urgent.senders",
        "STAT: neither in listener.calling_ae_titles nor an archive",
        {"listener": {"calling_ae_titles": ["CT1"]}, "assembly": {"urgent": {"senders": ["STAT"]}}},
    ),
    (
        "assembly.urgent.called_ae_titles",
        "CXRDICOM: is listener.ae_title too",
        {"assembly": {"urgent": {"called_ae_titles": ["CXRDICOM"]}}},
    ),
    # routes
    (
        "routes.b",
        "no image can take it: whatever would, takes a before it",
        routes({"senders": ["ER", "WARD"]}, {"senders": ["er"]}),
    ),
    ("routes.b", "no image can take it", routes({}, {"senders": ["ER"]})),
    ("routes.b", "no image can take it", routes({"words": ["stat"]}, {"words": ["chest stat"], "views": ["AP"]})),
    ("routes.a.models", "'xrv' is not one of", routes({"models": ["xrv"], "senders": ["ER"]})),
    ("routes.a.objects", "'segs' is not one of", routes({"objects": ["segs"], "senders": ["ER"]})),
    ("routes.a.objects", "models is empty", routes({"objects": ["seg"], "models": []})),
    ("routes.a.called_ae_titles", "CXR2: the listener does not answer", routes({"called_ae_titles": ["CXR2"]})),
    ("routes.a.words", "there are no wildcards", routes({"words": ["CHEST*"]})),
    ("assembly.urgent.stations", "there are no wildcards", {"assembly": {"urgent": {"stations": ["ER?"]}}}),
    ("routes.a.modalities", "only CR and DX", routes({"modalities": ["CT"]})),
    (
        "routes.a.senders",
        "neither in listener.calling_ae_titles",
        {"listener": {"calling_ae_titles": ["ROOM1"]}, **routes({"senders": ["ROOM2"]})},
    ),
    (
        "routes.a.destinations",
        "out takes segmentation only, and nothing of it is written",
        {**rule(kinds=["segmentation"]), **routes({"objects": ["sr"], "destinations": ["out"], "senders": ["ER"]})},
    ),
    (
        "destinations.out",
        "no route leads there",
        {"destinations": [FOLDER], **routes({"destinations": []})},
    ),
    # archives
    (
        "poller.archives.vna.retrieve",
        "our listener, which is not enabled",
        {"listener": {"enabled": False}, "poller": {"archives": [{**VNA, "retrieve": "move"}]}},
    ),
    (
        "listener.address",
        "an archive of another machine cannot move",
        {"poller": {"archives": [{**VNA, "retrieve": "move", "address": "203.0.113.7"}]}},
    ),
    ("poller.archives.vna", "two archives have this name", {"poller": {"archives": [VNA, VNA]}}),
    ("poller", "nothing is polled", {"poller": {"interval_seconds": 60}}),
    ("poller.modalities", "neither CR nor DX", {"poller": {"archives": [VNA], "modalities": ["CXR"]}}),
    ("poller.archives.vna", "UNREACHABLE", {"poller": {"archives": [VNA]}}),
    # destinations
    ("destinations", "none", {}),
    ("destinations.pacs", "UNREACHABLE", {"destinations": [PACS]}),
    ("destinations.pacs", "UNREACHABLE", {"destinations": [{**PACS, "address": "no-such-host.invalid"}]}),
    ("destinations.web", "UNREACHABLE", {"destinations": [WEB]}),
    ("destinations.pacs", "our own listener", {"listener": {"port": 1}, "destinations": [PACS]}),
    ("destinations.pacs.ca", "not used: tls is false", {"destinations": [{**PACS, "ca": "/nowhere"}]}),
    ("destinations.web.ca", "not used: url is http", {"destinations": [{**WEB, "ca": "/nowhere"}]}),
    ("destinations.web.url", "ends with /studies", {"destinations": [{**WEB, "url": "http://127.0.0.1:1/x/studies/"}]}),
    ("destinations.web.url", "found a query", {"destinations": [{**WEB, "url": "http://127.0.0.1:1/x?project=1"}]}),
    ("destinations.web", "it printed nothing", {"destinations": [{**WEB, "token_command": ["true"]}]}),
    ("destinations.b", "the same place as pacs", {"destinations": [PACS, {**PACS, "name": "b"}]}),
    ("destinations.web", "username and password_file together", {"destinations": [{**WEB, "username": "u"}]}),
    (
        "destinations.web",
        "expected one of token_file, token_command",
        {"destinations": [{**WEB, "token_file": "/nowhere", "token_command": ["true"]}]},
    ),
    ("destinations.web.url", "in the clear", {"destinations": [{**WEB, "token_file": "/nowhere"}]}),
    ("destinations.web.token_file", "No such file", {"destinations": [{**WEB, "token_file": "/nowhere"}]}),
    (
        "destinations.pacs.verify",
        "needs the listener",
        {"listener": {"enabled": False}, "destinations": [{**PACS, "verify": "commitment"}]},
    ),
    # rules
    ("destinations.out.rules.findings", "no model knows it", rule(findings=["pneumotorax"])),
    ("destinations.out.rules.findings", "no model of models.names calls it", rule(findings=["pneumothorax"])),
    ("destinations.out.rules.findings", "no model of models.names calls it", rule(findings=["left_lung"])),
    ("destinations.out.rules.kinds", "encode.objects writes none", rule(kinds=["secondary_capture"])),
    ("destinations.out.rules.modalities", "only CR and DX", rule(modalities=["XR"])),
    (
        "destinations.out.rules.senders",
        "neither in listener.calling_ae_titles",
        {"listener": {"calling_ae_titles": ["ROOM1"]}, **rule(senders=["ROOM2"])},
    ),
    # names and numbers
    ("models.names", "'xrv' is not one of", {"models": {"names": ["xrv"]}}),
    ("models.sha256", "'x' is not one of", {"models": {"sha256": {"x": "0" * 64}}}),
    ("models.accept_licence", "'x' is not one of", {"models": {"accept_licence": ["x"]}}),
    ("models.folder", "no such folder", {"models": {"folder": "/nowhere"}}),
    ("encode.objects", "'segs' is not one of", {"encode": {"objects": ["segs"]}}),
    ("encode.objects", "nothing is written", {"encode": {"objects": []}}),
    ("assembly.quiet_seconds", "which closes each study", {"assembly": {"quiet_seconds": 900, "at_most_seconds": 30}}),
    ("retention.objects_days", "within the hour", {"retention": {"objects_days": 0}}),
    ("select.max_pixels", "fewer than a radiograph has", {"select": {"max_pixels": 500}}),
    ("spool.min_free_mb", "other programs fail", {"spool": {"min_free_mb": 1}}),
    ("service.stop_seconds", "systemd kills the service after 90 s", {"service": {"stop_seconds": 85}}),
    ("service.stop_seconds", "begun anew", {"service": {"stop_seconds": 1}}),
    ("service.study_seconds", "noticed after hours", {"service": {"study_seconds": 1e6}}),
    ("service.max_interruptions", "keeps them from all others", {"service": {"max_interruptions": 1000}}),
    ("assembly.quiet_seconds", "parts a study", {"assembly": {"quiet_seconds": 0.5}}),
    ("assembly.at_most_seconds", "before it is sent", {"assembly": {"quiet_seconds": 3, "at_most_seconds": 5}}),
    ("retry.give_up_hours", "makes studies DEAD", {"retry": {"give_up_hours": 0.01}}),
    ("retention.sources_days", "of a year", {"retention": {"sources_days": 3650, "rows_days": 3650}}),
    ("listener.idle_seconds", "that pause are cut off", {"listener": {"idle_seconds": 1}}),
    ("listener.idle_seconds", "keep their places", {"listener": {"idle_seconds": 86400}}),
    ("listener.negotiation_seconds", "turned away", {"listener": {"negotiation_seconds": 0.1}}),
    ("listener.min_bytes_per_second", "slow lines", {"listener": {"min_bytes_per_second": 10**8}}),
    ("listener.max_instance_mb", "are refused", {"listener": {"max_instance_mb": 8}}),
    ("listener.max_associations", "second sender", {"listener": {"max_associations": 1}}),
    ("listener.max_associations_per_address", "which counts", {"listener": {"max_associations_per_address": 99}}),
    ("poller.start_days", "all radiographs of that time", {"poller": {"archives": [VNA], "start_days": 36500}}),
    ("poller.lookback_days", "after midnight", {"poller": {"archives": [VNA], "lookback_days": 0}}),
    (
        "poller.lookback_days",
        "fetched and processed again",
        {
            "poller": {"archives": [VNA]},
            "retention": {"rows_days": 1, "sources_days": 1, "objects_days": 1},
        },
    ),
    ("poller.interval_seconds", "without a pause", {"poller": {"archives": [VNA], "interval_seconds": 0.1}}),
    ("poller.modalities", "dx: expected capitals", {"poller": {"archives": [VNA], "modalities": ["CR", "dx"]}}),
    ("poller.modalities", "CT: is fetched, and never", {"poller": {"archives": [VNA], "modalities": ["CR", "CT"]}}),
    ("destinations.pacs.timeout_seconds", "a busy peer", {"destinations": [PACS]}),
    (
        "destinations.out.timeout_seconds",
        "holds up",
        {"destinations": [{**WEB, "name": "out", "timeout_seconds": 1e4}]},
    ),
    ("destinations.pacs", "expected the address of one machine", {"destinations": [{**PACS, "address": "0.0.0.0"}]}),
    ("destinations.web", "of one machine", {"destinations": [{**WEB, "url": "http://0.0.0.0:1/"}]}),
    ("spool.min_free_mb", "MB wanted", {"spool": {"min_free_mb": 1 << 40}}),
    ("spool.folder", "starts at the folder", {"spool": {"folder": "relative"}}),
    ("spool.folder", "cannot be written", {"spool": {"folder": "/proc/1"}}),
]


@pytest.mark.parametrize(
    ("key", "words", "tables"), MISTAKES, ids=[f"{key}: {words[:20]}" for key, words, _ in MISTAKES]
)
@pytest.mark.filterwarnings("ignore")
def test_each_mistake_is_named(tmp_path, key, words, tables):
    answers = found(tmp_path, **{name: dict(t) if isinstance(t, dict) else t for name, t in tables.items()})
    assert any(words in text for _, text in answers.get(key, [])), answers


def test_settings_without_a_mistake_have_none_that_is_wrong(tmp_path):
    with archive() as (port, _):
        answers = found(
            tmp_path,
            service={"metrics_port": free_port()},
            destinations=[
                {
                    **PACS,
                    "port": port,
                    "timeout_seconds": 20,
                    "rules": {"kinds": ["secondary_capture"], "modalities": ["DX"]},
                },
                {**FOLDER, "path": str(tmp_path / "out"), "rules": {"findings": ["cardiothoracic_ratio_above_limit"]}},
            ],
            encode={"objects": ["seg", "secondary-capture"]},
            listener={"ae_title": ["CXR", "CXR_RESEARCH"]},
            routes=[
                {"name": "kept", "words": ["chest"], "stations": ["NICU"], "models": []},
                {"name": "research", "called_ae_titles": ["cxr_research"], "models": ["offline-anatomy"]},
                {"name": "reports", "views": ["AP"], "senders": ["WEB"], "objects": ["sr"], "destinations": ["out"]},
                {"name": "rest", "objects": ["auto"]},
            ],
        )
    assert not [text for told in answers.values() for level, text in told if level is Level.WRONG]
    assert "poller" not in answers, "nobody said that anything is polled"


def test_a_port_that_another_program_has(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for key, tables in (
            ("listener.port", {"listener": {"port": taken}}),
            ("service.metrics_port", {"service": {"metrics_port": taken}}),
        ):
            assert found(tmp_path, **tables)[key] == [(Level.WRONG, f"127.0.0.1:{taken}: another program has it")]


def test_a_low_port_says_what_the_unit_needs(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cxr_dicom.service.checks.machine.bind", refuse)
    ((level, text),) = found(tmp_path, listener={"port": 104})["listener.port"]
    assert level is Level.WARNING
    assert "CAP_NET_BIND_SERVICE" in text


def test_certificates_say_their_dates(tmp_path):
    authority = certificate(tmp_path, "authority")
    old, key = certificate(tmp_path, "old", authority=authority, expired=True)
    listener = {"tls": {"certificate": old, "key": key, "ca": key}}
    secret = tmp_path / "token"
    secret.write_text("")
    secret.chmod(0o644)
    web = {**WEB, "url": "https://127.0.0.1:1/", "ca": authority[0], "client_certificate": old, "token_file": secret}
    answers = found(tmp_path, listener=listener, destinations=[web])
    assert answers["listener.tls.certificate"] == [(Level.WRONG, f"{old}: expired on 2020-01-02")]
    assert answers["listener.tls.ca"][0][1].endswith("expected a certificate in PEM, found none")
    assert answers["destinations.web.client_certificate"][0] == (Level.WRONG, f"{old}: expired on 2020-01-02")
    assert answers["destinations.web.ca"][0][0] is Level.WARNING  # a day is soon
    assert [text.rsplit(": ", 1)[1] for _, text in answers["destinations.web.token_file"]] == [
        "is empty",
        "can be read by others",
    ]


def test_a_pacs_is_asked_for_each_sop_class_and_what_is_sent_instead_is_told(tmp_path):
    with storescp(tmp_path / "stored") as port:  # DCMTK's knows all but label maps
        answers = found(tmp_path, destinations=[{**PACS, "port": port, "verify": "query"}])
    (instead,) = answers["destinations.pacs: what is sent"]
    assert instead == (Level.WARNING, "PACS refuses Label Map Segmentation Storage: BINARY twins are sent instead")
    assert answers["destinations.pacs.verify"] == [(Level.WRONG, "query: refused by PACS")]


def test_a_pacs_that_refuses_a_class_makes_studies_dead_and_that_is_told(tmp_path):
    with archive() as (port, _):  # knows secondary captures only
        told = found(tmp_path, destinations=[{**PACS, "port": port}])["destinations.pacs: what is sent"]
    assert [text for level, text in told if level is Level.WARNING] == [
        "PACS refuses Grayscale Softcopy Presentation State Storage: it is left out there"  # nobody asked for it
    ]
    assert {level for level, text in told if "left out" not in text} == {Level.WRONG}
    assert any("refuses Parametric Map Storage, and each study with one will be DEAD" in text for _, text in told)
    assert any(
        "all but detection_report, findings_report, measurement_report, structure_report" in text for _, text in told
    )


def test_a_running_service_is_asked_and_not_in_the_way(tmp_path):
    ports = {"listener": {"port": free_port()}, "service": {"metrics_port": free_port()}}
    with serving(tmp_path / "spool", **{name: dict(table) for name, table in ports.items()}) as service:
        settings = service.settings
        answers = {each.key: each for each in checks.check(settings, with_models=False)}
        assert f"process {os.getpid()} listens there" in answers["listener.port"].text
        assert answers["service"].text == "says that it is ok"
        (service._spool.folder / "unknown" / "a" / "b").mkdir(parents=True)
        (service._spool.folder / "unknown" / "a" / "b" / "c").touch()
        told = found(tmp_path, **ports)
        assert told["service: unknown"][0][0] is Level.WARNING
        other = free_port()
        ((level, text),) = found(tmp_path, service=ports["service"], listener={"port": other})["listener.port"]
        assert level is Level.WRONG
        assert text.endswith("does not listen there: it has other settings; reload it")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs")
def test_a_spool_in_memory_is_told():
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        assert "a restart of this machine loses all of it" in str(found(folder)["spool.folder"])
    finally:
        shutil.rmtree(folder)
