"""The proxy's key: a text, or a file that is read again before each round of polls."""

import asyncio

from telemetron.poll import TroubleError

MAX_BYTES = 64 * 1024


class ProxyKey:
    """The current key; None sends no key. There is no repr, so the key is never shown."""

    def __init__(self, value: str | None = None, file: str | None = None) -> None:
        self.value = value
        self._file = file

    async def refresh(self) -> bool:
        """Read the file again; return whether the key changed; raise TroubleError if none."""
        if self._file is None:
            return False
        before = self.value
        try:
            self.value = await asyncio.to_thread(_read, self._file)
        except TroubleError:
            self.value = None
            raise
        return self.value != before


def _read(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            text = opened.read(MAX_BYTES).decode("ascii").strip()
    except OSError as error:
        raise TroubleError("Unauthorized", f"key_file: {error.strerror}") from None
    except ValueError:
        raise TroubleError("Unauthorized", "key_file must contain one line of ASCII") from None
    if not text or not text.isprintable():
        raise TroubleError("Unauthorized", "key_file must contain one line of ASCII")
    return text
