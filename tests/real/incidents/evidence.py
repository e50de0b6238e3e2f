"""The check of evidence: every value equals the field at its path.

State fields equal those in the document of the finding's place. The past keeps only some values of
measures, so these equal those in the document that has the finding.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from telemetron.document import IDENTITIES
from telemetron.key import escape
from tests.real.incidents.service import Object, Service
from tests.real.incidents.verdict import title

ABSENT = object()
NAMES = {*IDENTITIES.values()}
TRIES = 10
PAUSE_SECONDS = 0.1
"""A moving measure is quoted soon after it has moved."""


async def errors(service: Service) -> list[str]:
    """Return the pieces of evidence that the documents do not have."""
    for _ in range(TRIES):
        if not (found := await _errors(service)):
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def _errors(service: Service) -> list[str]:
    now = await service.state()
    places = {finding["observed_at"] for finding in now["findings"]}
    past = {place: await service.state(f"?at={place}") for place in places}
    return [
        error
        for finding in now["findings"]
        for error in _wrong(finding, past[finding["observed_at"]], now)
    ]


def _wrong(finding: Object, *documents: Object) -> Iterator[str]:
    if not finding["evidence"]:
        yield f"{title(finding)} has no evidence"
    for piece in finding["evidence"]:
        values = [value_of(piece, document) for document in documents]
        if piece["value"] not in values:
            yield f"{title(finding)} quotes {piece}, but the document has {values}"


def value_of(piece: Object, document: Object) -> Any:
    """Return the field that a piece of evidence quotes, or ABSENT."""
    entities = document[piece["section"]]
    entity = next((one for one in entities if one["key"] == piece["key"]), ABSENT)
    return field(entity, piece["path"].split("/"))


def field(value: Any, path: list[str]) -> Any:
    """Return the value at a path, or ABSENT."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, ABSENT)
        elif isinstance(value, list):
            value = next((one for at, one in enumerate(value) if _is(one, at, step)), ABSENT)
        else:
            return ABSENT
    return value


def _is(item: Any, at: int, step: str) -> bool:
    """Whether a step names this item: by its identity, or by its number if it has none."""
    own = [item[name] for name in NAMES if name in item] if isinstance(item, dict) else []
    return step in [str(at), *(escape(str(one)) for one in own)]
