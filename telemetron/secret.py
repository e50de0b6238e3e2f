"""Secrets: values that can be compared and passed on, but are never printed."""

import hmac


class Secret:
    """A token or a password; its `repr` hides the value."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def matches(self, presented: bytes) -> bool:
        """Return whether these UTF-8 bytes are the secret; the time taken does not reveal it."""
        return hmac.compare_digest(self.value.encode(), presented)

    def __repr__(self) -> str:
        return "Secret(…)"
