"""Weights are converted once, recorded, and refused when they change."""

import json
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import SettingsError, WeightsError
from cxr_dicom.infer import build_models, model_infos, weights
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.models import cxas, xrv_densenet121
from cxr_dicom.infer.weights import pickles
from cxr_dicom.system.digest import sha256

NAME = "xrv-densenet121-rsna"


@pytest.fixture
def info():
    return model_infos()[NAME]


@pytest.fixture
def settings(home, info, tmp_path):
    """A folder of its own with one upstream file."""
    shutil.copy(home.weights(NAME), tmp_path)
    return Settings(models=ModelSettings(names=(NAME,), device="cpu", folder=tmp_path))


@pytest.fixture
def source(settings, info):
    return weights.source_path(info, settings)


@pytest.fixture
def converted(home, info, settings):
    """The same folder after first use."""
    home.build(NAME)
    for path in weights.files(info, Settings()):
        shutil.copy(path, settings.models.folder)
    return settings


def build(settings):
    (model,) = build_models(settings)
    return model


def pinned(settings, digest):
    return settings.model_copy(update={"models": settings.models.model_copy(update={"sha256": {NAME: digest}})})


def test_the_folder_is_the_one_of_torchxrayvision(home):
    assert weights.folder(Settings()) == Path(xrv.utils.get_cache_dir())


def test_first_use_converts_and_records(settings, source, info):
    assert weights.files(info, settings) == (source,)
    model = build(settings)
    assert model.info.weights_sha256 == sha256(source)
    lock = json.loads(source.with_suffix(".lock.json").read_text())
    assert lock["source_sha256"] == sha256(source)
    assert lock["loaded_sha256"] == sha256(source.with_suffix(".safetensors"))
    assert lock["targets"] == xrv.models.model_urls["rsna"]["labels"]
    assert [target or 0 for target in lock["thresholds"]][8] == pytest.approx(0.13486601)
    assert lock["thresholds"][0] is None
    assert len(weights.files(info, settings)) == 3


def test_second_use_reads_no_pickle(converted, monkeypatch):
    first = build(converted)
    monkeypatch.setattr("cxr_dicom.infer.models.xrv_densenet121.read_state", None)
    assert build(converted).info == first.info


def test_tensors_are_enough(converted, source, info):
    first = build(converted)
    source.unlink()
    assert weights.is_present(info, converted)
    assert build(converted).info == first.info


def test_conversion_is_the_same_bytes_every_time(converted, source):
    tensors = source.with_suffix(".safetensors")
    before = tensors.read_bytes()
    tensors.unlink()
    build(converted)
    assert tensors.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_tensors_are_memory_mapped(converted, source):
    model = build(converted)
    assert str(source.with_suffix(".safetensors")) in Path("/proc/self/maps").read_text()
    assert model


def test_missing_weights_say_what_to_do(home, tmp_path, info):
    settings = Settings(models=ModelSettings(names=(NAME,), folder=tmp_path, device="cpu"))
    assert not weights.is_present(info, settings)
    expected = rf"{re.escape(info.weights_file)} belongs in {re.escape(str(tmp_path))}.*models pull {NAME}"
    with pytest.raises(WeightsError, match=expected):
        build(settings)


def test_a_swapped_upstream_file_is_refused(converted, source):
    source.write_bytes(source.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=r"expected SHA-256 \w{64} \(recorded in .*found \w{64}.*models pull"):
        build(converted)


def test_a_swapped_tensor_file_is_refused(converted, source):
    tensors = source.with_suffix(".safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(WeightsError, match=r"safetensors: expected SHA-256"):
        build(converted)


@pytest.mark.parametrize("keep", [0, 1000, -1000])
def test_a_truncated_upstream_file_is_refused(settings, source, keep):
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"damaged or truncated.*fetch it again"):
        build(settings)
    assert not source.with_suffix(".lock.json").exists()
    assert not source.with_suffix(".safetensors").exists()


def test_a_file_of_another_network_is_refused(settings, source):
    torch.save({"a": torch.zeros(3)}, source)
    with pytest.raises(WeightsError, match="do not fit the network"):
        build(settings)


def test_a_pinned_digest_is_checked_before_the_file_is_opened(settings, source, monkeypatch):
    monkeypatch.setattr("cxr_dicom.infer.models.xrv_densenet121.read_state", None)
    with pytest.raises(WeightsError, match=r"pinned in models\.sha256"):
        build(pinned(settings, "0" * 64))


