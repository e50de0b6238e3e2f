"""Arguments: each wrong one is an error that says what is expected and names the nearest value."""

from typing import Any

import pytest

from telemetron.mcp.arguments import ArgumentError, checked
from telemetron.mcp.tools import TOOLS

SCHEMAS = {tool.name: tool.schema for tool in TOOLS}


def wrong(tool: str, **arguments: Any) -> ArgumentError:
    with pytest.raises(ArgumentError) as caught:
        checked(SCHEMAS[tool], arguments)
    return caught.value


def test_right_arguments_are_taken_as_they_are() -> None:
    given = {"sections": ["agents", "queues"], "match": "silent", "max_tokens": 500}
    assert checked(SCHEMAS["state"], given) == given


@pytest.mark.parametrize("given", [None, {}, {"about": None, "max_tokens": None}, {"about": ""}])
def test_null_and_empty_values_count_as_not_given(given: Any) -> None:
    assert checked(SCHEMAS["brief"], given) == {"max_tokens": 2_000}


def test_a_whole_float_is_an_integer_as_in_json_schema() -> None:
    assert checked(SCHEMAS["brief"], {"max_tokens": 500.0}) == {"max_tokens": 500}


def test_an_unknown_argument_names_the_nearest() -> None:
    error = wrong("changes", sinse="5m")
    assert error.nearest == ("since",)
    assert "did you mean since?" in str(error)


def test_an_unknown_name_of_a_list_names_the_nearest() -> None:
    error = wrong("state", sections=["agents", "queus"])
    assert error.nearest == ("queues",)
    assert "workload" in str(error)


@pytest.mark.parametrize("value", [199, 10_001, -1, 2.5, "500", True, [500], 10**400, 1e308])
def test_a_wrong_number_of_tokens_names_the_range(value: Any) -> None:
    assert str(wrong("state", max_tokens=value)).endswith("expected an integer from 200 to 10000")


@pytest.mark.parametrize("value", [1, ["a"], {"a": 1}, True])
def test_a_text_of_another_type_is_wrong(value: Any) -> None:
    assert str(wrong("brief", about=value)).startswith("about: expected a text, got ")


@pytest.mark.parametrize("value", ["agents", 1, {"agents": 1}])
def test_a_list_of_another_type_is_wrong(value: Any) -> None:
    assert str(wrong("state", sections=value)).startswith("sections: expected a list of texts")


def test_a_missing_argument_says_what_it_is() -> None:
    assert str(wrong("task")) == "id is required: task id, or QUEUE/PARTITION/OFFSET"


def test_a_long_value_is_refused_and_an_error_stays_short() -> None:
    assert str(wrong("brief", about="x" * 3_000)) == "about: longer than 2000 characters"
    assert len(str(wrong("state", sections=["\x1b" * 100_000]))) < 700
