"""URLs of the rest of an answer that was cut."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from msgspec import Struct

from telemetron.history.queries import Asked
from telemetron.history.recorder import Id
from telemetron.web.routes import CHANGES, LIFE


class ChangesLink(Struct, frozen=True):
    """Makes the URL of changes; `root` is the part of the path that a proxy strips.

    Equal ones compare equal, so that streams that ask for the same share one answer.
    """

    root: str

    def __call__(self, asked: Asked) -> str:
        query = {
            "since": asked.since,
            "until": asked.until,
            "sections": ",".join(asked.sections),
            "key": asked.key,
            "measures": asked.measures,
            "kinds": ",".join(asked.kinds),
            "limit": asked.limit,
            "after": asked.after,
        }
        return f"{self.root}{CHANGES}?" + urlencode({k: v for k, v in query.items() if v})


def entity_history(root: str, id: Id, before: str, given: Mapping[str, str]) -> str:
    """Return the URL of the history of an entity before a place, with the same parameters."""
    return f"{root}{LIFE}/{id[0]}/{quote(id[1])}?{urlencode({**given, 'before': before})}"
