"""One virtual host: its queues, and where their dead letters go."""

from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import quote

from telemetron_collectors.rabbitmq import settings
from telemetron_collectors.rabbitmq.client import Client, RefusalError
from telemetron_collectors.rabbitmq.config import RabbitmqConfig, is_pattern
from telemetron_collectors.rabbitmq.queue import RabbitQueue
from telemetron_collectors.rabbitmq.rows import BindingRow, PolicyRow, QueueRow, table

COLUMNS = (
    "name,type,state,node,arguments,policy,effective_policy_definition,messages_ready,"
    "messages_unacknowledged,consumers,consumer_details,head_message_timestamp,message_stats"
)
TOTALS = "disable_stats=true&enable_queue_totals=true"
"""Without statistics a list costs the broker a fifth; it then has no consumers."""
MAX_EXCHANGES = 20
"""Dead-letter exchanges whose bindings are read."""


class Vhost:
    """Reads the queues of one virtual host."""

    def __init__(self, name: str, client: Client, config: RabbitmqConfig) -> None:
        self.name = name
        self.scope = f"vhost {name}"
        self.queues: dict[str, RabbitQueue] = {}
        self.ids: set[str] = set()
        """The parts that are shown."""
        self.is_shown = False
        self.refusal: RefusalError | None = None
        self.missing: list[str] = []
        """Configured queues that do not exist."""
        self._client = client
        self._config = config
        self._path = quote(name, safe="")

    async def read_named(self) -> None:
        """Ask for each configured queue by its name."""
        rows, self.missing = [], []
        for name in self._config.named:
            target = f"/queues/{self._path}/{quote(name, safe='')}?columns={COLUMNS}"
            try:
                rows.append(await self._client.get(target, QueueRow))
            except RefusalError as refusal:
                if refusal.reason != "NotFound":
                    raise
                self.missing.append(name)
        self._take(rows)

    async def read_list(self) -> None:
        """List all queues, with counts and settings."""
        target = f"/queues/{self._path}?{TOTALS}&columns={COLUMNS}"
        rows = await self._client.get(target, list[QueueRow])
        self._take([row for row in rows if self._config.shows(row.name)])
        named = {name for name in self._config.queues or () if not is_pattern(name)}
        self.missing = sorted(named - {*self.queues})

    async def read_settings(self) -> None:
        """Read the policies, and which queues get the dead letters of others."""
        rows = await self._optional(f"/policies/{self._path}", list[PolicyRow])
        policies = {row.name: table(row.definition) for row in rows}
        for queue in self.queues.values():
            queue.settings = settings.of(queue.row, policies)
        await self._join_dead_letters()

    def _take(self, rows: Iterable[QueueRow]) -> None:
        taken = {}
        for row in rows:
            queue = self.queues.get(row.name)
            if queue is None:
                queue = RabbitQueue(self._config.shown_name(self.name, row.name))
                queue.settings = settings.of(row)
            queue.row = row
            taken[row.name] = queue
        self.queues = taken

    async def _join_dead_letters(self) -> None:
        sources: defaultdict[str, list[str]] = defaultdict(list)
        bindings: dict[str, list[BindingRow]] = {}
        for _, queue in sorted(self.queues.items()):
            exchange = queue.settings.dead_letter_exchange
            if exchange and exchange not in bindings and len(bindings) < MAX_EXCHANGES:
                bindings[exchange] = await self._bindings(exchange)
            for target in _targets(queue.settings, bindings.get(exchange or "", [])):
                sources[target].append(queue.name)
        for name, queue in self.queues.items():
            queue.dead_letters_of = sources[name]

    async def _bindings(self, exchange: str) -> list[BindingRow]:
        path = f"/exchanges/{self._path}/{quote(exchange, safe='')}/bindings/source"
        return await self._optional(path, list[BindingRow])

    async def _optional(self, target: str, type: type[list]) -> list:  # type: ignore[type-arg]
        """Return what the user may not see, or what does not exist, as an empty list."""
        try:
            return await self._client.get(target, type)
        except RefusalError:
            return []


def _targets(its: settings.Settings, bindings: list[BindingRow]) -> list[str]:
    """Return the queues that may get a queue's dead letters.

    Without a routing key a dead letter keeps its own, so it may go to any queue of the exchange.
    """
    key = its.dead_letter_routing_key
    if its.dead_letter_exchange is None:
        return []
    if its.dead_letter_exchange == "":
        return [key] if key else []
    queues = [one for one in bindings if one.destination_type == "queue"]
    exact = [one.destination for one in queues if key is not None and one.routing_key == key]
    return sorted({*exact} or {one.destination for one in queues})
