"""`poll` with a list: what no archive has is said, and the audit trail says who asked."""

import json
from functools import partial

import pytest
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.service.service import poll_once
from tests.ingest.pacs import Pacs, serving, studies
from tests.service_helpers import FastPipeline


@pytest.mark.parametrize(
    ("option", "keys", "told"),
    [("--uids", ("1.2.1", "1.2.99"), "line 2: 1.2.99: no"), ("--accessions", ("A0", "A99"), "line 2: no")],
)
def test_what_no_archive_has_is_named_and_who_asked_is_in_the_trail(tmp_path, monkeypatch, option, keys, told):
    wanted, config = tmp_path / "list.txt", tmp_path / "c.toml"
    wanted.write_text("\n".join(keys))
    monkeypatch.setattr("cxr_dicom.service.service.poll_once", partial(poll_once, build=FastPipeline))
    with serving(Pacs(list(studies(3)))) as full, serving(Pacs([])) as empty:
        archives = "".join(
            f'[[poller.archives]]\nkind = "dicomweb"\nname = "{name}"\nurl = "{url}"\n'
            for name, url in (("full", full), ("empty", empty))
        )
        config.write_text(f'[spool]\nfolder = "{tmp_path / "spool"}"\nmin_free_mb = 0\n{archives}')
        result = CliRunner().invoke(cli, ["poll", option, str(wanted), "--config", str(config)])
    assert result.exit_code == 3, result.output
    assert [line for line in result.output.splitlines() if "no archive" in line] == [f"{wanted}: {told} archive has it"]
    assert "A99" not in result.output
    audit = [json.loads(line) for line in (tmp_path / "spool" / "audit.jsonl").read_text().splitlines()]
    (asked,) = [line for line in audit if line["action"] == "archives_polled"]
    assert (asked["studies"], asked["via"]) == (2, "command")
    assert asked["by"]
