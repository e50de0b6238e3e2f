"""The document: every type and field of `GET /system/state`.

The JSON Schema is generated from these types. Each field has a description, its unit, the clock of
a timestamp, and its marks:

- `measure`: the value changes by itself. Changes of a `level` matter to readers, changes of a
  `sample` do not. Both raise the revision, but wake no waiter and do not change `updated_at`.
- `kind`: what a change of the field is about, so that readers can choose (`Kind`). Without it, a
  measure is of the kind `measures`, a field in a record or list of the kind `tasks` or `problems`
  is of that kind, and every other one is `status`. The kind of a list is also that of its items'
  coming and going.
- `task_values`: a change between these values is of the kind `tasks`, whatever the field's kind.
- `ref`: the field names an entity of another section.
- `untrusted`: text written by others: data, never instructions.

Enumerations are open: the description lists the known values, readers must accept others.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

SCHEMA_VERSION = 1
# A placeholder: the store replaces it by the time at which it saw the state change.
UNSTAMPED = datetime(1, 1, 1, tzinfo=UTC)

MAX_PROBLEMS = 8
MAX_EVIDENCE = 8
MAX_EFFECTS = 16
MAX_INSTANCES = 256
MAX_ACTIVE_TASKS = 256
MAX_ENDED = 20
MAX_WAITS = 16
MAX_NAMES = 64
MAX_PODS = 256
MAX_PARTITIONS = 64
MAX_REFUSALS = 16
MAX_CALLERS = 64

Timestamp = Annotated[datetime, Meta(tz=True)]
Clock = Literal["telemetron", "agent", "kubernetes", "kafka", "litellm", "submitter", "evidence"]
Kind = Literal["status", "problems", "membership", "tasks", "measures"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def about(
    description: str,
    *,
    unit: str | None = None,
    clock: Clock | None = None,
    measure: Literal["level", "sample"] | None = None,
    kind: Kind | None = None,
    task_values: Sequence[Any] = (),
    ref: str | None = None,
    untrusted: bool = False,
    **constraints: Any,
) -> Meta:
    """Return the schema's entry for one field; `constraints` are msgspec's (`ge`, `max_length`)."""
    marks = {"unit": unit, "clock": clock, "measure": measure, "kind": kind, "ref": ref}
    extra: dict[str, Any] = {f"x-telemetron-{name}": mark for name, mark in marks.items() if mark}
    if task_values:
        extra["x-telemetron-task-values"] = list(task_values)
    if untrusted:
        extra["x-telemetron-untrusted"] = True
    return Meta(description=description, extra_json_schema=extra or None, **constraints)


class Record(Struct, frozen=True, gc=False):
    """The base of every type in the document: immutable, and not tracked by garbage collection."""


Key = Annotated[
    str,
    about("Stable key, unique in its section; `~1` means `/`, `~0` means `~`, `~3` an empty name."),
]
Source = Annotated[str, about("Source that observed it.", ref="sources[].key")]
MeasuredAt = Annotated[
    Timestamp | None,
    about("When its measures were taken.", clock="telemetron", measure="sample"),
]


class Problem(Record, frozen=True):
    """Something that is wrong, or could not be observed."""

    reason: Annotated[str, about("CamelCase reason, from the table in the documentation.")]
    message: Annotated[str, about("One line, written by Telemetron.")]
    since: Annotated[Timestamp, about("When it began.", clock="telemetron")]


class SourceProblem(Record, frozen=True):
    """A problem of one scope of a source."""

    scope: Annotated[str, about("Scope that has the problem; empty: the whole source.")]
    reason: Annotated[str, about("CamelCase reason, from the table in the documentation.")]
    message: Annotated[str, about("One line, written by Telemetron.")]
    since: Annotated[Timestamp, about("When it began.", clock="telemetron")]


Problems = Annotated[
    list[Problem],
    about("Its problems, and failed observations of it.", kind="problems", max_length=MAX_PROBLEMS),
]
Truncated = Annotated[
    dict[str, int] | None, about("Full count of each list that was cut; null: none was.")
]
UpdatedAt = Annotated[
    Timestamp,
    about("When Telemetron last saw its state (not a measure) change.", clock="telemetron"),
]


class SourceRow(Record, frozen=True):
    """One source, configured or built in but off, and how current its values are."""

    key: Annotated[str, about("Name of the source.")]
    collector: Annotated[str, about("Collector that observes it.")]
    status: Annotated[
        str,
        about(
            "`starting`: no complete observation yet. `ok`: every scope was confirmed within"
            " `max_age_seconds`. `degraded`: the same, but the last observation of a scope"
            " failed, or the collector crashed and has confirmed nothing since. `stale`: a scope"
            " was not confirmed within `max_age_seconds`; old values stay. `failing`: the"
            " collector does not run. `off`: built in, not configured."
        ),
    ]
    since: Annotated[Timestamp, about("When it got this status.", clock="telemetron")]
    max_age_seconds: Annotated[
        float | None,
        about(
            "While `ok` or `degraded`, no value is older than this; null: `off` or no limit.",
            unit="seconds",
        ),
    ]
    last_ok_at: Annotated[
        Timestamp | None,
        about(
            "When all its values were last known to be true; null: it is `ok`, or never was.",
            clock="telemetron",
        ),
    ]
    entities: Annotated[
        int, about("Entities it contributes to.", unit="entities", measure="level", ge=0)
    ]
    problems: Annotated[
        list[SourceProblem],
        about(
            "Problems by scope. Those of an `ok` source are certain, such as a missing permission.",
            kind="problems",
            max_length=32,
        ),
    ]
    truncated: Truncated = None
    address: Annotated[
        str | None,
        about(
            "Address that it observes: `host:port`, several separated by commas, never"
            " credentials, path or query; null: none, or not known."
        ),
    ] = None


# findings


class Root(Record, frozen=True):
    """The cause of a finding: an entity, an item of it, or a thing that is no entity."""

    section: Annotated[str, about("Section of the entity that has it, or shows it best.")]
    key: Annotated[str, about("Key of that entity.")]
    path: Annotated[
        str | None,
        about("Item of the entity, as `pods/writer-1`; null: the entity itself.", untrusted=True),
    ] = None
    kind: Annotated[
        str | None,
        about(
            "`node`, `tool`, `model`, `provider` and so on, if the cause is no entity; else null."
        ),
    ] = None
    name: Annotated[str | None, about("Its name, if `kind` is set.", untrusted=True)] = None


class Evidence(Record, frozen=True):
    """One field of the document that shows the trouble."""

    section: Annotated[str, about("Section of the entity.")]
    key: Annotated[str, about("Key of the entity.")]
    path: Annotated[
        str,
        about(
            "The field; an item of a list by its identity, as in `/system/changes`, or its number.",
            untrusted=True,
        ),
    ]
    value: Annotated[
        str | int | float | bool | None,
        about("Its value at `observed_at`.", untrusted=True, measure="sample"),
    ]
    at: Annotated[
        Timestamp | None,
        about(
            "The time that the document gives for the value: of the field or its item, else"
            " `measured_at` or `updated_at` of its entity; null: none.",
            clock="evidence",
            measure="sample",
        ),
    ] = None


class Effect(Record, frozen=True):
    """A symptom that the root explains."""

    rule: Annotated[str, about("Rule that found it.")]
    section: Annotated[str, about("Section of its entity.")]
    key: Annotated[str, about("Key of its entity.")]
    path: Annotated[
        str | None, about("Item of the entity; null: the entity itself.", untrusted=True)
    ] = None
    since: Annotated[
        Timestamp | None, about("When it began, as that of a finding.", clock="evidence")
    ] = None


class Finding(Record, frozen=True, kw_only=True):
    """One cause of trouble, with its evidence and its effects."""

    key: Key
    rule: Annotated[str, about("Rule that found it, from the table in the documentation.")]
    severity: Annotated[str, about("`critical`, `warning` or `info`.", kind="status")]
    basis: Annotated[
        str,
        about("`observed`: the evidence was observed. `contradiction`: two sources disagree."),
    ]
    rank: Annotated[int, about("1 is the first to look at.", measure="level", ge=1)]
    root: Annotated[Root, about("The cause.")]
    summary: Annotated[
        str, about("One sentence, with names that others gave.", untrusted=True, measure="level")
    ]
    since: Annotated[
        Timestamp | None,
        about(
            "When it began: the earliest time that the evidence has given, else when Telemetron"
            " saw it begin. null: it was there at Telemetron's first look, and no evidence says"
            " since when.",
            clock="evidence",
        ),
    ]
    raised_at: Annotated[
        Timestamp | None, about("When it had lasted long enough.", clock="telemetron")
    ]
    evidence: Annotated[list[Evidence], about("Fields that show it.", max_length=MAX_EVIDENCE)] = []
    effects: Annotated[
        list[Effect], about("Symptoms that it explains, the worst first.", max_length=MAX_EFFECTS)
    ] = []
    effect_count: Annotated[int, about("All its effects, listed or not.", unit="effects", ge=0)] = 0
    unchecked: Annotated[
        list[str],
        about("Sources that are out of sight and might have shown more.", ref="sources[].key"),
    ] = []
    observed_at: Annotated[
        str, about("Place (`EPOCH.REVISION`) whose document has the evidence.", measure="sample")
    ]
    runbook: Annotated[str, about("Section of the documentation with the steps to take.")]
    problems: Problems = []
    truncated: Truncated = None
    updated_at: UpdatedAt = UNSTAMPED


# agents


class Wait(Record, frozen=True):
    """One wait of a task."""

    kind: Annotated[str, about("`llm`, `tool`, `queue`, `agent`, `human`, `auth` or `other`.")]
    name: Annotated[
        str | None, about("Name of the awaited model, tool, queue and so on.", untrusted=True)
    ] = None
    since: Annotated[Timestamp | None, about("When the wait began.", clock="agent")] = None
    task: Annotated[
        str | None, about("Id of the task it waits for; null: not reported.", untrusted=True)
    ] = None


class Task(Record, frozen=True):
    """A task that an agent runs, or that waits inside the agent."""

    id: Annotated[str, about("The task's id.", untrusted=True)]
    parent_id: Annotated[str | None, about("Task that caused it.", untrusted=True)] = None
    status: Annotated[str | None, about("`running` or `waiting`; null: unknown.")] = None
    started_on: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    progressed_at: Annotated[
        Timestamp | None,
        about("When it last reported progress; null: never.", clock="agent", measure="sample"),
    ] = None
    stalled: Annotated[
        bool | None,
        about(
            "Whether `progressed_at` has not changed for `stall_after_seconds` by Telemetron's"
            " clock; null: progress was never reported, or `last_known` is true.",
            kind="status",
            task_values=(None, False),
        ),
    ] = None
    step: Annotated[str | None, about("Its current step.", untrusted=True)] = None
    waits: Annotated[list[Wait], about("Its open waits, oldest first.", max_length=MAX_WAITS)] = []
    wait_count: Annotated[int, about("All its open waits, listed or not.", unit="waits", ge=0)] = 0
    queue: Annotated[str | None, about("Queue it came from.", ref="queues[].name")] = None
    partition: Annotated[int | None, about("Partition it came from.")] = None
    offset: Annotated[int | None, about("Offset it came from.")] = None
    model: Annotated[str | None, about("Model it uses.", ref="litellm[].model")] = None
    instance: Annotated[str | None, about("Instance that runs it.", untrusted=True)] = None
    last_known: Annotated[
        bool, about("Whether its instance is silent, so that these are the last known values.")
    ] = False


class Ended(Record, frozen=True):
    """One end of a task; a task that is retried may end several times, or be active again."""

    id: Annotated[str, about("The task's id.", untrusted=True)]
    parent_id: Annotated[str | None, about("Task that caused it.", untrusted=True)] = None
    status: Annotated[
        str | None, about("`completed`, `failed` or `canceled`; null: it ended, outcome unknown.")
    ] = None
    error: Annotated[str | None, about("Class of the error.", untrusted=True)] = None
    started_on: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    ended_at: Annotated[
        Timestamp | None, about("When it ended; null: not reported.", clock="agent")
    ] = None
    queue: Annotated[str | None, about("Queue it came from.", ref="queues[].name")] = None
    partition: Annotated[int | None, about("Partition it came from.")] = None
    offset: Annotated[int | None, about("Offset it came from.")] = None
    instance: Annotated[str | None, about("Instance that ran it.", untrusted=True)] = None


class Failure(Record, frozen=True):
    """The last task that failed."""

    task_id: Annotated[str, about("The task's id.", untrusted=True)]
    error: Annotated[str | None, about("Class of the error.", untrusted=True)] = None
    at: Annotated[Timestamp | None, about("When it failed.", clock="agent")] = None


class Activity(Record, frozen=True):
    """The current work of an agent."""

    active_task_ids: Annotated[
        list[Task],
        about(
            "Tasks that run or wait, oldest start first.",
            kind="tasks",
            max_length=MAX_ACTIVE_TASKS,
        ),
    ] = []
    task_count: Annotated[
        int, about("All active tasks, listed or not.", unit="tasks", kind="tasks", ge=0)
    ] = 0
    least_progressed_at: Annotated[
        Timestamp | None,
        about("Oldest `progressed_at` of the active tasks.", clock="agent", measure="sample"),
    ] = None
    last_failure: Annotated[
        Failure | None, about("Last task that failed; null: none known.", kind="problems")
    ] = None
    ended: Annotated[
        list[Ended],
        about(
            "How its latest tasks ended, newest report first; the history has the earlier ones.",
            kind="tasks",
            max_length=MAX_ENDED,
        ),
    ] = []
    ended_count: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        about(
            "Tasks that ended since the known instances started, listed or not; null: not"
            " reported.",
            unit="tasks",
            measure="level",
            kind="tasks",
        ),
    ] = None
    updated_at: UpdatedAt = UNSTAMPED


class Outcomes(Record, frozen=True):
    """The outcomes of an instance's tasks since its start."""

    completed: Annotated[int, about("Completed.", unit="tasks", ge=0)] = 0
    failed: Annotated[int, about("Failed.", unit="tasks", ge=0)] = 0
    canceled: Annotated[int, about("Canceled.", unit="tasks", ge=0)] = 0


