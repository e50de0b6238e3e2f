import subprocess
import sys
from pathlib import Path

import pytest

from telemetron.demo.queue import FolderQueue


@pytest.fixture
def queue(tmp_path: Path) -> FolderQueue:
    return FolderQueue(tmp_path / "sections", limit=3)


def test_the_oldest_item_comes_first(queue: FolderQueue) -> None:
    assert queue.name == "sections"
    assert queue.claim("w") is None
    assert all(queue.put({"id": number}) for number in range(3))
    assert len(queue) == 3
    assert [queue.claim("w") for _ in range(4)] == [{"id": 0}, {"id": 1}, {"id": 2}, None]
    assert len(queue) == 0


def test_it_is_bounded(queue: FolderQueue) -> None:
    assert [queue.put({"id": number}) for number in range(5)] == [True] * 3 + [False] * 2
    queue.claim("w")
    assert queue.put({"id": 9})


def test_other_processes_see_the_same_queue(queue: FolderQueue, tmp_path: Path) -> None:
    queue.put({"id": "ü"})
    assert FolderQueue(tmp_path / "sections").claim("other") == {"id": "ü"}
    assert queue.claim("w") is None


def test_a_file_that_another_process_claimed_first_is_skipped(tmp_path: Path) -> None:
    class Late(FolderQueue):
        def files(self) -> list[Path]:
            files = super().files()
            if len(files) == 2:  # the other process claims the first between listing and rename
                assert FolderQueue(tmp_path / "sections").claim("faster") == {"id": "taken"}
            return files

    queue = Late(tmp_path / "sections")
    queue.put({"id": "taken"})
    FolderQueue(tmp_path / "sections").put({"id": "left"})
    assert queue.claim("w") == {"id": "left"}


CLAIM_ALL = """
import sys
from pathlib import Path
from telemetron.demo.queue import FolderQueue
queue = FolderQueue(Path(sys.argv[1]))
while (item := queue.claim(sys.argv[2])) is not None:
    print(item["id"])
"""


def test_each_item_is_claimed_once(tmp_path: Path) -> None:
    queue = FolderQueue(tmp_path / "many", limit=100)
    for number in range(100):
        queue.put({"id": number})
    command = [sys.executable, "-c", CLAIM_ALL, str(tmp_path / "many")]
    workers = [
        subprocess.Popen([*command, f"worker-{n}"], stdout=subprocess.PIPE) for n in range(3)
    ]
    claimed = b"".join(worker.communicate(timeout=30)[0] for worker in workers)
    assert sorted(map(int, claimed.split())) == list(range(100))
