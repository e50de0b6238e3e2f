"""The archive by itself: what is kept, forgotten, refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telemetron.history.archive import APPLICATION, MEMORY, Archive, ArchiveError, GoneError
from telemetron.history.place import Place
from telemetron.history.recorder import Entry, Step, pack

KEY = "queues", "q"
HOUR = 3_600_000


@pytest.fixture
def archive():
    one = Archive(MEMORY, "test", "ab", 0)
    yield one
    one.close()


def step(revision, depth=None, at=None):
    """One in which the queue's depth becomes its revision."""
    depth = revision if depth is None else depth
    entry = Entry(*KEY, pack({"depth": [depth - 1, depth]}))
    return Step(revision, 0, revision * 1000 if at is None else at, [entry])


def body(depth):
    return b'{"key":"q","depth":%d}' % depth


def fill(archive, *revisions, every=5):
    """Batches of one step, a keyframe before each fifth."""
    for revision in revisions:
        archive.append([step(revision)])
        if revision % every == 0:
            archive.add_keyframe(step(revision), {KEY: body(revision)})


def test_a_state_is_a_keyframe_with_later_steps_replayed(archive):
    fill(archive, *range(5, 15))
    for revision in range(5, 15):
        assert archive.state(Place("ab", revision)) == {KEY: body(revision)}
    with pytest.raises(GoneError):
        archive.state(Place("ab", 4))


def test_a_state_is_not_replayed_over_a_hole(archive):
    fill(archive, 5, 6, 8)
    assert archive.state(Place("ab", 6)) == {KEY: body(6)}
    with pytest.raises(GoneError, match="missing"):
        archive.state(Place("ab", 8))


def test_merged_revisions_are_no_hole(archive):
    fill(archive, 5)
    archive.append([Step(9, 0, 9000, [Entry(*KEY, pack({"depth": [5, 9]}))], skipped=3)])
    assert archive.state(Place("ab", 9)) == {KEY: body(9)}
    with pytest.raises(GoneError):
        archive.find(Place("ab", 7))


def test_a_place_has_its_times(archive):
    fill(archive, 5, 6)
    assert archive.find(Place("ab", 6)) == (Place("ab", 6), 6000, 0)
    assert archive.find_time(6999).place == Place("ab", 6)
    assert archive.find_time(5999).place == Place("ab", 5)
    for place in (Place("ab", 7), Place("ab", 5, 1), Place("cd", 6)):
        with pytest.raises(GoneError):
            archive.find(place)
    with pytest.raises(GoneError):
        archive.find_time(4999)


def test_old_steps_are_dropped_keyframe_by_keyframe(archive):
    fill(archive, *range(5, 20))
    assert archive.oldest() == Place("ab", 5)
    assert not archive.drop_oldest(10**9, 10_000 - 1)
    # Until the next keyframe is too old, it is needed for what is not.
    assert archive.drop_oldest(10**9, 10_001)
    assert archive.oldest() == Place("ab", 10)
    assert not archive.drop_oldest(10**9, 14_000)
    assert archive.state(Place("ab", 10)) == {KEY: body(10)}
    with pytest.raises(GoneError):
        archive.state(Place("ab", 9))
    lived = [one.place.revision for one in archive.entries(KEY, None)]
    assert lived == [*range(19, 9, -1)]


def test_a_large_archive_drops_all_but_the_last_keyframe(archive):
    fill(archive, *range(5, 1000))
    limit = archive.bytes_used() // 2
    while archive.drop_oldest(limit, 0):
        pass
    assert archive.bytes_used() <= limit
    assert archive.state(Place("ab", 999)) == {KEY: body(999)}
    while archive.drop_oldest(0, 0):
        pass
    assert archive.oldest() == Place("ab", 995)


