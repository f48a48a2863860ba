"""`check_encoder` and `check_destination` pass what is right, and name what is wrong."""

import uuid

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.deliver.base import receipt
from cxr_dicom.encode import build_encoders
from cxr_dicom.records import DeliveryStatus
from cxr_dicom.synthetic.objects import check_destination, check_encoder

OURS = {"secondary-capture", "parametric-map"}  # one kind each, of their own name


def encoder(name):
    (built,) = build_encoders(Settings.model_validate({"encode": {"objects": (name,)}}))
    return built


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_own_encoders_keep_the_contract(name):
    check_encoder(encoder(name), name)


def changing(change):
    """Our encoder of maps with a fault."""
    right = encoder("parametric-map")

    class Wrong:
        def encode(self, study):
            for encoded in right.encode(study):
                yield change(encoded, study)

    return Wrong()


def with_attribute(keyword, value):
    def change(encoded, study):
        setattr(encoded.dataset, keyword, value())
        return encoded

    return changing(change)


def spoiling(encoded, study):
    study.images[0].image.header.PatientName = "x"
    return encoded


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (with_attribute("SeriesDescription", lambda: uuid.uuid4().hex), "expected the same files with the same bytes"),
        (with_attribute("StudyInstanceUID", lambda: "1.2.3"), "StudyInstanceUID: expected"),
        (with_attribute("Manufacturer", lambda: "x"), "Manufacturer: expected cxr-dicom"),
        (changing(lambda encoded, study: encoded._replace(kind="other")), "expected the kind parametric_map"),
        (changing(lambda encoded, study: encoded._replace(source_sop_instance_uids=())), "expected UIDs of images"),
        (changing(spoiling), "expected the header as it was"),
    ],
    ids=["clock", "study", "manufacturer", "kind", "sources", "header"],
)
def test_a_wrong_encoder_is_named(wrong, expected):
    with pytest.raises(AssertionError, match=expected):
        check_encoder(wrong, "parametric-map")


def folder(tmp_path):
    table = {"kind": "folder", "name": "x", "path": tmp_path / "copies"}
    return build_destination(Settings.model_validate({"destinations": [table]}).destinations[0], lambda uid: None)


def test_our_own_folder_keeps_the_contract(tmp_path):
    check_destination(folder(tmp_path))


class Wrong:
    def __init__(self, send, words="here"):
        self.name, self._send, self._words, self.seen = "x", send, words, set()

    def send(self, objects):
        yield from (each for one in objects for each in self._send(self, one))

    def check(self):
        return self._words


def accepted(one):
    return receipt("x", one, DeliveryStatus.ACCEPTED, "OK")


def moving(self, one):
    one.path.rename(one.path.with_suffix(".sent"))
    yield accepted(one)


def only_once(self, one):
    status = DeliveryStatus.REFUSED if one.sop_instance_uid in self.seen else DeliveryStatus.ACCEPTED
    self.seen.add(one.sop_instance_uid)
    yield receipt("x", one, status, "OK")


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        (Wrong(lambda self, one: ()), "sent: expected one receipt for each"),
        (Wrong(lambda self, one: (accepted(one), accepted(one))), "sent: expected one receipt for each"),
        (Wrong(moving), "sent: expected the files as they were"),
        (Wrong(only_once), "sent again: expected them to be accepted"),
        (Wrong(lambda self, one: (accepted(one),), words=None), "check: expected a few words"),
    ],
    ids=["silent", "twice", "moving", "only once", "no words"],
)
def test_a_wrong_destination_is_named(destination, expected):
    with pytest.raises(AssertionError, match=expected):
        check_destination(destination)
