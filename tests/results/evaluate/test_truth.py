"""Tables of truth: the layouts of public data sets, and what is wrong with tables that people make."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from cxr_dicom.results.evaluate import Reading, TruthError, layouts, truth
from cxr_dicom.results.evaluate.layouts import NIH_FINDINGS, read_table
from cxr_dicom.system import bounded_table

NAMES = {*NIH_FINDINGS, "lung_opacity", "fracture"}
NONE = float("nan")


def read(path, measurements=(), **reading):
    return read_table(path, Reading(**reading), NAMES, measurements)


def same(column, wanted):
    np.testing.assert_array_equal(column, wanted)


EXCEL = {
    "CSV UTF-8": b"\xef\xbb\xbfsop_instance_uid,mass,ratio\r\n1.2,1,0.45\r\n1.3,0,0.5\r\n",
    "CSV where a comma is decimal": b"\xef\xbb\xbfsop_instance_uid;mass;ratio\r\n1.2;1;0,45\r\n1.3;0;0,5\r\n",
    "with the delimiter in a first line": b"sep=;\r\nsop_instance_uid;mass;ratio\r\n1.2;1;0,45\r\n1.3;0,0;0,5\r\n",
    "Unicode text": "sop_instance_uid\tmass\tratio\r\n1.2\t1\t0.45\r\n1.3\t0\t0.5\r\n".encode("utf-16"),
    "numbers kept as text": b'sop_instance_uid,mass,ratio\r\n"=""1.2""",1,0.45\r\n\'1.3,0,0.5\r\n',
}


@pytest.mark.parametrize("content", EXCEL.values(), ids=EXCEL)
def test_what_excel_writes_is_read(tmp_path, content):
    path = tmp_path / "truth.csv"
    path.write_bytes(content)
    found = read(path, measurements={"ratio"})
    assert found.rows == ["1.2", "1.3"]
    same(found.labels["mass"], [1, 0])
    same(found.numbers["ratio"], [0.45, 0.5])