def test_a_keyframe_is_due_by_size_or_by_age(archive):
    fill(archive, 5)
    assert not archive.wants_keyframe(HOUR)
    archive.append([step(6, at=HOUR)])
    assert archive.wants_keyframe(HOUR)
    archive.add_keyframe(step(6, at=HOUR), {KEY: body(6)})
    assert not archive.wants_keyframe(HOUR)
    noise = [
        Entry("queues", f"{hash(n)}", new=b'{"key":"%x"}' % hash(str(n))) for n in range(50_000)
    ]
    archive.append([Step(7, 0, HOUR, noise)])
    assert archive.wants_keyframe(HOUR)


def touched(archive, until, states=False, id=KEY):
    return [one.at for one in archive.entries_until(id, Place("ab", until), states)]


def test_entries_of_an_entity_are_newest_first(archive):
    fill(archive, 5, 6)
    archive.append([Step(7, 0, 7000), step(8)])
    for until, times in (
        (5, [5000]),
        (6, [6000, 5000]),
        (7, [6000, 5000]),
        (8, [8000, 6000, 5000]),
    ):
        assert touched(archive, until) == times
    assert touched(archive, 8, id=("queues", "r")) == []


def test_batches_of_measures_are_not_read_for_changes_of_state(archive):
    fill(archive, 5)
    for revision in range(6, 9):
        late = Entry(*KEY, pack({"depth": [revision - 1, revision]}), is_state=False)
        archive.append([Step(revision, 0, revision * 1000, [late])])
    assert touched(archive, 8) == [8000, 7000, 6000, 5000]
    assert touched(archive, 8, states=True) == [5000]
    assert [one.place.revision for one in archive.entries(KEY, None)] == [8, 7, 6, 5]


def test_places_and_times_in_a_hole_are_refused(archive):
    archive.begin(step(5), {KEY: body(5)})
    archive.append([step(6)])
    archive.begin(step(9), {KEY: body(9)})
    for at, revision in ((5999, 5), (6000, 6), (9000, 9), (9999, 9)):
        assert archive.find_time(at).place == Place("ab", revision)
    for at in (6001, 8999):
        with pytest.raises(GoneError):
            archive.find_time(at)
    assert archive.state(Place("ab", 9)) == {KEY: body(9)}
    with pytest.raises(GoneError):
        archive.state(Place("ab", 7))
    # What changed it before that is not known.
    archive.append([Step(10, 0, 10_000)])
    assert touched(archive, 10, id=("queues", "r")) == []


def test_a_hole_may_have_only_steps_of_measures(archive):
    archive.begin(step(5), {KEY: body(5)})
    archive.begin(step(6), {KEY: body(6)})
    with pytest.raises(GoneError):
        archive.find_time(5500)


def test_times_between_merged_revisions_are_refused(archive):
    several = Step(9, 0, 9000, [Entry(*KEY, pack({"depth": [5, 9]}))], skipped=3)
    archive.begin(step(5), {KEY: body(5)})
    archive.append([several, step(10)])
    archive.append([Step(12, 0, 12_000, skipped=1)])
    for at, revision in ((5000, 5), (9000, 9), (10_000, 10), (12_000, 12)):
        assert archive.find_time(at).place == Place("ab", revision)
    for at in (5001, 8999, 10_001, 11_999):
        with pytest.raises(GoneError):
            archive.find_time(at)


def test_entries_mark_a_hole_with_none(archive):
    archive.begin(step(5), {KEY: body(5)})
    archive.append([step(6)])
    archive.begin(step(9), {KEY: body(9)})
    lived = [one and one.place.revision for one in archive.entries(KEY, None)]
    assert lived == [9, None, 6, 5]
    assert [one and one.place.revision for one in archive.entries(KEY, Place("ab", 9))] == [
        None,
        6,
        5,
    ]
    assert [one and one.place.revision for one in archive.entries(KEY, Place("ab", 6))] == [5]


