"""Routes as settings: what each sets, and what is refused."""

import pytest

from cxr_dicom.config import Settings, load
from cxr_dicom.errors import SettingsError

PLACES = [{"name": name, "kind": "folder", "path": f"/{name}"} for name in ("pacs", "research")]


def of(*routes, **tables):
    return Settings.model_validate({"destinations": PLACES, "routes": routes, **tables})


def test_without_routes_there_is_one_way_and_it_is_what_is_set():
    settings = of()
    assert settings.by_route == {"default": settings}
    assert settings.by_route["default"].digest == settings.digest == Settings().digest


def test_a_route_sets_what_it_names_and_nothing_else():
    settings = of(
        {"name": "a", "senders": ["A"], "models": ["m"], "destinations": ["research"]}, models={"device": "cpu"}
    )
    on_a, by_default = settings.by_route.values()
    assert (on_a.models.names, on_a.models.device) == (("m",), "cpu")
    assert [each.name for each in on_a.destinations] == ["research"]
    assert on_a.encode == settings.encode
    assert by_default == settings.model_copy(update={"routes": ()})
    assert on_a.digest == Settings(models={"names": ["m"]}).digest  # so its objects are the same as without routes


def test_an_empty_list_is_none_of_it_and_no_list_all():
    settings = of({"name": "a", "senders": ["A"], "models": [], "destinations": []})
    assert settings.by_route["a"].models.names == ()
    assert settings.by_route["a"].destinations == ()


def test_behind_a_route_without_conditions_there_is_nothing():
    settings = of({"name": "a", "senders": ["A"]}, {"name": "b", "senders": []}, {"name": "c", "senders": ["C"]})
    assert list(settings.by_route) == ["a", "b"]


WRONG = [
    ("routes.a.destinations: no [[destinations]] is named 'nowhere'", 'name = "a"\ndestinations = ["nowhere"]'),
    ("two routes have the same name", 'name = "a"\n[[routes]]\nname = "a"'),
    ("expected another name", 'name = "default"'),
    ("routes.0.sender: no such key", 'name = "a"\nsender = ["A"]'),
    ("routes.0.name", 'senders = ["A"]'),
    ("routes.0.objects", 'name = "a"\nobjects = []'),
    ("routes.0.words.0", 'name = "a"\nwords = [" "]'),
    ("routes.0.called_ae_titles.0", 'name = "a"\ncalled_ae_titles = ["SEVENTEEN_LETTERS"]'),
    ("at most 1000", "\n[[routes]]\n".join(f'name = "{number}"' for number in range(1001))),
]


@pytest.mark.parametrize(("words", "text"), WRONG, ids=[words[:30] for words, _ in WRONG])
def test_what_makes_no_sense_is_refused_with_its_place(tmp_path, words, text):
    path = tmp_path / "c.toml"
    path.write_text(f"[[routes]]\n{text}\n")
    with pytest.raises(SettingsError) as refused:
        load(path)
    assert words in str(refused.value)


# --- the names of the listener -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "titles"),
    [("CXR", ("CXR",)), ("104", ("104",)), ('["CXR", "CXR_RESEARCH"]', ("CXR", "CXR_RESEARCH")), ("[A", ("[A",))],
)
def test_ae_titles_from_the_environment(monkeypatch, text, titles):
    monkeypatch.setenv("CXR_DICOM_LISTENER__AE_TITLE", text)
    assert load().listener.ae_titles == titles


@pytest.mark.parametrize("titles", [[], ["CXR", "cxr"], ["CXR", "CXR"], ["CXR", ""], [" CXR"], "A\\B"])
def test_names_that_are_none_or_one_are_refused(titles):
    with pytest.raises(ValueError, match="ae_title"):
        Settings.model_validate({"listener": {"ae_title": titles}})
