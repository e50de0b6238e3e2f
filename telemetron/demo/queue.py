"""A folder as a queue between processes."""

import json
import os
import time
from itertools import count
from pathlib import Path
from typing import Any, Protocol

Item = dict[str, Any]
RECORD = "record"
"""Where an item from a topic has the record that it came as."""


class Queue(Protocol):
    """What a folder and a topic have in common."""

    name: str

    def __len__(self) -> int: ...

    def put(self, item: Item) -> bool: ...

    def claim(self, worker: str) -> Item | None: ...


class FolderQueue:
    """Items are JSON files; the oldest sorts first, and each is claimed by one process.

    A file appears by a rename and is claimed by a rename, so that nobody sees half an item and
    no two get the same. What a worker claimed last stays in `claimed/` under its name.
    """

    def __init__(self, folder: Path, limit: int = 32) -> None:
        self.name = folder.name
        self.limit = limit
        self._folder = folder
        self._claimed = folder / "claimed"
        self._claimed.mkdir(parents=True, exist_ok=True)
        self._serial = count()

    def __len__(self) -> int:
        return len(self._files())

    def put(self, item: Item) -> bool:
        """Append an item; False when the queue is full."""
        if len(self) >= self.limit:
            return False
        name = f"{time.time_ns():020}-{os.getpid()}-{next(self._serial)}"
        hidden = self._folder / f"{name}.part"
        hidden.write_text(json.dumps(item))
        hidden.rename(self._folder / f"{name}.json")
        return True

    def claim(self, worker: str) -> Item | None:
        """Take the oldest item; None when there is none."""
        mine = self._claimed / f"{worker}.json"
        for file in self._files():
            try:
                file.rename(mine)
            except FileNotFoundError:  # another was faster
                continue
            item: Item = json.loads(mine.read_text())
            return item
        return None

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))
