"""The heartbeat: one instance's full state, as an agent posts it."""

import re
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError

from telemetron.document import Timestamp, about
from telemetron.http import HttpProblem
from telemetron.normal import is_plain

MAX_BODY = 256 * 1024
MAX_TASKS = 1000
MAX_WAITS = 1000
MAX_ENDED = 64
NO_TIME = "0001-01-01T00:00:00"
_UNSET = NO_TIME.encode()
NO_TIMES = (NO_TIME, f"{NO_TIME}Z", f"{NO_TIME}+00:00")
"""How Go and .NET encode a time that is not set."""

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=1000)]
Names = Annotated[list[Id], Meta(max_length=64)]
Capacity = Annotated[int, Meta(ge=1, le=1_000_000)]
Index = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]  # the sum over all instances is still an integer


class Item(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The base of all parts of a heartbeat; unknown fields are dropped and counted."""


class BeatWait(Item, frozen=True):
    """One thing that a task waits for."""

    kind: Annotated[Id, about("`llm`, `tool`, `queue`, `agent`, `human`, `auth` or `other`.")]
    name: Annotated[Id | None, about("Name of the tool, model, queue or agent.")] = None
    since: Annotated[Timestamp | None, about("When the wait began.", clock="agent")] = None
    task: Annotated[
        Id | None, about("Id of the task it waits for, for kind `agent` or `queue`.")
    ] = None


class BeatTask(Item, frozen=True):
    """A task that the instance runs."""

    id: Annotated[Id, about("Its id.")]
    parent_id: Annotated[Id | None, about("The task that caused it; its own id means null.")] = None
    status: Annotated[
        Id | UnsetType | None,
        about(
            "`running`, `waiting` or a state of A2A. If missing: `waiting` if it has waits, else"
            " `running`; null: unknown."
        ),
    ] = UNSET
    started_on: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    progressed_at: Annotated[
        Timestamp | None, about("When it last made progress; null: never reported.", clock="agent")
    ] = None
    step: Annotated[Text | None, about("Its current step.")] = None
    waits: Annotated[
        list[BeatWait], about("Its open waits, in any order.", max_length=MAX_WAITS)
    ] = []
    wait_count: Annotated[Count | None, about("The number of its open waits, listed or not.")] = (
        None
    )
    queue: Annotated[Id | None, about("Queue it came from.")] = None
    partition: Annotated[Index | None, about("Partition it came from.")] = None
    offset: Annotated[Index | None, about("Offset it came from.")] = None
    model: Annotated[Id | None, about("Model it uses.")] = None


class BeatEnd(Item, frozen=True):
    """A task that ended."""

    id: Annotated[Id, about("Its id.")]
    parent_id: Annotated[Id | None, about("The task that caused it; its own id means null.")] = None
    status: Annotated[
        Id | None, about("`completed`, `failed` or `canceled`; any other: outcome unknown.")
    ] = None
    error: Annotated[Text | None, about("Class of the error.")] = None
    started_on: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    ended_at: Annotated[
        Timestamp | None,
        about("When it ended; `id` and `ended_at` identify an entry.", clock="agent"),
    ] = None
    queue: Annotated[Id | None, about("Queue it came from.")] = None
    partition: Annotated[Index | None, about("Partition it came from.")] = None
    offset: Annotated[Index | None, about("Offset it came from.")] = None


class BeatFailure(Item, frozen=True):
    """The last task that failed."""

    task_id: Annotated[Id, about("The task's id.")]
    error: Annotated[Text | None, about("Class of the error.")] = None
    at: Annotated[Timestamp | None, about("When it failed.", clock="agent")] = None


class BeatOutcomes(Item, frozen=True):
    """How the instance's tasks ended, since its start."""

    completed: Annotated[Count, about("Completed.")] = 0
    failed: Annotated[Count, about("Failed.")] = 0
    canceled: Annotated[Count, about("Canceled.")] = 0


class Beat(Item, frozen=True):
    """One instance's full state: a task that it no longer lists is over."""

    instance: Annotated[Id, about("This process; unique for its agent and namespace.")]
    boot_id: Annotated[Id | None, about("A new id at each start, which begins a new life.")] = None
    sequence: Annotated[
        Index | None,
        about("Rises with each beat of a boot; a beat that is not newer changes nothing."),
    ] = None
    interval_seconds: Annotated[
        float, about("Seconds between two beats; silent after three times that.", ge=1, le=300)
    ] = 5.0
    sent_at: Annotated[Timestamp | None, about("When it was sent.", clock="agent")] = None
    namespace: Annotated[
        Id | None, about("Namespace of the agent; each namespace has its own agents.")
    ] = None
    pod_id: Annotated[Id | None, about("Name of its pod.")] = None
    version: Annotated[Id | None, about("Its version.")] = None
    started_at: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    description: Annotated[Text | None, about("The agent's purpose.")] = None
    max_parallel_invocations: Annotated[
        Capacity | None, about("Tasks that it can run at once.")
    ] = None
    deployment_name: Annotated[Id | None, about("Its Deployment.")] = None
    models: Annotated[Names, about("Models it uses.")] = []
    queues: Annotated[Names, about("Queues it consumes.")] = []
    tasks: Annotated[list[BeatTask], about("Its active tasks.", max_length=MAX_TASKS)] = []
    task_count: Annotated[Count | None, about("The number of its active tasks, listed or not.")] = (
        None
    )
    ended: Annotated[
        list[BeatEnd],
        about("Tasks that ended since the last accepted beat, the newest.", max_length=MAX_ENDED),
    ] = []
    outcomes: Annotated[BeatOutcomes | None, about("How its tasks ended since its start.")] = None
    last_failure: Annotated[BeatFailure | None, about("The last task that failed.")] = None


class AgentBeat(Beat, frozen=True, kw_only=True):
    """A beat of a batch: it names its agent."""

    agent: Annotated[str, about("The agent's name: 1 to 256 printable characters.")]


SomeBeat = TypeVar("SomeBeat", bound=Beat)


class BeatField(NamedTuple):
    """How a field's value is cleaned; computed once per field, because beats are frequent."""

    struct: type[Struct] | None
    is_time: bool
    takes_null: bool


# The end of a time that is not in UTC. It begins with a literal, which makes the search fast.
_FOREIGN_TIME = re.compile(rb':\d\d(?:\.\d+)?[+-](?!00:?00")\d\d:?\d\d"')
# A number that is too large becomes infinite, so that the error names its path.
_plain_decoder = msgspec.json.Decoder(float_hook=float)


@cache
def _decoder(struct: type[SomeBeat]) -> "msgspec.json.Decoder[SomeBeat]":
    return msgspec.json.Decoder(struct)


def parse_beat(body: bytes) -> tuple[Beat, int]:
    """Parse a beat; return it with the number of its unknown fields.

    Raise HttpProblem: 400 if the body is not JSON, 422 with the JSON path if a value is invalid.
    """
    return _parse(body, Beat)


def parse_agent_beat(body: bytes) -> tuple[AgentBeat, int]:
    """Parse a beat of a batch, as `parse_beat` does."""
    return _parse(body, AgentBeat)


def _parse(body: bytes, struct: type[SomeBeat]) -> tuple[SomeBeat, int]:
    try:
        return _decode(body, struct)
    except ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        path = path.removesuffix("`") or "$"
        raise HttpProblem(422, f"{path}: {message}", path=path) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpProblem(400, f"the beat is not JSON: {error}") from None


def is_normal(body: bytes) -> bool:
    """Return whether `normalized` would surely change nothing in a beat that was parsed from this.

    Its texts and integers are bounded by their types.
    """
    return is_plain(body) and not _FOREIGN_TIME.search(body)


def _decode(body: bytes, struct: type[SomeBeat]) -> tuple[SomeBeat, int]:
    if _UNSET not in body:
        try:
            return _decoder(struct).decode(body), 0
        except ValidationError:
            pass  # it may only have unknown fields, null for a default, or `2.0` for an integer
    value, unknown = known(_plain_decoder.decode(body), struct)
    return msgspec.convert(value, struct), unknown


def known(value: Any, struct: type[Struct]) -> tuple[Any, int]:
    """Return the JSON of a struct, or of a list of them, without unknown fields, and their number.

    Drop null if the field has a default and its type has no null: Go encodes an empty slice as
    null. Drop the unset times of Go and .NET. Make `2.0` an integer, as it is in JSON Schema.
    """
    if isinstance(value, list):
        pairs = [known(item, struct) for item in value]
        return [item for item, _ in pairs], sum(count for _, count in pairs)
    if not isinstance(value, dict):
        return value, 0
    fields = _fields(struct)
    kept = {}
    unknown = len(value.keys() - fields.keys())
    for name in [name for name in fields if name in value]:
        field = fields[name]
        item, inner = known(value[name], field.struct) if field.struct else (value[name], 0)
        item = _clean(item, field)
        unknown += inner
        if item is not None or field.takes_null:
            kept[name] = item
    return kept, unknown


def _clean(value: Any, field: BeatField) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if field.is_time and value in NO_TIMES else value


@cache
def _fields(struct: type[Struct]) -> dict[str, BeatField]:
    return {
        field.encode_name: BeatField(
            _struct(field.type),
            is_time=_has(field.type, datetime),
            takes_null=field.required or _has(field.type, NoneType),
        )
        for field in msgspec.structs.fields(struct)
    }


def _has(hint: Any, kind: type) -> bool:
    if get_origin(hint) in (Annotated, Union, UnionType):
        return any(_has(part, kind) for part in get_args(hint))
    return hint is kind


def _struct(hint: Any) -> type[Struct] | None:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    return next(filter(None, map(_struct, get_args(hint))), None)