def test_a_pinned_digest_that_is_right_loads(settings, source):
    right = pinned(settings, sha256(source).upper())
    assert build(right).info.weights_sha256 == sha256(source)
    source.unlink()
    assert build(right)
    with pytest.raises(WeightsError, match="pinned"):
        build(pinned(settings, "0" * 64))


def test_a_damaged_lock_is_an_error(converted, source):
    for text in ("", "{}", "[]", '{"format": 99}', "\x00"):
        source.with_suffix(".lock.json").write_text(text)
        with pytest.raises(WeightsError, match=r"lock\.json.*delete it"):
            build(converted)


def test_a_lock_cannot_name_a_file_elsewhere(converted, source):
    path = source.with_suffix(".lock.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"loaded": "../other.safetensors"}))
    with pytest.raises(WeightsError, match="delete it"):
        build(converted)


def test_a_folder_that_cannot_be_written_is_an_error(settings, source, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cxr_dicom.system.atomic.os.open", refuse)  # a test may run as root, whom no mode stops
    with pytest.raises(WeightsError, match=r"cannot be written \(Permission denied\)"):
        build(settings)


def test_others_may_read_what_was_converted(home, info):
    home.build(NAME)
    source = weights.source_path(info, Settings())
    assert stat.S_IMODE(source.with_suffix(".safetensors").stat().st_mode) == 0o644


def test_a_network_is_not_filled_with_part_of_its_weights(settings):
    with torch.device("meta"):
        network = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match="do not fit"):
        weights.fill(network, {"weight": torch.zeros(2, 2)}, "cpu")


@pytest.mark.parametrize(
    "weight",
    [
        torch.zeros(2, 2, dtype=torch.complex64),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, 2, device="meta"),
    ],
    ids=["complex", "whole", "sparse", "without data"],
)
def test_a_network_is_not_filled_with_other_kinds_of_numbers(weight):
    network = torch.nn.Linear(2, 2, device="meta")
    with pytest.raises(WeightsError, match="do not fit the network: weight is no plain tensor"):
        weights.fill(network, {"weight": weight, "bias": torch.zeros(2)}, "cpu")


@pytest.mark.parametrize("name", ["weight\nall is well", "\x1b[2Jweight"])
def test_a_tensors_name_is_shown_on_one_line(name):
    for tensor in (torch.zeros(2), torch.zeros(2, device="meta")):
        with pytest.raises(WeightsError, match="do not fit the network") as caught:
            weights.fill(torch.nn.Linear(2, 2, device="meta"), {name: tensor}, "cpu")
        assert str(caught.value).isprintable()


def test_weights_of_another_precision_become_those_of_the_network():
    network = torch.nn.Linear(2, 2, device="meta")
    weights.fill(network, {"weight": torch.ones(2, 2).half(), "bias": torch.ones(2).double()}, "cpu")
    assert network(torch.ones(1, 2)).tolist() == [[3.0, 3.0]]


def test_tensors_without_a_name_are_no_weights():
    with pytest.raises(WeightsError, match="expected tensors by name"):
        pickles.state_of({1: torch.zeros(2), (1, 2): torch.zeros(2), None: torch.zeros(2)})


def test_a_model_without_weights_is_always_here_and_has_no_path(tmp_path):
    info = model_infos()["ensemble"]
    assert weights.is_present(info, Settings())
    with pytest.raises(WeightsError, match="in the package"):
        weights.source_path(info, Settings())


def test_every_address_is_the_one_of_torchxrayvision():
    """Names here and names there speak of the same files."""
    for info in xrv_densenet121.MODELS:
        entry = xrv.models.model_urls["densenet121-res224-" + info.name.removeprefix("xrv-densenet121-")]
        assert info.weights_url == entry["weights_url"]
    assert cxas.MODELS[0].weights_url == xrv.baseline_models.chestx_anatomy.WEIGHTS_URL
    for info in model_infos().values():
        if info.weights_file and info.name != "chexpert":
            assert info.weights_url == weights.RELEASE + info.weights_file


def test_devices():
    assert choose(ModelSettings(device="cpu")) == "cpu"
    assert choose(ModelSettings()).partition(":")[0] in {"cpu", "mps", "cuda"}
    with pytest.raises(SettingsError, match=r"models\.device: 'cuda:99' is not on this machine"):
        choose(ModelSettings(device="cuda:99"))