def test_a_line_is_named_by_its_number_in_the_file(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_bytes(b"sep=;\nsop_instance_uid;mass\n1.2;1\n1.3;perhaps\n")
    with pytest.raises(TruthError, match="line 4, column 'mass'"):
        read(path)


CHEXPERT = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Pleural Effusion", "Edema")


def test_chexpert_leaves_out_what_is_uncertain_or_not_mentioned(table):
    path = table(
        CHEXPERT,
        [
            ("CheXpert/train/patient00001/study1/view1_frontal.jpg", "F", 60, "Frontal", "AP", "1.0", "", ""),
            ("CheXpert/train/patient00002/study1/view1_frontal.jpg", "M", 61, "Frontal", "AP", "", "1.0", "-1.0"),
            ("CheXpert/train/patient00002/study2/view1_frontal.jpg", "M", 61, "Frontal", "AP", "", "0.0", ""),
        ],
    )
    found = read(path)
    assert (found.layout, found.key) == ("CheXpert", "file_name")
    assert found.patients == ["patient00001", "patient00002", "patient00002"]
    same(found.labels["pleural_effusion"], [0, 1, 0])
    same(found.labels["edema"], [0, NONE, NONE])
    assert found.uncertain == {"edema": 1}
    same(read(path, uncertain="positive").labels["edema"], [0, 1, NONE])
    same(read(path, uncertain="negative", blank="negative").labels["edema"], [0, 0, 0])


def test_chexpert_is_read_as_torchxrayvision_reads_it(tmp_path, table):
    xrv = pytest.importorskip("torchxrayvision")
    labels = ["Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"]
    labels += ["Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"]
    dice = np.random.default_rng(2)
    rows = []
    for number in range(40):
        cells = dice.choice(["", "0.0", "1.0", "-1.0"], len(labels)).tolist()
        healthy = "1.0" if number % 5 == 0 else ""
        if healthy:
            cells = [""] * len(labels)
        name = f"CheXpert-v1.0-small/train/patient{number:05}/study1/view1_frontal.jpg"
        rows.append([name, "Male", 50, "Frontal", "PA", healthy, *cells, ""])
    path = table([*CHEXPERT[:5], "No Finding", *labels, "Support Devices"], rows, "train.csv")
    theirs = xrv.datasets.CheX_Dataset(imgpath=str(tmp_path), csvpath=str(path), views=["PA"], unique_patients=False)
    found = read(path)
    for finding, upstream in (("edema", "Edema"), ("fracture", "Fracture"), ("pneumothorax", "Pneumothorax")):
        same(found.labels[finding], theirs.labels[:, theirs.pathologies.index(upstream)])


def test_nih_says_of_every_finding_whether_it_is_there(table):
    path = table(
        ("Image Index", "Finding Labels", "Follow-up #", "Patient ID"),
        [
            ("00000001_000.png", "Cardiomegaly|Effusion", 0, 1),
            ("00000001_001.png", "No Finding", 1, 1),
            ("00000002_000.png", "Pleural_Thickening", 0, 2),
        ],
    )
    found = read(path)
    assert found.layout == "NIH ChestX-ray14"
    assert found.labels.keys() == set(NIH_FINDINGS)
    same(found.labels["pleural_effusion"], [1, 0, 0])
    same(found.labels["pleural_thickening"], [0, 0, 1])
    assert found.patients == ["1", "1", "2"]
    wrong = table(("Image Index", "Finding Labels"), [("a.png", "Effusion|No Finding")])
    with pytest.raises(TruthError, match="line 2, column 'Finding Labels'"):
        read(wrong)


def test_rsna_has_a_row_for_each_box(table):
    columns = ("patientId", "x", "y", "width", "height", "Target")
    path = table(columns, [("a", "", "", "", "", 0), ("b", 1, 2, 3, 4, 1), ("b", 5, 6, 7, 8, 1)])
    found = read(path)
    assert (found.layout, found.rows, found.repeated) == ("RSNA", ["a", "b"], 1)
    same(found.labels["pneumonia"], [0, 1])
    same(found.labels["lung_opacity"], [0, 1])
    with pytest.raises(TruthError, match="expected 1 with a box or 0 without"):
        read(table(columns, [("a", 1, 2, 3, 4, 0)]))


def test_vindr_is_decided_by_most_readers(table):
    columns = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
    rows = [
        ("i", "Pleural effusion", 10, "R1", 1, 1, 2, 2),
        ("i", "Pleural effusion", 10, "R1", 3, 3, 4, 4),
        ("i", "Pleural effusion", 10, "R2", 1, 1, 2, 2),
        ("i", "Cardiomegaly", 3, "R3", 1, 1, 2, 2),
        ("j", "No finding", 14, "R1", "", "", "", ""),
        ("j", "Pulmonary fibrosis", 13, "R2", 1, 1, 2, 2),
        ("j", "ILD", 5, "R2", 1, 1, 2, 2),
    ]
    found = read(table(columns, rows))
    assert (found.layout, found.rows) == ("VinDr-CXR", ["i", "j"])
    same(found.labels["pleural_effusion"], [1, 0])
    same(found.labels["cardiomegaly"], [0, 0])
    same(found.labels["fibrosis"], [0, NONE])  # one reader of two
    assert found.conflicts == {"fibrosis": 1}
    assert found.unused == ["ild"]
    wide = table(("image_id", "rad_id", "Mass"), [("i", "R1", 1), ("i", "R2", 1), ("i", "R3", 0)], "wide.csv")
    same(read(wide).labels["mass"], [1])


def test_any_table_with_names_or_with_mapped_columns(table):
    path = table(("StudyInstanceUID", "Effusion", "Befund", "CTR"), [(" 1.2.3 \0", "yes", "0", "0.5"), ("", 1, 1, "")])
    found = read(path, ("cardiothoracic_ratio",), columns={"Befund": "mass", "CTR": "cardiothoracic_ratio"})
    assert (found.key, found.rows) == ("study_instance_uid", ["1.2.3"])
    same(found.labels["mass"], [0])
    same(found.labels["pleural_effusion"], [1])
    same(found.numbers["cardiothoracic_ratio"], [0.5])
    with pytest.raises(TruthError, match="--map: expected a finding or a measurement of the results, found 'masse'"):
        read(path, columns={"Befund": "masse"})


def test_a_parquet_table_has_bounds_and_what_is_no_text_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "truth.parquet"
    columns = {"sop_instance_uid": ["1.2"] * 200, "effusion": [True] * 200, "odd": [["x" * 100_000]] * 200}
    parquet.write_table(pa.table(columns), path)
    monkeypatch.setattr(bounded_table, "MOST_UNPACKED", 1 << 20)
    names, rows = truth.open_table(path)
    assert (names, len(list(rows))) == (list(columns), 200)
    parquet.write_table(pa.table(columns | {"odd": ["x" * 100_000] * 200}), path)
    with pytest.raises(TruthError, match=r"truth\.parquet: expected a table of at most 1 MB when unpacked, found more"):
        list(truth.open_table(path)[1])


def test_parquet_is_the_same_table(tmp_path):
    path = tmp_path / "truth.parquet"
    columns = {"sop_instance_uid": ["1", "2"], "mass": [True, None], "edema": [1.0, 0.0], "fracture": [-1, 1]}
    parquet.write_table(pa.table(columns), path)
    found = read(path)
    same(found.labels["mass"], [1, NONE])
    same(found.labels["edema"], [1, 0])
    same(found.labels["fracture"], [NONE, 1])
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(TruthError, match="expected a Parquet table"):
        read(path)


def test_what_is_said_twice_counts_once_and_a_contradiction_not_at_all(table):
    rows = [("1", 1, 0), ("1", 1, 1), ("2", 0, 0)]
    found = read(table(("sop_instance_uid", "mass", "edema"), rows))
    assert (found.rows, found.repeated) == (["1", "2"], 1)
    same(found.labels["mass"], [1, 0])
    same(found.labels["edema"], [NONE, 0])
    assert found.conflicts == {"edema": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header row"),
        (b"sop_instance_uid,mass\n1,\xff\xfe\n", "expected text in UTF-8"),
        ("sop_instance_uid,mass\n".encode("utf-16") + b"1", "expected text in UTF-8"),
        (b"sop_instance_uid,mass\n", "expected rows below the header"),
        (b"sop_instance_uid,mass\n1\n", "line 2: expected 2 cells, found 1"),
        (b"sop_instance_uid,mass\n1,Doe^Jane\n", "line 2, column 'mass': expected 1, 0"),
        (b"sop_instance_uid,mass\n1,=1+1\n", "line 2, column 'mass': expected 1, 0"),
        (b"sop_instance_uid,mass,mass\n1,1,1\n", "column 3 repeats one"),
        (b"name,mass\nDoe,1\n", "expected a column of SOP Instance UIDs"),
        (b"1.2.3,Doe^Jane,1\n1.2.4,Doe^Jane,0\n", "expected names of columns in the first row"),
        (b"sop_instance_uid,colour\n1,red\n", "expected a column with the name of a finding"),
        (b"sop_instance_uid,mass\n" + b"1" * 1_100_000 + b",1\n", "field larger than field limit"),
        (b"sop_instance_uid,cardiothoracic_ratio\n1,inf\n", "expected a finite number"),
    ],
)
def test_a_broken_table_is_refused_without_quoting_it(tmp_path, content, message):
    path = tmp_path / "truth.csv"
    path.write_bytes(content)
    with pytest.raises(TruthError, match=message) as raised:
        read(path, ("cardiothoracic_ratio",))
    assert "Doe^Jane" not in str(raised.value)


def test_two_patients_of_one_image_are_refused(table):
    path = table(("sop_instance_uid", "who", "mass"), [("1", "a", 1), ("1", "b", 1)])
    with pytest.raises(TruthError, match="expected one patient for each image") as raised:
        read(path, patient="who")
    assert "who" not in str(raised.value)


def test_a_column_of_many_values_is_nothing_to_group_by(table):
    path = table(("sop_instance_uid", "who", "mass"), [(n, f"patient {n}", 1) for n in range(60)])
    with pytest.raises(TruthError, match="expected at most 50 values"):
        read(path, by=("who",))


def test_every_label_of_torchxrayvision_has_its_stable_name():
    assert truth.stable("Pleural_Thickening") == "pleural_thickening"
    assert truth.stable("Enlarged Cardiomediastinum") == "enlarged_cardiomediastinum"
    assert truth.stable("Effusion") == truth.stable("Pleural Effusion") == "pleural_effusion"
    assert truth.stable("No finding") == layouts.NO_FINDING
