"""What is found, what is refused, and that nobody is stopped by what he did not name."""

import subprocess
import sys

import pytest

from cxr_dicom import __version__
from cxr_dicom.cohort.engine import EngineOptions, build_engine
from cxr_dicom.errors import SettingsError
from cxr_dicom.plugins import ENCODERS, ENGINES, EXPORTERS, MODELS, SEAMS, strangers
from tests import ROOT

ENGINE = "def build(options):\n    return options\n"
MODEL = """
    from cxr_dicom.records import ModelInfo
    MODELS = (ModelInfo(name={name}, version="1", title="t", predicts=(), input_size=None, manufacturer="m",
                        licence="MIT", citation="c"),)
    def build(name, settings):
        return name
"""


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.name)
def test_every_file_of_a_seam_folder_is_a_choice_of_ours(seam):
    folder = (
        ROOT
        / "cxr_dicom"
        / {
            "models": "infer/models",
            "encoders": "encode/objects",
            "destinations": "deliver/destinations",
            "archives": "ingest/archives",
            "exporters": "export/formats",
            "engines": "cohort/engines",
        }[seam.name]
    )
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {choice.module.__name__.rpartition(".")[2] for choice in seam.ours.values()} == files
    assert all(choice.is_ours and choice.package == f"cxr-dicom {__version__}" for choice in seam.ours.values())
    assert set(seam.ours) <= set(seam.names)


def test_what_a_package_offers_is_a_choice_with_its_package(install):
    install("their-slurm", "2.1", {"cxr_dicom.engines": {"slurm": "their_slurm"}}, their_slurm=ENGINE)
    choice = ENGINES.choose("engine", "slurm")
    assert (choice.package, choice.is_ours) == ("their-slurm 2.1", False)
    assert build_engine("slurm", EngineOptions(workers=3)).workers == 3
    assert ENGINES.names == [*ENGINES.ours, "slurm"]


def test_one_module_may_declare_many_models(install):
    both = (
        MODEL.format(name='"one"') + '\n    import dataclasses; MODELS += (dataclasses.replace(MODELS[0], name="two"),)'
    )
    install("theirs", "1.0", {"cxr_dicom.models": {"anything": "theirs"}}, theirs=both)
    assert [MODELS.choose("models.names", name).module.build(name, None) for name in ("one", "two")] == ["one", "two"]


@pytest.mark.parametrize("distribution", ["aaa", "cxr-dicom"])
def test_our_names_cannot_be_taken_whatever_the_package_is_called(install, distribution):
    point = {"cxr_dicom.engines": {"local": "evil"}, "cxr_dicom.models": {"evil": "evil_model"}}
    install(distribution, "9", point, evil=ENGINE, evil_model=MODEL.format(name='"lung-opacity"'))
    assert ENGINES.choose("engine", "local").module.__name__ == "cxr_dicom.cohort.engines.local"
    assert MODELS.choose("models.names", "lung-opacity").is_ours
    for seam, name in ((ENGINES, "local"), (MODELS, "lung-opacity")):
        (refused,) = seam.broken
        assert (refused.name, refused.problem) == (name, "the name is taken by cxr-dicom")


def test_the_first_of_two_packages_has_a_name_in_whatever_order_they_lie(install):
    for name in ("zebra", "aardvark"):
        install(name, "1", {"cxr_dicom.engines": {"slurm": name}}, **{name: ENGINE})
    assert ENGINES.choose("engine", "slurm").distribution == "aardvark"
    assert [(each.distribution, each.problem) for each in ENGINES.broken] == [
        ("zebra", "the name is taken by aardvark")
    ]


