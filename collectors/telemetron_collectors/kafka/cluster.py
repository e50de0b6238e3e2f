"""What is known of one cluster, shared by those that find, read and show it."""

import logging
from collections.abc import Container

from telemetron.collector import Output
from telemetron.document import Queue
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Access, Brokers
from telemetron_collectors.kafka.config import MAX_SHOWN, KafkaConfig
from telemetron_collectors.kafka.group import Group, Refusal, Topic
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import TopicQueue

CLUSTER = ""
"""The scope of what is no single broker's."""

OUTAGE = ("Unreachable", "Timeout")
OUTAGE_LOG_SECONDS = 60.0

log = logging.getLogger(__name__)


class Known:
    """The topics, groups and queues of one source, and what is wrong with it."""

    def __init__(
        self, config: KafkaConfig, output: Output, access: Access, hold_seconds: float
    ) -> None:
        self.config = config
        self.output = output
        self.clock = output.clock
        self.hold = hold_seconds
        """How long the last known stands for what is not answered."""
        self.brokers = Brokers(config.bootstrap_servers, access, output.clock)
        self.topics = {
            entry.topic: Topic(entry.topic) for entry in config.entries if not entry.is_pattern
        }
        self.groups: dict[str, Group] = {}
        self.queues: dict[str, TopicQueue] = {}
        self.parts: dict[str, Queue] = {}
        """What was put last."""
        self.touched: set[TopicQueue] = set()
        """Those that something has changed of."""
        self.hungry: set[TopicQueue] = set()
        """Those that miss tasks."""
        self.beyond: set[TopicQueue] = set()
        """Those whose group stands beyond the stable end of a log."""
        self.cut: set[TopicQueue] = set()
        """Those that found no room for tasks which they may show."""
        self.raw: dict[object, bytes] = {}
        """Answers, to be spared decoding the same again."""
        self.read_at: dict[int, float] = {}
        """When each leader last told the ends of its logs."""
        self.troubles: dict[str, TroubleError] = {}
        """By scope."""
        self.failing: dict[int, set[str]] = {}
        """What each broker did not answer when it was asked last."""
        self.listed: dict[int, set[str]] = {}
        """The groups that each broker lists."""
        self.unseen: Refusal | None = ("Unreachable", "the groups are not known yet")
        """Why there may be groups that we do not know of; None: we know all that we may see."""
        self.scopes: set[str] = set()
        """What the source consists of; empty: not known yet."""
        self.due = dict.fromkeys(("topics", "groups", "members", "compaction"), 0.0)
        self.total = 0
        """Tasks of all parts."""
        self.shown = MAX_SHOWN
        """Tasks of each queue, so that it is not too many of all."""
        self._outage_until = 0.0
        self.planned = False
        self.limits: dict[str, str] = {}
        """What is left out because there is too much of it, in words."""
        self.is_complete = False

    def is_due(self, what: str, seconds: float) -> bool:
        """Whether it is time, which it is again after so many seconds."""
        now = self.clock.monotonic()
        if now < self.due[what]:
            return False
        self.due[what] = now + seconds
        return True

    def wanted(self, queue: TopicQueue) -> int:
        """How many of its tasks are shown at most."""
        return min(queue.config.max_tasks, self.shown)

    def share_out(self) -> None:
        """How many tasks of each queue may be shown now; who found no room tries again."""
        self.touched |= self.cut
        self.cut.clear()
        waiting = [q for q in self.queues.values() if q.shows_tasks and any(q.windows())]
        asked = sum(queue.config.max_tasks for queue in waiting)
        shown = MAX_SHOWN if asked <= MAX_SHOWN else max(1, MAX_SHOWN // len(waiting))
        if shown != self.shown:
            self.shown = shown
            self.touched.update(waiting)

    def refuse(self, group: Group, refusal: Refusal) -> None:
        """Nothing can be told of a group, until it is read again."""
        if group.refusal != refusal:
            group.refusal, group.raw = refusal, b""
            self.touched.update(group.queues)

    def lose(self, group: Group, refusal: Refusal) -> None:
        """Nobody says where it stands; what was read of it last stays for a while.

        If that is since Kafka is out of reach, it stays until it is back: the source says so.
        """
        is_old = group.read_at is not None and self.is_old(group.read_at)
        if group.read_at is None or (is_old and self.silence(group.node) is None):
            self.refuse(group, refusal)

    def silence(self, node: int | None) -> TroubleError | None:
        """Why a broker (None: whichever) is out of reach, as the source says; None: it is not."""
        return self.troubles.get(CLUSTER if node is None else scope_of(node))

    def see(self, unseen: Refusal | None) -> None:
        """Whether all groups are known, or why not."""
        if unseen != self.unseen:
            self.unseen = unseen
            self.touched.update(queue for queue in self.queues.values() if queue.group is None)

    def is_old(self, read_at: float) -> bool:
        """Whether what was read then stands no more."""
        return self.clock.monotonic() - read_at > self.hold

    def expect(self) -> None:
        """The source consists of the cluster, its brokers, and the topics that are named.

        Each broker counts: one that does not answer may coordinate groups that nobody else knows.
        What comes late from a broker that is gone is told no more.
        """
        topics = (f"topic {entry.topic}" for entry in self.config.entries if not entry.is_pattern)
        scopes = {CLUSTER, *topics, *map(scope_of, self.brokers.known)}
        if scopes == self.scopes:
            return
        self.scopes = scopes
        self.troubles = {scope: t for scope, t in self.troubles.items() if scope in self.scopes}
        self.failing = {n: what for n, what in self.failing.items() if n in self.brokers.known}
        self.output.expect(sorted(scopes))

    def _is_gone(self, scope: str) -> bool:
        return bool(self.scopes) and scope not in self.scopes

    def tell(self, scope: str, trouble: TroubleError) -> None:
        """Trouble with a scope; logged once, until it is over or another one."""
        if self._is_gone(scope):
            return
        told = self.troubles.get(scope)
        if (told is None or told.reason != trouble.reason) and not self._is_same_outage(trouble):
            what = f"{self.output.source} ({scope})" if scope else self.output.source
            log.warning("source %s: %s: %s", what, trouble.reason, trouble.message)
        if told is None:
            self._touch_unread()
        self.troubles[scope] = trouble
        self.output.trouble(scope, trouble.reason, trouble.message)

    def _is_same_outage(self, trouble: TroubleError) -> bool:
        """Whether it was logged within a minute: several scopes see one outage, each in its way."""
        if trouble.reason not in OUTAGE:
            return False
        now = self.clock.monotonic()
        if now < self._outage_until:
            return True
        self._outage_until = now + OUTAGE_LOG_SECONDS
        return False

    def well(self, scope: str) -> None:
        """Nothing is wrong with a scope."""
        if self._is_gone(scope):
            return
        if self.troubles.pop(scope, None):
            self._touch_unread()
        self.output.confirm(scope)

    def _touch_unread(self) -> None:
        """Of records that cannot be read, queues say what the source does not."""
        self.touched.update(queue for queue in self.queues.values() if queue.unread)

    def fail(self, node: int, what: str, trouble: TroubleError) -> None:
        """A broker did not answer a question; its scope stays in trouble until it does."""
        broker = self.brokers.known.get(node)
        if broker is None:
            return
        self.failing.setdefault(node, set()).add(what)
        if trouble.reason in OUTAGE and broker.address not in self.brokers.first:
            message = f"{trouble.message} (broker {node} advertises this address)"
            trouble = TroubleError(trouble.reason, message)
        self.tell(scope_of(node), trouble)

    def serve(self, node: int, what: str) -> None:
        """A broker answered a question, and perhaps with it all that it is asked."""
        failing = self.failing.get(node, set())
        failing.discard(what)
        if not failing:
            self.well(scope_of(node))

    def release(self, what: str, nodes: Container[int | None]) -> None:
        """A question is asked of these brokers only: others fail it no longer."""
        for node, failing in self.failing.items():
            if node not in nodes:
                failing.discard(what)

    def add(self, queue: TopicQueue) -> None:
        """A queue that is to be shown."""
        self.queues[queue.id] = queue
        topic = self.topics.get(queue.topic)
        if topic is None:
            topic = self.topics[queue.topic] = Topic(queue.topic)
            self.due["topics"] = 0.0
        topic.queues.append(queue)
        if queue.group is not None:
            group = self.groups[queue.group]
            group.queues.append(queue)
            group.request = None
        self.touched.add(queue)
        self.planned = False

    def drop(self, queue: TopicQueue) -> None:
        """A queue that is to be shown no more."""
        del self.queues[queue.id]
        part = self.parts.pop(queue.id, None)
        self.total -= len(part.tasks) if part else 0
        for known in (self.touched, self.hungry, self.beyond, self.cut):
            known.discard(queue)
        topic = self.topics[queue.topic]
        topic.queues.remove(queue)  # whether it is gone too, its metadata tell
        if queue.group in self.groups:
            group = self.groups[queue.group]
            group.queues.remove(queue)
            group.request = None
            group.forget(queue.topic)
        self.output.remove("queues", queue.id)
        self.planned = False


def scope_of(node: int) -> str:
    """The scope of one broker."""
    return f"broker {node}"


def trouble_of(error: Exception) -> TroubleError:
    """What an answer that did not come, or could not be decoded, is told as."""
    if isinstance(error, TroubleError):
        return error
    if isinstance(error, UnsupportedError):
        return TroubleError("BadAnswer", "the brokers are too old: Kafka 2.3 is the oldest")
    return TroubleError("BadAnswer", "an answer is not as Kafka's protocol has it")


def refusal_of(error: Exception) -> Refusal:
    """The same as a reason and a message."""
    trouble = trouble_of(error)
    return trouble.reason, trouble.message
