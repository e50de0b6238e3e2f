"""A process that is killed at any moment: what its file says afterwards is right."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from telemetron.history import queries
from telemetron.history.archive import Archive, GoneError
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import Place
from telemetron.history.queries import Asked
from telemetron.history.timeline import Timeline
from telemetron.store.store import Store
from tests.real.nightly import often

KILLS = often(180)
# Of files that are just being made.
YOUNG_KILLS = often(40)
LOST_SECONDS = 1.0

# It says what it has put, and at which place that is, once anybody could read it.
WRITER = """
import asyncio, sys, time
from telemetron.document import Queue
from telemetron.history.history import History
from telemetron.store.store import Store
from telemetron.history.limits import HistoryLimits

async def main(path):
    store = Store("test")
    history = History(store, HistoryLimits(file_bytes=2 * 1024 * 1024), path)
    history.start()
    source = store.add("kafka", "kafka")
    source.start(1000.0)
    number = 0
    while True:
        number += 1
        for name in (("even", "odd")[number % 2], "each"):
            queue = Queue(name=name, consumers=number, group_state="x" * (number * 37 % 300))
            store.put(source, "queues", name, name, queue)
        store.flush()
        snapshot = store.snapshot
        print(snapshot.epoch, snapshot.change.revision, number, time.time(), flush=True)
        await asyncio.sleep(0.002)

asyncio.run(main(sys.argv[1]))
"""

Told = dict[Place, tuple[int, float]]
"""By place, the number that was put, and when it was told."""


def test_a_file_survives_kills(tmp_path: Path) -> None:
    """Each time: it opens, is sound, has all but the last second, and every state is right."""
    path = tmp_path / "history.db"
    chance = random.Random(20261128)
    told: Told = {}
    lost = []
    for _ in range(KILLS):
        life, killed_at = one_life(path, chance.uniform(0.0, 0.9))
        lost.append(look(path, life, killed_at, told, chance))
    assert max(lost) <= LOST_SECONDS
    assert len({place.epoch for place in told}) > KILLS // 4  # how many the file has room for


def test_a_file_that_is_being_made_survives_kills(tmp_path: Path) -> None:
    """What is left of it is taken by the next process."""
    chance = random.Random(20261128)
    for number in range(YOUNG_KILLS):
        path = tmp_path / f"{number}.db"
        life, killed_at = one_life(path, chance.uniform(0.0, 0.1))
        assert look(path, life, killed_at, {}, chance) <= LOST_SECONDS


def one_life(path: Path, seconds: float) -> tuple[Told, float]:
    """A writer that is killed so long after it has begun to write; when that was."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        lines = [writer.stdout.readline()]
        killing = threading.Timer(seconds, writer.kill)
        killing.start()
        lines += writer.stdout
        killed_at = time.time()
        killing.join()
    life: Told = {}
    for epoch, revision, number, at in (line.split() for line in lines if line.endswith("\n")):
        life[Place(epoch, int(revision))] = int(number), float(at)
    return life, killed_at


def look(path: Path, life: Told, killed_at: float, told: Told, chance: random.Random) -> float:
    """Check the file; gives how many of the last seconds of that life it does not have.

    `told` is what was kept of all lives before, and has this one's in the end.
    """
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    archive = Archive(str(path), "test", "00", 0)
    try:
        kept = [place for place in life if is_kept(archive, place)]
        missing = [place for place in life if place not in kept]
        # Only what came last is missing.
        assert missing == list(life)[len(kept) :]
        told |= {place: life[place] for place in kept}
        oldest = archive.oldest()
        there = sorted(place for place in told if oldest and place >= oldest)
        places = sorted({*chance.sample(there, min(5, len(there))), *kept[-1:]} & {*there})
        for place in places:
            assert archive.find(place).place == place
            assert consumers(archive, place) == put_by(told[place][0])
        for since, until in pairwise(places):
            compare(archive, since, until, told)
        return killed_at - life[missing[0]][1] if missing else 0.0
    finally:
        archive.close()


def is_kept(archive: Archive, place: Place) -> bool:
    try:
        archive.find(place)
    except GoneError:
        return False
    return True


def consumers(archive: Archive, place: Place) -> dict[str, int]:
    """The queues' numbers then."""
    return {
        key.split("/")[1]: json.loads(body)["consumers"]
        for (section, key), body in archive.state(place).items()
        if section == "queues"
    }


def put_by(number: int) -> dict[str, int]:
    """The numbers that were put by then."""
    found = {"each": number, ("even", "odd")[number % 2]: number}
    return found | ({("odd", "even")[number % 2]: number - 1} if number > 1 else {})


def compare(archive: Archive, since: Place, until: Place, told: Told) -> None:
    """What is told as changed between the two is what was put in between."""
    before, after = put_by(told[since][0]), put_by(told[until][0])
    timeline = Timeline(shapes(), Store("test").snapshot, HistoryLimits(), lambda name: ())
    timeline.file = archive
    asked = Asked(str(since), str(until), ("queues",), measures="none")
    answer = json.loads(queries.changes(timeline, asked, datetime.now(UTC)).body)
    timeline.close()
    assert answer["complete"] == (since.epoch == until.epoch)
    changes = {change["key"].split("/")[1]: change for change in answer["changes"]}
    assert {
        name: (change["fields"]["consumers"]["old"], change["fields"]["consumers"]["new"])
        for name, change in changes.items()
        if "consumers" in change.get("fields", {})
    } == {
        name: (before[name], after[name])
        for name in before.keys() & after.keys()
        if before[name] != after[name]
    }
    added = {name for name, change in changes.items() if change["change"] == "added"}
    assert added == after.keys() - before.keys()
