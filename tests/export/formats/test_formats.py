"""Each format holds the masks of the DICOM segmentations, pixel by pixel, and says what they are."""

import gzip
import json
from zipfile import ZIP_DEFLATED, ZipFile

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import SettingsError
from cxr_dicom.export import base, build_exporters, exporter_names
from tests.export.results_to_export import SETTINGS, expect_same_masks, image_of, segments, uid

FORMATS = ("png", "npz", "nifti", "coco")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- all -----------------------------------------------------------------------------------------


def test_the_formats_are_those_of_the_folder():
    assert sorted(exporter_names()) == sorted(FORMATS)
    exporters = build_exporters(("nifti", "png", "nifti"), SETTINGS)
    assert [exporter.name for exporter in exporters] == ["nifti", "png"]


def test_an_unknown_format_is_answered_with_the_choices():
    with pytest.raises(SettingsError, match="also: 'tiff' is not one of coco, nifti, npz, png"):
        build_exporters(("tiff",), SETTINGS)


@pytest.mark.parametrize(("name", "library"), [("nifti", "nibabel"), ("coco", "pycocotools")])
def test_a_missing_library_is_named_at_the_start(monkeypatch, name, library):
    monkeypatch.setattr(base, "find_spec", lambda module: None)
    with pytest.raises(
        SettingsError, match=rf"{name} needs {library}; in a clone of cxr-dicom: pip install '\.\[export\]'"
    ):
        build_exporters((name,), SETTINGS)


def test_equal_results_give_equal_bytes_in_any_order(all_results, exported, monkeypatch):
    first = files(exported(all_results, *FORMATS))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert files(exported(all_results[::-1], *FORMATS, folder="again")) == first
    assert files(exported(all_results, *FORMATS)) == first
    assert {name.split("/")[0] for name in first} == set(FORMATS)


def test_an_image_without_masks_has_files_that_say_so(without_masks, exported):
    folder = exported([without_masks], *FORMATS)
    assert set(files(folder)) == {
        f"png/{uid(without_masks)}/image.png",
        f"npz/{uid(without_masks)}.npz",
        f"coco/{uid(without_masks)}.jsonl",
        "coco/annotations.json",
    }
    coco = json.loads((folder / "coco" / "annotations.json").read_text())
    assert (len(coco["images"]), coco["annotations"], coco["categories"]) == (1, [], [])
    with np.load(folder / "npz" / f"{uid(without_masks)}.npz") as archive:
        assert archive.files == ["about"]


# --- png -----------------------------------------------------------------------------------------


def test_png_masks(result, exported):
    folder = exported([result], "png") / "png" / uid(result)
    found = {}
    for path in folder.glob("*/*.png"):
        picture = Image.open(path)
        assert picture.mode == "1"
        found[path.parent.name, path.stem] = np.asarray(picture)
    expect_same_masks(found, result)


def test_png_radiographs_have_the_size_of_the_masks(result, exported):
    image = image_of(result)
    picture = np.asarray(Image.open(exported([result], "png") / "png" / uid(result) / "image.png"))
    assert (picture.shape, picture.dtype) == (image.shape, np.uint8)
    stored = image.orientation.to_source(read(image, SETTINGS.pixels).pixels)
    order = np.argsort(stored, axis=None)
    assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()
    assert np.ptp(picture) == 255


def test_png_pictures_show_what_was_found(result, exported):
    folder = exported([result], "png") / "png" / uid(result)
    analysis = result.instances[0].analysis
    shown = {path.name for path in folder.glob("*.png")} - {"image.png"}
    overlays = {f"{model}-overlay.png" for model, _ in segments(result)}
    assert shown == overlays | {
        f"{prediction.model.name}-{heatmap.name}-heatmap.png"
        for prediction in analysis.predictions
        for heatmap in prediction.heatmaps
    }
    assert len(shown) > len(overlays)
    for name in shown:
        picture = np.asarray(Image.open(folder / name))
        assert picture.shape == (*analysis.preview().shape, 3)
        assert np.ptp(picture, axis=-1).any()


# --- npz -----------------------------------------------------------------------------------------


