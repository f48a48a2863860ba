"""DICOMweb over an output folder, read by dicomweb-client, pydicom and DCMTK: what comes is what lies there."""

import base64
import json
import math
import subprocess

import numpy as np
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from cxr_dicom.web.dicomweb import search
from cxr_dicom.web.dicomweb.holdings import FolderHoldings
from cxr_dicom.web.dicomweb.retrieval import in_pieces
from cxr_dicom.web.folder import Folder
from cxr_dicom.web.guard import cookie_name
from tests.integration import rig
from tests.web import helpers

STUDY = "1.2.826.0.1"
ANY = (("application/octet-stream", "*"),)
REAL = (  # what pydicom ships: native 8, 16 and 32 bits, colour, many frames, and compressed forms
    *("RG1_UNCR.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "emri_small.dcm", "emri_small_RLE.dcm"),
    *("emri_small_jpeg_2k_lossless.dcm", "SC_rgb_small_odd.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "liver.dcm"),
    *("rtdose.dcm", "image_dfl.dcm", "JPEGLSNearLossless_16.dcm"),
)


def bare(uid):
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = STUDY, f"{STUDY}.7", uid
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def single_bits(uid="1.2.7.1"):
    """Three frames of 5 x 7 single bits: the second and third begin within a byte."""
    made = bare(uid)
    made.Rows, made.Columns, made.NumberOfFrames = 5, 7, 3
    made.SamplesPerPixel = made.BitsAllocated = made.BitsStored = 1
    made.HighBit = made.PixelRepresentation = 0
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = pack_bits(np.random.default_rng(5).integers(0, 2, 105, np.uint8))
    made["PixelData"].VR = "OB"
    return made


def floats(uid="1.2.7.3"):
    made = bare(uid)
    made.Rows, made.Columns, made.NumberOfFrames, made.SamplesPerPixel, made.BitsAllocated = 4, 3, 2, 1, 32
    made.FloatPixelData = np.random.default_rng(6).random(24, np.float32).tobytes()
    return made


def odd(uid="1.2.7.2"):
    """What is hard to write as JSON."""
    made = bare(uid)
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    made.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    made.PixelSpacing = [0, 0]
    made.RedPaletteColorLookupTableData = bytes(5000)
    made.ICCProfile = bytes(range(256)) * 8
    made.add_new(0x00091010, "OB", b"x" * 8192)
    item = Dataset()
    item.RealWorldValueIntercept = math.nan
    item.RealWorldValueLUTData = [1.5, math.inf]
    item.LUTData = bytes(20_000)
    item["LUTData"].VR = "OW"
    made.RealWorldValueMappingSequence = Sequence([item])
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory, real):
    folder = tmp_path_factory.mktemp("out")
    made = {}
    own = {"single bits": single_bits(), "floats": floats(), "odd": odd()}
    datasets = {name: dcmread(real(name)) for name in REAL} | own
    for number, (name, dataset) in enumerate(datasets.items()):
        dataset.StudyInstanceUID = f"{STUDY}.{number}"  # some of them share their UIDs, or lack one
        dataset.setdefault("SeriesInstanceUID", f"{STUDY}.{number}.1")
        made[name] = folder / name
        dataset.save_as(made[name], enforce_file_format=True)
    return made


@pytest.fixture(scope="module")
def out(files):
    folder = next(iter(files.values())).parent
    rows = []
    for number, path in enumerate(files.values()):
        head = dcmread(path, stop_before_pixels=True)
        objects = [helpers.object_row(path)]
        rows.append(helpers.row(number, study=head.StudyInstanceUID, sop_instance_uid=f"9.{number}", objects=objects))
    return helpers.write_out(folder, rows)


@pytest.fixture(scope="module")
def visitor(out):
    with helpers.shown(out) as client:
        yield client.enter()


@pytest.fixture(scope="module")
def client(visitor):
    session = requests.Session()
    name, _, value = visitor.cookie.partition("=")
    assert name == cookie_name(visitor.port)
    session.cookies.set(name, value)
    client = DICOMwebClient(f"http://{visitor.host}/dicom-web", session=session)
    client.host = visitor.host  # else it leaves the port out
    return client


def uids(path):
    head = dcmread(path, stop_before_pixels=True)
    return head.StudyInstanceUID, head.SeriesInstanceUID, head.SOPInstanceUID


def address(path):
    study, series, uid = uids(path)
    return f"/dicom-web/studies/{study}/series/{series}/instances/{uid}"


ALL = (*REAL, "single bits", "floats", "odd")


@pytest.mark.parametrize("name", ALL)
def test_an_instance_comes_byte_for_byte(visitor, files, name):
    answer = visitor.get(address(files[name]), accept="application/dicom; transfer-syntax=*")
    assert answer.status == 200, answer.text
    assert answer.content == files[name].read_bytes()


def test_an_instance_comes_as_a_part_for_others(client, files):
    path = files["RG1_UNCR.dcm"]
    assert client.retrieve_instance(*uids(path)) == dcmread(path)


@pytest.mark.parametrize("name", [name for name in ALL if name != "odd"])
def test_frames_are_the_pixel_data(client, files, name):
    path = files[name]
    dataset = dcmread(path)
    count = int(dataset.get("NumberOfFrames", 1))
    frames = client.retrieve_instance_frames(*uids(path), range(1, count + 1), ANY)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        expected = list(generate_frames(dataset.PixelData, number_of_frames=count))
    elif name == "liver.dcm" or name == "single bits":
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        each = np.split(bits[: count * dataset.Rows * dataset.Columns], count)
        expected = [np.packbits(frame, bitorder="little").tobytes() for frame in each]
    else:
        content = next(dataset[key].value for key in ("PixelData", "FloatPixelData") if key in dataset)
        length = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        expected = [content[n * length : (n + 1) * length] for n in range(count)]
    assert frames == expected


def rounded(value):
    """DCMTK writes 15 digits or so of a double."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.14g}") if isinstance(value, float) else value


@pytest.mark.parametrize("name", [name for name in ALL if name != "odd"])
def test_metadata_say_what_dcmtk_reads_in_the_file(client, files, needs, tmp_path, name):
    path = files[name]
    found = client.retrieve_instance_metadata(*uids(path))
    dcmread(path, stop_before_pixels=True).save_as(tmp_path / "header")  # it writes no JSON of compressed pixels
    command = [needs(rig.dcm2json), str(tmp_path / "header")]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    said.pop("00080005", None)  # JSON is UTF-8
    if name == "RG1_UNCR.dcm":
        assert said.pop("00280030")["Value"] == [0, 0]
    for tag in [tag for tag, each in found.items() if each.get("Value") == [{"Alphabetic": "^^^^"}]]:
        found[tag] = {"vr": "PN"}  # DCMTK writes a name of empty parts as none
    assert rounded({tag: found.get(tag) for tag in said}) == rounded(said)
    assert found.keys() - said.keys() <= {"7FE00010", "7FE00008", "00080005", "00280030"}


def test_what_json_cannot_hold_is_null_long_or_left_out(visitor, client, files):
    path = files["odd"]
    answer = visitor.get(f"{address(path)}/metadata")
    (found,) = json.loads(answer.text, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    name = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert found["00100010"]["Value"] == [name]
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert "00280030" not in found
    (item,) = found["00409096"]["Value"]
    assert item["00409224"]["Value"] == [None]
    assert item["00409212"]["Value"] == [1.5, None]
    assert len(base64.b64decode(item["00283006"]["InlineBinary"])) == 20_000
    assert len(base64.b64decode(found["00282000"]["InlineBinary"])) == 2048
    for tag, content in (("00281201", bytes(5000)), ("00091010", b"x" * 8192)):
        assert client.retrieve_bulkdata(found[tag]["BulkDataURI"]) == [content]


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "image_dfl.dcm", "emri_small_RLE.dcm", "floats"])
def test_pixels_come_from_the_address_in_the_metadata(client, files, name):
    dataset = dcmread(files[name])
    keyword = "FloatPixelData" if name == "floats" else "PixelData"
    found = client.retrieve_instance_metadata(*uids(files[name]))[f"{dataset[keyword].tag:08X}"]
    parts = client.retrieve_bulkdata(found["BulkDataURI"], ANY)
    whole = dataset[keyword].value
    is_packed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    expected = list(generate_frames(whole, number_of_frames=int(dataset.NumberOfFrames))) if is_packed else [whole]
    assert parts == expected


def test_searches_find_studies_series_and_instances(client, files):
    study, series, uid = uids(files["liver.dcm"])
    assert len(client.search_for_studies()) == len(files)
    (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": study})
    assert found["00201208"]["Value"] == [1]
    assert found["00080061"]["Value"] == ["SEG"]
    (found,) = client.search_for_series(study)
    assert found["0020000E"]["Value"] == [series]
    assert found["00080060"]["Value"] == ["SEG"]
    (found,) = client.search_for_instances(study, series)
    assert found["00080018"]["Value"] == [uid]
    assert found["00280008"]["Value"] == [3]
    assert client.search_for_instances(study, "1.2.3") == []


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("PatientName", "yamada*", {"odd"}),
        ("PatientName", "yamada", set()),
        ("PatientID", "4MR1", {"MR_small.dcm", "MR_small_RLE.dcm"}),
        ("PatientID", "?MR1", {"MR_small.dcm", "MR_small_RLE.dcm"}),
        ("StudyDate", "20040826-", {"RG1_UNCR.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm"}),
        ("ModalitiesInStudy", "SEG", {"liver.dcm"}),
        ("00080061", "[SEG]", set()),
    ],
)
def test_searches_match_as_the_standard_says(client, files, key, value, names):
    found = {each["0020000D"]["Value"][0] for each in client.search_for_studies(search_filters={key: value})}
    both = found & {uids(files[name])[0] for name in ("RG1_UNCR.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "odd")}
    named = {uids(path)[0] for name, path in files.items() if name in names}
    assert found >= named
    assert both <= named


def test_pages_of_results_follow_each_other_and_say_that_there_are_more(visitor, files):
    first = visitor.get("/dicom-web/studies?limit=10&fuzzymatching=true")
    assert "additional results" in first.headers["warning"]
    assert "Only literal matching" in first.headers["warning"]
    second = visitor.get("/dicom-web/studies?limit=10&offset=10")
    assert "warning" not in second.headers
    found = [each["0020000D"]["Value"][0] for each in json.loads(first.text) + json.loads(second.text)]
    assert sorted(found) == sorted(uids(path)[0] for path in files.values())
    assert visitor.get("/dicom-web/studies?offset=99").status == 204


def test_a_page_has_no_more_results_than_the_bound(visitor, monkeypatch):
    monkeypatch.setattr(search, "MOST", 3)
    for path in ("studies", "series", "instances"):
        answer = visitor.get(f"/dicom-web/{path}?limit=100")
        assert len(json.loads(answer.text)) == 3
        assert "additional results" in answer.headers["warning"]


def test_a_search_reads_no_more_headers_than_the_bound(visitor, files, monkeypatch):
    assert search._MAX_READ == 2000  # as docs/security.md says
    monkeypatch.setattr(search, "_MAX_READ", 1)
    assert visitor.get("/dicom-web/studies?PatientID=1").status == 413
    wanted = uids(next(iter(files.values())))[0]
    assert visitor.get(f"/dicom-web/studies?StudyInstanceUID={wanted}").status == 200


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/metadata", "application/dicom+xml", 406),
        ("/metadata", "application/json", 200),
        ("", 'multipart/related; type="image/jpeg"', 406),
        ("", 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90', 406),
        ("/frames/1", "application/octet-stream", 406),  # it is compressed, and nothing is transcoded
        ("/frames/1", 'multipart/related; type="image/dicom-rle"', 200),
        ("/frames/2", "*/*", 404),
        ("/frames/0", "*/*", 404),
        ("/frames/x", "*/*", 400),
        ("/frames/1,", "*/*", 400),
        ("/frames/" + "1," * 1001 + "1", "*/*", 400),
        ("/bulkdata/00100010", "*/*", 404),
        ("/bulkdata/xyz", "*/*", 404),
        ("/bulkdata/-0000001", "*/*", 404),
        ("/rendered", "*/*", 404),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_status_of_the_standard(visitor, files, path, accept, status):
    assert visitor.get(address(files["MR_small_RLE.dcm"]) + path, accept=accept).status == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies?limit=many", 400),
        ("/studies?Nonsense=1", 400),
        ("/studies/../../etc/series", 404),
        ("/studies/DOE/series", 400),
        ("/studies/9.9.9/metadata", 404),
        ("/studies/9.9.9/series", 204),
    ],
)
def test_nonsense_is_refused(visitor, path, status):
    answer = visitor.get(f"/dicom-web{path}")
    assert answer.status == status
    assert "DOE" not in answer.text


def test_a_stranger_gets_nothing_and_nobody_writes(visitor, files):
    assert visitor.get("/dicom-web/studies", cookie=None).status == 401
    assert visitor.get(address(files["odd"]), sec_fetch_site="cross-site").status == 403
    assert visitor.post("/dicom-web/studies").status == 405


def sourced(folder, name, path, **more):
    """A folder `OUT` whose one row is about a file, and where the run was started."""
    study, series, uid = uids(path)
    about = helpers.row(study=study, series_instance_uid=series, sop_instance_uid=uid, path=name, **more)
    made = helpers.write_out(folder / "deep" / "out", [about])
    (made / "run.json").write_text(json.dumps({"started_in": "../.."}))
    return FolderHoldings(Folder(made)).instances(study)


def test_the_radiograph_is_found_from_where_the_run_was_started(tmp_path, files):
    path = files["RG1_UNCR.dcm"]
    (tmp_path / "in.dcm").write_bytes(path.read_bytes())
    (found,) = sourced(tmp_path, "in.dcm", path)
    assert found.path.samefile(tmp_path / "in.dcm")
    assert sourced(tmp_path, str(path), path)
    assert not sourced(tmp_path, "https://example.org/in.dcm", path)


def test_another_file_at_the_path_of_a_row_is_not_given(tmp_path, files):
    (tmp_path / "in.dcm").write_bytes(files["MR_small.dcm"].read_bytes())
    (tmp_path / "words").write_bytes(b"secret")
    for name in ("in.dcm", "words", "nothing", "\0", "."):
        assert not sourced(tmp_path, name, files["RG1_UNCR.dcm"])


def test_an_instance_made_of_a_picture_is_found_in_the_folder_only(tmp_path, files):
    path = files["RG1_UNCR.dcm"]
    for place, count in (("deep/out/made.dcm", 1), ("made.dcm", 0)):
        (tmp_path / "deep" / "out").mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(path.read_bytes())
        name = "made.dcm" if count else "../../made.dcm"
        assert len(sourced(tmp_path, "a.png", path, exports=[{"kind": "wrapped", "path": name}])) == count


def test_what_is_big_endian_is_had_as_a_whole_only(tmp_path, real):
    (tmp_path / "out").mkdir()
    path = real("MR_small_bigendian.dcm")
    study, series, uid = uids(path)
    about = helpers.row(study=study, series_instance_uid=series, sop_instance_uid=uid, path=str(path))
    with helpers.shown(helpers.write_out(tmp_path / "out", [about])) as client:
        client.enter()
        assert client.get(address(path), accept="application/dicom").content == path.read_bytes()
        assert client.get(f"{address(path)}/metadata").status == 406
        assert client.get(f"{address(path)}/frames/1").status == 406


def test_a_large_image_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(1 << 20))
    sizes = [len(piece) for piece in in_pieces(path, 5, 1 << 19)]
    assert sum(sizes) == 1 << 19
    assert max(sizes) <= 1 << 18
