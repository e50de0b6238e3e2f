"""Folds of the timeline: the difference of two places, the past, the life of one entity."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from msgspec import Raw

from telemetron.history.archive import GoneError, Moment
from telemetron.history.delta import MEASURES, Delta, Record, Shape, compare, fields
from telemetron.history.moments import times_of
from telemetron.history.place import Place, milliseconds, moment, parse
from telemetron.history.recorder import Entry, Id, decode, encode
from telemetron.history.timeline import NAME, Between, Timeline
from telemetron.store.rope import Change, Fragment, Rope
from telemetron.store.snapshot import SectionSnapshot, Snapshot

MAX_ANSWER_BYTES = 1024 * 1024
SOURCES = "sources"

Json = dict[str, Any]


class Asked(NamedTuple):
    """Which changes are asked for."""

    since: str | None = None
    """None: the oldest that is in memory."""
    until: str | None = None
    sections: tuple[str, ...] = ()
    """Empty: all."""
    key: str | None = None
    measures: str = "levels"
    limit: int = 100
    after: str | None = None
    """Go on after this entity, as `SECTION/KEY`."""
    root: str = ""
    """What a proxy strips of paths; the one to ask for the rest begins with it."""
    cut: bool = False
    """Whether `since` is the oldest place that is kept, because an older time was asked for."""


class UnknownKeyError(LookupError):
    """No entity of these sections has or had this key."""

    def __init__(self, sections: Sequence[str], key: str) -> None:
        super().__init__(key)
        self.sections = sections
        self.key = key


class Answer(NamedTuple):
    """Changes as they are sent, up to which place, and whether there is nothing to tell."""

    body: bytes
    to: str
    empty: bool
    after: str | None = None
    """The last entity of it, if there are more."""


def snapshot(timeline: Timeline, text: str, now: datetime) -> Snapshot:
    """The document as it was, but for measures: those are as last recorded."""
    place, at, started_at = timeline.resolve(text, now)
    asked = parse(text, now)
    if isinstance(asked, datetime) and place.epoch != timeline.tip.epoch:
        timeline.require_life(place, milliseconds(asked))
    change = Change(place.revision, place.revision, moment(at))
    fragments: dict[str, dict[str, Fragment]] = {name: {} for name in timeline.shapes}
    for (section, key), body in timeline.state(place).items():
        fragments[section][key] = Fragment(body, None, b"", change)
    sections = {name: SectionSnapshot(_rope(found), change) for name, found in fragments.items()}
    return Snapshot(timeline.system, place.epoch, moment(started_at), change, sections, place.step)


def changes(timeline: Timeline, asked: Asked, now: datetime) -> Answer:
    """Return what differs between two places, net; raises as `resolve`.

    UnknownKeyError if nothing has the key that is asked for, now or in what is kept.
    """
    answer, between = _net(timeline, asked, now)
    ids = between.before.keys() | between.after.keys()
    if not any(_is_asked(id, asked) for id in ids):
        require_key(timeline, asked)
    return answer


def require_key(timeline: Timeline, asked: Asked) -> None:
    """Raise UnknownKeyError if nothing has the key, now or in what is kept."""
    if asked.key is None:
        return
    sections = asked.sections or tuple(timeline.shapes)
    if not any(timeline.knew((section, asked.key)) for section in sections):
        raise UnknownKeyError(sections, asked.key)


def start(timeline: Timeline, text: str, now: datetime) -> tuple[Moment, bool]:
    """Return what a place, time or duration names, and whether it is later than that.

    A time before all that is kept means the oldest place.
    """
    try:
        return timeline.resolve(text, now), False
    except GoneError:
        at, oldest = parse(text, now), timeline.oldest()
        if isinstance(at, datetime) and oldest:
            found = timeline.resolve(str(oldest), now)
            if milliseconds(at) < found.at:
                return found, True
        raise


def _net(timeline: Timeline, asked: Asked, now: datetime) -> tuple[Answer, Between]:
    cut = [asked.cut, False]
    if asked.since is None:
        since = timeline.resolve(str(timeline.oldest_in_memory()), now)
    else:
        since, cut[1] = start(timeline, asked.since, now)
    until = timeline.newest
    if asked.until is not None:
        until, is_cut = start(timeline, asked.until, now)
        cut.append(is_cut)
    if _order(timeline, since) > _order(timeline, until):
        since, until = until, since
    one_epoch = since.place.epoch == until.place.epoch
    complete = one_epoch and not any(cut)
    between = timeline.between(since.place, until.place)
    starting = {} if one_epoch else _starting(timeline, since.place, until.place)
    found = _found(timeline, between, asked, set().union(*starting.values()))
    some, last = _bounded(found, asked.limit)
    body = {
        "from": str(since.place),
        "from_at": moment(since.at),
        "to": str(until.place),
        "to_at": moment(until.at),
        "complete": complete,
        "starting": sorted(starting),
        "changes": some,
        "truncated": last is not None,
        "next": last and _next(asked, str(since.place), str(until.place), last),
    }
    # That it is not complete is news, even if nothing changed.
    return Answer(encode(body), str(until.place), complete and not some, last), between


def after(timeline: Timeline, asked: Asked) -> Answer:
    """What has changed since a place until now; GoneError where it is not kept any more."""
    if asked.since == str(timeline.tip) and not asked.cut:
        return Answer(b"", asked.since, True)
    return _net(timeline, asked, moment(0))[0]


def gap(timeline: Timeline, why: str, since: str | None) -> Answer:
    """Says that what happened since then is lost, and what the present place is."""
    body = {"from": since, "to": str(timeline.tip), "complete": False, "lost": why}
    return Answer(encode(body), str(timeline.tip), False)


def _starting(timeline: Timeline, since: Place, until: Place) -> dict[str, Collection[str]]:
    """The sources that had not observed all of their part by then, and what they feed."""
    rows = _rows(timeline, until)
    if not rows:  # nobody had begun to look: none of those before
        return {row["key"]: timeline.shapes.keys() for row in _rows(timeline, since)}
    return {
        row["key"]: timeline.feeds(row["collector"]) or timeline.shapes.keys() - {SOURCES}
        for row in rows
        if row["status"] not in ("ok", "off") and row["last_ok_at"] is None
    }


def _rows(timeline: Timeline, place: Place) -> list[Record]:
    """What the sources that observe the system said of themselves then."""
    state = timeline.state(place)
    rows = [decode(body) for (section, _), body in state.items() if section == SOURCES]
    return [row for row in rows if row["collector"] != NAME]


def _found(
    timeline: Timeline, between: Between, asked: Asked, unsure: Collection[str]
) -> Iterator[Json]:
    """The changed entities that are asked for, in the document's order."""
    order = {name: at for at, name in enumerate(timeline.shapes)}
    ids = [
        id
        for id in between.before.keys() | between.after.keys()
        if between.before.get(id) != between.after.get(id) and _is_asked(id, asked)
    ]
    after = asked.after.partition("/") if asked.after else None
    for id in sorted(ids, key=lambda id: (order[id[0]], id[1])):
        if after and (order[id[0]], id[1]) <= (order.get(after[0], -1), after[2]):
            continue
        before, now = between.before.get(id), between.after.get(id)
        if now is None and id[0] in unsure:
            continue
        shape, measures = timeline.shapes[id[0]], MEASURES[asked.measures]
        change = _change(before, now, shape, measures)
        if id[0] in unsure:
            change = _without_losses(change)
        if change:
            touches = partial(between.touches, id)
            yield _head(id) | times_of(change, touches, shape, measures) | change


