"""The part of the section `agents`: one source's observations of one agent."""

from msgspec import Struct

from telemetron.document import Ended, Failure, Instance, Problem, Task, Timestamp

CONFIGURATION_RANK = 100
"""The `agent_rank` of the agents that the configuration declares."""


class AgentPart(Struct, frozen=True, gc=False, kw_only=True):
    """One agent that a source has found declared, or one instance of it and the instance's tasks.

    If several sources know an agent, its scalars are those of the source with the highest
    `Collector.agent_rank`; lists, tasks and instances are merged.
    """

    origin: str = ""
    """Ignored, and only accepted from older collectors: `Collector.agent_rank` replaces it."""
    namespace: str | None = None
    description: str | None = None
    deployment_name: str | None = None
    max_parallel_invocations: int | None = None
    models: list[str] = []
    queues: list[str] = []
    instance: Instance | None = None
    """An instance that is declared or that beats."""
    workload: str | None = None
    """Key of the workload whose `pods` are declared instances."""
    pods: list[str] = []
    """Names of the pods that are declared instances, sorted."""
    has_all_pods: bool = True
    """Whether `pods` is complete; if not, `problems` has the reason."""
    since: Timestamp | None = None
    """When the source first saw this life of the instance; the newest life is believed first."""
    tasks: list[Task] = []
    task_count: int = 0
    last_failure: Failure | None = None
    ended: list[Ended] = []
    """Tasks that ended, the newest report first."""
    ended_count: int | None = None
    """All its tasks that ended, listed or not; None: not known."""
    problems: list[Problem] = []
