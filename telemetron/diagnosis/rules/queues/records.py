"""Records that cannot be read, or were deleted unread."""

from collections.abc import Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import counted
from telemetron.document import Queue


def open_transaction(queue: Queue, _: View) -> Iterator[Symptom]:
    """A producer's transaction stays open; nothing behind it can be read."""
    if queue.open_transaction_since is not None:
        yield Symptom(
            "OpenTransaction",
            "queues",
            queue.key,
            f"A transaction on queue {queue.name} stays open;"
            f" {counted(queue.open_transaction_offsets or 0, 'offset')} behind it cannot be read",
            [
                Place("queues", queue.key, field)
                for field in ("open_transaction_since", "open_transaction_offsets")
            ],
            since=queue.open_transaction_since,
            provides=[("queue", queue.key)],
            token=queue.open_transaction_since,
        )


def records_lost(queue: Queue, _: View) -> Iterator[Symptom]:
    """Records were deleted that the group had not read."""
    for problem in queue.problems:
        if problem.reason == "RecordsLost":
            yield Symptom(
                "RecordsLost",
                "queues",
                queue.key,
                f"Records of queue {queue.name} were deleted before group"
                f" {queue.consumer_group} had read them",
                [
                    Place("queues", queue.key, item("problems", "RecordsLost", field))
                    for field in ("reason", "message")
                ],
                since=problem.since,
                provides=[("queue", queue.key)],
            )


RULES = (
    Rule(
        "OpenTransaction",
        "queues",
        "warning",
        60,
        5,
        "`open_transaction_since`",
        "A producer holds a transaction open; consumers that read committed records see nothing"
        " behind it.",
        "Find the producer (`kafka-transactions.sh find-hanging`) and end it or its transaction.",
        open_transaction,
    ),
    Rule(
        "RecordsLost",
        "queues",
        "critical",
        0,
        5,
        "`problems[].reason` is `RecordsLost`",
        "Retention or a deletion removed records before the group had read them. Their tasks will"
        " never be done.",
        "Lengthen the retention, add consumers, and submit the lost tasks again.",
        records_lost,
    ),
)
