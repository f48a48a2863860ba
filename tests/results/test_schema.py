"""The types of a row say what the published JSON Schema says, key by key, and nothing else."""

import json
from types import NoneType, UnionType
from typing import NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from cxr_dicom.records import ObjectKind, Outcome, Presence
from cxr_dicom.results.schema import Row
from tests import ROOT

SCHEMA = json.loads((ROOT / "docs" / "results.schema.json").read_text(encoding="utf-8"))
NAMES = {str: "string", int: "integer", float: "number", NoneType: "null"}


def of_schema(node: dict) -> object:
    """What a node of the JSON Schema allows, as plain Python: names of types, lists, dicts, keys."""
    if "$ref" in node:
        return of_schema(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]])
    if "anyOf" in node:
        return frozenset().union(*map(of_schema, node["anyOf"]))
    if "enum" in node:
        return frozenset(NAMES[type(value)] for value in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return frozenset(_of_kind(kind, node) for kind in kinds)


def _of_kind(kind: str, node: dict) -> object:
    if kind == "array":
        return "array", of_schema(node["items"])
    if kind != "object":
        return kind
    if "properties" not in node:
        return "map", of_schema(node["additionalProperties"])
    assert node["additionalProperties"] is False
    required = set(node["required"])
    assert required <= node["properties"].keys()
    keys = {key: (key in required, of_schema(each)) for key, each in node["properties"].items()}
    return "object", frozenset(keys.items())


def of_type(hint: object) -> object:
    """What a type allows, in the same words."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return frozenset(_of_part(part) for part in parts)


def _of_part(part: object) -> object:
    if part in NAMES:
        return NAMES[part]
    if get_origin(part) is list:
        return "array", of_type(*get_args(part))
    if get_origin(part) is dict:
        key, value = get_args(part)
        assert key is str
        return "map", of_type(value)
    assert is_typeddict(part)
    return "object", frozenset(_keys(part))


def _keys(typed_dict: type) -> object:
    for key, hint in get_type_hints(typed_dict, include_extras=True).items():
        is_optional = get_origin(hint) is NotRequired
        yield key, (not is_optional, of_type(get_args(hint)[0] if is_optional else hint))


@pytest.mark.parametrize("key", sorted(SCHEMA["properties"].keys() | get_type_hints(Row).keys()))
def test_a_key_is_in_both_and_of_one_type(key):
    assert of_type(get_type_hints(Row)[key]) == of_schema(SCHEMA["properties"][key])


def test_every_key_of_a_row_is_required_but_the_host_which_older_states_do_not_know():
    keys = dict(_keys(Row))
    assert {key for key, (is_required, _) in keys.items() if is_required} == set(SCHEMA["required"])
    assert keys.keys() - SCHEMA["required"] == {"host"} == keys.keys() - Row.__required_keys__


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (Outcome, SCHEMA["properties"]["outcome"]["enum"]),
        (ObjectKind, SCHEMA["properties"]["objects"]["items"]["properties"]["kind"]["anyOf"][0]["enum"]),
        (Presence, SCHEMA["$defs"]["call"]["enum"]),
    ],
)
def test_the_schema_lists_the_words_that_the_code_knows(words, listed):
    assert sorted(words) == sorted(listed)