class Instance(Record, frozen=True):
    """One process of an agent, or a declared one without a heartbeat yet."""

    id: Annotated[str, about("The instance's id.", untrusted=True)]
    status: Annotated[
        str,
        about(
            "`active`: it has a task. `idle`: it has none. `silent`: no heartbeat within 3 ×"
            " its interval. `declared`: known only from configuration or Kubernetes.",
            task_values=("active", "idle"),
        ),
    ]
    pod_id: Annotated[str | None, about("Name of its pod.", ref="workload[].pods[].pod_id")] = None
    workload: Annotated[str | None, about("Key of its workload.", ref="workload[].key")] = None
    version: Annotated[str | None, about("Version it reports.", untrusted=True)] = None
    started_at: Annotated[Timestamp | None, about("When it started.", clock="agent")] = None
    interval_seconds: Annotated[
        float | None, about("Interval of its heartbeats.", unit="seconds")
    ] = None
    silent_since: Annotated[
        Timestamp | None,
        about("When its last heartbeat came, if it is silent; else null.", clock="telemetron"),
    ] = None
    clock_offset_seconds: Annotated[
        float | None,
        about(
            "How far its clock is ahead of Telemetron's; null: under 2 s, or unknown.",
            unit="seconds",
        ),
    ] = None
    max_parallel_invocations: Annotated[
        int | None, about("Tasks it can run at once; null: not reported.", unit="tasks")
    ] = None
    outcomes: Annotated[
        Outcomes | None,
        about(
            "Outcomes of its tasks since its start; null: not reported.",
            measure="level",
            kind="tasks",
        ),
    ] = None
    lives: Annotated[
        int | None,
        about(
            "Its starts since its first heartbeat, or since its last goodbye; more than 1: it"
            " was restarted; null: no heartbeat yet.",
            unit="lives",
        ),
    ] = None
    tasks_lost: Annotated[
        int | None,
        about(
            "Tasks that were active when one of these lives ended without a goodbye.",
            unit="tasks",
        ),
    ] = None
    source: Source = ""