def _change(before: bytes | None, after: bytes | None, shape: Shape, measures: Any) -> Json:
    """Empty where nothing that counts has changed."""
    if before is None or after is None:
        return _came_or_went(before, after)
    return _changed(compare(decode(before), decode(after), shape, measures), shape, measures)


def _changed(delta: Delta, shape: Shape, measures: Any) -> Json:
    found = dict(fields(delta, shape, measures))
    return {"change": "changed", "fields": found} if found else {}


def life(
    timeline: Timeline,
    id: Id,
    before: str | None,
    measures: str,
    limit: int,
    now: datetime,
    root: str = "",
) -> bytes:
    """What happened to one entity, newest first; UnknownKeyError: nothing is known of it."""
    bound, is_cut = (None, False) if before is None else _bound(timeline, before, now)
    changes: list[Json] = []
    more, complete = None, not is_cut
    for lived in timeline.lived(id, bound):
        if lived is None:
            complete = False
            continue
        place, at, entry = lived
        shape = timeline.shapes[id[0]]
        change = _lived_through(entry, shape, MEASURES[measures])
        if change and len(changes) == limit:
            more = changes[-1]["place"]
            break
        if change:
            times = times_of(change, lambda _: [(at, entry)], shape, MEASURES[measures])  # noqa: B023
            changes.append({"place": str(place)} | times | change)
    present = id in timeline.bodies
    if not changes and not timeline.knew(id):
        raise UnknownKeyError((id[0],), id[1])
    oldest = timeline.oldest()
    body = {
        "section": id[0],
        "key": id[1],
        "present": present,
        "oldest": oldest and str(oldest),
        "complete": complete,
        "changes": changes,
        "truncated": more is not None,
        "next": more and root + _next_life(id, more, measures, limit),
    }
    return encode(body)