def test_npz_arrays(result, exported):
    image, found = image_of(result), {}
    with np.load(exported([result], "npz") / "npz" / f"{uid(result)}.npz") as archive:
        about = json.loads(str(archive["about"]))
        for name in archive.files:
            kind, *which = name.split("/")
            if kind == "masks":
                found[tuple(which)] = np.unpackbits(archive[name], axis=1, count=about["shape"][1]).astype(bool)
        for prediction in result.instances[0].analysis.predictions:
            for heatmap in prediction.heatmaps:
                which = f"{prediction.model.name}/{heatmap.name}"
                assert archive[f"heatmaps/{which}"].dtype == np.float32
                assert np.array_equal(archive[f"heatmaps/{which}"], heatmap.values)
                assert archive[f"grids/{which}"].tolist() == [list(heatmap.grid.origin), list(heatmap.grid.step)]
    expect_same_masks(found, result)
    assert tuple(about["shape"]) == image.shape
    physical = [image.spacing.rows_mm, image.spacing.columns_mm] if image.spacing.is_physical else None
    assert about["spacing_mm"] == physical
    assert about["to_standard_view"] == {
        name: getattr(image.orientation, name) for name in ("transpose", "flip_rows", "flip_columns")
    }
    named = {(model, each["name"]) for model, said in about["models"].items() for each in said["structures"]}
    assert named == found.keys()


def test_npz_says_nothing_of_time_and_machine(result, exported):
    with ZipFile(exported([result], "npz") / "npz" / f"{uid(result)}.npz") as archive:
        for member in archive.infolist():
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
            assert (member.create_system, member.compress_type) == (3, ZIP_DEFLATED)


def test_npz_has_the_scores(all_results, exported):
    folder = exported(all_results, "npz") / "npz"
    scores = {}
    for result in all_results:
        with np.load(folder / f"{uid(result)}.npz") as archive:
            about = json.loads(str(archive["about"]))
        scores |= about["models"].get("painted-scores", {}).get("scores", {})
    assert scores["pleural_effusion"] == {"probability": 0.5625, "raw": 0.25, "call": "present"}


# --- nifti ---------------------------------------------------------------------------------------


def label_maps(result, folder):
    for path in sorted(folder.glob("*.nii.gz")):
        about = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        yield path, about


def test_nifti_labels(result, exported):
    found = {}
    for path, about in label_maps(result, exported([result], "nifti") / "nifti"):
        values = np.asarray(nibabel.load(path).dataobj)[:, :, 0].T
        assert set(np.unique(values)) == {0, *map(int, about["labels"])}
        for label, structure in about["labels"].items():
            found[about["model"], structure["name"]] = values == int(label)
    expect_same_masks(found, result)


def test_nifti_lies_where_slicer_lays_the_segmentation(result, exported):
    image = image_of(result)
    for path, _ in label_maps(result, exported([result], "nifti") / "nifti"):
        volume = SimpleITK.ReadImage(path)
        assert volume.GetSize() == (image.shape[1], image.shape[0], 1)
        assert volume.GetSpacing() == pytest.approx((image.spacing.columns_mm, image.spacing.rows_mm, 1))
        assert volume.GetOrigin() == pytest.approx((0, 0, 0))
        assert volume.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
        nifti = nibabel.load(path)
        assert nifti.header.get_xyzt_units()[0] == ("mm" if image.spacing.is_physical else "unknown")
        for affine in (nifti.get_sform(), nifti.get_qform()):
            assert np.diag(affine) == pytest.approx([-image.spacing.columns_mm, -image.spacing.rows_mm, 1, 1])


def test_nifti_has_no_time_of_day(result, exported):
    for path, _ in label_maps(result, exported([result], "nifti") / "nifti"):
        content = path.read_bytes()
        assert content[4:8] == b"\0\0\0\0"
        assert gzip.decompress(content)[344:347] == b"n+1"


def test_colour_tables_name_the_labels(result, exported):
    for path, about in label_maps(result, exported([result], "nifti") / "nifti"):
        rows = path.with_name(path.name.replace(".nii.gz", ".ctbl")).read_text().splitlines()
        assert rows[0] == "0 background 0 0 0 0"
        assert [row.split() for row in rows[1:]] == [
            [label, each["name"], *map(str, each["colour"]), "255"] for label, each in about["labels"].items()
        ]
