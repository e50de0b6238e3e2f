"""Reads the members of groups from the brokers that coordinate them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.group import ConsumerGroup
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.membership import (
    KINDS,
    GroupInfo,
    describe_groups,
    parse_described,
)
from telemetron_collectors.kafka.protocol.wire import ResponseBody, UnsupportedError

MAX_IN_REQUEST = 100
"""Groups of one request: decoding its response blocks the event loop."""

LATE = ("Unreachable", "the coordinator does not describe the group's members")

Question = tuple[str, int, str, int]
"""The caller, the broker, the type of the groups, and the number of the request among those."""


class Members:
    """Describes groups, and applies the descriptions to them."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._schedule = cluster.schedule
        self._brokers = cluster.brokers
        self._groups = cluster.groups
        self._clock = cluster.clock
        self._scopes = cluster.scopes
        self._responses: dict[Question, tuple[bytes, dict[str, GroupInfo]]] = {}
        """The last response to each question: an equal one is not decoded again."""

    async def read_shown(self) -> None:
        """Read the members of all groups with queues; members that are too old become unknown.

        If their coordinator is out of reach, the last known members stay: the source reports that.
        """
        groups = self._groups.values()
        self._scopes.send_only_to({group.node for group in groups}, "members")
        shown = [group for group in groups if group.queues]
        await self.read("shown", shown)
        for group in shown:
            if group.info and self._cluster.is_late(group.described_at, group.node):
                self._set(group, None, LATE)

    async def read(self, name: str, groups: Iterable[ConsumerGroup]) -> None:
        """Read the members of these groups; the same `name` for the same groups saves work."""
        asked: dict[tuple[int, str], list[ConsumerGroup]] = {}
        for group in groups:
            if group.node is None:
                continue
            if group.type in KINDS:
                asked.setdefault((group.node, group.type), []).append(group)
            else:
                self._refuse(group, f"this version does not know groups of type {group.type}")
        await asyncio.gather(
            *(
                self._describe((name, node, kind, number), some)
                for (node, kind), found in asked.items()
                for number, some in enumerate(_chunks(found))
            )
        )

    async def _describe(self, question: Question, groups: Sequence[ConsumerGroup]) -> None:
        _, node, kind, _ = question
        broker = self._brokers.get(node)
        if broker is None:
            return
        request = describe_groups(kind, [group.name for group in groups])
        try:
            described = self._parse(question, await broker.control.call(request))
        except UnsupportedError:
            for group in groups:
                self._refuse(group, f"the broker cannot describe groups of type {kind}")
        except (TroubleError, ValueError) as error:
            self._scopes.fail(node, "members", error)
        else:
            self._scopes.succeed(node, "members")
            for group in groups:
                if (info := described.get(group.name)) is not None:
                    self._apply(group, info)

    def _parse(self, question: Question, response: ResponseBody) -> dict[str, GroupInfo]:
        before, described = self._responses.get(question, (b"", {}))
        if before != response.content:
            described = parse_described(question[2], response)
            self._responses[question] = response.content, described
        return described

    def _apply(self, group: ConsumerGroup, info: GroupInfo) -> None:
        if info.error == messages.GROUP_DENIED:
            self._set(group, None)
        elif info.error in messages.COORDINATOR_ERRORS:
            return  # the last known members stay for a while
        elif info.error != messages.NONE:
            self._refuse(group, f"error {info.error}")
        elif info.is_absent and not self._is_unlisted(group):
            self._schedule.hasten("groups")  # is it of another type now?
        else:
            self._set(group, info)

    def _is_unlisted(self, group: ConsumerGroup) -> bool:
        """Return whether the coordinator does not list the group either.

        A group of another type is described as absent, too, but it is listed.
        """
        broker = self._brokers.get(group.node)
        if broker is None or broker.groups is None or group.name in broker.groups:
            return False
        return not self._scopes.is_failing(group.node or 0, "groups")

    def _refuse(self, group: ConsumerGroup, why: str) -> None:
        self._set(group, None, ("BadAnswer", f"the members are not known: {why}"))

    def _set(
        self, group: ConsumerGroup, info: GroupInfo | None, refusal: tuple[str, str] | None = None
    ) -> None:
        if group.set_members(info, refusal, self._clock.monotonic()):
            self._cluster.mark_changed(group.queues)


def _chunks(groups: list[ConsumerGroup]) -> Iterator[list[ConsumerGroup]]:
    groups.sort(key=lambda group: group.name)
    for first in range(0, len(groups), MAX_IN_REQUEST):
        yield groups[first : first + MAX_IN_REQUEST]