def test_beginning_an_epoch_is_atomic(archive):
    archive.begin(step(5), {KEY: body(5)})
    with pytest.raises(TypeError):
        archive.begin(step(9), {KEY: object()})
    assert archive.last == (5, 0)
    with pytest.raises(GoneError):
        archive.find(Place("ab", 9))


# files


def test_a_time_before_the_first_stored_step_of_an_epoch_is_refused(tmp_path):
    path = str(tmp_path / "history.db")
    first = Archive(path, "test", "ab", 0)
    first.begin(step(5), {KEY: body(5)})
    first.close()
    second = Archive(path, "test", "cd", 10_000)
    second.begin(step(20), {KEY: body(20)})
    assert second.find_time(9999).place == Place("ab", 5)
    with pytest.raises(GoneError):
        second.find_time(10_001)
    second.close()


@pytest.mark.parametrize("application", [0, APPLICATION])
def test_an_empty_database_is_filled(tmp_path, application):
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA application_id = {application}")
    database.close()
    archive = Archive(str(path), "test", "ab", 0)
    fill(archive, 5)
    assert archive.state(Place("ab", 5)) == {KEY: body(5)}
    archive.close()


def test_an_earlier_epoch_is_answered(tmp_path):
    path = str(tmp_path / "history.db")
    first = Archive(path, "test", "ab", 0)
    fill(first, 5, 6)
    first.mark_alive(9000)
    first.close()
    second = Archive(path, "test", "cd", 10_000)
    assert second.state(Place("ab", 6)) == {KEY: body(6)}
    assert second.find_time(9999).place == Place("ab", 6)
    assert second.alive_until("ab") == 9000
    assert second.oldest() == Place("ab", 5)
    second.close()


def test_systems_in_one_file_do_not_see_each_other(tmp_path):
    path = str(tmp_path / "history.db")
    first = Archive(path, "one", "ab", 0)
    fill(first, 5)
    second = Archive(path, "two", "cd", 0)
    assert second.oldest() is None
    with pytest.raises(GoneError):
        second.state(Place("ab", 5))
    first.close()
    second.close()


def test_a_file_of_another_application_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (id)")
    other.close()
    kept = path.read_bytes()
    with pytest.raises(ArchiveError, match="another application"):
        Archive(str(path), "test", "ab", 0)
    assert path.read_bytes() == kept


def test_a_file_other_than_a_database_is_left_alone(tmp_path):
    path = tmp_path / "history.db"
    path.write_text("notes " * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        Archive(str(path), "test", "ab", 0)
    assert path.read_text() == "notes " * 1000


def test_a_file_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "history.db"
    Archive(str(path), "test", "ab", 0).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    kept = path.read_bytes()
    with pytest.raises(ArchiveError, match=r"has version 2, .* move the file away"):
        Archive(str(path), "test", "cd", 0)
    assert path.read_bytes() == kept


def test_a_damaged_file_is_refused_before_it_is_written(tmp_path):
    path = tmp_path / "history.db"
    archive = Archive(str(path), "test", "ab", 0)
    fill(archive, *range(5, 300))
    archive.close()
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(raw)
    with pytest.raises((ArchiveError, sqlite3.DatabaseError)):
        Archive(str(path), "test", "cd", 0)
    assert path.read_bytes() == bytes(raw)


def test_notes_are_of_one_system_and_outlive_the_epoch(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    with closing(Archive(path, "a", "01", 1)) as archive:
        archive.put_note("x/1", b"old")
        archive.put_note("x/1", b"new")
        archive.put_note("x/2", b"2")
        archive.put_note("y/1", b"other")
    with closing(Archive(path, "b", "02", 2)) as archive:
        assert archive.notes("x/") == {}
    with closing(Archive(path, "a", "03", 3)) as archive:
        assert archive.notes("x/") == {"x/1": b"new", "x/2": b"2"}
        archive.drop_note("x/2")
        assert archive.notes("") == {"x/1": b"new", "y/1": b"other"}
