"""What commands write: never to a URL, and for whom the settings say."""

import os
import stat

import click
import pytest

from cxr_dicom.cli import cli
from cxr_dicom.cli._options import OutputFile, OutputFolder
from cxr_dicom.system import atomic

URL = "s3://key:secret@bucket/out"


def paths(command, name=""):
    """Every path that a command takes, with the name of the command."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            yield from paths(command.get_command(context, each), f"{name} {each}".strip())
        return
    yield from ((name, parameter) for parameter in command.params if isinstance(parameter.type, click.Path))


def test_a_path_that_need_not_be_there_is_one_to_write_to():
    unknown = [
        f"{name}: {parameter.name}"
        for name, parameter in paths(cli)
        if not (parameter.type.exists or isinstance(parameter.type, OutputFile | OutputFolder))
    ]
    assert {each.rpartition(": ")[2] for each in unknown} == {"config"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "OUT", "OUT", "--html", URL),
        ("evaluate", "OUT", "--truth", "truth.csv", "-o", URL),
        ("calibrate", "OUT", "--truth", "truth.csv", "-o", URL),
        ("models", "card", "offline-anatomy", "-o", URL),
        ("models", "export", URL),
        ("models", "pull", "xrv-densenet121-all", "--dest", URL),
        ("init", URL),
        ("demo", URL),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_url_is_refused_in_one_line_before_anything_is_done(invoke, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    (tmp_path / "truth.csv").touch()
    result = invoke(*arguments)
    assert (result.exit_code, sorted(path.name for path in tmp_path.iterdir())) == (2, ["OUT", "truth.csv"])
    assert "found a URL (s3://)" in result.stderr.splitlines()[-1]
    assert "secret" not in result.output


@pytest.mark.skipif(os.name == "nt", reason="modes are Unix's")
@pytest.mark.parametrize(("is_shared", "mode"), [(False, 0o600), (True, 0o644)], ids=["private", "shared"])
def test_pages_and_tables_are_for_whom_the_settings_say(invoke, finished, tmp_path, monkeypatch, is_shared, mode):
    monkeypatch.setattr(atomic, "_is_shared", not is_shared)  # what an earlier command of this process said
    config = tmp_path / "settings.toml"
    config.write_text(f"[files]\nshared = {str(is_shared).lower()}\n")
    truth = tmp_path / "truth.csv"
    image = next(row for row in finished.rows if row["outcome"] == "processed")
    truth.write_text(f"sop_instance_uid,cardiothoracic_ratio\n{image['sop_instance_uid']},0.4\n")
    made = tmp_path / "made"
    out = finished.out
    for arguments in (
        ("evaluate", out, "--truth", truth, "-o", made / "EVAL", "--config", config),
        ("compare", out, out, "--html", made / "compare.html", "--config", config),
        ("models", "card", "offline-anatomy", "-o", made / "card.html", "--config", config),
    ):
        before = os.umask(0o022)
        try:
            assert invoke(*arguments).exit_code == 0
        finally:
            os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_file()}
    assert modes == {mode}
