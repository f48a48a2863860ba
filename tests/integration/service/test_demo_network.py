from click.testing import CliRunner

from cxr_dicom.cli import cli


def test_the_newcomers_proof(tmp_path):
    result = CliRunner().invoke(cli, ["demo", "--network", str(tmp_path / "demo")], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for state in ("RECEIVING", "RUNNING", "COMMITTED", "IGNORED"):
        assert state in result.output
    assert "segmentation: committed" in result.output
    assert "NOT_CHEST" in result.output
    assert "EXTREMITY" in result.output