class Agent(Record, frozen=True):
    """One agent: all instances of one name in one namespace."""

    key: Key
    name: Annotated[str, about("The agent's name.", untrusted=True)]
    namespace: Annotated[str | None, about("Its namespace; null: not known.", untrusted=True)]
    description: Annotated[str | None, about("Its purpose.", untrusted=True)]
    status: Annotated[
        str,
        about(
            "`active`: a live instance has a task. `silent`: no live one has, and a silent one"
            " held a task or all are silent. `idle`: an instance is live, no task is known."
            " `declared`: no instance ever sent a heartbeat.",
            task_values=("active", "idle"),
        ),
    ]
    max_parallel_invocations: Annotated[
        int,
        about(
            "Tasks it can run at once: the sum over instances whose tasks are listed, 1 for an"
            " instance that reports no number; without such an instance the declared number,"
            " else 1.",
            unit="tasks",
        ),
    ]
    deployment_name: Annotated[
        str | None, about("Its Deployment.", ref="workload[].deployment_name")
    ]
    models: Annotated[
        list[str],
        about("Models it uses, sorted.", ref="litellm[].model", max_length=MAX_NAMES),
    ]
    queues: Annotated[
        list[str],
        about("Queues it consumes, sorted.", ref="queues[].name", max_length=MAX_NAMES),
    ]
    activity: Annotated[Activity, about("Its current work.")]
    instances: Annotated[
        list[Instance],
        about(
            "Its instances, by id; if too many, some of each status.",
            kind="membership",
            max_length=MAX_INSTANCES,
        ),
    ]
    instance_count: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        about(
            "All its instances, listed or not; null: its pods cannot be observed, and no"
            " instance is live.",
            unit="instances",
            kind="membership",
        ),
    ]
    silent_count: Annotated[int, about("Instances that are silent.", unit="instances", ge=0)]
    sources: Annotated[
        list[str], about("Sources that observe it.", ref="sources[].key", kind="membership")
    ]
    problems: Problems = []
    truncated: Truncated = None
    updated_at: UpdatedAt = UNSTAMPED


