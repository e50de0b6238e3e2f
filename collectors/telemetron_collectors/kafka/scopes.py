"""The scopes of a source: the cluster, each broker, each named topic; and the trouble with each."""

from collections.abc import Callable, Collection, Container

from loguru import logger

from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Brokers
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import Refusal

CLUSTER = ""
"""The scope of everything that belongs to no single broker or topic."""

OUTAGE = ("Unreachable", "Timeout")
OUTAGE_LOG_SECONDS = 60.0


class Scopes:
    """Reports trouble and recovery of each scope to the output, and logs trouble once.

    `on_change` is called when the trouble with a scope begins or ends.
    """

    def __init__(
        self,
        output: Output,
        brokers: Brokers,
        topics: Collection[str],
        on_change: Callable[[], None],
    ) -> None:
        self._output = output
        self._clock = output.clock
        self._brokers = brokers
        self._topics = [topic_scope(topic) for topic in topics]
        self._on_change = on_change
        self._expected: set[str] = set()
        """Empty until the brokers are known."""
        self._troubles: dict[str, TroubleError] = {}
        self._failing: dict[int, set[str]] = {}
        """The requests that each broker did not answer last time."""
        self._outage_until = 0.0

    @property
    def has_trouble(self) -> bool:
        return bool(self._troubles)

    def trouble_with(self, node: int | None) -> TroubleError | None:
        """Return the reported trouble with a broker; with the cluster if `node` is None."""
        return self._troubles.get(CLUSTER if node is None else broker_scope(node))

    def is_failing(self, node: int, request: str) -> bool:
        return request in self._failing.get(node, ())

    def expect(self) -> None:
        """Declare the scopes: the cluster, the named topics, and each broker that is known now.

        Every broker counts: if one does not answer, it may coordinate groups that no other broker
        lists. Late results of a removed broker are ignored.
        """
        scopes = {CLUSTER, *self._topics, *map(broker_scope, self._brokers.known)}
        if scopes == self._expected:
            return
        self._expected = scopes
        self._troubles = {scope: it for scope, it in self._troubles.items() if scope in scopes}
        self._failing = {n: it for n, it in self._failing.items() if n in self._brokers.known}
        self._output.expect(sorted(scopes))

    def _is_gone(self, scope: str) -> bool:
        return bool(self._expected) and scope not in self._expected

    def report(self, scope: str, trouble: TroubleError) -> None:
        """Report trouble with a scope; log it unless the same trouble was reported before."""
        if self._is_gone(scope):
            return
        before = self._troubles.get(scope)
        if (before is None or before.reason != trouble.reason) and not self._is_logged(trouble):
            name = f"{self._output.source} ({scope})" if scope else self._output.source
            logger.warning("source {}: {}: {}", name, trouble.reason, trouble.message)
        if before is None:
            self._on_change()
        self._troubles[scope] = trouble
        self._output.trouble(scope, trouble.reason, trouble.message)

    def _is_logged(self, trouble: TroubleError) -> bool:
        """Whether an outage was logged within a minute: one outage affects several scopes."""
        if trouble.reason not in OUTAGE:
            return False
        now = self._clock.monotonic()
        if now < self._outage_until:
            return True
        self._outage_until = now + OUTAGE_LOG_SECONDS
        return False

    def confirm(self, scope: str, problem: Refusal | None) -> None:
        """Confirm that a scope was read; `problem` explains its limits."""
        reason, message = problem or (None, "")
        self._output.confirm(scope, reason=reason, message=message)

    def forget_cluster_trouble(self) -> None:
        """End the trouble with the cluster, without confirming its scope yet."""
        self._troubles.pop(CLUSTER, None)

    def fail(self, node: int, request: str, error: Exception) -> None:
        """Report that a broker did not answer a request; its scope is in trouble until it does."""
        broker = self._brokers.known.get(node)
        if broker is None:
            return
        trouble = trouble_of(error)
        self._failing.setdefault(node, set()).add(request)
        if trouble.reason in OUTAGE and broker.address not in self._brokers.configured:
            message = f"{trouble.message} (broker {node} advertises this address)"
            trouble = TroubleError(trouble.reason, message)
        self.report(broker_scope(node), trouble)

    def succeed(self, node: int, request: str) -> None:
        """Confirm the broker's scope if it has now answered every request."""
        failing = self._failing.get(node, set())
        failing.discard(request)
        scope = broker_scope(node)
        if failing or self._is_gone(scope):
            return
        if self._troubles.pop(scope, None):
            self._on_change()
        self._output.confirm(scope)

    def send_only_to(self, nodes: Container[int | None], request: str) -> None:
        """Forget failures of a request at brokers that no longer receive it."""
        for node, failing in self._failing.items():
            if node not in nodes:
                failing.discard(request)


def broker_scope(node: int) -> str:
    return f"broker {node}"


def topic_scope(topic: str) -> str:
    return f"topic {topic}"


def trouble_of(error: Exception) -> TroubleError:
    """Return the trouble to report for a response that is missing or cannot be decoded."""
    if isinstance(error, TroubleError):
        return error
    if isinstance(error, UnsupportedError):
        return TroubleError("BadAnswer", "the broker is too old; Kafka 2.3 or newer is required")
    return TroubleError("BadAnswer", "the response does not follow Kafka's protocol")


def refusal_of(error: Exception) -> Refusal:
    """Return the same as a reason and a message."""
    trouble = trouble_of(error)
    return trouble.reason, trouble.message
