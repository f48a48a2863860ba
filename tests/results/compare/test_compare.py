"""Statistics of a comparison against values worked out by hand, and masks against whole matrices."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage

from cxr_dicom.encode.objects import seg
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records.plane import Region
from cxr_dicom.results.compare import _overlap, broken_limits, compare, match


def score(probability, call, model="one"):
    return {"probability": probability, "raw": 0.5, "operating_point": 0.5, "call": call, "model": model}


def measured(value, unit="mm", model="one"):
    return {"value": value, "unit": unit, "model": model}


def row(uid, **columns):
    return {"sop_instance_uid": uid, "outcome": "processed", "reason": None, **columns}


@pytest.fixture
def folder(tmp_path):
    """Write rows, and perhaps run.json, to a new output folder."""
    names = iter("ABCDEFGH")

    def write(rows, run=None):
        out = tmp_path / next(names)
        out.mkdir()
        (out / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        if run is not None:
            (out / "run.json").write_text(json.dumps(run))
        return out

    return write


@pytest.fixture
def compared(folder):
    """Compare the rows of two runs."""

    def compare_rows(a, b, **options):
        return compare(match(folder(a), folder(b)), **options)

    return compare_rows


def findings(calls, values=None):
    values = values or [0.5] * len(calls)
    return [row(f"1.{n}", scores={"mass": score(v, c)}) for n, (c, v) in enumerate(zip(calls, values, strict=True))]


def test_agreement_and_kappa_are_those_of_the_textbook(compared):
    """Two raters of 50 proposals: 20 both yes, 15 both no, 5 and 10 apart: kappa 0.4."""
    present, absent = "present", "absent"
    a = [present] * 25 + [absent] * 25
    b = [present] * 20 + [absent] * 5 + [present] * 10 + [absent] * 15
    (mass,) = compared(findings(a), findings(b)).calls
    assert (mass.n, mass.agreement) == (50, 0.7)
    assert mass.kappa == pytest.approx(0.4)
    assert mass.moved == {"absent > present": 10, "present > absent": 5}


def test_differences_are_b_minus_a(compared):
    a, b = findings(["absent"] * 4, [0.1, 0.2, 0.3, 0.4]), findings(["absent"] * 4, [0.2, 0.2, 0.5, 0.4])
    (mass,) = compared(a, b).calls
    change = mass.differences
    assert change.n == 4
    assert change.mean == pytest.approx(0.075)
    assert change.sd == pytest.approx(math.sqrt(0.0275 / 3))
    assert change.max_abs == pytest.approx(0.2)
    assert change.quantiles["0.5"] == pytest.approx(0.05)
    assert change.correlation == pytest.approx(math.sqrt(0.6))
    assert change.limits_of_agreement == pytest.approx(
        (0.075 - 1.959964 * change.sd, 0.075 + 1.959964 * change.sd), abs=1e-6
    )
    assert all(lower <= upper for lower, upper in pairwise(change.quantiles.values()))


def test_what_is_not_defined_is_null_with_the_reason(compared):
    (mass,) = compared(findings(["absent"] * 3), findings(["absent"] * 3, [0.1, 0.2, 0.3])).calls
    assert (mass.agreement, mass.kappa, mass.why_no_kappa) == (1, None, "all calls are the same")
    assert (mass.differences.correlation, mass.differences.why_no_correlation) == (None, "all values of A are the same")
    (mass,) = compared(findings(["absent"]), findings(["present"])).calls
    assert (mass.agreement, mass.kappa) == (0, 0), "constant on either side, but not the same"
    assert (mass.differences.sd, mass.differences.limits_of_agreement) == (None, None)
    assert mass.differences.why_no_correlation == "one image"
    (mass,) = compared(findings(["indeterminate"] * 2), findings(["present", "absent"])).calls
    assert (mass.agreement, mass.kappa) == (None, None)
    assert "operating point" in mass.why_no_kappa


def test_the_largest_moves_come_first_and_are_few(compared):
    change = np.linspace(0.01, 0.4, 40)
    a, b = findings(["absent"] * 40, [0.1] * 40), findings(["present"] * 40, (0.1 + change).tolist())
    (mass,) = compared(a, b).calls
    assert mass.moved == {"absent > present": 40}
    assert [move.sop_instance_uid for move in mass.largest_moves] == [f"1.{n}" for n in range(39, 19, -1)]
    first = mass.largest_moves[0]
    assert (first.call_a, first.call_b, first.value_a, first.value_b) == ("absent", "present", 0.1, 0.5)


def test_measurements_are_compared_in_the_same_unit_only(compared):
    values_a = [(10, "mm"), (12, "mm"), (5, "mm"), (None, "mm"), (7, "mm"), (1, "{pixels}"), (float("nan"), "mm")]
    values_b = [(11, "mm"), (14, "mm"), (50, "{pixels}"), (3, "mm"), (None, "mm"), (3, "{pixels}"), (1, "mm")]
    a, b = (
        [row(f"1.{n}", measurements={"width": measured(*value)}) for n, value in enumerate(values)]
        for values in (values_a, values_b)
    )
    millimetres, pixels = sorted(compared(a, b).measurements, key=lambda each: each.unit)
    assert (millimetres.unit, millimetres.differences.n, millimetres.differences.mean) == ("mm", 2, 1.5)
    assert (millimetres.only_a, millimetres.only_b, millimetres.other_unit) == (1, 2, 1)
    assert (pixels.unit, pixels.differences.n, pixels.differences.mean) == ("{pixels}", 1, 2)
    assert not millimetres.is_same


def test_a_statement_moves_with_its_measurement(compared):
    def image(value, call, other):
        return row(
            "1.1",
            measurements={
                "ratio": measured(other, "{ratio}", "first"),
                "ratio__second": measured(value, "{ratio}", "second"),
            },
            statements={"over_half": {"call": call, "measurement": "ratio", "model": "second"}},
        )

    (over_half,) = compared([image(0.49, "absent", 0.3)], [image(0.52, "present", 0.3)]).calls
    (move,) = over_half.largest_moves
    assert (over_half.kind, move.value_a, move.value_b) == ("statement", 0.49, 0.52)


def test_images_are_matched_by_uid_and_other_ends_are_listed(compared):
    a = [
        {"sop_instance_uid": None, "outcome": "skipped", "reason": "NOT_DICOM"},
        row("1.1", scores={"mass": score(0.1, "absent")}),
        {"sop_instance_uid": "1.1", "outcome": "skipped", "reason": "DUPLICATE_INSTANCE"},
        row("1.2"),
        row("1.3"),
        {"sop_instance_uid": "1.4", "outcome": "skipped", "reason": "NOT_CHEST"},
    ]
    b = [
        {"sop_instance_uid": "1.4", "outcome": "skipped", "reason": "NOT_FRONTAL"},
        {"sop_instance_uid": "1.2", "outcome": "failed", "reason": "MODEL_FAILED"},
        row("1.5"),
        row("1.1", scores={"mass": score(0.1, "absent")}),
    ]
    found = compared(a, b)
    assert (found.images, found.processed, found.only_a, found.only_b) == (3, 1, ["1.3"], ["1.5"])
    assert (found.a.images, found.a.inputs_without_uid) == (4, 1)
    assert [(c.sop_instance_uid, c.reason_a, c.reason_b) for c in found.changes] == [
        ("1.2", None, "MODEL_FAILED"),
        ("1.4", "NOT_CHEST", "NOT_FRONTAL"),
    ]
    assert [call.n for call in found.calls] == [1]


def test_names_of_one_run_only_are_listed(compared):
    a = [row("1.1", scores={"mass": score(0.1, "absent"), "nodule": score(0.1, "absent")})]
    b = [row("1.1", scores={"mass": score(0.1, "absent", "two")}, measurements={"width": measured(3)})]
    found = compared(a, b)
    assert (found.names.only_a, found.names.only_b) == (["nodule"], ["width"])
    (mass,) = found.calls
    assert (mass.models_a, mass.models_b) == (["one"], ["two"])


def test_what_differs_between_the_runs_is_named(folder):
    def run(version, digest, weights, about):
        model = {"name": "one", "version": "1", "weights_sha256": weights}
        return folder([row("1.1", package_version=version, settings_digest=digest, models=[model])], about)

    a = run("0.1", "d1", "w1", {"settings": {"encode": {"geometry": "viewer", "objects": ["seg"]}}, "totals": {"x": 1}})
    b = run("0.1", "d2", "w2", {"settings": {"encode": {"geometry": "strict", "objects": ["seg"]}}, "totals": {"x": 2}})
    found = compare(match(a, b))
    assert {each.key: (each.a, each.b) for each in found.settings} == {
        "settings_digest": ("d1", "d2"),
        "model one": ("version 1, weights w1", "version 1, weights w2"),
        "settings.encode.geometry": ("viewer", "strict"),
    }
    assert found.knows_settings
    assert compare(match(a, a)).settings == []
    (a / "run.json").write_text("no JSON")
    assert not compare(match(a, b)).knows_settings


def test_rows_of_a_version_without_the_newer_keys_are_read(compared):
    found = compared([{"sop_instance_uid": "1.1", "outcome": "processed"}], [row("1.1", scores=None, models=None)])
    assert (found.processed, found.calls, found.masks.structures) == (1, [], [])


def test_runs_without_images_have_nothing_in_common(compared):
    found = compared([], [row("1.1")])
    assert (found.images, found.only_b) == (0, ["1.1"])
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("text", ["{", "3\n", '{"sop_instance_uid": "1.1"}\n{"half'])
def test_broken_results_are_named_with_their_line(folder, text):
    out = folder([])
    (out / "results.jsonl").write_text(text)
    with pytest.raises(CxrDicomError, match=r"results.jsonl: line \d is not a JSON object"):
        match(out, out)


def test_a_folder_without_results_is_no_run(tmp_path):
    with pytest.raises(CxrDicomError, match="not the output of `run`"):
        match(tmp_path, tmp_path)


# --- masks ---------------------------------------------------------------------------------------


def random_regions(shape, count, seed):
    """Blobs, one of them empty and one that touches every border."""
    rng = np.random.default_rng(seed)
    matrices = rng.random((count, *shape)) > 0.6
    matrices[1] = False
    matrices[2] = True
    for matrix in matrices[3:]:
        matrix[: shape[0] // 3] = False
        matrix[:, : shape[1] // 4] = False
    return [Region.from_matrix(matrix) for matrix in matrices]


def write_segmentation(path, kind, regions, names, model="one"):
    dataset = Dataset()
    dataset.file_meta = Dataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = SegmentationStorage if kind == "BINARY" else LABEL_MAP_STORAGE
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = regions[0].shape
    dataset.SegmentSequence = []
    for number, name in enumerate(names, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.TrackingID, segment.SegmentAlgorithmName = number, name, model
        dataset.SegmentSequence.append(segment)
    numbers = range(1, len(regions) + 1)
    dataset.PerFrameFunctionalGroupsSequence = [seg.segment_identification(number) for number in numbers]
    seg.set_pixels(dataset, kind, regions)
    dataset.save_as(path, enforce_file_format=True)
    return {"path": path.name, "kind": "segmentation", "sop_class_uid": str(dataset.SOPClassUID)}


@pytest.mark.parametrize("shape", [(13, 11), (16, 8), (7, 24), (9, 16)])
def test_binary_frames_are_read_as_they_were_packed(folder, shape):
    regions = random_regions(shape, 6, seed=shape[0])
    names = [f"s{number}" for number in range(6)]
    out = folder([])
    held = write_segmentation(out / "a.dcm", "BINARY", regions, names)
    (out / "results.jsonl").write_text(json.dumps(row("1.1", objects=[held], models=[{"name": "one", "version": "1"}])))
    masks = _overlap.read(out, 0)
    assert list(masks) == [name for name, region in zip(names, regions, strict=True) if region.area]
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask.matrix(), regions[names.index(name)].matrix())
        assert mask.box == regions[names.index(name)].box


def test_a_single_pixel_is_found_wherever_it_is(folder):
    """Where a frame begins within a byte, and which rows are unpacked, depends on the place."""
    shape, out = (3, 7), folder([])
    pixels = [Region.from_matrix(np.arange(21).reshape(shape) == place) for place in range(21)]
    held = write_segmentation(out / "a.dcm", "BINARY", pixels, [f"s{place}" for place in range(21)])
    (out / "results.jsonl").write_text(json.dumps(row("1.1", objects=[held], models=[{"name": "one", "version": "1"}])))
    boxes = [mask.box for mask in _overlap.read(out, 0).values()]
    assert boxes == [region.box for region in pixels]


def test_a_label_map_is_read_as_it_was_painted(folder):
    labels = np.random.default_rng(3).integers(0, 5, (13, 11))
    regions = [Region.from_matrix(labels == number) for number in range(1, 5)]
    out = folder([])
    held = write_segmentation(out / "a.dcm", "LABELMAP", regions, "wxyz")
    (out / "results.jsonl").write_text(json.dumps(row("1.1", objects=[held], models=[{"name": "one", "version": "1"}])))
    for mask, region in zip(_overlap.read(out, 0).values(), regions, strict=True):
        np.testing.assert_array_equal(mask.matrix(), region.matrix())


def test_dice_is_that_of_the_whole_matrices():
    regions = random_regions((19, 23), 8, seed=5)
    far = Region.from_matrix(np.pad(np.ones((2, 2), bool), ((0, 17), (0, 21))))
    for a in (*regions, far):
        for b in (*regions, far):
            whole_a, whole_b = a.matrix(), b.matrix()
            total = whole_a.sum() + whole_b.sum()
            expected = 2 * (whole_a & whole_b).sum() / total if total else 1
            assert _overlap.dice(a, b) == pytest.approx(expected)


@pytest.fixture
def masked(folder):
    """Write a run with one image whose masks are given by model and structure."""

    def write(masks):
        out = folder([])
        held = [
            write_segmentation(out / f"{number}.dcm", "BINARY", list(of.values()), list(of), model)
            for number, (model, of) in enumerate(masks.items())
        ]
        ran = [{"name": model, "version": "1"} for model in masks]
        (out / "results.jsonl").write_text(json.dumps(row("1.1", objects=held[::-1], models=ran)) + "\n")
        return out

    return write


SQUARE = Region.from_matrix(np.pad(np.ones((4, 4), bool), 2))
HALF = Region.from_matrix(np.pad(np.ones((4, 2), bool), ((2, 2), (2, 4))))


def test_structures_are_matched_by_name_and_a_missing_one_is_said(masked):
    a, b = masked({"m-one": {"heart": SQUARE, "spine": SQUARE}}), masked({"m-two": {"heart": HALF, "lung": SQUARE}})
    found = {each.name: each for each in compare(match(a, b)).masks.structures}
    heart = found["heart"]
    assert heart.median == heart.p10 == heart.minimum == pytest.approx(2 * 8 / 24)
    assert [(w.sop_instance_uid, w.dice) for w in heart.worst] == [("1.1", heart.minimum)]
    assert (sum(heart.histogram), heart.histogram[33]) == (1, 1)
    assert (found["spine"].n, found["spine"].only_a, found["spine"].only_b, found["spine"].median) == (0, 1, 0, None)
    assert (found["lung"].only_a, found["lung"].only_b) == (0, 1)


def test_a_later_model_of_the_row_bears_its_name(masked):
    both = masked({"m-one": {"heart": SQUARE}, "m-two": {"heart": HALF}})
    alone = masked({"m-two": {"heart": SQUARE}})
    found = {each.name: each for each in compare(match(both, alone)).masks.structures}
    assert found["heart"].minimum == 1, "the first model of the row keeps the name"
    assert found["heart__m_two"].only_a == 1


def test_twins_are_read_once(masked):
    out = masked({"m": {"heart": SQUARE}})
    (image,) = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    twin = write_segmentation(out / "twin.dcm", "LABELMAP", [SQUARE], ["heart"], "m")
    (out / "results.jsonl").write_text(json.dumps({**image, "objects": [twin, *image["objects"]]}))
    assert list(_overlap.read(out, 0)) == ["heart"]


def damaged(good, out):
    """Leave a segmentation whose data set says that it is deflated, and is not."""
    made = dcmread(good / "0.dcm")
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(out / "0.dcm", enforce_file_format=True)
    (out / "0.dcm").write_bytes((out / "0.dcm").read_bytes()[:400] + b"\xff" * 99)
    return out


def test_masks_that_cannot_be_read_are_counted_with_the_reason(masked):
    a, b, c = masked({"m": {"heart": SQUARE}}), masked({"m": {"heart": SQUARE}}), masked({"m": {"heart": SQUARE}})
    (b / "0.dcm").unlink()
    (c / "0.dcm").write_bytes(b"no DICOM")
    gone, broken = compare(match(a, b)).masks, compare(match(a, c)).masks
    assert compare(match(a, damaged(a, masked({"m": {"heart": SQUARE}})))).masks.unread == broken.unread
    assert (gone.structures, list(gone.unread.values())) == ([], [1])
    assert "cannot be opened" in next(iter(gone.unread))
    assert "not one that cxr-dicom writes" in next(iter(broken.unread))
    other = masked({"m": {"heart": Region.from_matrix(np.ones((3, 3), bool))}})
    assert list(compare(match(a, other)).masks.unread) == ["the matrices differ"]


# --- limits --------------------------------------------------------------------------------------


def test_limits_name_what_is_below(compared, masked):
    present, absent = "present", "absent"
    found = compared(findings([present, absent]), findings([present, present]))
    assert list(broken_limits(found, None, None)) == []
    assert list(broken_limits(found, 0.5, None)) == []
    assert list(broken_limits(found, 0.51, None)) == ["mass: agreement 0.5000 is below 0.51"]
    assert list(broken_limits(found, None, 0.1)) == ["masks: none to compare"]

    found = compare(match(masked({"m": {"heart": SQUARE, "spine": SQUARE}}), masked({"m": {"heart": HALF}})))
    assert list(broken_limits(found, 1, None)) == []
    assert list(broken_limits(found, None, 0.6)) == [
        "spine: Dice 0.0000 is below 0.6 (1 images have it in one run only)"
    ]
    assert "heart: Dice 0.6667 is below 0.67" in list(broken_limits(found, None, 0.67))
    heart = replace(found.masks.structures[0], only_b=3)
    found = replace(found, masks=replace(found.masks, structures=[heart]))
    assert list(broken_limits(found, None, 0.1)) == [
        "heart: Dice 0.0000 is below 0.1 (3 images have it in one run only)"
    ]


def test_limits_do_not_hold_when_images_are_lost(compared):
    failed = {"sop_instance_uid": "1.1", "outcome": "failed", "reason": "MODEL_FAILED"}
    found = compared(findings(["present"] * 3), [*findings(["present"]), failed])
    assert list(broken_limits(found, None, None)) == []
    assert list(broken_limits(found, 0, None)) == ["images: 1 only in A, 0 only in B, 1 with another outcome"]
    found = compared(findings(["present"]), findings(["present"] * 3))
    assert list(broken_limits(found, 0, None)) == ["images: 0 only in A, 2 only in B, 0 with another outcome"]