# litellm


class Cooldowns(Record, frozen=True):
    """How often a proxy took a deployment out of its rotation."""

    count: Annotated[
        int | None,
        about(
            "Cooldowns since Telemetron started; null: the proxy does not count them.",
            unit="cooldowns",
            measure="level",
        ),
    ] = 0
    last_at: Annotated[
        Timestamp | None,
        about("When Telemetron saw the last one.", clock="telemetron", measure="sample"),
    ] = None
    status_code: Annotated[int | None, about("HTTP status that caused the last.")] = None


class ModelError(Record, frozen=True, rename={"error_class": "class"}):
    """The last error of a deployment that was not its caller's fault."""

    error_class: Annotated[str | None, about("Class of the error.")] = None
    status_code: Annotated[int | None, about("HTTP status.")] = None
    at: Annotated[
        Timestamp | None, about("When Telemetron saw it.", clock="telemetron", measure="sample")
    ] = None


class Refusal(Record, frozen=True, rename={"error_class": "class"}):
    """Calls refused with one error class and status."""

    error_class: Annotated[str | None, about("Class of the error that the callers got.")]
    status_code: Annotated[int | None, about("HTTP status, if LiteLLM counted one.")]
    rpm: Annotated[float, about("Refused in the last minute.", unit="requests")]


