"""Secrets: values that can be compared and handed on, but are never shown."""

import hmac


class Secret:
    """A token or a password. Whatever prints it shows that there is one, not which."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def matches(self, presented: bytes) -> bool:
        """Whether these bytes (UTF-8) are the secret; takes as long for any of the same length."""
        return hmac.compare_digest(self.value.encode(), presented)

    def __repr__(self) -> str:
        return "Secret(…)"
