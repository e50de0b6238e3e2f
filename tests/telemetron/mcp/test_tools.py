"""The definitions: small, plain enough for every client, and always the same."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from telemetron.mcp.budget import tokens
from telemetron.mcp.guide import INSTRUCTIONS
from telemetron.mcp.server import definitions
from telemetron.mcp.state import SECTIONS
from telemetron.store.section import SECTIONS as STORED

MAX_TOKENS = 1_500
MAX_INSTRUCTIONS = 2_000
PLAIN = {"type", "properties", "required", "items", "enum", "description"}


def listed() -> list[Any]:
    return [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in definitions()]


def schemas(schema: Any) -> Iterator[Any]:
    yield schema
    for one in (*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])):
        yield from schemas(one)


def test_there_are_five_tools_in_a_fixed_order() -> None:
    assert [one["name"] for one in listed()] == ["brief", "task", "entity", "state", "changes"]
    assert listed() == listed()


def test_all_definitions_cost_at_most_1500_tokens() -> None:
    text = json.dumps(listed(), separators=(",", ":"), ensure_ascii=False)
    assert tokens(text.encode()) <= MAX_TOKENS


def test_the_count_is_an_upper_bound_of_the_tokenizers() -> None:
    """Needs `ctok`, which only newer versions of Python than the oldest supported one have."""
    ctok = pytest.importorskip("ctok")
    text = json.dumps(listed(), separators=(",", ":"), ensure_ascii=False)
    for version in ("3.0", "4.7", "4.8"):
        assert ctok.token_count(text, version) <= tokens(text.encode())


def test_the_instructions_are_not_cut_by_any_client() -> None:
    assert len(INSTRUCTIONS) <= MAX_INSTRUCTIONS
    for tool in listed():
        assert tool["name"] in INSTRUCTIONS


def test_input_schemas_have_only_plain_keywords() -> None:
    for tool in listed():
        assert tool["inputSchema"]["type"] == "object"
        for schema in schemas(tool["inputSchema"]):
            assert schema.keys() <= PLAIN
            assert schema["type"] in ("object", "string", "integer", "array")
        assert "outputSchema" not in tool


def test_all_tools_are_read_only_and_know_one_system() -> None:
    for tool in listed():
        assert tool["annotations"] == {"readOnlyHint": True, "openWorldHint": False}


def test_the_sections_are_those_of_the_document() -> None:
    assert set(SECTIONS) == {"sources", *STORED}
