"""Dead letters: messages that a broker moved to another queue because they were given up."""

from collections.abc import Iterator

from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import wait
from telemetron.document import Agent, Queue


def dead_letters(queue: Queue, view: View) -> Iterator[Symptom]:
    """More and more messages are given up."""
    if not is_for_dead_letters(queue, view) or not queue.depth:
        return
    view.trends.add(("queues", queue.key), view.monotonic, queue.depth, 0)
    if view.trends.rises(("queues", queue.key), view.monotonic):
        sources = ", ".join(queue.dead_letters_of[:3])
        yield Symptom(
            "DeadLetters",
            "queues",
            queue.key,
            f"{wait(queue.depth)} in queue {queue.name}, and more come: dead letters of {sources}",
            [
                Place("queues", queue.key, "depth"),
                Place("queues", queue.key, "dead_letters_of/0"),
            ],
            provides=[("backlog", queue.name)],
            depends=[("failing", agent.key) for agent in _readers(queue, view)],
        )


def is_set_aside(queue: Queue, view: View) -> bool:
    """Return whether messages wait in it by design: dead letters, or until a delay is over."""
    return is_for_dead_letters(queue, view) or _delays(queue, view)


def is_for_dead_letters(queue: Queue, view: View) -> bool:
    """Return whether a queue gets messages that were given up, and not only delayed."""
    return any(not _delays(source, view) for source in _sources(queue, view))


# lookups


def _sources(queue: Queue, view: View) -> list[Queue]:
    return [
        one
        for name in queue.dead_letters_of
        for one in view.find("queues by name", name)
        if one.source == queue.source
    ]


def _delays(queue: Queue, view: View) -> bool:
    """Return whether nobody reads it: its messages expire, and go to another queue."""
    if queue.message_ttl_seconds is None or queue.consumers:
        return False
    targets = view.find("queues by dead letters", queue.name)
    return any(one.source == queue.source for one in targets)


def _readers(queue: Queue, view: View) -> list[Agent]:
    return [agent for name in queue.dead_letters_of for agent in view.find("agents by queue", name)]


RULES = (
    Rule(
        "DeadLetters",
        "queues",
        "warning",
        20,
        30,
        "`depth` of a queue with `dead_letters_of`, over the last two minutes",
        "Messages are given up: rejected, delivered too often, or expired.",
        "Read the consumers' logs of the queues in `dead_letters_of`; the header `x-death` of a"
        " dead letter says why and where from.",
        dead_letters,
        asks=("agents",),
    ),
)
