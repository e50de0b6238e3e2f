"""`GET /metrics/state`: the state for Prometheus."""

from telemetron.exposition.exposition import Asked, Exposition
from telemetron.http import EMPTY, Receive, Scope, Send, header
from telemetron.query import parameters
from telemetron.store.store import Store
from telemetron.web.metrics import OPEN_METRICS, content_type, media_of
from telemetron.web.nearest import require_sections
from telemetron.web.negotiation import accepts_gzip


class StateMetricsApp:
    """Answers `/metrics/state`, from pages that are made once for each revision."""

    def __init__(self, exposition: Exposition, store: Store) -> None:
        self._exposition = exposition
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer a scrape; the connection counts its chunks while they are unread."""
        media = media_of(scope)
        gzip = accepts_gzip(header(scope, b"accept-encoding"))
        asked = Asked(self._sections(scope), media == OPEN_METRICS, gzip)
        chunks = await self._exposition.page(asked)
        headers = [
            (b"content-type", content_type(media).encode()),
            (b"cache-control", b"no-store"),
            (b"vary", b"Accept, Accept-Encoding"),
            (b"content-length", b"%d" % sum(map(len, chunks))),
            *([(b"content-encoding", b"gzip")] if gzip else []),
        ]
        with scope["state"]["connection"].hold(chunks):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for chunk in chunks if scope["method"] == "GET" else ():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send(EMPTY)

    def _sections(self, scope: Scope) -> tuple[str, ...]:
        """Return the sections that the scrape asks for, in the order of the document."""
        every = tuple(self._store.snapshot.sections)
        given = parameters(scope["query_string"], ("sections",))
        if "sections" not in given:
            return every
        names = given["sections"].split(",")
        require_sections(self._store.snapshot, names, 400)
        return tuple(name for name in every if name in names)
