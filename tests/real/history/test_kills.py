"""A process that is killed at any moment: what its file says afterwards is right."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from telemetron.archive import Archive, GoneError
from telemetron.place import Place

KILLS = 200
LOST_SECONDS = 1.0

# It says what it has put, and at which place that is, once anybody could read it.
WRITER = """
import asyncio, sys, time
from telemetron.document import Queue
from telemetron.history import History
from telemetron.store import Store
from telemetron.timeline import Limits

async def main(path):
    store = Store("test")
    history = History(store, Limits(file_bytes=2 * 1024 * 1024), path)
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


@pytest.mark.timeout(240)
def test_a_file_survives_200_kills(tmp_path: Path) -> None:
    """Each time: it opens, is sound, has all but the last second, and every state is right."""
    path = tmp_path / "history.db"
    chance = random.Random(20261128)
    told: Told = {}
    lost = []
    for _ in range(KILLS):
        life, killed_at = one_life(path, chance.uniform(0.0, 0.9))
        told |= life
        lost.append(look(path, life, killed_at, told, chance))
    assert max(lost) <= LOST_SECONDS
    assert len({place.epoch for place in told}) == KILLS


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
    """Check the file; gives how many of the last seconds of that life it does not have."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    archive = Archive(str(path), "test", "00", 0)
    try:
        for place in chance.sample(sorted(told), min(5, len(told))):
            if is_kept(archive, place):
                check(archive, place, told[place][0])
        kept = [place for place in life if is_kept(archive, place)]
        if kept:
            check(archive, kept[-1], life[kept[-1]][0])
        missing = [place for place in life if place not in kept]
        # Only what came last is missing.
        assert missing == list(life)[len(kept) :]
        return killed_at - life[missing[0]][1] if missing else 0.0
    finally:
        archive.close()


def is_kept(archive: Archive, place: Place) -> bool:
    """Whether it is found; then its state is there, too, unless its keyframe is forgotten."""
    try:
        archive.find(place)
    except GoneError:
        return False
    return True


def check(archive: Archive, place: Place, number: int) -> None:
    """The queues have the numbers that were put by then."""
    try:
        state = archive.state(place)
    except GoneError:
        return
    found = {
        key.split("/")[1]: json.loads(body)["consumers"]
        for (section, key), body in state.items()
        if section == "queues"
    }
    expected = {"each": number, ("even", "odd")[number % 2]: number}
    if number > 1:
        expected[("odd", "even")[number % 2]] = number - 1
    assert found == expected, place
