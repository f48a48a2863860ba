"""What a table says, what is wrong with one, and what identifies a model."""

import hashlib
import re

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.config.own import Label
from cxr_dicom.dicom.codes import LUNG, RIGHT
from cxr_dicom.errors import ModelError, SettingsError, WeightsError
from cxr_dicom.infer import build_models, weights
from cxr_dicom.infer.own import vocabulary
from cxr_dicom.results.calibrate import file
from tests.infer.own import networks
from tests.infer.own.conftest import settings
from tests.infer.own.networks import masks, scores, table
from tests.infer.test_site import points

WRONG = {
    "a name of ours": ({"name": "lung-opacity"}, "'lung-opacity' is a model of this package"),
    "a name for a file": ({"name": "My Model"}, "expected lower case letters and digits joined by -"),
    "no licence": ({"licence": ""}, "at least 1 character"),
    "an unknown file": ({"file": "network.h5"}, "expected one that ends in .onnx, .pt, .ts, .safetensors"),
    "an unknown key": ({"threads": 3}, "no such key"),
    "a fit": ({"input": {"size": 64, "range": (0, 1), "fit": "squeeze"}}, "'crop', 'pad' or 'stretch'"),
    "a range": ({"input": {"size": 64, "range": (1, 0)}}, "expected black below white"),
    "statistics": ({"input": {"size": 64, "range": (0, 1), "channels": 3, "mean": (0.5,)}}, "expected 3 values"),
    "a deviation": ({"input": {"size": 64, "range": (0, 1), "std": (0.0,)}}, "expected positive values"),
    "a kind": ({"output": {"kind": "poem"}}, "'scores', 'masks'"),
    "one name twice": ({"output": scores("mass", "mass")}, "expected each name once"),
    "no name": ({"output": scores("")}, "expected a label with a name"),
    "a column": ({"output": scores("Pleural Effusion")}, "should match pattern"),
    "softmax of one": ({"output": masks("heart", activation="softmax")}, "softmax of one label is always 1"),
    "a code": (
        {"output": {**scores(), "labels": [{"name": "mass", "code": ("1" * 17, "SCT", "Mass")}]}},
        "expected 1 to 16 characters",
    ),
    "a code of SNOMED CT that is none": (
        {"output": {**scores(), "labels": [{"name": "mass", "code": ("36118009", "SCT", "Pneumothorax")}]}},
        "expected an identifier of SNOMED CT",
    ),
    "a code of two lines": (
        {"output": {**scores(), "labels": [{"name": "mass", "code": ("M", "99LAB", "Mass\n\x1b[2J")}]}},
        "expected one line without control characters",
    ),
    "a RadElement that is none": (
        {"output": {**scores(), "labels": [{"name": "mass", "radelement": "RID1301"}]}},
        "should match pattern",
    ),
    "an architecture of ONNX": ({"architecture": "unet"}, "for a .safetensors file, else none; got unet"),
    "a digest": ({"sha256": "abc"}, "should match pattern"),
    "a unit of two values": (
        {"output": {"kind": "values", "labels": [{"name": "age", "unit": "mm\\\\cm"}]}},
        "should match pattern",
    ),
    "a title of two lines": ({"title": "one\ntwo"}, "expected one line"),
    "a file that no page can name": ({"file": "a\x07.onnx"}, "expected one line"),
    "no end": ({"input": {"size": 64, "range": (0, float("inf"))}}, "should be a finite number"),
    "no number": ({"input": {"size": 64, "range": (0, 1), "std": (float("nan"),)}}, "should be a finite number"),
    "a point": ({"output": scores("mass", point=1.5)}, "less than 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_table_is_said_with_its_key(case, tmp_path):
    change, expected = WRONG[case]
    path = tmp_path / "cxr-dicom.toml"
    path.touch()
    given = table(tmp_path / "network.onnx", scores("mass")) | change
    from cxr_dicom.config import load

    with pytest.raises(SettingsError, match=re.escape(expected)) as refused:
        load(path, {"models": {"own": [given]}})
    assert "models.own.0" in str(refused.value)


def test_two_tables_of_one_name_are_refused(tmp_path):
    one = table(tmp_path / "network.onnx", scores("mass"))
    with pytest.raises(ValueError, match="two models have the same name"):
        settings(one, one)


MISFITS = {
    "labels": (scores("mass", "nodule"), "output: expected (images, 2) by its table, got (1, 3)"),
    "kind": (
        masks("mass", "nodule", "hernia"),
        "output: expected (images, 3, rows, columns) by its table, got (1, 3)",
    ),
    "tensor": ({**scores("a", "b", "c"), "tensor": "logits"}, "no output 'logits'; expected one of out"),
    "size": (None, "found an input of 1 x 1 x 64 x 64, expected (images) x 1 x 32 x 32"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_network_that_does_not_fit_its_table_is_refused_before_it_sees_a_patient(case, tmp_path, build):
    output, expected = MISFITS[case]
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    given = {"size": 32} if case == "size" else {}
    with pytest.raises((SettingsError, WeightsError), match=re.escape(expected)):
        build(table(path, output or scores("a", "b", "c"), **given))


def test_logits_are_no_probabilities(tmp_path, build, dx):
    network = networks.made(networks.Classifier)
    with networks.torch.no_grad():
        network.linear.bias += 7
    path = networks.export(network, tmp_path / "network.onnx")
    model = build(table(path, scores("a", "b", "c", activation="none")))
    with pytest.raises(ModelError, match=r"expected 0 to 1, got .* it is sigmoid or softmax"):
        model.predict(dx, ())


def test_a_changed_file_is_another_model(tmp_path, build):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    given = table(path, scores("a", "b", "c"))
    first = build(given).info.weights_sha256
    networks.export(networks.made(networks.Classifier, seed=1), path)
    with pytest.raises(
        WeightsError, match=r"it is another model: give it another version, and delete .*network\.onnx\.lock"
    ):
        build(given)
    (tmp_path / "network.onnx.lock.json").unlink()
    assert build(given).info.weights_sha256 != first
    with pytest.raises(WeightsError, match=r"pinned in models\.sha256"):
        build(given, sha256={"mine": first})


def test_a_file_that_is_replaced_after_its_digest_was_taken_is_refused(tmp_path, build, monkeypatch):
    for suffix in ("onnx", "pt"):
        path, other = tmp_path / f"network.{suffix}", tmp_path / f"other.{suffix}"
        for seed, each in enumerate((path, other)):
            network = networks.made(networks.Classifier, seed=seed)
            networks.torch.jit.script(network).save(each) if suffix == "pt" else networks.export(network, each)
        verify = weights.verify

        def swapped(*given, path=path, other=other, verify=verify):
            lock = verify(*given)
            other.replace(path)
            return lock

        with monkeypatch.context() as patch:
            patch.setattr(weights, "verify", swapped)
            with pytest.raises(WeightsError, match="of a moment ago"):
                build(table(path, scores("a", "b", "c")))


def test_two_formats_of_a_network_lie_in_one_folder(tmp_path, build):
    network = networks.made(networks.Classifier)
    networks.export(network, tmp_path / "a.onnx")
    networks.torch.jit.script(network).save(tmp_path / "a.pt")
    digests = {build(table(tmp_path / name, scores("a", "b", "c"))).info.weights_sha256 for name in ("a.onnx", "a.pt")}
    assert len(digests) == 2


def test_a_file_that_is_pinned_needs_no_folder_that_can_be_written(tmp_path, build, monkeypatch):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    given = table(path, scores("a", "b", "c"))

    def read_only(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cxr_dicom.system.atomic.replacing", read_only)
    with pytest.raises(WeightsError, match=r"cannot be written .* pin its digest in \[models\.sha256\]"):
        build(given)
    identity = hashlib.sha256(path.read_bytes()).hexdigest()
    assert build(given, sha256={"mine": identity}).info.weights_sha256 == identity
    assert build({**given, "sha256": identity.upper()}).info.weights_sha256 == identity
    assert [each.name for each in tmp_path.iterdir()] == ["network.onnx"]
    with pytest.raises(WeightsError, match=r"pinned in its table \[\[models\.own\]\]"):
        build({**given, "sha256": "0" * 64})
    with pytest.raises(ValueError, match="mine has another one in its table"):
        settings({**given, "sha256": identity}, sha256={"mine": "0" * 64})


def test_what_changes_a_result_changes_the_digest_and_where_the_file_lies_does_not(tmp_path):
    one = table(tmp_path / "network.onnx", scores("mass"))
    digests = {
        key: settings(one | change).digest
        for key, change in {
            "as it is": {},
            "moved": {"file": str(tmp_path / "elsewhere" / "network.onnx")},
            "point": {"output": scores("mass", point=0.4)},
            "input": {"input": {**one["input"], "fit": "pad"}},
        }.items()
    }
    assert digests["as it is"] == digests["moved"]
    assert len(set(digests.values())) == 3
    assert settings(one | {"sha256": "0" * 64}).digest == digests["as it is"], "a pin says nothing of a result"
    unused = Settings.model_validate({"models": {"own": [one]}})
    assert unused.digest == Settings().digest, "a table whose model does not run changes nothing"


def test_a_missing_file_is_named(tmp_path, build):
    with pytest.raises(WeightsError, match=r"mine: weights are missing; network\.onnx belongs in"):
        build(table(tmp_path / "network.onnx", scores("mass")))


def test_weights_in_another_file_are_not_looked_for(tmp_path, build):
    import onnx

    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(WeightsError, match=r"found weights in another file for .*: export them into this one"):
        build(table(path, scores("a", "b", "c")))


def test_codes_come_from_the_table_the_package_or_the_name():
    def code(name, given=None):
        return vocabulary.finding(Label(name=name, code=given)).code

    assert code("pneumothorax").value == "36118008"
    assert code("pneumothorax", ("X", "99MYLAB", "Air")).scheme == "99MYLAB"
    assert (code("cavity").value, code("cavity").scheme) == ("CAVITY", "99CXRSITE")
    long = [code(f"subsegmental_atelectasis_{side}").value for side in ("left", "right")]
    assert all(len(value) <= 16 for value in long)
    assert long[0] != long[1]
    lung = vocabulary.outlined(Label(name="right_lung"))
    assert (lung.type, lung.laterality) == (LUNG, RIGHT)
    air = vocabulary.outlined(Label(name="pneumothorax"))
    assert (air.type.value, air.category.value) == ("36118008", "49755003")


def test_a_model_that_is_listed_is_not_loaded(tmp_path):
    from cxr_dicom.infer import model_infos

    info = model_infos(settings(table(tmp_path / "nowhere.onnx", scores("mass"))))["mine"]
    assert (info.predicts, info.licence, info.input_size) == (("mass",), "MIT", 64)
    with pytest.raises(WeightsError):
        build_models(settings(table(tmp_path / "nowhere.onnx", scores("mass"))))


def test_the_same_folder_can_be_named_from_elsewhere(tmp_path, monkeypatch, build):
    networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    monkeypatch.chdir(tmp_path)
    made = settings(table("network.onnx", scores("a", "b", "c")))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    (model,) = build_models(made)
    assert model.info.weights_file == "network.onnx"
    assert "below" not in str(made.models.own[0].file)


def test_operating_points_of_a_site_hold_for_these_weights_and_this_runtime(tmp_path, build, dx):
    path = networks.export(networks.made(networks.Classifier), tmp_path / "network.onnx")
    given = table(path, scores("mass", "nodule", "", point=0.9))
    info = build(given).info
    calibrated = points(name="mine", version=info.version, weights_sha256=info.weights_sha256)
    file.write(tmp_path / "site.toml", calibrated)
    mass, nodule = build(given, operating_points=str(tmp_path / "site.toml")).predict(dx, ()).findings
    assert (mass.operating_point, mass.site_point.upstream, nodule.site_point) == (0.25, 0.9, None)
    with pytest.raises(SettingsError, match="made for version"):
        build({**given, "version": "2"}, operating_points=str(tmp_path / "site.toml"))