class ModelCaller(Record, frozen=True):
    """The use of a deployment by one caller."""

    name: Annotated[
        str,
        about("Value of the configured label; empty: calls without it.", untrusted=True),
    ]
    rpm: Annotated[float | None, about("Requests in the last minute.", unit="requests")] = None
    failed_rpm: Annotated[
        float | None, about("Failed requests in the last minute.", unit="requests")
    ] = None
    tpm: Annotated[float | None, about("Tokens in the last minute.", unit="tokens")] = None


class ModelDeployment(Record, frozen=True, kw_only=True):
    """One deployment of a model behind a LiteLLM proxy."""

    key: Key = ""
    source: Source = ""
    id: Annotated[str, about("The proxy's id of the deployment.")]
    model: Annotated[
        str, about("Name that callers use; for a wildcard its pattern, such as `openai/*`.")
    ]
    aliases: Annotated[
        list[str],
        about("Other names that callers may use for it, sorted.", max_length=MAX_NAMES),
    ] = []
    upstream_model: Annotated[str | None, about("Name at its provider.")] = None
    provider: Annotated[str | None, about("Its provider.")] = None
    status: Annotated[
        str,
        about(
            "By real calls only. `healthy`: the provider answered within 5 minutes, and since"
            " then no call was refused or failed, except by its caller's fault. `unhealthy`: the"
            " last call failed, or calls are refused or its budget is spent (see `problems`)."
            " `cooling_down`. `unknown`: none of these, or the source is stale."
        ),
    ] = "unknown"
    status_since: Annotated[
        Timestamp | None, about("When it got this status.", clock="telemetron")
    ] = None
    cooldown_until: Annotated[
        Timestamp | None,
        about("Latest possible end of its cooldown.", clock="telemetron", measure="sample"),
    ] = None
    cooldowns: Annotated[Cooldowns, about("Its cooldowns.")] = Cooldowns()
    last_error: Annotated[
        ModelError | None,
        about("Its last error that was not the caller's fault; null: none seen.", kind="problems"),
    ] = None
    tpm: Annotated[
        float | None,
        about(
            "Tokens in the last minute, without answers from the proxy's cache.",
            unit="tokens",
            measure="level",
        ),
    ] = None
    rpm: Annotated[
        float | None,
        about(
            "Requests in the last minute, failed ones included, without answers from the proxy's"
            " cache.",
            unit="requests",
            measure="level",
        ),
    ] = None
    failed_rpm: Annotated[
        float | None,
        about(
            "Failed requests in the last minute, callers' faults included.",
            unit="requests",
            measure="level",
        ),
    ] = None
    refused_rpm: Annotated[
        float | None,
        about(
            "Requests to its model group refused in the last minute.",
            unit="requests",
            measure="level",
        ),
    ] = None
    refusals: Annotated[
        list[Refusal] | None,
        about(
            "`refused_rpm` by class and status, sorted; the 16 most frequent. null:"
            " `refused_rpm` is null, or the proxy does not count reasons.",
            measure="level",
        ),
    ] = None
    callers: Annotated[
        list[ModelCaller] | None,
        about(
            "Its callers in the last minute, by name; the 64 most active. null unless `callers`"
            " is configured and the proxy's metrics have that label.",
            measure="level",
        ),
    ] = None
    latency_seconds: Annotated[
        float | None, about("Mean latency.", unit="seconds", measure="sample")
    ] = None
    tpm_max: Annotated[int | None, about("Configured limit.", unit="tokens/min")] = None
    rpm_max: Annotated[int | None, about("Configured limit.", unit="requests/min")] = None
    credits: Annotated[float | None, about("Rest of its budget.", unit="USD", measure="sample")] = (
        None
    )
    spend: Annotated[float | None, about("Its cost so far.", unit="USD", measure="sample")] = None
    payment_type: Annotated[str | None, about("`prepaid`, `postpaid` or `free`.")] = None
    input_cost_per_token: Annotated[float | None, about("Price.", unit="USD/token")] = None
    output_cost_per_token: Annotated[float | None, about("Price.", unit="USD/token")] = None
    input_context: Annotated[int | None, about("Longest input.", unit="tokens")] = None
    output_context: Annotated[int | None, about("Longest output.", unit="tokens")] = None
    output_dim: Annotated[int | None, about("Size of an embedding.", unit="dimensions")] = None
    input_types: Annotated[list[str], about("Types of input, sorted.")] = []
    output_types: Annotated[list[str], about("Types of output, sorted.")] = []
    measured_at: MeasuredAt = None
    problems: Problems = []
    truncated: Truncated = None
    updated_at: UpdatedAt = UNSTAMPED


# queues


