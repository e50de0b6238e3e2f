"""Components of the OpenAPI document: parameters, headers, problems, and the schemas of answers."""

from typing import Any

from telemetron.answers.brief.budget import (
    LEAST_BYTES_PER_TOKEN,
    LEAST_TOKENS,
    MOST_BYTES_PER_TOKEN,
    MOST_TOKENS,
)
from telemetron.document import KINDS
from telemetron.history.delta import MEASURES
from telemetron.http import TITLES
from telemetron.search import MAX_LOOK
from telemetron.store.section import SECTIONS

Json = dict[str, Any]


def ref(kind: str, name: str) -> Json:
    """Return a reference to a component of this kind: `schemas`, `responses` or `headers`."""
    return {"$ref": f"#/components/{kind}/{name}"}


def problems() -> Json:
    """Return the response of each status; the operations of collectors refer to it too."""
    return {str(status): _problem(status, title) for status, title in TITLES.items()}


def _problem(status: int, title: str) -> Json:
    example = {"type": "about:blank", "title": title, "status": status, "detail": "What to do."}
    content = {"schema": ref("schemas", "HttpProblem"), "example": example}
    return {
        "description": title,
        "content": {"application/problem+json": content},
        "headers": {name: ref("headers", name) for name in PROBLEM_HEADERS.get(status, ())},
    }


def _query(name: str, schema: Json, description: str, **more: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema} | more


def _path(name: str, schema: Json, description: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
    }


# values

TEXT = {"type": "string"}
# At most a minute, with at most six digits before and after the point, as the server accepts it.
_DECIMALS, _ZEROS = r"(\.[0-9]{1,6})?", r"(\.0{1,6})?"
DURATION = (
    rf"^(0{{0,4}}([0-5]?[0-9]{_DECIMALS}|60{_ZEROS})s?"
    rf"|0?([0-5]?[0-9]{{1,4}}{_DECIMALS}|60000{_ZEROS})ms"
    rf"|0{{0,5}}(0{_DECIMALS}|1{_ZEROS})m)$"
)
_EPOCH_REVISION = r"[0-9a-f]{1,64}\.[0-9]{1,18}(-[0-9]{1,9})?"
_POINT = {
    "type": "string",
    "pattern": rf"^({_EPOCH_REVISION}"
    rf'|(W/)?"{_EPOCH_REVISION}(-gzip)?"'
    r"|[0-9]{1,6}(\.[0-9]{1,6})?[smhd]"
    r"|[12][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)"
    r"|(0[13578]|1[02])-31)T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))$",
}
_NAME = {"type": "string", "enum": ["sources", *SECTIONS]}
_NAMES = {"type": "array", "items": _NAME, "minItems": 1}

# parameters of the state

SECTION = _path("section", _NAME, "The name of the section.")
KEY = _path(
    "key",
    {"type": "string", "minLength": 1},
    "The `key` of the entity. Its slashes may be percent-encoded (`%2F`) or not.",
)
SHOWN_SECTIONS = _query(
    "sections",
    _NAMES,
    "Return only these sections and the sources; the others are absent.",
    style="form",
    explode=False,
)
SCRAPED_SECTIONS = _query(
    "sections",
    _NAMES,
    "Return only the metrics of these sections.",
    style="form",
    explode=False,
)
AT = _query(
    "at",
    _POINT,
    "Return the past: a place, a time (RFC 3339), or how long ago, as `5m`. Measures have their"
    " last recorded values. The past does not change, so a long poll of it never waits for news.",
)
SINCE = _query(
    "since",
    _POINT,
    "A place from an ETag, a time (RFC 3339), or how long ago, as `5m`: return the state if it is"
    " newer, else 304. An unknown place is answered at once.",
)
WAIT = _query(
    "wait",
    {"type": "string", "pattern": DURATION},
    "How long to wait for a change after `since`, as `30s`, `500ms`, `1m`; at most a minute."
    " Without `since` there is nothing to wait for.",
)
WAKING_MEASURES = _query(
    "measures",
    {"type": "boolean"},
    "Whether a change of a measure after `since` counts as a change.",
)
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags that the client has; 304 if one of them is still valid.",
    "schema": TEXT,
}

# parameters of the history