def _order(timeline: Timeline, one: Moment) -> tuple[bool, int, Place]:
    """The present epoch is the last, whatever the clock was in others."""
    return one.place.epoch == timeline.tip.epoch, one.started_at, one.place


def _bound(timeline: Timeline, text: str, now: datetime) -> tuple[Place, bool]:
    """The first place that is not asked for: one that arose before a time is. And as `start`."""
    (place, at, _), is_cut = start(timeline, text, now)
    asked = parse(text, now)
    arose = isinstance(asked, datetime) and at < milliseconds(asked)
    return place._replace(step=place.step + 1) if arose else place, is_cut


def _lived_through(entry: Entry, shape: Shape, measures: Any) -> Json:
    """Empty where nothing that counts has changed."""
    if entry.delta is None:
        return _came_or_went(entry.old, entry.new)
    return _changed(entry.delta, shape, measures)


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


def _head(id: Id) -> Json:
    return {"section": id[0], "key": id[1]}


def _came_or_went(before: bytes | None, after: bytes | None) -> Json:
    if after is not None:
        return {"change": "added", "new": Raw(after)}
    return {"change": "removed", "old": Raw(before or b"null")}


def _without_losses(change: Json) -> Json:
    """Without items that are gone; empty where nothing else has changed."""
    if "fields" not in change:
        return change
    told = ((path, _without_loss(one)) for path, one in change["fields"].items())
    kept = {path: one for path, one in told if one}
    return change | {"fields": kept} if kept else {}


def _without_loss(change: Json) -> Json | None:
    old, new = change.get("old"), change.get("new")
    if isinstance(old, list) and isinstance(new, list):
        stayed = [item for item in old if item in new]
        return {"old": stayed, "new": new} if stayed != new else None
    return None if "removed" in change else change


def _bounded(found: Iterator[Json], limit: int) -> tuple[list[Json], str | None]:
    """As many as may be in one answer, and the last of them if there are more: `SECTION/KEY`."""
    changes: list[Json] = []
    size = 0
    for change in found:
        size += len(encode(change))
        if changes and (len(changes) == limit or size > MAX_ANSWER_BYTES):
            return changes, f"{changes[-1]['section']}/{changes[-1]['key']}"
        changes.append(change)
    return changes, None


def _next(asked: Asked, since: str, until: str, after: str) -> str:
    query = {
        "since": since,
        "until": until,
        "sections": ",".join(asked.sections),
        "key": asked.key,
        "measures": asked.measures,
        "limit": asked.limit,
        "after": after,
    }
    return f"{asked.root}/system/changes?" + urlencode({k: v for k, v in query.items() if v})


def _next_life(id: Id, before: str, measures: str, limit: int) -> str:
    query = urlencode({"before": before, "measures": measures, "limit": limit})
    return f"/system/history/{id[0]}/{quote(id[1])}?{query}"
