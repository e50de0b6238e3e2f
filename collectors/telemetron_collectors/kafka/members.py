"""Reads who the members of groups are, from the brokers that coordinate them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.cluster import Known, trouble_of
from telemetron_collectors.kafka.group import Group
from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.membership import (
    KINDS,
    GroupInfo,
    describe_groups,
    parse_described,
)
from telemetron_collectors.kafka.protocol.wire import Answer, UnsupportedError

MAX_IN_REQUEST = 100
"""Groups of one request: the event loop is kept no longer than it takes to decode these."""

LATE = ("Unreachable", "its coordinator does not say who its members are")

Question = tuple[str, int, str, int]
"""Who asks, the broker, the type of the groups, and the number of the request among those."""


class Members:
    """Takes what the coordinators tell into the groups."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._answers: dict[Question, tuple[bytes, dict[str, GroupInfo]]] = {}
        """The last answer to each question, to be spared decoding the same again."""

    async def read_shown(self) -> None:
        """Of all groups that have queues; what nobody tells for too long is unknown."""
        groups = self._known.groups.values()
        self._known.release("members", {group.node for group in groups})
        shown = [group for group in groups if group.queues]
        await self.read("shown", shown)
        for group in shown:
            if group.info and self._is_late(group):
                self._tell(group, None, LATE)

    def _is_late(self, group: Group) -> bool:
        """What is out of reach stays as it was known last: the source says so."""
        is_old = self._known.is_old(group.described_at or 0.0)
        return is_old and self._known.silence(group.node) is None

    async def read(self, name: str, groups: Iterable[Group]) -> None:
        """Of these groups; the same `name` for the same groups saves work."""
        asked: dict[tuple[int, str], list[Group]] = {}
        for group in groups:
            if group.node is None:
                continue
            if group.type in KINDS:
                asked.setdefault((group.node, group.type), []).append(group)
            else:
                self._refuse(group, f"groups of type {group.type} are not known to this version")
        await asyncio.gather(
            *(
                self._describe((name, node, kind, number), some)
                for (node, kind), found in asked.items()
                for number, some in enumerate(_chunks(found))
            )
        )

    async def _describe(self, question: Question, groups: Sequence[Group]) -> None:
        _, node, kind, _ = question
        broker = self._known.brokers.known.get(node)
        if broker is None:
            return
        request = describe_groups(kind, [group.name for group in groups])
        try:
            described = self._parse(question, await broker.control.call(request))
        except UnsupportedError:
            for group in groups:
                self._refuse(group, f"the broker does not describe groups of type {kind}")
        except (TroubleError, ValueError) as error:
            self._known.fail(node, "members", trouble_of(error))
        else:
            self._known.serve(node, "members")
            for group in groups:
                if (info := described.get(group.name)) is not None:
                    self._take(group, info)

    def _parse(self, question: Question, answer: Answer) -> dict[str, GroupInfo]:
        before, described = self._answers.get(question, (b"", {}))
        if before != answer.data[4:]:
            described = parse_described(question[2], answer)
            self._answers[question] = answer.data[4:], described
        return described

    def _take(self, group: Group, info: GroupInfo) -> None:
        if info.error == ask.GROUP_DENIED:
            self._tell(group, None)
        elif info.error in ask.COORDINATOR_ERRORS:
            return  # the last known stands for a while
        elif info.error != ask.NONE:
            self._refuse(group, f"error {info.error}")
        elif info.is_absent and not self._is_absent(group):
            self._known.due["groups"] = 0.0  # is it of another type now?
        else:
            self._tell(group, info)

    def _is_absent(self, group: Group) -> bool:
        """Whether its coordinator does not list it either: of another type it looks the same."""
        node = -1 if group.node is None else group.node
        is_failing = "groups" in self._known.failing.get(node, ())
        return not is_failing and group.name not in self._known.listed.get(node, {group.name})

    def _refuse(self, group: Group, why: str) -> None:
        self._tell(group, None, ("BadAnswer", f"its members are not known: {why}"))

    def _tell(
        self, group: Group, info: GroupInfo | None, untold: tuple[str, str] | None = None
    ) -> None:
        if group.describe(info, untold, self._known.clock.monotonic()):
            self._known.touched.update(group.queues)


def _chunks(groups: list[Group]) -> Iterator[list[Group]]:
    groups.sort(key=lambda group: group.name)
    for first in range(0, len(groups), MAX_IN_REQUEST):
        yield groups[first : first + MAX_IN_REQUEST]