CHANGED_SINCE = _query(
    "since",
    _POINT,
    "A place, a time (RFC 3339), or how long ago: `30s`, `5m`, `2h`, `1d`. A time before the kept"
    " history means the oldest place, and `complete` is false. Without it a stream begins now, and"
    " a single answer at the oldest place of this start of the server.",
)
UNTIL = _query(
    "until", _POINT, "The end, in the forms of `since`; now by default. Not for streams."
)
CHANGED_SECTIONS = _query(
    "sections", _NAMES, "Only changes of these sections.", style="form", explode=False
)
CHANGED_KEY = _query(
    "key",
    TEXT,
    "Only changes of entities with this key; 404 if no entity has it, now or in the kept history.",
)
SHOWN_KINDS = _query(
    "kinds",
    {"type": "array", "items": {"type": "string", "enum": [*KINDS, "all"]}, "minItems": 1},
    "Only changes of these kinds (`x-telemetron-kind` in the schema). Without it, all, but an agent"
    " has counts in place of the changes of its tasks.",
    style="form",
    explode=False,
)
SHOWN_MEASURES = _query(
    "measures",
    {"type": "string", "enum": list(MEASURES)},
    "Which measures count: `levels` (default), such as the depth of a queue; `all`: also samples,"
    " such as CPU.",
)
_COUNT = {"type": "integer", "minimum": 1, "maximum": 1000}
LIMIT = _query("limit", _COUNT, "The largest number of entities; 100 by default.")
LIFE_LIMIT = _query("limit", _COUNT, "The largest number of changes; 20 by default.")
AFTER = _query(
    "after",
    {"type": "string", "pattern": rf"^({'|'.join(['sources', *SECTIONS])})/"},
    "Continue after this entity, `SECTION/KEY`; see `next`.",
)
BEFORE = _query("before", _POINT, "Only changes before this place or time.")

# parameters of the brief

MAX_TOKENS = _query(
    "max_tokens",
    {"type": "integer", "minimum": LEAST_TOKENS, "maximum": MOST_TOKENS},
    "The most tokens that the answer may have, counted as `ceil(bytes / bytes_per_token)`; 2,000"
    " by default.",
)
ABOUT = _query(
    "about",
    {"type": "string", "minLength": 1, "maxLength": 1024},
    "What the brief is about: a key, a name as the brief shows it, or the id of a task, an instance"
    " or a pod; 404 if nothing has it.",
)
BYTES_PER_TOKEN = _query(
    "bytes_per_token",
    {
        "type": "number",
        "minimum": LEAST_BYTES_PER_TOKEN,
        "maximum": MOST_BYTES_PER_TOKEN,
    },
    "Bytes that count as one token; 1.8 by default, a lower bound for the tokenizers of today.",
)

# parameters of a task

TASK = _path(
    "id",
    {"type": "string", "minLength": 1},
    "The task's id, or its record as `QUEUE/PARTITION/OFFSET`. Slashes may be percent-encoded or"
    " not. A longer id is cut to 256 characters, as ids are in the document.",
)
RECORD = [
    _path("queue", {"type": "string", "minLength": 1}, "Name of the queue (topic)."),
    _path(
        "partition",
        {"type": "string", "minLength": 1},
        "Its partition, a number; else the whole is an id.",
    ),
    _path(
        "offset",
        {"type": "string", "minLength": 1},
        "The record's offset, a number; else the whole is an id.",
    ),
]
LOOK = _query(
    "look",
    {"type": "integer", "minimum": 0, "maximum": MAX_LOOK},
    "How many pending records to search for the id in queues whose lists are cut, if the task is"
    " not found otherwise; 5,000 by default.",
)

VERBOSE = _query(
    "verbose",
    {"type": "boolean"},
    "List each source; needs the read token. `?verbose` is enough.",
    allowEmptyValue=True,
)

# headers

HEADERS: Json = {
    "ETag": {
        "description": 'The place of the answer: `W/"EPOCH.REVISION"`.',
        "required": True,
        "schema": {"type": "string", "pattern": '^W/"[0-9a-f]+\\.[0-9]+(-[0-9]+)?"$'},
    },
    "Cache-Control": {
        "description": "Caches must revalidate each time.",
        "required": True,
        "schema": {"type": "string", "const": "no-cache"},
    },
    "Vary": {
        "description": "The request header that the answer depends on.",
        "required": True,
        "schema": {"type": "string", "const": "Accept-Encoding"},
    },
    "Content-Encoding": {
        "description": "`gzip` if the client accepts it and the answer is large enough.",
        "schema": {"type": "string", "const": "gzip"},
    },
    "Allow": {"description": "Methods of the path.", "required": True, "schema": TEXT},
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "The scheme to use.",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer "},
    },
}
PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

