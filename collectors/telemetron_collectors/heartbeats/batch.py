"""Batches: the beats of many instances in one request, from a relay or a host with many agents.

Each beat has the effect that it would have in a request of its own, in the order of the batch; a
beat that is refused harms no other.
"""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import ValidationError

from telemetron.http import JSON, HttpProblem, Receive, Scope, body_pieces, require_media
from telemetron.slices import paced
from telemetron_collectors.heartbeats.beat import MAX_BODY

MAX_BEATS = 1_000
MAX_BATCH = 4 * 1024 * 1024
MAX_COMMAS = 200_000
"""Of an array: its decoder would first make all the values, and 4 MiB hold two million."""
MAX_PENDING = 16 * MAX_BATCH
"""Bytes of all batches that have arrived, if only in part, and are not answered yet."""
NDJSON = "application/x-ndjson"
TAKEN = b'{"status":204}'

_array = msgspec.json.Decoder(list[msgspec.Raw])


class Batches:
    """Answers batches: `take` applies the JSON of one beat, or raises the problem of it."""

    def __init__(self, take: Callable[[bytes], object], most_pending: int = MAX_PENDING) -> None:
        self._take = take
        self._pending = 0
        self._most_pending = most_pending

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """Return the results of a request's beats as JSON; raise HttpProblem if it is no batch."""
        media = require_media(scope, MAX_BATCH, NDJSON, JSON)
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in body_pieces(receive, MAX_BATCH):
                pieces.append(piece)
                size += len(piece)
                self._hold(len(piece))
            beats = split(b"".join(pieces), media)
            pieces.clear()
            return b"[%s]" % b",".join([self._result(beat) async for beat in paced(beats)])
        finally:
            self._pending -= size

    def _hold(self, size: int) -> None:
        self._pending += size
        if self._pending > self._most_pending:
            detail = "too many batches arrive at once; send it again"
            raise HttpProblem(503, detail, {"retry-after": "1"})

    def _result(self, beat: bytes) -> bytes:
        try:
            if len(beat) > MAX_BODY:
                detail = f"the beat is larger than {MAX_BODY} bytes; list fewer tasks"
                raise HttpProblem(413, detail, limit=MAX_BODY)
            self._take(beat)
        except HttpProblem as problem:
            if seconds := problem.headers.get("retry-after"):  # an answer has only one header
                problem.more["retry_after"] = int(seconds)
            return problem.body()
        return TAKEN


def split(body: bytes, media: str) -> Sequence[bytes]:
    """Return the JSON of each beat: the lines that are not blank, or the values of an array.

    Raise HttpProblem 413 if there are too many, 400 or 422 if it is no array.
    """
    beats = _lines(body) if media == NDJSON else _values(body)
    if len(beats) > MAX_BEATS:
        raise _too_many(f"a batch has at most {MAX_BEATS:,} beats", MAX_BEATS)
    return beats


def _lines(body: bytes) -> list[bytes]:
    *lines, rest = body.split(b"\n", MAX_BEATS)
    if b"\n" in rest.strip():
        raise _too_many(f"a batch has at most {MAX_BEATS:,} lines", MAX_BEATS)
    return [line for line in (*lines, rest) if line.strip()]


def _values(body: bytes) -> list[bytes]:
    if body.count(b",") > MAX_COMMAS:
        what = f"an array of beats has at most {MAX_COMMAS:,} commas; `{NDJSON}` may have more"
        raise _too_many(what, MAX_COMMAS)
    try:
        return list(map(bytes, _array.decode(body)))
    except ValidationError:
        detail = f"expected an array of beats; send lines with `Content-Type: {NDJSON}`"
        raise HttpProblem(422, detail, path="$") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise HttpProblem(400, f"the body is not JSON: {error}") from None


def _too_many(what: str, limit: int) -> HttpProblem:
    return HttpProblem(413, f"{what}; send several batches", limit=limit)
