"""Conversion: the list of keys that a configuration has, and the types that it can take."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct, field

from telemetron.config.convert import (
    INVALID,
    ConfigKey,
    ConfigProblem,
    Converter,
    Origin,
    dotted,
    keys,
)
from telemetron.config.settings import Settings
from telemetron.secret import Secret


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    a: Annotated[int, Meta(description="An a.")] = 1
    token: Secret | None = None
    token_file: str | None = None


class Left(Struct, frozen=True, tag="left"):
    x: int


class Right(Struct, frozen=True, tag="right"):
    y: int


class Outer(Struct, frozen=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    class_: Annotated[str, Meta(description="Needed.")]
    pair: tuple[int, str] | None = None
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)
    side: Left | Right | None = None
    anything: Any = None
    key: Secret | None = None
    mode: Literal["a", "b"] | int = "a"


def convert(value: Any) -> tuple[Any, list[str]]:
    problems: list[ConfigProblem] = []
    made = Converter(Origin("f"), problems).convert(Outer, value, ())
    return made, [str(problem) for problem in problems]


def test_keys_include_those_of_nested_tables() -> None:
    assert list(keys(Outer)) == [
        ConfigKey("class", "str", True, None, "Needed."),
        ConfigKey("pair", "tuple", False, None, ""),
        ConfigKey("many[].a", "int", False, 1, "An a."),
        ConfigKey("many[].token", "secret", False, None, ""),
        ConfigKey("many[].token_file", "str", False, None, ""),
        ConfigKey("named.*.a", "int", False, 1, "An a."),
        ConfigKey("named.*.token", "secret", False, None, ""),
        ConfigKey("named.*.token_file", "str", False, None, ""),
        ConfigKey("side", "mapping or mapping", False, None, ""),
        ConfigKey("anything", "any", False, None, ""),
        ConfigKey("key", "secret", False, None, ""),
        ConfigKey("mode", '"a" or "b" or int', False, "a", ""),
        ConfigKey("key_file", "str", False, None, "File that contains `key`."),
    ]


def test_each_key_of_the_settings_has_a_description() -> None:
    found = {key.name: key for key in keys(Settings)}
    assert {"id", "server.port", "server.auth", "server.auth.read_file", "agents[].name"} <= {
        *found
    }
    assert all(key.description for key in found.values())
    assert found["server.port"].default == 8080


def test_every_kind_of_type_is_converted() -> None:
    made, problems = convert(
        {
            "class": "x",
            "pair": [1, "b"],
            "many": [{"a": 2}, {"token_file": "its own key: a path"}],
            "named": {"n": {"token": "t"}},
            "side": {"type": "right", "y": 1},
            "anything": {"z": [1]},
            "mode": 5,
        }
    )
    assert problems == []
    assert made.class_ == "x"
    assert made.pair == (1, "b")
    assert made.many == (Inner(a=2), Inner(token_file="its own key: a path"))
    assert made.named["n"].token.value == "t"
    assert made.side == Right(y=1)
    assert made.anything == {"z": [1]}
    assert made.mode == 5


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, 'f: "class" is missing: Needed.'),
        ({"class": "x", "pair": [1, 2]}, "f: pair: [1]: expected str, got int (quote it)"),
        ({"class": "x", "many": [{"a": 1}, 5]}, "f: many[1]: expected mapping, got int"),
        ({"class": "x", "named": {"n": 5}}, "f: named.n: expected mapping, got int"),
        ({"class": "x", "side": {"type": "right", "y": "1"}}, "f: side: y: expected int, got str"),
        ({"class": "x", "mode": "hunter2"}, 'f: mode: expected "a" or "b" or int'),
        ({"class": "x", "key": INVALID}, None),
    ],
)
def test_each_kind_of_problem(value: dict[str, Any], problem: str | None) -> None:
    made, problems = convert(value)
    assert made is INVALID
    assert problems == ([problem] if problem else [])


def test_a_path_is_shown_with_dots_and_brackets() -> None:
    assert dotted(("agents", 0, "models", 1)) == "agents[0].models[1]"
    assert dotted(()) == ""


def test_a_secret_cannot_be_encoded() -> None:
    assert str([Secret("hunter2")]) == "[Secret(…)]"
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("hunter2"))