# schemas

_PLACE = {"description": "A place, opaque to readers.", "type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_PAGED: Json = {
    "truncated": {"description": "Whether there are more changes.", "type": "boolean"},
    "next": {
        "description": "The path and query of the rest; null if there is none.",
        "type": ["string", "null"],
    },
}
_LISTED = {"type": "array", "items": {"$ref": "#/components/schemas/Change"}}
_PROBLEM = {
    "title": "HttpProblem",
    "description": "An error and what to do about it (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"description": "Always `about:blank`.", "type": "string"},
        "title": {"description": "The status in words.", "type": "string"},
        "status": {"description": "The HTTP status.", "type": "integer"},
        "detail": {"description": "What to do, in one line.", "type": "string"},
        "nearest": {
            "description": "Keys that may have been meant.",
            "type": "array",
            "items": {"type": "string"},
        },
        "oldest": {
            "description": "The oldest place in the kept history.",
            "type": ["string", "null"],
        },
        "path": {"description": "JSON path of the invalid value.", "type": "string"},
        "limit": {"description": "The limit that was exceeded.", "type": "integer"},
        "namespaces": {
            "description": "Namespaces to choose from.",
            "type": "array",
            "items": {"type": "string"},
        },
    },
    "required": ["type", "title", "status", "detail"],
}
_CHANGE: Json = {
    "title": "Change",
    "description": "A change of one entity. In a life it has `place`, else `section` and `key`.",
    "type": "object",
    "properties": {
        "place": _PLACE,
        "section": {"description": "The entity's section.", "type": "string"},
        "key": {"description": "The entity's key.", "type": "string"},
        "change": {"description": "The kind.", "enum": ["added", "removed", "changed"]},
        "at": {
            "description": "When the entity was added or removed, or when the last state in"
            " `fields` changed (without any, the last measure); null: unknown.",
            "type": ["string", "null"],
        },
        "measured_at": {
            "description": "When the last measure in `fields` changed; null: there is none, or"
            " unknown.",
            "type": ["string", "null"],
        },
        "fields": {
            "description": "By path, items by their identity: `old` and `new`; for an item of a"
            " list `added` or `removed`.",
            "type": "object",
            "additionalProperties": {"type": "object", "minProperties": 1},
        },
        "tasks": {
            "description": "The tasks of an agent, if `kinds` was not given: how many started,"
            " ended, failed and changed; `unknown`: ended ones without a known outcome.",
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "old": {"description": "The entity that was removed.", "type": "object"},
        "new": {"description": "The entity that was added.", "type": "object"},
    },
    "required": ["change", "at", "measured_at"],
}
_CHANGES: Json = {
    "title": "Changes",
    "description": "The differences between two places.",
    "type": "object",
    "properties": {
        "from": _PLACE,
        "from_at": _TIME,
        "to": _PLACE,
        "to_at": _TIME,
        "complete": {
            "description": "false: Telemetron was restarted in between and does not know the"
            " changes during that gap; or the history of the given time is no longer kept, and"
            " `from` is the oldest place.",
            "type": "boolean",
        },
        "starting": {
            "description": "After a restart in between: sources that had not observed all of their"
            " part at `to`; removals in their sections are left out.",
            "type": "array",
            "items": {"type": "string"},
        },
        "changes": _LISTED,
        **_PAGED,
    },
    "required": ["from", "from_at", "to", "to_at", "complete", "starting", "changes", *_PAGED],
}
_LIFE: Json = {
    "title": "Life",
    "description": "The changes of one entity, newest first.",
    "type": "object",
    "properties": {
        "section": {"type": "string"},
        "key": {"type": "string"},
        "present": {"description": "Whether the entity is in the state now.", "type": "boolean"},
        "oldest": _PLACE,
        "complete": {
            "description": "Whether no change since then is missing.",
            "type": "boolean",
        },
        "changes": _LISTED,
        **_PAGED,
    },
    "required": ["section", "key", "present", "oldest", "complete", "changes", *_PAGED],
}
_TABLE: Json = {
    "type": "object",
    "properties": {
        "columns": {"type": "array", "items": TEXT},
        "rows": {
            "description": "Each row has a value for each column; nulls at its end are left out.",
            "type": "array",
            "items": {"type": "array"},
        },
    },
    "required": ["columns", "rows"],
}
_TABLES = ["sources", "evidence", "effects", "changes", *SECTIONS]
_BRIEF: Json = {
    "title": "Brief",
    "description": "What matters now. A member that has nothing to say is left out.",
    "type": "object",
    "properties": {
        "system": {"description": "The id of the system.", "type": "string"},
        "place": _PLACE,
        "at": _TIME | {"description": "When this revision was published."},
        "about": {
            "description": "The keys of its subjects.",
            "type": "array",
            "items": TEXT,
        },
        "note": {"description": "That the name in `about` is ambiguous.", "type": "string"},
        "verdict": {
            "description": "Whether the system is healthy, or how many findings there are.",
            "type": "string",
        },
        "not_observed": {
            "description": "By source: why it, or a part of it, was not observed.",
            "type": "object",
            "additionalProperties": TEXT,
        },
        "unknown": {"description": "The part that could not be asked now.", "type": "string"},
        "legend": {"description": "How to read it.", "type": "string"},
        "well": {
            "description": "By section: how many entities are well, as `10 of 12` unless all are.",
            "type": "object",
            "additionalProperties": {"type": ["integer", "string"]},
        },
        **dict.fromkeys(_TABLES, _TABLE),
        "details": {
            "description": "Whole entities or items, without nulls and empty lists.",
            "type": "object",
            "additionalProperties": {"type": "object"},
        },
        "cut": {
            "description": "By table: how many rows are shown, and how many there are; `rows` is"
            " the sum of all tables.",
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": {"type": "integer"},
                "minItems": 2,
                "maxItems": 2,
            },
        },
        "next": {"description": "The request that shows the rest.", "type": "string"},
    },
    "required": ["place", "at", "verdict"],
}
_WORD = {"enum": ["waiting", "active", "ended", "lost", "unknown"]}
_RELATIVE = {
    "type": "object",
    "properties": {
        "id": {"description": "The task's id.", "type": "string", "x-telemetron-untrusted": True},
        "where": {"description": "Its place, in one word.", **_WORD},
    },
    "required": ["id", "where"],
}


