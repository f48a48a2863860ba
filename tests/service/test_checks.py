"""What `check` says of models, on models that really load."""

from cxr_dicom.config import Settings
from cxr_dicom.service import checks
from cxr_dicom.service.checks import Level


def answers(tmp_path, names):
    (tmp_path / "weights").mkdir()
    settings = Settings.model_validate(
        {
            "models": {"names": names, "device": "cpu", "folder": str(tmp_path / "weights")},
            "spool": {"folder": str(tmp_path / "spool")},
            "listener": {"enabled": False},
        }
    )
    return {each.key: each for each in checks.check(settings) if each.key.startswith(("models", "encode"))}


def test_each_model_is_tried_and_its_memory_told(tmp_path):
    found = answers(tmp_path, ("offline-anatomy", "lung-opacity"))
    assert list(found) == ["encode.objects", "models.names: offline-anatomy", "models.names: lung-opacity"]
    assert all(each.level is Level.OK for each in found.values())
    assert "MB of memory more" in found["models.names: offline-anatomy"].text


def test_missing_weights_are_wrong_and_hold_up_no_other_answer(tmp_path):
    found = answers(tmp_path, ("xrv-densenet121-all", "offline-anatomy"))
    assert found["models.names: xrv-densenet121-all"].level is Level.WRONG
    assert "models pull xrv-densenet121-all" in found["models.names: xrv-densenet121-all"].text
    assert found["models.names: offline-anatomy"].level is Level.OK
