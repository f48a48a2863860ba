"""Settings: three sources in one order, errors that name the key, a digest of what changes a result."""

import os
import pickle

import pytest
from pydantic import ValidationError

from cxr_dicom.config import ENVIRONMENT_PREFIX, Settings, load
from cxr_dicom.errors import SettingsError


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "cxr-dicom.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_without_any_source_the_defaults_hold():
    assert load() == Settings()


def test_a_file_sets_keys_and_leaves_the_others(toml):
    settings = load(toml('[encode]\ngeometry = "strict"\n[models]\nnames = ["chestx-det", "lung-opacity"]\n'))
    assert settings.encode.geometry == "strict"
    assert settings.encode.content_time == "auto"
    assert settings.models.names == ("chestx-det", "lung-opacity")


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(toml, monkeypatch):
    path = toml('[encode]\ngeometry = "strict"\nsegmentation = "binary"\ncontent_time = "now"\n')
    monkeypatch.setenv("CXR_DICOM_ENCODE__SEGMENTATION", "labelmap")
    monkeypatch.setenv("CXR_DICOM_ENCODE__CONTENT_TIME", "source")
    settings = load(path, {"encode": {"content_time": "now"}})
    assert (settings.encode.geometry, settings.encode.segmentation, settings.encode.content_time) == (
        "strict",
        "labelmap",
        "now",
    )


def test_the_environment_sets_numbers_and_lists(monkeypatch):
    monkeypatch.setenv("CXR_DICOM_SELECT__MAX_PIXELS", "1000")
    monkeypatch.setenv("CXR_DICOM_MODELS__NAMES", '["a", "b"]')
    settings = load()
    assert settings.select.max_pixels == 1000
    assert settings.models.names == ("a", "b")


WRONG = [
    ('[encode]\ngeometry = "flat"\n', ("encode.geometry", "'flat'", "'viewer'", "'strict'")),
    ("[select]\nmax_pixels = 0\n", ("select.max_pixels", "0", "greater than 0")),
    ('[select]\nunknown_view = "maybe"\n', ("select.unknown_view", "'maybe'", "'process'", "'skip'")),
    ('[pixels]\nintensity = "raw"\n', ("pixels.intensity", "'raw'", "'xrv'", "'voi'")),
    ("[models]\nnames = []\n", ("models.names", "[]")),
    ('[models]\nnames = "auto"\n', ("models.names", "'auto'")),
    ('[models]\ndevice = "gpu"\n', ("models.device", "'gpu'", "cuda")),
    ("[encode]\ngeometri = 1\n", ("encode.geometri", "no such key")),
    ("[encoder]\n", ("encoder",)),
    ("encode = 3\n", ("encode", "3")),
    ("[select]\nmax_pixels = 0\nx = 1\n", ("select.max_pixels", "select.x")),
    (f"[listener]\nport = 0x{'f' * 9000}\n", ("listener.port = ...",)),
    (f'[models]\ndevice = "{"g" * 10**6}"\n', ("models.device", "ggg...")),
    ("".join(f"a{number} = 1\n" for number in range(50)), ("a0: no such key", "and 30 more")),
    ('[spool]\nfolder = "a\\u0000b"\n', ("spool.folder: expected text without control characters",)),
    ('[listener]\ncalling_ae_titles = ["A", "\\u001b[2J"]\n', ("listener.calling_ae_titles.1: expected text",)),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[expected[0] for _, expected in WRONG])
