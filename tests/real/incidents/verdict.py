"""The judgement on findings: whether they name the roots of a scenario, and nothing else."""

import json
from collections.abc import Iterator

from tests.real.incidents.inbox import SEVERITIES as ALARMS
from tests.real.incidents.inbox import Inbox
from tests.real.incidents.scenario import Ref, Scenario
from tests.real.incidents.service import Object

MAX_FINDING_BYTES = 1_536


def alarms(findings: list[Object]) -> list[Object]:
    """Return the findings above info, by rank."""
    return sorted(
        (one for one in findings if one["severity"] in ALARMS), key=lambda one: one["rank"]
    )


def faults(findings: list[Object], scenario: Scenario) -> list[str]:
    """Return what is wrong with the findings, in sentences."""
    raised = alarms(findings)
    found = [*_strangers(findings, scenario), *_too_large(findings)]
    found += [f"{one} is no effect" for one in _odd_effects(raised, scenario)]
    if scenario.is_alarm:
        found += [*_missing(raised, scenario), *_misjudged(raised, scenario)]
    elif scenario.roots and not all(any(is_root(f, r) for f in findings) for r in scenario.roots):
        found.append("the information that it deserves is missing")
    return found


def _strangers(findings: list[Object], scenario: Scenario) -> list[str]:
    """Return the alarms that are not roots; of a scenario that is none, every alarm."""
    good = (*scenario.roots, *scenario.accepted, *scenario.beside) if scenario.is_alarm else ()
    odd = [one for one in alarms(findings) if not any(is_root(one, ref) for ref in good)]
    return [f"{title(one)} is no root" for one in odd]


def _missing(raised: list[Object], scenario: Scenario) -> Iterator[str]:
    """Find roots that are not raised; if there is only one, something accepted will do."""
    for ref in scenario.roots:
        refs = (ref, *scenario.accepted) if len(scenario.roots) == 1 else (ref,)
        if not any(is_root(finding, one) for finding in raised for one in refs):
            yield f"{ref.key} {ref.item or ''} is not raised"


def _misjudged(raised: list[Object], scenario: Scenario) -> Iterator[str]:
    """Find a first finding of another severity, and a root that is raised as several."""
    if raised and raised[0]["severity"] != scenario.severity:
        yield f"{title(raised[0])} is {raised[0]['severity']}, not {scenario.severity}"
    own = [one for one in raised if not any(is_root(one, ref) for ref in scenario.beside)]
    if len(own) > len(scenario.roots):
        yield f"one cause is raised as several: {', '.join(map(title, own))}"


def _too_large(findings: list[Object]) -> Iterator[str]:
    for finding in findings:
        size = len(json.dumps(finding, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_FINDING_BYTES:
            yield f"{title(finding)} has {size} bytes"


def is_root(finding: Object, ref: Ref) -> bool:
    """Whether a finding names this root.

    The item counts if both name one. A cause that is no entity, as a node, is known by its name.
    """
    root = finding["root"]
    if ref.item is not None and root["name"] == ref.item:
        return True
    steps = [_plain(step) for step in (root["path"] or "").split("/") if step]
    items = [*steps, root["name"]] if root["name"] else steps
    is_entity = (root["section"], root["key"]) == (ref.section, ref.key)
    return is_entity and (ref.item is None or not items or ref.item in items)


def _plain(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def title(finding: Object) -> str:
    """Return the rule and the root in one line."""
    root = finding["root"]
    names = (finding["rule"], root["key"], root["path"], root["kind"], root["name"])
    return " ".join(filter(None, names))


def _odd_effects(raised: list[Object], scenario: Scenario) -> Iterator[str]:
    """Find effects that the scenario does not name."""
    named = (*scenario.roots, *scenario.accepted, *scenario.beside, *scenario.effects)
    known = {(ref.section, ref.key) for ref in named}
    for effect in (effect for finding in raised for effect in finding["effects"]):
        if (effect["section"], effect["key"]) not in known:
            yield f"{effect['rule']} {effect['key']} {effect['path'] or ''}"


def event_faults(inbox: Inbox, findings: list[Object], scenario: Scenario) -> list[str]:
    """Return what is wrong with the events of the webhook, in sentences."""
    named = {(ref.section, ref.key) for ref in scenario.effects}
    strangers = [
        one
        for one in _strange_events(inbox, scenario)
        if one["key"] in inbox.open or (one["root"]["section"], one["root"]["key"]) not in named
    ]
    faults = [f"{title(one)} was told, and is no root" for one in strangers]
    return [*faults, *_differences(inbox, findings)]


def early_effects(inbox: Inbox, scenario: Scenario) -> list[str]:
    """Return what was told before its root was known: once it was, that was told to be over."""
    return [title(one) for one in _strange_events(inbox, scenario)]


def _strange_events(inbox: Inbox, scenario: Scenario) -> Iterator[Object]:
    """Find events about anything but a root; for a decoy, all events."""
    good = (*scenario.roots, *scenario.accepted, *scenario.beside) if scenario.is_alarm else ()
    for one in inbox.told:
        if one.kind == "fired" and not any(is_root(one.finding, ref) for ref in good):
            yield one.finding


def _differences(inbox: Inbox, findings: list[Object]) -> Iterator[str]:
    """Find alarms that were not told, and told ones that are over."""
    told, shown = inbox.open, {one["key"] for one in findings}
    yield from (f"{title(one)} was not told" for one in alarms(findings) if one["key"] not in told)
    yield from (
        f"{title(one)} is over, and that was not told"
        for key, one in told.items()
        if key not in shown
    )
