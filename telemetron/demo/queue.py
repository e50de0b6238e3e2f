"""A folder as a queue between processes."""

import json
import os
import time
from itertools import count
from pathlib import Path
from typing import Any, Protocol

Item = dict[str, Any]
RECORD = "record"
"""The key under which an item from a topic has its Kafka record."""


class WorkQueue(Protocol):
    """A queue between the agents: a folder or a topic."""

    name: str

    def __len__(self) -> int: ...

    def put(self, item: Item) -> bool: ...

    def claim(self, worker: str) -> Item | None: ...


class FolderQueue:
    """Items are JSON files; the oldest sorts first, and each is claimed by one process.

    A file appears by a rename and is claimed by a rename: no process reads half an item, and no
    two processes get the same one. The last item of a worker stays in `claimed/` under its name.
    """

    def __init__(self, folder: Path, limit: int = 32) -> None:
        self.name = folder.name
        self.limit = limit
        self._folder = folder
        self._claimed = folder / "claimed"
        self._claimed.mkdir(parents=True, exist_ok=True)
        self._serial = count()

    def __len__(self) -> int:
        return len(self.files())

    def put(self, item: Item) -> bool:
        """Append an item; return False if the queue is full."""
        if len(self) >= self.limit:
            return False
        name = f"{time.time_ns():020}-{os.getpid()}-{next(self._serial)}"
        hidden = self._folder / f"{name}.part"
        hidden.write_text(json.dumps(item))
        hidden.rename(self._folder / f"{name}.json")
        return True

    def claim(self, worker: str) -> Item | None:
        """Remove and return the oldest item, or None if the queue is empty."""
        mine = self._claimed / f"{worker}.json"
        for file in self.files():
            try:
                file.rename(mine)
            except FileNotFoundError:  # another process claimed it first
                continue
            item: Item = json.loads(mine.read_text())
            return item
        return None

    def files(self) -> list[Path]:
        """Return the files of the waiting items, oldest first."""
        return sorted(self._folder.glob("*.json"))