class Member(Record, frozen=True):
    """One member of a consumer group."""

    client_id: Annotated[str, about("Its client id.", untrusted=True)]
    host: Annotated[str | None, about("Its address.", ref="workload[].pods[].ip")] = None
    partitions: Annotated[
        Annotated[list[int], Meta(max_length=MAX_PARTITIONS)] | None,
        about(
            "Its partitions of this topic, ascending; null: not known, as while a classic group"
            " rebalances.",
            kind="membership",
        ),
    ] = None
    partition_count: Annotated[
        int | None,
        about("Count of its partitions of this topic.", unit="partitions", kind="membership"),
    ] = None


class PartitionLag(Record, frozen=True):
    """One partition that lags."""

    partition: Annotated[int, about("The partition.", ge=0)]
    lag: Annotated[int | None, about("Its lag.", unit="offsets")] = None
    consumed_at: Annotated[
        Timestamp | None, about("When its committed offset last advanced.", clock="telemetron")
    ] = None


class Priority(Record, frozen=True):
    """The priority of a pending task."""

    level: Annotated[str | None, about("`low`, `normal`, `high` or `critical`.")] = None
    blocked_task: Annotated[str | None, about("Task that waits for it.", untrusted=True)] = None


class PendingTask(Record, frozen=True):
    """A task that waits in a queue."""

    id: Annotated[str, about("The task's id.", untrusted=True)]
    submitted_at: Annotated[
        Timestamp | None,
        about("When it was submitted; null: not known, see `problem`.", clock="submitter"),
    ] = None
    priority: Annotated[Priority | None, about("Its priority.")] = None
    invoked_by: Annotated[str | None, about("Its submitter.", untrusted=True)] = None
    partition: Annotated[int | None, about("Its partition.")] = None
    offset: Annotated[int | None, about("Its offset.")] = None
    prompt: Annotated[str | None, about("Its prompt, if configured.", untrusted=True)] = None
    args: Annotated[str | None, about("Its arguments, if configured.", untrusted=True)] = None
    problem: Annotated[Problem | None, about("Why it could not be read.")] = None


class Queue(Record, frozen=True, kw_only=True):
    """The tasks in one queue that wait for one consumer group."""

    key: Key = ""
    source: Source = ""
    name: Annotated[str, about("The queue's (topic's) name.")]
    consumer_group: Annotated[
        str | None,
        about("The consumer group; null: no group that the source may show reads the queue."),
    ] = None
    consumers: Annotated[
        int | None,
        about(
            "Group members that have partitions of this topic; null: not known.",
            unit="members",
        ),
    ] = None
    group_state: Annotated[
        str | None, about("State of the group as the broker reports it; null: not known.")
    ] = None
    generation: Annotated[
        int | None,
        about(
            "Rebalances of the group since Telemetron first saw it: changes of its epoch, or of"
            " a classic group the observed ones, a lower bound; null: not known.",
            unit="rebalances",
        ),
    ] = None
    members: Annotated[
        list[Member],
        about(
            "Members of the group, first those with partitions of this topic; also empty while"
            " `consumers` and `group_state` are null.",
            kind="membership",
            max_length=16,
        ),
    ] = []
    depth: Annotated[int | None, about("Waiting tasks.", unit="tasks", measure="level")] = None
    depth_exact: Annotated[
        bool | None, about("Whether `depth` is exact or an upper bound.", measure="level")
    ] = None
    lag: Annotated[
        int | None,
        about(
            "Last stable offset minus committed offset, or minus the start of the log if that"
            " is later.",
            unit="offsets",
            measure="level",
        ),
    ] = None
    unacknowledged: Annotated[
        int | None,
        about("Delivered, but not acknowledged; null for Kafka.", unit="tasks", measure="level"),
    ] = None
    oldest_submitted_at: Annotated[
        Timestamp | None,
        about(
            "When the oldest waiting task was submitted, among the tasks read: all if"
            " `depth_exact`.",
            clock="submitter",
            measure="sample",
        ),
    ] = None
    produced_at: Annotated[
        Timestamp | None,
        about(
            "When the end of the log last advanced, open transactions included.",
            clock="telemetron",
            measure="sample",
        ),
    ] = None
    consumed_at: Annotated[
        Timestamp | None,
        about("When a committed offset last advanced.", clock="telemetron", measure="sample"),
    ] = None
    open_transaction_since: Annotated[
        Timestamp | None,
        about(
            "When Telemetron first saw the oldest open transaction, which holds back all"
            " records behind it; null: none for more than 1 s, or not known.",
            clock="telemetron",
            measure="sample",
        ),
    ] = None
    open_transaction_offsets: Annotated[
        int | None,
        about(
            "Offsets behind open transactions, which `lag` and `depth` do not count; null: not"
            " known.",
            unit="offsets",
            measure="level",
        ),
    ] = None
    dead_letters_of: Annotated[
        list[str],
        about("Queues whose dead letters it may get; RabbitMQ only.", max_length=16),
    ] = []
    message_ttl_seconds: Annotated[
        float | None,
        about(
            "How long a message may wait before it expires; null: no limit, or not known.",
            unit="seconds",
        ),
    ] = None
    partitions: Annotated[int | None, about("Count of its partitions.", unit="partitions")] = None
    lagging: Annotated[
        list[PartitionLag],
        about("Partitions that lag, worst first.", measure="level", max_length=8),
    ] = []
    tasks: Annotated[
        list[PendingTask],
        about("The oldest waiting tasks, oldest first.", measure="sample", kind="tasks"),
    ] = []
    measured_at: MeasuredAt = None
    problems: Problems = []
    truncated: Truncated = None
    updated_at: UpdatedAt = UNSTAMPED


