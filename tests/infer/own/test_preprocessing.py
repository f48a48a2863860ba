"""What the preprocessing of a MONAI bundle means for a table. What MONAI 1.6.1 makes of these chains was compared once:

equal within 1.2e-6 on a picture that its `LoadImaged` read, but for the edge of a frame that is interpolated.
"""

import pytest
import torch

from cxr_dicom.config.own import Input, OwnModel
from cxr_dicom.infer.own import preprocessing
from cxr_dicom.infer.own.look import look
from tests.infer.own import bundles, networks
from tests.infer.own.networks import masks, scores, table


def of(name, **given):
    return {"_target_": f"monai.transforms.{name}" if len(name) % 2 else name, "keys": "image", **given}


LOAD = (of("LoadImaged", image_only=True), of("EnsureChannelFirstd"))
TO_ONE = of("ScaleIntensityRanged", a_min=0, a_max=255, b_min=0, b_max=1, clip=True)
SQUARE = {"size": 64, "fit": "stretch", "antialias": False}
CHAINS = {
    "usual": (
        [*LOAD, TO_ONE, of("Resized", spatial_size=[64, 64], mode="bilinear")],
        {"transposed": True, "range": (0.0, 1.0), "resize": "bilinear", **SQUARE},
        [],
    ),
    "ImageNet": (
        [
            of("ScaleIntensityd"),
            of("RepeatChanneld", repeats=3),
            of("NormalizeIntensityd", subtrahend=[0.4, 0.5, 0.6], divisor=0.25, channel_wise=True),
        ],
        {"range": (0.0, 1.0), "intensity": "image", "channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.25] * 3},
        [],
    ),
    "upright": ([*LOAD, of("Transposed", indices=[0, 2, 1])], {"transposed": False}, []),
    "longer side": (
        [
            of("ScaleIntensity"),
            of("Resize", spatial_size=64, size_mode="longest", mode="bicubic"),
            of("SpatialPad", spatial_size=[64, 64]),
        ],
        {"range": (0.0, 1.0), "intensity": "image", "size": 64, "resize": "bicubic", "antialias": False, "fit": "pad"},
        [],
    ),
    "switched off": ([of("Flipd", _disabled_=True), of("EnsureTyped")], {}, []),
    "no frame": (
        [of("Resized", spatial_size=64, size_mode="longest", mode="bilinear")],
        {"resize": "bilinear", "antialias": False},
        ["Resized"],
    ),
    "its own mean": ([TO_ONE, of("NormalizeIntensityd")], {"range": (0.0, 1.0)}, ["NormalizeIntensityd"]),
    "of what is above 0": (
        [TO_ONE, of("NormalizeIntensityd", subtrahend=0.5, divisor=0.5, nonzero=True)],
        {"range": (0.0, 1.0)},
        ["NormalizeIntensityd"],
    ),
    "a window": ([of("ScaleIntensityRanged", a_min=-100, a_max=400, b_min=0, b_max=1)], {}, ["ScaleIntensityRanged"]),
    "after it was resized": (
        [of("Resized", spatial_size=[64, 64], mode="bilinear"), of("ScaleIntensityd")],
        {"resize": "bilinear", **SQUARE},
        ["ScaleIntensityd"],
    ),
    "by areas": ([of("Resized", spatial_size=[64, 64])], {}, ["Resized"]),
    "oblong": ([of("Resized", spatial_size=[64, 32], mode="bilinear")], {}, ["Resized"]),
    "another part": ([of("Resized", spatial_size="@size", mode="bilinear")], {}, ["Resized"]),
    "NumPy": ([of("LoadImaged", reader="NumpyReader")], {}, ["LoadImaged"]),
    "turned": (
        [of("Rotate90d", k=1), of("CenterSpatialCropd", roi_size=[64, 64])],
        {},
        ["Rotate90d", "CenterSpatialCropd"],
    ),
    "hostile": (
        [
            3,
            {},
            {"_target_": 5},
            {"_target_": "a b"},
            of("ScaleIntensityd", minv=float("nan")),
            of("RepeatChanneld", repeats=True),
        ],
        {},
        ["ScaleIntensityd", "RepeatChanneld"],
    ),
    "huge": (
        [of("ScaleIntensityd", maxv=10**400), of("Resized", spatial_size=10**30, mode="bilinear")],
        {},
        ["ScaleIntensityd", "Resized"],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_becomes_what_a_table_can_say_and_the_rest_is_named(name):
    chain, expected, left = CHAINS[name]
    taken = preprocessing.read({"_target_": "Compose", "transforms": chain})
    assert (taken.input, taken.left) == (expected, left)
    Input.model_validate({"size": 64, "range": (0, 1), **taken.input})


def test_what_is_no_chain_says_nothing():
    for chain in (None, "@preprocessing", 5, {}, {"transforms": {}}, [of("ScaleIntensityd")] * 101):
        assert preprocessing.read(chain) == preprocessing.Taken()


def test_a_bundle_says_its_input_and_what_contradicts_it_is_said(tmp_path):
    chain = {
        "_target_": "Compose",
        "transforms": [*LOAD, TO_ONE, of("Resized", spatial_size=[64, 64], mode="bilinear"), of("Flipd")],
    }
    facts = look(bundles.write(tmp_path / "a", inference={"preprocessing": chain}))
    assert facts.input == {"transposed": True, "resize": "bilinear", "fit": "stretch", "antialias": False}
    assert (facts.size, facts.range) == (64, (0.0, 1.0))
    done, left = facts.notes
    assert "taken over of its preprocessing: LoadImaged, EnsureChannelFirstd, " in done
    assert "would make monai.transforms.Flipd: nothing is made" in left
    facts = look(bundles.write(tmp_path / "b", bundles.metadata(value_range=[0, 255]), {"preprocessing": chain}))
    assert facts.range == (0.0, 255.0)
    assert "its preprocessing makes range (0.0, 1.0), the network or its metadata say (0.0, 255.0)" in facts.notes[-1]
    assert "columns before rows" in look(tmp_path / "b", metadata_only=True).notes[-1]


class Upper(torch.nn.Module):
    """Outlines the first half of the rows that it sees."""

    def forward(self, pixels):
        rows = torch.arange(pixels.shape[2])[None, None, :, None] < pixels.shape[2] // 2
        return (rows + pixels * 0).float()


def test_a_network_that_sees_columns_as_rows_outlines_what_it_sees(tmp_path, build, dx):
    path = networks.export(Upper(), tmp_path / "network.onnx")
    for transposed in (False, True):
        model = build(table(path, masks("heart", activation="none"), fit="stretch", transposed=transposed))
        (mask,) = model.predict(dx, ()).masks
        seen = dx.image.orientation.to_standard(mask.region.matrix())
        rows, columns = seen.shape
        half = seen[:, : columns // 2] if transposed else seen[: rows // 2]
        assert half.all()
        assert seen.sum() == half.sum()


def test_a_key_that_is_new_changes_no_digest_and_is_not_for_boxes(tmp_path):
    path = tmp_path / "network.onnx"
    plain, turned = (
        OwnModel.model_validate(table(path, scores("mass"), transposed=each)).meaning for each in (False, True)
    )
    assert "transposed" not in plain["input"], "what was made before it has the same digest"
    assert turned["input"]["transposed"] is True
    with pytest.raises(ValueError, match=r"input\.transposed: not for boxes"):
        OwnModel.model_validate(table(path, networks.boxes("mass"), transposed=True))
