"""A store with its timeline and a file."""

import sqlite3

import msgspec

from telemetron.document import Queue
from telemetron.history import queries
from telemetron.history.archive import Archive
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import milliseconds
from telemetron.history.queries import Asked
from telemetron.history.selection import selection
from telemetron.history.timeline import Timeline
from telemetron.store.store import Store
from telemetron.testing import FakeClock


class System:
    """A store and its timeline, with a file; where that is not open yet, `open` opens it."""

    def __init__(self, path, clock=None, is_open=True, **limits):
        self.clock = clock or FakeClock()
        self.path = path
        self.limits = HistoryLimits(**limits)
        self.store = Store("test", self.clock)
        snapshot = self.store.snapshot
        self.timeline = Timeline(shapes(), snapshot, self.limits, lambda name: ())
        self.file = None
        if is_open:
            self.open()
        self.store.watchers.append(self.published)
        self.source = self.store.add("kafka", "kafka")
        self.store.flush()

    def published(self, publication):
        for _ in self.timeline.record(publication, self.clock.monotonic()):
            pass

    def open(self):
        snapshot = self.store.snapshot
        started = milliseconds(snapshot.started_at)
        self.file = Archive(str(self.path), "test", snapshot.epoch, started, self.limits)
        self.timeline.open_file(self.file)

    def put(self, consumers, name="q"):
        part = Queue(name=name, consumers=consumers)
        self.store.put(self.source, "queues", name, name, part)
        self.store.flush()
        return str(self.timeline.tip)

    def write(self):
        self.timeline.write(milliseconds(self.clock.now()))

    def changes(self, **asked):
        body = queries.changes(self.timeline, Asked(**asked), self.clock.now()).body
        return msgspec.json.decode(body)

    def history(self, key="kafka/q/-", before=None, limit=100):
        id, asked = ("queues", key), selection("levels", ())
        body = queries.entity_history(self.timeline, id, before, asked, limit, self.clock.now())
        answer = msgspec.json.decode(body)
        answer["consumers"] = [
            one["new"]["consumers"] if "new" in one else one["fields"]["consumers"]["new"]
            for one in answer["changes"]
        ]
        return answer

    def at(self, time):
        """The consumers of the queue at that time."""
        past = queries.snapshot(self.timeline, time.isoformat(), self.clock.now())
        body = past.sections["queues"].rope.get("kafka/q/-").body
        return msgspec.json.decode(body)["consumers"]

    def close(self):
        if self.file:
            self.file.close()
        self.timeline.close()

    def restarted(self):
        """What comes a minute after this ended, with the same file."""
        self.write()
        self.close()
        self.clock.advance(60)
        return System(self.path, self.clock)


def ticked(system, *consumers):
    """Each put a second after the one before; the time of the last."""
    for number in consumers:
        system.clock.advance(1)
        system.put(number)
    return system.clock.now()


FORGETFUL = {"memory_bytes": 1, "recent_weight": 3, "open_weight": 2, "keyframe_bytes": 1}
"""Limits with which the memory keeps next to nothing."""


class locked:
    """A file that somebody else writes to."""

    def __init__(self, path):
        self.database = sqlite3.connect(path, isolation_level=None)

    def __enter__(self):
        self.database.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_):
        self.database.close()