def test_an_error_names_the_file_the_key_the_value_and_what_is_accepted(toml, text, expected):
    path = toml(text)
    with pytest.raises(SettingsError) as raised:
        load(path)
    for part in (str(path), *expected):
        assert part in str(raised.value)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CXR_DICOM_ENCODE__GEOMETRY", "flat", ("encode.geometry", "flat")),
        ("CXR_DICOM_ENCODE__GEOMETRI", "strict", ("encode.geometri",)),
        ("CXR_DICOM_MODELS__NAMES", "auto", ("models",)),
        ("CXR_DICOM_MODELS__NAMES", "", ("models",)),
        ("CXR_DICOM_ENCODE", "strict", ("encode",)),
        ("CXR_DICOM_GEOMETRY", "strict", ("geometry",)),
    ],
)
def test_an_error_in_the_environment_names_the_key(monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load()
    for part in expected:
        assert part in str(raised.value).lower()


def test_an_error_of_the_command_line_names_the_key():
    with pytest.raises(SettingsError, match=r"models\.device"):
        load(overrides={"models": {"device": "gpu"}})


@pytest.mark.parametrize("content", [b"[encode\n", b"\xff\xfe", b"[encode]\ngeometry = \n"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().encode.geometry = "strict"


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("select", "unknown_view", "skip"),
        ("select", "unknown_body_part", "skip"),
        ("select", "no_lungs", "process"),
        ("select", "max_pixels", 1),
        ("pixels", "intensity", "voi"),
        ("models", "names", ["chestx-det"]),
        ("encode", "objects", ["seg"]),
        ("encode", "geometry", "strict"),
        ("encode", "segmentation", "binary"),
        ("encode", "content_time", "now"),
        ("select", "secondary_capture", "skip"),
        ("select", "orientation_by_content", "correct"),
    ],
)
def test_the_digest_follows_what_changes_a_result(table, key, value):
    assert load(overrides={table: {key: value}}).digest != load().digest


@pytest.mark.parametrize(("key", "value"), [("device", "cpu"), ("folder", "/somewhere")])
def test_the_digest_does_not_follow_where_a_result_is_computed(key, value):
    assert load(overrides={"models": {key: value}}).digest == load().digest


def test_a_content_time_left_open_is_that_of_the_source_unless_someone_decides():
    left_open, source, now = (load(overrides={"encode": {"content_time": c}}) for c in ("auto", "source", "now"))
    assert left_open.digest == source.digest
    assert left_open.decided(service=True).encode.content_time == now.encode.content_time
    assert source.decided(service=True).encode.content_time == source.encode.content_time


@pytest.mark.parametrize(
    ("named", "elsewhere", "in_service"),
    [
        (None, ("seg", "sr", "parametric-map"), ("seg", "sr", "parametric-map", "presentation-state")),
        (["auto"], ("seg", "sr", "parametric-map"), ("seg", "sr", "parametric-map", "presentation-state")),
        (["seg", "sr", "parametric-map"],) + 2 * (("seg", "sr", "parametric-map"),),
        (
            ["key-objects", "auto"],
            ("key-objects", "seg", "sr", "parametric-map"),
            ("key-objects", "seg", "sr", "parametric-map", "presentation-state"),
        ),
        (["presentation-state", "seg"],) + 2 * (("presentation-state", "seg"),),
    ],
)
def test_the_service_writes_presentation_states_too_unless_someone_decides(named, elsewhere, in_service):
    settings = load(overrides={"encode": {"objects": named}} if named else None)
    assert settings.encode.written == settings.decided(service=False).encode.objects == elsewhere
    assert settings.decided(service=True).encode.objects == in_service
    assert settings.decided(service=True).decided(service=False).encode.objects == in_service


def test_pictures_come_with_the_geometry_of_that_name():
    settings = load(overrides={"encode": {"geometry": "picture"}})
    assert settings.encode.written == ("seg", "sr", "parametric-map", "secondary-capture")
    assert settings.decided(service=True).encode.written[-2:] == ("presentation-state", "secondary-capture")


def test_the_digest_of_objects_left_open_is_that_of_those_written():
    named = load(overrides={"encode": {"objects": ["seg", "sr", "parametric-map"]}})
    assert load().digest == named.digest != load().decided(service=True).digest


def test_secondary_captures_are_skipped_in_the_service_only_unless_someone_decides():
    left_open, process, skip = (
        load(overrides={"select": {"secondary_capture": choice}}) for choice in ("auto", "process", "skip")
    )
    assert left_open.digest == process.digest != skip.digest
    assert left_open.decided(service=True).select == skip.select
    assert process.decided(service=True).select == process.select


def test_the_digest_of_a_copy_is_its_own():
    settings = load()
    other = settings.encode.model_copy(update={"deflate": not settings.encode.deflate})
    digest, changed = settings.digest, load(overrides={"encode": {"deflate": other.deflate}})
    assert settings.model_copy(update={"encode": other}).digest == changed.digest != digest
    assert settings == load()
    assert pickle.loads(pickle.dumps(settings)).digest == digest


def test_the_digest_is_the_same_from_every_source(toml, monkeypatch):
    from_file = load(toml('[encode]\nsegmentation = "both"\ngeometry = "strict"\n')).digest
    monkeypatch.setenv("CXR_DICOM_ENCODE__GEOMETRY", "strict")
    assert load(overrides={"encode": {"segmentation": "both"}}).digest == from_file
    assert len(from_file) == 64
