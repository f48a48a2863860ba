"""The gate on a real radiograph: stored in every way, and other pictures under the same header."""

import numpy as np
import pydicom
import pytest
from PIL import Image

from cxr_dicom import gate
from cxr_dicom.config import SelectSettings, Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.infer import build_models
from cxr_dicom.infer.offline import frontal
from cxr_dicom.measure import measure
from cxr_dicom.records import AS_DECLARED, WAYS, Presence, Reason, Way
from cxr_dicom.records.plane import Orientation
from cxr_dicom.synthetic import radiograph
from tests import painted

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"]}})
NAMED = [way for way in WAYS if way != AS_DECLARED]


class Remembered:
    """A network that does not compute the same picture twice: tests of the gate look at few, and often."""

    def __init__(self, network):
        self._network, self._known = network, {}

    def __call__(self, pixels):
        key = pixels.numpy().tobytes()
        if key not in self._known:
            self._known[key] = self._network(pixels)
        return self._known[key].clone()


@pytest.fixture(scope="module")
def models():
    built = build_models(SETTINGS)
    for model in built:
        model._network = Remembered(model._network)
    yield built
    for model in built:
        model.close()


@pytest.fixture(scope="module")
def picture(request):
    """A real chest, bright is dense, 0 to 1."""
    path = pydicom.data.get_testdata_file("RG1_UNCR.dcm", download=False)
    stored = 1 - pydicom.dcmread(path).pixel_array / 32767
    return np.asarray(Image.fromarray(stored.astype(np.float32)).resize((230, 245), Image.Resampling.BOX))


@pytest.fixture
def decoded(selected):
    """Put a picture under the header of an upright PA radiograph of an adult, and read it."""

    def read_one(pixels):
        dataset = radiograph(16, 16)
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = np.rint(pixels * 4095).astype("<u2").tobytes()
        return read(selected(dataset), SETTINGS.pixels)

    return read_one


def stored(picture, way):
    """The picture as it lies in a file that is stored that way."""
    return np.ascontiguousarray(way.turn.to_source(1 - picture if way.inverted else picture))


def admitted(decoded, models, **settings):
    runs = []

    def predict(taken):
        runs.append(taken)
        outlined = tuple(measure(taken.image, model.predict(taken, ())) for model in models)
        return (*outlined, painted.scores(taken.image))

    return gate.admit(decoded, models, predict, SelectSettings(**settings)), runs


def test_a_plausible_image_costs_one_look_and_no_other_run(decoded, models, picture, monkeypatch):
    looks = []
    scores = frontal.scores
    monkeypatch.setattr(frontal, "scores", lambda taken, ways: looks.append(len(list(ways))) or scores(taken, ways))
    monkeypatch.setattr(gate, "_confirmed", None)
    passed, runs = admitted(decoded(picture), models)
    assert (passed.content.word, passed.warnings) == ("as_declared", ())
    assert (len(runs), looks) == (1, [2])  # as declared, and its mirror


@pytest.mark.parametrize("way", NAMED, ids=lambda way: "+".join(way.words))
def test_every_other_way_round_is_named_and_nothing_is_called(decoded, models, picture, way):
    passed, _ = admitted(decoded(stored(picture, way)), models)
    assert passed.content.way == way
    (warning,) = passed.warnings
    assert "which the header does not say" in warning
    calls = [statement.call for prediction in passed.predictions for statement in prediction.statements]
    assert set(calls) <= {Presence.INDETERMINATE}


@pytest.mark.parametrize("way", NAMED[::4], ids=lambda way: "+".join(way.words))
def test_skip_refuses_it_by_name(decoded, models, picture, way):
    with pytest.raises(ImageError) as refused:
        admitted(decoded(stored(picture, way)), models, orientation_by_content="skip")
    assert refused.value.reason is Reason.WRONG_WAY_ROUND
    assert "which the header does not say" in refused.value.detail


