"""The documents say what the program does: commands, settings, reasons, results."""

import json
import re
import tomllib

import pytest

from cxr_dicom.cli._reference import reference
from cxr_dicom.config import RESULT_TABLES, Settings, load
from cxr_dicom.encode import encoder_names
from cxr_dicom.records import ObjectKind, Outcome, Presence, Reason
from tests import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
CONFIGURE = (DOCS / "how-to" / "configure.md").read_text(encoding="utf-8")
TABLES = {table: type(value).model_fields for table, value in Settings() if table in RESULT_TABLES}


def test_the_command_line_reference_is_that_of_the_program():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert text == reference(), "write it anew: python -m cxr_dicom.cli._reference > docs/cli.md"


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_explained(table):
    _, _, section = CONFIGURE.partition(f"### `[{table}]`")
    section, _, _ = section.partition("\n#")
    explained = re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE)
    assert explained == list(TABLES[table])


def test_the_settings_shown_are_the_defaults(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", CONFIGURE, re.DOTALL)
    (tmp_path / "cxr-dicom.toml").write_text(example)
    assert load(tmp_path / "cxr-dicom.toml") == Settings()
    shown = {table: set(keys) for table, keys in tomllib.loads(re.sub("^# ", "", example, flags=re.MULTILINE)).items()}
    assert shown == {table: set(fields) for table, fields in TABLES.items()}


def test_every_kind_of_object_is_named():
    (line,) = re.findall(r"^\| `objects` .*$", CONFIGURE, re.MULTILINE)
    assert {name for name in encoder_names() if f"`{name}`" not in line} == set()


def test_the_environment_variables_shown_are_understood(monkeypatch):
    shown = dict(re.findall(r"^export (CXR_DICOM_\w+)='?([^'\n#]*?)'?\s*(?:#.*)?$", CONFIGURE, re.MULTILINE))
    assert len(shown) == 2
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.encode.geometry == "strict"
    assert settings.models.names == ("chestx-det", "xrv-densenet121-all")


def test_every_reason_is_explained():
    text = (DOCS / "reasons.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bUNREADABLE\b", text))
    assert {reason for reason in Reason if reason not in named} == set()


def test_every_key_of_a_row_is_explained():
    schema = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## `results.jsonl`")
    section, _, _ = section.partition("\n### ")
    first_cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    keys = [key for cell in first_cells for key in re.findall(r"`(\w+)`", cell)]
    assert keys == [*schema["required"], *sorted(schema["properties"].keys() - schema["required"])]


def test_every_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    _, _, section = (DOCS / "quickstart.md").read_text(encoding="utf-8").partition("| extra |")
    assert set(re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)) == set(project["optional-dependencies"])


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs", "cxr_dicom", "scripts"])
def test_nobody_is_told_to_install_from_an_index_what_is_on_none(name):
    place = ROOT / name
    for file in (
        [place] if place.is_file() else (path for path in place.rglob("*") if path.suffix in ("", ".py", ".md"))
    ):
        if file.is_file():
            assert not re.search(r"pip install [^\n`]*cxr-dicom(?![\w./-])", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_schema_has_the_words_of_the_program():
    schema = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
    properties = schema["properties"]
    assert set(properties["outcome"]["enum"]) == set(Outcome)
    assert set(properties["objects"]["items"]["properties"]["kind"]["anyOf"][0]["enum"]) == set(ObjectKind)
    assert set(schema["$defs"]["call"]["enum"]) == set(Presence)


def code(page):
    """Lines of code blocks and the content of code spans."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_shown_exist_with_their_options(page):
    sections = dict(re.findall(r"^## (cxr-dicom.*)\n((?:(?!^## ).*\n?)*)", reference(), re.MULTILINE))
    for line in code(page):
        if not (shown := re.match(r"\s*(?:\$ )?(cxr-dicom(?: [a-z]+)*)(.*)", line)) or line.startswith("cxr-dicom-"):
            continue
        words = shown[1].split()
        while " ".join(words) not in sections:
            words.pop()
        command = " ".join(words)
        is_group = any(name.startswith(f"{command} ") for name in sections)
        assert not is_group or command == shown[1], f"no such command: {line}"
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", shown[2].partition("#")[0]):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections[command]), f"{command} has no {option}"


def test_the_check_of_commands_sees_wrong_ones(tmp_path):
    for number, line in enumerate(("cxr-dicom nonsense", "cxr-dicom models nonsense", "cxr-dicom run x --nonsense")):
        page = tmp_path / f"{number}.md"
        page.write_text(f"```sh\n{line}\n```\n")
        with pytest.raises(AssertionError, match="nonsense"):
            test_commands_shown_exist_with_their_options(page)