def _items(description: str, items: Json = {"type": "object"}) -> Json:  # noqa: B006
    return {"description": description, "type": "array", "items": items, "minItems": 1}


_TASK: Json = {
    "title": "Whereabouts",
    "description": "The place of one task. Members without a value are left out.",
    "type": "object",
    "properties": {
        "id": {"description": "The id.", "type": "string", "x-telemetron-untrusted": True},
        "where": {"description": "The one word; `active` comes before the others.", **_WORD},
        "several": {
            "description": "How many tasks have this id, if more than one.",
            "type": "integer",
        },
        "note": {"description": "How to read the texts of others.", "type": "string"},
        "active": _items("The runs that go on: agent, instance, step, waits, pod."),
        "lost": _items("The last known runs of instances that are silent or gone."),
        "waiting": _items("The pending records, once for each consumer group."),
        "consumed": _items("Records of it that a consumer group has committed."),
        "ended": _items("The outcomes, newest first; without `status`: not reported."),
        "parents": _items("The tasks that caused it.", _RELATIVE),
        "children": _items("The tasks that it caused.", _RELATIVE),
        "blocked_by": _items("What it waits for, and what that waits for; `task`: whose wait."),
        "findings": _items("The findings that concern it, by rank."),
        "timeline": _items("Its steps, newest last, at most 20."),
        "searched": _items("How far each partition was searched for the id: `from`, `to`, `end`."),
        "unchecked": _items("If `unknown`: what could not be looked at (`of`), and `why`."),
        "nearest": _items("If `unknown`: similar ids.", {"type": "string"}),
        "place": _PLACE,
        "truncated": {
            "description": "Full count of each list that was cut; null: it was not counted.",
            "type": "object",
        },
    },
    "required": ["id", "where", "note", "place"],
}
SCHEMAS = {
    "Brief": _BRIEF,
    "HttpProblem": _PROBLEM,
    "Change": _CHANGE,
    "Changes": _CHANGES,
    "Life": _LIFE,
    "Whereabouts": _TASK,
}
