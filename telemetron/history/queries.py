"""Queries of the timeline: the difference of two places, the past, the history of one entity."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from telemetron.history.archive import GoneError, HoleError, Moment
from telemetron.history.delta import Record
from telemetron.history.place import Place, milliseconds, moment, parse
from telemetron.history.recorder import Entry, Id, decode, encode
from telemetron.history.selection import Json, Selection, selection
from telemetron.history.timeline import NAME, Between, Timeline
from telemetron.history.times import times_of
from telemetron.store.rope import Change, Fragment, Rope
from telemetron.store.snapshot import SectionSnapshot, Snapshot

SOURCES = "sources"


class Asked(NamedTuple):
    """The changes that a client asks for."""

    since: str | None = None
    """None: the oldest place that is in memory."""
    until: str | None = None
    sections: tuple[str, ...] = ()
    """Empty: all."""
    key: str | None = None
    measures: str = "levels"
    kinds: tuple[str, ...] = ()
    """Empty: all, and agents have counts of their tasks."""
    limit: int = 100
    after: str | None = None
    """Continue after this entity, as `SECTION/KEY`."""
    cut: bool = False
    """Whether `since` is the oldest place because the client asked for an earlier time."""
    link: "Callable[[Asked], str] | None" = None
    """Makes the value of `next`, from what to ask for the rest."""


class UnknownKeyError(LookupError):
    """No entity of these sections has this key, or had it at any time in the history."""

    def __init__(self, sections: Sequence[str], key: str) -> None:
        super().__init__(key)
        self.sections = sections
        self.key = key


class Diff(NamedTuple):
    """Changes as they are sent, and the place that they lead to."""

    body: bytes
    to: str
    empty: bool
    """Whether there is nothing to send to a stream."""
    after: str | None = None
    """The last entity in it, if there are more."""


def snapshot(timeline: Timeline, text: str, now: datetime) -> Snapshot:
    """Return the document as it was; its measures are those last recorded by then."""
    place, at, started_at = timeline.resolve(text, now)
    asked = parse(text, now)
    if isinstance(asked, datetime) and place.epoch != timeline.tip.epoch:
        timeline.require_running(place, milliseconds(asked))
    change = Change(place.revision, place.revision, moment(at))
    fragments: dict[str, dict[str, Fragment]] = {name: {} for name in timeline.shapes}
    for (section, key), body in timeline.state(place).items():
        fragments[section][key] = Fragment(body, None, b"", change)
    sections = {name: SectionSnapshot(_rope(found), change) for name, found in fragments.items()}
    return Snapshot(timeline.system, place.epoch, moment(started_at), change, sections, place.step)


class Ended(NamedTuple):
    """How a run of Telemetron ended."""

    bodies: list[bytes]
    """The entities of the section that was asked for."""
    alive_at: int
    """When it was last known to be running, in milliseconds since 1970."""


def end_of_run_before(timeline: Timeline, section: str) -> Ended | None:
    """Return how the run before this one ended; None if the file does not say."""
    file = timeline.file
    if file is None:
        return None
    try:
        last = file.find_time(timeline.newest.started_at - 1).place
    except HoleError as hole:
        last = hole.before.place
    except GoneError:
        return None
    try:
        state = file.state(last)
    except GoneError:
        return None
    bodies = [body for id, body in state.items() if id[0] == section]
    return Ended(bodies, file.alive_until(last.epoch))


def changes(timeline: Timeline, asked: Asked, now: datetime) -> Diff:
    """Return the net difference of two places; raise as `Timeline.resolve` and `require_key` do."""
    answer, between = _diff(timeline, asked, now)
    ids = between.before.keys() | between.after.keys()
    if not any(_is_asked(id, asked) for id in ids):
        require_key(timeline, asked)
    return answer


def require_key(timeline: Timeline, asked: Asked) -> None:
    """Raise UnknownKeyError if no entity has the requested key, now or in the history."""
    if asked.key is None:
        return
    sections = asked.sections or tuple(timeline.shapes)
    if not any(timeline.has_known((section, asked.key)) for section in sections):
        raise UnknownKeyError(sections, asked.key)


def start(timeline: Timeline, text: str, now: datetime) -> tuple[Moment, bool]:
    """Return the moment that a place, time or duration names, and whether it was cut.

    A time before the oldest place is cut: it means that place. So is a time in a hole: it means the
    last place before the hole, so that no change after the time is left out.
    """
    try:
        return timeline.resolve(text, now), False
    except HoleError as hole:
        return hole.before, True
    except GoneError:
        at, oldest = parse(text, now), timeline.oldest()
        if isinstance(at, datetime) and oldest:
            found = timeline.resolve(str(oldest), now)
            if milliseconds(at) < found.at:
                return found, True
        raise


def _diff(timeline: Timeline, asked: Asked, now: datetime) -> tuple[Diff, Between]:
    since, until, is_cut = _ends(timeline, asked, now)
    one_epoch = since.place.epoch == until.place.epoch
    complete = one_epoch and not is_cut
    between = timeline.between(since.place, until.place)
    starting = {} if one_epoch else _starting(timeline, since.place, until.place)
    found = _changes(timeline, between, asked, set().union(*starting.values()))
    some, last = _bounded(found, asked.limit, timeline.limits.answer_bytes)
    body = {
        "from": str(since.place),
        "from_at": moment(since.at),
        "to": str(until.place),
        "to_at": moment(until.at),
        "complete": complete,
        "starting": sorted(starting),
        "changes": some,
        "truncated": last is not None,
        "next": _next(asked, since.place, until.place, last),
    }
    # A diff without changes is sent too if it is incomplete.
    return Diff(encode(body), str(until.place), complete and not some, last), between


def _ends(timeline: Timeline, asked: Asked, now: datetime) -> tuple[Moment, Moment, bool]:
    """Return both ends of a diff in their order, and whether one of them was cut."""
    if asked.since is None:
        since, is_cut = timeline.resolve(str(timeline.oldest_in_memory()), now), False
    else:
        since, is_cut = start(timeline, asked.since, now)
    until, until_is_cut = timeline.newest, False
    if asked.until is not None:
        until, until_is_cut = start(timeline, asked.until, now)
    if _order(timeline, since) > _order(timeline, until):
        since, until = until, since
    return since, until, asked.cut or is_cut or until_is_cut


def news(timeline: Timeline, asked: Asked) -> Diff:
    """Return the changes since a place; raise GoneError if it is no longer in the history."""
    if asked.since == str(timeline.tip) and not asked.cut:
        return Diff(b"", asked.since, True)
    return _diff(timeline, asked, moment(0))[0]


def gap(timeline: Timeline, why: str, since: str | None) -> Diff:
    """Return the answer that says why the changes since a place are lost."""
    body = {"from": since, "to": str(timeline.tip), "complete": False, "lost": why}
    return Diff(encode(body), str(timeline.tip), False)


def _starting(timeline: Timeline, since: Place, until: Place) -> dict[str, Collection[str]]:
    """Return the sources that had not yet seen all of their part, with the sections they write."""
    rows = _rows(timeline, until)
    if not rows:  # the epoch had no source yet: those of the epoch before count
        return {row["key"]: timeline.shapes.keys() for row in _rows(timeline, since)}
    return {
        row["key"]: timeline.feeds(row["collector"]) or timeline.shapes.keys() - {SOURCES}
        for row in rows
        if row["status"] not in ("ok", "off") and row["last_ok_at"] is None
    }


def _rows(timeline: Timeline, place: Place) -> list[Record]:
    """Return the rows of the sources at a place, but for that of the history itself."""
    state = timeline.state(place)
    rows = [decode(body) for (section, _), body in state.items() if section == SOURCES]
    return [row for row in rows if row["collector"] != NAME]


def _changes(
    timeline: Timeline, between: Between, asked: Asked, unsure: Collection[str]
) -> Iterator[Json]:
    """Yield the changes of the requested entities, in the document's order.

    A source that is starting may not have seen everything yet, so nothing counts as removed in the
    `unsure` sections.
    """
    asked_for = selection(asked.measures, asked.kinds)
    for id in _changed_ids(timeline, between, asked):
        section, key = id
        before, now = between.before.get(id), between.after.get(id)
        if now is None and section in unsure:
            continue
        shape = timeline.shapes[section]
        shown = asked_for.between(section, before, now, shape, section not in unsure)
        if shown.change:
            times = times_of(shown.timed, partial(between.entries, id), shape, asked_for.measures)
            yield {"section": section, "key": key} | times | shown.change


def _changed_ids(timeline: Timeline, between: Between, asked: Asked) -> Iterator[Id]:
    order = {name: number for number, name in enumerate(timeline.shapes)}
    ids = [
        id
        for id in between.before.keys() | between.after.keys()
        if between.before.get(id) != between.after.get(id) and _is_asked(id, asked)
    ]
    section, _, key = (asked.after or "").partition("/")
    after = order.get(section, -1), key
    for place, id in sorted(((order[id[0]], id[1]), id) for id in ids):
        if not asked.after or place > after:
            yield id


def entity_history(
    timeline: Timeline,
    id: Id,
    before: str | None,
    asked_for: Selection,
    limit: int,
    now: datetime,
    link: Callable[[str], str] | None = None,
) -> bytes:
    """Return the changes of one entity, newest first; raise UnknownKeyError if it never existed.

    `link` makes the value of `next`, from the place before which the rest is.
    """
    bound, is_cut = (None, False) if before is None else _bound(timeline, before, now)
    changes, more, complete = _entry_changes(timeline, id, bound, asked_for, limit)
    if not changes and not timeline.has_known(id):
        raise UnknownKeyError((id[0],), id[1])
    oldest = timeline.oldest()
    body = {
        "section": id[0],
        "key": id[1],
        "present": id in timeline.bodies,
        "oldest": oldest and str(oldest),
        "complete": complete and not is_cut,
        "changes": changes,
        "truncated": more is not None,
        "next": link(more) if more and link else None,
    }
    return encode(body)


def _entry_changes(
    timeline: Timeline, id: Id, before: Place | None, asked_for: Selection, limit: int
) -> tuple[list[Json], str | None, bool]:
    """Return changes, the place before which the rest is, and whether none is missing.

    Entries in a row of only counted tasks are one change.
    """
    changes: list[Json] = []
    complete, counted = True, None
    shape, last = timeline.shapes[id[0]], ""
    for number, placed in enumerate(timeline.entries(id, before)):
        if number >= timeline.limits.answer_entries and last:
            return changes, last, complete
        if placed is None:
            complete, counted = False, None
            continue
        place, at, entry = placed
        shown = asked_for.of_entry(id[0], entry, shape)
        if counted and shown.turnover:
            counted = counted.plus(shown.turnover)
            changes[-1]["tasks"] = counted._asdict()
        elif shown.change:
            if len(changes) == limit:
                return changes, last, complete
            one = partial(_only, (at, entry))
            times = times_of(shown.timed, one, shape, asked_for.measures)
            changes.append({"place": str(place)} | times | shown.change)
            counted = shown.turnover
        last = str(place)
    return changes, None, complete


def _only(entry: tuple[int, Entry], _: bool) -> list[tuple[int, Entry]]:
    return [entry]


def _order(timeline: Timeline, one: Moment) -> tuple[bool, int, Place]:
    """Return a sort key: the current epoch comes last, even after the clock was set back."""
    return one.place.epoch == timeline.tip.epoch, one.started_at, one.place


def _bound(timeline: Timeline, text: str, now: datetime) -> tuple[Place, bool]:
    """Return the place that ends the answer, excluded, and whether it was cut as in `start`.

    The place that a time resolves to is before that time, so it is included.
    """
    (place, at, _), is_cut = start(timeline, text, now)
    asked = parse(text, now)
    is_before = isinstance(asked, datetime) and at < milliseconds(asked)
    return place._replace(step=place.step + 1) if is_before else place, is_cut


def _rope(fragments: Mapping[str, Fragment]) -> Rope:
    steps = Rope().edited(fragments)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            rope: Rope = done.value
            return rope


def _is_asked(id: Id, asked: Asked) -> bool:
    return (not asked.sections or id[0] in asked.sections) and asked.key in (None, id[1])


def _bounded(found: Iterator[Json], limit: int, max_bytes: int) -> tuple[list[Json], str | None]:
    """Return the changes that fit one answer; if there are more, also its last, `SECTION/KEY`."""
    changes: list[Json] = []
    size = 0
    for change in found:
        size += len(encode(change))
        if changes and (len(changes) == limit or size > max_bytes):
            return changes, f"{changes[-1]['section']}/{changes[-1]['key']}"
        changes.append(change)
    return changes, None


def _next(asked: Asked, since: Place, until: Place, last: str | None) -> str | None:
    if last is None or asked.link is None:
        return None
    return asked.link(asked._replace(since=str(since), until=str(until), after=last))
