"""What a collector says of an agent: a part of the section `agents`."""

from typing import Literal

from msgspec import Struct

from telemetron.document import Failure, Instance, Problem, Task, Timestamp


class AgentPart(Struct, frozen=True, gc=False, kw_only=True):
    """What a source knows of one agent: that it is declared, or one instance and its tasks."""

    origin: Literal["heartbeat", "kubernetes", "configuration"]
    namespace: str | None = None
    description: str | None = None
    deployment_name: str | None = None
    max_parallel_invocations: int | None = None
    models: list[str] = []
    queues: list[str] = []
    instance: Instance | None = None
    """Declared, or as it beat."""
    workload: str | None = None
    """Key of the workload whose `pods` are declared instances."""
    pods: list[str] = []
    """Names of pods that are instances, sorted."""
    has_all_pods: bool = True
    """Whether `pods` are all there are; `problems` say why not."""
    since: Timestamp | None = None
    """When Telemetron first saw this life of the instance: the newest is believed first."""
    tasks: list[Task] = []
    task_count: int = 0
    last_failure: Failure | None = None
    problems: list[Problem] = []
