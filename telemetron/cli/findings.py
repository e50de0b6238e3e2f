"""`telemetron findings`: the findings as text for a terminal, or as JSON.

All text is escaped first, because others wrote much of it.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from telemetron.cli import changes, output
from telemetron.client import fetch
from telemetron.document import Effect, Finding, Root, SourceRow, State
from telemetron.store.snapshot import limits_findings
from telemetron.text import printable

PATH = "/system/state/findings"
SECTION = "findings"
WORDS = {"added": "began", "removed": "ended"}
"""By the kind of a change what it means for a finding. Other changes are not shown."""


def show(url: str, token: str | None) -> None:
    """Write the findings. Raises FetchError."""
    response = fetch(url, token, PATH, {})
    if output.is_terminal():
        _write(_state(response.body), response.now)
    else:
        output.write(response.body, nl=False)


def watch(url: str, token: str | None) -> None:
    """Write each beginning and end as it comes; on a terminal, the findings first.

    Raises FetchError if the server does not answer the first time.
    """
    query = {"sections": SECTION}
    if not output.is_terminal():
        changes.show_forever(url, token, query)
        return
    since = _place_now(url, token)
    response = fetch(url, token, PATH, {})
    _write(_state(response.body), response.now)
    changes.show_forever(url, token, {**query, "since": since}, lines=events)


def _place_now(url: str, token: str | None) -> str:
    """Return the newest place. That of the findings may be too old to be kept in the history."""
    answer = fetch(url, token, changes.PATH, {"sections": SECTION, "since": "1s"}).body
    try:
        return str(json.loads(answer)["to"])
    except (ValueError, LookupError, TypeError) as error:
        output.fail_unexpected(error)


def _state(body: bytes) -> State:
    try:
        return msgspec.json.decode(body, type=State)
    except msgspec.MsgspecError as error:
        output.fail_unexpected(error)


def _write(state: State, now: datetime) -> None:
    output.write("\n".join(lines(state, now)))


def lines(state: State, now: datetime) -> Iterator[str]:
    """Yield the lines of the findings by rank; ages are relative to `now`, the server's time."""
    found = ranked(state)
    if not found:
        yield printable(f"no findings{doubts(state.sources)}")
    for finding in found:
        yield from map(printable, _finding(finding, now))


def ranked(state: State) -> list[Finding]:
    """Return the findings, the first to look at first."""
    return [] if state.findings is UNSET else sorted(state.findings, key=lambda one: one.rank)


def doubts(sources: Sequence[SourceRow]) -> str:
    """Return, in parentheses, the sources for which no findings do not mean that all is well."""
    doubtful = {row.key: row.status for row in sources if limits_findings(row)}
    told = ", ".join(f"{key} is {status}" for key, status in sorted(doubtful.items()))
    return f" ({told})" if told else ""


def _finding(finding: Finding, now: datetime) -> Iterator[str]:
    root, count = finding.root, finding.effect_count
    yield f"{finding.severity}  {finding.rule}  {finding.summary}"
    effects = f", {count} effect{'' if count == 1 else 's'}" if count else ""
    yield f"  {_begun(finding, now)}: {_place(root)}{effects}"
    for effect in finding.effects:
        yield f"    {effect.rule}  {_place(effect)}  {_age(effect.since, now)}"
    if more := count - len(finding.effects):
        yield f"    … {more} more"
    if finding.unchecked:
        yield f"  not checked: {', '.join(finding.unchecked)}"


def _place(of: Root | Effect) -> str:
    """Return the section and key of a root or an effect, and the item or thing that it is."""
    named = (of.kind, of.name) if isinstance(of, Root) else ()
    return " ".join(filter(None, (of.section, of.key, of.path, *named)))


def _begun(finding: Finding, now: datetime) -> str:
    """Return how long ago it began; if no evidence says, how long ago it was raised."""
    word, at = ("since", finding.since) if finding.since else ("raised", finding.raised_at)
    return f"{word} {_age(at, now)}"


def _age(since: datetime | None, now: datetime) -> str:
    return "?" if since is None else output.duration((now - since).total_seconds())


def events(answer: dict[str, Any], _: datetime | None) -> Iterator[str]:
    """Yield a line for each finding that began or ended, and for a gap in the history."""
    for change in answer.get("changes", ()):
        if word := WORDS.get(change["change"]):
            finding = change["new" if word == "began" else "old"]
            told = (change["at"], word, finding["severity"], finding["rule"], finding["summary"])
            yield printable("  ".join(filter(None, told)))
    yield from map(printable, changes.gaps(answer))