# workload


class LastExit(Record, frozen=True):
    """The latest failure of a container, else its latest exit."""

    reason: Annotated[str | None, about("Kubernetes' reason, such as `OOMKilled`.")] = None
    exit_code: Annotated[int | None, about("Its exit code.")] = None
    at: Annotated[Timestamp | None, about("When it ended.", clock="kubernetes")] = None
    container: Annotated[str | None, about("Name of the container that ended.")] = None


class Limits(Record, frozen=True):
    """The resource limits of a pod, as Kubernetes quantities."""

    cpu: Annotated[str | None, about("CPU limit, such as `1500m`; null: unlimited.")] = None
    memory: Annotated[str | None, about("Memory limit, such as `2Gi`; null: unlimited.")] = None


class Pod(Record, frozen=True):
    """One pod of a workload."""

    pod_id: Annotated[str, about("Its name.")]
    status: Annotated[
        str, about("Its phase: `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.")
    ]
    ready: Annotated[bool | None, about("Its condition `Ready`; null: not known.")] = None
    reason: Annotated[
        str | None,
        about(
            "Why it is not ready, such as `CrashLoopBackOff`; null: it is ready or succeeded,"
            " or not known."
        ),
    ] = None
    container: Annotated[
        str | None, about("Container that has the reason; null: the whole pod.")
    ] = None
    message: Annotated[str | None, about("Kubernetes' message.", untrusted=True)] = None
    image: Annotated[
        str | None, about("Image of kubectl's default container, else of the first.")
    ] = None
    restarts: Annotated[
        int | None, about("Restarts of all its containers, init included.", unit="restarts")
    ] = None
    last_exit: Annotated[
        LastExit | None,
        about("Latest failure of a container, else the latest exit; null: none.", kind="problems"),
    ] = None
    node: Annotated[str | None, about("Its node.")] = None
    node_ready: Annotated[
        bool | None,
        about(
            "Whether its node is ready; also false if Kubernetes marked the pod because its"
            " node stopped reporting; null: not known."
        ),
    ] = None
    ip: Annotated[str | None, about("Its IP address.")] = None
    created_at: Annotated[Timestamp | None, about("When it was created.", clock="kubernetes")] = (
        None
    )
    started_at: Annotated[Timestamp | None, about("When it started.", clock="kubernetes")] = None
    limits: Annotated[
        Limits,
        about(
            "Current limits of all its containers together; during an in-place resize, those in"
            " its status."
        ),
    ] = Limits()
    cpu: Annotated[float | None, about("CPU used.", unit="cores", measure="sample")] = None
    memory: Annotated[float | None, about("Memory used.", unit="MiB", measure="sample")] = None
    network_in: Annotated[
        int | None, about("Received since its start.", unit="bytes", measure="sample")
    ] = None
    network_out: Annotated[
        int | None, about("Sent since its start.", unit="bytes", measure="sample")
    ] = None
    measured_at: MeasuredAt = None


class Live(Record, frozen=True):
    """A workload's state as its controller sees it."""

    active_pods: Annotated[
        int | None,
        about(
            "Pods that have not succeeded or failed and are not being deleted: Kubernetes'"
            " active pods. They include waiting and crashing pods, so compare with `ready`."
            " null: not all its pods can be observed.",
            unit="pods",
            kind="membership",
        ),
    ] = None
    desired: Annotated[int | None, about("Pods that should exist now.", unit="pods")] = None
    ready: Annotated[
        int | None, about("Pods that are ready; null: not counted yet.", unit="pods")
    ] = None
    available: Annotated[int | None, about("Pods that are available.", unit="pods")] = None
    image: Annotated[
        str | None, about("Image of its template's default container, else of the first.")
    ] = None
    rolled_out_at: Annotated[
        Timestamp | None,
        about(
            "When a Deployment's last rollout progressed, completed or timed out; pausing,"
            " scaling and crashes do not count. null: not a Deployment, or not recorded.",
            clock="kubernetes",
        ),
    ] = None
    rollout: Annotated[
        str | None,
        about(
            "`complete`, `progressing`, `stuck` or `paused`, as in `kubectl rollout status`; a"
            " Deployment stays `complete` until its next rollout. null: strategy `OnDelete`."
        ),
    ] = None
    reason: Annotated[str | None, about("Kubernetes' reason.")] = None
    message: Annotated[str | None, about("Kubernetes' message.", untrusted=True)] = None
    updated_at: UpdatedAt = UNSTAMPED


