"""``cxr-dicom compare`` on real runs: equal ones, one with other settings, one with a mask that was moved."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pydicom
import pytest

from cxr_dicom import synthetic

STRUCTURES = {"heart", "left_lung", "right_lung"}


@pytest.fixture(scope="module")
def images(real, tmp_path_factory):
    """Two synthetic DX and a real CR, whose rows are no whole bytes: a label map by default."""
    folder = tmp_path_factory.mktemp("images")
    synthetic.write_study(folder / "dx", [synthetic.radiograph(study=str(seed), seed=seed) for seed in (1, 2)])
    shutil.copy(real("RG1_UNCR.dcm"), folder)
    return folder


@pytest.fixture(scope="module")
def first(run, images, tmp_path_factory):
    return run(images, tmp_path_factory.mktemp("first")).out


@pytest.fixture(scope="module")
def label_maps(run, images, tmp_path_factory):
    """The same with another setting."""
    folder = tmp_path_factory.mktemp("label-maps")
    (folder / "settings.toml").write_text('[encode]\nsegmentation = "labelmap"\n')
    return run(images, folder / "out", "--config", folder / "settings.toml").out


@pytest.fixture(scope="module")
def moved(first, tmp_path_factory):
    """The first run with the masks of one image moved down, its ratio raised, and another image failed."""
    out = tmp_path_factory.mktemp("moved") / "out"
    shutil.copytree(first, out)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    changed, failed = (row for row in rows if "/dx/" in row["path"])
    (held,) = (each["path"] for each in changed["objects"] if each["kind"] == "segmentation")
    dataset = pydicom.dcmread(out / held)
    frames = np.roll(dataset.pixel_array, 5, axis=1)
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.save_as(out / held)
    changed["measurements"]["cardiothoracic_ratio"]["value"] = 0.6
    changed["statements"]["cardiothoracic_ratio_above_limit"]["call"] = "present"
    failed.update(outcome="failed", reason="MODEL_FAILED", objects=[], scores={}, measurements={}, statements={})
    (out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


def report(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_equal_runs_agree_wholly(run, invoke, images, first, tmp_path):
    again = run(images, tmp_path / "again").out
    found = report(invoke("compare", first, again, "--json"))
    assert (found["images"], found["processed"], found["settings"], found["changes"]) == (3, 3, [], [])
    assert found["calls"], "the ratio is judged"
    for call in found["calls"]:
        assert (call["n"], call["agreement"], call["moved"], call["largest_moves"]) == (3, 1, {}, [])
    assert found["measurements"]
    assert all(each["differences"]["max_abs"] == 0 for each in found["measurements"])
    structures = {each["name"]: each for each in found["masks"]["structures"]}
    assert set(structures) == STRUCTURES
    for each in structures.values():
        assert (each["n"], each["minimum"], each["worst"], each["only_a"], each["only_b"]) == (3, 1, [], 0, 0)


def test_a_label_map_holds_the_same_masks_as_binary(invoke, first, label_maps):
    found = report(invoke("compare", first, label_maps, "--json", "--workers", "2"))
    assert [each["key"] for each in found["settings"]] == ["settings_digest", "settings.encode.segmentation"]
    assert {each["name"] for each in found["masks"]["structures"]} == STRUCTURES
    assert all((each["n"], each["minimum"]) == (3, 1) for each in found["masks"]["structures"])


def test_what_moved_is_found(invoke, first, moved):
    found = report(invoke("compare", first, moved, "--json"))
    (change,) = found["changes"]
    assert (change["outcome_a"], change["outcome_b"], change["reason_b"]) == ("processed", "failed", "MODEL_FAILED")
    (call,) = found["calls"]
    assert call["moved"] == {"absent > present": 1}
    (move,) = call["largest_moves"]
    assert move["value_b"] == 0.6

    rows = [json.loads(line) for line in (first / "results.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["sop_instance_uid"] == move["sop_instance_uid"])
    (held,) = (each["path"] for each in row["objects"] if each["kind"] == "segmentation")
    dataset = pydicom.dcmread(first / held)
    frames = {s.TrackingID: m for s, m in zip(dataset.SegmentSequence, dataset.pixel_array, strict=True)}
    for each in found["masks"]["structures"]:
        frame = frames[each["name"]]
        expected = 2 * np.sum(frame & np.roll(frame, 5, axis=0)) / (2 * frame.sum())
        assert each["minimum"] == pytest.approx(expected)
        assert [worst["sop_instance_uid"] for worst in each["worst"]] == [move["sop_instance_uid"]]


def test_the_text_says_it_in_a_few_tables(invoke, first, moved):
    result = invoke("compare", first, moved)
    assert result.exit_code == 0
    for expected in ("3 images in both", "1 absent > present", "MODEL_FAILED", "cardiothoracic_ratio", "right_lung"):
        assert expected in result.stdout, expected
    same = invoke("compare", first, first).stdout
    assert "the same on all images" in same
    assert "Largest moves" not in same


def test_without_masks_no_segmentation_is_read(invoke, first, tmp_path):
    shutil.copy(first / "results.jsonl", tmp_path)
    assert report(invoke("compare", first, tmp_path, "--json", "--no-masks"))["masks"] is None
    lost = report(invoke("compare", first, tmp_path, "--json"))["masks"]
    assert (sum(lost["unread"].values()), lost["structures"]) == (3, [])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--min-agreement", "0.5"), 3),
        (("--min-dice", "0.5"), 3),
    ],
)
def test_limits_are_for_scripts(invoke, first, moved, label_maps, options, code):
    assert invoke("compare", first, label_maps, *options).exit_code == 0
    result = invoke("compare", first, moved, *options)
    assert result.exit_code == code
    assert ("1 with another outcome" in result.stderr) == (code == 3)


def test_runs_of_other_images_are_exit_code_4(invoke, run, first, tmp_path):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(study="other", seed=9)])
    other = run(tmp_path / "in", tmp_path / "out").out
    result = invoke("compare", first, other, "--html", tmp_path / "page.html")
    assert result.exit_code == 4
    assert "no image is in both runs" in result.stderr
    assert "Only in A" in (tmp_path / "page.html").read_text()


def test_what_is_no_run_is_exit_code_2(invoke, first, tmp_path):
    result = invoke("compare", first, tmp_path)
    assert result.exit_code == 2
    assert "results.jsonl" in result.stderr
    assert invoke("compare", first, tmp_path / "nothing").exit_code == 2
    assert invoke("compare", first, first, "--no-masks", "--min-dice", "1").exit_code == 2


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "action")]


def test_the_page_stands_alone_and_shows_what_moved(invoke, first, moved, tmp_path):
    hostile = tmp_path / "<b>a&b"
    shutil.copytree(moved, hostile)
    text = (hostile / "results.jsonl").read_text().replace("offline-anatomy", "<script>x</script>")
    (hostile / "results.jsonl").write_text(text)
    invoke("compare", first, hostile, "--html", tmp_path / "hostile.html")
    assert "script" not in Tags((tmp_path / "hostile.html").read_text()).tags

    assert invoke("compare", first, moved, "--html", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    found = Tags(page)
    assert not re.search(r"https?:|@import|url\(", page)
    assert len(found.sources) == 3, "the worst mask of each structure"
    assert all(source.startswith("data:image/jpeg;base64,") for source in found.sources)
    assert found.tags.count("circle") == 4, "two images, as they are and as differences"
    for expected in ("1 absent → present", "MODEL_FAILED", "settings are the same", "Right lung"):
        assert expected in page, expected


def test_the_order_of_workers_changes_nothing(invoke, first, moved):
    alone, together = (invoke("compare", first, moved, "--json", "--workers", workers).stdout for workers in ("1", "3"))
    assert alone == together
