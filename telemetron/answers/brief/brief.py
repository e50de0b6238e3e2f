"""The brief itself: rows in their order of worth, as many as fit.

The order: the first cause, sources out of sight, further causes with their evidence and effects,
status changes around their onset, the worst entities of each section, the counts of all that is
well; then the rest of each, and whole entities.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from telemetron.answers.brief import trouble
from telemetron.answers.brief.about import Joins, Target
from telemetron.answers.brief.budget import (
    BYTES_PER_TOKEN,
    DEFAULT_TOKENS,
    MOST_TOKENS,
    Form,
    Row,
    Sheet,
    Table,
    bytes_of,
)
from telemetron.answers.brief.past import Asked, PastChange
from telemetron.answers.brief.survey import NAME_OF, Survey
from telemetron.answers.brief.tables import CHANGE, Clock, Tables, item, rows, short
from telemetron.document import Effect, Evidence, Finding, Root
from telemetron.text import cut

PATH, STATE = "/system/brief", "/system/state"
FIELDS = (
    *("system", "place", "at", "about", "note", "verdict", "not_observed", "unknown", "legend"),
    "well",
)
TABLES = (
    *("findings", "evidence", "effects", "sources", "changes"),
    *("agents", "queues", "litellm", "workload", "details"),
)
LEGEND = "HH:MM:SS is UTC on the day of `at`; more on one name: {}?about=NAME"
# No row is shorter, so no more rows than these can fit.
LEAST_ROW = 30
FIRST_FINDINGS, FIRST_FACTS, FIRST_CHANGES, FIRST_ENTITIES, CAUSES = 5, 4, 8, 5, 3
TARGET_SHARE = 0.5
MOST_NAMED, NAMES_SHARE = 3, 0.25
# A longer link is not worth its room: the reader has the name already.
LINK_SHARE, MOST_LINK = 0.2, 1_000
ALARMS = ("critical", "warning")


class Question(NamedTuple):
    """The parameters of a brief; `root` is the part of the path that a proxy strips."""

    max_tokens: int = DEFAULT_TOKENS
    bytes_per_token: float = BYTES_PER_TOKEN
    about: str | None = None
    root: str = ""


class Known(NamedTuple):
    """What the past says; `problem` is why it could not be asked."""

    changes: Sequence[PastChange] = ()
    problem: str | None = None


def causes(survey: Survey) -> list[Finding]:
    """Return the findings whose onset a brief looks at."""
    alarms = [one for one in survey.findings if one.severity in ALARMS]
    return (alarms or survey.findings)[:CAUSES]


def overview(survey: Survey, known: Known, question: Question, form: Form) -> bytes:
    """Return the brief of the whole system."""
    tables, most = Tables(survey, _clock(survey)), _most(question) // LEAST_ROW
    total = {section: len(entities) for section, entities in survey.unwell.items()}
    blind = sorted(filter(trouble.source, survey.sources), key=trouble.source, reverse=True)
    plan = Plan(tables, survey, known)
    plan.findings = survey.findings[:most]
    plan.put("sources", tables.sources(blind))
    for section, entities in survey.unwell.items():
        plan.put(section, tables.entities(section, entities[:most]))
    total |= {"sources": len(blind), "findings": len(survey.findings), **plan.totals()}
    sheet = Sheet(form, _most(question), total, _more(question, STATE))
    _identify(sheet, survey)
    sheet.add_field("verdict", verdict(survey, total))
    plan.fill_first(sheet)
    if hidden := not_observed(survey):
        sheet.add_field("not_observed", hidden)
    if known.problem:
        sheet.add_field("unknown", f"changes: {known.problem}")
    if any(total.values()):
        sheet.add_field("legend", LEGEND.format(question.root + PATH))
    plan.fill_most(sheet)
    sheet.add_field("well", well(survey, blind))
    plan.fill_rest(sheet)
    sheet.add_field("system", cut(survey.snapshot.id, 60))
    _add(sheet, _whole(survey, tables))
    return sheet.finish(FIELDS, TABLES)


def centred(
    survey: Survey,
    targets: Sequence[Target],
    joins: Joins,
    known: Known,
    question: Question,
    form: Form,
) -> bytes:
    """Return the brief about one thing, or about all things that a name may mean."""
    tables, most = Tables(survey, _clock(survey)), _most(question) // LEAST_ROW
    ids = joins.ids()
    plan = Plan(tables, survey, known)
    plan.findings = [one for one in survey.findings if _concerns(one, targets)]
    total = {"findings": len(plan.findings), "details": len(targets)}
    wanted = {section: [survey.get(id) for id in ids if id[0] == section] for section in NAME_OF}
    for section, entities in wanted.items():
        found = [one for one in entities if one is not None]
        plan.put(section, tables.entities(section, found[:most]))
        total[section] = len(found)
    blind = [one for one in survey.sources if trouble.source(one)]
    plan.put("sources", tables.sources(blind))
    total |= {"sources": len(blind), **plan.totals()}
    (section, key), *_ = targets[0]
    sheet = Sheet(form, _most(question), total, _more(question, f"{STATE}/{section}/{quote(key)}"))
    _identify(sheet, survey)
    count = len(plan.findings)
    sheet.add_field("verdict", f"{count or 'no'} finding{'s' * (count != 1)} about it")
    sheet.add_field("about", _named(targets, form, _most(question) * NAMES_SHARE))
    if len(targets) > 1:
        sheet.add_field("note", f"{len(targets)} things match; name one by its key")
    plan.fill_first(sheet)
    if known.problem:
        sheet.add_field("unknown", f"changes: {known.problem}")
    sheet.add_field("legend", LEGEND.format(question.root + PATH))
    share = TARGET_SHARE / len(targets)
    hidden = [one for one in targets if not sheet.add(_detail(tables, survey, one, share))]
    plan.fill_most(sheet, is_centred=True)
    plan.fill_rest(sheet)
    _add(sheet, [_detail(tables, survey, one) for one in hidden])
    sheet.add_field("system", cut(survey.snapshot.id, 60))
    return sheet.finish(FIELDS, TABLES)


def _named(targets: Sequence[Target], form: Form, most: float) -> list[str]:
    """Return the first names, only one if more would take too much of the answer."""
    names = [short(reference(one)) for one in targets[:MOST_NAMED]]
    return names if len(form.field("about", names)) <= most else names[:1]


def _detail(tables: Tables, survey: Survey, target: Target, share: float = 1.0) -> Row:
    thing = target.item or survey.get(target.id)
    return tables.details(reference(target), thing, share)


def reference(target: Target) -> str:
    """Return the section and key of a target, and its item."""
    return " ".join(filter(None, ("/".join(target.id), item(target.path))))


class Plan:
    """The rows of an answer by table, added to a sheet in rounds."""

    def __init__(self, tables: Tables, survey: Survey, known: Known) -> None:
        self.findings: Sequence[Finding] = []
        self._tables = tables
        self._rows: dict[str, list[Row]] = {}
        self._changes = _changes(tables, survey, known.changes)

    def put(self, table: str, rows: list[Row]) -> None:
        """Set the rows of a table."""
        self._rows[table] = rows

    def totals(self) -> Mapping[str, int]:
        """Return the numbers of rows of the tables below the findings."""
        return {
            "evidence": sum(len(one.evidence) for one in self.findings),
            "effects": sum(len(one.effects) for one in self.findings),
            "changes": len(self._changes),
        }

    def fill_first(self, sheet: Sheet) -> None:
        """Add the first cause, then the sources."""
        self._causes = self._tables.findings(self.findings)
        self._evidence = self._tables.evidence(self.findings)
        self._effects = self._tables.effects(self.findings)
        _add(sheet, self._causes[:1])
        _add(sheet, self._rows["sources"])

    def fill_most(self, sheet: Sheet, *, is_centred: bool = False) -> None:
        """Add the first rows of each table; those of entities first if the brief is about some."""
        _add(sheet, self._causes[1:FIRST_FINDINGS])
        if is_centred:
            self._fill_entities(sheet)
        for finding in self.findings[:CAUSES]:
            _add(sheet, self._evidence.get(finding.rank, [])[:FIRST_FACTS])
            _add(sheet, self._effects.get(finding.rank, [])[:FIRST_FACTS])
        _add(sheet, self._changes[:FIRST_CHANGES])
        if not is_centred:
            self._fill_entities(sheet)

    def _fill_entities(self, sheet: Sheet) -> None:
        for section in NAME_OF:
            _add(sheet, self._rows[section][:FIRST_ENTITIES])

    def fill_rest(self, sheet: Sheet) -> None:
        """Add the rows after those."""
        _add(sheet, self._causes[FIRST_FINDINGS:])
        for at, finding in enumerate(self.findings):
            start = FIRST_FACTS if at < CAUSES else 0
            _add(sheet, self._evidence.get(finding.rank, [])[start:])
            _add(sheet, self._effects.get(finding.rank, [])[start:])
        _add(sheet, self._changes[FIRST_CHANGES:])
        for section in NAME_OF:
            _add(sheet, self._rows[section][FIRST_ENTITIES:])


def _add(sheet: Sheet, rows: Iterable[Row]) -> None:
    for row in rows:
        if not sheet.add(row):
            return


def _changes(tables: Tables, survey: Survey, changes: Sequence[PastChange]) -> list[Row]:
    clock = tables.clock
    cells = [
        (
            *(clock.time(one.at), short(survey.reference(one.id)), cut(one.field, 160)),
            *map(clock.value, (one.old, one.new)),
            one.items if one.items > 1 else None,
        )
        for one in changes
    ]
    return rows(Table("changes", CHANGE), [[one] for one in cells])


# the fields


def _identify(sheet: Sheet, survey: Survey) -> None:
    snapshot = survey.snapshot
    sheet.add_field("place", f"{snapshot.epoch}.{snapshot.change.revision}")
    sheet.add_field("at", f"{snapshot.change.at:%Y-%m-%dT%H:%M:%SZ}")


def verdict(survey: Survey, unwell: Mapping[str, int]) -> str:
    """Return whether the system is healthy; else why not, or why that is unknown."""
    counts = dict.fromkeys((*ALARMS, "info"), 0)
    for finding in survey.findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    told = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)
    if any(counts[severity] for severity in ALARMS):
        return f"trouble: {told}"
    off = [one for one in survey.sources if one.key == "findings" and one.status == "off"]
    blind = [f"{one.key} is {one.status}" for one in survey.sources if trouble.source(one)]
    if doubts := [*(f"{one.key} is off" for one in off), *blind]:
        return f"unknown: {', '.join(doubts[:3])}"
    if not survey.count.total():
        return "unknown: no agent, queue, model or workload is known"
    if told or sum(unwell[section] for section in NAME_OF):
        return f"no alarm: {told or 'no finding'}"
    return "healthy"


def not_observed(survey: Survey) -> dict[str, str]:
    """Return by source why it, or a part of it, was not observed, though it is not out of sight."""
    found = {one.key: "off" for one in survey.sources if one.status == "off"}
    for one in survey.sources:
        if one.status == "ok" and one.problems:
            found[short(one.key)] = one.problems[0].reason
    return found


def well(survey: Survey, blind: Sequence[object]) -> dict[str, int | str]:
    """Return by section how many entities are well, and of how many unless all are."""
    on = sum(one.status != "off" for one in survey.sources)
    counted = {"sources": _of(on - len(blind), on)}
    for section in NAME_OF:
        if every := survey.count[section]:
            counted[section] = _of(every - len(survey.unwell[section]), every)
    if survey.pods:
        counted["pods"] = _of(survey.ready_pods, survey.pods)
    return counted


def _of(some: int, every: int) -> int | str:
    """Return a number, and of how many unless it is all."""
    return every if some == every else f"{some} of {every}"


def _whole(survey: Survey, tables: Tables) -> Iterator[Row]:
    """Yield the whole entities of all causes, then of all that is not well."""
    ids = [(one.root.section, one.root.key) for one in survey.findings]
    ids += [(section, one.key) for section, found in survey.unwell.items() for one in found]
    for id in dict.fromkeys(ids):
        if id[0] in NAME_OF and (entity := survey.get(id)) is not None:
            yield tables.details("/".join(id), entity)


def _concerns(finding: Finding, targets: Iterable[Target]) -> bool:
    named: list[Root | Effect | Evidence] = [finding.root, *finding.effects, *finding.evidence]
    return any(
        target.id == ("findings", finding.key) or any(_names(one, target) for one in named)
        for target in targets
    )


def _names(one: Root | Effect | Evidence, target: Target) -> bool:
    """Whether it names the target, its entity as a whole, or an item of it."""
    if (one.section, one.key) != target.id:
        return False
    return None in (target.path, one.path) or str(one.path).startswith(str(target.path))


def _clock(survey: Survey) -> Clock:
    return Clock(survey.snapshot.change.at.date())


def _most(question: Question) -> int:
    return bytes_of(question.max_tokens, question.bytes_per_token)


def _more(question: Question, last: str) -> str:
    """Return the request that shows the rest: a larger brief, and `last` after the largest."""
    if question.max_tokens >= MOST_TOKENS:
        return question.root + (last if len(last) <= MOST_LINK else STATE)
    query = {"about": question.about, "max_tokens": MOST_TOKENS}
    if question.bytes_per_token != BYTES_PER_TOKEN:
        query["bytes_per_token"] = repr(question.bytes_per_token)
    given = {name: one for name, one in query.items() if one is not None}
    more = f"{question.root}{PATH}?{urlencode(given, quote_via=quote)}"
    return more if len(more) <= _most(question) * LINK_SHARE else question.root + PATH


def past_of(joins: Joins) -> Asked:
    """Return what to ask about the past of targets and of some that they are joined to."""
    return Asked(joins.ids()[:4])