@pytest.mark.parametrize("way", NAMED[1::4], ids=lambda way: "+".join(way.words))
def test_correct_turns_it_and_leaves_right_and_left(decoded, models, picture, way):
    passed, runs = admitted(decoded(stored(picture, way)), models, orientation_by_content="correct")
    upright = decoded(picture)
    pixels = passed.radiograph.pixels
    mirrored = upright.pixels[:, ::-1] if way.turn.is_mirror else upright.pixels
    assert np.corrcoef(pixels.ravel(), mirrored.ravel())[0, 1] > 0.999
    assert passed.content.passed == (not way.turn.is_mirror and not way.inverted)
    assert passed.content.corrected == (len(runs) == 2)
    matrix = passed.predictions[0].mask("heart").region.to_standard(passed.radiograph.image.orientation)
    assert matrix.shape == pixels.shape


def test_a_mirrored_heart_is_never_corrected(decoded, models, picture):
    mirror = Way(turn=Orientation(flip_columns=True))
    passed, runs = admitted(decoded(stored(picture, mirror)), models, orientation_by_content="correct")
    assert len(runs) == 1
    assert passed.radiograph.image.orientation == Orientation()
    assert passed.warnings == (
        "the picture is mirrored (or the heart lies on the patient's right: situs inversus), which the header does not "
        "say; right and left are as declared",
    )


y, x = np.mgrid[:400, :400] / 400
OTHER = {
    "a pattern": 0.5 + 0.5 * np.sin(12 * x) * np.cos(9 * y),
    "a disc with two dark fields": (np.hypot(x - 0.5, y - 0.5) < 0.45)
    - 0.6 * (np.hypot(abs(x - 0.5) - 0.2, y - 0.5) < 0.1),
    "noise": np.random.default_rng(0).random((300, 300)),
    "a ramp": x,
}


@pytest.mark.parametrize("name", [*OTHER, "RG3_UNCR.dcm", "693_UNCR.dcm", "OBXXXX1A.dcm", "CT_small.dcm"])
def test_other_pictures_are_no_chest(decoded, models, real, name):
    pixels = OTHER[name] if name in OTHER else pydicom.dcmread(real(name)).pixel_array.astype(float)
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    with pytest.raises(ImageError) as refused:
        admitted(decoded(pixels), models)
    assert refused.value.reason is Reason.NOT_A_CHEST_CONTENT


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (2000, 3), (3, 2000)])
def test_a_picture_of_hardly_a_line_is_no_chest(decoded, models, shape):
    with pytest.raises(ImageError) as refused:
        admitted(decoded(np.full(shape, 0.5)), models)
    assert refused.value.reason is Reason.NOT_A_CHEST_CONTENT


def test_process_writes_what_is_no_chest_with_a_warning_and_without_a_call(decoded, models):
    passed, _ = admitted(decoded(OTHER["a disc with two dark fields"]), models, no_lungs="process")
    assert passed.content.word == "doubtful"
    assert passed.warnings[0].startswith("no plausible frontal chest: ")
    assert all(s.call is Presence.INDETERMINATE for p in passed.predictions for s in p.statements)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "+".join(way.words) or "as declared")
@pytest.mark.parametrize("setting", ["warn", "correct"])
def test_findings_are_called_only_on_a_picture_that_the_models_know(decoded, models, picture, way, setting):
    passed, _ = admitted(decoded(stored(picture, way)), models, orientation_by_content=setting)
    changed = way.rotation != Orientation() or way.inverted
    assert called(passed) == (setting == "correct" or not changed)


def test_findings_are_not_called_on_what_is_no_chest(decoded, models):
    passed, _ = admitted(decoded(OTHER["a disc with two dark fields"]), models, no_lungs="process")
    assert not called(passed)


def called(passed):
    """Whether findings with an operating point have their call; all of them, or none."""
    found = [f for p in passed.predictions for f in p.findings if f.operating_point is not None]
    calls = {each.call is not Presence.INDETERMINATE for each in found}
    assert {each.is_withheld for each in found} == {not each for each in calls}
    (answer,) = calls
    return answer


def test_without_a_model_of_the_lungs_nothing_is_said(decoded):
    passed, _ = admitted(decoded(OTHER["noise"]), [])
    assert (passed.content, passed.warnings) == (None, ())