class Owner(Record, frozen=True):
    """The controller of a workload."""

    kind: Annotated[str, about("Its kind, such as `CronJob`.")]
    name: Annotated[str, about("Its name, in the workload's namespace.")]


class Workload(Record, frozen=True, kw_only=True):
    """One Deployment, StatefulSet, DaemonSet, Job, other controller of pods, or bare pod."""

    key: Key = ""
    source: Source = ""
    deployment_name: Annotated[str, about("Its name.")]
    namespace: Annotated[str, about("Its namespace.")]
    kind: Annotated[
        str,
        about(
            "Its kind, such as `Deployment`; with its API group if a built-in kind has the same"
            " name, such as `StatefulSet.apps.kruise.io`."
        ),
    ]
    owner: Annotated[
        Owner | None,
        about("Its controller, such as the CronJob of a Job; null: none, or `live` is null."),
    ] = None
    max_pods: Annotated[
        int | None,
        about(
            "Most pods it may have: the largest maximum of its autoscalers, else its replicas."
            " null: not known, or no known limit.",
            unit="pods",
        ),
    ] = None
    pod_max_cpu: Annotated[
        str | None,
        about(
            "CPU limit of each active pod, else of the template: a Kubernetes quantity. null:"
            " unlimited, or its pods differ (`pods[].limits`)."
        ),
    ] = None
    pod_max_ram: Annotated[
        str | None,
        about(
            "Memory limit of each active pod, else of the template: a Kubernetes quantity."
            " null: unlimited, or its pods differ (`pods[].limits`)."
        ),
    ] = None
    live: Annotated[Live | None, about("Its state; null: not observed.")] = None
    pods: Annotated[
        list[Pod],
        about(
            "Its pods, by name. If too many: active pods with a `reason`, then other active,"
            " failed and succeeded pods; of each the newest, and some of every reason.",
            kind="membership",
            max_length=MAX_PODS,
        ),
    ] = []
    problems: Problems = []
    truncated: Truncated = None
    updated_at: UpdatedAt = UNSTAMPED


IDENTITIES: dict[type[Struct], str] = {
    Ended: "id@ended_at",
    Instance: "id",
    Member: "client_id",
    PartitionLag: "partition",
    PendingTask: "id",
    Pod: "pod_id",
    Problem: "reason",
    Task: "id",
}
"""The field that identifies an item of a list, or two text or time fields joined by `@`.

Other lists are compared as a whole.
"""


@cache
def identify(identity: str, getter: Callable[..., Any] = itemgetter) -> Callable[[Any], Any]:
    """Return a function that gets the identity of an item; `getter` as in `operator`.

    Two fields are joined as in `t-1@2030-01-06T10:00:00Z`; null is `-`, as in a key.
    """
    names = identity.split("@")
    get: Callable[[Any], Any] = getter(*names)
    return get if len(names) == 1 else lambda item: joined(get(item))


def joined(values: tuple[Any, ...]) -> str:
    """Return the identity of an item that is identified by several fields."""
    return "@".join(["-" if one is None else to_builtins(one) for one in values])


class State(Record, frozen=True):
    """The state of a multi-agent system at one revision.

    Timestamps are RFC 3339 in UTC; compute ages against the response's `Date` header.
    null means "not observed".
    """

    id: Annotated[str, about("This system's configured id.")]
    schema_version: Annotated[int, about("Version of this schema; fields are only added.")]
    epoch: Annotated[str, about("Id of one run of the Telemetron process.")]
    revision: Annotated[
        int, about("Rises if, and only if, the document changes; starts at 1.", ge=1)
    ]
    started_at: Annotated[Timestamp, about("When the epoch began.", clock="telemetron")]
    changed_at: Annotated[Timestamp, about("When this revision was published.", clock="telemetron")]
    sources: Annotated[list[SourceRow], about("Every source, by name.", kind="membership")]
    findings: Annotated[
        list[Finding] | UnsetType,
        about("Causes of trouble, by key; `rank` 1 is the first to look at.", kind="problems"),
    ] = UNSET
    agents: Annotated[list[Agent] | UnsetType, about("Every agent, by key.", kind="membership")] = (
        UNSET
    )
    litellm: Annotated[
        list[ModelDeployment] | UnsetType,
        about("Every model deployment, by key.", kind="membership"),
    ] = UNSET
    queues: Annotated[
        list[Queue] | UnsetType, about("Every queue and consumer group, by key.", kind="membership")
    ] = UNSET
    workload: Annotated[
        list[Workload] | UnsetType, about("Every workload, by key.", kind="membership")
    ] = UNSET