WRONG = {
    "raises": ("raise RuntimeError('no GPU here')", "RuntimeError: no GPU here"),
    "missing import": ("import no_such_library", "No module named 'no_such_library'"),
    "syntax": ("def build(:", "SyntaxError"),
    "exits": ("import sys; sys.exit(0)", "SystemExit"),
    "no build": ("x = 1", "expected a module with a function `build`"),
    "build is no function": ("build = 1", "expected a module with a function `build`"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
}


@pytest.mark.parametrize("text", [text for text, _ in WRONG.values()], ids=list(WRONG))
@pytest.mark.parametrize("seam", [ENGINES, MODELS, EXPORTERS], ids=lambda seam: seam.name)
def test_who_does_not_name_a_broken_package_is_not_stopped(install, seam, text):
    problem = next(problem for broken, problem in WRONG.values() if broken == text)
    install("broken", "0.1", {seam.group: {"theirs": "broken"}}, broken=text)
    mine = next(iter(seam.ours))
    assert seam.choose("key", mine).is_ours
    assert set(seam.names) == set(seam.ours)
    (refused,) = seam.broken
    assert problem in refused.problem
    with pytest.raises(SettingsError, match=r"'theirs' of broken 0.1: "):
        seam.choose("key", "theirs")


def test_naming_ours_imports_nobody_else(install):
    installed = install("deadly", "1", {s.group: {"x": "deadly"} for s in SEAMS}, deadly="import os; os._exit(7)")
    code = "from cxr_dicom.plugins import SEAMS; [seam.choose('key', next(iter(seam.ours))) for seam in SEAMS]"
    finished = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{installed}:{ROOT}"})
    assert finished.returncode == 0
    asked = f"{code}; SEAMS[0].choices"
    assert subprocess.run([sys.executable, "-c", asked], env={"PYTHONPATH": f"{installed}:{ROOT}"}).returncode == 7


@pytest.mark.parametrize(
    "name", ["'auto'", "'a,b'", "'A'", "''", "'x' * 65", "'../x'", "'a b'", "'größe'", "'a\\n'", "None", "7"]
)
def test_a_name_that_the_settings_cannot_hold_is_refused(install, name):
    install("theirs", "1", {"cxr_dicom.models": {"theirs": "theirs"}}, theirs=MODEL.format(name=name))
    assert set(MODELS.names) == set(MODELS.ours)
    assert "got the name" in MODELS.broken[0].problem


@pytest.mark.parametrize("declared", ["'theirs'", "[]", "()", "(1,)", "None", "{'name': 1}"])
def test_models_that_are_none_are_refused(install, declared):
    text = f"MODELS = {declared}\ndef build(name, settings): pass"
    install("theirs", "1", {"cxr_dicom.models": {"theirs": "theirs"}}, theirs=text)
    assert "expected MODELS to be a tuple of ModelInfo" in MODELS.broken[0].problem


def test_a_name_that_nobody_has_lists_the_choices_and_points_to_what_is_broken(install):
    with pytest.raises(SettingsError, match=r"^encode.objects: 'x' is not one of key-objects, .*, sr$"):
        ENCODERS.choose("encode.objects", "x")
    install("broken", "0.1", {"cxr_dicom.encoders": {"theirs": "broken"}}, broken="raise ValueError")
    with pytest.raises(SettingsError, match=r"what is wrong with broken 0.1 says `cxr-dicom plugins`"):
        ENCODERS.choose("encode.objects", "x")


def test_only_strangers_are_part_of_what_identifies_a_result(install):
    install("their-slurm", "2.1", {"cxr_dicom.engines": {"slurm": "their_slurm"}}, their_slurm=ENGINE)
    assert strangers([(ENGINES, "local"), (ENCODERS, "seg")]) == ()
    assert strangers([(ENGINES, "slurm"), (ENGINES, "slurm")]) == (("engines", "slurm", "their-slurm", "2.1"),)


@pytest.mark.parametrize(
    ("engine", "options", "named"),
    [
        ("here", {"workers": 2}, "--workers"),
        ("local", {"address": "x"}, "--address"),
        ("local", {"gpus_per_worker": 1.0}, "--gpus-per-worker"),
    ],
)
def test_an_engine_refuses_what_it_cannot_heed(engine, options, named):
    with pytest.raises(SettingsError, match=f"^{named} is not for --engine {engine}$"):
        build_engine(engine, EngineOptions(**options))
