"""The types of the document; what their schema says is tested with the schema."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec import Meta, Struct

from telemetron import document
from telemetron.document import Agent, Record, State

RECORDS = [
    one
    for one in vars(document).values()
    if isinstance(one, type) and issubclass(one, Record) and one is not Record
]


def fields() -> Iterator[tuple[str, Any]]:
    for record in RECORDS:
        for name, hint in get_type_hints(record, include_extras=True).items():
            yield f"{record.__name__}.{name}", hint


def marks(hint: Any, name: str) -> list[Any]:
    metas = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Meta)]
    extras = [one.extra_json_schema or {} for one in metas]
    return [extra[f"x-telemetron-{name}"] for extra in extras if f"x-telemetron-{name}" in extra]


def refs(hint: Any) -> list[str]:
    return marks(hint, "ref")


def inner(hint: Any) -> Iterator[Any]:
    """Every type within a hint."""
    yield hint
    for arg in get_args(hint):
        yield from inner(arg)


def test_refs_lead_to_a_field() -> None:
    for name, ref in [(name, ref) for name, hint in fields() for ref in refs(hint)]:
        at: Any = State
        for step in ref.split("."):
            hints = get_type_hints(at, include_extras=True)
            assert step.removesuffix("[]") in hints, f"{name}: {ref} leads nowhere"
            found = inner(hints[step.removesuffix("[]")])
            at = next((t for t in found if isinstance(t, type) and issubclass(t, Struct)), str)


@pytest.mark.parametrize(("name", "hint"), [*fields()])
def test_the_kind_of_a_field_is_one_of_the_kinds(name: str, hint: Any) -> None:
    kinds = [*marks(hint, "kind")]
    assert len(kinds) <= 1
    assert set(kinds) <= set(document.KINDS), name
    values = [*marks(hint, "task-values")]
    assert not values or name in ("Task.stalled", "Agent.status", "Instance.status")


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_frozen_and_invisible_to_the_garbage_collector(record: type[Struct]) -> None:
    assert record.__struct_config__.frozen
    assert not record.__struct_config__.gc


@pytest.mark.parametrize("section", ["findings", "agents", "litellm", "queues", "workload"])
def test_every_entity_begins_with_its_key_and_ends_alike(section: str) -> None:
    hint = get_type_hints(State, include_extras=True)[section]
    entity = next(t for t in inner(hint) if isinstance(t, type) and issubclass(t, Record))
    assert entity.__struct_fields__[0] == "key"
    assert entity.__struct_fields__[-3:] == ("problems", "truncated", "updated_at")


def test_the_fields_are_in_the_published_order() -> None:
    assert " ".join(State.__struct_fields__) == (
        "id schema_version epoch revision started_at changed_at"
        " sources findings agents litellm queues workload"
    )


def test_an_unrequested_section_is_absent() -> None:
    some = msgspec.json.decode(
        b'{"id":"x","schema_version":1,"epoch":"e","revision":1,"sources":[],"queues":[],'
        b'"started_at":"2030-01-01T00:00:00Z","changed_at":"2030-01-01T00:00:00Z"}',
        type=State,
    )
    assert some.agents is msgspec.UNSET
    assert b"agents" not in msgspec.json.encode(some)
    assert Agent.__struct_fields__[1:3] == ("name", "namespace")


def test_the_class_of_an_error_is_called_class() -> None:
    """It is no name for a Python attribute."""
    error = document.ModelError(error_class="RateLimitError", status_code=429)
    shown = msgspec.to_builtins(error)
    assert shown == {"class": "RateLimitError", "status_code": 429, "at": None}
